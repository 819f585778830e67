"""Hill climbs among texts that stay junk: each move keeps what makes the text nonsense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from textgym.testing.code_mutations import is_code
from textgym.testing.mutations import has_no_neighbours
from textgym.testing.pieces import (
    SPECIAL,
    foreign_run,
    is_word,
    junk_size,
    pick,
    split,
    words_of,
)

_MARKS = (".", ",", ":", ";", "\n", " -", "?", " and", " or", ". ")
_PATIENCE = 60
"""Moves without success before a climb starts over."""

Score = Callable[[str], float]


class Piece(NamedTuple):
    """A piece of a text, and whether it is junk."""

    text: str
    junk: bool = False


class Peak(NamedTuple):
    """The best text of a climb."""

    kind: str
    text: str
    score: float


def climb(
    score: Score,
    oracle: str,
    fragments: Sequence[str],
    rng: np.random.Generator,
    running: Callable[[], bool],
) -> Peak:
    """Climb once, from a start drawn at random.

    Args:
        score: The score of a text.
        oracle: The right answer.
        fragments: Pieces of answers, of this row and of others, that may be inserted.
        rng: The only source of randomness.
        running: Whether there is time left.
    """
    kinds = ("junk among the answer", "answer among junk", "repetition", "disorder")
    kind = kinds[int(rng.integers(len(kinds)))]
    words = words_of(oracle)
    if kind == "disorder" and len(set(words)) >= 6:
        return _disorder(score, oracle, rng, running)
    if kind == "repetition" and words and not is_code(oracle):
        return _repetition(score, oracle, rng, running)
    return _junk(score, oracle, fragments, rng, running, kind == "answer among junk")


def _junk(
    score: Score,
    oracle: str,
    fragments: Sequence[str],
    rng: np.random.Generator,
    running: Callable[[], bool],
    random_start: bool,
) -> Peak:
    """Move junk around in an answer, or insert parts of the answer into junk.

    A climb from the answer keeps at least `junk_size` words of junk and a third of all words; one
    from random words keeps two thirds.
    """
    needed = 6 if random_start else junk_size(oracle)
    share = 2 / 3 if random_start else 1 / 3
    run = [Piece(text, True) for text in foreign_run(rng, needed)]
    if random_start:
        state = run
    else:
        pieces = [Piece(text) for text in split(oracle)]
        at = int(rng.integers(len(pieces) + 1))
        state = pieces[:at] + run + pieces[at:]

    def is_junk(pieces: list[Piece]) -> bool:
        count = sum(piece.junk for piece in pieces)
        others = sum(not piece.junk and is_word(piece.text) for piece in pieces)
        return count >= needed and count >= share * (count + others)

    def moved(pieces: list[Piece]) -> list[Piece]:
        return _move(pieces, oracle, fragments, rng)

    kind = "answer among junk" if random_start else "junk among the answer"
    best, value = _ascend(score, state, moved, is_junk, rng, running)
    return Peak(kind, best, value)


def _ascend(
    score: Score,
    state: list[Piece],
    moved: Callable[[list[Piece]], list[Piece]],
    is_junk: Callable[[list[Piece]], bool],
    rng: np.random.Generator,
    running: Callable[[], bool],
) -> tuple[str, float]:
    text = "".join([piece.text for piece in state])
    value = score(text)
    failures = 0
    while failures < _PATIENCE and running():
        trial = moved(state)
        if not trial or not is_junk(trial):
            failures += 1
            continue
        new = "".join([piece.text for piece in trial])
        found = score(new)
        failures = 0 if found > value else failures + 1
        if found >= value:
            state, text, value = trial, new, found
    return text, value


def _move(
    pieces: list[Piece], oracle: str, fragments: Sequence[str], rng: np.random.Generator
) -> list[Piece]:
    """One random change of a text."""
    new = list(pieces)
    at = int(rng.integers(len(new)))
    luck = int(rng.integers(8))
    if luck == 0:  # leave out
        size = int(rng.integers(1, 4))
        del new[at : at + size]
    elif luck == 1:  # a part somewhere else
        size = int(rng.integers(1, 9))
        part = new[at : at + size]
        del new[at : at + size]
        to = int(rng.integers(len(new) + 1))
        new[to:to] = part
    elif luck == 2:  # other junk
        if new[at].junk:
            new[at] = Piece(foreign_run(rng, 1)[0], True)
    elif luck == 3:  # more junk
        new[at:at] = [Piece(text, True) for text in foreign_run(rng, int(rng.integers(1, 5)))]
    elif luck == 4:  # a mark, or a special token
        new.insert(at, Piece(pick(rng, _MARKS) if rng.random() < 0.8 else pick(rng, SPECIAL)))
    elif luck == 5 and fragments:
        new[at:at] = [Piece(text) for text in split(pick(rng, fragments))]
    elif luck == 6:  # a part of the answer
        source = split(oracle)
        start = int(rng.integers(len(source) or 1))
        new[at:at] = [Piece(text) for text in source[start : start + int(rng.integers(1, 12))]]
    else:  # a part twice
        size = int(rng.integers(1, 5))
        new[at:at] = new[at : at + size]
    return new


def _repetition(
    score: Score, oracle: str, rng: np.random.Generator, running: Callable[[], bool]
) -> Peak:
    """An answer in which some phrase is repeated six times."""
    pieces = split(oracle)
    best, value = "", 0.0
    for _ in range(_PATIENCE // 2):
        if not running():
            break
        size = int(rng.integers(1, 8))
        at = int(rng.integers(len(pieces)))
        phrase = pieces[at : at + size]
        if not any(map(is_word, phrase)):
            continue
        joint = pick(rng, ("", "", ",", ".", " and", "\n"))
        again = "".join([joint, " ", *phrase]).replace("  ", " ") * 6
        to = at + len(phrase) if rng.random() < 0.7 else int(rng.integers(len(pieces) + 1))
        text = "".join([*pieces[:to], again, *pieces[to:]])
        if (found := score(text)) > value:
            best, value = text, found
    return Peak("repetition", best, value)


def _disorder(
    score: Score, oracle: str, rng: np.random.Generator, running: Callable[[], bool]
) -> Peak:
    """Swap words of the answer, in orders that keep none of its pairs of neighbours."""
    words = words_of(oracle)
    order = [words[i] for i in rng.permutation(len(words))]
    end = "." if oracle.rstrip().endswith(".") else ""
    best, value = "", -1.0
    for _ in range(3 * _PATIENCE):
        if not running():
            break
        one, other = rng.integers(len(words), size=2).tolist()
        trial = list(order)
        trial[one], trial[other] = trial[other], trial[one]
        if not has_no_neighbours(trial, words):
            if not has_no_neighbours(order, words):
                order = trial
            continue
        text = f" {' '.join(trial)}{end}"
        found = score(text)
        if found >= value:
            order, best, value = trial, text, found
    return Peak("disorder", best, max(value, 0.0))
