"""Simulated annotators: people whose taste is a task's score, with human weaknesses.

    annotator = SimulatedAnnotator(make_task("TextGen/Story-v0"), "simulated 1", error_rate=0.1)
    while annotator.judge_next(store):
        ...

They answer the same forms of the same store as people do on the page, so a training with feedback
can be tested and measured without people. An answer depends on the seed, the name, the text and
the order in which it was shown, and with `fatigue` on the number of earlier answers, but on nothing
else: a program that was killed gets the same answers again.
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.errors import FeedbackError
from textgym.feedback.items import Item, Judgement, Kind
from textgym.feedback.store import Shown, Store
from textgym.tasks.base import Task

_GOOD = 0.5
"""A part of a text is good if it earns at least this share of what the best part earns."""

_READING, _DECIDING = 25.0, 2.0
"""Characters read per second, and seconds to decide."""

_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")


class SimulatedAnnotator:
    """An annotator who knows a task's score, and errs like a person.

    Pairs are judged by the Bradley-Terry model: the text on the left is preferred with the
    probability ``sigmoid((left - right) / temperature + position_bias)``, where both texts have the
    annotator's own score. Each judgement is replaced by a random one with the probability
    ``error_rate + fatigue * n / 100`` after n judgements, at most 1.

    A rating of an aspect is the own score on the scale from 1 to 5, with noise of the standard
    deviation `temperature`. Spans are the parts that the task's judgement names, if they are found
    in the text: good ones, which earn at least half as much as the best part, and bad ones. An edit
    is the task's correct answer; it is skipped if the text is that answer.

    Args:
        task: The task. The columns of its rows are those of an item, or its column ``row``.
        name: The name of the annotator.
        temperature: Noise of the preferences in units of the score; with 0 the better text always
            wins.
        error_rate: Share of the judgements that are random, in [0, 1].
        position_bias: Log-odds in favour of the text on the left.
        fatigue: Increase of the error rate per 100 judgements.
        disagreement: Strength of the individual taste. The annotator's score weighs each kind of
            finding in the task's judgement by ``exp(disagreement * z)`` with a normal number z. It
            has no effect if the task judges texts as a whole.
        aspects: The aspects that are rated.
        seed: Seed of the annotator's taste and errors, together with the name.

    Attributes:
        name: As given.

    Raises:
        FeedbackError: If an option is impossible.
    """

    def __init__(
        self,
        task: Task,
        name: str,
        *,
        temperature: float = 0.1,
        error_rate: float = 0.0,
        position_bias: float = 0.0,
        fatigue: float = 0.0,
        disagreement: float = 0.0,
        aspects: Sequence[str] = ("quality",),
        seed: int = 0,
    ) -> None:
        for option, value in (
            ("temperature", temperature), ("error_rate", error_rate), ("fatigue", fatigue),
            ("disagreement", disagreement),
        ):  # fmt: skip
            if not 0 <= value < math.inf:
                raise FeedbackError(f"{option}={value} must be 0 or more, and finite")
        if error_rate > 1:
            raise FeedbackError(f"error_rate={error_rate} is a share, at most 1")
        if not math.isfinite(position_bias):
            raise FeedbackError(f"position_bias={position_bias} must be finite")
        self.name = name
        self._task, self._seed = task, seed
        self._temperature, self._error_rate = temperature, error_rate
        self._bias, self._fatigue, self._disagreement = position_bias, fatigue, disagreement
        self._aspects = tuple(aspects)

    def judge_next(self, store: Store, mode: Kind | None = None) -> Judgement | None:
        """Answer the next form.

        Args:
            store: The store.
            mode: Only items of this kind; None takes all.

        Returns:
            The judgement, which is stored; None if nothing is left to judge.
        """
        judged = store.counts(self.name)["judgements"]
        shown = store.next_item(self.name, mode, self._rng("form", judged))
        if shown is None:
            return None
        value = self.answer(shown, judged)
        return store.judge(shown.token, self.name, value, self._seconds(shown.item))

    def answer(self, shown: Shown, judged: int = 0) -> dict[str, Any]:
        """Return the value of a judgement, without storing it.

        Args:
            shown: The form.
            judged: Number of earlier judgements of this annotator.

        Raises:
            FeedbackError: If the item lacks a column of the task's rows.
        """
        item = shown.item
        rng = self._rng("answer", item.kind, item.prompt, *item.texts, shown.order)
        errs = bool(rng.random() < self._error_rate + self._fatigue * judged / 100)
        try:
            return self._value(shown, errs, rng)
        except KeyError as error:
            raise FeedbackError(
                f"item {item.id} lacks the column {error}, without which {self._task.id} cannot "
                "judge it; put the row of the task into the columns of the item"
            ) from error

    def _value(self, shown: Shown, errs: bool, rng: np.random.Generator) -> dict[str, Any]:
        item = shown.item
        if item.kind == "pair":
            return {"choice": self._choice(shown, errs, rng)}
        if item.kind == "rating":
            return {"aspects": {name: self._rating(item, errs, rng) for name in self._aspects}}
        row = self._row(item)
        if item.kind == "spans":
            spans = spans_of(self._task, item.texts[0], row)
            if errs:
                spans = [(start, end, int(rng.choice((-1, 1)))) for start, end, _ in spans]
            return {"spans": [list(span) for span in spans]}
        better = self._task.oracle(row)
        return {"skip": True} if better == item.texts[0] else {"text": better}

    def score(self, text: str, row: Mapping[str, Any]) -> float:
        """Return the annotator's own score of a text."""
        if not self._disagreement:
            return self._task.score(text, row)
        parts = self._task.explain(text, row)
        return sum(self._weight(part.what) * part.points for part in parts)

    def _choice(self, shown: Shown, errs: bool, rng: np.random.Generator) -> str:
        item, row = shown.item, self._row(shown.item)
        left, right = (self.score(item.texts[at], row) for at in shown.order)
        logit = 0.0 if errs else self._log_odds(left - right) + self._bias
        # Without an overflow; the probability is 0 or 1 for infinite log-odds.
        wins_left = rng.random() < 0.5 + 0.5 * math.tanh(logit / 2)
        return ("first", "second")[shown.order[0 if wins_left else 1]]

    def _log_odds(self, difference: float) -> float:
        if self._temperature:
            return difference / self._temperature
        return math.copysign(math.inf, difference) if difference else 0.0

    def _rating(self, item: Item, errs: bool, rng: np.random.Generator) -> int:
        if errs:
            return int(rng.integers(1, 6))
        noise = self._temperature * rng.standard_normal()
        score = self.score(item.texts[0], self._row(item))
        return int(np.clip(round(1 + 4 * (score + noise)), 1, 5))

    def _row(self, item: Item) -> dict[str, Any]:
        """The row of the task that an item's texts answer, read from the prompt if need be."""
        columns: Mapping[str, Any] = item.columns.get("row", item.columns)
        return self._task.complete_row({"prompt": item.prompt, **columns})

    def _weight(self, what: str) -> float:
        """The weight of a kind of finding: of its words before the first number or quotation."""
        kind = re.split(r"[\d'\"+:-]", what, maxsplit=1)[0].strip()
        return math.exp(self._disagreement * self._rng("taste", kind).standard_normal())

    def _seconds(self, item: Item) -> float:
        length = len(item.prompt) + sum(map(len, item.texts))
        return round(_DECIDING + length / _READING, 1)

    def _rng(self, *key: Any) -> np.random.Generator:
        """The random numbers of something, which depend on the annotator too."""
        digest = hashlib.sha256(repr((self._seed, self.name, *key)).encode("utf-8", "replace"))
        return np.random.default_rng(list(digest.digest()))


