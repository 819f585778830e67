"""Describe a record, or use given words, in one or two sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Task
from textgym.tasks.data_to_text.baselines import formula, mediocre, one_fact
from textgym.tasks.data_to_text.concepts import COMPANIONS, PEOPLE, VERBS
from textgym.tasks.data_to_text.public import convert, score_public
from textgym.tasks.data_to_text.reader import judge
from textgym.tasks.data_to_text.world import DOMAINS
from textgym.tasks.data_to_text.writer import write_concepts, write_record
from textgym.tasks.judgement import Judgement, finished
from textgym.tasks.random_draws import Draw, draws, pick

_NAMES = tuple(DOMAINS)
_VERBS = tuple(VERBS)
_CONCEPTS = 0.25
"""The share of rows that are concept sets."""

_ANIMALS = 0.4
"""The probability of an animal as the agent, where one is plausible."""

_PRIVATE = " (private)"
_TWINS = {"from": "to", "to": "from"}
"""Attributes of a record that must not have the same value."""


class DataToText(Task):
    """Describe a record, or use given words, in one or two sentences.

    ## Description

    Three quarters of the prompts are records with an ``attribute: value`` on each line: a
    restaurant, a person, a match, a flight or the weather of a city. The policy has to state each
    fact in English, once, and nothing else; lines marked "(private)" have to be left out. The other
    prompts are concept sets as in CommonGen (Lin et al. 2020): a few words, to be used together in
    one plausible sentence. A parser extracts the claimed pairs of attribute and value from each
    sentence. It knows about three hundred phrases ("is a cheap Greek restaurant near the bridge",
    "won in Oslo on Sunday"), joined by commas, "and", "which" and "who". Names may lack their
    article. Two fifths of the phrases ("is located in the old town", "Her hobby is chess") never
    occur in references.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, padded with -1.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score in [0, 1], at the end of the episode:

        score = right / asked * right / (right + wrong) / (1 + 1.5 faults)

    * ``right``: lines of the record that are stated and not contradicted elsewhere in the text; of
      a concept set, words in plausible roles (a knife cuts a cake). Several values for one
      attribute earn nothing for it, and each additional value is a fault.
    * ``asked``: lines that are not private, without the name of the subject; or the concepts.
    * ``wrong``: false, invented and private claims, and words in implausible roles.
    * ``faults``: sentences outside the grammar (also a last one without a full stop), about another
      subject, or after the first about a concept set, plus one for every eight words of them; and
      repeated lines, private lines, pronouns that are wrong or precede the subject, and words in
      implausible roles.

    A copy of the record is not a sentence and scores 0. The ``one_fact`` baseline states the first
    line: 0.41, 0.27 and 0.18 at levels 1, 2 and 3. ``formula`` states the same two attributes of
    each domain: 0.16, 0.20 and 0.20. A template for each attribute solves the records of levels 1
    and 2; at level 3 it gets 0.34 if it includes the private line.

    ## Starting State

    A prompt of `generate`. Level 1: two or three lines in addition to the name, or three concepts.
    Level 2: four of either. Level 3: five or six lines and a private one, or five concepts.

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

    The row's other columns are ``domain`` (or ``"concepts"``), ``subject``, ``facts`` (pairs of
    attribute and value, including private ones) and ``private`` (attributes).

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

    each also with ``references``. The prompts have the form above; the columns ``values``,
    ``reference`` and ``references`` are added, and columns that the format does not define
    (``id``) and an existing ``prompt`` are kept. Rows without a reference (the test splits of ToTTo
    and WebNLG) raise a `DataError` before an episode starts, because a list of keywords would score
    as high as a sentence. With a ``prompt`` they are left unchanged, for another reward. The score
    is

        score = max over references of (ROUGE-L F1 + chrF) / 2 * coverage,
                times (1 - copied) * on_topic

    with ``coverage`` the share of the reference's values (or concepts, possibly with other endings)
    that the text contains; ``copied`` the share of the prompt's lines that the text contains
    verbatim; and ``on_topic`` a factor (`textgym.tasks.on_topic`) below 1 for words out of order or
    repeated, for extra length, and for negations that are not in a reference. A list of the values
    without sentences still earns 0.2 to 0.6. The packages sacrebleu and rouge-score are needed
    (``textgym[metrics]``).

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
        """Draw a record or a concept set, and its reference."""
        draw = draws(rng, 48)
        return self._concepts(draw) if draw() < _CONCEPTS else self._record(draw)

    def _record(self, draw: Draw) -> Row:
        domain = pick(_NAMES, draw)
        this = DOMAINS[domain]
        subject = pick(this.subjects, draw)
        count = (2, 4, 5)[self.level - 1]
        if self.level != 2:
            count += int(draw() * 2)
        kind = pick(this.kinds, draw) if this.kinds else this.values
        left = list(this.values)
        facts: list[list[str]] = []
        taken = {subject} if domain == "match" else set()
        for _ in range(count + (self.level == 3)):
            attribute = left.pop(int(draw() * len(left)))
            values = kind.get(attribute) or this.values[attribute]
            number = int(draw() * len(values))
            if values[number] in taken:
                number -= 1
            if domain == "flight" and attribute in _TWINS:
                taken.add(values[number])
            facts.append([attribute, values[number]])
        reference = write_record(domain, subject, facts[:count], draw)
        private = [attribute for attribute, _ in facts[count:]]
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
        verb = pick(_VERBS, draw)
        this = VERBS[verb]
        roles = {
            "agent": pick(PEOPLE, draw),
            "object": pick(this.objects, draw),
            "place": pick(this.places, draw),
        }
        along = this.tools or COMPANIONS
        roles["with"] = pick(along, draw)
        if roles["with"] == roles["object"]:
            roles["with"] = along[0]
        what = roles["object"]
        left = list(roles)
        while len(roles) > self.level + 1:
            del roles[left.pop(int(draw() * len(left)))]
        if this.animals and "agent" in roles and "with" not in roles and draw() < _ANIMALS:
            roles["agent"] = pick(this.animals, draw)
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
        """Compare the text's claims with the record or concepts, or the text with references."""
        if "facts" in row:
            return judge(text, row)
        what = "similarity times coverage of the values, less copied lines, times on-topic factor"
        return Judgement().add("the text", what, score_public(text, row))

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Convert a row of ToTTo, E2E NLG, WebNLG or CommonGen; see Real data."""
        return convert(row)

    def complete_row(self, row: Row) -> Row:
        """Read the record or the concepts from a prompt that a user wrote.

        Texts for a prompt of another form score 0, unless the row has a reference.
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

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score of the complete sentences so far."""
        return list(map(self.score, map(finished, texts), rows))

    def baselines(self) -> dict[str, Baseline]:
        """``formula`` fills a template for each domain, ``one_fact`` states the first line."""
        return {"formula": formula, "one_fact": one_fact}

    def document(self, rng: np.random.Generator) -> str:
        """A record or concept set with a fluent text that has errors."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


def _prompt(domain: str, subject: str, facts: list[list[str]], private: list[str]) -> str:
    lines = [
        f"{attribute}: {value}{_PRIVATE if attribute in private else ''}"
        for attribute, value in facts
    ]
    return "\n".join([f"Record: {domain}", f"{DOMAINS[domain].key}: {subject}", *lines, "Text:"])
