"""A reward model: a language model with a scalar head.

In transformers' terms it is a sequence classifier with one label: the reward of a text is a linear
function of the hidden state of its last token. The checkpoint can be loaded with
``AutoModelForSequenceClassification.from_pretrained(folder)``.

The input is the prompt followed by the completion, with the tokenizer's default special tokens. No
end-of-sequence token is added, because a reward function gets texts without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from textgym.data.messages import Message
from textgym.errors import DataError, ModelError
from textgym.lm.loading.files import load_config, load_hf_tokenizer, resolve
from textgym.lm.loading.pretrained import load_pretrained
from textgym.rewards.preferences.pair_texts import Render
from textgym.rewards.preferences.pairs import Pair, plain_turns


class Encoded(NamedTuple):
    """Pairs as token ids.

    Attributes:
        pairs: The pairs.
        chosen: Token ids of prompt and chosen text.
        rejected: Token ids of prompt and rejected text.
        lengths: Number of tokens of the longer text of each pair, ``[n]``.
        cut: Number of texts that were truncated.
    """

    pairs: list[Pair]
    chosen: list[list[int]]
    rejected: list[list[int]]
    lengths: NDArray[np.int64]
    cut: int


class PreferenceModel:
    """A reward model and its tokenizer.

    Training and inference read texts in the same way: padded on the right, truncated on the left,
    without dropout.

    Args:
        model: A sequence classifier with one label.
        tokenizer: Its tokenizer, with the model's ``pad_token_id``.
        limit: Maximum length of a text in tokens; None for no limit.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, limit: int | None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.limit = limit
        self.pad_id = cast(int, tokenizer.pad_token_id)
        tokenizer.padding_side = "right"
        tokenizer.truncation_side = "left"
        if limit is not None:
            tokenizer.model_max_length = limit

    @staticmethod
    def load(
        name: str, device: str | torch.device = "auto", seed: int = 0, max_tokens: int = 0
    ) -> PreferenceModel:
        """Add a head to a language model, or load a reward model to continue training.

        Only safetensors weights and GGUF files are read, and code in a checkpoint is never run.

        Args:
            name: ``"textgym/tiny"``, a folder, a GGUF file, or a hub id.
            device: The device; ``"auto"`` uses the GPU if there is one.
            seed: Seed of a new head with several layers; a linear head is initialized to 0, so that
                all pairs have the probability 0.5 at first.
            max_tokens: Maximum length of a text in tokens; 0 for the model's context length.

        Raises:
            ModelError: If the model cannot be loaded, or its architecture has no sequence
                classifier.
            TokenizerError: If it has no tokenizer.
        """
        source = resolve(name)
        try:
            tokenizer = load_hf_tokenizer(source)
            config = load_config(source)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"no model with a tokenizer could be loaded from {name!r} ({_first_line(error)})"
            ) from error
        if getattr(config, "is_encoder_decoder", False):
            raise ModelError(
                f"{name!r} is an encoder-decoder ({config.model_type}), which does not read prompt "
                "and completion as one text; use a decoder such as GPT-2, Llama or Qwen2"
            )
        model = _with_head(name, source, config, seed)
        if tokenizer.pad_token_id is None:
            if tokenizer.eos_token is not None:
                tokenizer.pad_token = tokenizer.eos_token
            else:
                tokenizer.add_special_tokens({"pad_token": "<pad>"})
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:  # type: ignore[operator]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model.resize_token_embeddings(len(tokenizer))
        # The classifier reads the last token that is not padding, and needs the id for batches.
        for part in (model.config, model.config.get_text_config()):
            part.pad_token_id = tokenizer.pad_token_id
        if str(device) == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        context = getattr(config.get_text_config(), "max_position_embeddings", None)
        limits = [limit for limit in (max_tokens, context) if limit]
        model.to(torch.device(device)).eval()  # type: ignore[arg-type]
        return PreferenceModel(model, tokenizer, min(limits) if limits else None)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.model.device

    def render(self) -> Render:
        """Return a function that renders messages: the chat template, or `plain_turns`."""
        if not getattr(self.tokenizer, "chat_template", None):
            return plain_turns
        bos = self.tokenizer.bos_token
        # If both the template and the tokenizer add bos, remove the template's.
        doubled = bool(bos) and self.tokenizer("").input_ids[:1] == [self.tokenizer.bos_token_id]

        def render(messages: Sequence[Message], reply: bool) -> str:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=reply
            )
            return str(text).removeprefix(cast(str, bos) if doubled else "")

        return render

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Return the token ids of texts, truncated on the left, and how many were truncated."""
        if not texts:
            return [], 0
        try:
            rows = self.tokenizer(list(texts), truncation=False, verbose=False).input_ids
        except Exception as error:  # tokenizers raises bare Exception, or TypeError
            raise DataError(
                f"a text cannot be tokenized ({_first_line(error)}); it may contain a lone "
                "surrogate or a word that the vocabulary lacks"
            ) from error
        limit = self.limit
        long = [i for i, row in enumerate(rows) if limit is not None and len(row) > limit]
        if long:  # tokenized again, because only the tokenizer can place its special tokens
            cut = self.tokenizer(
                [texts[i] for i in long], truncation=True, max_length=self.limit
            ).input_ids
            for i, row in zip(long, cut, strict=True):
                rows[i] = row
        known = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.pad_id)
        empty = next(one for one in known if one is not None)
        return [list(row) or [empty] for row in rows], len(long)

    def encode_pairs(self, pairs: Sequence[Pair]) -> Encoded:
        """Return the token ids of pairs."""
        chosen, long = self.encode([pair.prompt + pair.chosen for pair in pairs])
        rejected, longer = self.encode([pair.prompt + pair.rejected for pair in pairs])
        both = zip(chosen, rejected, strict=True)
        lengths = np.array([max(len(one), len(other)) for one, other in both], np.int64)
        return Encoded(list(pairs), chosen, rejected, lengths, long + longer)

    def rewards(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Return the rewards ``[B]`` of texts, with gradients if enabled.

        Args:
            rows: Token ids of B texts, of any lengths.
        """
        longest = max(map(len, rows))
        tokens = torch.full((len(rows), longest), self.pad_id)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for at, row in enumerate(rows):
            tokens[at, : len(row)] = torch.tensor(row)
            mask[at, : len(row)] = 1
        output = self.model(
            input_ids=tokens.to(self.device), attention_mask=mask.to(self.device), use_cache=False
        )
        return cast(Tensor, output.logits)[:, 0]

    def pair_rewards(
        self, encoded: Encoded, rows: Sequence[int] | NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Return the rewards of the chosen and the rejected texts of some pairs, ``[B]`` each."""
        texts = [encoded.chosen[i] for i in rows] + [encoded.rejected[i] for i in rows]
        first, second = self.rewards(texts).chunk(2)
        return first, second

    @torch.no_grad()
    def judge(self, encoded: Encoded, batch_size: int = 64) -> NDArray[np.float64]:
        """Return the rewards of the chosen and rejected texts of all pairs, ``[n, 2]``."""
        judged = np.empty((len(encoded.pairs), 2))
        order = encoded.lengths.argsort(kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            both = torch.stack(self.pair_rewards(encoded, rows), 1)
            judged[rows] = both.double().cpu().numpy()
        return judged


def _with_head(name: str, source: str, config: Any, seed: int) -> PreTrainedModel:
    """Load a classifier with one label; a new linear head is initialized to 0.

    A head with several labels is loaded and then replaced.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model, fresh = load_pretrained(
                AutoModelForSequenceClassification,
                name,
                source,
                config=config,
                dtype=torch.float32,
                head_may_lack=True,
                other_heads=True,
            )
        except ModelError as error:
            raise ModelError(
                f"{name!r} ({config.model_type}) could not be loaded as a sequence classifier: "
                f"{error}; use a decoder such as GPT-2, Llama or Qwen2"
            ) from error
        new = _one_label(model, fresh)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for key in new:
            if key in weights and weights[key].shape[0] == 1:
                weights[key].zero_()
    model.config.num_labels = 1
    model.config.id2label, model.config.label2id = {0: "reward"}, {"reward": 0}
    model.config.problem_type = "regression"  # otherwise pipelines apply a sigmoid
    model.num_labels = 1  # type: ignore[assignment]
    return model


def _one_label(model: PreTrainedModel, fresh: list[str]) -> list[str]:
    """Replace a head of several labels by one of one label; return the names of new weights."""
    labels = model.config.num_labels
    if labels == 1:
        return fresh
    body = f"{model.base_model_prefix}."
    heads = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == labels
        and not name.startswith(body)
    ]
    if not heads:
        raise ModelError(
            f"{type(model).__name__} has no linear head of {labels} labels that could be replaced "
            "by a scalar head; use a decoder such as GPT-2, Llama or Qwen2"
        )
    name, old = heads[-1]
    head = nn.Linear(old.in_features, 1, bias=old.bias is not None)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, head.to(old.weight.dtype))
    return [*fresh, *(f"{name}.{each}" for each, _ in head.named_parameters())]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
