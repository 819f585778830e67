"""Draws small knowledge graphs and questions with one answer and one path to it.

A chain of people, each related to the next, is what the question is about. The other facts are made
so that none of them continues the chain where the question does: they have another relation, or
concern other people, or point the other way; or they lead, from the middle of the chain, into a
blind alley.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from textgym.tasks.words import MEN, WOMEN

CITIES = (
    "Lisbon", "Madrid", "Oslo", "Paris", "Rome", "Prague", "Athens", "Porto", "Vienna", "Berlin",
    "Turin", "Seville", "Boston", "Dublin", "Lyon", "Naples",
)  # fmt: skip
_ONE_WAY = ("teacher of", "doctor of", "boss of", "guide of")
_RELATIONS = (
    *("mother of", "father of", "sister of", "brother of", "friend of", "cousin of"),
    *_ONE_WAY,
)
_NEUTRAL = ("friend of", "cousin of", *_ONE_WAY)
_SIBLINGS = ("sister of", "brother of")
_MUTUAL = {"friend of": ("friend of",), "cousin of": ("cousin of",)} | dict.fromkeys(
    _SIBLINGS, _SIBLINGS
)
"""Relations that people understand as mutual, and what holds the other way round."""
_PARENTS = frozenset(("mother of", "father of"))
_FAMILY = _PARENTS | {"sister of", "brother of", "cousin of"}
_FEMALE = frozenset(("mother of", "sister of"))
_MALE = frozenset(("father of", "brother of"))
_IN = ("lives in", "works in")
VARIABLES = "XYZW"
_OTHERS = 4
"""Facts beside those of the path."""


class Rule(NamedTuple):
    """If the relations of `body` hold one after the other, so does `head` of the two ends.

    Attributes:
        body: Relations of each to the next.
        head: What follows.
        turned: Whether it holds of the last to the first.
    """

    body: tuple[str, ...]
    head: str
    turned: bool = False


def _rules() -> dict[int, tuple[Rule, ...]]:
    parents = {"mother of": "grandmother of", "father of": "grandfather of"}
    siblings = {"sister of": "aunt of", "brother of": "uncle of"}
    two = [Rule((one, other), grand) for one, grand in parents.items() for other in parents]
    two += [Rule((one, other), aunt) for one, aunt in siblings.items() for other in parents]
    two += [Rule((one, other), one) for one in parents for other in siblings]
    three = [Rule((a, b, c), grand) for a, grand in parents.items() for b in parents
             for c in siblings]  # fmt: skip
    three += [Rule((a, b, c), aunt) for a, aunt in siblings.items() for b in parents
              for c in siblings]  # fmt: skip
    three += [Rule((a, b, c), "ancestor of") for a in parents for b in parents for c in parents]
    one = [
        Rule(("friend of",), "friend of", True),
        Rule(("cousin of",), "cousin of", True),
        Rule(("mother of",), "child of", True),
        Rule(("father of",), "child of", True),
        Rule(("teacher of",), "student of", True),
        Rule(("brother of",), "relative of"),
        Rule(("sister of",), "relative of"),
    ]
    return {1: tuple(one), 2: tuple(two), 3: tuple(three)}


RULES = _rules()


class Query(NamedTuple):
    """A graph and a question about it.

    Attributes:
        triples: Facts ``[head, relation, tail]``, in the order in which they are told.
        rule: The rule, as text; empty if there is none.
        question: The question.
        steps: How to get from one to the next: ``[relation, 1]`` from head to tail, or
            ``[relation, -1]`` from tail to head.
        path: The start and what each step leads to; the last is the answer.
    """

    triples: list[list[str]]
    rule: str
    question: str
    steps: list[list[Any]]
    path: list[str]


class _People:
    """Draws people, nobody twice."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self.draw = draw
        self._women, self._men = list(WOMEN), list(MEN)

    def who(self, relation: str = "") -> str:
        """Somebody who can be the head of a relation."""
        luck = self.draw() * 2
        female = relation in _FEMALE or (relation not in _MALE and luck < 1)
        names = self._women if female else self._men
        return names.pop(int(luck % 1 * len(names)))


