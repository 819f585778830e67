import asyncio
import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest

from tests.rewards.fake_server import (
    Answer,
    FakeServer,
    Handler,
    drips,
    drops,
    floods,
    lengths,
    says,
    slow,
    until,
)
from tests.rewards.test_http_scorer import score, scorer
from textgym.errors import RewardError
from textgym.rewards import RewardSum
from textgym.rewards.remote.background import Background
from textgym.rewards.remote.http_scorer import HttpScorer
from textgym.rewards.remote.requests import MAX_ANSWER, RemoteError


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# -- failures --------------------------------------------------------------------------------------

RECOVERABLE: dict[str, Answer] = {
    "500": says(b"oops", 500),
    "503": says(b"", 503, Retry_After="0"),
    "429": says(b"", 429, Retry_After="0.05"),
    "hangs up": drops,
    "too slow": slow(5),
    "a byte at a time": drips,
    "html": says(b"<html>"),
    "no object": says([1]),
    "no scores": says({"score": [1]}),
    "too few": says({"scores": []}),
    "too many": says({"scores": [1, 2]}),
    "NaN": says(b'{"scores": [NaN]}'),
    "null": says({"scores": [None]}),
    "infinite": says(b'{"scores": [1e999]}'),
    "a large integer": says(b'{"scores": [1' + b"0" * 400 + b"]}"),
    "a longer integer": says(b'{"scores": [1' + b"0" * 5000 + b"]}"),
    "true": says({"scores": [True]}),
    "a string": says({"scores": ["1"]}),
    "deep": says(b"[" * 100_000),
}


@pytest.mark.parametrize("failure", RECOVERABLE)
def test_a_failure_is_tried_again(failure: str) -> None:
    with FakeServer(RECOVERABLE[failure], lengths) as server:
        assert score(server, "abc", timeout=0.5) == [3.0]
        assert len(server.bodies) == 2


@pytest.mark.parametrize("failure", RECOVERABLE)
def test_a_failure_that_stays_is_an_error_or_none_never_a_zero(failure: str) -> None:
    with FakeServer(RECOVERABLE[failure]) as server:
        with pytest.raises(RewardError, match=r"^failed on row 0: http://127.0.0.1:\d+ .*; "):
            score(server, "abc", timeout=0.2, retries=1)
        assert len(server.bodies) == 2
        lenient = scorer(server, timeout=0.2, retries=0, on_failure="none")
        assert lenient(["p"] * 3, ["abc", "d", "e"]) == [None] * 3
        assert lenient.failures == 3


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_not_sent_again(status: int) -> None:
    with FakeServer(says(b'{"detail": "text too long"}', status)) as server:
        with pytest.raises(RewardError, match=f"status {status} .*text too long.*attempt 1 of 4"):
            score(server, "abc")
        assert len(server.bodies) == 1
        assert score(server, "abc", on_failure="none") == [None]


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_what_fails_for_every_text_is_an_error_always(status: int) -> None:
    with FakeServer(says(b"", status)) as server:
        with pytest.raises(RewardError, match=f"status {status}"):
            score(server, "abc", on_failure="none")
        assert len(server.bodies) == 1


def test_the_error_names_the_rows_and_the_others_are_cancelled() -> None:
    def fails_on_b(handler: Handler, body: Any) -> None:
        if "b" in body["completions"]:
            return handler.send(b"", 400)
        slow(10)(handler, body)

    with FakeServer(fails_on_b) as server:
        reward = scorer(server, batch_size=2, in_flight=2)
        began = time.monotonic()
        with pytest.raises(RemoteError, match="failed on rows 2, 3: ") as caught:
            reward(["p"] * 6, ["a", "a", "b", "c", "d", "e"])
        assert time.monotonic() - began < 8  # the row before it takes 10
        assert caught.value.at([10, 11, 12, 13]).startswith("failed on rows 12, 13: ")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        reward = scorer(server, batch_size=1, retries=0, timeout=0.3, on_failure="none")
        with pytest.warns(UserWarning, match="no reward applies to row 0"):
            assert RewardSum(reward, "Env")(["p"] * 2, ["b", "c"], {})[0].tolist() == [0, 0]


def test_nobody_listens() -> None:
    with FakeServer(lengths) as server:
        pass
    with pytest.raises(RewardError, match=r"could not be reached.*ConnectError.*attempt 2 of 2"):
        score(server, "abc", retries=1)


def test_an_endless_answer_is_cut() -> None:
    with FakeServer(floods) as server:
        with pytest.raises(RewardError, match=f"more than {MAX_ANSWER} bytes"):
            score(server, "abc", retries=0)
        assert until(lambda: hasattr(server, "flooded"))
        assert server.flooded < 4 * MAX_ANSWER  # type: ignore[attr-defined]


def test_redirects_are_not_followed() -> None:
    with FakeServer(lengths) as other, FakeServer() as server:
        for status in (301, 302, 307, 308):
            server.answers = (says(b"", status, Location=f"{other.url}/x?key=abc"),)
            with pytest.raises(
                RewardError, match=r"redirects \(30.\) to http://127.0.0.1 "
            ) as caught:
                score(server, "abc", on_failure="none")
            assert "key" not in str(caught.value).partition(";")[0]
        assert other.bodies == []


