"""Texts that are junk by construction, made from a right answer.

Each mutation makes a text that a reader would call nonsense, contradictory or off topic, whatever
the task: a run of words that no task uses, a denial of the whole, a phrase repeated seven times,
words in an order that keeps no pair of neighbours. Merely imperfect texts (a missing word, an extra
mark) are not made here: partly right answers may be paid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from textgym.testing.code_mutations import code_mutations, is_code
from textgym.testing.pieces import (
    FOREIGN,
    SPECIAL,
    foreign_run,
    is_word,
    junk_size,
    pick,
    split,
    words_of,
)

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_SENTENCES = re.compile(r"[^.!?\u3002\uff01\uff1f\n]+[.!?\u3002\uff01\uff1f\n]*")
_CLAUSES = re.compile(r"(?:[,.;:!?\n]+| and | but )\s*(?=\S)")
_VERBS = frozenset(
    re.findall(
        r"\w+",
        "is are was were has had have can cannot will would must did does do am may should",
    )
)

DENIALS = (
    " That is not true.",
    " None of this is true.",
    " No, that is wrong.",
    " The opposite is true.",
    " I made all of that up.",
    "\nThat is not true.",
    ", or so they lied.",
    " This answer is wrong.",
)
PREFIXES = (
    " It is not true that",
    " It is false:",
    " The following is wrong:",
    " Never believe this:",
    " Not:",
    " Anything but this:",
    " This is a lie.",
)
_DENIALS_CJK = ("这不是真的。", "以上都是假的。", " 不对。")


class Mutant(NamedTuple):
    """A text that must not be paid.

    Attributes:
        kind: The mutation's name.
        text: The text.
        junk: False if only one word is wrong: it then has to score less than 1.0.
    """

    kind: str
    text: str
    junk: bool = True


Mutation = Callable[[str, Sequence[str], np.random.Generator], Iterator[str]]
"""Makes texts from an oracle, the oracles of other rows, and a random generator."""


def mutants(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[Mutant]:
    """One round of every mutation that applies.

    Args:
        oracle: The right answer.
        others: Right answers to other prompts.
        rng: The only source of randomness.
    """
    known = set(words_of(oracle))
    others = [other for other in others if set(words_of(other)) != known] or [""]
    for kind, mutation in MUTATIONS.items():
        if is_code(oracle) and kind in _NOT_FOR_CODE:
            continue
        for text in mutation(oracle, others, rng):
            if text.strip() != oracle.strip():
                yield Mutant(kind, text)
    for text in _one_word(oracle, rng):
        yield Mutant("one word replaced", text, junk=False)


def _place(pieces: list[str], rng: np.random.Generator) -> int:
    return int(rng.integers(len(pieces) + 1))


def _appended(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    run = "".join(foreign_run(rng, junk_size(oracle)))
    yield f"{oracle}{run}"
    yield f"{oracle}{run}."
    yield f"{oracle}\n{run[1:]}"
    yield f"{oracle} {run[1:].capitalize()}."
    yield f"{oracle.rstrip('.')}{run}."
    yield f"{oracle.rstrip('.')},{run}."
    yield f"{oracle.rstrip('.')} and{run}."


def _prepended(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    run = "".join(foreign_run(rng, junk_size(oracle)))
    yield f"{run}{oracle}"
    yield f"{run}.{oracle}"
    yield f" {run[1:].capitalize()}.{oracle}"
    yield f"{run[1:]}\n{oracle.lstrip()}"


def _inserted(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    pieces = split(oracle)
    for _ in range(3):
        at = _place(pieces, rng)
        yield "".join([*pieces[:at], *foreign_run(rng, junk_size(oracle)), *pieces[at:]])


def _slot_filled(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    pieces = split(oracle)
    places = [at for at, piece in enumerate(pieces) if is_word(piece)]
    chosen = [
        *places[-1:],
        *places[:1],
        *(int(rng.choice(places)) for _ in range(2 * bool(places))),
    ]
    for at in chosen:
        run = foreign_run(rng, max(10, junk_size(oracle)))
        yield "".join([*pieces[:at], *run, *pieces[at + 1 :]])


def _interleaved(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    pieces = split(oracle)
    yield "".join([part for piece in pieces for part in (piece, *foreign_run(rng, 1))])
    token = pick(rng, SPECIAL)
    if len(pieces) > 4:
        yield f" {token}".join(pieces)


def _half_replaced(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    pieces = split(oracle)
    places = [at for at, piece in enumerate(pieces) if is_word(piece)]
    if len(places) < 4:
        return
    for odd in (0, 1):
        mixed = list(pieces)
        for at in places[odd::2]:
            mixed[at] = foreign_run(rng, 1)[0]
        yield "".join(mixed)


def _strange_run(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    size = junk_size(oracle)
    runs = [
        " @#" * size,
        "".join([f" {number}" for number in rng.integers(1000, size=size)]),
        " x" * size,
        " " + "".join([chr(97 + i) for i in rng.integers(26, size=8 * size)]),
        " " + "\u2603" * 4 * size,
        " <b></b>" * size,
        "\n-" * size,
        " blah" * size,
        "." * 4 * size,
    ]
    if is_code(oracle):
        runs.remove("\n-" * size)  # "x - - - y" is a program
    for run in runs[:-1]:
        yield oracle + run
        yield run + oracle
    pieces = split(oracle)
    at = _place(pieces, rng)
    yield "".join([*pieces[:at], pick(rng, runs[:-1]), *pieces[at:]])


def _special_tokens(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    run = "".join(foreign_run(rng, junk_size(oracle)))
    for token in SPECIAL:
        yield f"{oracle}{token}{run}"
        yield f"{oracle} {token}\n{run}."
    yield f"{run}{pick(rng, SPECIAL)}{oracle}"


def _other_words(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Words of other answers in a random order, as a run, and alone."""
    pool = [word for other in others for word in words_of(other)]
    known = {word.lower() for word in words_of(oracle)}
    pool = [word for word in pool if word.lower() not in known]
    if len(set(pool)) < 8:
        return
    run = "".join([f" {pick(rng, pool)}" for _ in range(junk_size(oracle) + 4)])
    pieces = split(oracle)
    at = _place(pieces, rng)
    yield f"{oracle}{run}."
    yield f"{run}.{oracle}"
    yield "".join([*pieces[:at], run, *pieces[at:]])


