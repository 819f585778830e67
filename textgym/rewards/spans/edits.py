"""Rewards from texts that people have improved.

An edit says three things: the edited text is better than the original (a preference), it is a good
text (a reference to imitate), and the parts that were removed are bad while those that were put in
their place are good (marks of tokens).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from textgym.errors import DataError
from textgym.rewards.preferences.features import TextFeatures
from textgym.rewards.preferences.pairs import Pair
from textgym.rewards.spans.marks import MarkedText
from textgym.rewards.spans.reward import SpanReward

_PIECES = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True)
class Edit:
    """A text and a better version of it.

    Attributes:
        prompt: The prompt.
        original: The completion that was edited.
        edited: The better version.
    """

    prompt: str
    original: str
    edited: str

    @staticmethod
    def of_rows(rows: Iterable[dict[str, Any]]) -> list[Edit]:
        """Read rows with ``prompt``, ``original`` and ``text``, such as ``Store.edits`` returns."""
        return [Edit(row["prompt"], row["original"], row["text"]) for row in rows]

    @property
    def pair(self) -> Pair:
        """The preference for the better version."""
        return Pair(self.prompt, self.edited, self.original)

    @property
    def reference(self) -> dict[str, str]:
        """A row with the better version as the reference, for supervised fine-tuning."""
        return {"prompt": self.prompt, "reference": self.edited}

    @property
    def marks(self) -> tuple[MarkedText, MarkedText]:
        """The original with the removed parts as bad, the better version with the new as good.

        Words, spaces and punctuation marks are compared as wholes.
        """
        before, after = _PIECES.findall(self.original), _PIECES.findall(self.edited)
        removed: list[tuple[int, int, int]] = []
        added: list[tuple[int, int, int]] = []
        matcher = SequenceMatcher(None, before, after, autojunk=False)
        for kind, start, end, new_start, new_end in matcher.get_opcodes():
            if kind == "equal":
                continue
            removed += _span(before, start, end, -1)
            added += _span(after, new_start, new_end, 1)
        return (
            MarkedText(self.prompt, self.original, removed),
            MarkedText(self.prompt, self.edited, added),
        )


class EditReward(SpanReward):
    """Token rewards learned from edits: :class:`SpanReward` of the parts that people changed.

    Args:
        features: The language model whose hidden states are used.
        edits: The edits.

    Attributes:
        pairs: The edits as preferences, for :class:`PreferenceEnsemble` or
            ``python -m textgym.rewards.train``.
        references: The edits as rows with a reference, for ``python -m agents.sft``.

    Raises:
        DataError: If there are no edits.
    """

    name = "edits"

    def __init__(self, features: TextFeatures, edits: Sequence[Edit]) -> None:
        if not edits:
            raise DataError("there are no edits to fit a reward to; edit some texts first")
        self.pairs = [edit.pair for edit in edits]
        self.references = [edit.reference for edit in edits]
        super().__init__(features, [marked for edit in edits for marked in edit.marks])


def _span(pieces: Sequence[str], start: int, end: int, sign: int) -> list[tuple[int, int, int]]:
    """The characters of some pieces as a marked part; none without pieces."""
    if start == end:
        return []
    begin = sum(map(len, pieces[:start]))
    return [(begin, begin + sum(map(len, pieces[start:end])), sign)]
