"""Summarize a story under a word budget: facts read out of the summary, or ROUGE for real data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.data.words import count_words, is_unspaced, words_of
from textgym.rewards import make_reward
from textgym.rewards.registry import RewardFunction
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, discount, nothing
from textgym.tasks.on_topic import on_topic
from textgym.tasks.summarize.grammar import PLACE, THINGS, VERB, Fact
from textgym.tasks.summarize.reader import Told, important, read
from textgym.tasks.summarize.world import CHAINS, aside, chatter, happen, wish
from textgym.tasks.summarize.writer import brief, extract, lead, mediocre, narrate
from textgym.tasks.words import MEN, WOMEN

_EVENTS = {1: 3, 2: 3, 3: 4}
"""Facts that a summary has to hold, by level."""
_WORDY = {1: 0.9, 2: 0.7, 3: 0.5}
"""How many sentences say when or how it was."""

_GRACE = 4
"""So many words over the budget, and a summary is worth nothing."""

_ROOM = 2
"""How many times as long as its reference a summary of public data may be."""

_PROMPT = re.compile(r"Summarize in (\d{1,4}) (?:words|characters):\n(.*)\nSummary:", re.DOTALL)
_FORMATS = (
    ("article", "highlights"),
    ("article", "summary"),
    ("article", "abstract"),
    ("document", "summary"),
    ("document", "target"),
    ("dialogue", "summary"),
    ("report", "summary"),
    ("text", "summary"),
    ("source", "summary"),
    ("source", "target"),
)
"""Columns of texts and of their summaries: CNN/DailyMail, XSum, SAMSum, GovReport, BillSum, ..."""


class Summarize(Task):
    """Tell in so many words what is important in a story.

    ## Description

    The prompt gives a number of words and a story: what becomes of a thing, among other things that
    happen, are wished for, or just are. The policy writes a summary. Important is what happens to
    the thing that the story is about, which is the one to which most happens: who loses it, finds
    it, steals it, hides it, breaks it, mends it, sells it, gives it to somebody or carries it away.
    All of this has to be in the summary, in the order of the story; what else there is to tell
    costs words, and so does when and how it happened.

    A reader of the task's own makes facts of the summary: the verb, who did it, to what, to (or
    from) whom, and where. So it does not matter how a fact is told. "Tom sold the ring to Anna",
    "Anna bought it from Tom", "The small ring was sold to her by him" and ", and Tom sold Anna the
    ring" are the same, where it is clear who and what is meant: "he" and "she" are the man and the
    woman named last in the summary, "it" the thing. Verbs may share an object ("Anna found and sold
    it"), "but" joins like "and", and "his ring" is the ring, whosever it is.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end, a product, so that no part makes up for another:

        score = F1 / (1 + 1.5 faults) * min(1, max(0, (budget + 4 - words) / 4))

    * ``F1 = 2 credit / (facts told + important facts)``: an important fact gives a credit of 1, or
      of 1/2 if a part of it is left out ("The ring was sold"), and nothing the second time. So
      telling what is true but of no importance costs a little.
    * ``faults``: facts that are not in the story, or not so; facts told again, or after one that
      happened later; one for each sentence outside the grammar, a last one without its full stop
      among them, and one more for every eight words of it.
    * The last factor is 1 within the budget of words, 3/4, 1/2 and 1/4 for one to three words over
      it, and 0 beyond. The reference has up to two words less than the budget.

    The ``lead`` baseline copies the first sentences that there is room for: 0.38, 0.34 and 0.42 on
    average, by level. The ``extract`` baseline copies the sentences with a verb that matters: 0.57,
    0.57 and 0.46. To do better one has to rewrite them.

    ## Starting State

    A prompt of `generate`, by level: (1) three important facts and two others, (2) three people;
    something that happens to another thing, or is only wished for; passives, and sales told by the
    buyer, (3) four important facts, both sorts of temptation, and pronouns.

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

    The row's other columns are ``budget``, ``facts`` (those that are important: verb, who, thing,
    whom, place; empty strings where there is none) and ``others``.

    ## Episode End

    End-of-sequence, or 48 tokens: a termination. Summaries begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``prompts="hf:..."`` or a file. Rows of CNN/DailyMail (``article``, ``highlights``), XSum
    (``document``, ``summary``) and SAMSum (``dialogue``, ``summary``) become prompts of the same
    form, the budget of which is twice as many words as the reference has; characters, without
    punctuation, where it is in a script without spaces (Chinese, Japanese, Thai). Any row with a
    ``reference`` and no ``facts`` is judged by

        score = rouge * on_topic

    where `rouge` is the mean of ROUGE-1, ROUGE-2 and ROUGE-L (rouge-score, ``textgym[metrics]``)
    and ``on_topic`` a factor (`textgym.tasks.on_topic`) below 1 for words out of order or repeated,
    for words beyond the reference's length that are in neither reference nor prompt, and for a
    denial of what neither denies. A text of more than twice the reference's words gets 0. Articles
    are long: set ``max_prompt_tokens``, and ``prompt_overflow="skip"`` or ``"left"``.

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
        """Draw a story, and the shortest summary that tells all that is important in it."""
        # One call for all the choices of a row: several times faster than a call for each.
        draw = iter(rng.random(160).tolist()).__next__
        level = self.level
        people = [MEN[int(draw() * len(MEN))], WOMEN[int(draw() * len(WOMEN))]]
        if level > 1:
            names = MEN if draw() < 0.5 else WOMEN
            number = names.index(people[names is WOMEN])
            people.append(names[number - 1 - int(draw() * (len(names) - 1))])
        people.append(people.pop(int(draw() * len(people))))
        number = int(draw() * len(THINGS))
        thing, side = THINGS[number], THINGS[number - 1 - int(draw() * (len(THINGS) - 1))]
        chains = CHAINS[_EVENTS[level]]
        chain = chains[int(draw() * len(chains))]
        facts = happen(chain, thing, people, draw)
        others = [chatter(thing, people, draw)]
        if level < 3:
            others.append(chatter(thing, people, draw))
        tempting = level - 1  # of what looks like an event: none, one of two sorts, or both
        if draw() < tempting / 2:
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
        """F1 of the facts told, less for faults and for words over the budget.

        A row without facts is judged by ROUGE against its reference.
        """
        facts = row.get("facts")
        if facts is None:
            value = self._likeness(text, str(row.get("prompt", "")), row["reference"])
            return Judgement().add("the text", "ROUGE, times how far it is on topic", value)
        words = count_words(text)
        room = row["budget"] + _GRACE - words
        if room <= 0 or not facts:
            return nothing("the text", "far over the budget" if facts else "no facts are asked for")
        judgement = Judgement()
        credit, told, faults = _compare(read(text, judgement), facts, row["others"], judgement)
        if not credit:
            return judgement.note("the text", "it tells none of the facts")
        similarity = 2 * credit / (told + len(facts))
        what = f"right, of {told} told and {len(facts)} that matter"
        judgement.settle(f"{credit:g} facts", what, float(similarity))
        judgement.scale("faults", f"{faults} of them", discount(faults))
        what = f"{words - row['budget']} words over it"
        return judgement.scale("the budget", what, min(1.0, room / _GRACE))

    def rouge(self, completion: str, reference: str | list[str]) -> float:
        """The mean of the F measures of ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004).

        Args:
            completion: The summary.
            reference: Somebody else's, or several, the best of which counts.

        Raises:
            MissingDependencyError: If rouge-score (``textgym[metrics]``) is not installed.
        """
        [value] = _rouge()([""], [completion], reference=[reference])
        return min(float(value or 0.0), 1.0)

    def _likeness(self, completion: str, prompt: str, reference: str | list[str]) -> float:
        """ROUGE times what of the text is on topic.

        It is 0 for a text of more than twice as many words as the (longest) reference has.
        """
        references = [reference] if isinstance(reference, str) else reference
        words = len(words_of(completion))
        if not 0 < words <= _ROOM * max((len(words_of(one)) for one in references), default=0):
            return 0.0
        return self.rouge(completion, reference) * on_topic(completion, references, prompt)

    def convert(self, row: dict[str, Any]) -> Row:
        """Bring rows of CNN/DailyMail, XSum and SAMSum into the form of this task's own."""
        for source, target in () if "prompt" in row else _FORMATS:
            text, summary = row.get(source), row.get(target)
            if isinstance(text, str) and isinstance(summary, str):
                reference = " ".join(summary.split())
                budget = _ROOM * len(words_of(reference))
                unit = "characters" if is_unspaced(reference) else "words"
                return {
                    **row,
                    "prompt": f"Summarize in {budget} {unit}:\n{_lines(text)}\nSummary:",
                    "reference": f" {reference}",
                }
        return row

    def complete_row(self, row: Row) -> Row:
        """Read budget and facts out of a prompt that a user wrote.

        A row with a reference whose prompt is another text keeps to its reference.
        """
        match = _PROMPT.fullmatch(row["prompt"])
        told, slips = read(f" {' '.join(match[2].split())}") if match else ([], 1)
        if "facts" in row or (slips and "reference" in row):
            return row
        facts, others = important(told)
        budget = int(match[1]) if match else 0
        return {"budget": budget, "facts": facts, "others": others, **row}

    def baselines(self) -> dict[str, Baseline]:
        """``lead`` copies the first sentences, ``extract`` those with a verb that matters."""
        return {"lead": lead, "extract": extract}

    def document(self, rng: np.random.Generator) -> str:
        """A fluent summary with lapses: facts left out, put in or exchanged, too many words."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


def _lines(text: str) -> str:
    """A text with newlines alone between its lines; SAMSum has carriage returns before them."""
    return text.replace("\r\n", "\n").strip()


@cache
def _rouge() -> RewardFunction:
    return make_reward("rouge")


def _compare(
    reading: Told, facts: Sequence[Fact], others: Sequence[Fact], judgement: Judgement
) -> tuple[float, int, int]:
    """Compare what a summary tells with the facts that matter.

    Args:
        reading: What it tells.
        facts: What it is to tell.
        others: What else the story tells, which costs nothing.
        judgement: Gets a remark on each fact.

    Returns:
        The facts that are right, halves for those told in part; the facts told; the faults.
    """
    told, faults = reading
    last = -1
    credit = 0.0
    found: set[int] = set()
    for index, fact in enumerate(told):
        said = " ".join(filter(None, fact))
        if fact in told[:index]:
            faults += 1
            judgement.note(said, "told again")
            continue
        if fact in facts[last + 1 :]:
            last = facts.index(fact, last + 1)
            found.add(last)
            credit += 1.0
            judgement.note(said, "right")
            continue
        where = [number for number, one in enumerate(facts) if _agree(fact, one)]
        where = where or _in_hiding(fact, facts)
        later = [number for number in where if number > last]
        if later:
            last = later[0]
            found.add(last)
            whole = _whole(fact, facts[last])
            credit += 1.0 if whole else 0.5
            judgement.note(said, "right" if whole else "right in part")
        elif where:
            faults += 1
            judgement.note(said, "told again, or as if it had happened later")
        elif any(_agree(fact, one) for one in others):
            judgement.note(said, "true, and beside the point")
        else:
            faults += 1
            judgement.note(said, "the story does not say so")
    for number, fact in enumerate(facts):
        if number not in found:
            judgement.note(" ".join(filter(None, fact)), "missing")
    return credit, len(told), faults


def _agree(told: Fact, fact: Sequence[str]) -> bool:
    """Whether what is told of a fact is right, be it the whole or a part."""
    return told[VERB] == fact[VERB] and all(
        not one or one == other for one, other in zip(told, fact, strict=True)
    )


def _whole(told: Fact, fact: Sequence[str]) -> bool:
    return all(one or not other for one, other in zip(told, fact, strict=True))


def _in_hiding(told: Fact, facts: Sequence[Sequence[str]]) -> list[int]:
    """Where the fact is that something was found, told with the place where it was hidden."""
    if told[VERB] != "find":
        return []
    return [
        number
        for number, (before, fact) in enumerate(pairwise(facts), start=1)
        if before[VERB] == "hide" and _agree(told, [*fact[:PLACE], before[PLACE]])
    ]
