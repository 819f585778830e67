"""Understands a clerk: the acts of one turn.

A sentence is cut into clauses. In a clause every name, number, day, price and attribute is replaced
by its class, and what is left has to be one of the phrases below, in which ``(a|b|)`` are
alternatives. So a clause is read with one dictionary look-up.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from itertools import product
from typing import NamedTuple

from textgym.tasks.dialogue.database import (
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

ASK, OFFER, TELL, BOOK, CHANGE, CANCEL, BYE, POLITE, JUNK = (
    "ask", "offer", "tell", "book", "change", "cancel", "bye", "polite", "junk",
)  # fmt: skip


class Act(NamedTuple):
    """What one clause does.

    Attributes:
        deed: One of the constants above.
        name: Whom it is about: a name, "it", or "" for nobody.
        slot: The slot that is asked for or told.
        value: The value that is told.
        number: How many people; "" if the clause does not say.
        day: Which day; "" if the clause does not say.
        faults: What nonsense costs: one fault, and more if it is long.
    """

    deed: str
    name: str = ""
    slot: str = ""
    value: str = ""
    number: str = ""
    day: str = ""
    faults: int = 0


def _nonsense(text: str) -> Act:
    return Act(JUNK, faults=unreadable(text))


LONGEST = 240
"""Characters of a turn; a longer one is not understood."""

_MOST = 6
"""Sentences of a turn; so are more."""

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
_TELL_PRICE = ("N (costs|is) P", "it (costs|is) P", "(the|its) price (|of N )is P", "P")
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
    """All readings of a phrase with alternatives, which may stand in one another."""
    inner = _CHOICE.search(phrase)
    if inner is None:
        return [" ".join(phrase.split())]
    start, end = inner.span()
    rests = [phrase[:start] + choice + phrase[end:] for choice in inner[1].split("|")]
    return list(dict.fromkeys(read for rest in rests for read in _options(rest)))


class _Language(NamedTuple):
    """The phrases of a domain.

    Attributes:
        classes: The class of each word that is a value.
        statements: The deed (and for a telling the slot) of each clause of a statement.
        offers: Questions that offer something.
        questions: The slot that each question asks for.
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
        (KIND, domain.tell_kind),
        (SPOT, domain.tell_spot),
        (PRICE, _TELL_PRICE),
    ):
        for phrase in phrases:
            for read in _options(phrase.replace("{noun}", domain.noun)):
                statements[read] = TELL, slot
                if read.startswith("N "):
                    statements[f"it {read[2:]}"] = TELL, slot
    for deed, phrases in _STATEMENTS.items():
        for phrase in phrases:
            for read in _options(phrase.replace("{noun}", domain.noun)):
                statements[read] = deed, ""
    questions = {}
    for slot, phrases in (
        (KIND, domain.ask_kind),
        (SPOT, domain.ask_spot),
        (NUMBER, ASK_NUMBER),
        (DAY, ASK_DAY),
    ):
        for phrase in phrases:
            for read in _options(_ASKED.replace("X", phrase)):
                questions[read] = slot
    offers = frozenset(read for phrase in _OFFERS for read in _options(phrase))
    return _Language(classes, statements, offers, questions)


def read(header: str, turn: str) -> tuple[Act, ...]:
    """What a turn does, clause by clause.

    Args:
        header: The domain.
        turn: What the clerk said: sentences with a space before each. White space around the whole
            does not count.
    """
    text = f" {turn.strip()}"
    return _read(header, text) if len(text) <= LONGEST else (_nonsense(text),)


@lru_cache(maxsize=8192)  # an environment and its score hear the same turns
def _read(header: str, text: str) -> tuple[Act, ...]:
    language = _language(header)
    if "'" in text:
        text = _SHORT.sub(_in_full, text)
    acts: list[Act] = []
    end = 0
    for number, match in enumerate(_SENTENCE.finditer(text)):
        if match.start() != end or number == _MOST:
            break
        end = match.end()
        said, mark = match.groups()
        if mark == "?":
            acts += _question(language, said)
        else:
            acts += _statement(language, said)
    if end != len(text) or not acts:
        acts.append(_nonsense(text[end:]))
    return tuple(acts)


def _in_full(short: re.Match[str]) -> str:
    return f"{short[1]} is" if short[1] else f"{short[2]} {_IN_FULL[short[3]]}"


def _small(said: str) -> str:
    """A sentence without its capital, unless that belongs to a name."""
    first = said.partition(" ")[0]
    return said if first in NAMES or first in DAYS else said[0].lower() + said[1:]


def _question(language: _Language, said: str) -> list[Act]:
    said = _small(said)
    first, *others = _QUESTIONS.split(said)
    slots = [language.questions.get(part) for part in (first, *others)]
    if None not in slots and not any(part.startswith("and ") for part in others):
        return [Act(ASK, slot=slot) for slot in slots if slot]
    phrase, values = _classify(language, said.split(" "))
    if phrase in language.offers:
        return [Act(OFFER, values["N"])]
    return [_nonsense(said)]


def _statement(language: _Language, said: str) -> list[Act]:
    said = _small(said)
    start, comma, rest = said.partition(", ")
    if comma and start in _COURTESY and rest:
        said = rest if rest[0] != "I" else "i" + rest[1:]
    clauses = said.split(" and ")
    acts: list[Act] = []
    promised = False
    for number, clause in enumerate(clauses):
        words = clause.split(" ")
        words[0] = _FIRST.get(words[0], words[0])
        if words[0] in ("i", "we"):
            promised = words[1:2] == ["will"]
            if promised:
                del words[1]
        if promised:  # "I will book" does it, as "I have booked" does
            verb = words[0] in ("i", "we")
            if len(words) == verb or words[verb] not in _PROMISES:
                return [_nonsense(said)]
            words[verb] = _PROMISES[words[verb]]
        active = ""
        for subject in _SUBJECTS:
            if tuple(words[: len(subject)]) == subject and words[len(subject) :]:
                active = words[len(subject)]
                break
        if active in _ACTIVE:
            words = words[len(subject) :]
        elif not number and words[0] in _ACTIVE:
            return [_nonsense(said)]  # "Booked Rosa" wants a subject
        phrase, values = _classify(language, words)
        found = language.statements.get(phrase)
        if found is None:
            return [_nonsense(said)]
        deed, slot = found
        if deed == TELL:
            value = values[{KIND: "A", SPOT: "B", PRICE: "P"}[slot]]
            acts.append(Act(TELL, values.get("N", "it"), slot, value))
        elif deed in (BYE, POLITE):
            acts.append(Act(deed))
        else:
            name = values.get("N", "it")
            acts.append(Act(deed, name, "", "", values.get("#", ""), values.get("D", "")))
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
    """A clause with classes for values, and the values by class."""
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
