"""Tell a record, or use some words, in a sentence or two: data to text, judged by reading back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Task
from textgym.tasks.data_to_text.concepts import COMPANIONS, PEOPLE, VERBS
from textgym.tasks.data_to_text.grammar import DOMAINS
from textgym.tasks.data_to_text.public import convert, overlap
from textgym.tasks.data_to_text.reader import judge
from textgym.tasks.data_to_text.writer import (
    Draw,
    formula,
    mediocre,
    one_fact,
    write_concepts,
    write_record,
)
from textgym.tasks.judgement import Judgement

_NAMES = tuple(DOMAINS)
_VERBS = tuple(VERBS)
_CONCEPTS = 0.25
"""The share of rows that are concept sets."""

_ANIMALS = 0.4
"""How often an animal does what it can do."""

_PRIVATE = " (private)"
_TWINS = {"from": "to", "to": "from"}
"""Attributes of a record that must not have the same value."""


class DataToText(Task):
    """Tell a record, or use some words, in a sentence or two.

    ## Description

    Three prompts of four are records, ``attribute: value`` on each line: a restaurant, a person, a
    match, a flight or the weather of a city. The policy has to tell all of it in English, once, and
    nothing else; lines marked "(private)" are not to be told. The other prompts are concept sets as
    in CommonGen (Lin et al. 2020): a few words, for one sentence in which they make sense together.
    A reader judges: it knows some three hundred phrases ("is a cheap Greek restaurant near the
    bridge", "won in Oslo on Sunday"), joined by commas, "and", "which" and "who", and gets from
    each sentence the pairs of attribute and value that it claims. Names may lack their article, and
    two in five of the phrases ("is located in the old town", "Her hobby is chess") the task's own
    texts never use.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end, a product, so that no part makes up for another:

        score = right / asked * right / (right + wrong) / (1 + 1.5 faults)

    * ``right``: lines of the record that are told and not contradicted elsewhere in the text; of a
      concept set, words in a role that they can have: a knife cuts a cake, and nobody reads a
      fence. Saying a number of values for one attribute in the hope that one is right earns
      nothing for it, and each further value is a fault.
    * ``asked``: lines to be told, the first one, which names the subject, aside; or the concepts.
    * ``wrong``: claims that are false, made up or private, and words in impossible roles.
    * ``faults``: one for each sentence outside the grammar, a last one without its full stop among
      them, for each sentence about somebody else, and for each after the first about a concept
      set, and one more for every eight words of it; one for each line told again, for each private
      line told, for each sentence about "it" before anything is named or with a wrong pronoun, and
      for each word in an impossible role.

    An echo of the record is no sentence and gets 0. Strategies that read only a part: ``one_fact``
    tells the first line and gets 0.41, 0.27 and 0.18 on average at levels 1, 2 and 3; ``formula``
    tells the same two attributes of each domain, whatever the record has: 0.16, 0.20 and 0.20. A
    writer with a phrase for each attribute solves the records of levels 1 and 2, as it should; at
    level 3 it gets 0.34 for them if it tells the private line too.

    ## Starting State

    A prompt of `generate`. Level 1: two or three lines beside the name, or three concepts. Level 2:
    four of either. Level 3: five or six lines and a private one, or five concepts.

    ``item(0)`` at level 1::

        Record: restaurant
        name: Golden Lantern
        children: yes
        rating: average
        closed: Tuesday
        Text:

        -> The Golden Lantern welcomes children. The restaurant has an average rating and
        closes on Tuesday.

    ``item(0)`` at level 2::

        Record: person
        name: Sam
        plays: piano
        home: Berlin
        hobby: football
        pet: rabbit
        Text:

        -> Sam can play the piano, lives in Berlin with a rabbit and likes football.

    ``item(0)`` at level 3::

        Concepts: cafe, baker, play, neighbour, drum
        Text:

        -> The baker is playing a drum with a neighbour in the cafe.

    ``item(1)`` at level 3::

        Record: flight
        number: 79
        gate: 17
        from: Rome
        arrives: 18:30
        day: Thursday
        leaves: 7:30
        status: on time
        to: Berlin (private)
        Text:

        -> Flight 79 uses gate 17 and departs from Rome at 7:30. The flight lands at 18:30,
        leaves on Thursday and is now on time.

    The row's other columns are ``domain`` (``"concepts"`` for those), ``subject``, ``facts`` (pairs
    of attribute and value, the private ones among them) and ``private`` (attributes).

    ## Episode End

    End-of-sequence, or 72 tokens: a termination. Continuations begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``prompts=`` takes rows of these formats, recognised by their columns (see `convert`):

    * E2E NLG: ``meaning_representation`` (or ``mr``) with ``human_reference`` (or ``ref``);
    * CommonGen: ``concepts`` (a list) with ``target``;
    * WebNLG: ``modified_triple_sets`` with ``lex``, or ``input`` (a list of
      ``"subject | property | object"``) with ``target``;
    * ToTTo: ``table`` and ``highlighted_cells`` with ``sentence_annotations``, or
      ``linearized_input`` (``subtable_and_metadata``) with ``target``;

    each also with ``references``. They become prompts like the task's own, with the columns
    ``values``, ``reference`` and ``references``, beside the columns that the format does not know
    (``id``); a row with a ``prompt`` keeps that one. Rows without a reference (the test splits of
    ToTTo and WebNLG) are refused with a `DataError` before an episode starts: what they ask for
    could be looked for in a text, but then a list of keywords would earn as much as a sentence.
    With a ``prompt`` of their own they are left as they are, for another reward. As nobody can read
    free English back, the score is

        score = max over references of (ROUGE-L F1 + chrF) / 2 * coverage,
                times (1 - copied) * on_topic

    with ``coverage`` the share of the record's values (or concepts, with other endings perhaps)
    that the text holds, out of those which that reference holds, so that every reference scores 1;
    ``copied`` the share of the prompt's lines that stand in the text as they are, and ``on_topic``
    a factor (`textgym.tasks.on_topic`) below 1 for words out of order or repeated, for a text
    longer than every reference, and for one that denies where no reference does. Lists of the
    values without sentences still earn 0.2 to 0.6 from n-gram overlap. The
    packages sacrebleu and rouge-score are needed (``textgym[metrics]``).

    ## Version History

    * v0: first version.
    """

    id = "TextGen/DataToText-v0"
    tags = ("grounded writing", "graded")
    scored_by = "precision times coverage of the facts that the text states"
    max_prompt_tokens = 80
    max_new_tokens = 72
    levels = (1, 2, 3)
    cheat_ceiling = 0.41
    lead = " "

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a record or a set of concepts, and a text that tells it."""
        # One call for all the choices of a row: several times faster than a call for each.
        draw = iter(rng.random(48).tolist()).__next__
        return self._concepts(draw) if draw() < _CONCEPTS else self._record(draw)

    def _record(self, draw: Draw) -> Row:
        domain = _NAMES[int(draw() * len(_NAMES))]
        this = DOMAINS[domain]
        subject = this.subjects[int(draw() * len(this.subjects))]
        told = (2, 4, 5)[self.level - 1]
        if self.level != 2:
            told += int(draw() * 2)
        kind = this.kinds[int(draw() * len(this.kinds))] if this.kinds else this.values
        left = list(this.values)
        facts: list[list[str]] = []
        taken = {subject} if domain == "match" else set()
        for _ in range(told + (self.level == 3)):
            attribute = left.pop(int(draw() * len(left)))
            values = kind.get(attribute) or this.values[attribute]
            number = int(draw() * len(values))
            if values[number] in taken:
                number -= 1
            if domain == "flight" and attribute in _TWINS:
                taken.add(values[number])
            facts.append([attribute, values[number]])
        reference = write_record(domain, subject, facts[:told], draw)
        private = [attribute for attribute, _ in facts[told:]]
        if private:
            facts.insert(int(draw() * len(facts)), facts.pop())
        return {
            "prompt": _prompt(domain, subject, facts, private),
            "reference": reference,
            "domain": domain,
            "subject": subject,
            "facts": facts,
            "private": private,
        }

    def _concepts(self, draw: Draw) -> Row:
        verb = _VERBS[int(draw() * len(_VERBS))]
        this = VERBS[verb]
        roles = {
            "agent": PEOPLE[int(draw() * len(PEOPLE))],
            "object": this.objects[int(draw() * len(this.objects))],
            "place": this.places[int(draw() * len(this.places))],
        }
        along = this.tools or COMPANIONS
        roles["with"] = along[int(draw() * len(along))]
        if roles["with"] == roles["object"]:
            roles["with"] = along[0]
        what = roles["object"]
        left = list(roles)
        while len(roles) > self.level + 1:
            del roles[left.pop(int(draw() * len(left)))]
        if this.animals and "agent" in roles and "with" not in roles and draw() < _ANIMALS:
            roles["agent"] = this.animals[int(draw() * len(this.animals))]
        words = [verb, *roles.values()]
        concepts = [words.pop(int(draw() * len(words))) for _ in range(len(words))]
        reference = write_concepts({**roles, "verb": verb, "object": what}, draw)
        return {
            "prompt": f"Concepts: {', '.join(concepts)}\nText:",
            "reference": reference,
            "domain": "concepts",
            "subject": "",
            "facts": [["concept", concept] for concept in concepts],
            "private": [],
        }

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """What a reader learns from the text, against what the record or the concepts ask for."""
        if "facts" in row:
            return judge(text, row)
        what = "likeness and values told, as far as it is on topic and not copied"
        return Judgement().add("the text", what, overlap(text, row))

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Give a row of ToTTo, E2E NLG, WebNLG or CommonGen a prompt, references and values."""
        return convert(row)

    def complete_row(self, row: Row) -> Row:
        """Read the record or the concepts out of a prompt that a user wrote in this format.

        Another prompt asks for nothing, and gets nothing, unless the row has a reference.
        """
        if "facts" in row or "values" in row:
            return row
        lines = row["prompt"].strip().split("\n")
        kind, _, rest = lines[0].partition(": ")
        if kind == "Concepts":
            facts = [["concept", concept] for concept in rest.rstrip(".").split(", ")]
            return {"domain": "concepts", "subject": "", "facts": facts, "private": [], **row}
        if kind != "Record" or rest not in DOMAINS:
            if "reference" in row:
                return row
            return {"domain": "concepts", "subject": "", "facts": [], "private": [], **row}
        subject, private, facts = "", [], []
        for line in lines[1:]:
            attribute, colon, value = line.partition(": ")
            if not colon:
                continue
            if value.endswith(_PRIVATE):
                value = value.removesuffix(_PRIVATE)
                private.append(attribute)
            if attribute == DOMAINS[rest].key:
                subject = value
            else:
                facts.append([attribute, value])
        return {"domain": rest, "subject": subject, "facts": facts, "private": private, **row}

    def baselines(self) -> dict[str, Baseline]:
        """``formula`` says the same for each domain, ``one_fact`` tells the first line."""
        return {"formula": formula, "one_fact": one_fact}

    def document(self, rng: np.random.Generator) -> str:
        """A fluent text with lapses: facts left out, changed or told twice, secrets told."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


def _prompt(domain: str, subject: str, facts: list[list[str]], private: list[str]) -> str:
    lines = [
        f"{attribute}: {value}{_PRIVATE if attribute in private else ''}"
        for attribute, value in facts
    ]
    return "\n".join([f"Record: {domain}", f"{DOMAINS[domain].key}: {subject}", *lines, "Text:"])
