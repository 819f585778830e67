import copy
import json
import logging
import pickle
import time
from typing import Any

import numpy as np
import pytest

from tests.rewards.fake_server import (
    FakeServer,
    Handler,
    attributes,
    lengths,
    says,
)
from textgym.errors import MissingDependencyError, RewardError
from textgym.rewards.remote.http_scorer import HttpScorer

SECRET = "Bearer sk-very-secret-42"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def scorer(server: FakeServer, **options: Any) -> HttpScorer:
    return HttpScorer(server.url, **{"backoff": 0.01, **options})


def score(server: FakeServer, *texts: str, **options: Any) -> list[float | None]:
    return scorer(server, **options)(["p"] * len(texts), list(texts))


# -- what is sent, and what comes back -------------------------------------------------------------


def test_only_named_columns_are_sent_and_scores_come_in_order() -> None:
    with FakeServer(lengths) as server:
        reward = scorer(server, columns=("reference",))
        columns = {"reference": ["r", ["s", "t"], 3], "patient": ["x", "y", "z"]}
        assert reward(["p", "q", "é"], ["a", "", "\ud800bc"], **columns) == [1.0, 0.0, 3.0]
    assert server.bodies == [
        {
            "prompts": ["p", "q", "é"],
            "completions": ["a", "", "\ud800bc"],
            "reference": ["r", ["s", "t"], 3],
        }
    ]


@pytest.mark.parametrize("size", [None, 1, 2, 7])
def test_batches_of_any_size_keep_the_order(size: int | None) -> None:
    def last_first(handler: Handler, body: Any) -> None:
        time.sleep(0.02 * (5 - len(body["completions"][0])))
        lengths(handler, body)

    with FakeServer(last_first) as server:
        texts = ["x" * n for n in range(5)]
        assert score(server, *texts, batch_size=size) == [0, 1, 2, 3, 4]
        assert len(server.bodies) == -(-5 // (size or 5))
        assert scorer(server)([], []) == []


def test_rows_without_a_named_column_are_not_sent() -> None:
    with FakeServer(lengths) as server:
        reward = scorer(server, columns=["reference"])
        assert reward(["p"] * 3, ["a", "bb", "ccc"], reference=["r", None, "s"]) == [1, None, 3]
        assert server.bodies[0]["completions"] == ["a", "ccc"]
        assert reward(["p"], ["a"], reference=[None]) == [None]
        assert len(server.bodies) == 1
        with pytest.raises(RewardError, match="needs the column 'reference'"):
            reward(["p"], ["a"], other=["x"])


def test_numpy_columns_are_written_and_others_are_named() -> None:
    with FakeServer(lengths) as server:
        reward = scorer(server, columns=("data",))
        reward(["p"] * 2, ["a", "b"], data=[np.float32(0.5), np.arange(2)])
        assert server.bodies[0]["data"] == [0.5, [0, 1]]
        # NaN is what a data frame writes for a value that is missing.
        assert reward(["p"] * 2, ["a", "b"], data=[0, float("nan")]) == [1.0, None]
        for bad in (object(), float("inf")):
            with pytest.raises(RewardError, match="on row 1: its 'data' cannot be written as JSON"):
                reward(["p"] * 2, ["a", "b"], data=[0, bad])


# -- secrets and options ---------------------------------------------------------------------------


def test_the_key_is_sent_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def echoes(handler: Handler, body: Any) -> None:
        handler.send(f"you sent {handler.headers['Authorization']}".encode(), 400)

    monkeypatch.setenv("SCORER_AUTH", SECRET)
    with FakeServer(echoes) as server, caplog.at_level(logging.DEBUG):
        reward = scorer(server, headers_env={"Authorization": "SCORER_AUTH"})
        shown = [repr(reward), repr(vars(reward)), pickle.dumps(reward).decode("latin-1")]
        with pytest.raises(RewardError, match=r"you sent \*\*\*") as caught:
            reward(["p"], ["a"])
        server.answers = (says(f"<html>{SECRET}".encode()),)
        with pytest.raises(RewardError, match=r"<html>\*\*\*") as second:
            reward(["p"], ["a"])
        for error in (caught.value, second.value):
            shown += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
        assert [seen["Authorization"] for seen in server.seen_headers] == [SECRET] * 5
    shown += [repr(vars(reward)), *map(attributes, vars(reward).values()), caplog.text]
    assert not [text for text in shown if "sk-very" in text]
    monkeypatch.delenv("SCORER_AUTH")
    with pytest.raises(RewardError, match="environment variable 'SCORER_AUTH'"):
        reward(["p"], ["a"])
    monkeypatch.setenv("SCORER_AUTH", "sk-very\nsecret")
    with pytest.raises(RewardError, match="line breaks") as third:
        reward(["p"], ["a"])
    assert "sk-very" not in str(third.value)


def test_the_key_is_not_sent_unencrypted_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_AUTH", SECRET)
    reward = HttpScorer("http://gpu.invalid/x", headers_env={"Authorization": "SCORER_AUTH"})
    with pytest.raises(RewardError, match=r"key to http://gpu\.invalid unencrypted"):
        reward(["p"], ["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://x"}, "URL must begin with http"),
        ({"url": "localhost:8000"}, "URL must begin with http"),
        ({"url": "http://"}, "URL must begin with http"),
        ({"url": "http://me:pass@host/"}, "user or a password"),
        ({"url": "http://host:port"}, "URL cannot be parsed"),
        ({"timeout": 0}, "timeout .*not 0"),
        ({"limit": float("inf")}, "limit must be"),
        ({"backoff": True}, "backoff must be"),
        ({"retries": -1}, "retries .*not -1"),
        ({"in_flight": 0}, "in_flight .*not 0"),
        ({"batch_size": 0}, "batch_size .*not 0"),
        ({"on_failure": "zero"}, "on_failure .*not 'zero'"),
        ({"columns": "reference"}, "columns .*not 'reference'"),
        ({"columns": ("prompts",)}, "always sent"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RewardError, match=f"^http: .*{message}") as caught:
        HttpScorer(**{"url": "http://localhost", **options})
    assert "pass@" not in str(caught.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx2", None)
    with pytest.raises(MissingDependencyError, match=r"textgym\[remote\]"):
        HttpScorer("http://localhost")


def test_it_travels_as_its_options_and_is_not_copied() -> None:
    with FakeServer(lengths) as server:
        reward = scorer(server, batch_size=2, columns=("reference",))
        travelled = pickle.loads(pickle.dumps(reward))
        assert travelled(["p"], ["abc"], reference=["r"]) == [3.0]
        assert copy.deepcopy(reward) is reward
        assert travelled.columns == ("reference",)
        assert json.dumps(server.bodies[0])
