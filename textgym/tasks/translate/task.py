"""Translate sentences between English and Chinese: a grammar of both, and what sentences mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from textgym.data.literals import from_literal
from textgym.data.rows import Row
from textgym.errors import TaskError, near_matches
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, nothing, quoted
from textgym.tasks.on_topic import on_topic
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
from textgym.tasks.translate.world import draw_sentence
from textgym.tasks.translate.writer import chinese, english

DIRECTIONS = ("en-zh", "zh-en")

_UNREAD = 0.4
"""What a text outside the grammar can earn at most, and what is left of one that says the opposite
of what is meant."""

_POWER = 3
"""How steeply a translation loses by what it gets wrong."""

_DRAWS = 96
"""Random numbers for one row: no sentence needs more."""

_PROMPT = re.compile(r"(?:English: (?P<en>.+)\nChinese:|中文: (?P<zh>.+)\nEnglish:)", re.DOTALL)
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

_ENGLISH_COLUMNS = ("en", "eng", "english", "en_us", "en_gb", "eng_latn", "sentence_eng_latn")
_CHINESE_COLUMNS = (
    "zh", "zho", "cmn", "chinese", "zh_cn", "zh_hans", "zh_hant", "zh_tw",
    "zho_hans", "zho_hant", "sentence_zho_hans", "sentence_zho_hant",
)  # fmt: skip
_SOURCES, _TARGETS = ("source", "src", "source_text"), ("target", "tgt", "target_text")


class Translate(Task):
    """Translate a sentence from English to Chinese, or back.

    ## Description

    The prompt gives a sentence, the policy writes it in the other language, in simplified
    characters where that is Chinese. The sentences come from a grammar of both languages at once,
    with some sixty nouns and forty verbs: measure words (两顶帽子, two hats), time before place
    before verb, 都 after 每天, 的 after what describes a noun, 了 for what is done, 不 and 没 for
    not, 吗 for questions; and in English tense, number and word order.

    The eval split tests composition: each of its sentences has a verb with an object or an
    adjective with a noun that never stand together in the train split (though each occurs there
    with others), or at level 3 a structure that the train split lacks: a relative clause of the
    subject (there it is of the object alone), or a clause in a clause in a clause.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end. The text is read by the grammar of its language and taken
    apart into what it says: verbs, roles, adjectives, numbers, owners, tense, time, place, not and
    question, each with its role (``patient.adj=red``).

        score = F1(parts said, parts meant) ** 3       if the text is a sentence of the grammar
        score = 0.4 * F1(pairs of neighbours) ** 3     if it is not: closeness to the reference

    One part wrong of eight costs a third. Synonyms and other orders that mean the same are as good
    as the reference; a wrong measure word is a wrong part; a sentence that denies what is meant, or
    states what is denied, keeps 0.4 of its score; a text outside the grammar earns 0.4 at most, one
    that only lacks its full stop included. Neighbours are characters in Chinese, words in English.

    Chinese has no articles. Into English, a noun that stands bare in the Chinese sentence may get
    any ("the student", "a student", "students"), which is no part then; into Chinese, "the" of a
    person may be left out or be 这 or 那.

    The ``gloss`` baseline looks up each word and keeps the order: 0.36, 0.20, 0.32 by level into
    Chinese, and 0.04 or less into English, where that is hardly ever grammatical. The ``skeleton``
    baseline finds the first person, verb and thing, and says that the one did that to the other:
    0.30, 0.22, 0.10 into Chinese, 0.30, 0.20, 0.09 into English (means of 3,000 rows).

    ## Starting State

    A prompt of `generate`, by level: (1) one clause with a time or a place, stated, denied or
    asked; (2) one clause with adjectives, two circumstances (when, where, with whom, for whom), two
    objects or a modal verb; (3) two clauses or more: a relative clause, what somebody knows or
    thinks, but, because.

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

    The row's other columns are ``direction``, ``meaning`` (the parts) and ``novel`` (what of it is
    held out of the train split; empty there).

    ## Episode End

    End-of-sequence, or 72 tokens: a termination. Completions begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``. ``direction``:
    ``"en-zh"`` (default) or ``"zh-en"``, which an instance takes:
    ``gym.make("TextGen/Translate-v0", prompts=Translate(direction="zh-en"))``.

    ## Real data

    Rows of WMT and OPUS, ``{"translation": {"en": ..., "zh": ...}}``, rows with the columns ``en``
    and ``zh``, and rows with ``source`` and ``target`` (whichever is the Chinese one) become
    prompts in this task's form and direction. They are judged by sentence chrF (Popovic 2015)
    against the reference, as sacrebleu (``textgym[metrics]``) computes it, times a factor
    (`textgym.tasks.on_topic`) below 1 for words out of order or repeated, for a text longer than
    the reference, and for one that denies where that does not; or by their meaning if the sentence
    belongs to the grammar.

    ## Version History

    * v0: first version.

    Args:
        level: Difficulty, one of `levels`; None is `default_level`.
        split: ``"train"`` or ``"eval"``.
        direction: ``"en-zh"`` or ``"zh-en"``.

    Raises:
        TaskError: On an unknown level, split or direction.
    """

    id = "TextGen/Translate-v0"
    tags = ("grounded writing", "graded")
    scored_by = "the meaning, parsed back; the eval split combines words in new ways"
    max_prompt_tokens = 80
    max_new_tokens = 72
    levels = (1, 2, 3)
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
        """Draw a sentence and its translation, of either split."""
        clause = self._draw(rng)
        return self._row(clause, novelties(clause))

    def sample(self, rng: np.random.Generator) -> Row:
        """Draw a row of this split.

        A meaning is of the eval split if something in it is held out of the train split (see
        `novelties`). A prompt has one meaning, so no prompt is of both.
        """
        wanted = self.split == "eval"
        while True:  # 14, 26 or 40 in a hundred are of the eval split, by level
            clause = self._draw(rng)
            novel = novelties(clause)
            if bool(novel) == wanted:
                return self._row(clause, novel)

    def _draw(self, rng: np.random.Generator) -> Clause:
        return draw_sentence(iter(rng.random(_DRAWS).tolist()).__next__, self.level)

    def _row(self, clause: Clause, novel: list[str]) -> Row:
        if self.direction == "en-zh":
            prompt = _ask_chinese(english(clause))
        else:
            prompt = _ask_english(chinese(clause))
        return {
            "prompt": prompt,
            "reference": f" {write(clause, self.direction)}",
            "direction": self.direction,
            "meaning": _meant(clause, self.direction == "en-zh"),
            "novel": novel,
        }

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """How much of the meaning the translation has, or how close it is to the reference."""
        reference = row.get("reference")
        reference = reference if isinstance(reference, str) else ""
        wanted = reference.strip()
        if not text or not wanted:
            return nothing("the text" if wanted else "the row", "there is nothing to compare")
        judgement = Judgement()
        if text == wanted:
            return judgement.add(quoted(text), "the reference itself", 1.0)
        meaning = row.get("meaning")
        if not meaning:
            what = "chrF against the reference, times how far it is on topic"
            return judgement.add("the text", what, _chrf(text, wanted))
        if len(text) > 2 * len(wanted) + 40:
            return nothing("the text", "far longer than the reference")
        into_chinese = row["direction"] == "en-zh"
        reader = translate_chinese if into_chinese else translate_english
        try:
            told = parts(reader.read(text), into_chinese)
        except Unreadable:
            words, right = (
                (list(text), list(wanted)) if into_chinese else (text.split(" "), wanted.split(" "))
            )
            what = "not a sentence of the grammar; what it has of the reference's words"
            return judgement.add(quoted(text), what, _UNREAD * _closeness(words, right) ** _POWER)
        f1 = agreement(meaning, told, judgement)
        judgement.add("the meaning", f"F1 of its parts is {f1:.2f}", f1**_POWER)
        if contradicts(meaning, told):
            judgement.scale("polarity", "it denies what was said, or the reverse", _UNREAD)
        return judgement

    def complete_row(self, row: Row) -> Row:
        """Read the meaning out of a prompt that a user wrote, and translate it."""
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
            "meaning": _meant(clause, into_chinese),
            "novel": novelties(clause),
            **row,
        }

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make a prompt and a reference of a pair of sentences in a public format.

        Recognised are ``{"translation": {"en": ..., "zh": ...}}`` (WMT, OPUS), the columns ``en``
        and ``zh``, and ``source`` and ``target``, whichever of the two is the Chinese one; other
        rows are returned as they are.
        """
        pair = _pair(row)
        if pair is None or "prompt" in row:
            return row
        names, english, chinese = pair
        rest = {name: value for name, value in row.items() if name not in names}
        if self.direction == "en-zh":
            prompt, reference = _ask_chinese(english), f" {chinese}"
        else:
            prompt, reference = _ask_english(chinese), f" {english}"
        return {**rest, "prompt": prompt, "reference": reference, "direction": self.direction}

    def baselines(self) -> dict[str, Baseline]:
        """``gloss`` looks every word up, ``skeleton`` says who did what and leaves out the rest."""
        return {"gloss": gloss, "skeleton": skeleton}

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.direction}"

    @classmethod
    def variants(cls, split: str) -> list[Task]:
        """Every level, in both directions."""
        return [cls(level, split, direction) for direction in DIRECTIONS for level in cls.levels]

    def document(self, rng: np.random.Generator) -> str:
        """A prompt and a translation with lapses."""
        row = self.sample(rng)
        source = row["prompt"].partition(": ")[2].rpartition("\n")[0]
        reader = translate_english if self.direction == "en-zh" else translate_chinese
        return str(row["prompt"]) + mediocre(settle(reader.read(source)), row, rng)