# -- waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["0.4", "date"])
def test_retry_after_is_honoured(written: str) -> None:
    after = written if written == "0.4" else formatdate(time.time() + 2, usegmt=True)
    times: list[float] = []

    def answer(handler: Handler, body: Any) -> None:
        times.append(time.time())
        if len(times) == 1:
            return handler.send(b"", 429, Retry_After=after)
        lengths(handler, body)

    with FakeServer(answer) as server:
        assert score(server, "abc") == [3.0]
    assert times[1] - times[0] >= (0.4 if written == "0.4" else 0.9)  # a date has whole seconds


def test_a_pause_holds_for_the_whole_batch() -> None:
    times: list[float] = []

    def answer(handler: Handler, body: Any) -> None:
        times.append(time.monotonic())
        if body["completions"] == ["a"] and len(times) <= 2:
            return handler.send(b"", 429, Retry_After="0.6")
        slow(0.2)(handler, body)

    with FakeServer(answer) as server:
        assert score(server, *"abcd", batch_size=1, in_flight=2) == [1.0] * 4
    assert min(times[2:]) - times[0] >= 0.6  # two were under way already


def test_a_pause_longer_than_the_limit_is_not_waited_for() -> None:
    with FakeServer(says(b"", 429, Retry_After="3600")) as server:
        with pytest.raises(RewardError, match=r"3.6e.03 s, and limit=30 s"):
            score(server, "abc", limit=30.0)
        assert len(server.bodies) == 1


def test_the_whole_batch_has_a_limit() -> None:
    with FakeServer(slow(0.25)) as server:
        options = {"batch_size": 1, "in_flight": 1, "limit": 0.6}
        with pytest.raises(RewardError, match=r"limit=0\.6 s"):
            score(server, *"abcdef", **options)
        values = score(server, *"abcdef", **options, on_failure="none")
    assert values[0] == 1
    assert values[-2:] == [None, None]


def test_pauses_grow_and_leave_global_random_state_alone() -> None:
    times: list[float] = []

    def answer(handler: Handler, body: Any) -> None:
        times.append(time.monotonic())
        handler.send(b"", 500)

    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    with FakeServer(answer) as server, pytest.raises(RewardError):
        score(server, "a", backoff=0.1)
    gaps = np.diff(times)
    assert (gaps >= [0.05, 0.1, 0.2]).all()  # at least half of each pause
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]


@pytest.mark.parametrize("bound", [1, 3])
def test_no_more_requests_than_allowed_are_in_flight(bound: int) -> None:
    with FakeServer(slow(0.1)) as server:
        assert score(server, *"abcdefgh", batch_size=1, in_flight=bound) == [1.0] * 8
        assert server.most == bound


def test_it_works_inside_a_running_event_loop() -> None:
    async def cell() -> list[float | None]:
        with FakeServer(lengths) as server:
            return score(server, "abc")

    assert asyncio.run(cell()) == [3.0]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, as it does where nobody changed that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_cancels_the_requests(ctrl_c: None) -> None:
    with FakeServer(slow(30)) as server:

        def interrupt() -> None:
            assert until(lambda: server.now == 2)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            score(server, *"abcd", batch_size=1, in_flight=2, timeout=30.0)
        began = time.monotonic()
        assert until(lambda: not [t for t in threading.enumerate() if t.name == "textgym-reward"])
        assert time.monotonic() - began < 8  # the server would answer after 30
        assert len(server.bodies) == 2


# -- at the same time ------------------------------------------------------------------------------


def test_started_rewards_wait_together() -> None:
    # Each answers only when all three have been asked: one after another they would never.
    barrier = threading.Barrier(3, timeout=10)

    def meets(handler: Handler, body: Any) -> None:
        barrier.wait()
        lengths(handler, body)

    def own(completions: list[str]) -> list[float]:
        barrier.wait()
        return [2.0] * len(completions)

    with FakeServer(meets) as one, FakeServer(meets) as two:
        background = Background(own)
        rewards = [scorer(one, retries=0), scorer(two, retries=0), background]
        pending = [reward.start_scoring(["p"], ["abc"], extra=["x"]) for reward in rewards]
        assert [one.result() for one in pending] == [[3.0], [3.0], [2.0]]
    assert background.name == "own"
    barrier = threading.Barrier(1)
    assert RewardSum(background, "Env")(["p"], ["abc"], {})[1]["own"].tolist() == [2.0]


def test_a_background_reward_raises_and_travels() -> None:
    def fails(prompts: list[str], completions: list[str]) -> list[float]:
        raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        Background(fails).start_scoring(["p"], ["a"]).result()
    with pytest.raises(RewardError, match="is a class"):
        Background(HttpScorer)
    travelled = pickle.loads(pickle.dumps(Background(np.char.str_len)))
    assert travelled.name == "str_len"
