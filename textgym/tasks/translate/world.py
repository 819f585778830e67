"""Draws random meanings for the translation task."""

from __future__ import annotations

from collections.abc import Sequence

from textgym.tasks.random_draws import Draw, pick
from textgym.tasks.translate.lexicon import (
    ADJECTIVES,
    FUTURE,
    HABIT,
    JOINED,
    NAMES,
    NOUNS,
    NOW,
    NUMBERS,
    OUTDOORS,
    PAST,
    PLACES,
    PRONOUNS,
    VERBS,
)
from textgym.tasks.translate.meaning import Clause, Phrase

_NAMES, _PRONOUNS, _PLACES, _NUMBERS = tuple(NAMES), tuple(PRONOUNS), tuple(PLACES), tuple(NUMBERS)
_PEOPLE = tuple(noun for noun in NOUNS if NOUNS[noun].sort == "person")
_SUITS = {
    sort: tuple(name for name, adjective in ADJECTIVES.items() if sort in adjective.sorts)
    for sort in ("food", "print", "clothes", "thing", "animal", "person")
}
_KINDS = {
    kind: tuple(name for name, verb in VERBS.items() if verb.kind == kind)
    for kind in ("do", "meet", "state", "move", "give", "think")
}
_GIVEN = (*_KINDS["give"], "sell")
_OWNERS = tuple(f"{one}'s" for one in (*_PRONOUNS, *_PRONOUNS, *_NAMES))
_COUNTS = (*_NUMBERS, "a", "a", "many", "some")
_DEFINITE = ("this", "that", "these", "those", "own", "own", "own", "own")
_TELLING = (*_COUNTS, *_DEFINITE)
_DOUBTFUL = ("any", "any", "any", "this", "that", "own", "own")
_TAKERS = {
    noun: tuple(verb for verb in _KINDS["do"] if noun in VERBS[verb].nouns) for noun in NOUNS
}
_YOUNG = ("teacher", "student", "boy", "girl")  # 老老师 and 老男孩 are unidiomatic
_RELATED = ("friend", "neighbour", "teacher", "doctor")
_JOINED = tuple(name for name, adj in ADJECTIVES.items() if adj.chinese[0] in JOINED)
_REASONS = ("cry", "laugh", "rest", "sing", "dance")


def _person(draw: Draw, level: int, avoid: str = "", pronouns: bool = False) -> Phrase:
    """Draw a person other than `avoid`."""
    choice = draw()
    if choice < 0.35:
        head = pick(_NAMES, draw)
        if head == avoid:
            head = _NAMES[_NAMES.index(head) - 1]
        return Phrase(head)
    if pronouns and choice < 0.5:
        head = pick(_PRONOUNS, draw)
        return Phrase(head, many=head not in ("he", "she"))
    head = pick(_PEOPLE, draw)
    if head == avoid:
        head = _PEOPLE[_PEOPLE.index(head) - 1]
    choice = draw()
    if choice < 0.15:
        return Phrase(head, "plural", many=True)
    if head in _RELATED and (choice < 0.5 or head == "friend"):
        return Phrase(head, pick(_OWNERS[:6], draw))
    if level == 2 and choice < 0.7:
        adj = pick(_SUITS["person"], draw)
        return Phrase(head, "", "clever" if adj == "aged" and head in _YOUNG else adj)
    return Phrase(head)


def _thing(draw: Draw, level: int, clause: Clause) -> Phrase:
    """Draw the object of a clause."""
    head = pick(VERBS[clause.verb].nouns, draw)
    if clause.neg or clause.ask:
        options: Sequence[str] = ("any",) if clause.verb == "have" else _DOUBTFUL
    elif clause.verb in ("have", "like"):
        options = _COUNTS if clause.verb == "have" else _DEFINITE
    else:
        options = _TELLING
    det = pick(options, draw)
    if det == "own":
        det = pick(_OWNERS, draw)
        if clause.agent is not None and det == f"{clause.agent.head}'s":
            det = _OWNERS[(_OWNERS.index(det) + 1) % 6]
    if level == 1 or draw() < 0.3:
        return Phrase(head, det)
    adj = pick(_SUITS[NOUNS[head].sort], draw)
    # 安娜的漂亮的椅子, with two 的, is unidiomatic.
    return Phrase(head, det, "" if det.endswith("'s") and adj not in _JOINED else adj)


def _tense(draw: Draw, level: int, uses: str) -> str:
    choice = draw()
    if level == 2 and choice < 0.18:
        return ("want", "want", "can", "must")[int(choice / 0.045)]
    choice = draw()
    if choice < 0.2:
        return "future"
    if choice < 0.35 and "p" in uses:
        return "progressive"
    if choice < 0.5 and "h" in uses:
        return "present"
    return "past"


_WHEN = {"past": PAST, "present": HABIT, "progressive": NOW}


