"""Translate between English and Chinese: grammars of both languages, scored by meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.errors import TaskError, near_matches
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, nothing, quoted
from textgym.tasks.random_draws import draws
from textgym.tasks.translate import chinese as translate_chinese
from textgym.tasks.translate import english as translate_english
from textgym.tasks.translate.baselines import gloss, mediocre, skeleton, write
from textgym.tasks.translate.meaning import (
    Clause,
    Unreadable,
    agreement,
    contradicts,
    novelties,
    parts,
    settle,
)
from textgym.tasks.translate.public import convert, prompt_of, similarity
from textgym.tasks.translate.world import draw_sentence
from textgym.tasks.translate.writer import chinese, english

DIRECTIONS = ("en-zh", "zh-en")

_UNREAD = 0.4
"""Maximum score of a text outside the grammar, and factor for a contradiction of the source."""

_POWER = 3
"""Exponent of F1."""

_DRAWS = 96
"""Number of random numbers per row: no sentence needs more."""

_PROMPT = re.compile(r"(?:English: (?P<en>.+)\nChinese:|中文: (?P<zh>.+)\nEnglish:)", re.DOTALL)


class Translate(Task):
    """Translate a sentence from English to Chinese, or from Chinese to English.

    ## Description

    The prompt gives a sentence, and the policy writes it in the other language (Chinese in
    simplified characters). The sentences come from a grammar of both languages, with about sixty
    nouns and forty verbs. Chinese requires measure words (两顶帽子, two hats), time before place
    before verb, 都 after 每天, 的 after modifiers of a noun, 了 for completed acts, 不 and 没 for
    negation, 吗 for questions; English requires tense, number and word order.

    The eval split tests compositional generalization. Each of its sentences has a verb and an
    object, or an adjective and a noun, that never occur together in the train split (but do occur
    with others), or at level 3 a structure that the train split lacks: a relative clause of the
    subject (the train split only has those of objects), or doubly nested clauses.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end. The text is parsed into the parts of its meaning: verbs,
    roles, adjectives, numbers, owners, tense, time, place, negation and question, each with its
    role (``patient.adj=red``).

        score = F1(parts, expected parts) ** 3      if the text is grammatical
        score = 0.4 * F1(neighbour pairs) ** 3      otherwise: similarity to the reference

    One wrong part in eight costs a third. Synonyms and equivalent word orders are as good as the
    reference. A wrong measure word is a wrong part. A sentence with the wrong polarity keeps 0.4 of
    its score. An ungrammatical text scores at most 0.4, even if it only lacks its full stop.
    Neighbours are characters in Chinese and words in English.

    Chinese has no articles. In translations into English, a bare noun of the Chinese sentence takes
    any article ("the student", "a student", "students"); into Chinese, "the" of a person may be
    omitted or be 这 or 那.

    The ``gloss`` baseline looks up each word and keeps the order: 0.36, 0.20, 0.32 by level into
    Chinese, and at most 0.04 into English, where the result is rarely grammatical. The ``skeleton``
    baseline makes a simple sentence of the first person, verb and thing: 0.30, 0.22, 0.10 into
    Chinese, 0.30, 0.20, 0.09 into English (means of 3,000 rows).

    ## Starting State

    A prompt of `generate`, by level: (1) one clause with a time or a place, as a statement,
    negation or question; (2) one clause with adjectives, two circumstances (time, place, companion,
    beneficiary), two objects or a modal verb; (3) two or more clauses: a relative clause, reported
    knowledge or thought, "but", "because".

    ``item(0)`` at level 1::

        English: The boy stole two letters this morning.
        Chinese:

        -> 男孩今天早上偷了两封信。

    ``item(0)`` at level 2::

        English: Does Adam want to wear this beautiful ring in the village next week?
        Chinese:

        -> 亚当下周想在村子里戴这枚漂亮的戒指吗？

    ``item(0)`` at level 3::

        English: His doctor laughed because the driver helped the student.
        Chinese:

        -> 因为司机帮助了学生，所以他的医生笑了。

    ``item(0)`` at level 1 with ``direction="zh-en"``::

        中文: 男孩今天早上偷了两封信。
        English:

        -> The boy stole two letters this morning.

    The row's other columns are ``direction``, ``meaning`` (its parts) and ``novel`` (the word pairs
    and structures that the train split lacks).

    ## Episode End

    End-of-sequence, or 72 tokens: a termination. Completions begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``. ``direction``:
    ``"en-zh"`` (default) or ``"zh-en"``, an argument of the class:
    ``gym.make("TextGen/Translate-v0", prompts=Translate(direction="zh-en"))``.

    ## Real data

    Rows of WMT and OPUS, ``{"translation": {"en": ..., "zh": ...}}``, rows with the columns ``en``
    and ``zh``, and rows with ``source`` and ``target`` (either of which may be Chinese) are
    converted to prompts of this task and direction. They are judged by meaning if the source is a
    sentence of the grammar, else by sentence chrF (Popovic 2015) as computed by sacrebleu
    (``textgym[metrics]``), times a factor (`textgym.tasks.on_topic`) below 1 for words out of order
    or repeated, for a text longer than the reference, and for a negation that the reference lacks.

    ## Version History

    * v0: first version.

    Args:
        level: Difficulty, one of `levels`; None is `default_level`.
        split: ``"train"`` or ``"eval"``.
        direction: ``"en-zh"`` or ``"zh-en"``.

    Raises:
        TaskError: If the level, the split or the direction is unknown.
    """

    id = "TextGen/Translate-v0"
    tags = ("grounded writing", "graded")
    scored_by = "the meaning, parsed back; the eval split combines words in new ways"
    max_prompt_tokens = 80
    max_new_tokens = 72
    levels = (1, 2, 3)
    dense_at = "token"
    cheat_ceiling = 0.41

    def __init__(
        self, level: int | None = None, split: str = "train", direction: str = "en-zh"
    ) -> None:
        super().__init__(level, split)
        if direction not in DIRECTIONS:
            raise TaskError(
                f"{self.id} has no direction {direction!r}; the directions are: "
                f"{', '.join(DIRECTIONS)}{near_matches(str(direction), DIRECTIONS)}"
            )
        self.direction = direction

    def generate(self, rng: np.random.Generator) -> Row:
        """Generate a sentence and its translation, of either split."""
        clause = self._draw(rng)
        return self._row(clause, novelties(clause))

    def sample(self, rng: np.random.Generator) -> Row:
        """Sample a row of this split.

        A meaning belongs to the eval split if it has a word pair or structure that is held out of
        the train split (see `novelties`). A prompt has one meaning, so the splits are disjoint.
        """
        wants_eval = self.split == "eval"
        while True:  # 14, 26 or 40 % belong to the eval split, by level
            clause = self._draw(rng)
            novel = novelties(clause)
            if bool(novel) == wants_eval:
                return self._row(clause, novel)

    def _draw(self, rng: np.random.Generator) -> Clause:
        return draw_sentence(draws(rng, _DRAWS), self.level)

    def _row(self, clause: Clause, novel: list[str]) -> Row:
        into_chinese = self.direction == "en-zh"
        source = english(clause) if into_chinese else chinese(clause)
        return {
            "prompt": prompt_of(source, self.direction),
            "reference": f" {write(clause, self.direction)}",
            "direction": self.direction,
            "meaning": _expected_parts(clause, into_chinese),
            "novel": novel,
        }

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """Score the F1 of the parts of the meaning, or the similarity to the reference."""
        reference = row.get("reference")
        reference = reference if isinstance(reference, str) else ""
        wanted = reference.strip()
        if not text or not wanted:
            return nothing("the text" if wanted else "the reference", "it is empty")
        judgement = Judgement()
        if text == wanted:
            return judgement.add(quoted(text), "the reference itself", 1.0)
        meaning = row.get("meaning")
        if not meaning:
            what = "chrF against the reference, times the on-topic factor"
            return judgement.add("the text", what, similarity(text, wanted))
        if len(text) > 2 * len(wanted) + 40:
            return nothing("the text", "far longer than the reference")
        into_chinese = row["direction"] == "en-zh"
        reader = translate_chinese if into_chinese else translate_english
        try:
            found = parts(reader.read(text), into_chinese)
        except Unreadable:
            words, right = (
                (list(text), list(wanted)) if into_chinese else (text.split(" "), wanted.split(" "))
            )
            what = "not a sentence of the grammar; similarity to the reference"
            return judgement.add(quoted(text), what, _UNREAD * _closeness(words, right) ** _POWER)
        f1 = agreement(meaning, found, judgement)
        judgement.add("the meaning", f"F1 of its parts is {f1:.2f}", f1**_POWER)
        if contradicts(meaning, found):
            judgement.scale("polarity", "the opposite of the source", _UNREAD)
        return judgement

    def complete_row(self, row: Row) -> Row:
        """Parse the sentence of a user's prompt, and translate it."""
        found = _PROMPT.fullmatch(row["prompt"])
        if found is None or "meaning" in row:
            return row
        into_chinese = found["en"] is not None
        direction = DIRECTIONS[0] if into_chinese else DIRECTIONS[1]
        reader = translate_english if into_chinese else translate_chinese
        try:
            clause = settle(reader.read(found["en"] or found["zh"]))
        except Unreadable:
            return {"direction": direction, **row}
        return {
            "reference": f" {write(clause, direction)}",
            "direction": direction,
            "meaning": _expected_parts(clause, into_chinese),
            "novel": novelties(clause),
            **row,
        }

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Convert a row of parallel text (see "Real data")."""
        return convert(row, self.direction)

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score of the text so far."""
        return list(map(self.score, texts, rows))

    def baselines(self) -> dict[str, Baseline]:
        """``gloss`` translates word by word, ``skeleton`` only the main person, verb and thing."""
        return {"gloss": gloss, "skeleton": skeleton}

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.direction}"

    @classmethod
    def variants(cls, split: str) -> list[Task]:
        """Every level, in both directions."""
        return [cls(level, split, direction) for direction in DIRECTIONS for level in cls.levels]

    def document(self, rng: np.random.Generator) -> str:
        """A prompt and a translation with errors."""
        row = self.sample(rng)
        source = row["prompt"].partition(": ")[2].rpartition("\n")[0]
        reader = translate_english if self.direction == "en-zh" else translate_chinese
        return str(row["prompt"]) + mediocre(settle(reader.read(source)), row, rng)


def _expected_parts(clause: Clause, into_chinese: bool) -> list[str]:
    """The parts of a correct translation."""
    return parts(clause, chinese=into_chinese, bare=not into_chinese)


def _closeness(text: list[str], wanted: list[str]) -> float:
    """F1 of the pairs of neighbours, including the ends of the text."""
    left: dict[tuple[str, str], int] = {}
    for pair in zip(["", *wanted], [*wanted, ""], strict=True):
        left[pair] = left.get(pair, 0) + 1
    hits = 0
    for pair in zip(["", *text], [*text, ""], strict=True):
        count = left.get(pair, 0)
        if count:
            hits += 1
            left[pair] = count - 1
    return 2 * hits / (len(text) + len(wanted) + 2)
