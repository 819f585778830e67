"""Makes up meanings for the translation task: what people did, when, where and to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

Chance = Callable[[], float]
"""Makes a new number in [0, 1)."""

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
_YOUNG = ("teacher", "student", "boy", "girl")  # 老老师 and 老男孩 are no good Chinese
_RELATED = ("friend", "neighbour", "teacher", "doctor")
_JOINED = tuple(name for name, adj in ADJECTIVES.items() if adj.chinese[0] in JOINED)
_REASONS = ("cry", "laugh", "rest", "sing", "dance")


def _pick(u: Chance, options: Sequence[str]) -> str:
    return options[int(u() * len(options))]


def _person(u: Chance, level: int, avoid: str = "", pronouns: bool = False) -> Phrase:
    """Somebody other than `avoid`."""
    luck = u()
    if luck < 0.35:
        head = _pick(u, _NAMES)
        if head == avoid:
            head = _NAMES[_NAMES.index(head) - 1]
        return Phrase(head)
    if pronouns and luck < 0.5:
        head = _pick(u, _PRONOUNS)
        return Phrase(head, many=head not in ("he", "she"))
    head = _pick(u, _PEOPLE)
    if head == avoid:
        head = _PEOPLE[_PEOPLE.index(head) - 1]
    luck = u()
    if luck < 0.15:
        return Phrase(head, "plural", many=True)
    if head in _RELATED and (luck < 0.5 or head == "friend"):
        return Phrase(head, _pick(u, _OWNERS[:6]))
    if level == 2 and luck < 0.7:
        adj = _pick(u, _SUITS["person"])
        return Phrase(head, "", "clever" if adj == "aged" and head in _YOUNG else adj)
    return Phrase(head)


def _thing(u: Chance, level: int, clause: Clause) -> Phrase:
    """The object of a clause with a verb that takes things."""
    head = _pick(u, VERBS[clause.verb].nouns)
    if clause.neg or clause.ask:
        options: Sequence[str] = ("any",) if clause.verb == "have" else _DOUBTFUL
    elif clause.verb in ("have", "like"):
        options = _COUNTS if clause.verb == "have" else _DEFINITE
    else:
        options = _TELLING
    det = _pick(u, options)
    if det == "own":
        det = _pick(u, _OWNERS)
        if clause.agent is not None and det == f"{clause.agent.head}'s":
            det = _OWNERS[(_OWNERS.index(det) + 1) % 6]
    if level == 1 or u() < 0.3:
        return Phrase(head, det)
    adj = _pick(u, _SUITS[NOUNS[head].sort])
    # 安娜的漂亮的椅子 has one 的 too many to be good Chinese.
    return Phrase(head, det, "" if det.endswith("'s") and adj not in _JOINED else adj)


def _tense(u: Chance, level: int, uses: str) -> str:
    luck = u()
    if level == 2 and luck < 0.18:
        return ("want", "want", "can", "must")[int(luck / 0.045)]
    luck = u()
    if luck < 0.2:
        return "future"
    if luck < 0.35 and "p" in uses:
        return "progressive"
    if luck < 0.5 and "h" in uses:
        return "present"
    return "past"


_WHEN = {"past": PAST, "present": HABIT, "progressive": NOW}


def draw_clause(u: Chance, level: int, kind: str, plain: bool = False, neg: bool = False) -> Clause:
    """Make up a clause.

    Args:
        u: Where chance comes from.
        level: 1 or 2: whether there are adjectives, several circumstances and modal verbs.
        kind: The kind of verb.
        plain: Whether it is a short statement, as a part of a longer sentence.
        neg: Whether a plain clause is negative.
    """
    clause = Clause(_pick(u, _GIVEN if kind == "give" else _KINDS[kind]))
    verb = VERBS[clause.verb]
    clause.tense = "present" if kind == "state" else _tense(u, level, verb.uses)
    luck = u()
    clause.neg = neg if plain else luck < 0.18
    clause.ask = not plain and luck > 0.82
    if clause.neg or clause.ask:
        if clause.neg and kind != "state" and clause.tense in ("progressive", "present"):
            clause.tense = "past"
        elif clause.tense == "must":
            clause.tense = "can"
    clause.agent = _person(u, level, pronouns=True)
    head = clause.agent.head
    if kind == "meet":
        clause.patient = _person(u, level, avoid=head)
    elif kind != "move":
        clause.patient = _thing(u, level, clause)
    if kind == "give":
        clause.to = _person(u, 1, avoid=head)
    if kind != "state":
        _circumstances(u, level, clause, plain)
    return clause


def _circumstances(u: Chance, level: int, clause: Clause, plain: bool) -> None:
    """Say when, where, with whom and for whom; at most one of them at level 1, or two."""
    verb, left = VERBS[clause.verb], level
    habit = clause.tense == "present"
    if habit or u() < (0.25 if plain else 0.6):
        clause.time = _pick(u, _WHEN.get(clause.tense, FUTURE))
        clause.front = not clause.ask and u() < 0.35
        left -= 1
    if plain:
        return
    if left and level == 2 and clause.to is None and u() < 0.25:
        somebody = _person(u, 1, avoid=clause.agent.head if clause.agent else "")
        # Somebody must not stand twice in a clause: neither language could tell the two apart.
        if clause.patient is None or somebody.head != clause.patient.head:
            if "f" in verb.uses:
                clause.benefit = somebody
                left -= 1
            elif "p" in verb.uses:
                clause.company = somebody
                left -= 1
    crowded = clause.tense == "progressive" and clause.company is not None
    if left and not crowded and (u() < 0.6 or verb.kind == "move"):
        clause.place = _pick(u, OUTDOORS if verb.outdoors else _PLACES)


def draw_sentence(u: Chance, level: int) -> Clause:
    """Make up the meaning of a sentence of one level."""
    luck = u()
    if level == 1:
        kind = "move" if luck < 0.15 else "state" if luck < 0.3 else "meet"
        return draw_clause(u, 1, "do" if luck > 0.45 else kind)
    if level == 2:
        kind = "move" if luck < 0.1 else "state" if luck < 0.2 else "meet"
        return draw_clause(u, 2, "do" if luck > 0.5 else "give" if luck > 0.3 else kind)
    if luck < 0.4:
        return _with_relative(u, luck)
    if luck < 0.7:
        clause = _plain(u)
        clause.front = False
        for _ in range(2 if luck < 0.48 else 1):
            inner = clause.agent.head if clause.agent else ""
            agent = _person(u, 1, avoid=inner, pronouns=inner not in PRONOUNS)
            verb = _pick(u, _KINDS["think"])
            clause = Clause(verb, "present", agent=agent, link="that", other=clause)
        return clause
    if luck < 0.85:
        clause = _plain(u)
        clause.link, clause.other = "but", _plain(u, neg=True)
        return clause
    clause = Clause(_pick(u, _REASONS), agent=_person(u, 1, pronouns=True))
    reason = _happened(_plain(u))
    if reason.tense == "future":
        reason.tense, reason.time, reason.front = "past", "", False
    clause.link, clause.other = "because", reason
    return clause


def _plain(u: Chance, neg: bool = False) -> Clause:
    return draw_clause(u, 1, "meet" if u() < 0.3 else "do", plain=True, neg=neg)


def _happened(clause: Clause) -> Clause:
    """The same as a single event."""
    if clause.tense not in ("past", "future"):
        clause.tense, clause.time, clause.front = "past", "", False
    return clause


def _with_relative(u: Chance, luck: float) -> Clause:
    """A clause with a relative clause: of its subject (luck < 0.12), or else of its object.

    When something happens stands as far from the relative clause as can be: beside it, nobody
    could tell which of the two clauses is meant.
    """
    clause = _happened(_plain(u))
    clause.front = bool(clause.time) and luck >= 0.12
    if luck < 0.12 or VERBS[clause.verb].kind == "meet":
        inner = Clause(_pick(u, _KINDS["do"]))
        inner.patient = _thing(u, 1, inner)
        noun = Phrase(_pick(u, _PEOPLE), that=inner)
        if luck >= 0.12:
            clause.patient = noun
            if clause.agent is not None and clause.agent.head == noun.head:
                clause.agent = Phrase(_pick(u, _NAMES))
            return clause
        if clause.patient is not None and clause.patient.head == noun.head:
            clause.patient = Phrase(_pick(u, _NAMES))
        clause.agent = noun
        return clause
    if clause.patient is not None:
        head = clause.patient.head
        agent = _person(u, 1, avoid=clause.agent.head if clause.agent else "", pronouns=True)
        inner = Clause(_pick(u, _TAKERS[head]), agent=agent)
        if not clause.time and u() < 0.4:
            inner.time = _pick(u, PAST)
        adj = _pick(u, _SUITS[NOUNS[head].sort]) if u() < 0.3 else ""
        clause.patient = Phrase(head, "", adj, inner)
    return clause