def draw_clause(
    draw: Draw, level: int, kind: str, plain: bool = False, neg: bool = False
) -> Clause:
    """Draw a clause.

    Args:
        draw: Returns uniform random numbers.
        level: 1 or 2. Level 2 has adjectives, several circumstances and modal verbs.
        kind: The kind of the verb.
        plain: Whether the clause is a short statement, for use in a longer sentence.
        neg: Whether a plain clause is negated.
    """
    clause = Clause(pick(_GIVEN if kind == "give" else _KINDS[kind], draw))
    verb = VERBS[clause.verb]
    clause.tense = "present" if kind == "state" else _tense(draw, level, verb.uses)
    choice = draw()
    clause.neg = neg if plain else choice < 0.18
    clause.ask = not plain and choice > 0.82
    if clause.neg or clause.ask:
        if clause.neg and kind != "state" and clause.tense in ("progressive", "present"):
            clause.tense = "past"
        elif clause.tense == "must":
            clause.tense = "can"
    clause.agent = _person(draw, level, pronouns=True)
    head = clause.agent.head
    if kind == "meet":
        clause.patient = _person(draw, level, avoid=head)
    elif kind != "move":
        clause.patient = _thing(draw, level, clause)
    if kind == "give":
        clause.to = _person(draw, 1, avoid=head)
    if kind != "state":
        _circumstances(draw, level, clause, plain)
    return clause


def _circumstances(draw: Draw, level: int, clause: Clause, plain: bool) -> None:
    """Draw up to `level` circumstances: time, place, companion or beneficiary."""
    verb, left = VERBS[clause.verb], level
    habit = clause.tense == "present"
    if habit or draw() < (0.25 if plain else 0.6):
        clause.time = pick(_WHEN.get(clause.tense, FUTURE), draw)
        clause.front = not clause.ask and draw() < 0.35
        left -= 1
    if plain:
        return
    if left and level == 2 and clause.to is None and draw() < 0.25:
        person = _person(draw, 1, avoid=clause.agent.head if clause.agent else "")
        # A person must not occur twice in a clause, which would be ambiguous in both languages.
        if clause.patient is None or person.head != clause.patient.head:
            if "f" in verb.uses:
                clause.benefit = person
                left -= 1
            elif "p" in verb.uses:
                clause.company = person
                left -= 1
    crowded = clause.tense == "progressive" and clause.company is not None
    if left and not crowded and (draw() < 0.6 or verb.kind == "move"):
        clause.place = pick(OUTDOORS if verb.outdoors else _PLACES, draw)


def draw_sentence(draw: Draw, level: int) -> Clause:
    """Draw the meaning of a sentence of a level."""
    choice = draw()
    if level == 1:
        kind = "move" if choice < 0.15 else "state" if choice < 0.3 else "meet"
        return draw_clause(draw, 1, "do" if choice > 0.45 else kind)
    if level == 2:
        kind = "move" if choice < 0.1 else "state" if choice < 0.2 else "meet"
        return draw_clause(draw, 2, "do" if choice > 0.5 else "give" if choice > 0.3 else kind)
    if choice < 0.4:
        return _with_relative(draw, choice)
    if choice < 0.7:
        clause = _plain(draw)
        clause.front = False
        for _ in range(2 if choice < 0.48 else 1):
            inner = clause.agent.head if clause.agent else ""
            agent = _person(draw, 1, avoid=inner, pronouns=inner not in PRONOUNS)
            verb = pick(_KINDS["think"], draw)
            clause = Clause(verb, "present", agent=agent, link="that", other=clause)
        return clause
    if choice < 0.85:
        clause = _plain(draw)
        clause.link, clause.other = "but", _plain(draw, neg=True)
        return clause
    clause = Clause(pick(_REASONS, draw), agent=_person(draw, 1, pronouns=True))
    reason = _happened(_plain(draw))
    if reason.tense == "future":
        reason.tense, reason.time, reason.front = "past", "", False
    clause.link, clause.other = "because", reason
    return clause


def _plain(draw: Draw, neg: bool = False) -> Clause:
    return draw_clause(draw, 1, "meet" if draw() < 0.3 else "do", plain=True, neg=neg)


def _happened(clause: Clause) -> Clause:
    """Turn a clause into a single event."""
    if clause.tense not in ("past", "future"):
        clause.tense, clause.time, clause.front = "past", "", False
    return clause


def _with_relative(draw: Draw, choice: float) -> Clause:
    """Draw a clause with a relative clause, of its subject if `choice` < 0.12, else of its object.

    The time is placed away from the relative clause, next to which it would be ambiguous.
    """
    clause = _happened(_plain(draw))
    clause.front = bool(clause.time) and choice >= 0.12
    if choice < 0.12 or VERBS[clause.verb].kind == "meet":
        inner = Clause(pick(_KINDS["do"], draw))
        inner.patient = _thing(draw, 1, inner)
        noun = Phrase(pick(_PEOPLE, draw), that=inner)
        if choice >= 0.12:
            clause.patient = noun
            if clause.agent is not None and clause.agent.head == noun.head:
                clause.agent = Phrase(pick(_NAMES, draw))
            return clause
        if clause.patient is not None and clause.patient.head == noun.head:
            clause.patient = Phrase(pick(_NAMES, draw))
        clause.agent = noun
        return clause
    if clause.patient is not None:
        head = clause.patient.head
        agent = _person(draw, 1, avoid=clause.agent.head if clause.agent else "", pronouns=True)
        inner = Clause(pick(_TAKERS[head], draw), agent=agent)
        if not clause.time and draw() < 0.4:
            inner.time = pick(PAST, draw)
        adj = pick(_SUITS[NOUNS[head].sort], draw) if draw() < 0.3 else ""
        clause.patient = Phrase(head, "", adj, inner)
    return clause
