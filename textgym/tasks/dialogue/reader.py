"""Parses a turn of the clerk into dialogue acts.

A sentence is split into clauses. In a clause every name, number, day, price and attribute is
replaced by its class, and the result is looked up in a dictionary of the phrases below, where
``(a|b|)`` are alternatives.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from itertools import product
from typing import NamedTuple

from textgym.tasks.dialogue.world import (
    ASK_DAY,
    ASK_NUMBER,
    DAY,
    DAYS,
    DOMAINS,
    KIND,
    NAMES,
    NUMBER,
    NUMBERS,
    PRICE,
    PRICES,
    SPOT,
)
from textgym.tasks.judgement import unreadable

ASK, OFFER, STATE, BOOK, CHANGE, CANCEL, BYE, POLITE, JUNK = (
    "ask", "offer", "state", "book", "change", "cancel", "bye", "polite", "junk",
)  # fmt: skip


class Act(NamedTuple):
    """The dialogue act of a clause.

    Attributes:
        type: One of the constants above.
        name: The name that it is about, "it", or "".
        slot: The slot that is asked for or stated.
        value: The value that is stated.
        number: The number of people, or "".
        day: The day, or "".
        faults: The faults of nonsense: one, and more for long text.
    """

    type: str
    name: str = ""
    slot: str = ""
    value: str = ""
    number: str = ""
    day: str = ""
    faults: int = 0


def _nonsense(text: str) -> Act:
    return Act(JUNK, faults=unreadable(text))


_MAX_CHARACTERS = 240
"""Longer turns are nonsense."""

_MAX_SENTENCES = 6
"""Further sentences of a turn are nonsense."""

_SENTENCE = re.compile(r" ([A-Z0-9][^.?!\n]*)([.?!])")
_CHOICE = re.compile(r"\(([^()]*)\)")
_QUESTIONS = re.compile(r", and |, | and ")
_SHORT = re.compile(r"\b(?:([Ii]t|[Tt]hat)'s|(I|[Ww]e|[Yy]ou)'(ve|ll|re))\b")
_IN_FULL = {"ve": "have", "ll": "will", "re": "are"}

_WHAT = "(N|it|the {noun}|your {noun}|your {noun} at N|your booking|the {noun} at N)"
_MANY, _DATE = ("for #", "for # people"), ("on D", "for D")
_TIMES = "|".join(
    [*_MANY, *_DATE]
    + [f"{one} {other}" for one, other in product(_MANY, _DATE)]
    + [f"{one} {other}" for one, other in product(_DATE, _MANY)]
)
_WHEN = f"({_TIMES}|)"
_BECOMES = "(#|# people|D|# on D|# people on D|# for D|D for #|D for # people)"

_STATEMENTS = {
    BOOK: (
        "(booked|reserved) (|you |(a|the|your|you a) {noun} (at|on) )N " + _WHEN,
        "(booked|reserved) (a|the|your|you a) {noun} " + _WHEN + " (at|on) N",
        "(booked|reserved) (|you )(a|the|your) {noun} (for #|for # people) (at|on) N (on|for) D",
        "(booked|reserved) it " + _WHEN,
        "(N|it|(the|your) {noun} (at|on) N) is (|now )(booked|reserved) " + _WHEN,
    ),
    CANCEL: ("cancelled " + _WHAT, _WHAT + " is (|now )cancelled"),
    CHANGE: (
        f"(changed|moved) {_WHAT} to {_BECOMES}",
        f"{_WHAT} is (|now )(changed|moved) to {_BECOMES}",
        f"{_WHAT} is now ({_TIMES})",
    ),
    OFFER: ("(i recommend|i can offer|there is|we have) N", "i can offer you N"),
    BYE: ("goodbye", "bye", "good day", "have a good day"),
    POLITE: (
        "certainly",
        "of course",
        "thank you",
        "you are welcome",
        "very well",
        "yes",
        "sorry",
        "all right",
    ),
}
_STATE_PRICE = ("N (costs|is) P", "it (costs|is) P", "(the|its) price (|of N )is P", "P")
_OFFERS = (
    "(how|what) about N",
    "is N (fine|all right)",
    "would you like N",
    "do you want N",
    "shall i (book|take) N " + _WHEN,
)
_ASKED = "(|and )(|please )X(| would you like| do you want| is it| please)"
_SUBJECTS = (("i", "have"), ("we", "have"), ("i",), ("we",))
_COURTESY = ("certainly", "of course", "yes", "sorry", "very well", "all right", "thank you")


def _options(phrase: str) -> list[str]:
    """All expansions of a phrase with nested alternatives."""
    inner = _CHOICE.search(phrase)
    if inner is None:
        return [" ".join(phrase.split())]
    start, end = inner.span()
    rests = [phrase[:start] + choice + phrase[end:] for choice in inner[1].split("|")]
    return list(dict.fromkeys(option for rest in rests for option in _options(rest)))


class _Language(NamedTuple):
    """The phrases of a domain.

    Attributes:
        classes: The class of each word that is a value.
        statements: The type of act and the slot (or "") of each clause.
        offers: Questions that offer something.
        questions: The slot of each question.
    """

    classes: dict[str, str]
    statements: dict[str, tuple[str, str]]
    offers: frozenset[str]
    questions: dict[str, str]


@cache
def _language(header: str) -> _Language:
    domain = DOMAINS[header]
    classes = (
        dict.fromkeys(NAMES, "N")
        | dict.fromkeys(NUMBERS, "#")
        | dict.fromkeys(DAYS, "D")
        | dict.fromkeys(PRICES, "P")
        | dict.fromkeys(domain.kinds, "A")
        | dict.fromkeys(domain.spots, "B")
    )
    statements: dict[str, tuple[str, str]] = {}
    for slot, phrases in (
        (KIND, domain.state_kind),
        (SPOT, domain.state_spot),
        (PRICE, _STATE_PRICE),
    ):
        for phrase in phrases:
            for option in _options(phrase.replace("{noun}", domain.noun)):
                statements[option] = STATE, slot
                if option.startswith("N "):
                    statements[f"it {option[2:]}"] = STATE, slot
    for act, phrases in _STATEMENTS.items():
        for phrase in phrases:
            for option in _options(phrase.replace("{noun}", domain.noun)):
                statements[option] = act, ""
    questions = {}
    for slot, phrases in (
        (KIND, domain.ask_kind),
        (SPOT, domain.ask_spot),
        (NUMBER, ASK_NUMBER),
        (DAY, ASK_DAY),
    ):
        for phrase in phrases:
            for option in _options(_ASKED.replace("X", phrase)):
                questions[option] = slot
    offers = frozenset(option for phrase in _OFFERS for option in _options(phrase))
    return _Language(classes, statements, offers, questions)


def read(header: str, turn: str) -> tuple[Act, ...]:
    """The dialogue acts of a turn, one per clause.

    Args:
        header: The domain.
        turn: Sentences, separated by single spaces; surrounding white space is ignored.
    """
    text = f" {turn.strip()}"
    return _read(header, text) if len(text) <= _MAX_CHARACTERS else (_nonsense(text),)


@lru_cache(maxsize=8192)  # an environment and its score read the same turns
def _read(header: str, text: str) -> tuple[Act, ...]:
    language = _language(header)
    if "'" in text:
        text = _SHORT.sub(_in_full, text)
    acts: list[Act] = []
    end = 0
    for number, match in enumerate(_SENTENCE.finditer(text)):
        if match.start() != end or number == _MAX_SENTENCES:
            break
        end = match.end()
        sentence, mark = match.groups()
        acts += (_question if mark == "?" else _statement)(language, sentence)
    if end != len(text) or not acts:
        acts.append(_nonsense(text[end:]))
    return tuple(acts)


def _in_full(short: re.Match[str]) -> str:
    return f"{short[1]} is" if short[1] else f"{short[2]} {_IN_FULL[short[3]]}"


def _uncapitalized(sentence: str) -> str:
    """A sentence without its capital, unless it begins with a name."""
    first = sentence.partition(" ")[0]
    if first in NAMES or first in DAYS:
        return sentence
    return sentence[0].lower() + sentence[1:]


def _question(language: _Language, sentence: str) -> list[Act]:
    sentence = _uncapitalized(sentence)
    first, *others = _QUESTIONS.split(sentence)
    slots = [language.questions.get(part) for part in (first, *others)]
    if None not in slots and not any(part.startswith("and ") for part in others):
        return [Act(ASK, slot=slot) for slot in slots if slot]
    phrase, values = _classify(language, sentence.split(" "))
    if phrase in language.offers:
        return [Act(OFFER, values["N"])]
    return [_nonsense(sentence)]


def _statement(language: _Language, sentence: str) -> list[Act]:
    sentence = _uncapitalized(sentence)
    start, comma, rest = sentence.partition(", ")
    if comma and start in _COURTESY and rest:
        sentence = rest if rest[0] != "I" else "i" + rest[1:]
    clauses = sentence.split(" and ")
    acts: list[Act] = []
    promised = False
    for number, clause in enumerate(clauses):
        words = clause.split(" ")
        words[0] = _FIRST.get(words[0], words[0])
        if words[0] in ("i", "we"):
            promised = words[1:2] == ["will"]
            if promised:
                del words[1]
        if promised:  # "I will book" counts as "I have booked"
            verb = words[0] in ("i", "we")
            if len(words) == verb or words[verb] not in _PROMISES:
                return [_nonsense(sentence)]
            words[verb] = _PROMISES[words[verb]]
        active = ""
        for subject in _SUBJECTS:
            if tuple(words[: len(subject)]) == subject and words[len(subject) :]:
                active = words[len(subject)]
                break
        if active in _ACTIVE:
            words = words[len(subject) :]
        elif not number and words[0] in _ACTIVE:
            return [_nonsense(sentence)]  # "Booked Rosa" lacks a subject
        phrase, values = _classify(language, words)
        found = language.statements.get(phrase)
        if found is None:
            return [_nonsense(sentence)]
        act, slot = found
        if act == STATE:
            value = values[{KIND: "A", SPOT: "B", PRICE: "P"}[slot]]
            acts.append(Act(STATE, values.get("N", "it"), slot, value))
        elif act in (BYE, POLITE):
            acts.append(Act(act))
        else:
            name = values.get("N", "it")
            acts.append(Act(act, name, "", "", values.get("#", ""), values.get("D", "")))
    return acts


_FIRST = {"I": "i", "that": "it"}
_PROMISES = {
    "book": "booked",
    "reserve": "reserved",
    "cancel": "cancelled",
    "change": "changed",
    "move": "moved",
}
_ACTIVE = frozenset(("booked", "reserved", "cancelled", "changed", "moved"))


def _classify(language: _Language, words: list[str]) -> tuple[str, dict[str, str]]:
    """Replace values by their classes; returns the phrase, and the values by class."""
    classes = language.classes
    values: dict[str, str] = {}
    phrase = []
    for word in words:
        kind = classes.get(word)
        if kind is None:
            phrase.append(word)
        else:
            values[kind] = word
            phrase.append(kind)
    return " ".join(phrase), values
