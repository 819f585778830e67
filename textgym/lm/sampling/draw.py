"""How tokens are drawn: the settings, and the draw itself.

What this module does not do: apply the settings to logits (:mod:`textgym.lm.sampling.processing`),
or record what was kept (:mod:`textgym.lm.sampling.kept_sets`).
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
# Probabilities in memory at once: 4 MiB, which a cache holds, and which need no fresh pages.
_PIECE = 2**20


@dataclass(frozen=True)
class Sampling:
    """The distribution that tokens are drawn from, made of the language model's logits.

    Applied in the order of transformers' ``generate``: repetition penalty, banned and required
    tokens, temperature, top-k, top-p. The result is normalised again, and it *is* the policy:
    log-probabilities, entropies and the KL to a reference are all of this distribution.

    Attributes:
        temperature: Logits are divided by it; below 1 is sharper.
        top_k: Only so many of the likeliest tokens are possible (and those that tie with the last);
            None for all. Fan et al. 2018, "Hierarchical Neural Story Generation".
        top_p: Only the likeliest tokens are possible, as many as it takes to reach this probability
            after top-k; None or 1 for all. Holtzman et al. 2020, "The Curious Case of Neural Text
            Degeneration".
        repetition_penalty: Logits of tokens that stand in the observation (prompt included) are
            divided by it where positive, multiplied where negative; above 1 discourages repetition.
            Keskar et al. 2019, "CTRL", section 4.1. In a conversation the eos of earlier turns
            counts as well.
        banned_tokens: Tokens that are never written: ids, or strings of the tokenizer's vocabulary,
            or texts that are a single token (``" the"``).
        required_tokens: The same; eos is not written before each of them stands in the observation,
            prompt and (in a conversation) the other side's texts included. They are not forced: a
            text can still end by its budget without them.

    Raises:
        SettingsError: If a value is impossible.
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
                advice = "for the likeliest token, act with deterministic=True"
                raise SettingsError(
                    f"sampling: {name} is {value!r}; give a finite number above 0 (1 changes "
                    f"nothing{f'; {advice}' if name == 'temperature' else ''})"
                )
            object.__setattr__(self, name, float(value))
        if self.top_k is not None:
            if not _is_integer(self.top_k) or self.top_k < 1:
                raise SettingsError(
                    f"sampling: top_k is {self.top_k!r}; give a whole number of at least 1, or "
                    "None to keep all tokens"
                )
            object.__setattr__(self, "top_k", int(self.top_k))
        if self.top_p is not None:
            if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
                raise SettingsError(
                    f"sampling: top_p is {self.top_p!r}; give a probability above 0 and up to 1, "
                    "or None to keep all tokens"
                )
            object.__setattr__(self, "top_p", float(self.top_p))
        for name in ("banned_tokens", "required_tokens"):
            object.__setattr__(self, name, token_list(f"sampling: {name}", getattr(self, name)))

    @staticmethod
    def of(spec: Sampling | Mapping[str, Any] | None) -> Sampling:
        """Settings from a dictionary (None: the defaults).

        Raises:
            SettingsError: If a key is unknown or a value impossible.
        """
        if spec is None:
            return Sampling()
        if isinstance(spec, Sampling):
            return spec
        if not isinstance(spec, Mapping):
            raise SettingsError(
                f"sampling is {spec!r}; give a dictionary such as dict(temperature=0.7, top_k=50)"
            )
        known = [field.name for field in dataclasses.fields(Sampling)]
        for key in spec:
            if key not in known:
                raise SettingsError(
                    f"sampling has no setting {key!r}{near_matches(str(key), known)}; there are "
                    f"{', '.join(known)}"
                )
        return Sampling(**spec)

    def as_dict(self) -> dict[str, Any]:
        """The settings as a dictionary that JSON can hold; :meth:`of` takes it."""
        fields = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}


def sample_tokens(logits: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor]:
    """Draw one token a row, by inversion of the cumulative distribution.

    The probabilities are summed in blocks; the running sum is taken over the blocks and then only
    within the block that is hit.

    Args:
        logits: Float32 ``[B, V]``; ``-inf`` marks impossible tokens, which are never drawn.
        deterministic: Take the likeliest token instead.

    Returns:
        Tokens ``[B]`` (int64) and their log-probabilities ``[B]`` (float32).
    """
    rows, size = logits.shape
    tokens = torch.empty(rows, dtype=torch.long, device=logits.device)
    chosen = torch.empty(rows, dtype=logits.dtype, device=logits.device)
    uniform = torch.rand(rows, 1, device=logits.device)
    # A GPU has no use for pieces: its memory is not the slower the more of it is new.
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

    An entry of weight 0 equals the one before it, so it is never the *first* above. Rounding may
    leave the target at or above the last entry, so it is kept below it. Among probabilities that
    are no numbers there is none: then it is the last one.
    """
    last = cumulative[:, -1:]
    below = torch.nextafter(last, torch.zeros_like(last))
    target = torch.minimum(target.clamp(min=0.0), below)
    return torch.searchsorted(cumulative, target, right=True).clamp_(max=cumulative.shape[1] - 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
