"""Summarize a story within a word budget: scored by parsed facts, or by ROUGE for real data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.data.words import count_words
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, discount, finished, nothing
from textgym.tasks.random_draws import draws, pick
from textgym.tasks.summarize.baselines import extract, lead, mediocre
from textgym.tasks.summarize.grammar import PLACE, THINGS, VERB, Fact
from textgym.tasks.summarize.public import convert, judge_public
from textgym.tasks.summarize.reader import Reading, important, read
from textgym.tasks.summarize.world import CHAINS, aside, chatter, happen, wish
from textgym.tasks.summarize.writer import brief, narrate
from textgym.tasks.words import MEN, WOMEN

_EVENTS = {1: 3, 2: 3, 3: 4}
"""Number of important facts, by level."""
_WORDY = {1: 0.9, 2: 0.7, 3: 0.5}
"""Probability that a sentence has an opener, by level."""

_GRACE = 4
"""A summary this many words over the budget scores 0."""

_PROMPT = re.compile(r"Summarize in (\d{1,4}) (?:words|characters):\n(.*)\nSummary:", re.DOTALL)


class Summarize(Task):
    """Summarize the important facts of a story within a word budget.

    ## Description

    The prompt gives a word budget and a story about a thing, with other events, wishes and
    descriptions in between. The policy writes a summary. The important facts are the events of the
    thing that the story is about, which is the thing with the most events: losing, finding,
    stealing, hiding, breaking, mending, selling, giving or carrying it. The summary has to contain
    all of them in the order of the story. Other facts, dates and manners only use up words.

    A parser extracts facts from the summary: verb, agent, thing, receiver or victim, and place. The
    wording of a fact does not matter: "Tom sold the ring to Anna", "Anna bought it from Tom", "The
    small ring was sold to her by him" and ", and Tom sold Anna the ring" are equivalent if the
    pronouns can be resolved: "he" and "she" are the man and the woman named last in the summary,
    "it" the thing. Verbs may share an object ("Anna found and sold it"), "but" is equivalent to
    "and", and "his ring" to "the ring".

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end. It is a product, so no factor compensates for another:

        score = F1 / (1 + 1.5 faults) * min(1, max(0, (budget + 4 - words) / 4))

    * ``F1 = 2 credit / (facts in the summary + important facts)``: the credit of an important fact
      is 1, or 1/2 if a part of it is missing ("The ring was sold"), and 0 if it is repeated. A true
      but unimportant fact lowers the score slightly.
    * ``faults``: 1 for each fact that is not in the story, repeated, or out of order; 1 for each
      sentence outside the grammar, incomplete ones included, plus 1 per eight words of it.
    * The last factor is 1 within the word budget, 3/4, 1/2 and 1/4 for one to three words over it,
      and 0 beyond. The reference is up to two words shorter than the budget.

    The ``lead`` baseline copies the first sentences that fit: 0.38, 0.34 and 0.42 on average, by
    level. The ``extract`` baseline copies sentences with a verb that changes the state of a thing:
    0.57, 0.57 and 0.46. A higher score requires rewriting.

    ## Starting State

    A prompt of `generate`, by level: (1) three important facts and two others; (2) three people, an
    event of another thing or an unfulfilled wish, passives, and sales with the buyer as the
    subject; (3) four important facts, both kinds of distractors, and pronouns.

    ``item(0)`` at level 1::

        Summarize in 15 words:
        One winter morning, Helen hid a small drum in the library. Later Hugo found the drum. One
        summer day, Helen laughed. After the storm, Hugo smashed the drum. Helen had some bread.
        Summary:

        -> Helen hid the drum in the library. Hugo found it and broke it.

    ``item(0)`` at level 2::

        Summarize in 12 words:
        One summer day, Alice bought a lovely necklace from Tom. Late at night, Sara told a joke.
        Alice rested in the garden. Alice smashed the necklace. One winter morning, Sara
        discovered a lovely book. Later Alice quickly repaired the necklace.
        Summary:

        -> Tom sold the necklace to Alice. Alice broke it and mended it.

    ``item(0)`` at level 3::

        Summarize in 19 words:
        Right after dinner, a necklace was lost by Rosa. She smashed a shabby cake. She mended
        it. For some reason, she had some coffee. Late one evening, Rosa quickly carried it to
        the courtyard. Max did not sell it. One winter morning, Rosa hid it in the bedroom.
        Summary:

        -> Rosa broke the cake, mended it, carried it to the courtyard and hid it in the bedroom.

    The row's other columns are ``budget``, ``facts`` (the important ones: verb, agent, thing,
    receiver or victim, place; empty strings for missing parts) and ``others``.

    ## Episode End

    End-of-sequence, or 48 tokens: a termination. Summaries begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``prompts="hf:..."`` or a file. Rows of CNN/DailyMail (``article``, ``highlights``), XSum
    (``document``, ``summary``) and SAMSum (``dialogue``, ``summary``) are converted to prompts of
    this task. Their budget is twice the number of words of the reference, or of characters without
    punctuation in scripts without spaces (Chinese, Japanese, Thai). Any row with a ``reference``
    and no ``facts`` is judged by

        score = rouge * on_topic

    where ``rouge`` is the mean of ROUGE-1, ROUGE-2 and ROUGE-L (rouge-score, ``textgym[metrics]``)
    and ``on_topic`` a factor (`textgym.tasks.on_topic`) below 1 for words out of order or repeated,
    for excess words that are in neither reference nor prompt, and for a negation that neither has.
    A text of more than twice the reference's words scores 0. Articles are long: set
    ``max_prompt_tokens``, and ``prompt_overflow="skip"`` or ``"left"``.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Summarize-v0"
    tags = ("grounded writing", "graded")
    scored_by = "the facts that matter, read back from the summary; inventions and overlength cost"
    max_prompt_tokens = 112
    max_new_tokens = 48
    levels = (1, 2, 3)
    cheat_ceiling = 0.5
    lead = " "

    def generate(self, rng: np.random.Generator) -> Row:
        """Generate a story, and the shortest summary with all its important facts."""
        draw = draws(rng, 160)
        level = self.level
        people = [pick(MEN, draw), pick(WOMEN, draw)]
        if level > 1:
            names = MEN if draw() < 0.5 else WOMEN
            number = names.index(people[names is WOMEN])
            people.append(names[number - 1 - int(draw() * (len(names) - 1))])
        people.append(people.pop(int(draw() * len(people))))
        number = int(draw() * len(THINGS))
        thing, side = THINGS[number], THINGS[number - 1 - int(draw() * (len(THINGS) - 1))]
        chains = CHAINS[_EVENTS[level]]
        chain = pick(chains, draw)
        facts = happen(chain, thing, people, draw)
        others = [chatter(thing, people, draw)]
        if level < 3:
            others.append(chatter(thing, people, draw))
        distractors = level - 1  # facts that resemble an event: none, one of two kinds, or both
        if draw() < distractors / 2:
            others.append(aside(side, people, draw))
        if len(others) < 3 and level > 1:
            others.append(wish(thing, people, chain, draw))
        plan = list(facts)
        for other in others:
            plan.insert(int(draw() * (len(plan) + 1)), other)
        reference = brief(facts)
        budget = len(reference.split()) + int(draw() * 3)
        story = narrate(plan, level, draw, _WORDY[level])
        return {
            "prompt": f"Summarize in {budget} words:\n{story[1:]}\nSummary:",
            "reference": reference,
            "budget": budget,
            "facts": facts,
            "others": others,
        }

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """Score the F1 of the facts, with discounts for faults and words over the budget.

        Rows without facts are judged by ROUGE against their reference.
        """
        facts = row.get("facts")
        if facts is None:
            return judge_public(text, row)
        words = count_words(text)
        room = row["budget"] + _GRACE - words
        if room <= 0 or not facts:
            return nothing("the text", "far over the budget" if facts else "no facts are asked for")
        judgement = Judgement()
        credit, stated, faults = _compare(read(text, judgement), facts, row["others"], judgement)
        if not credit:
            return judgement.note("the text", "it has none of the facts")
        similarity = 2 * credit / (stated + len(facts))
        what = f"right, of {stated} stated and {len(facts)} important ones"
        judgement.settle(f"{credit:g} facts", what, float(similarity))
        judgement.scale("faults", f"{faults} of them", discount(faults))
        what = f"{words - row['budget']} words over it"
        return judgement.scale("the budget", what, min(1.0, room / _GRACE))

    def convert(self, row: dict[str, Any]) -> Row:
        """Convert a row of CNN/DailyMail, XSum or SAMSum (see "Real data")."""
        return convert(row)

    def complete_row(self, row: Row) -> Row:
        """Parse the budget and facts of a user's prompt.

        A row whose story is outside the grammar is judged by its reference, if it has one.
        """
        match = _PROMPT.fullmatch(row["prompt"])
        story, faults = read(f" {' '.join(match[2].split())}") if match else ([], 1)
        if "facts" in row or (faults and "reference" in row):
            return row
        facts, others = important(story)
        budget = int(match[1]) if match else 0
        return {"budget": budget, "facts": facts, "others": others, **row}

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score of the complete sentences so far."""
        return list(map(self.score, map(finished, texts), rows))

    def baselines(self) -> dict[str, Baseline]:
        """``lead`` copies the first sentences, ``extract`` those with an event."""
        return {"lead": lead, "extract": extract}

    def document(self, rng: np.random.Generator) -> str:
        """A fluent summary with errors: facts missing, added or swapped, too many words."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