def write(hops: int, draw: Callable[[], float]) -> Query:
    """A graph, and a question with so many hops.

    Args:
        hops: 1 to 3.
        draw: Random numbers in [0, 1), at most 90 of them.
    """
    people = _People(draw)
    kind = int(draw() * 5)
    city = ""
    rule = None
    if kind < 2:
        rules = RULES[hops]
        rule = rules[int(draw() * len(rules))]
        relations = list(rule.body)
    else:
        count = hops - (kind == 2)
        relations = []
        for _ in range(count):
            luck = draw() * len(_RELATIONS)
            relation = _RELATIONS[int(luck)]
            if relations and relation in _MUTUAL.get(relations[-1], ()):
                # The friend of Laura's friend may be Laura.
                relation = _ONE_WAY[int(luck % 1 * len(_ONE_WAY))]
            relations.append(relation)
    chain = [people.who(relation) for relation in relations]
    chain.append(people.who())
    facts = [[chain[i], relation, chain[i + 1]] for i, relation in enumerate(relations)]
    forward = kind == 3 or (rule is not None and (kind == 0) != rule.turned)
    if forward:
        steps: list[list[Any]] = [[relation, 1] for relation in relations]
        path = chain
    else:
        steps = [[relation, -1] for relation in reversed(relations)]
        path = chain[::-1]
    told = ""
    if rule is not None:
        told = _tell(rule)
        question = f"{path[0]} - {rule.head} - ?" if kind == 0 else f"? - {rule.head} - {path[0]}"
    elif kind == 2:
        inside, city = _IN[int(draw() * 2)], CITIES[int(draw() * len(CITIES))]
        facts.append([path[-1], inside, city])
        steps.append([inside, 1])
        of = "".join([f"the {relation} " for relation in relations])
        verb = "live" if inside == "lives in" else "work"
        question = f"Where does {of}{path[0]} {verb}?"
    elif kind == 3:
        names = [path[0], *VARIABLES]
        said = [f"{names[i]} is the {one} {names[i + 1]}." for i, one in enumerate(relations)]
        question = f"{' '.join(said)} Who is {names[hops]}?"
    else:
        question = f"Who is {' '.join([f'the {relation}' for relation in relations])} {path[0]}?"
    if city:
        path = [*path, city]
    _distract(facts, people, steps, path)
    order = sorted((draw(), number) for number in range(len(facts)))
    return Query([facts[number] for _, number in order], told, question, steps, path)


def _tell(rule: Rule) -> str:
    ends = VARIABLES[0], VARIABLES[len(rule.body)]
    body = " and ".join(
        [f"{VARIABLES[i]} - {one} - {VARIABLES[i + 1]}" for i, one in enumerate(rule.body)]
    )
    first, last = ends[::-1] if rule.turned else ends
    return f"If {body}, then {first} - {rule.head} - {last}."


def _distract(
    facts: list[list[str]], people: _People, steps: list[list[Any]], path: list[str]
) -> None:
    """Add facts that do not make another path."""
    draw = people.draw
    relation, way = steps[0]
    total = len(steps) + _OTHERS
    if len(steps) > 1 and relation in _NEUTRAL and draw() < 0.5:
        # A blind alley: nothing goes on from there.
        alley = people.who(relation)
        facts.append([path[0], relation, alley] if way == 1 else [alley, relation, path[0]])
    others = [people.who(), people.who(), people.who()]
    pairs = {(head, tail) for head, _, tail in facts}
    functions = {(tail, relation) for _, relation, tail in facts if relation in _PARENTS}
    functions |= {(head, relation) for head, relation, _ in facts if relation in _IN}
    # What would go on from the path as the question does. Where people understand a relation as
    # mutual, neither direction may.
    heads, tails = set(), set()
    for (relation, way), here in zip(steps, path, strict=False):
        if relation in _MUTUAL:
            for same in _MUTUAL[relation]:
                heads.add((here, same))
                tails.add((same, here))
        elif way == 1:
            heads.add((here, relation))
        else:
            tails.add((relation, here))
    for _ in range(13):
        if len(facts) >= total:
            break
        luck, which, one, two = draw(), draw(), draw(), draw()
        other = others[int(one * 3)]
        # Mostly at the first of the places where the path could be left.
        at = min(int(two * two * len(steps)), len(steps) - 1)
        head, tail = path[at], other
        if luck < 0.3:
            # What the question needs, the other way round.
            relation, way = steps[int(which * len(steps))]
            if relation not in _ONE_WAY and relation not in _PARENTS:
                relation = _NEUTRAL[int(two * len(_NEUTRAL))]
            if way == 1:
                head, tail = tail, head
        elif luck < 0.55:
            # What the question needs, but elsewhere on the path.
            relation, way = steps[int(which * len(steps))]
            if relation in _MUTUAL and len(steps) == 1:
                relation = _ONE_WAY[int(two * len(_ONE_WAY))]
            if way == -1:
                head, tail = tail, head
        elif luck < 0.75:
            relation = _NEUTRAL[int(which * len(_NEUTRAL))]
            if two > 0.5:
                head, tail = tail, head
        elif luck < 0.87:
            relation = _IN[int(which * 2)]
        else:
            # What the question needs, of others.
            relation = steps[int(which * len(steps))][0]
            head, tail = other, others[int(one * 3) - 1 - int(two * 2)]
        if relation in _IN:
            tail = CITIES[int(two * 97 % 1 * len(CITIES))]
            function = head, relation
        else:
            function = (tail, relation) if relation in _PARENTS else ("", "")
        if (
            function in functions
            or (head, tail) in pairs
            or (tail, head) in pairs
            or (relation in _FEMALE and head not in WOMEN)
            or (relation in _MALE and head not in MEN)
            or (head, relation) in heads
            or (relation, tail) in tails
            or (relation in _FAMILY and _related(facts, head, tail))
        ):
            continue
        if function[0]:
            functions.add(function)
        pairs.add((head, tail))
        facts.append([head, relation, tail])


def _related(facts: list[list[str]], one: str, other: str) -> bool:
    """Whether two people are of one family.

    Another tie between them might make somebody their own ancestor, or their mother's cousin.
    """
    ties = [(head, tail) for head, relation, tail in facts if relation in _FAMILY]
    family = {one}
    for _ in ties:
        for head, tail in ties:
            if head in family:
                family.add(tail)
            elif tail in family:
                family.add(head)
        if other in family:
            return True
    return False
