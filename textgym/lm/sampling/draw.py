"""The settings of sampling, and the draw from processed logits.

:mod:`textgym.lm.sampling.processing` applies the settings to logits.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from textgym.errors import SettingsError, near_matches
from textgym.lm.sampling.tokens import token_list

# Width of a block of the vocabulary: about the square root of common vocabulary sizes.
_BLOCK = 128
# Probabilities in memory at once: 4 MiB, which fit into a CPU cache and need no new pages.
_PIECE = 2**20


@dataclass(frozen=True)
class Sampling:
    """The distribution that tokens are sampled from, as a function of the model's logits.

    Applied in the order of transformers' ``generate``: repetition penalty, banned and required
    tokens, temperature, top-k, top-p. The result is renormalized, and it *is* the policy:
    log-probabilities, entropies and the KL to a reference are those of this distribution.

    Attributes:
        temperature: Logits are divided by it; below 1 is sharper.
        top_k: Number of likeliest tokens to sample from, and those that tie with the last; None for
            all. Fan et al. 2018, "Hierarchical Neural Story Generation".
        top_p: Sample from the smallest set of likeliest tokens that reaches this probability, after
            top-k; None or 1 for all. Holtzman et al. 2020, "The Curious Case of Neural Text
            Degeneration".
        repetition_penalty: Logits of tokens in the observation, prompt included, are divided by it
            if positive, multiplied if negative; above 1 discourages repetition. In a conversation,
            this includes the eos of earlier turns. Keskar et al. 2019, "CTRL", section 4.1.
        banned_tokens: Tokens that are never sampled: ids, strings of the tokenizer's vocabulary, or
            texts that are a single token (``" the"``).
        required_tokens: Tokens in the same forms. eos is not sampled before all of them are in the
            observation, which includes the prompt and the other speaker's turns. They are not
            forced: a text can reach its budget without them.

    Raises:
        SettingsError: If a value is invalid.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    banned_tokens: tuple[int | str, ...] = ()
    required_tokens: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("temperature", "repetition_penalty"):
            value = getattr(self, name)
            if not _is_number(value) or not (math.isfinite(value) and value > 0):
                advice = "; for the likeliest token, use deterministic=True"
                raise SettingsError(
                    f"sampling: {name}={value!r} must be a finite number above 0 (1 has no effect"
                    f"{advice if name == 'temperature' else ''})"
                )
            object.__setattr__(self, name, float(value))
        if self.top_k is not None:
            if not _is_integer(self.top_k) or self.top_k < 1:
                raise SettingsError(
                    f"sampling: top_k={self.top_k!r} must be an integer of at least 1, or None for "
                    "all tokens"
                )
            object.__setattr__(self, "top_k", int(self.top_k))
        if self.top_p is not None:
            if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
                raise SettingsError(
                    f"sampling: top_p={self.top_p!r} must be above 0 and at most 1, or None for "
                    "all tokens"
                )
            object.__setattr__(self, "top_p", float(self.top_p))
        for name in ("banned_tokens", "required_tokens"):
            object.__setattr__(self, name, token_list(f"sampling: {name}", getattr(self, name)))

    @staticmethod
    def of(spec: Sampling | Mapping[str, Any] | None) -> Sampling:
        """Settings from a dictionary (None: the defaults).

        Raises:
            SettingsError: If a key is unknown or a value is invalid.
        """
        if spec is None:
            return Sampling()
        if isinstance(spec, Sampling):
            return spec
        if not isinstance(spec, Mapping):
            raise SettingsError(
                f"sampling={spec!r} must be a dictionary such as dict(temperature=0.7, top_k=50)"
            )
        known = [field.name for field in dataclasses.fields(Sampling)]
        for key in spec:
            if key not in known:
                raise SettingsError(
                    f"sampling has no setting {key!r}{near_matches(str(key), known)}; the settings "
                    f"are {', '.join(known)}"
                )
        return Sampling(**spec)

    def as_dict(self) -> dict[str, Any]:
        """The settings as a JSON-serializable dictionary, the inverse of :meth:`of`."""
        fields = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}


def sample_tokens(logits: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor]:
    """Sample one token per row, by inversion of the cumulative distribution.

    The cumulative sum is taken over blocks of the vocabulary, and then within one block.

    Args:
        logits: Float32 ``[B, V]``; tokens with ``-inf`` are never sampled.
        deterministic: Take the likeliest token instead.

    Returns:
        Tokens ``[B]`` (int64) and their log-probabilities ``[B]`` (float32).
    """
    rows, size = logits.shape
    tokens = torch.empty(rows, dtype=torch.long, device=logits.device)
    chosen = torch.empty(rows, dtype=logits.dtype, device=logits.device)
    uniform = torch.rand(rows, 1, device=logits.device)
    # On a GPU, new memory is not slower, so there is one piece.
    step = rows if logits.is_cuda else max(1, _PIECE // size)
    memory = logits.new_empty(min(step, rows), size)
    for at in range(0, rows, step):
        piece = logits[at : at + step]
        probs = torch.softmax(piece, -1, out=memory[: len(piece)])
        if deterministic:
            drawn = piece.argmax(-1, keepdim=True)
        else:
            drawn = _invert(probs, uniform[at : at + step])
        tokens[at : at + step] = drawn[:, 0]
        chosen[at : at + step] = probs.gather(1, drawn)[:, 0]
    return tokens, chosen.log_()


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """Tokens ``[B, 1]`` at the quantiles ``uniform`` ``[B, 1]`` of probabilities ``[B, V]``."""
    size = probs.shape[1]
    whole = size // _BLOCK
    sums = torch.unflatten(probs[:, : whole * _BLOCK], 1, (whole, _BLOCK)).sum(-1)
    if whole * _BLOCK < size:
        sums = torch.cat([sums, probs[:, whole * _BLOCK :].sum(-1, keepdim=True)], 1)
    cumulative = sums.cumsum(-1)
    target = uniform * cumulative[:, -1:]
    block = _first_above(cumulative, target)
    before = cumulative.gather(1, block) - sums.gather(1, block)
    places = block * _BLOCK + torch.arange(_BLOCK, device=probs.device)
    inside = probs.gather(1, places.clamp(max=size - 1)).masked_fill_(places >= size, 0.0)
    token = block * _BLOCK + _first_above(inside.cumsum(-1), target - before)
    return token.clamp_(max=size - 1)


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    """Index ``[B, 1]`` of the first entry above ``target``; never one of weight 0.

    An entry of weight 0 equals the one before it, so it is never the *first* above. The target is
    clamped below the last entry, which rounding may exceed. With NaN, the result is the last index.
    """
    last = cumulative[:, -1:]
    below = torch.nextafter(last, torch.zeros_like(last))
    target = torch.minimum(target.clamp(min=0.0), below)
    return torch.searchsorted(cumulative, target, right=True).clamp_(max=cumulative.shape[1] - 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
