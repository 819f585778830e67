"""Vector infos, compared with Gymnasium's ``_add_info``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.envs.vector_infos import add_infos
from textgym.testing import assert_same

# One kind of value per key, as environments report them.
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**31), 2**31),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "str": st.text(max_size=3),
    "none": st.none(),
    "list": st.lists(st.integers(), max_size=3),
    "tuple": st.tuples(st.integers(), st.text(max_size=1)),
    "float32": st.floats(width=32, allow_nan=False).map(np.float32),
    "array": st.lists(st.integers(0, 9), min_size=2, max_size=2).map(np.array),
    "final_obs": st.lists(st.integers(0, 9), min_size=2, max_size=2).map(np.array),
    "dict": st.fixed_dictionaries({}, optional={"a": st.integers(0, 9), "b": st.text(max_size=2)}),
    "deep": st.fixed_dictionaries({"x": st.fixed_dictionaries({"y": st.floats(0, 1)})}),
}
REPORTS = st.fixed_dictionaries({}, optional=KINDS)


@settings(max_examples=100)
@given(first=st.dictionaries(st.integers(0, 4), REPORTS), data=st.data())
def test_as_gymnasium_does(first: dict[int, Any], data: st.DataObject) -> None:
    """Even if other rows are added later in the same step."""
    others = sorted(set(range(5)) - set(first))
    second = {row: data.draw(REPORTS) for row in others if data.draw(st.booleans())}
    theirs = VectorEnv()
    theirs.num_envs = 5
    expected: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    for reports in (dict(sorted(first.items())), second):
        for row, report in reports.items():
            expected = theirs._add_info(expected, report, row)
        add_infos(ours, 5, np.array(list(reports), dtype=np.intp), list(reports.values()))
    assert_same(ours, expected)


MIXED = [
    [1, 2.5],
    [1, "a"],
    ["a", ["a", "b"]],
    [["a", "b"], "a"],
    [None, 1],
    [1, None],
    [None, {"a": 1}],
    [{"a": 1}, None],
    [{"a": 1}, "a"],
    [True, 2],
    [2**63, 1],
    [1, -(2**63) - 1],
    [2**64, 2**200],
    [np.zeros(2), np.zeros(3)],
    [np.zeros(2), None],
    [np.zeros(2), [1, 2]],
    ["a", np.zeros(2)],
]


@pytest.mark.parametrize("values", MIXED, ids=repr)
def test_mixed_columns_keep_their_values(values: list[Any]) -> None:
    """Columns may mix types; Gymnasium's loop truncates 2.5 to 2, or raises."""
    for order in (values, values[::-1], [*values, *values]):
        infos: dict[str, Any] = {}
        add_infos(infos, 9, np.arange(len(order)), [{"column": value} for value in order])
        assert infos["column"].dtype == object
        assert infos["_column"].tolist() == [row < len(order) for row in range(9)]
        for row, value in enumerate(order):
            assert_same(infos["column"][row], value)
        assert infos["column"][8] is None


@pytest.mark.parametrize("values", MIXED, ids=repr)
def test_mixed_columns_can_be_played(words_batch: Any, values: list[Any]) -> None:
    rows = [{"prompt": "the", "column": value} for value in values]
    envs = words_batch(2, prompts=rows, autoreset_mode="SameStep")
    envs.reset(seed=0, options={"index": [0, 1]})
    infos = envs.step([4, 4])[4]
    for row, value in enumerate(values):
        assert_same(infos["final_info"]["column"][row], value)


def test_nothing_to_report() -> None:
    infos: dict[str, Any] = {}
    add_infos(infos, 3, np.array([], dtype=np.intp), [])
    assert infos == {}
