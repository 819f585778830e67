"""A transformers checkpoint that reads texts: encoders and classifiers of any architecture.

Language models that are asked for probabilities of tokens are :mod:`textgym.lm`'s.
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
# Where a tokenizer knows no limit, it says 10^30.
_NO_LIMIT = 10**9

Encoded = dict[str, list[int]]
"""The inputs of one text: token ids, and what else the architecture takes."""


class Checkpoint:
    """A model and its tokenizer.

    Attributes:
        model: The transformers model, in evaluation mode.
        tokenizer: The transformers tokenizer.
        max_tokens: The longest text that is read whole, in tokens; None where there is no limit.
        pad: The token that fills up a batch.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, max_tokens: int | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        room = _room(model, tokenizer)
        if max_tokens is not None and room is not None and max_tokens > room:
            raise RewardError(
                f"has max_tokens={max_tokens}, but its model {model.name_or_path!r} reads at most "
                f"{room} tokens; leave max_tokens out"
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
            kind: The class of transformers that loads the model, ``AutoModel`` and its kind.
            name: A folder, a GGUF file, a hub id, or the built-in model's name.
            device: Where it goes.
            dtype: Of its weights; None for its own.
            truncate: The end, ``"left"`` or ``"right"``, that a text which is too long loses.
            max_tokens: The longest text that is read whole; None for what the model can.
            may_lack: A part of a module's name. Weights of such modules may be missing.

        Raises:
            RewardError: If it reads fewer tokens than that.
            ModelError: If there is no such checkpoint, or it is incomplete or damaged.
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
        """Pad with a token that no text holds, where the model knows no padding token.

        A decoder that classifies reads the last token that is no padding: were it padded with eos,
        as is usual, then a text's own eos would be passed over.
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
        """Tokenize texts, or pairs of texts; those that are too long are cut.

        Args:
            texts: N texts.
            pairs: What follows each of them as a second text, or None.
            special: Whether the tokenizer puts its special tokens around them.

        Returns:
            N inputs. A text without a token becomes its start or end token.
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
        """Put texts through the model, in batches of similar length.

        Args:
            encoded: N inputs.
            budget: The most tokens of a batch.
            read: Takes the inputs ``[B, L]`` of a batch, the attention mask among them, and returns
                B results.

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
        # Causal models number their positions from the left. XLNet's read the last position.
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
    """How many tokens a model has embeddings of."""
    return int(model.get_input_embeddings().weight.shape[0])


def _room(model: nn.Module, tokenizer: Any) -> int | None:
    """The longest text that a model can read, in tokens, or None."""
    limits = []
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        table = next(
            (m for n, m in model.named_modules() if n.endswith("position_embeddings")), None
        )
        # RoBERTa and its kin begin to count behind the padding token.
        first = getattr(table, "padding_idx", None)
        limits.append(positions - (0 if first is None else first + 1))
    if tokenizer.model_max_length < _NO_LIMIT:
        limits.append(tokenizer.model_max_length)
    return min(limits, default=None)