def _repeated(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """A phrase of one to five pieces seven times over, where it is."""
    pieces = split(oracle)
    places = [at for at, piece in enumerate(pieces) if is_word(piece)]
    for size in range(1, 6):
        for at in rng.choice(places, size=min(3, len(places)), replace=False).tolist():
            phrase = pieces[at : at + size]
            # With a space between: "2" seven times is a number of its own.
            again = [f" {phrase[0].lstrip()}", *phrase[1:]]
            yield "".join([*pieces[:at], *phrase, *(again * 6), *pieces[at + size :]])
            joint = pick(rng, (" and", ",", "\n"))
            joined = [*pieces[:at], *phrase, *([joint, *again] * 6), *pieces[at + size :]]
            yield "".join(joined)
    end = len(pieces) - (not is_word(pieces[-1])) if pieces else 0
    for size in range(2, min(7, end)):
        phrase = [f" {pieces[end - size].lstrip()}", *pieces[end - size + 1 : end]]
        yield "".join([*pieces[:end], *(phrase * 6), *pieces[end:]])


def _stuttered(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Every word three times, every sentence five times, the whole six times."""
    pieces = split(oracle)
    yield "".join([f" {piece.strip()}" * (3 if is_word(piece) else 1) for piece in pieces])
    sentences = _SENTENCES.findall(oracle)
    if sentences:
        yield "".join([sentence * 5 for sentence in sentences])
        yield sentences[-1] * 6
        yield oracle + sentences[-1] * 5
    yield oracle * 6


def _denied(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    for denial in DENIALS:
        yield oracle + denial
        yield oracle.rstrip(".") + denial
    if _CJK.search(oracle):
        for denial in _DENIALS_CJK:
            yield oracle + denial
    for prefix in PREFIXES:
        yield f"{prefix}{oracle}"
        body = oracle.lstrip()
        yield f"{prefix} {body[:1].lower()}{body[1:]}"


def _negated(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """A "not" after the verb of every clause, if every clause has a suitable verb."""
    clauses = [_VERBS.intersection(words_of(clause)) for clause in _CLAUSES.split(oracle)]
    if all(clauses):
        negated = "".join(
            [f"{piece} not" if piece.strip() in _VERBS else piece for piece in split(oracle)]
        )
        yield negated
        # Both together contradict each other.
        yield oracle + negated
        yield negated + oracle


def _hedged(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """The answer and those to other questions, as alternatives or in sequence."""
    if not others[0]:
        return
    bare = oracle.strip().rstrip(".")
    chosen = [pick(rng, others).strip().rstrip(".") for _ in range(3)]
    end = "." if oracle.rstrip().endswith(".") else ""
    yield f" {bare} or {chosen[0]}{end}"
    yield f" {chosen[0]} or {bare}{end}"
    yield f" Either {bare} or {chosen[0]}{end}"
    yield f" {bare}, or maybe {chosen[0]}, or {chosen[1]}, or {chosen[2]}{end}"
    yield f" {bare}? {chosen[0]}? Who knows{end}"
    yield f"{oracle} {chosen[0]}{end} {chosen[1]}{end} {chosen[2]}{end}"
    yield f" {chosen[0]}{end} {chosen[1]}{end} {chosen[2]}{end}{oracle}"


def _disordered(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """An order that keeps no pair of neighbours of the answer."""
    words = words_of(oracle)
    if len(set(words)) < 6:
        return
    end = "." if oracle.rstrip().endswith(".") else ""
    for order in (words[::-1], words[::2] + words[1::2], *_orders(words, rng)):
        if has_no_neighbours(order, words):
            yield f" {' '.join(order)}{end}"


def has_no_neighbours(order: Sequence[str], words: Sequence[str]) -> bool:
    """Whether no two neighbours of `words` follow each other in `order` too."""
    return set(pairwise(words)).isdisjoint(pairwise(order))


def _orders(words: list[str], rng: np.random.Generator) -> Iterator[list[str]]:
    for _ in range(20):
        yield [words[i] for i in rng.permutation(len(words))]


def _mangled(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Words without their vowels, or spelt backwards."""
    pieces = split(oracle)
    words = words_of(oracle)
    if sum(len(word) > 3 for word in words) < 2:
        return
    yield "".join([re.sub("(?<=\\w)[aeiou]", "", piece) for piece in pieces])
    yield "".join([f" {piece.strip()[::-1]}" if is_word(piece) else piece for piece in pieces])


def _random_words(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    run = "".join(foreign_run(rng, junk_size(oracle)))
    yield run
    yield f"{run}."
    yield "".join([f"{part}." for part in foreign_run(rng, junk_size(oracle))])
    pieces = split(oracle)
    if len(pieces) > 1:
        # The marks and function words of the answer, without its content.
        yield "".join(
            [
                foreign_run(rng, 1)[0] if is_word(piece) and len(piece.strip()) > 3 else piece
                for piece in pieces
            ]
            + foreign_run(rng, 8)
        )


def _one_word(oracle: str, rng: np.random.Generator) -> Iterator[str]:
    """The answer with one word replaced by an unrelated noun."""
    pieces = split(oracle)
    places = [at for at, piece in enumerate(pieces) if is_word(piece) and len(piece.strip()) > 1]
    for at in rng.permutation(places).tolist()[:4]:
        space = pieces[at][: len(pieces[at]) - len(pieces[at].lstrip())]
        yield "".join([*pieces[:at], space + pick(rng, FOREIGN), *pieces[at + 1 :]])


def _code(oracle: str, others: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    return code_mutations(oracle, rng)


MUTATIONS: dict[str, Mutation] = {
    "junk appended": _appended,
    "junk prepended": _prepended,
    "junk inserted": _inserted,
    "junk in a slot": _slot_filled,
    "junk between the words": _interleaved,
    "half of the words junk": _half_replaced,
    "strange characters": _strange_run,
    "special tokens and junk": _special_tokens,
    "words of other answers": _other_words,
    "a phrase repeated": _repeated,
    "words or sentences repeated": _stuttered,
    "denied": _denied,
    "every verb negated": _negated,
    "several answers": _hedged,
    "words out of order": _disordered,
    "words mangled": _mangled,
    "random words": _random_words,
    "code": _code,
}
"""The mutations by name."""

# In a program "- - - x" and "1 or 2" are valid; code mutations replace its words.
_NOT_FOR_CODE = frozenset(("a phrase repeated", "several answers", "words mangled"))
