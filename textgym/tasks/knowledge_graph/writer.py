"""Draws small knowledge graphs with questions that have one answer and one path to it.

A question is about a chain of people, each related to the next. The other facts never continue the
chain as the question does: they have other relations, other people or the opposite direction, or
lead from the middle of the chain into a dead end.
"""

from __future__ import annotations

from typing import Any

from textgym.tasks.knowledge_graph.world import (
    CITIES,
    FAMILY,
    FEMALE,
    LOCATIONS,
    MALE,
    MUTUAL,
    NEUTRAL,
    ONE_WAY,
    PARENTS,
    RELATIONS,
    RULES,
    VARIABLES,
    People,
    Query,
    Rule,
)
from textgym.tasks.random_draws import Draw, pick
from textgym.tasks.words import MEN, WOMEN

_OTHERS = 4
"""Facts that are not on the path."""


def completion(path: list[str], answer: str) -> str:
    """A path and an answer in the form of the task."""
    return f"\nPath: {', '.join(path)}. Answer: {answer}."


def write(hops: int, draw: Draw) -> Query:
    """Draw a graph and a question.

    Args:
        hops: Steps of the path, 1 to 3.
        draw: Returns random numbers in [0, 1); called at most 90 times.
    """
    people = People(draw)
    kind = int(draw() * 5)
    city = ""
    rule = None
    if kind < 2:
        rules = RULES[hops]
        rule = pick(rules, draw)
        relations = list(rule.body)
    else:
        count = hops - (kind == 2)
        relations = []
        for _ in range(count):
            luck = draw() * len(RELATIONS)
            relation = RELATIONS[int(luck)]
            if relations and relation in MUTUAL.get(relations[-1], ()):
                # The friend of Laura's friend could be Laura.
                relation = ONE_WAY[int(luck % 1 * len(ONE_WAY))]
            relations.append(relation)
    chain = [people.who(relation) for relation in relations]
    chain.append(people.who())
    facts = [[chain[i], relation, chain[i + 1]] for i, relation in enumerate(relations)]
    forward = kind == 3 or (rule is not None and (kind == 0) != rule.inverted)
    if forward:
        steps: list[list[Any]] = [[relation, 1] for relation in relations]
        path = chain
    else:
        steps = [[relation, -1] for relation in reversed(relations)]
        path = chain[::-1]
    rule_text = ""
    if rule is not None:
        rule_text = _in_words(rule)
        question = f"{path[0]} - {rule.head} - ?" if kind == 0 else f"? - {rule.head} - {path[0]}"
    elif kind == 2:
        inside, city = pick(LOCATIONS, draw), pick(CITIES, draw)
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
    _add_distractors(facts, people, steps, path)
    order = sorted((draw(), number) for number in range(len(facts)))
    return Query([facts[number] for _, number in order], rule_text, question, steps, path)


def _in_words(rule: Rule) -> str:
    ends = VARIABLES[0], VARIABLES[len(rule.body)]
    body = " and ".join(
        [f"{VARIABLES[i]} - {one} - {VARIABLES[i + 1]}" for i, one in enumerate(rule.body)]
    )
    first, last = ends[::-1] if rule.inverted else ends
    return f"If {body}, then {first} - {rule.head} - {last}."


def _add_distractors(
    facts: list[list[str]], people: People, steps: list[list[Any]], path: list[str]
) -> None:
    """Add facts that do not create another path."""
    draw = people.draw
    relation, way = steps[0]
    total = len(steps) + _OTHERS
    if len(steps) > 1 and relation in NEUTRAL and draw() < 0.5:
        # A dead end: no other fact leads away from it.
        end = people.who(relation)
        facts.append([path[0], relation, end] if way == 1 else [end, relation, path[0]])
    others = [people.who(), people.who(), people.who()]
    pairs = {(head, tail) for head, _, tail in facts}
    functions = {(tail, relation) for _, relation, tail in facts if relation in PARENTS}
    functions |= {(head, relation) for head, relation, _ in facts if relation in LOCATIONS}
    # Facts that would continue the path as the question does; both directions of mutual relations.
    heads, tails = set(), set()
    for (relation, way), here in zip(steps, path, strict=False):
        if relation in MUTUAL:
            for same in MUTUAL[relation]:
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
        # Mostly near the start of the path.
        at = min(int(two * two * len(steps)), len(steps) - 1)
        head, tail = path[at], other
        if luck < 0.3:
            # A relation of the question, in the opposite direction.
            relation, way = steps[int(which * len(steps))]
            if relation not in ONE_WAY and relation not in PARENTS:
                relation = NEUTRAL[int(two * len(NEUTRAL))]
            if way == 1:
                head, tail = tail, head
        elif luck < 0.55:
            # A relation of the question, elsewhere on the path.
            relation, way = steps[int(which * len(steps))]
            if relation in MUTUAL and len(steps) == 1:
                relation = ONE_WAY[int(two * len(ONE_WAY))]
            if way == -1:
                head, tail = tail, head
        elif luck < 0.75:
            relation = NEUTRAL[int(which * len(NEUTRAL))]
            if two > 0.5:
                head, tail = tail, head
        elif luck < 0.87:
            relation = LOCATIONS[int(which * 2)]
        else:
            # A relation of the question, between other people.
            relation = steps[int(which * len(steps))][0]
            head, tail = other, others[int(one * 3) - 1 - int(two * 2)]
        if relation in LOCATIONS:
            tail = CITIES[int(two * 97 % 1 * len(CITIES))]
            function = head, relation
        else:
            function = (tail, relation) if relation in PARENTS else ("", "")
        if (
            function in functions
            or (head, tail) in pairs
            or (tail, head) in pairs
            or (relation in FEMALE and head not in WOMEN)
            or (relation in MALE and head not in MEN)
            or (head, relation) in heads
            or (relation, tail) in tails
            or (relation in FAMILY and _related(facts, head, tail))
        ):
            continue
        if function[0]:
            functions.add(function)
        pairs.add((head, tail))
        facts.append([head, relation, tail])


def _related(facts: list[list[str]], one: str, other: str) -> bool:
    """Whether two people are of one family.

    Another family relation between them could make them their own ancestors.
    """
    ties = [(head, tail) for head, relation, tail in facts if relation in FAMILY]
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