def spans_of(task: Task, text: str, row: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """Return the parts of a text that its task's judgement names.

    A part is found if the text contains it, or a sentence contains its words (of three or more, all
    but one, which may be inflected): then from the first to the last of them. What overlaps a part
    before it is left out.

    Args:
        task: The task.
        text: The text.
        row: Its row.

    Returns:
        Parts ``(start, end, sign)``, sorted. The sign is 1 if the part earns at least half as many
        points as the best one, or is called right without points, else -1.
    """
    parts = task.explain(text, row)
    best = max((part.points for part in parts), default=0.0)
    found: list[tuple[int, int, int]] = []
    for part in parts:
        place = _find(text, part.part, found)
        if place is not None:
            earns = part.points > 0 and part.points >= _GOOD * best
            good = earns or (part.points == 0 and part.what.startswith("right"))
            found.append((*place, 1 if good else -1))
    return sorted(found)


def _find(text: str, part: str, taken: Sequence[tuple[int, int, int]]) -> tuple[int, int] | None:
    """Where a part is in a text, outside of parts that are taken."""
    excerpt = _unquoted(part)
    if excerpt is not None:
        at = text.find(excerpt)
        while at >= 0:
            if _free(at, at + len(excerpt), taken):
                return at, at + len(excerpt)
            at = text.find(excerpt, at + 1)
        return None
    words = re.findall(r"\w+", part)
    for sentence in _SENTENCE.finditer(text) if words else ():
        places = [re.search(rf"\b{re.escape(word)}\b", sentence[0]) for word in words]
        known = [place for place in places if place is not None]
        if len(known) >= len(words) - (len(words) >= 3):
            start = sentence.start() + min(place.start() for place in known)
            end = sentence.start() + max(place.end() for place in known)
            if _free(start, end, taken):
                return start, end
    return None


def _unquoted(part: str) -> str | None:
    """The excerpt that a part quotes, up to where it was cut; None if it quotes nothing."""
    if part[:1] not in ("'", '"'):
        return None
    try:
        excerpt = ast.literal_eval(part)
    except (SyntaxError, ValueError):
        return None
    return str(excerpt).removesuffix("...").strip() or None


def _free(start: int, end: int, taken: Sequence[tuple[int, int, int]]) -> bool:
    return all(end <= other[0] or other[1] <= start for other in taken)
