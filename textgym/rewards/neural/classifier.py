"""Rewards from sequence classifiers: the probability of a label, and learned reward models."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from math import isfinite
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from textgym.data.messages import Message, belongs, reads_texts, text_of_messages
from textgym.errors import RewardError, near_matches
from textgym.rewards.neural.checkpoint import Checkpoint
from textgym.rewards.neural.scorer import ModelReward

_PLACE = re.compile(r"\{(prompt|completion)\}")
# A text, the second text of a pair, and whether special tokens are added.
_Text = tuple[str, str | None, bool]


@dataclass(frozen=True, eq=False)
class _SequenceReward(ModelReward[Checkpoint]):
    """A reward from a checkpoint for sequence classification."""

    _: KW_ONLY
    truncate: str = "right"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_truncation(self.truncate, self.max_tokens)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N rewards."""
        checkpoint = self._loaded()
        conversations = columns.get("messages") or [None] * len(prompts)
        texts = [
            self._text(checkpoint, prompt, completion, turns if belongs(prompt, turns) else None)
            for prompt, completion, turns in zip(prompts, completions, conversations, strict=True)
        ]
        return self._remembered(texts, self._scores)

    @abstractmethod
    def _text(
        self,
        checkpoint: Checkpoint,
        prompt: str,
        completion: str,
        conversation: Sequence[Message] | None,
    ) -> _Text:
        """Return the input of the model; `conversation`: the prompt's messages, if any."""

    @abstractmethod
    def _read(self, checkpoint: Checkpoint, logits: Tensor) -> Tensor:
        """Return rewards ``[B]`` of float32 logits ``[B, labels]``."""

    @abstractmethod
    def _check(self, checkpoint: Checkpoint) -> None:
        """Raise RewardError if the checkpoint does not fit the options."""

    def _load(self, device: torch.device, dtype: torch.dtype | None) -> Checkpoint:
        kind = AutoModelForSequenceClassification
        checkpoint = Checkpoint.load(
            kind, self.model, device, dtype, self.truncate, self.max_tokens
        )
        self._check(checkpoint)
        checkpoint.pad_apart()
        return checkpoint

    def _scores(self, texts: list[_Text]) -> list[float]:
        checkpoint = self._loaded()
        scores: list[float] = [0.0] * len(texts)
        for paired in (False, True):
            rows = [row for row, text in enumerate(texts) if (text[1] is not None) == paired]
            if not rows:
                continue
            encoded = checkpoint.encode(
                [texts[row][0] for row in rows],
                [texts[row][1] or "" for row in rows] if paired else None,
                special=texts[rows[0]][2],
            )
            read = checkpoint.run(
                encoded,
                self.batch_tokens,
                lambda batch: self._read(
                    checkpoint, checkpoint.model(**batch).logits.float()
                ).tolist(),
            )
            for row, score in zip(rows, read, strict=True):
                scores[row] = score
        return scores


