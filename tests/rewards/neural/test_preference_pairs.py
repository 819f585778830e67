"""The forms in which preferences are published, and how they are divided."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import DataError, SettingsError
from textgym.rewards.preferences.pairs import (
    Pair,
    pairs_of,
    plain_turns,
    read_pairs,
    split_key,
    split_pairs,
)

USER, AGENT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
RUDE = {"role": "assistant", "content": "What"}
AS_TEXT = Pair("User: Hi\nAgent:", " Hello", " What")


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        ({"prompt": "a", "chosen": " b", "rejected": " c", "margin": None, "id": 3},
         Pair("a", " b", " c")),
        ({"question": "a", "chosen": " b", "rejected": " c"}, Pair("a", " b", " c")),
        ({"prompt": "a", "chosen": "b", "rejected": "", "margin": "0.5", "weight": 2,
          "preference": "0.25"}, Pair("a", "b", "", 0.5, 2.0, 0.25)),
        # Anthropic's hh-rlhf: answers that begin alike, and a dialogue of several turns.
        ({"chosen": "\n\nHuman: Hi\n\nAssistant: I am fine", "rejected":
          "\n\nHuman: Hi\n\nAssistant: I don't care"},
         Pair("\n\nHuman: Hi\n\nAssistant:", " I am fine", " I don't care")),
        ({"chosen": "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant: D",
          "rejected": "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant: E"},
         Pair("\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant:", " D", " E")),
        # Other strings: whole words are shared, or nothing.
        ({"chosen": "The sky is blue", "rejected": "The sky is black"},
         Pair("The sky is", " blue", " black")),
        ({"chosen": "one", "rejected": "other"}, Pair("", "one", "other")),
        ({"chosen": "a b", "rejected": "a b c"}, Pair("a", " b", " b c")),
        # Messages: explicit and implicit prompts, and UltraFeedback's prompt in both places.
        ({"prompt": [USER], "chosen": [AGENT], "rejected": [RUDE]}, AS_TEXT),
        ({"chosen": [USER, AGENT], "rejected": [USER, RUDE]}, AS_TEXT),
        ({"prompt": "Hi", "chosen": [USER, AGENT], "rejected": [USER, RUDE]}, AS_TEXT),
        ({"prompt": "Hi", "chosen": [AGENT], "rejected": [RUDE]}, AS_TEXT),
        ({"prompt": [USER], "chosen": "Hello", "rejected": "What"}, AS_TEXT),
    ],
)  # fmt: skip
def test_forms_of_pairs(row: dict[str, Any], pair: Pair) -> None:
    assert pairs_of([row], "rows").pairs == [pair]


def test_several_rejected_texts_are_several_pairs() -> None:
    rows = [
        {"prompt": "a", "chosen": "b", "rejected": ["c", "d"], "weight": 2},
        {"prompt": [USER], "chosen": [AGENT], "rejected": [[RUDE], [USER, AGENT, USER, RUDE]]},
        {"prompt": "a", "chosen": "b", "rejected": "e"},
    ]
    found = pairs_of([*rows[:1], rows[2]], "rows").pairs
    assert found == [
        Pair("a", "b", "c", weight=2.0), Pair("a", "b", "d", weight=2.0), Pair("a", "b", "e")
    ]  # fmt: skip
    with pytest.raises(DataError, match="row 1 of rows: an answer begins"):
        pairs_of(rows[:2], "rows")
    assert pairs_of([{**rows[1], "rejected": [[RUDE], [RUDE]]}], "rows").pairs == [AS_TEXT] * 2


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_files_of_pairs(suffix: str, tmp_path: Path) -> None:
    rows = [
        {"prompt": "a, b", "chosen": ' "c"\n', "rejected": " ü", "margin": 0.5},
        {"prompt": "a", "chosen": " b", "rejected": " c", "margin": None},
    ]
    file = tmp_path / f"pairs.{suffix}"
    if suffix == "jsonl":
        file.write_text("\n\n".join(map(json.dumps, rows)))
    elif suffix == "csv":
        with file.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    assert read_pairs(file).pairs == [
        Pair("a, b", ' "c"\n', " ü", margin=0.5),
        Pair("a", " b", " c"),
    ]


GOOD = {"prompt": "a", "chosen": "b", "rejected": "c"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("text", "row 1 of here must .*not str"),
        ({"prompt": "a", "choosen": "b", "rejected": "c"},
         "row 1 of here has no column 'chosen', only .*; did you mean 'choosen'"),
        ({"prompt": "a", "chosen": "b"}, "row 1 of here has no column 'rejected'"),
        ({**GOOD, "chosen": None}, "row 1 of here: 'chosen' .*not NoneType"),
        ({**GOOD, "prompt": 3}, "row 1 of here: 'prompt' .*not int"),
        ({**GOOD, "margin": "much"}, "row 1 of here: 'margin' .*not 'much'"),
        ({**GOOD, "weight": -1}, "row 1 of here: 'weight' .*at least 0.*not -1"),
        ({**GOOD, "weight": True}, "row 1 of here: 'weight' .*not True"),
        ({**GOOD, "preference": 1.5}, r"row 1 of here: 'preference' .*\[0, 1\].*not 1.5"),
        ({**GOOD, "margin": math.nan}, "row 1 of here: 'margin' .*not nan"),
        ({"chosen": [AGENT], "rejected": []}, "row 1 of here has an empty list of messages"),
        ({"chosen": [AGENT], "rejected": 3}, "row 1 of here: 'rejected' .*not int"),
        ({"chosen": [AGENT], "rejected": [{"role": "user"}]},
         "row 1 of here: 'rejected': message 0 .*not .*role"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pairs_of([GOOD, row], "here")


def test_a_template_that_refuses_messages_names_the_row() -> None:
    def render(messages: Any, reply: bool) -> str:
        raise ValueError("roles must alternate")

    with pytest.raises(DataError, match=r"row 0 of here .*roles must alternate"):
        pairs_of([{"chosen": [AGENT], "rejected": [RUDE]}], "here", render)


def test_ties() -> None:
    rows = [GOOD, {**GOOD, "rejected": "b"}, {**GOOD, "preference": 0.5}]
    soft = [Pair("a", "b", "c"), Pair("a", "b", "c", preference=0.5)]
    assert pairs_of(rows, "here") == (soft, 1, False)
    assert pairs_of(rows, "here", ties="skip") == (soft[:1], 2, False)
    with pytest.raises(DataError, match="here has 2 rows"):
        pairs_of(rows[1:], "here", ties="skip")
    with pytest.raises(DataError, match="0 rows"):
        pairs_of([], "here")
    with pytest.raises(SettingsError, match=r"ties .*not 'drop'"):
        pairs_of(rows, "here", ties="drop")


def test_plain_turns_are_those_of_the_environments() -> None:
    assert plain_turns([USER, AGENT, USER], True) == "User: Hi\nAgent: Hello\nUser: Hi\nAgent:"


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=2)), max_size=30))
def test_no_prompt_is_on_both_sides(texts: list[tuple[str, str]]) -> None:
    pairs = [Pair(prompt, text, text + "x") for prompt, text in texts]
    learn, judge = split_pairs(pairs, 0.5)
    assert not set(map(split_key, learn)) & set(map(split_key, judge))
    assert sorted(map(repr, learn + judge)) == sorted(map(repr, pairs))


def test_the_split_holds_out_the_share_of_prompts_and_does_not_move() -> None:
    pairs = [Pair(f"prompt {i}", "a", "b") for i in range(4000)]
    _, judge = split_pairs(pairs, 0.2)
    assert abs(len(judge) / 4000 - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 4000)
    # More rows move no prompt to the other side.
    assert set(split_pairs(pairs[:100], 0.2)[1]) == set(pairs[:100]) & set(judge)


SYSTEM = {"role": "system", "content": "Be kind."}
WITH_SYSTEM = Pair("System: Be kind.\nUser: Hi\nAgent:", " Hello", " What")


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        # The prompt after a system message, or with white space around it, is the same prompt.
        ({"prompt": "Hi", "chosen": [SYSTEM, USER, AGENT], "rejected": [SYSTEM, USER, RUDE]},
         WITH_SYSTEM),
        ({"prompt": "Hi \n", "chosen": [USER, AGENT], "rejected": [USER, RUDE]}, AS_TEXT),
        ({"prompt": [USER], "chosen": [SYSTEM, USER, AGENT], "rejected": [SYSTEM, USER, RUDE]},
         WITH_SYSTEM),
        ({"prompt": [SYSTEM, USER], "chosen": [USER, AGENT], "rejected": [USER, RUDE]},
         WITH_SYSTEM),
        ({"prompt": "Hi", "chosen": [USER, AGENT, USER, AGENT],
          "rejected": [USER, AGENT, USER, RUDE]},
         Pair("User: Hi\nAgent: Hello\nUser: Hi\nAgent:", " Hello", " What")),
        # A column with the system message: Intel's orca_dpo_pairs, and its neighbours.
        ({"system": "Be kind.", "question": "Hi", "chosen": "Hello", "rejected": "What"},
         WITH_SYSTEM),
        ({"system_prompt": "Be kind.", "prompt": [USER], "chosen": [AGENT], "rejected": [RUDE]},
         WITH_SYSTEM),
        ({"system": "Be kind.", "chosen": [USER, AGENT], "rejected": [USER, RUDE]}, WITH_SYSTEM),
        ({"system": "Be kind.", "prompt": "Hi", "chosen": [SYSTEM, USER, AGENT],
          "rejected": [SYSTEM, USER, RUDE]}, WITH_SYSTEM),
        ({"system": "", "prompt": "a", "chosen": " b", "rejected": " c"}, Pair("a", " b", " c")),
        ({"system": math.nan, "prompt": "a", "chosen": " b", "rejected": " c"},
         Pair("a", " b", " c")),
        # One message without a list around it.
        ({"prompt": "Hi", "chosen": AGENT, "rejected": RUDE}, AS_TEXT),
        ({"prompt": math.nan, "chosen": "a b", "rejected": "a c"}, Pair("a", " b", " c")),
        # Strings that repeat the prompt of the column.
        ({"prompt": "Q: why?", "chosen": "Q: why? A: because", "rejected": "Q: why? A: no"},
         Pair("Q: why?", " A: because", " A: no")),
        ({"prompt": "Q: why? ", "chosen": "Q: why? A", "rejected": "Q: why?\nB"},
         Pair("Q: why?", " A", "\nB")),
    ],
)  # fmt: skip
def test_a_prompt_stands_once(row: dict[str, Any], pair: Pair) -> None:
    assert pairs_of([row], "rows").pairs == [pair]


def test_answers_that_begin_like_the_prompt_by_chance() -> None:
    greeting = {"prompt": "Hello", "chosen": "Hello! How are you?", "rejected": "Hello there"}
    pairs = pairs_of([greeting, GOOD], "here").pairs
    assert pairs[0] == Pair("Hello", "Hello! How are you?", "Hello there")
    long = "Why is the sky blue on some days?"
    repeated = {"prompt": long, "chosen": long + " Light.", "rejected": long + " No."}
    with pytest.raises(DataError, match="row 1 of here: 'chosen' and 'rejected' begin with"):
        pairs_of([GOOD, repeated], "here")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"system": "S", "chosen": "a b", "rejected": "a c"}, "row 1 of here has a system message"),
        ({"system": 3, **GOOD}, "row 1 of here: the system message .*not int"),
        ({"prompt": "Hi", "chosen": [{**USER, "content": "Bye"}, AGENT], "rejected": [RUDE]},
         "row 1 of here: an answer .* role 'user'"),
        ({**GOOD, "chosen": math.nan}, "row 1 of here: 'chosen' .*not NoneType"),
    ],
)  # fmt: skip
def test_pairs_in_doubt_are_refused(row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pairs_of([GOOD, row], "here")
