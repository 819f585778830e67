"""The accepted forms of answers and abstentions.

All forms are enumerated, so a second answer, another word order or extra words are wrong.
Insignificant differences are normalised first: a final full stop (but see `_NEEDS_STOP`), "isn't"
and "is not", straight and curly apostrophes, "at the" and "in the", digits and number words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from textgym.tasks.qa.world import AN, NUMBERS, PRONOUNS

ABSTENTIONS = (
    "I do not know", "I don't know", "I cannot tell", "I can't tell", "I cannot say",
    "I am not sure", "We do not know", "We cannot know", "Nobody knows", "No one knows",
    "The story does not say", "The story does not tell", "The text does not say",
    "The text does not tell", "The context does not say", "It does not say",
    "We cannot tell", "We cannot say", "I cannot know", "Don't know", "It is not told",
    "It is not said", "It is unknown", "It is not known", "Unknown",
    "Not known", "Not given", "No answer", "There is no answer", "Unanswerable",
    "It is unanswerable", "Cannot be answered", "It cannot be answered",
    "Not enough information",
)  # fmt: skip
_MAX_CHARACTERS = 120
"""No accepted form is longer."""


def _he(who: str) -> str:
    return PRONOUNS.get(who, "it" if who.startswith("the ") else "he")


def _where(about: Sequence[str], answer: str, verb: str = "is") -> tuple[str, ...]:
    who, there = about[0], f"in the {answer}"
    return (
        f"{who} {verb} {there}.",
        f"{_he(who)} {verb} {there}.",
        there,
        f"the {answer}",
        answer,
    )


def _was(about: Sequence[str], answer: str) -> tuple[str, ...]:
    return _where(about, answer, "was")


def _has(about: Sequence[str], answer: str) -> tuple[str, ...]:
    thing = about[0]
    forms = (f"{answer} has {thing}.", f"{answer} has it.", f"{answer} does.", answer)
    if answer == "nobody":
        return (*forms, f"no one has {thing}.", "no one has it.", "no one does.", "no one")
    return forms


def _holds(about: Sequence[str], answer: str) -> tuple[str, ...]:
    who = about[0]
    the, an = f"the {answer}", AN.get(answer, f"a {answer}")
    he = _he(who)
    return (
        f"{who} has {the}.",
        f"{who} has {an}.",
        f"{he} has {the}.",
        f"{he} has {an}.",
        the,
        an,
        answer,
    )


def _count(about: Sequence[str], answer: str) -> tuple[str, ...]:
    who = about[0]
    he = _he(who)
    if answer == "none":
        nothing = ("nothing", "no things", "none", "0 things")
        return (*[f"{one} has {no}." for one in (who, he) for no in nothing], *nothing, "zero", "0")
    things = f"{answer} thing" if answer == "one" else f"{answer} things"
    digit = str(NUMBERS.index(answer)) if answer in NUMBERS else answer
    return (
        f"{who} has {things}.",
        f"{he} has {things}.",
        f"{who} has {answer}.",
        f"{he} has {answer}.",
        things,
        answer,
        digit,
    )


def _is(about: Sequence[str], answer: str) -> tuple[str, ...]:
    who, place = about
    verb = "is" if answer == "yes" else "is not"
    fact = f"{who} {verb} in the {place}."
    he = _he(who)
    return (
        f"{answer}, {fact}",
        f"{answer}, {he} {verb} in the {place}.",
        f"{answer}, {he} {verb}.",
        fact,
        answer,
    )


def _giver(about: Sequence[str], answer: str) -> tuple[str, ...]:
    thing, whom = about
    return (
        f"{answer} gave {thing} to {whom}.",
        f"{answer} gave {whom} {thing}.",
        f"{answer} did.",
        answer,
    )


def _receiver(about: Sequence[str], answer: str) -> tuple[str, ...]:
    who, thing = about
    he = _he(who)
    return (
        f"{who} gave {thing} to {answer}.",
        f"{who} gave {answer} {thing}.",
        f"{he} gave {thing} to {answer}.",
        f"{he} gave it to {answer}.",
        f"to {answer}",
        answer,
    )


def _gift(about: Sequence[str], answer: str) -> tuple[str, ...]:
    who, whom = about
    thing = f"the {answer}"
    return (
        f"{who} gave {thing} to {whom}.",
        f"{who} gave {whom} {thing}.",
        thing,
        AN.get(answer, f"a {answer}"),
        answer,
    )


KINDS: dict[str, Callable[[Sequence[str], str], tuple[str, ...]]] = {
    "where": _where,
    "was": _was,
    "has": _has,
    "holds": _holds,
    "count": _count,
    "is": _is,
    "giver": _giver,
    "receiver": _receiver,
    "gift": _gift,
}
"""The forms of a right answer by kind of question, the whole sentence first."""


def completion_of(form: str) -> str:
    """A form as a completion: a space, a capital letter, a full stop."""
    return f" {form[0].upper()}{form[1:].removesuffix('.')}."


def capitalized(completion: str) -> str:
    """The text without surrounding white space, with a capital letter; empty if it is too long."""
    if len(completion) > _MAX_CHARACTERS:
        return ""
    text = completion.strip()
    return text[:1].upper() + text[1:]


_CONTRACTIONS = (
    ("can't", "cannot"), ("can not", "cannot"), ("Can't", "Cannot"), ("Can not", "Cannot"),
    ("n't", " not"), ("'s got ", " has "), ("'s ", " is "), ("I'm ", "I am "),
)  # fmt: skip
_DIGITS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_NEEDS_STOP = frozenset(("has", "holds", "count"))
"""Kinds whose sentences need a full stop: the words of "Ann has the vase" are in alphabetical
order, and sorted words have to score 0 (see `textgym.testing.check_task`)."""

_NUMBER = re.compile(rf"\b(?:{'|'.join(_DIGITS)})\b", re.IGNORECASE)


def _normalize(text: str) -> str:
    """The text without a final full stop and without contractions."""
    text = text.removesuffix(".").replace("\u2019", "'")
    if "'" in text or "an not " in text:
        for short, full in _CONTRACTIONS:
            text = text.replace(short, full)
    return text


_NORMALIZED_ABSTENTIONS = frozenset(_normalize(text).lower() for text in ABSTENTIONS)


def abstains(text: str) -> bool:
    """Whether a text, as `capitalized` returns it, is an abstention."""
    return _normalize(text).lower() in _NORMALIZED_ABSTENTIONS


def _in_digits(text: str) -> str:
    return _NUMBER.sub(lambda found: _DIGITS[found[0].lower()], text)


def is_right(text: str, kind: str, about: Sequence[str], answer: str) -> bool:
    """Whether a text, as `capitalized` returns it, is a form of the right answer."""
    forms: Sequence[str] = KINDS[kind](about, answer)
    if kind in _NEEDS_STOP and not text.endswith("."):
        forms = [form for form in forms if not form.endswith(".")]
    forms = [form[0].upper() + form[1:].removesuffix(".") for form in forms]
    text = _normalize(text)
    if text in forms:
        return True
    if kind == "count":
        return _in_digits(text) in [_in_digits(form) for form in forms]
    return re.sub(r"\bat the ", "in the ", re.sub("^At the ", "In the ", text)) in forms
