"""A reward for replies with a given intent (dialogue act)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import words_of
from textgym.errors import RewardError
from textgym.rewards.metrics.meteor import Meteor
from textgym.rewards.references import column_of
from textgym.rewards.registry import register_reward
from textgym.rewards.values import is_missing, is_number

Classifier = Callable[[list[str]], Sequence[Any]] | Mapping[Any, Sequence[str]]


@register_reward("intent")
@dataclass(frozen=True, eq=False)
class Intent:
    """1 for a reply with the row's intent, plus METEOR against the reference replies.

    The reward of RL4LMs (Ramamurthy et al. 2023) for DailyDialog: a classifier recognizes the
    intent of the reply, and METEOR rewards its wording.

    Range: [0, ``accuracy + meteor``], higher is better.
    Needs: ``classifier``; the column ``column``; for METEOR the column ``reference`` and the
    package nltk (``textgym[metrics]``).
    Cost: one call of the classifier per batch, and the cost of METEOR; keywords cost 15 us per
    text.
    Gaming: a fixed phrase that the classifier is sure of, e.g. "Could you ...?" for every question;
    with keywords, the words alone. Only METEOR counteracts this, as far as its weight goes.

    Args:
        classifier: A function from N texts to N labels, e.g. a ``lambda`` that takes ``["label"]``
            of each result of a transformers pipeline. Or a dict from labels to the words or phrases
            that indicate them: the reply's label is the one with the most matches (the first of
            equal ones), or none without matches.
        column: The column of intents, compared with ``==``; a list of one intent (as in
            DailyDialog) is unpacked.
        accuracy: The reward for the correct intent, at least 0.
        meteor: Weight of METEOR (see :class:`Meteor`), at least 0; 0 leaves it out. It is 0 for a
            row without references.
        context: The text in front of the reply that the classifier reads: ``"none"``, ``"last"``
            (the prompt's last turn, as in RL4LMs) or ``"all"`` (the prompt).
        separator: Separator of the prompt's turns.
        reference: The column of reference replies: a string, or a list of alternatives.

    Raises:
        RewardError: If an option is invalid, the classifier does not return one label per text, or
            a column is missing.
        MissingDependencyError: If nltk is needed and not installed.
    """

    classifier: Classifier = field(repr=False)
    column: str = "intent"
    accuracy: float = 1.0
    meteor: float = 1.0
    context: str = "none"
    separator: str = "\n"
    reference: str = "reference"
    name: ClassVar[str] = "intent"
    _classify: Callable[[list[str]], Sequence[Any]] = field(init=False, repr=False)
    _meteor: Meteor | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for option in ("accuracy", "meteor"):
            value = getattr(self, option)
            if not is_number(value) or value < 0:
                raise RewardError(f"{self.name}: {option} must be a number >= 0, not {value!r}")
        if self.context not in ("none", "last", "all"):
            raise RewardError(
                f"{self.name}: context must be 'none', 'last' or 'all', not {self.context!r}"
            )
        if not self.separator:
            raise RewardError(f"{self.name}: separator must not be empty; use e.g. a line break")
        if isinstance(self.classifier, Mapping):
            classify: Callable[[list[str]], Sequence[Any]] = _Keywords(self.classifier)
        elif callable(self.classifier) and not inspect.isclass(self.classifier):
            classify = self.classifier
        else:
            raise RewardError(
                f"{self.name}: classifier must be a function from texts to labels, or a dict from "
                f"labels to words, not {self.classifier!r:.80}"
            )
        object.__setattr__(self, "_classify", classify)
        object.__setattr__(self, "_meteor", Meteor(self.reference) if self.meteor else None)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without an intent."""
        wanted = [_only(value) for value in column_of(columns, self.column)]
        overlaps: Sequence[float | None] = [None] * len(completions)
        if self._meteor is not None:
            overlaps = self._meteor(prompts, completions, **columns)
        texts = [self._in_context(*pair) for pair in zip(prompts, completions, strict=True)]
        labels = list(self._classify(texts)) if texts else []
        if len(labels) != len(texts):
            raise RewardError(
                f"needs one label per text from its classifier, which returned {len(labels)} for "
                f"{len(texts)} texts"
            )
        return [
            None
            if intent is None
            else self.accuracy * bool(label == intent) + self.meteor * (overlap or 0.0)
            for intent, label, overlap in zip(wanted, labels, overlaps, strict=True)
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the options."""
        options = (self.classifier, self.column, self.accuracy, self.meteor, self.context)
        return type(self), (*options, self.separator, self.reference)

    def __deepcopy__(self, memo: dict[int, Any]) -> Intent:
        """Return the same object: its classifier may be a model."""
        return self

    def _in_context(self, prompt: str, completion: str) -> str:
        if self.context == "none":
            return completion
        if self.context == "last":
            turns = [turn for turn in prompt.split(self.separator) if turn.strip()]
            prompt = turns[-1] if turns else ""
        return prompt + completion


@dataclass(frozen=True)
class _Keywords:
    """A classifier by keywords of each label."""

    keywords: Mapping[Any, Sequence[str]]

    def __post_init__(self) -> None:
        for label, words in self.keywords.items():
            if isinstance(words, str) or not all(
                isinstance(one, str) and words_of(one) for one in words
            ):
                raise RewardError(
                    f"intent: the words of the label {label!r} must be a list of non-empty "
                    f"strings, not {words!r:.80}"
                )
        if not self.keywords:
            raise RewardError("intent: classifier={} has no labels; give at least one")

    def __call__(self, texts: list[str]) -> list[Any]:
        return [self._label(f" {' '.join(words_of(text))} ") for text in texts]

    def _label(self, text: str) -> Any:
        found = {
            label: sum(f" {' '.join(words_of(word))} " in text for word in words)
            for label, words in self.keywords.items()
        }
        best = max(found, key=found.__getitem__)
        return best if found[best] else None


def _only(value: Any) -> Any:
    """Return the value of a row, unpacked from a list or array of one."""
    if is_missing(value):
        return None
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, list | tuple):
        return value
    if len(value) == 1:
        return value[0]
    if not value:
        return None
    raise TypeError(f"a row must have one intent, not {value!r:.80}")
