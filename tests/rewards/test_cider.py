import copy
import json
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.errors import RewardError
from textgym.rewards.metrics.cider import Cider

SAID = [
    "the dog is the boy s cat",
    "a boy is picking apples from trees and put them into bags",
    "a man rides a red bike",
]
MEANT = [
    ["the dog is the boy s cat", "the dog eats the cat of the boy"],
    ["a boy is picking apples from trees"],
    [
        "a man is riding a bicycle",
        "the man rides his red bike down a street",
        "someone rides a bike",
    ],
]


def test_equals_the_coco_evaluation() -> None:
    # The numbers of the class Cider of pycocoevalcap 1.2 on the same texts.
    values = Cider()([""] * 3, SAID, reference=MEANT)
    assert values == pytest.approx([6.19995535, 4.93085112, 1.89863469], abs=1e-7)


def test_by_hand() -> None:
    # Two documents. "a" is in both: weight 0. "b", "c", "d": log 2 for each.
    rows = ["a b", "a c d"]
    reward = Cider(corpus=rows, n=1)
    # (b) against (b): the same, length the same.
    assert reward([""], ["a b"], reference=["a b"]) == pytest.approx([10])
    # (c) against (c, d), both log 2: cosine 1 / sqrt 2; a word is missing.
    expected = 10 / math.sqrt(2) * math.exp(-1 / (2 * 36))
    assert reward([""], ["a c"], reference=["a c d"]) == pytest.approx([expected])
    plain = Cider(corpus=rows, n=1, variant="cider")
    assert plain([""], ["a c"], reference=["a c d"]) == pytest.approx([10 / math.sqrt(2)])
    # "c c" is clipped to "c" by CIDEr-D: (1 * 1) / (2 * 1); the cosine is 1.
    assert plain([""], ["c c"], reference=["c"]) == pytest.approx([10])
    expected = 5 * math.exp(-1 / (2 * 36))
    assert reward([""], ["c c"], reference=["c"]) == pytest.approx([expected])
    # What is in no document is as rare as what is in one. "a" alone has no weight.
    assert reward([""], ["x"], reference=["x"]) == pytest.approx([10])
    assert reward([""], ["a"], reference=["a"]) == [0]


WORDS = st.lists(st.sampled_from("abcde"), max_size=6).map(" ".join)
ROWS = st.lists(st.lists(WORDS, min_size=1, max_size=3), min_size=2, max_size=4)


@settings(max_examples=100, deadline=None)
@given(ROWS, WORDS, st.lists(WORDS, min_size=1, max_size=2), st.sampled_from([1.0, 6.0]))
def test_from_the_papers_equations(
    corpus: list[list[str]], said: str, meant: list[str], sigma: float
) -> None:
    """Vectors over all n-grams of the alphabet, as the paper writes them."""

    def grams(text: str, n: int) -> list[tuple[str, ...]]:
        words = text.split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    results = {"cider": 0.0, "cider-d": 0.0}
    for n in (1, 2, 3, 4):
        every = sorted(
            {g for row in [[said], meant, *corpus] for one in row for g in grams(one, n)}
        )
        having = [sum(any(g in grams(one, n) for one in row) for row in corpus) for g in every]
        idf = np.array([math.log(len(corpus) / max(1, count)) for count in having])
        of = {
            one: np.array([grams(one, n).count(g) for g in every]) * idf for one in [said, *meant]
        }
        for reference in meant:
            a, b = of[said], of[reference]
            norm = np.linalg.norm(a) * np.linalg.norm(b)
            if norm:
                results["cider"] += a @ b / norm
                apart = len(said.split()) - len(reference.split())
                clipped = np.minimum(a, b) @ b / norm
                results["cider-d"] += clipped * math.exp(-(apart**2) / (2 * sigma**2))
    for variant, total in results.items():
        reward = Cider(corpus=corpus, variant=variant, sigma=sigma)
        [value] = reward([""], [said], reference=[meant])
        assert value == pytest.approx(10 * total / 4 / len(meant), abs=1e-9)
        assert 0 <= value <= 10