def _compare(
    reading: Reading, facts: Sequence[Fact], others: Sequence[Fact], judgement: Judgement
) -> tuple[float, int, int]:
    """Compare the facts of a summary with the important ones.

    Args:
        reading: The parse of the summary.
        facts: The important facts.
        others: The other facts of the story, which are not faults.
        judgement: Receives a remark on each fact.

    Returns:
        The credit, with 1/2 for partial facts; the number of facts in the summary; the number of
        faults.
    """
    stated, faults = reading
    last = -1
    credit = 0.0
    found: set[int] = set()
    for index, fact in enumerate(stated):
        phrase = " ".join(filter(None, fact))
        if fact in stated[:index]:
            faults += 1
            judgement.note(phrase, "repeated")
            continue
        if fact in facts[last + 1 :]:
            last = facts.index(fact, last + 1)
            found.add(last)
            credit += 1.0
            judgement.note(phrase, "right")
            continue
        where = [number for number, other in enumerate(facts) if _agrees(fact, other)]
        where = where or _found_in_hiding_place(fact, facts)
        later = [number for number in where if number > last]
        if later:
            last = later[0]
            found.add(last)
            complete = _is_complete(fact, facts[last])
            credit += 1.0 if complete else 0.5
            judgement.note(phrase, "right" if complete else "partially right")
        elif where:
            faults += 1
            judgement.note(phrase, "repeated, or out of order")
        elif any(_agrees(fact, other) for other in others):
            judgement.note(phrase, "true, but not important")
        else:
            faults += 1
            judgement.note(phrase, "not in the story")
    for number, fact in enumerate(facts):
        if number not in found:
            judgement.note(" ".join(filter(None, fact)), "missing")
    return credit, len(stated), faults


def _agrees(stated: Fact, fact: Sequence[str]) -> bool:
    """Whether a stated fact equals another, apart from missing parts."""
    return stated[VERB] == fact[VERB] and all(
        not part or part == right for part, right in zip(stated, fact, strict=True)
    )


def _is_complete(stated: Fact, fact: Sequence[str]) -> bool:
    return all(part or not right for part, right in zip(stated, fact, strict=True))


def _found_in_hiding_place(stated: Fact, facts: Sequence[Sequence[str]]) -> list[int]:
    """Indices of the finds whose place is only given by the hiding before."""
    if stated[VERB] != "find":
        return []
    return [
        number
        for number, (before, fact) in enumerate(pairwise(facts), start=1)
        if before[VERB] == "hide" and _agrees(stated, [*fact[:PLACE], before[PLACE]])
    ]
