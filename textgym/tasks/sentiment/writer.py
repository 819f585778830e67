"""Clauses and verdicts of known polarity, for prompts, references, documents and baselines.

`phrases_of` enumerates all clauses about each aspect once per subject, so writing a text is a few
choices from lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import pairwise, product
from typing import NamedTuple

from textgym.tasks.sentiment import lexicon
from textgym.tasks.sentiment.grammar import OPENERS, adjectives, starts_with_vowel

Clause = tuple[str, str]
"""A clause in lower case, and capitalized."""


class AspectPhrases(NamedTuple):
    """The clauses about one aspect.

    The first three are short clauses with a value of exactly 1. They share no word with a value,
    so a text may use one of each.
    """

    warmly: tuple[Clause, ...]  # "the room was very clean"
    strongly: tuple[Clause, ...]  # "it had a superb room", "the room was never dirty"
    gladly: tuple[Clause, ...]  # "I loved the room"
    good: tuple[Clause, ...]
    bad: tuple[Clause, ...]
    good_words: tuple[str, ...]
    bad_words: tuple[str, ...]


class Phrases(NamedTuple):
    """The phrases of one subject."""

    aspects: tuple[str, ...]
    about: dict[str, AspectPhrases]
    heads: tuple[str, ...]  # first halves of the opening sentence
    tails: tuple[str, ...]  # second halves
    praise: tuple[str, ...]  # verdicts with a value of 1, as sentences
    good_verdicts: tuple[str, ...]
    bad_verdicts: tuple[str, ...]


def verb_of(subject: str, aspect: str) -> str:
    """``was`` or ``were``."""
    return "were" if aspect in lexicon.SUBJECTS[subject].plurals else "was"


def _article(word: str) -> str:
    return "an" if starts_with_vowel(word) else "a"


@cache
def phrases_of(subject: str) -> Phrases:
    """Enumerate the clauses and verdicts of a subject."""
    about = lexicon.SUBJECTS[subject]
    noun = about.noun
    praise = [f"{who} would gladly recommend it" for who in ("I", "we")]
    praise += [f"{who} would gladly {deed}" for who in ("I", "we") for deed in about.deed]
    praise += [f"it was {_article(word)} {word} {noun}" for word in lexicon.GENERAL.great]
    praise += ["I was very happy", "we were very happy", "it was well worth the money"]
    good = ["I would recommend it", f"we would {about.deed[0]}", "it was worth the money"]
    good += [f"it was {_article(word)} {word} {noun}" for word in lexicon.GENERAL.good]
    good += [f"it was not {_article(word)} {word} {noun}" for word in ("bad", "poor")]
    good += ["I was quite happy", "we were happy"]
    bad = [f"{who} would {no} recommend it" for who in ("I", "we") for no in ("not", "never")]
    bad += [f"{who} would {no} {about.deed[0]}" for who in ("I", "we") for no in ("not", "never")]
    bad += [
        f"it was {_article(word)} {word} {noun}"
        for word in lexicon.GENERAL.bad + lexicon.GENERAL.awful
    ]
    bad += [f"it was not a good {noun}", "it was not worth the money"]
    bad += ["I was very upset", "we were angry", "we were unhappy"]
    half = len(about.intro) // 2
    heads, tails = (
        tuple(map(" ".join, product(*parts))) for parts in (about.intro[:half], about.intro[half:])
    )
    return Phrases(
        aspects=tuple(about.aspects),
        about={aspect: _clauses(subject, aspect) for aspect in about.aspects},
        heads=heads,
        tails=tails,
        praise=_conclude(OPENERS[:2], praise),
        good_verdicts=_conclude(OPENERS, good + praise),
        bad_verdicts=_conclude(OPENERS, bad),
    )


def _conclude(openers: Iterable[str], verdicts: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{opener}, {verdict}." for opener, verdict in product(openers, verdicts))


def _clauses(subject: str, aspect: str) -> AspectPhrases:
    bare = aspect in lexicon.SUBJECTS[subject].plurals or aspect in lexicon.MASS
    good, great, bad, awful = adjectives(lexicon.SUBJECTS[subject].aspects[aspect])
    was = f"the {aspect} {verb_of(subject, aspect)}"

    def had(words: str) -> str:
        return f"it had {words if bare else f'{_article(words)} {words}'} {aspect}"

    warmly = [f"{was} {degree} {word}" for word in good for degree in ("very", "really")]
    strongly = [f"{was} {word}" for word in great] + [had(word) for word in great]
    strongly += [f"{was} never {word}" for word in bad]
    gladly = [f"{who} loved the {aspect}" for who in ("I", "we")]
    gladly += [
        f"{who} really {verb} the {aspect}" for who in ("I", "we") for verb in ("liked", "enjoyed")
    ]
    gladly += [f"the {aspect} really impressed us", f"the {aspect} never disappointed us"]

    mild = 3 * [f"{was} {word}" for word in good]
    mild += [f"{was} {degree} {word}" for word in good for degree in ("quite", "rather")]
    mild += [had(word) for word in good]
    mild += [f"{was} {one} and {two}" for one, two in pairwise((*good, good[0]))]
    mild += [f"{was} {one} but {two}" for one, two in zip(bad, good, strict=False)]
    mild += [f"{was} {no} {word}" for word in bad for no in ("not", "not at all")]
    mild += [f"{who} {verb} the {aspect}" for who in ("I", "we") for verb in ("liked", "enjoyed")]
    mild += [f"the {aspect} {verb} us" for verb in ("impressed", "pleased", "charmed")]
    mild += [f"the {aspect} did not {verb} us" for verb in ("disappoint", "annoy")]
    mild += [f"{was} {word} than expected" for word in ("better", "even better", "nicer")]

    poor = 3 * [f"{was} {word}" for word in bad] + [f"{was} {word}" for word in awful]
    poor += [f"{was} {degree} {word}" for word in bad for degree in ("very", "quite", "a bit")]
    poor += [had(word) for word in bad + awful]
    poor += [f"{was} {one} and {two}" for one, two in pairwise((*bad, bad[0]))]
    poor += [f"{was} {one} but {two}" for one, two in zip(good, bad, strict=False)]
    poor += [f"{was} {no} {word}" for word in good for no in ("not", "not very", "never")]
    poor += [f"{was} neither {one} nor {two}" for one, two in pairwise(good)]
    poor += [
        f"{who} {verb} the {aspect}"
        for who in ("I", "we")
        for verb in ("disliked", "hated", "regretted")
    ]
    poor += [
        f"{who} did not {verb} the {aspect}" for who in ("I", "we") for verb in ("like", "enjoy")
    ]
    poor += [f"the {aspect} {verb} us" for verb in ("annoyed", "disappointed", "bothered")]
    poor += [f"the {aspect} did not impress us", f"{was} worse than expected"]

    def cased(clauses: list[str]) -> tuple[Clause, ...]:
        return tuple((clause, clause[0].upper() + clause[1:]) for clause in clauses)

    return AspectPhrases(
        warmly=cased(warmly),
        strongly=cased(strongly),
        gladly=cased(gladly),
        good=cased(mild + warmly + strongly + gladly),
        bad=cased(poor),
        good_words=tuple(good),
        bad_words=tuple(bad),
    )
