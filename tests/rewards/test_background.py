"""Rewards that wait for another machine: RewardSum lets them wait together."""

import threading

import pytest

from tests.rewards.fake_server import FakeServer, lengths, slow, until
from textgym.errors import RewardError
from textgym.rewards import RewardSum
from textgym.rewards.remote.background import Background
from textgym.rewards.remote.http_scorer import HttpScorer


def nobody_waits():
    return not [one for one in threading.enumerate() if one.name == "textgym-reward"]


def test_terms_that_wait_wait_together_and_the_others_run_meanwhile():
    barrier = threading.Barrier(3, timeout=10)  # one after another they would never meet

    def waits(completions):
        barrier.wait()
        return [1.0] * len(completions)

    def waits_too(completions):
        barrier.wait()
        return [2.0] * len(completions)

    def computes(completions):
        barrier.wait()
        return [4.0] * len(completions)

    reward = RewardSum({Background(waits): 1, computes: 1, Background(waits_too): 10}, "Env")
    total, terms = reward(["p"], ["a"], {})
    assert total.tolist() == [25.0]
    assert list(terms) == reward.terms == ["waits", "computes", "waits_too"]
    assert RewardSum(Background(waits), "Env")([], [], {})[0].tolist() == []


def test_an_error_names_the_row_of_a_remote_reward_and_cancels_the_others():
    def bad_b(handler, body):
        if "b" in body["completions"]:
            return handler.send(b"", 400)
        lengths(handler, body)

    with FakeServer(bad_b) as one, FakeServer(slow(30)) as two:
        reward = RewardSum(
            {HttpScorer(one.url, batch_size=1): 1, HttpScorer(two.url, timeout=60.0): 1}, "Env"
        )
        with pytest.raises(RewardError, match=r"^Env: reward 'http' failed on row 17: "):
            reward(["p"] * 2, ["a", "b"], {}, rows=[12, 17])
        assert until(
            lambda: not [t for t in threading.enumerate() if t.name == "textgym-reward"], 5
        )


def test_ctrl_c_in_a_fast_term_cancels_the_requests():
    def interrupted(completions):
        raise KeyboardInterrupt

    with FakeServer(slow(30)) as server:
        with pytest.raises(KeyboardInterrupt):
            RewardSum({HttpScorer(server.url, timeout=60.0): 1, interrupted: 1}, "Env")(
                ["p"], ["a"], {}
            )
        assert until(
            lambda: not [t for t in threading.enumerate() if t.name == "textgym-reward"], 5
        )