def test_the_corpus_from_a_file(tmp_path) -> None:
    path = tmp_path / "captions.jsonl"
    lines = [json.dumps({"captions": row}) for row in [*MEANT, None]]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    expected = Cider()([""] * 3, SAID, reference=MEANT)
    for source in (path, str(path)):
        reward = Cider(corpus=source, corpus_column="captions")
        # One text at a time: the batch doesn't matter.
        alone = [reward([""], [a], reference=[b])[0] for a, b in zip(SAID, MEANT, strict=True)]
        assert alone == pytest.approx(expected)
    assert Cider(corpus=MEANT)([""] * 3, SAID, reference=MEANT) == expected


def test_files_that_cannot_be_read(tmp_path) -> None:
    path = tmp_path / "captions.jsonl"
    with pytest.raises(RewardError, match=r"^cider: the corpus .* cannot be read"):
        Cider(corpus=path)
    path.write_text('{"reference": "a"}\n{"caption": "b"}\n')
    with pytest.raises(RewardError, match=r"line 2 of the corpus .* with the key 'reference'"):
        Cider(corpus=path)
    path.write_text('{"reference": "a"}\nnot JSON\n')
    with pytest.raises(RewardError, match=r"line 2 of the corpus .*JSONDecodeError"):
        Cider(corpus=path)


def test_the_same_references_twice_in_a_batch_are_one_document() -> None:
    # Else the texts of one prompt, sampled many times, would make its words common.
    once = Cider()([""] * 2, SAID[:2], reference=MEANT[:2])
    again = Cider()([""] * 4, SAID[:2] * 2, reference=MEANT[:2] * 2)
    assert again == once * 2


def test_one_row_has_no_document_frequencies() -> None:
    with pytest.raises(RewardError, match=r"at least two rows with different references.*corpus="):
        Cider()([""], ["a"], reference=["a"])
    with pytest.raises(RewardError, match="corpus has 1 rows"):
        Cider(corpus=["a"])
    assert Cider()([""], ["a"], reference=[None]) == [None]
    rewards = Cider()([""] * 3, ["a b", "x", "c"], reference=["a b", None, ["c d"]])
    assert rewards[1] is None
    assert rewards[0] == pytest.approx(5)  # without 3-grams and 4-grams


def test_stems_and_scale() -> None:
    rows = ["dogs run", "cats sleep"]
    assert Cider(corpus=rows, n=1)([""], ["dog runs"], reference=["dogs run"]) == [0]
    reward = Cider(corpus=rows, n=1, stems=True, scale=1.0)
    assert reward([""], ["Dog runs!"], reference=["dogs run"]) == pytest.approx([1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "cider-r"}, "variant must be"),
        ({"n": 0}, "n .*not 0"),
        ({"sigma": 0}, "sigma .*not 0"),
        ({"scale": float("inf")}, "scale .*not inf"),
        ({"corpus": [["a", 1], "b"]}, "a row of the corpus must"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^cider: {message}"):
        Cider(**options)


def test_copies() -> None:
    reward = Cider(corpus=MEANT, n=2)
    twin = pickle.loads(pickle.dumps(reward))
    assert twin([""], SAID[:1], reference=MEANT[:1]) == reward([""], SAID[:1], reference=MEANT[:1])
    assert copy.deepcopy(reward) is reward


@settings(max_examples=50)
@given(st.lists(st.text(), min_size=2, max_size=3, unique=True), st.text())
def test_range_on_any_text(rows: list[str], said: str) -> None:
    [value] = Cider(corpus=rows)([""], [said], reference=[rows[0]])
    assert 0 <= value <= 10


def test_processes_agree_to_the_last_bit() -> None:
    words = [f"w{k}" for k in range(40)]
    code = (
        "from textgym.rewards import Cider\n"
        f"rows = [{words!r}[k:k + 20] for k in range(9)]\n"
        "texts = [' '.join(row) for row in rows]\n"
        "print(Cider()([''] * 9, texts[::-1], reference=texts))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1