@dataclass(frozen=True, eq=False)
class Classifier(_SequenceReward):
    """A text classifier's probability of a label: sentiment, toxicity, entailment, topic, ...

    As in the ``text-classification`` pipeline of transformers, multi-label checkpoints use a
    sigmoid, single-label ones a softmax.

    Range: [0, 1] (``"probability"``), (-inf, 0] (``"log_probability"``) or any number
    (``"logit"``); higher is better.
    Needs: a checkpoint of transformers; the prompts with ``pair`` or a template that names them.
    Cost: 1.1 ms per text of 22 tokens on a busy CPU core for a model of the size of the built-in
    one (1.3 million weights in its layers; 900 texts/s); proportional to the number of weights.
    Gaming: texts far from the training data of the classifier, such as the strongest words of the
    label repeated. Combine it with ``fluency`` or a KL penalty to a reference policy, and read
    samples.

    Args:
        model: A checkpoint for sequence classification; see :class:`ModelReward` for it and for
            the options ``device``, ``dtype``, ``batch_tokens`` and ``cache_size``.
        label: The desired label: its index, or its name in the checkpoint's configuration (case is
            ignored unless two names differ only in case).
        output: ``"probability"``, ``"log_probability"`` or ``"logit"``. A logit still distinguishes
            texts whose probabilities are all close to 1.
        pair: Whether prompt and completion are read as a pair, the completion second (as for
            entailment). False reads the completion alone.
        template: A text to read instead of the completion, e.g. ``"{prompt}{completion}"``.
        truncate: The side on which long texts are truncated: ``"right"`` as in the pipeline;
            ``"left"`` keeps the completion after a long prompt. Of a pair, the longer text is
            truncated.
        max_tokens: The longest text that is not truncated, in tokens; None for the model's limit.

    Raises:
        RewardError: If an option is unknown; at the first call, if the model cannot be loaded, is
            not a classifier, or does not have the label.
    """

    label: str | int
    output: str = "probability"
    pair: bool = False
    template: str | None = None
    name: ClassVar[str] = "classifier"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("output", self.output, ("probability", "log_probability", "logit"))
        if not isinstance(self.label, (str, int)) or isinstance(self.label, bool):
            raise RewardError(
                f"{self.name}: label must be a label's name or index, not {self.label!r}"
            )
        if self.template is not None:
            _check_template(self.name, self.template)
            if self.pair:
                raise RewardError(
                    f"{self.name}: pair=True does not use a template; give one of the two"
                )

    def _text(
        self,
        checkpoint: Checkpoint,
        prompt: str,
        completion: str,
        conversation: Sequence[Message] | None,
    ) -> _Text:
        if self.pair:
            return prompt, completion, True
        if self.template is None:
            return completion, None, True
        return _filled(self.template, prompt, completion), None, True

    def _read(self, checkpoint: Checkpoint, logits: Tensor) -> Tensor:
        index = self._index(checkpoint)
        if self.output == "logit":
            return logits[:, index]
        if _independent(checkpoint):
            logs = functional.logsigmoid(logits[:, index])
        else:
            logs = logits.log_softmax(-1)[:, index]
        return logs if self.output == "log_probability" else logs.exp()

    def _check(self, checkpoint: Checkpoint) -> None:
        self._index(checkpoint)
        if checkpoint.model.config.problem_type == "regression" and self.output != "logit":
            raise RewardError(
                f"cannot use its model {self.model!r} with output={self.output!r}: it was trained "
                "for regression; use output='logit', or the reward 'reward_model'"
            )

    def _index(self, checkpoint: Checkpoint) -> int:
        labels: Any = checkpoint.model.config.id2label
        if isinstance(self.label, int):
            if self.label in labels:
                return self.label
        else:
            same = [at for at, label in labels.items() if label == self.label]
            folded = self.label.casefold()
            same = same or [at for at, label in labels.items() if label.casefold() == folded]
            if len(same) == 1:
                return int(same[0])
        meant = near_matches(str(self.label), labels.values())
        known = ", ".join(f"{at}: {label!r}" for at, label in sorted(labels.items())[:20])
        raise RewardError(
            f"cannot find the label {self.label!r} in its model {self.model!r}{meant or '.'} "
            f"Its labels: {known}"
        )


