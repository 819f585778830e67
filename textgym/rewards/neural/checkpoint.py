"""Encoders and classifiers from transformers checkpoints, with their tokenizers.

Language models that score tokens are in :mod:`textgym.lm`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from textgym.errors import RewardError
from textgym.lm.loading.files import load_hf_tokenizer, resolve
from textgym.lm.loading.pretrained import load_pretrained
from textgym.rewards.neural.scorer import encodable, length_batches, shared

_Result = TypeVar("_Result")
# A tokenizer without a limit has model_max_length = 10^30.
_NO_LIMIT = 10**9

Encoded = dict[str, list[int]]
"""The inputs of one text: token ids, and other inputs of the architecture."""


class Checkpoint:
    """A model and its tokenizer.

    Attributes:
        model: The transformers model, in evaluation mode.
        tokenizer: The transformers tokenizer.
        max_tokens: The longest text that is not truncated, in tokens; None for no limit.
        pad: The id of the padding token.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, max_tokens: int | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        room = _room(model, tokenizer)
        if max_tokens is not None and room is not None and max_tokens > room:
            raise RewardError(
                f"has max_tokens={max_tokens}, but its model {model.name_or_path!r} reads at most "
                f"{room} tokens; lower it or leave it out"
            )
        self.max_tokens = room if max_tokens is None else max_tokens
        known = (model.config.get_text_config().pad_token_id, tokenizer.pad_token_id)
        size = _rows(model)
        self.pad = next((one for one in known if one is not None and 0 <= one < size), 0)
        self._takes = set(inspect.signature(model.forward).parameters)

    @classmethod
    def load(
        cls,
        kind: Any,
        name: str,
        device: torch.device,
        dtype: torch.dtype | None,
        truncate: str = "right",
        max_tokens: int | None = None,
        may_lack: str | None = None,
    ) -> Checkpoint:
        """Load a checkpoint.

        Args:
            kind: The class of transformers that loads the model, such as ``AutoModel``.
            name: A folder, a GGUF file, a hub id, or the name of the built-in model.
            device: The device of the model.
            dtype: The data type of the weights; None keeps that of the checkpoint.
            truncate: The side on which long texts are truncated, ``"left"`` or ``"right"``.
            max_tokens: The longest text that is not truncated; None for the model's limit.
            may_lack: Part of the name of modules whose weights may be missing.

        Raises:
            RewardError: If the model's limit is below `max_tokens`.
            ModelError: If the checkpoint does not exist, or is incomplete or damaged.
        """
        source = resolve(name)

        def read() -> PreTrainedModel:
            lacking = [] if may_lack is None else [may_lack]
            weights = "auto" if dtype is None else dtype
            model = load_pretrained(
                kind, name, source, dtype=weights, may_lack=lacking, other_heads=True
            ).model
            return cast(PreTrainedModel, model.requires_grad_(False).to(device))  # type: ignore[arg-type]

        model = shared(kind.__name__, name, device, dtype, read)
        tokenizer = load_hf_tokenizer(source)
        tokenizer.truncation_side = truncate
        return cls(model, tokenizer, max_tokens)

    def pad_apart(self) -> None:
        """Use a new padding token if the model has none.

        A decoder classifies by the last token that is not padding. With eos as padding, as is
        usual, it would skip the eos of a text.
        """
        config = self.model.config.get_text_config()
        if config.pad_token_id is None:
            self.pad = max(self.tokenizer.get_vocab().values()) + 1
            if _rows(self.model) <= self.pad:
                self.model.resize_token_embeddings(self.pad + 1, mean_resizing=False)
            self.model.requires_grad_(False)
            config.pad_token_id = self.pad
        elif config.pad_token_id >= 0:
            self.pad = config.pad_token_id

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, special: bool = True
    ) -> list[Encoded]:
        """Tokenize texts, or pairs of texts, and truncate long ones.

        Args:
            texts: N texts.
            pairs: The second texts of N pairs, or None.
            special: Whether the tokenizer adds its special tokens.

        Returns:
            N inputs. A text without tokens becomes a start or end token.
        """
        second = None if pairs is None else [encodable(text) for text in pairs]
        rows = self.tokenizer(
            [encodable(text) for text in texts],
            second,
            add_special_tokens=special,
            truncation=self.max_tokens is not None,
            max_length=self.max_tokens,
        )
        encoded = [
            {key: list(values[i]) for key, values in rows.items() if key in self._takes}
            for i in range(len(texts))
        ]
        for row in encoded:
            if not row["input_ids"]:
                some = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.pad)
                row["input_ids"] = [next(one for one in some if one is not None)]
                for key in row.keys() - {"input_ids"}:
                    row[key] = [int(key == "attention_mask")]
        return encoded

    def run(
        self,
        encoded: Sequence[Encoded],
        budget: int,
        read: Callable[[dict[str, Tensor]], Sequence[_Result]],
    ) -> list[_Result]:
        """Run the model on batches of texts of similar length.

        Args:
            encoded: N inputs.
            budget: Maximum number of tokens in a batch.
            read: Maps the inputs ``[B, L]`` of a batch, including the attention mask, to B results.

        Returns:
            N results.
        """
        results: dict[int, _Result] = {}
        with torch.inference_mode():
            for rows in length_batches([len(row["input_ids"]) for row in encoded], budget):
                batch = self._padded([encoded[row] for row in rows])
                results.update(zip(rows, read(batch), strict=True))
        return [results[row] for row in range(len(encoded))]

    def _padded(self, rows: list[Encoded]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        # Positions of causal models count from the left. XLNet reads the last position.
        left = self.model.config.model_type == "xlnet"
        batch = {}
        for key in {**rows[0], "attention_mask": []}:
            fill = self.pad if key == "input_ids" else 0
            lines = []
            for row in rows:
                values = row.get(key) or [1] * len(row["input_ids"])
                padding = [fill] * (width - len(values))
                lines.append(padding + values if left else values + padding)
            batch[key] = torch.tensor(lines, device=self.model.device)
        return batch


def _rows(model: Any) -> int:
    """Return the number of token embeddings of a model."""
    return int(model.get_input_embeddings().weight.shape[0])


def _room(model: nn.Module, tokenizer: Any) -> int | None:
    """Return the longest text that a model can read, in tokens; None for no limit."""
    limits = []
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        table = next(
            (m for n, m in model.named_modules() if n.endswith("position_embeddings")), None
        )
        # Positions of RoBERTa and its relatives start after the padding token's id.
        first = getattr(table, "padding_idx", None)
        limits.append(positions - (0 if first is None else first + 1))
    if tokenizer.model_max_length < _NO_LIMIT:
        limits.append(tokenizer.model_max_length)
    return min(limits, default=None)
