"""BERTScore: token-level similarity of contextual embeddings."""

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
    """The embeddings of a text's tokens.

    Attributes:
        vectors: ``[L, d]`` unit vectors of the tokens, including special tokens.
        weights: ``[L]`` weights of the tokens; 0 for special tokens around the text.
    """

    vectors: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class BertScore(ModelReward[Checkpoint]):
    """BERTScore (Zhang et al. 2020) against the best reference.

    Each token is matched with the most similar token of the other text, by the cosine of their
    contextual embeddings. Precision is the mean of these cosines over the completion's tokens,
    recall over the reference's tokens, F1 their harmonic mean. As in the authors' package, special
    tokens around a text may be matched but are left out of the means. Values are not rescaled with
    a baseline, so with most models they are close to 1, and only their order is meaningful.

    Range: [-1, 1], higher is better; mostly above 0.5. An empty text gets 0.
    Needs: the column ``column``.
    Cost: 1.8 ms per text of 22 tokens with ``"textgym/tiny"`` on a busy CPU core (560 texts/s), and
    as much as ``similarity`` for each new reference.
    Gaming: precision rewards a single safe word, recall rewards long texts; words of the reference
    in any order, and its negation, score almost as high as the reference.

    Args:
        model: A checkpoint of transformers, preferably an encoder (the authors use
            ``"roberta-large"`` for English); see :class:`ModelReward` for it and for the options
            ``device``, ``dtype``, ``batch_tokens`` and ``cache_size`` (of references).
        column: The column of references: a string, or a list of alternatives. The best value of
            the measure counts.
        measure: ``"f1"``, ``"precision"`` or ``"recall"``.
        layer: Index of the hidden states: 0 for the embeddings, 1 for the output of the first
            layer, negative ones count from the last; None is the last. The authors found 17 best
            for roberta-large, 9 for bert-base-uncased.
        idf: Texts, usually the references of the training data, whose inverse document frequencies
            weight the tokens: ``log((N + 1) / (n + 1))`` for a token in n of N texts.
        truncate: The side on which long texts are truncated, ``"left"`` or ``"right"``.
        max_tokens: The longest text that is not truncated, in tokens; None for the model's limit.

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
        self._check_truncation(self.truncate, self.max_tokens)
        if self.idf is not None:
            texts = () if isinstance(self.idf, str) else tuple(self.idf)
            if not texts or not all(isinstance(text, str) for text in texts):
                raise RewardError(f"{self.name}: idf must be a list of texts, not {self.idf!r:.80}")
            object.__setattr__(self, "idf", texts)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        # Collect the pairs first, so that all texts are embedded in one call.
        pairs: dict[tuple[str, str], None] = {}

        def collect(completion: str, references: list[str]) -> int:
            pairs.update(((completion, one), None) for one in references if completion and one)
            return len(references)

        stripped = [completion.strip() for completion in completions]
        against_references(collect, stripped, columns, self.column)
        scores = self._scores(list(pairs))

        def best(completion: str, references: list[str]) -> float:
            return max(scores.get((completion, one), 0.0) for one in references)

        return against_references(best, stripped, columns, self.column)

    def _scores(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
        if not pairs:
            return {}
        at = ("precision", "recall", "f1").index(self.measure)
        references = self._remembered([reference for _, reference in pairs], self._embed)
        texts = list(dict.fromkeys(completion for completion, _ in pairs))
        embedded = dict(zip(texts, self._embed(texts), strict=True))
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
        # Not all special tokens: unknown words count like any other.
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
    """Compute precision, recall and F1 against a reference (Zhang et al. 2020, section 3).

    Args:
        said: The text.
        reference: The reference.

    Returns:
        Precision, recall and F1, ``[3]``; 0 if all tokens of a text have the weight 0.
    """
    cosines = said.vectors @ reference.vectors.T
    precision = _mean(cosines.amax(1), said.weights)
    recall = _mean(cosines.amax(0), reference.weights)
    total = precision + recall
    # The harmonic mean needs a positive sum.
    f1 = torch.where(total > 0, 2 * precision * recall / total, torch.zeros_like(total))
    return torch.stack([precision, recall, f1]).clamp(-1.0, 1.0)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum()
    return torch.where(total > 0, (values * weights).sum() / total, torch.zeros_like(total))


def _spaced(checkpoint: Checkpoint, text: str) -> str:
    """Put a space in front of the first word, as the authors' package does for GPT-2 tokenizers."""
    text = text.strip()
    marked = checkpoint.tokenizer.tokenize(" a")
    return f" {text}" if marked and marked[0].startswith("Ġ") else text