@dataclass(frozen=True, eq=False)
class RewardModel(_SequenceReward):
    """The score of a learned reward model for prompt and completion.

    Such a model is a sequence classifier with one output, trained on comparisons of texts
    (Christiano et al. 2017; Stiennon et al. 2020). The offset and scale of its scores are
    arbitrary: set ``center`` and ``scale`` to their mean and standard deviation over texts of the
    initial policy.

    Range: (-inf, inf), higher is better.
    Needs: the prompts; a checkpoint with one label.
    Cost: as for ``classifier``.
    Gaming: with over-optimization the score rises while human ratings fall (Gao et al. 2023): long
    answers, lists, flattery, confident nonsense. Keep the policy close to its reference (a KL
    penalty), and evaluate with something else.

    Args:
        model: A checkpoint for sequence classification with one label; see :class:`ModelReward`
            for it and for the options ``device``, ``dtype``, ``batch_tokens`` and ``cache_size``.
        form: The input of the model: ``"chat"``, the prompt (its messages, or one user message) and
            the completion as an assistant message, in the chat template of the model's tokenizer;
            ``"pair"``, a pair of texts; ``"text"``, both in ``template``; or ``"auto"``: ``"chat"``
            if the tokenizer has a chat template, else ``"text"``.
        template: The text of the form ``"text"``.
        system: The system message of the form ``"chat"``, unless the messages have one.
        center: Subtracted from the score of the model.
        scale: The centered score is divided by it.
        truncate: The side on which long texts are truncated; ``"left"`` keeps the completion.
        max_tokens: The longest text that is not truncated, in tokens; None for the model's limit.

    Raises:
        RewardError: If an option is unknown; at the first call, if the model cannot be loaded, has
            more than one label, or has no chat template for ``form="chat"``.
    """

    form: str = "auto"
    template: str = "{prompt}{completion}"
    system: str | None = None
    center: float = 0.0
    scale: float = 1.0
    _: KW_ONLY
    truncate: str = "left"
    name: ClassVar[str] = "reward_model"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("form", self.form, ("auto", "chat", "pair", "text"))
        _check_template(self.name, self.template)
        if not isfinite(self.center) or not isfinite(self.scale) or self.scale <= 0:
            raise RewardError(
                f"{self.name}: center must be finite and scale positive, not "
                f"{self.center!r} and {self.scale!r}"
            )

    def _text(
        self,
        checkpoint: Checkpoint,
        prompt: str,
        completion: str,
        conversation: Sequence[Message] | None,
    ) -> _Text:
        if self.form == "pair":
            return prompt, completion, True
        if self.form == "text" or not checkpoint.tokenizer.chat_template:
            return _filled(self.template, prompt, completion), None, True
        turns: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
        if conversation is not None:
            turns = [dict(message) for message in conversation]
        if self.system is not None and turns[0].get("role") != "system":
            turns.insert(0, {"role": "system", "content": self.system})
        if turns[-1].get("role") == "assistant":  # the prompt begins the answer
            completion = text_of_messages([turns.pop()]) + completion
        turns.append({"role": "assistant", "content": completion})
        # The template writes the special tokens itself.
        return checkpoint.tokenizer.apply_chat_template(turns, tokenize=False), None, False

    def _read(self, checkpoint: Checkpoint, logits: Tensor) -> Tensor:
        return (logits[:, 0] - self.center) / self.scale

    def _check(self, checkpoint: Checkpoint) -> None:
        labels = checkpoint.model.config.num_labels
        if labels != 1:
            raise RewardError(
                f"cannot use its model {self.model!r}: it has {labels} labels, but a reward model "
                "has one; use the reward 'classifier' with label="
            )
        if self.form == "chat" and not checkpoint.tokenizer.chat_template:
            raise RewardError(
                f"cannot use its model {self.model!r}: its tokenizer has no chat template; use "
                "form='text' with the template that it was trained with, or form='pair'"
            )


def _independent(checkpoint: Checkpoint) -> bool:
    """Whether each label has its own probability (a sigmoid instead of a softmax)."""
    config = checkpoint.model.config
    return config.problem_type == "multi_label_classification" or config.num_labels == 1


def _check_template(name: str, template: str) -> None:
    if not isinstance(template, str) or "{completion}" not in template:
        raise RewardError(
            f"{name}: template must be a string with {{completion}} and optionally {{prompt}}, "
            f"not {template!r}"
        )


def _filled(template: str, prompt: str, completion: str) -> str:
    """Fill in the template; braces within the texts are left alone."""
    texts = {"prompt": prompt, "completion": completion}
    return _PLACE.sub(lambda place: texts[place[1]], template)
