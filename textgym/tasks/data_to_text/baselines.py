"""Baselines that ignore part of the record, and the mediocre texts of documents."""

from __future__ import annotations

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.data_to_text.concepts import AGENTS, OBJECTS, PEOPLE, PLACES, TOOLS, VERBS
from textgym.tasks.data_to_text.world import DOMAINS
from textgym.tasks.data_to_text.writer import slots, spelled, write_concepts, write_record
from textgym.tasks.random_draws import Draw, draws, pick

_BEASTS = frozenset(("dog", "cat", "horse", "pony", "mouse", "duck", "rabbit", "fish"))
_LIFELESS = tuple(thing for thing in OBJECTS if thing not in _BEASTS)
"""Objects of implausible sentences in documents; no animal is cut or cooked there."""


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """A fluent text with errors: facts left out, changed, repeated, or private."""
    draw = draws(rng, 64)
    if row["domain"] == "concepts":
        if draw() < 0.03:  # an echo instead of a text
            return f" {', '.join([concept for _, concept in row['facts']])}."
        return _mediocre_concepts(row, draw)
    if draw() < 0.03:
        return " " + ", ".join([f"{name}: {value}" for name, value in row["facts"]]) + "."
    domain = DOMAINS[row["domain"]]
    facts: list[tuple[str, str]] = []
    for attribute, value in row["facts"]:
        luck = draw()
        if attribute in row["private"] and luck > 0.5:
            continue
        if luck < 0.22:
            continue
        if luck < 0.38:
            values = domain.values[attribute]
            value = pick(values, draw)
        facts.append((attribute, value))
    facts = facts or [row["facts"][0]]
    subject = row["subject"]
    if draw() < 0.03:
        subject = pick(domain.subjects, draw)
    text = write_record(row["domain"], subject, facts, draw)
    if draw() < 0.08:
        attribute, value = pick(facts, draw)
        phrases = domain.others or domain.clauses
        fitting = [other for other in phrases if slots(other) == {attribute}]
        if domain.others and fitting:
            sentence = pick(fitting, draw).format(
                s=domain.named.format(subject), **{attribute: value}
            )
            text += f" {sentence}."
        else:
            text += write_record(row["domain"], subject, [(attribute, value)], draw)
    return text


def _mediocre_concepts(row: Row, draw: Draw) -> str:
    """A sentence with most of the concepts, some of them in implausible roles."""
    roles: dict[str, str] = {}
    for _, concept in row["facts"]:
        if draw() < 0.26:
            continue
        if concept in VERBS:
            roles["verb"] = concept
        elif concept in PLACES:
            roles["place"] = concept
        elif concept in PEOPLE:
            roles["agent"] = concept
        elif concept in OBJECTS and "object" not in roles:
            roles["object"] = concept
        elif concept in AGENTS and "agent" not in roles:
            roles["agent"] = concept
        else:
            roles["with"] = concept
    what = roles.get("object")
    verbs = [verb for verb in VERBS if what is None or what in VERBS[verb].objects]
    verb = roles.setdefault("verb", pick(verbs, draw))
    likely = VERBS[verb].objects
    roles.setdefault("object", pick(likely, draw))
    if draw() < 0.2:
        roles["object"] = pick(_LIFELESS, draw)
    if draw() < 0.1:
        roles["with"] = pick(TOOLS, draw)
    if draw() < 0.1:
        roles["place"] = pick(PLACES, draw)
    text = write_concepts(roles, draw)
    if draw() < 0.06:  # a second sentence
        text += write_concepts({"verb": verb, "object": roles["object"]}, draw)
    return text


_TEMPLATES = {
    "restaurant": "serves {food} food and is {price}",
    "person": "is {a_job} and likes {hobby}",
    "match": "beat the {loser} {score}",
    "flight": "goes from {from} to {to}",
    "weather": "is {sky} with a high of {high} degrees",
}


def formula(row: Row, rng: np.random.Generator) -> str:
    """A template for each domain, with invented values for attributes that the record lacks."""
    if row["domain"] == "concepts":
        verb = next(concept for _, concept in row["facts"] if concept in VERBS)
        return f" A man {VERBS[verb].forms[0]} a ball in the garden."
    domain = DOMAINS[row["domain"]]
    given = dict(row["facts"])
    template = _TEMPLATES[row["domain"]]
    facts = []
    for attribute in sorted(slots(template)):
        values = domain.values[attribute]
        facts.append((attribute, given.get(attribute, values[int(rng.integers(len(values)))])))
    name = domain.named.format(row["subject"])
    clause = template.format_map(spelled(row["domain"], facts))
    return f" {name[0].upper()}{name[1:]} {clause}."


def one_fact(row: Row, rng: np.random.Generator) -> str:
    """State the first line of the record, or use the verb of the concepts with its first object."""
    if row["domain"] == "concepts":
        verb = next(concept for _, concept in row["facts"] if concept in VERBS)
        return f" A man {VERBS[verb].forms[0]} the {VERBS[verb].objects[0]}."
    domain = row["domain"]
    draw = draws(rng, 8)
    return write_record(domain, row["subject"], row["facts"][:1], draw)
