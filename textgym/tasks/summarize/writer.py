"""Writers of stories and of summaries, those that do not understand them among them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from textgym.data.rows import Row
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
    PLACES,
    THING,
    THINGS,
    TURNED,
    VERB,
    WHO,
    WHOM,
    Fact,
)
from textgym.tasks.words import MEN

Draw = Callable[[], float]

_Pattern = tuple[str, tuple[int, ...]]
"""How a sentence is formatted, and which parts of the fact it names, in order."""

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
"""What follows a verb and its object; ``find in`` is a find with its place."""

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
"""What may be said to have happened on a summer day; that a house is dark may not."""
_DELIBERATE = {*_ACTIVE} - {"lose", "find", "find in"}
"""What may be done quickly or quietly."""
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
    """Tell facts one sentence each, as stories do.

    Args:
        facts: What to tell, in order.
        level: From 2 on things are told from both sides ("was sold", "bought"), and from 3 on
            pronouns are used where `summarize_reader.read` understands them.
        draw: The source of chance.
        wordy: How often a sentence begins with when or how.

    Returns:
        Sentences, each with a space before it.
    """
    last: dict[str, str] = {}  # whom a pronoun stands for
    recent: list[str] = []  # who was in the last sentence about anybody
    seen: list[str] = []
    text = ""
    for fact in facts:
        kind = _kind(fact)
        active = event = kind in _ACTIVE
        if event:
            active = level < 2 or draw() < 0.65
            forms = _ACTIVE[kind] if active else _OTHER[kind]
            pattern, roles = forms[int(draw() * len(forms))]
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
                    look = f"{LOOKS[int(draw() * len(LOOKS))]} " if draw() < wordy else ""
                    words.append(f"a {look}{value}")
                last["it"] = value
                seen.append(value)
                continue
            pronoun = _SEX[value]
            # English readers would wonder which of two men is meant.
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
            words[0] += f" {ADVERBS[int(draw() * len(ADVERBS))]}"
        sentence = pattern.format(*words)
        if kind not in _DATED:
            pass
        elif draw() < wordy:
            sentence = f"{OPENERS[int(draw() * len(OPENERS))]}, {sentence}"
        elif text and draw() < 0.2:
            sentence = f"{LINKS[int(draw() * len(LINKS))]} {sentence}"
        text += f" {sentence[0].upper()}{sentence[1:]}."
        recent = named or recent
    return text


def brief(facts: Sequence[Sequence[str]]) -> str:
    """Tell facts in as few words as it takes: all that somebody did in one sentence."""
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


def _sentences(row: Row) -> list[str]:
    return re.findall(r" [A-Z][^.]*\.", " " + row["prompt"].split("\n")[1])


def _fitting(sentences: list[str], budget: int) -> str:
    """Sentences in order, those left out that there is no room for."""
    text = ""
    for sentence in sentences:
        if len(text.split()) + len(sentence.split()) <= budget:
            text += sentence
    return text


def lead(row: Row, rng: np.random.Generator) -> str:
    """The story's first sentences."""
    return _fitting(_sentences(row), row["budget"])


_CHANGES = {
    past for verbs in (DID, DONE, TURNED) for pasts in verbs.values() for past in pasts
}  # fmt: skip


def extract(row: Row, rng: np.random.Generator) -> str:
    """The sentences with a verb that matters, as they stand, while there is room."""
    return _fitting(
        [one for one in _sentences(row) if _CHANGES.intersection(one[:-1].split())], row["budget"]
    )


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """A summary with lapses: facts left out, put in, exchanged or told wrongly, too many words."""
    draw = iter(rng.random(160).tolist()).__next__
    told: list[Fact] = []
    people = [name for name in PEOPLE if name in row["prompt"]]
    for fact in row["facts"]:
        luck = draw()
        if luck < 0.1:
            continue
        told.append(fact)
        if luck < 0.2:
            told[-1] = wrong = list(fact)
            other = [name for name in people if name not in (fact[WHO], fact[WHOM])]
            if fact[PLACE] and draw() < 0.5:
                wrong[PLACE] = PLACES[int(draw() * len(PLACES))]
            elif other and draw() < 0.7:
                wrong[WHO] = other[int(draw() * len(other))]
            elif fact[WHOM]:
                wrong[WHO], wrong[WHOM] = fact[WHOM], fact[WHO]
    if len(told) > 1 and draw() < 0.1:
        number = int(draw() * (len(told) - 1))
        told[number : number + 2] = told[number + 1], told[number]
    style = draw()
    if style < 0.12 or not told:
        return lead(row, rng)
    if style < 0.2:
        return extract(row, rng)
    if style < 0.7:
        text = brief(told)
        if draw() < 0.2:
            text += narrate([row["others"][int(draw() * len(row["others"]))]], 1, draw, 0.2)
        return text
    if draw() < 0.3:
        others = row["others"]
        told.insert(int(draw() * len(told)), others[int(draw() * len(others))])
    return narrate(told, 3, draw, wordy=0.2)
