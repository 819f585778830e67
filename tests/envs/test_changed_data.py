"""Restoring a state after the file of prompts was corrected."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import textgym
from textgym import TextGenVectorEnv
from textgym.errors import DataWarning, SettingsError

WORDS = ["the", "cat", "sat", "ran", "<eos>"]
ROWS = [{"prompt": "the cat", "reference": f"{at}"} for at in range(2000)]


def env_of(rows: Any, **kwargs: Any) -> TextGenVectorEnv:
    return TextGenVectorEnv(
        2, prompts=rows, tokenizer=WORDS, max_new_tokens=3, reward="distinct",
        autoreset_mode="SameStep", **kwargs,
    )  # fmt: skip


def play(env: TextGenVectorEnv, steps: int = 30) -> list[str]:
    """Texts of two words; the references of the rows that episodes started from, in order."""
    ended = []
    for step in range(steps):
        infos = env.step(np.full(2, 4 if step % 2 else 1))[4]
        if "final_info" in infos:
            ended += infos["final_info"]["reference"].tolist()
    return ended


def started(rows: Any, **kwargs: Any) -> tuple[dict[str, Any], set[int], list[str]]:
    """A state after some episodes, the rows that were drawn by then, and what follows."""
    env = env_of(rows, **kwargs)
    env.reset(seed=3)
    play(env)
    state = env.get_state()
    drawn = set(np.flatnonzero(state["row_drawn"]).tolist())
    assert 10 < len(drawn) < 40
    return state, drawn, play(env)


def mended(at: int) -> list[dict[str, str]]:
    return [{**row, "note": "mended"} if index == at else row for index, row in enumerate(ROWS)]


def test_a_row_that_was_not_drawn_may_be_another() -> None:
    state, drawn, expected = started(ROWS)
    # Row 0 is part of the hash of the data.
    other = next(at for at in range(2000) if at not in drawn)
    env = env_of(mended(other))
    with pytest.warns(DataWarning, match="1 rows of prompts were changed or added"):
        env.set_state(state)
    assert play(env) == expected
    with pytest.raises(SettingsError, match=r"prompts was .*no episode has started from"):
        env_of(mended(min(drawn))).set_state(state)
    same = env_of(ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same.set_state(state)
    # Rows drawn before are still marked as drawn.
    assert np.flatnonzero(same.get_state()["row_drawn"]).tolist() == sorted(drawn)


def test_a_row_that_was_skipped_can_be_mended(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*lines[:20], '{"prompt": ', *lines[20:]]))
    with pytest.warns(DataWarning, match="1 of 2001 rows"):
        state, drawn, _ = started(path, on_bad_row="skip")
    path.write_text("\n".join([*lines[:20], '{"prompt": "the", "reference": "new"}', *lines[20:]]))
    env = env_of(path, on_bad_row="skip")
    with pytest.warns(DataWarning, match="1 rows of prompts were changed or added"):
        env.set_state(state)
    now = np.flatnonzero(env.get_state()["row_drawn"]).tolist()
    assert now == sorted(at + (at >= 20) for at in drawn)
    play(env)
    # Rows that are gone, or in another order, are other data.
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(SettingsError, match="prompts was"):
        env_of(path, on_bad_row="skip").set_state(state)
    with pytest.raises(SettingsError, match="prompts was"):
        env_of(ROWS[::-1]).set_state(state)


def test_lists_in_a_mix_are_compared_too() -> None:
    state, drawn, expected = started(textgym.mix([ROWS, ["the"]], weights=[20, 1]))
    other = next(at for at in range(2000) if at not in drawn)
    env = env_of(textgym.mix([mended(other), ["the"]], weights=[20, 1]))
    with pytest.warns(DataWarning, match="1 rows of prompts"):
        env.set_state(state)
    assert play(env) == expected
    with pytest.raises(SettingsError, match="prompts was"):
        env_of(textgym.mix([mended(min(drawn)), ["the"]], weights=[20, 1])).set_state(state)


def test_states_of_earlier_versions_are_read() -> None:
    """Without hashes of rows, the data has to be the same."""
    state, _, expected = started(ROWS)
    for key in ("list_sizes", "row_hashes", "row_drawn"):
        del state[key]
    env = env_of(ROWS)
    env.set_state(state)
    assert play(env) == expected
    with pytest.raises(SettingsError, match="prompts was"):
        env_of(mended(0)).set_state(state)


@pytest.mark.parametrize("change", [{"list_sizes": [5]}, {"row_hashes": "x"}, {"row_drawn": []}])
def test_damaged_states_are_refused(change: dict[str, Any]) -> None:
    state, _, _ = started(ROWS)
    with pytest.raises(SettingsError):
        env_of(ROWS).set_state({**state, **change})
