"""Writes facts as a story or as a brief summary."""

from __future__ import annotations

import re
from collections.abc import Sequence

from textgym.tasks.random_draws import Draw, pick
from textgym.tasks.summarize.grammar import (
    ADVERBS,
    DID,
    DONE,
    IDLE,
    IDLE_AT,
    LINKS,
    LOOKS,
    OPENERS,
    PEOPLE,
    PLACE,
    THING,
    THINGS,
    TURNED,
    VERB,
    WHO,
    WHOM,
)
from textgym.tasks.words import MEN

_Pattern = tuple[str, tuple[int, ...]]
"""The format of a sentence, and the parts of the fact that fill it, in order."""

_ROLES = {"who": WHO, "thing": THING, "whom": WHOM, "place": PLACE}


def _pattern(text: str) -> _Pattern:
    roles = tuple(_ROLES[slot] for slot in re.findall(r"<(\w+)>", text))
    return re.sub(r"<\w+>", "{}", text), roles


_REST = {
    "lose": "",
    "find": "",
    "find in": " in the <place>",
    "steal": " from <whom>",
    "hide": " in the <place>",
    "break": "",
    "mend": "",
    "sell": " to <whom>",
    "give": " to <whom>",
    "carry": " to the <place>",
}
"""The words after a verb and its object; ``find in`` is a find with its place."""

_ACTIVE = {
    verb: [_pattern(f"<who> {past} <thing>{rest}") for past in DID[verb.split()[0]]]
    for verb, rest in _REST.items()
}
_OTHER = {
    verb: [_pattern(f"<thing> was {past}{rest} by <who>") for past in DONE[verb.split()[0]]]
    + [_pattern(f"<whom> {past} <thing> from <who>") for past in TURNED.get(verb, ())]
    for verb, rest in _REST.items()
}
_PADDING = (
    {deed: _pattern(f"<who> {deed}") for deed in IDLE}
    | {verb: _pattern(f"<who> {deed} <place>") for verb, deed in IDLE_AT.items()}
    | {f"want {verb}": _pattern(f"<who> wanted to {verb} <thing>") for verb in DID}
    | {f"not {verb}": _pattern(f"<who> did not {verb} <thing>") for verb in DID}
    | {"like": _pattern("<who> liked <thing>")}
)
_DATED = {*_ACTIVE, *IDLE}
"""Events, which may be dated ("One summer day, ..."); states may not."""
_DELIBERATE = {*_ACTIVE} - {"lose", "find", "find in"}
"""Deliberate acts, which may be done quickly or quietly."""
_DEEDS = {
    verb: (text.removeprefix("{} "), roles[1:])
    for verb, [(text, roles), *_] in _ACTIVE.items()
}  # fmt: skip
_SEX = {name: "he" if name in MEN else "she" for name in PEOPLE}
_THINGS = frozenset(THINGS)
_OBJECT = {"he": "him", "she": "her"}


def _kind(fact: Sequence[str]) -> str:
    return "find in" if fact[VERB] == "find" and fact[PLACE] else fact[VERB]


def narrate(facts: Sequence[Sequence[str]], level: int, draw: Draw, wordy: float = 0.5) -> str:
    """Write a story, one sentence per fact.

    Args:
        facts: The facts in order.
        level: At level 2 and above the verbs vary ("was sold", "bought"); at level 3 pronouns are
            used wherever the reader can resolve them.
        draw: Returns uniform random numbers in [0, 1).
        wordy: Probability that a sentence has an opener ("After the storm").

    Returns:
        The sentences, each preceded by a space.
    """
    last: dict[str, str] = {}  # referents of the pronouns
    recent: list[str] = []  # the people of the last sentence that has any
    seen: list[str] = []
    text = ""
    for fact in facts:
        kind = _kind(fact)
        active = event = kind in _ACTIVE
        if event:
            active = level < 2 or draw() < 0.65
            forms = _ACTIVE[kind] if active else _OTHER[kind]
            pattern, roles = pick(forms, draw)
        elif kind in _PADDING:
            pattern, roles = _PADDING[kind]
        elif fact[THING] in _THINGS:
            pattern, roles = f"{{}} was {kind}", (THING,)
        else:
            pattern, roles = f"the {fact[THING] or fact[PLACE]} was {kind}", ()
        words: list[str] = []
        named: list[str] = []
        for role in roles:
            value = fact[role]
            if role == PLACE:
                words.append(value)
                continue
            if role == THING:
                if level > 2 and last.get("it") == value and draw() < 0.7:
                    words.append("it")
                elif not event or value in seen:
                    words.append(f"the {value}")
                else:
                    look = f"{pick(LOOKS, draw)} " if draw() < wordy else ""
                    words.append(f"a {look}{value}")
                last["it"] = value
                seen.append(value)
                continue
            pronoun = _SEX[value]
            # A pronoun would be ambiguous if the last sentence has two men or two women.
            if (
                level > 2
                and last.get(pronoun) == value
                and value in recent
                and [_SEX[name] for name in recent].count(pronoun) == 1
                and draw() < 0.7
            ):
                words.append(_OBJECT[pronoun] if words else pronoun)
            else:
                words.append(value)
            last[pronoun] = value
            named.append(value)
        if active and kind in _DELIBERATE and draw() < 0.25:
            words[0] += f" {pick(ADVERBS, draw)}"
        sentence = pattern.format(*words)
        if kind not in _DATED:
            pass
        elif draw() < wordy:
            sentence = f"{pick(OPENERS, draw)}, {sentence}"
        elif text and draw() < 0.2:
            sentence = f"{pick(LINKS, draw)} {sentence}"
        text += f" {sentence[0].upper()}{sentence[1:]}."
        recent = named or recent
    return text


def brief(facts: Sequence[Sequence[str]]) -> str:
    """Write a summary in as few words as possible: consecutive acts of a person in one sentence."""
    text = who = it = ""
    deeds: list[str] = []
    for fact in facts:
        pattern, roles = _DEEDS[_kind(fact)]
        thing = "it" if fact[THING] == it else f"the {fact[THING]}"
        it = fact[THING]
        deed = pattern.format(*[thing if role == THING else fact[role] for role in roles])
        if fact[WHO] != who:
            text += _sentence(who, deeds)
            who, deeds = fact[WHO], []
        deeds.append(deed)
    return text + _sentence(who, deeds)


def _sentence(who: str, deeds: list[str]) -> str:
    if not deeds:
        return ""
    *first, end = deeds
    return f" {who} {', '.join(first)}{' and ' if first else ''}{end}."
