"""Parses stories and summaries into facts.

Both are parsed with the same grammar, so sentences copied from the story are understood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from textgym.tasks.judgement import Judgement, quoted, unreadable
from textgym.tasks.summarize.grammar import (
    DID,
    LOOKS,
    MEANINGS,
    PRONOUNS,
    SYMBOLS,
    THING,
    THINGS,
    VERB,
    Fact,
    plan,
)

NOBODY = "?"
"""The referent of an unresolved pronoun."""

_OWNED = frozenset((*THINGS, *LOOKS))
"""Words before which "his" and "her" are possessive."""

_LONGEST = 64
"""Maximum number of words of a sentence."""


class Reading(NamedTuple):
    """The parse of a text.

    Attributes:
        facts: The facts in the order of the text.
        faults: Number of faults in sentences outside the grammar, incomplete ones included.
    """

    facts: list[Fact]
    faults: int


def read(text: str, judgement: Judgement | None = None) -> Reading:
    """Parse sentences with one space before every word.

    "He" is the man and "she" the woman named last, "it" the thing named last. Ownership is ignored:
    "his ring" is "the ring".

    Args:
        text: The sentences.
        judgement: Receives a remark on each sentence outside the grammar.
    """
    facts: list[Fact] = []
    faults = 0
    last = {"he": NOBODY, "she": NOBODY, "it": NOBODY}
    *sentences, rest = text.rstrip().split(".")
    for sentence in sentences:
        words = sentence.replace(",", " ,").split(" ")
        found = None if words[0] else _interpret(words, last)
        if found is None:
            faults += unreadable(sentence)
            if judgement is not None:
                judgement.note(quoted(sentence), "not a sentence of the grammar")
        else:
            facts += found
    if rest:
        faults += unreadable(rest)
        if judgement is not None:
            judgement.note(quoted(rest), "incomplete: no full stop")
    return Reading(facts, faults)


def _interpret(words: list[str], last: dict[str, str]) -> list[Fact] | None:
    """The facts of a sentence; None if it is not grammatical. The first word is an empty string."""
    if not 2 < len(words) < _LONGEST or not words[1][:1].isupper():
        return None
    if words[1] not in SYMBOLS:  # names keep their capital
        words[1] = words[1][0].lower() + words[1][1:]
    del words[0]
    if "his" in words or "her" in words:
        for number, (word, owned) in enumerate(pairwise(words)):
            if word in ("his", "her") and owned in _OWNED:
                words[number] = "the"
    try:
        steps = plan(" ".join([SYMBOLS[word] for word in words]))
    except KeyError:
        return None
    if steps is None:
        return None
    parts: list[str] = []
    for word in words:
        if word in MEANINGS:
            pronoun = MEANINGS[word]
            if word in PRONOUNS:
                word = last[pronoun]
            elif pronoun:
                last[pronoun] = word
            parts.append(word)
    parts.append("")  # the number -1
    return [
        [verb, parts[who], parts[thing], parts[whom], parts[place]]
        for verb, who, thing, whom, place in steps
    ]


def important(facts: Sequence[Fact]) -> tuple[list[Fact], list[Fact]]:
    """Divide the facts of a story into the important ones and the others.

    A story is about the thing with the most events. These events are the important facts: losing,
    finding, stealing, hiding, breaking, mending, selling, giving and carrying it.
    """
    things = Counter(fact[THING] for fact in facts if fact[VERB] in DID)
    if not things:
        return [], list(facts)
    [(thing, _)] = things.most_common(1)
    divided: tuple[list[Fact], list[Fact]] = [], []
    for fact in facts:
        divided[fact[VERB] not in DID or fact[THING] != thing].append(fact)
    return divided
