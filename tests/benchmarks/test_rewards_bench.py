"""The speed of rewards: every reward has its options, and the tables say what was measured."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks.studies import rewards
from benchmarks.studies.reward_cases import (
    ScoreServer,
    Workshop,
    options_of,
    prose,
    rows_for,
)
from textgym.errors import SettingsError
from textgym.registry import REWARDS
from textgym.rewards import RewardSum, make_reward, registered_rewards
from textgym.rewards.remote.http_scorer import HttpScorer
from textgym.rewards.validation import checked_values

# Other tests register rewards in this process.
BUILT_IN = [name for name in registered_rewards() if not name.startswith("test_")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with ScoreServer() as server:
        yield Workshop(tmp_path_factory.mktemp("shop"), server, "cpu")


@pytest.mark.parametrize("name", BUILT_IN)
def test_options_and_rows_suit_the_reward(name: str, shop: Workshop) -> None:
    reward = make_reward(name, **options_of(name, shop))
    texts = rows_for(name, 3, seed=0)
    said = rewards.call(reward, texts)
    assert len(checked_values(said, texts.completions, None)) == 3
    if name != "adversarial":  # It learns from texts before it rewards any.
        assert None not in said


def test_a_reward_without_the_options_that_it_needs_is_named(shop: Workshop) -> None:
    with REWARDS.restored():
        REWARDS.add("shouting", lambda limit: limit)
        with pytest.raises(SettingsError, match=r"'shouting'.*limit"):
            options_of("shouting", shop)


def test_texts_differ_and_so_do_their_references() -> None:
    texts = prose(300, seed=0)
    assert len(set(texts.completions)) == len(set(texts.prompts)) == 300
    assert all(len(values) == 300 for values in texts.columns.values())
    lengths = [len(text.split()) for text in texts.completions]
    assert 15 < sum(lengths) / 300 < 25
    same = sum(map(str.__eq__, texts.completions, texts.columns["reference"]))
    assert same < 15
    part = texts.part(10, 12)
    assert part.prompts == texts.prompts[10:12]
    assert part.columns["keywords"] == texts.columns["keywords"][10:12]


class Counting:
    """Range: [0, 3), higher is better: as
    many as there are.
    Needs: ``nothing`` but
        the text.
    Cost: calls.
    """

    def __init__(self, calls: list[int], cache_size: int = 0) -> None:
        self.calls, self.cache_size = calls, cache_size

    def __call__(self, prompts, completions, **columns):
        self.calls.append(len(completions))
        return [0.0] * len(completions)


@pytest.mark.parametrize("cache_size", [0, 9])
def test_measure_calls_in_batches_then_alone(cache_size: int) -> None:
    calls: list[int] = []
    settings = rewards.Settings(texts=300, alone=4, repeats=1)
    line = rewards.measure("rouge", partial(Counting, calls, cache_size), settings)
    batches = [256, 44] * (2 if cache_size else 1)
    assert calls == [1, 1, *batches, 1, 1, 1, 1, 1]  # Warm-ups of one text before.
    assert (line.again is None) == (not cache_size)
    assert line.range == "[0, 3)"
    assert line.needs == "`nothing` but the text"


def test_speed_counts_texts_a_second() -> None:
    def slow(prompts, completions, **columns):
        time.sleep(0.05)
        return [0.0] * len(completions)

    speed = rewards.speed_of(slow, prose(20, 0), 10)
    assert speed.wall <= 20 / 0.1
    assert speed.cpu > speed.wall  # Sleep costs no CPU time.


@pytest.mark.parametrize(
    ("number", "said"), [(0.123, "0.1"), (9.94, "9.9"), (123.4, "120"), (98765.0, "99,000")]
)
def test_rates(number: float, said: str) -> None:
    assert rewards.rate(number) == said


def test_page_has_a_row_for_each_reward_and_names_what_is_missing() -> None:
    speed = rewards.Speed(1234.0, 567.0)
    fast = rewards.Line("bleu", "a|b", "nothing", speed, speed, None, 256, 20.0)
    kept = rewards.Line("judge", "[0, 1]", "a server", speed, speed, speed, 256, 20.0)
    page = rewards.page(
        rewards.Settings(texts=99), [fast, kept], {"meteor": "install nltk"}, {"sum": 0.25}
    )
    assert "`python -m benchmarks.rewards --texts 99`" in page
    assert "| `bleu` | a&#124;b | 1,200 | 570 | 1,200 | 570 |  | nothing |" in page
    assert "| `judge` | [0, 1] | 1,200 | 570 | 1,200 | 570 | 1,200 | a server |" in page
    assert "* `meteor`: install nltk" in page
    assert "| sum | 0.25 |" in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {9, 3}


def test_rewards_that_wait_wait_together() -> None:
    with ScoreServer() as server:
        requests = [HttpScorer(f"{server.url}/slow/0.3") for _ in range(3)]
        texts = prose(2, 0)
        began = time.perf_counter()
        total, _ = RewardSum(dict.fromkeys(requests, 1.0), "x")(
            texts.prompts, texts.completions, texts.columns
        )
        taken = time.perf_counter() - began
    assert total.tolist() == [1.5, 1.5]
    assert taken >= 0.3  # The server does take its time.


def test_main_measures_some_and_writes_all(tmp_path: Path, monkeypatch, capsys) -> None:
    small = rewards.Settings(texts=4, alone=2, repeats=1, out=tmp_path)
    rewards.main(rewards.Settings(**{**vars(small), "only": ("wer", "length")}))
    assert "| `wer` (batches of 4) | (-inf, 0] |" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(rewards, "registered_rewards", lambda: ["wer", "http"])
    monkeypatch.setattr(rewards, "waiting", partial(rewards.waiting, seconds=0.01))
    rewards.main(small)
    page = (tmp_path / "rewards.md").read_text("utf-8")
    assert "`http`" in page
    assert "in one `RewardSum`" in page
