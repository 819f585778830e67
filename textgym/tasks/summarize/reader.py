"""Reads a story or a summary: which sentences are English of the grammar, and what they tell.

Stories and summaries are written in one language and read by one reader, so that a sentence copied
from the story is understood too.
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
"""What a pronoun means that stands for nobody, or nothing."""

_OWNED = frozenset((*THINGS, *LOOKS))
"""Words before which "his" and "her" say whose a thing is."""

_LONGEST = 64
"""Words of a sentence; no longer one is looked at."""


class Told(NamedTuple):
    """What a text tells.

    Attributes:
        facts: In the order of the text; an empty string where it does not say.
        slips: Faults of the sentences outside the grammar; a last sentence without its full stop is
            one of them.
    """

    facts: list[Fact]
    slips: int


def read(text: str, judgement: Judgement | None = None) -> Told:
    """Read sentences, each with one space before every word.

    "He" is the man and "she" the woman named last, "it" the thing named last. To whom a thing
    belongs is no fact: "his ring" is "the ring".

    Args:
        text: The sentences.
        judgement: Gets a remark on each sentence outside the grammar.
    """
    facts: list[Fact] = []
    slips = 0
    last = {"he": NOBODY, "she": NOBODY, "it": NOBODY}
    *sentences, rest = text.rstrip().split(".")
    for sentence in sentences:
        words = sentence.replace(",", " ,").split(" ")
        told = None if words[0] else _understand(words, last)
        if told is None:
            slips += unreadable(sentence)
            if judgement is not None:
                judgement.note(quoted(sentence), "not a sentence of the grammar")
        else:
            facts += told
    if rest:
        slips += unreadable(rest)
        if judgement is not None:
            judgement.note(quoted(rest), "breaks off before its full stop")
    return Told(facts, slips)


def _understand(words: list[str], last: dict[str, str]) -> list[Fact] | None:
    """The facts of one sentence, its words behind an empty string; None: it is no sentence."""
    if not 2 < len(words) < _LONGEST or not words[1][:1].isupper():
        return None
    if words[1] not in SYMBOLS:  # a name is written the same everywhere
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
    """Divide the facts of a story into those that its summary has to hold, and the others.

    A story is about the thing to which most happens. What happens to that thing is important: who
    loses, finds, steals, hides, breaks, mends, sells, gives or carries it.
    """
    things = Counter(fact[THING] for fact in facts if fact[VERB] in DID)
    if not things:
        return [], list(facts)
    [(thing, _)] = things.most_common(1)
    divided: tuple[list[Fact], list[Fact]] = [], []
    for fact in facts:
        divided[fact[VERB] not in DID or fact[THING] != thing].append(fact)
    return divided
