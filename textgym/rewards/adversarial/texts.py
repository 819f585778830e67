"""The texts of an adversarial reward: encoding, sources of real texts, and replay buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from textgym.data.files import read_file
from textgym.errors import RewardError
from textgym.registry import TASKS
from textgym.rewards.adversarial.discriminator import Ids
from textgym.rewards.references import against_references
from textgym.tokenization import Tokenizer

Pair = tuple[str, str]
"""A prompt (possibly empty) and a text."""


@runtime_checkable
class Answers(Protocol):
    """The part of :class:`textgym.tasks.Task` that provides prompts with correct answers."""

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Return a random row."""

    def oracle(self, row: dict[str, Any]) -> str:
        """Return a correct answer for a row."""


RealSpec: TypeAlias = "Sequence[str] | Sequence[Mapping[str, Any]] | str | Path | Answers | None"

_FILES = (".txt", ".jsonl", ".csv", ".parquet")


class TextEncoder:
    """The encoding of texts for the discriminator: ``[prompt] separator text end``.

    The end token distinguishes a complete text from a truncated one.

    Args:
        tokenizer: The tokenizer.
        max_tokens: Number of tokens that are kept of a text (the first) and a prompt (the last).
        condition: Whether prompts are included.

    Attributes:
        separator: Id of the separator.
        vocabulary: Number of ids, including separator, end and padding.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, condition: bool) -> None:
        self.tokenizer = tokenizer
        self.separator = tokenizer.vocab_size
        self.vocabulary = tokenizer.vocab_size + 3
        self._end = tokenizer.vocab_size + 1
        self._max_tokens = max_tokens
        self._condition = condition

    def __call__(self, pairs: Sequence[Pair]) -> list[Ids]:
        """Encode pairs of a prompt and a text."""
        return [self._encode(prompt, text) for prompt, text in pairs]

    def _encode(self, prompt: str, text: str) -> Ids:
        limit = self._max_tokens
        before = self._ids(prompt)[-limit:] if self._condition else []
        ids = self._ids(text)
        # A truncated text has no end token.
        ids = ids[:limit] if len(ids) > limit else [*ids, self._end]
        return (*before, self.separator, *ids)

    def _ids(self, text: str) -> list[int]:
        # Lone surrogates are replaced by question marks.
        return self.tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8"))


DrawTexts: TypeAlias = Callable[
    [np.random.Generator, Sequence[str], Mapping[str, Sequence[Any]]], list[Pair]
]
"""Draws about as many real texts as a call has prompts, given its prompts and columns."""


def from_column(column: str) -> DrawTexts:
    """Draw a random reference of each row that has any."""

    def draw(
        rng: np.random.Generator, prompts: Sequence[str], columns: Mapping[str, Sequence[Any]]
    ) -> list[Pair]:
        pairs: list[Pair] = []

        def collect(prompt: str, references: list[str]) -> float:
            pairs.append((prompt, references[int(rng.random() * len(references))]))
            return 0.0

        against_references(collect, prompts, columns, column)
        return pairs

    return draw


def from_list(pairs: list[Pair]) -> DrawTexts:
    """Draw from a fixed list with replacement."""
    return lambda rng, prompts, columns: [
        pairs[at] for at in rng.integers(len(pairs), size=len(prompts)).tolist()
    ]


def from_task(task: Answers) -> DrawTexts:
    """Draw new rows of a task, with their correct answers."""

    def draw(
        rng: np.random.Generator, prompts: Sequence[str], columns: Mapping[str, Sequence[Any]]
    ) -> list[Pair]:
        rows = [task.sample(rng) for _ in prompts]
        return [(str(row["prompt"]), task.oracle(row)) for row in rows]

    return draw


def real_texts(real: RealSpec, column: str, condition: bool) -> DrawTexts:
    """Return the source of real texts for the option ``real``.

    Args:
        real: See :class:`textgym.rewards.adversarial.reward.Adversarial`.
        column: The column of references, in a batch and in rows of a list or file.
        condition: Whether every text needs a prompt.

    Raises:
        RewardError: If texts or required prompts are missing; when drawing, if the column is.
        DataError: If a file cannot be read.
    """
    if real is None:
        return from_column(column)
    if isinstance(real, Answers):
        return from_task(real)
    if isinstance(real, str) and real in TASKS:
        return from_task(TASKS.get(real)())
    if isinstance(real, str) and not real.lower().endswith(_FILES):
        raise RewardError(
            f"adversarial: real={real!r} is neither the id of a task nor a file "
            f"({', '.join(_FILES)}); for a column of the rows use column={real!r}, for a single "
            "text a list"
        )
    rows = read_file(Path(real).expanduser()) if isinstance(real, str | Path) else real
    if not isinstance(rows, Sequence) or not rows:
        raise RewardError(
            f"adversarial: real={real!r:.80} has no texts; give a list of strings or rows, a "
            "file, a Task or its id, or None for the references of each batch"
        )
    return from_list([_pair(row, number, column, condition) for number, row in enumerate(rows)])


def _pair(row: Any, number: int, column: str, condition: bool) -> Pair:
    if isinstance(row, str):
        if not condition:
            return "", row
        raise RewardError(
            f"adversarial: condition=True needs prompts, but the real text {number} is a string; "
            f"give rows with a 'prompt' and a {column!r}, or leave condition out"
        )
    text = row.get(column) if isinstance(row, Mapping) else None
    prompt = row.get("prompt") if isinstance(row, Mapping) else None
    if not isinstance(text, str) or (condition and not isinstance(prompt, str)):
        needed = f"a 'prompt' and a {column!r}" if condition else f"a {column!r}"
        raise RewardError(
            f"adversarial: the real text {number} is {row!r:.80}; give a string, or a row with "
            f"{needed}, each a string"
        )
    return prompt if isinstance(prompt, str) else "", text


class Replay:
    """A ring buffer of the latest texts, as token ids.

    Args:
        capacity: Maximum number of texts.

    Attributes:
        fresh: Number of texts in the buffer that were added since `settle`.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.fresh = 0
        self._texts: list[Ids] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, texts: Sequence[Ids]) -> None:
        """Add texts, replacing the oldest."""
        for text in texts:
            if len(self._texts) < self.capacity:
                self._texts.append(text)
            else:
                self._texts[self._next] = text
            self._next = (self._next + 1) % self.capacity
        self.fresh = min(self.fresh + len(texts), self.capacity)

    def draw(self, rng: np.random.Generator, count: int, fresh: int) -> list[Ids]:
        """Draw texts with replacement: `fresh` of the fresh ones (if any), the others of all."""
        size = len(self._texts)
        fresh = fresh if self.fresh else 0
        newest = (self._next - 1 - rng.integers(max(1, self.fresh), size=fresh)) % size
        others = rng.integers(size, size=count - fresh)
        return [self._texts[at] for at in (*newest.tolist(), *others.tolist())]

    def settle(self) -> None:
        """Mark all texts as not fresh."""
        self.fresh = 0

    def state(self) -> dict[str, Tensor]:
        """Return the state as tensors."""
        lengths = torch.tensor([len(text) for text in self._texts], dtype=torch.int64)
        flat = torch.tensor([index for text in self._texts for index in text], dtype=torch.int32)
        return {"tokens": flat, "lengths": lengths, "place": torch.tensor([self._next, self.fresh])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state` of a buffer with the same capacity."""
        flat = state["tokens"].tolist()
        stops = state["lengths"].cumsum(0).tolist()
        starts = [0, *stops[:-1]]
        self._texts = [tuple(flat[at:stop]) for at, stop in zip(starts, stops, strict=False)]
        self._next, self.fresh = state["place"].tolist()