def _meant(clause: Clause, into_chinese: bool) -> list[str]:
    """The parts that a translation should say."""
    return parts(clause, chinese=into_chinese, bare=not into_chinese)


def _ask_chinese(english: str) -> str:
    return f"English: {english}\nChinese:"


def _ask_english(chinese: str) -> str:
    return f"中文: {chinese}\nEnglish:"


def _pair(row: Mapping[str, Any]) -> tuple[set[str], str, str] | None:
    """The columns that hold a pair, its English and its Chinese; None where there is none."""
    column = "translation" if "translation" in row else "translations"
    inner = _by_language(from_literal(row.get(column)))
    table = inner if isinstance(inner, Mapping) else row
    names = {str(name).lower().replace("-", "_"): name for name in table}
    english = next((names[name] for name in _ENGLISH_COLUMNS if name in names), None)
    chinese = next((names[name] for name in _CHINESE_COLUMNS if name in names), None)
    if english is None or chinese is None:
        english = next((names[name] for name in _SOURCES if name in names), None)
        chinese = next((names[name] for name in _TARGETS if name in names), None)
    if english is None or chinese is None:
        return None
    one, other = table[english], table[chinese]
    if not isinstance(one, str) or not isinstance(other, str):
        return None
    # The column names of source and target do not say which is which, the writing does.
    if _share(one) > _share(other):
        one, other = other, one
    if not _HAN.search(other):
        return None
    used = {column} if table is inner else {english, chinese}
    return used, " ".join(one.split()), " ".join(other.split())


def _by_language(value: Any) -> Any:
    """Texts by language; TED's talks have languages and texts in two lists."""
    if not isinstance(value, Mapping) or not {"language", "translation"} <= value.keys():
        return value
    return dict(zip(value["language"], value["translation"], strict=False))


def _share(text: str) -> float:
    """The share of Chinese characters."""
    return len(_HAN.findall(text)) / max(1, len(text))


def _closeness(text: list[str], wanted: list[str]) -> float:
    """F1 of the pairs of neighbours, the ends of the text among them."""
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


@cache
def _chrf_reward() -> Any:
    # Judged by sacrebleu, which not everybody has: the sentences of the grammar need no library.
    from textgym.rewards import Chrf

    return Chrf()


def _chrf(text: str, reference: str) -> float:
    """Sentence chrF of a public row, times how far the text is on topic."""
    value = float(_chrf_reward()([""], [text], reference=[reference])[0])
    return value * on_topic(text, [reference])
