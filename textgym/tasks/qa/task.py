"""Answer a question about a short story, or abstain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row, rows_of
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, nothing, quoted
from textgym.tasks.qa.answers import (
    ABSTENTIONS,
    KINDS,
    abstains,
    capitalized,
    completion_of,
    is_right,
)
from textgym.tasks.qa.baselines import abstain, lookup, mediocre, recent
from textgym.tasks.qa.public import answers_of, convert, judge_public
from textgym.tasks.qa.reader import read
from textgym.tasks.qa.writer import write
from textgym.tasks.random_draws import draws

_ABSTENTION = 0.02
"""The score of an abstention where there is an answer: less than any guess among the story's words,
so that answering is what pays, and more than nonsense."""


class QA(Task):
    """Answer a question about a short story, or abstain.

    ## Description

    The prompt is a story of up to eight sentences, in which people move, take, give and drop
    things, and a question. The policy answers with a word or a sentence. About a tenth of the
    questions are unanswerable, although the story nearly always mentions the people and things
    that they name; "I do not know." is then right.

    Things move with their holder. The giver and the receiver of a thing are in the same place, and
    so are a thing and whoever takes it.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, padded with -1.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score in [0, 1], at the end of the episode:

    * the right answer: 1;
    * an abstention: 1 for an unanswerable question, else 0.02;
    * anything else: 0.

    The forms of a right answer are those of `textgym.tasks.qa.answers`: " kitchen", " The
    kitchen.", " At the kitchen.", " Tom is in the kitchen.", " He's in the kitchen". The final full
    stop is optional, except in a sentence about who has what. A second answer, another subject, or
    extra words are wrong; so is the holder of a thing whose place is asked for. Answering pays off
    if the answer is right with a probability above 0.02.

    The ``abstain`` baseline gets 0.12 to 0.13; ``recent``, which repeats the last candidate of the
    story, 0.20, 0.16 and 0.24 at levels 1, 2 and 3. ``lookup``, the strongest, answers from the
    last sentence that names the person or thing in question: 0.97, 0.22 and 0.26. Level 1 needs no
    more than one sentence.

    Two metrics (``info["reward_terms"]``) show how a mean came about: ``answerable``, the score on
    answerable questions without credit for abstentions, and ``answered``, the score of texts that
    do not abstain.

    ## Starting State

    A prompt of `generate`, by level:

    1. One sentence contains the answer: where someone or something is, who has, gave or received
       what, yes or no.
    2. Two sentences: things carried along, passed on or dropped, previous places, remaining
       possessions, places that follow from a meeting.
    3. Three or more sentences, or harder language: pronouns, times of the day out of order, "no
       longer", "in the hall or in the barn", counting.

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

        Context: Emma walked to the greenhouse. Then she took the doll. Peter took the
        scarf. Jane took the ring. Then she went to the pantry. Peter took the ball. Anna
        walked to the courtyard. Peter grabbed the violin.
        Question: In which place is the doll?
        Answer:

        -> The doll is in the greenhouse.

    The row's other columns are ``kind`` (of question), ``about`` (the people and things it names)
    and ``answers`` (a list of one word, or empty).

    ## Episode End

    End-of-sequence, or 20 tokens (the oracle needs at most 16): a termination. Answers begin with a
    space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``gym.make("TextGen/QA-v0", prompts="hf:rajpurkar/squad_v2")``, or a file of such rows. Known
    formats:

    * SQuAD v1 and v2: ``context``, ``question``, ``answers`` = ``{"text": [...], "answer_start":
      [...]}``; an empty list marks an unanswerable question;
    * ``context``, ``passage`` or ``story``, ``question``, and ``answer`` or ``answers``: a string,
      a list of strings, or a bool (BoolQ, bAbI with one row per question);
    * the Hub's ``babi_qa``, whose ``story`` is a mapping of lists or a list of lines: the last
      question of a story.

    The prompt has the same form, ``Context: ... Question: ... Answer:``. The score is the mean of
    exact match and token F1, maximum over the answers, normalised as in SQuAD's evaluation
    (Rajpurkar et al. 2016); in scripts without spaces each character is a token, as in CMRC's.
    An answer that is negated, or one of two, gets at most 0.4. An unanswerable question takes an
    abstention; an empty text scores 0. Contexts are long: set ``max_prompt_tokens``.

    Prompts written by hand in the form of this task are answered too, with any names, places and
    things, if their sentences are of the kinds of the stories here.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/QA-v0"
    tags = ("reading", "exact")
    scored_by = "the right answer, or that there is none"
    max_prompt_tokens = 88
    max_new_tokens = 20
    levels = (1, 2, 3)
    cheat_ceiling = 0.2

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a story and a question about it."""
        story, plan = write(self.level, draws(rng, 64))
        answer = plan.answer
        form = KINDS[plan.kind](plan.about, answer)[0] if answer else ABSTENTIONS[0]
        return {
            "prompt": f"Context: {story}\nQuestion: {plan.question}\nAnswer:",
            "reference": completion_of(form),
            "kind": plan.kind,
            "about": plan.about,
            "answers": [answer] if answer else [],
        }

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """1 for a right answer, 0 for a wrong one, 0.02 for a needless abstention."""
        answers, kind, about = row.get("answers"), row.get("kind"), row.get("about")
        if answers is None or about is None or kind not in KINDS:
            answers = _answers_of(row)
            if answers is None:
                return nothing("the row", "it has no answers to compare with")
            return judge_public(text, answers, _ABSTENTION)
        answer, shown = capitalized(text), quoted(text)
        if not answers:
            if abstains(answer):
                return Judgement().add(shown, "right: the question is unanswerable", 1.0)
            return nothing(shown, "wrong: the question is unanswerable")
        if is_right(answer, kind, about, answers[0]):
            return Judgement().add(shown, "the right answer", 1.0)
        if abstains(answer):
            what = f"an abstention, though the answer is {answers[0]!r}"
            return Judgement().add(shown, what, _ABSTENTION)
        return nothing(shown, f"not a form of the right answer, which is {answers[0]!r}")

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Convert a row of SQuAD, BoolQ or bAbI; see Real data."""
        return convert(row)

    def complete_row(self, row: Row) -> Row:
        """Answer a story and a question that a user wrote."""
        if "answers" in row or (found := read(row["prompt"])) is None:
            return row
        answers = [found.answer] if found.answer else []
        return {"kind": found.kind, "about": found.about, "answers": answers, **row}

    def metrics(self) -> dict[str, Callable[..., Sequence[float | None]]]:
        """Return the scores ``answerable`` and ``answered``; see Rewards."""
        return {"answerable": self._answerable, "answered": self._answered}

    def baselines(self) -> dict[str, Baseline]:
        """``recent`` repeats the last candidate, ``lookup`` uses one sentence, ``abstain``."""
        return {"recent": recent, "lookup": lookup, "abstain": abstain}

    def document(self, rng: np.random.Generator) -> str:
        """A story, a question, and an answer that is right in less than half of the documents."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)

    def _answerable(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float | None]:
        scores = self._of_answers(prompts, completions, columns)
        answers = (_answers_of(row) for row in rows_of(prompts, columns))
        return [score if some else None for score, some in zip(scores, answers, strict=True)]

    def _answered(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float | None]:
        scores = self._of_answers(prompts, completions, columns)
        return [
            None if abstains(capitalized(text)) else score
            for score, text in zip(scores, completions, strict=True)
        ]

    def _of_answers(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> list[float]:
        """The scores, 0 for abstentions."""
        return [
            0.0 if abstains(capitalized(text)) else score
            for text, score in zip(
                completions, self.reward(prompts, completions, **columns), strict=True
            )
        ]


def _answers_of(row: Mapping[str, Any]) -> list[str] | None:
    """The right answers to a row; None if it has none to compare with."""
    answers = row.get("answers")
    return answers_of(row.get("reference") if answers is None else answers)
