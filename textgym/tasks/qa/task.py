"""Answer a question about a short story, or say that the story does not tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, nothing, quoted
from textgym.tasks.qa.answers import ABSTENTIONS, KINDS, abstains, is_right, plain, spoken
from textgym.tasks.qa.baselines import abstain, lookup, mediocre, recent
from textgym.tasks.qa.public import answers_of, convert, judge_public
from textgym.tasks.qa.reader import read
from textgym.tasks.qa.writer import write

_ABSTENTION = 0.1
"""What an abstention earns where there is an answer: less than a guess among nine."""


class QA(Task):
    """Answer a question about a short story, or say that the story does not tell.

    ## Description

    The prompt is a story of up to eight sentences, in which people go about, take things, give and
    drop them, and a question. The policy answers in a word or a sentence. About a fifth of the
    questions cannot be answered from the story, though nearly always the people and things that
    they name are in it: then "I do not know." is right.

    Things go where their holder goes. Whoever gives something and whoever is given it are in the
    same place, and so are a thing that lies somewhere and whoever takes it.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end:

    * the right answer: 1;
    * an abstention, if there is an answer: 0.1; if there is none: 1;
    * anything else: 0.

    An answer is right in any of the forms of `textgym.tasks.qa.answers`: " kitchen", " The
    kitchen.", " At the kitchen.", " Tom is in the kitchen.", " He's in the kitchen". The last full
    stop may be missing, but not of a sentence that says who has what. A second answer, another
    subject, or a word before or after is wrong; so is who has a thing where its place is asked for.
    So it pays to answer as soon as an answer is more than one time in ten right, and never to be
    silent.

    The ``abstain`` baseline, which never answers, gets 0.28 (0.25 at level 3); ``recent``, which
    says what was named last, 0.20, 0.13 and 0.24 at levels 1, 2 and 3. ``lookup``, the strongest,
    takes the last sentence that names the person or thing in question: 0.94, 0.30 and 0.32. One
    sentence is all that level 1 asks for.

    ## Starting State

    A prompt of `generate`, by level:

    1. One sentence holds the answer: where someone or something is, who has, gave or was given
       what, yes or no.
    2. Two: what is carried along, given on or dropped, where someone was before, what is left in
       someone's hands, who must be where something is.
    3. Three and more, or a way to tell them that has to be understood: "he" and "she", times of the
       day in another order, "no longer", "in the hall or in the barn", counting.

    ``item(0)`` at level 1::

        Context: Sara hurried to the attic. Sara went to the barn. Adam grabbed the
        trumpet. Simon went to the meadow.
        Question: Where is Sara?
        Answer:

        -> Sara is in the barn.

    ``item(0)`` at level 2::

        Context: Clara went to the kitchen. Clara walked to the cellar. Clara went to the
        bedroom. Adam took the violin. There is a pencil in the courtyard.
        Question: Where was Clara before the bedroom?
        Answer:

        -> Clara was in the cellar.

    ``item(0)`` at level 3::

        Context: Ruth ran to the tower. Emma grabbed the bottle. Jack walked to the
        stable. Ruth hurried to the library. Emma handed the bottle to Peter. Emma walked
        to the bedroom.
        Question: In which place is the bottle?
        Answer:

        -> I do not know.

    The row's other columns are ``kind`` (of question), ``about`` (what it names) and ``answers``
    (one word, or none).

    ## Episode End

    End-of-sequence, or 20 tokens (the oracle needs at most 16): a termination. Answers begin with a
    space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``gym.make("TextGen/QA-v0", prompts="hf:rajpurkar/squad_v2")``, or a file of such rows. Known
    formats:

    * SQuAD v1 and v2: ``context``, ``question``, ``answers`` = ``{"text": [...], "answer_start":
      [...]}``; no text means that there is no answer;
    * ``context``, ``passage`` or ``story``, ``question``, and ``answer`` or ``answers``: a string,
      a list of strings, or a bool (BoolQ, bAbI with one row a question);
    * the hub's ``babi_qa``, whose ``story`` holds lists, or is a list of lines: the last question
      of a story.

    The prompt has the same form, ``Context: ... Question: ... Answer:``. The score is the mean of
    exact match and token F1, the best over the answers, normalised as in SQuAD's evaluation
    (Rajpurkar et al. 2016); in scripts without spaces each character is a token, as in CMRC's.
    An answer that is denied, or one of two, gets at most 0.4. Of an unanswerable question only an
    abstention is right, and silence is none. Contexts are long: set ``max_prompt_tokens``.

    Prompts written by hand in the form of this task are understood too, with any names, places and
    things, as long as their sentences are of the kinds of the stories here.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/QA-v0"
    max_prompt_tokens = 88
    max_new_tokens = 20
    levels = (1, 2, 3)
    cheat_ceiling = 0.2

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a story and a question about it."""
        # One call for all the choices of a row: several times faster than a call for each.
        story, plan = write(self.level, iter(rng.random(64).tolist()).__next__)
        answer = plan.answer
        form = KINDS[plan.kind](plan.about, answer)[0] if answer else ABSTENTIONS[0]
        return {
            "prompt": f"Context: {story}\nQuestion: {plan.question}\nAnswer:",
            "reference": spoken(form),
            "kind": plan.kind,
            "about": plan.about,
            "answers": [answer] if answer else [],
        }

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """1 for the right answer, 0 for a wrong one, a little for none where there is one."""
        answers, kind, about = row.get("answers"), row.get("kind"), row.get("about")
        if answers is None or about is None or kind not in KINDS:
            answers = answers_of(row.get("reference") if answers is None else answers)
            if answers is None:
                return nothing("the row", "it has no answers to compare with")
            return judge_public(text, answers, _ABSTENTION)
        said, shown = plain(text), quoted(text)
        if not answers:
            if abstains(said):
                return Judgement().add(shown, "right: the story does not say", 1.0)
            return nothing(shown, "wrong: the story does not say")
        if is_right(said, kind, about, answers[0]):
            return Judgement().add(shown, "the right answer", 1.0)
        if abstains(said):
            return Judgement().add(shown, f"the story does say: {answers[0]}", _ABSTENTION)
        return nothing(shown, f"not a form of the right answer, which is {answers[0]!r}")

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Turn a row of SQuAD, BoolQ or bAbI into one of this task; see Real data."""
        return convert(row)

    def complete_row(self, row: Row) -> Row:
        """Read the story and the question that a user wrote, and find the answer."""
        if "answers" in row or (found := read(row["prompt"])) is None:
            return row
        answers = [found.answer] if found.answer else []
        return {"kind": found.kind, "about": found.about, "answers": answers, **row}

    def baselines(self) -> dict[str, Baseline]:
        """``recent`` says what was named last, ``lookup`` looks for one sentence, ``abstain``."""
        return {"recent": recent, "lookup": lookup, "abstain": abstain}

    def document(self, rng: np.random.Generator) -> str:
        """A story, a question, and an answer that is right less than half of the time."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)
