"""Continue a story consistently: a small grammar and a simulated world that checks each event."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, discount, finished
from textgym.tasks.random_draws import draws, pick
from textgym.tasks.story.baselines import OPENERS, formula, mediocre, ramble
from textgym.tasks.story.grammar import FEELINGS, HAPPY, SAD
from textgym.tasks.story.reader import read
from textgym.tasks.story.world import World
from textgym.tasks.words import BOXES, GIVE, GO, MEN, PLACES, TAKE, THINGS, WOMEN

_TIMES = (
    "One morning", "One evening", "One cold day", "One summer day", "Last winter", "On Sunday",
    "At noon", "Late at night", "After the storm", "Before dinner",
)  # fmt: skip
_HAPPY, _SAD = tuple(HAPPY), tuple(SAD)
_AN = {thing: f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}" for thing in THINGS}
_BRING, _FETCH, _LEAVE = range(3)

# The reference continuation of each plot, by level, one string per sentence. {H} acts and {O} is
# the other person. {he} and {him} refer to {H}, {she} and {her} to {O}, whatever their gender. Each
# sentence enables a later one, so any other order contains an impossible event.
_PLOTS = (
    (
        (
            " {H} {took} the {thing} and {went} to the {there}."
            " {Then_he} {gave} {O} the {thing}."
            " {She} {felt}."
        ),
        (
            " {H} {went} to the {there} and {took} the {thing}."
            " {Then_he} {went} back to the {here} and {gave} it to {O}."
            " {She} {felt}."
        ),
        (
            " {O} {took} the {thing} and {gave} it to {H}."
            " {Then_H} {went} to the {there}."
            " {O} {felt}."
        ),
    ),
    (
        (
            " {H} opened the {box} and {took} the {thing}."
            " {Then_he} {went} to the {there} and {gave} it to {O}."
            " {She} thanked {him} and {felt}."
        ),
        (
            " {H} {went} to the {there} and opened the {box}."
            " {He} {took} the {thing} and {went} back to the {here}."
            " {Then_he} {gave} {O} the {thing}."
            " {She} thanked {him} and {felt}."
        ),
        (
            " {O} opened the {box} and {took} the {thing}."
            " {She} {gave} it to {H}."
            " {He} thanked {her} and {went} to the {there}."
            " {Then_O} {felt}."
        ),
    ),
    (
        (
            " {H} {took} the key and unlocked the {box}."
            " {He} opened it and {took} the {thing}."
            " {Then_he} {went} to the {there} and {gave} it to {O}."
            " {She} thanked {him} and {felt}."
        ),
        (
            " {O} {gave} the key to {H}."
            " {H} {went} to the {there} and unlocked the {box}."
            " {He} opened it and {took} the {thing}."
            " {Then_he} {went} back to the {here} and {gave} it to {O}."
            " {She} {felt}."
        ),
        (
            " {H} {gave} the key to {O}."
            " {O} unlocked the {box} and opened it."
            " {She} {took} the {thing} and {gave} it to {H}."
            " {Then_H} {went} to the {there}."
            " {O} {felt}."
        ),
    ),
)

_EVENTS = {1: 4, 2: 5, 3: 6}
"""Number of events in a complete story, by level."""

_VERBS = 3
"""Number of different verbs in a complete story."""

_FLOOR = 0.2
"""Score of a complete story that uses none of the given words."""


class Story(Task):
    """Continue a story consistently, using the given words.

    ## Description

    The prompt gives three words (a thing, a place and a feeling) and the beginning of a story: two
    people, their locations, and the location of a thing. The policy continues the story. The
    continuation has to use the words, and each event has to be possible. Nobody can take a thing
    from another room or out of a shut box, give away a thing they do not have, thank without having
    received something, laugh or cry without a cause (a gift, joke or story makes people happy,
    being left alone makes them sad), or do the same thing twice. "He" and "she" have to refer to a
    person in the same or the previous sentence; "it" is the thing or box named last.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end. It is a product, so no factor compensates for another:

        score = (0.2 + 0.8 used) * min(1, events / E) * min(1, kinds / 3) / (1 + 1.5 faults)

    * ``used``: the share of the given words that occur in possible events.
    * ``events``: the number of possible events. A complete story has E = 4, 5 or 6, by level.
    * ``kinds``: the number of different verbs among them.
    * ``faults``: 1 for each impossible event; 1 for each sentence outside the grammar, incomplete
      ones included, plus 1 per eight words of it.

    The ``formula`` baseline takes, goes, gives and feels regardless of the scene: 0.44 on average
    at level 1, where that is right a third of the time, and nearly 0 above. The ``ramble`` baseline
    writes random sentences: 0.02.

    ## Starting State

    A prompt of `generate`, by level: the thing is (1) in the open, (2) in a shut box, or (3) in a
    locked box whose key is elsewhere.

    ``item(0)`` at level 1::

        Words: weep, barn, shell.
        Last winter, Adam and Alice were in the orchard. There was a shell in the orchard.

        -> Alice grabbed the shell and gave it to Adam. Adam walked to the barn. Alice
        wept.

    ``item(0)`` at level 2::

        Words: hall, dance, spoon.
        Last winter, Ben was in the orchard and Jane was in the hall. There was a spoon in
        a shut box in the orchard.

        -> Ben opened the box and grabbed the spoon. He ran to the hall and gave it to
        Jane. She thanked him and danced.

    ``item(0)`` at level 3::

        Words: tower, cake, smile.
        Before dinner, Peter and Lucy were in the greenhouse. There was a cake in a locked
        trunk in the tower. Lucy had the key.

        -> Lucy gave the key to Peter. Peter ran to the tower and unlocked the trunk. He
        opened it and grabbed the cake. He ran back to the greenhouse and gave it to Lucy.
        She smiled.

    The row's other columns are ``words``, ``facts`` (locations of people, things and boxes, as
    pairs) and ``boxes`` (pairs of a box and its state).

    ## Episode End

    End-of-sequence, or 64 tokens: a termination. Continuations begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Story-v0"
    tags = ("free writing", "graded")
    scored_by = (
        "events that are possible (a checker tracks who is where and has what) and use "
        "three given words"
    )
    max_prompt_tokens = 56
    max_new_tokens = 64
    levels = (1, 2, 3)
    cheat_ceiling = 0.41
    lead = " "

    def generate(self, rng: np.random.Generator) -> Row:
        """Generate the beginning of a story, and a continuation that uses the given words."""
        draw = draws(rng, 24)
        plot = int(draw() * 3)
        man, woman = pick(MEN, draw), pick(WOMEN, draw)
        thing = pick(THINGS, draw)
        number = int(draw() * len(PLACES))
        here = PLACES[number]
        there = PLACES[number - 1 - int(draw() * (len(PLACES) - 1))]
        feelings = _SAD if plot == _LEAVE else _HAPPY
        feeling = pick(feelings, draw)
        box = pick(BOXES, draw)
        hero, other = (man, woman) if draw() < 0.5 else (woman, man)

        time = pick(_TIMES, draw)
        # The receiver of a thing that is brought is elsewhere; a thing to be fetched is elsewhere.
        others = there if plot == _BRING else here
        at = there if plot == _FETCH else here
        if others == here:
            scene = f"{time}, {hero} and {other} were in the {here}."
        else:
            scene = f"{time}, {hero} was in the {here} and {other} was in the {others}."
        facts, boxes = [[hero, here], [other, others]], []
        if self.level == 1:
            scene += f" There was {_AN[thing]} in the {at}."
            facts.append([thing, at])
        else:
            state = "shut" if self.level == 2 else "locked"
            scene += f" There was {_AN[thing]} in a {state} {box} in the {at}."
            facts += [[thing, box], [box, at]]
            boxes.append([box, state])
        if self.level == 3:
            keeper = (here, other, hero)[plot]
            scene += f" The key was in the {here}." if keeper == here else f" {keeper} had the key."
            facts.append(["key", keeper])
        words = [thing, there, feeling]
        words.append(words.pop(int(draw() * 3)))
        words.append(words.pop(int(draw() * 2)))

        he, him = ("he", "him") if hero is man else ("she", "her")
        she, her = ("she", "her") if hero is man else ("he", "him")
        then = pick(OPENERS, draw)
        reference = _PLOTS[self.level - 1][plot].format(
            H=hero,
            O=other,
            He=he.capitalize(),
            She=she.capitalize(),
            him=him,
            her=her,
            Then_he=f"{then} {he}" if then else he.capitalize(),
            Then_H=f"{then} {hero}" if then else hero,
            Then_O=f"{then} {other}" if then else other,
            thing=thing,
            box=box,
            here=here,
            there=there,
            went=pick(GO, draw),
            took=pick(TAKE, draw),
            gave=pick(GIVE, draw),
            felt=FEELINGS[feeling],
        )
        return {
            "prompt": f"Words: {', '.join(words)}.\n{scene}",
            "reference": reference,
            "words": words,
            "facts": facts,
            "boxes": boxes,
        }

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """Score the given words used and the possible events, with a discount for faults."""
        judgement = Judgement()
        reading = read(text, World(row["facts"], row["boxes"]), judgement)
        mentioned: set[str] = set()
        verbs: set[str] = set()
        events = 0
        faults = reading.faults
        for event, reason in reading.events:
            if reason:
                faults += 1
                judgement.note(" ".join(filter(None, event)), f"impossible: {reason}")
            else:
                events += 1
                mentioned.update(event)
                verbs.add(event.verb)
        words = row["words"]
        if not events or not words:
            what = "it has no possible event" if words else "no words are asked for"
            return judgement.note("the text", what)
        needed = _EVENTS[self.level]
        used = [word for word in words if word in mentioned]
        enough = min(1.0, events / needed) * min(1.0, len(verbs) / _VERBS)
        judgement.settle(
            "events",
            f"{events} of {needed} needed, with {len(verbs)} of {_VERBS} verbs",
            _FLOOR * enough,
        )
        for word in words:
            if word not in mentioned:
                judgement.note(word, "missing: not in a possible event")
        share = len(used) / len(words)
        judgement.settle(
            f"{len(used)} of {len(words)} words",
            f"used: {', '.join(used)}",
            (_FLOOR + (1 - _FLOOR) * share) * enough,
        )
        return judgement.scale("faults", f"{faults} of them", discount(faults))

    def complete_row(self, row: Row) -> Row:
        """Parse the words, facts and boxes of a user's prompt."""
        listed, _, scene = row["prompt"].partition("\n")
        words = listed.removeprefix("Words: ").rstrip(".").split(", ") if scene else []
        facts, boxes = [], []
        for one, other, place in re.findall(r"(\w+) and (\w+) were in the (\w+)", scene):
            facts += [[one, place], [other, place]]
        facts += map(list, re.findall(r"(\w+) was in the (\w+)", scene))
        facts += map(list, re.findall(r"There was an? (\w+) in the (\w+)", scene))
        inside = r"There was an? (\w+) in an? (\w+) (\w+) in the (\w+)"
        for thing, state, box, place in re.findall(inside, scene):
            facts += [[thing, box], [box, place]]
            boxes.append([box, state])
        facts += [["key", keeper] for keeper in re.findall(r"(\w+) had the key", scene)]
        return {"words": words, "facts": facts, "boxes": boxes, **row}

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score of the complete sentences so far."""
        return list(map(self.score, map(finished, texts), rows))

    def baselines(self) -> dict[str, Baseline]:
        """``formula`` uses the words in a fixed way, ``ramble`` writes random sentences."""
        return {"formula": formula, "ramble": ramble}

    def document(self, rng: np.random.Generator) -> str:
        """A fluent story with errors: events dropped, inserted or swapped, words not used."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)
