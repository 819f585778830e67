"""BERTScore: token by token similarity of contextual embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from math import log
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel

from textgym.data.messages import reads_texts
from textgym.errors import RewardError
from textgym.rewards.neural.checkpoint import Checkpoint
from textgym.rewards.neural.scorer import ModelReward
from textgym.rewards.references import against_references
from textgym.tokenization import TINY


class Embedded(NamedTuple):
    """A text as BERTScore sees it.

    Attributes:
        vectors: ``[L, d]``, one of length 1 for each token, special tokens among them.
        weights: ``[L]``, how much each token counts; those put around a text count nothing.
    """

    vectors: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class BertScore(ModelReward[Checkpoint]):
    """BERTScore (Zhang et al. 2020) against the best reference.

    Each token of one text is matched with the most similar token of the other, by the cosine of
    their contextual embeddings. Precision is the mean of these cosines over the completion's
    tokens, recall that over the reference's, F1 their harmonic mean. As in the authors' package,
    the special tokens around a text are not averaged over but may be matched. Values are not
    rescaled with a baseline: with most models they all lie near the top of the range, and only
    their order means something.

    Range: [-1, 1], higher is better; mostly above 0.5. An empty text gets 0.
    Needs: the column ``column``.
    Cost: 1.8 ms a text of 22 tokens with ``"textgym/tiny"`` on a busy CPU core (560 texts/s), and
    as much as ``similarity`` for each new reference.
    Gaming: precision rewards one sure word, recall rewards long texts; words of the reference in
    any order come close to it, as does the opposite of what it says.

    Args:
        model: A checkpoint of transformers, best an encoder (``"roberta-large"`` is the authors'
            choice for English); see :class:`ModelReward` for it and for the options ``device``,
            ``dtype``, ``batch_tokens`` and ``cache_size`` (of references).
        column: The column of references: a string, or a list of alternatives. The best value of
            the measure counts.
        measure: ``"f1"``, ``"precision"`` or ``"recall"``.
        layer: The hidden states to compare: 0 are the embeddings, 1 what the first layer makes of
            them, negative ones count from the last; None is the last. The authors found 17 best
            for roberta-large, 9 for bert-base-uncased.
        idf: Texts, usually the references of the training data, by whose inverse document
            frequencies tokens are weighted: ``log((N + 1) / (n + 1))`` for a token in n of N.
        truncate: The end that a text which is too long for the model loses.
        max_tokens: The longest text that is read whole, in tokens; None for what the model reads.

    Raises:
        RewardError: If an option is unknown, or the column is missing; at the first call, if the
            model cannot be loaded or has no such layer.
    """

    model: str = TINY
    column: str = "reference"
    measure: str = "f1"
    layer: int | None = None
    idf: Sequence[str] | None = None
    _: KW_ONLY
    cache_size: int = 1024
    truncate: str = "right"
    max_tokens: int | None = None
    name: ClassVar[str] = "bertscore"
    _weights: list[dict[int, float]] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("measure", self.measure, ("f1", "precision", "recall"))
        self._check_choice("truncate", self.truncate, ("left", "right"))
        if self.max_tokens is not None:
            self._check_count("max_tokens", self.max_tokens, 1)
        if self.idf is not None:
            texts = () if isinstance(self.idf, str) else tuple(self.idf)
            if not texts or not all(isinstance(text, str) for text in texts):
                raise RewardError(f"{self.name}: idf takes a list of texts, not {self.idf!r:.80}")
            object.__setattr__(self, "idf", texts)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        # First which texts are compared, then all embeddings at once.
        pairs: dict[tuple[str, str], None] = {}

        def note(completion: str, references: list[str]) -> int:
            pairs.update(((completion, one), None) for one in references if completion and one)
            return len(references)

        said = [completion.strip() for completion in completions]
        against_references(note, said, columns, self.column)
        scores = self._scores(list(pairs))

        def best(completion: str, references: list[str]) -> float:
            return max(scores.get((completion, one), 0.0) for one in references)

        return against_references(best, said, columns, self.column)

    def _scores(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
        if not pairs:
            return {}
        at = ("precision", "recall", "f1").index(self.measure)
        references = self._remembered([reference for _, reference in pairs], self._embed)
        said = list(dict.fromkeys(completion for completion, _ in pairs))
        embedded = dict(zip(said, self._embed(said), strict=True))
        matched = [
            greedy_match(embedded[completion], reference)[at]
            for (completion, _), reference in zip(pairs, references, strict=True)
        ]
        return dict(zip(pairs, torch.stack(matched).tolist(), strict=True))

    def _embed(self, texts: list[str]) -> list[Embedded]:
        checkpoint = self._loaded()
        body: Any = checkpoint.model
        if body.config.is_encoder_decoder:
            body = body.get_encoder()
        layer = -1 if self.layer is None else self.layer

        def read(batch: dict[str, Tensor]) -> list[Tensor]:
            states = body(**batch, output_hidden_states=True).hidden_states
            unit = functional.normalize(states[layer].float(), dim=-1)
            return [
                row[kept] for row, kept in zip(unit, batch["attention_mask"].bool(), strict=True)
            ]

        encoded = checkpoint.encode([_spaced(checkpoint, text) for text in texts])
        vectors = checkpoint.run(encoded, self.batch_tokens, read)
        return [
            Embedded(rows, self._weigh(checkpoint, row["input_ids"], rows))
            for rows, row in zip(vectors, encoded, strict=True)
        ]

    def _weigh(self, checkpoint: Checkpoint, tokens: list[int], like: Tensor) -> Tensor:
        known = checkpoint.tokenizer
        # Not all special tokens: a word that the vocabulary lacks counts as much as any other.
        special = {known.cls_token_id, known.sep_token_id, known.bos_token_id, known.eos_token_id}
        if self.idf is None:
            return like.new_tensor([float(token not in special) for token in tokens])
        if not self._weights:
            rows = checkpoint.encode([_spaced(checkpoint, text) for text in self.idf])
            counts = Counter(token for row in rows for token in set(row["input_ids"]))
            table = {token: log((len(rows) + 1) / (n + 1)) for token, n in counts.items()}
            self._weights.append(table)
        unseen = log(len(self.idf) + 1)
        table = self._weights[0]
        return like.new_tensor(
            [0.0 if token in special else table.get(token, unseen) for token in tokens]
        )

    def _load(self, device: torch.device, dtype: torch.dtype | None) -> Checkpoint:
        checkpoint = Checkpoint.load(
            AutoModel, self.model, device, dtype, self.truncate, self.max_tokens, "pooler"
        )
        layers = checkpoint.model.config.get_text_config().num_hidden_layers
        if self.layer is not None and not -layers - 1 <= self.layer <= layers:
            raise RewardError(
                f"has layer={self.layer}, but its model {self.model!r} has {layers} layers; "
                f"layer takes 0 (the embeddings) to {layers}"
            )
        return checkpoint


def greedy_match(said: Embedded, reference: Embedded) -> Tensor:
    """Precision, recall and F1 of a text against a reference (Zhang et al. 2020, section 3).

    Args:
        said: The text.
        reference: The reference.

    Returns:
        The three, ``[3]``; 0 where a text has no token that counts.
    """
    cosines = said.vectors @ reference.vectors.T
    precision = _mean(cosines.amax(1), said.weights)
    recall = _mean(cosines.amax(0), reference.weights)
    total = precision + recall
    # Of two negative means there is no harmonic one.
    f1 = torch.where(total > 0, 2 * precision * recall / total, torch.zeros_like(total))
    return torch.stack([precision, recall, f1]).clamp(-1.0, 1.0)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum()
    return torch.where(total > 0, (values * weights).sum() / total, torch.zeros_like(total))


def _spaced(checkpoint: Checkpoint, text: str) -> str:
    """A first word as it would be tokenized behind others, as the authors' package reads it."""
    text = text.strip()
    marked = checkpoint.tokenizer.tokenize(" a")
    return f" {text}" if marked and marked[0].startswith("Ġ") else text
