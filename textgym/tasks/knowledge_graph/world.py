"""People, relations and rules of small knowledge graphs."""

from __future__ import annotations

from typing import Any, NamedTuple

from textgym.tasks.random_draws import Draw
from textgym.tasks.words import MEN, WOMEN

CITIES = (
    "Lisbon", "Madrid", "Oslo", "Paris", "Rome", "Prague", "Athens", "Porto", "Vienna", "Berlin",
    "Turin", "Seville", "Boston", "Dublin", "Lyon", "Naples",
)  # fmt: skip
ONE_WAY = ("teacher of", "doctor of", "boss of", "guide of")
RELATIONS = (
    *("mother of", "father of", "sister of", "brother of", "friend of", "cousin of"),
    *ONE_WAY,
)
NEUTRAL = ("friend of", "cousin of", *ONE_WAY)
_SIBLINGS = ("sister of", "brother of")
MUTUAL = {"friend of": ("friend of",), "cousin of": ("cousin of",)} | dict.fromkeys(
    _SIBLINGS, _SIBLINGS
)
"""Relations that are usually understood as mutual, each with its inverses."""
PARENTS = frozenset(("mother of", "father of"))
FAMILY = PARENTS | {"sister of", "brother of", "cousin of"}
FEMALE = frozenset(("mother of", "sister of"))
MALE = frozenset(("father of", "brother of"))
LOCATIONS = ("lives in", "works in")
VARIABLES = "XYZW"


class Rule(NamedTuple):
    """A chain of relations implies a relation of its ends.

    Attributes:
        body: The relations of the chain.
        head: The implied relation.
        inverted: Whether it holds from the last to the first.
    """

    body: tuple[str, ...]
    head: str
    inverted: bool = False


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
        triples: Facts ``[head, relation, tail]``, in the order of the prompt.
        rule: The rule as text, or empty.
        question: The question.
        steps: The steps of the path: ``[relation, 1]`` from head to tail, or ``[relation, -1]``
            from tail to head.
        path: The start and the end of each step; the last is the answer.
    """

    triples: list[list[str]]
    rule: str
    question: str
    steps: list[list[Any]]
    path: list[str]


class People:
    """Draws people without replacement."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self._women, self._men = list(WOMEN), list(MEN)

    def who(self, relation: str = "") -> str:
        """A person who can be the head of a relation."""
        luck = self.draw() * 2
        female = relation in FEMALE or (relation not in MALE and luck < 1)
        names = self._women if female else self._men
        return names.pop(int(luck % 1 * len(names)))
