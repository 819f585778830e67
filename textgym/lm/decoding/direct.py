"""Forward passes of GPT-2, Llama, Mistral and Qwen2 without the overhead of transformers.

In transformers, every layer chooses masks, caches, hooks and kernels again. For one token of a few
rows that takes as long as the layers themselves. Here the same modules are called in the same
order, for inference from a :class:`textgym.lm.decoding.cache.SlotCache`. Modules may be replaced
(linear layers by adapters), but their connections are those of the classes listed here, so it is
used for these alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as nn_module
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention, GPT2Block, GPT2Model
from transformers.models.llama import modeling_llama as llama
from transformers.models.mistral import modeling_mistral as mistral
from transformers.models.qwen2 import modeling_qwen2 as qwen2
from transformers.pytorch_utils import Conv1D

from textgym.lm.decoding.cache import SlotCache

# On a CPU, a few dozen rows are multiplied a quarter faster by [in, out] matrices, as in GPT-2,
# than by the [out, in] of a linear layer. Transposing pays off after this number of steps.
_STEPS_BEFORE_TRANSPOSING = 8
# Elements that are transposed at most: half a gigabyte in float32.
_MAX_TRANSPOSED = 2**27

Bias: TypeAlias = Tensor | Mapping[str, Tensor] | None

_LLAMA_MODULES = ((llama, "Llama"), (mistral, "Mistral"), (qwen2, "Qwen2"))
# The classes of model, layer, attention and MLP; and of the norms that _rms_norm replaces.
_GPT2 = (GPT2Model, GPT2Block, GPT2Attention, GPT2MLP)
_LLAMA_CLASSES = [
    tuple(getattr(module, prefix + part) for part in ("Model", "DecoderLayer", "Attention", "MLP"))
    for module, prefix in _LLAMA_MODULES
]
_RMS_NORMS = {getattr(module, f"{prefix}RMSNorm") for module, prefix in _LLAMA_MODULES}


class DirectPass(ABC):
    """The forward pass of a model without its head.

    Args:
        body: The model.
    """

    def __init__(self, body: Any) -> None:
        self._body = body
        modules = list(body.modules())
        self._hooks = [m._forward_hooks for m in modules] + [m._forward_pre_hooks for m in modules]
        self._own = [vars(module) for module in modules]
        linear = [module for module in self._linears() if type(module) is nn.Linear]
        self._transposable = [m for m in linear if m.weight.device.type == "cpu"]
        if sum(module.weight.numel() for module in self._transposable) > _MAX_TRANSPOSED:
            self._transposable = []
        self._transposed: dict[nn.Module, Tensor] = {}
        self._steps = 0

    def applies(self) -> bool:
        """Whether no module has a forward hook or a replaced ``forward``."""
        if any(self._hooks) or any("forward" in own for own in self._own):
            return False
        return not (nn_module._global_forward_hooks or nn_module._global_forward_pre_hooks)

    def _linears(self) -> Iterator[nn.Module]:
        """The linear layers whose matrix is ``[out, in]``."""
        return iter(())

    def invalidate(self) -> None:
        """Drop the transposed weights."""
        self._transposed.clear()
        self._steps = 0

    def step(self, tokens: Tensor, positions: Tensor, bias: Bias, cache: SlotCache) -> Tensor:
        """The pass for one token per row (``q`` is 1)."""
        self._steps += 1
        if self._steps == _STEPS_BEFORE_TRANSPOSING and not torch.is_autocast_enabled("cpu"):
            self._transposed = {
                module: module.weight.t().contiguous() for module in self._transposable
            }
        return self(tokens, positions, bias, cache)

    def _linear(self, module: Any, x: Tensor) -> Tensor:
        """A linear layer, ``[t, in]`` to ``[t, out]``."""
        weight = module.weight if type(module) is Conv1D else self._transposed.get(module)
        if weight is None:
            return cast(Tensor, module(x))
        return torch.mm(x, weight) if module.bias is None else torch.addmm(module.bias, x, weight)

    @abstractmethod
    def __call__(self, tokens: Tensor, positions: Tensor, bias: Bias, cache: SlotCache) -> Tensor:
        """Hidden states of some tokens.

        Args:
            tokens: ``[n, q]``.
            positions: ``[n, q]`` or ``[1, q]``, their positions.
            bias: The attention bias ``[n, 1, q, live]``, or one for each kind of layer; None for
                causal attention among these tokens, or, for a single token, to all live keys.
            cache: Stores their keys and values.

        Returns:
            ``[n, q, d]``.
        """


def direct_pass(body: nn.Module) -> DirectPass | None:
    """The direct pass of a model without its head; None if its classes are not supported."""
    if type(body) is GPT2Model:
        config = body.config
        plain = not (config.add_cross_attention or config.reorder_and_upcast_attn)
        blocks: Any = body.h
        parts = {(GPT2Model, type(x), type(x.attn), type(x.mlp)) for x in blocks}
        return _GPT2Pass(body) if plain and parts == {_GPT2} else None
    for known in _LLAMA_CLASSES:
        if type(body) is known[0]:
            layers: Any = body.layers
            found = {(known[0], type(x), type(x.self_attn), type(x.mlp)) for x in layers}
            return _LlamaPass(body) if found == {known} else None
    return None


class _GPT2Pass(DirectPass):
    """GPT-2 (Radford et al. 2019): learned positions, layer norm before each part."""

    def __call__(self, tokens: Tensor, positions: Tensor, bias: Bias, cache: SlotCache) -> Tensor:
        body, rows = self._body, len(tokens)
        x = (body.wte(tokens) + body.wpe(positions)).flatten(0, 1)
        for index, block in enumerate(body.h):
            attention, mlp = block.attn, block.mlp
            packed = self._linear(attention.c_attn, block.ln_1(x))
            query, key, value = packed.view(len(x), 3, -1, attention.head_dim).unbind(1)
            out = _attend(query, key, value, bias, cache.layers[index], rows, attention.scaling)
            x = self._linear(attention.c_proj, out) + x
            y = mlp.act(self._linear(mlp.c_fc, block.ln_2(x)))
            x = self._linear(mlp.c_proj, y) + x
        return cast(Tensor, body.ln_f(x).view(*tokens.shape, -1))


class _LlamaPass(DirectPass):
    """Llama (Touvron et al. 2023), Mistral, Qwen2: rotary positions, RMS norm, gated MLP."""

    def __init__(self, body: Any) -> None:
        super().__init__(body)
        kinds = getattr(body.config, "layer_types", None)
        self._kinds: list[str] = list(kinds or [""] * len(body.layers))

    def _linears(self) -> Iterator[nn.Module]:
        """The linear layers whose matrix is ``[out, in]``."""
        for layer in self._body.layers:
            attention, mlp = layer.self_attn, layer.mlp
            yield from (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
            yield from (mlp.gate_proj, mlp.up_proj, mlp.down_proj)

    def __call__(self, tokens: Tensor, positions: Tensor, bias: Bias, cache: SlotCache) -> Tensor:
        body, rows = self._body, len(tokens)
        x = body.embed_tokens(tokens)
        turn = body.rotary_emb(x, positions.expand_as(tokens))
        cos, sin = (part.flatten(0, 1)[:, None] for part in turn)
        x = x.flatten(0, 1)
        for index, layer in enumerate(body.layers):
            attention, mlp = layer.self_attn, layer.mlp
            y = _rms_norm(layer.input_layernorm, x)
            query, key, value = (
                self._linear(project, y).view(len(x), -1, attention.head_dim)
                for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            heads = query.shape[1]
            turned = _rotate(torch.cat([query, key], 1), cos, sin)
            query, key = turned[:, :heads], turned[:, heads:]
            own = bias[self._kinds[index]] if isinstance(bias, Mapping) else bias
            out = _attend(query, key, value, own, cache.layers[index], rows, attention.scaling)
            x = x + self._linear(attention.o_proj, out)
            y = _rms_norm(layer.post_attention_layernorm, x)
            gate = mlp.act_fn(self._linear(mlp.gate_proj, y))
            x = x + self._linear(mlp.down_proj, gate * self._linear(mlp.up_proj, y))
        return _rms_norm(body.norm, x).view(*tokens.shape, -1)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Any, layer: Any, rows: int, scale: float
) -> Tensor:
    """Attention ``[n * q, heads * size]`` of queries, keys, values ``[n * q, heads, size]``."""
    _, heads, size = query.shape
    length = len(query) // rows
    keys, values = layer.update(*(_by_head(part, rows, length) for part in (key, value)))
    query = query.to(keys.dtype)
    if length == 1:
        # The query heads of a group share keys: treat them as queries of one head.
        query = query.reshape(rows, keys.shape[1], -1, size)
        out = functional.scaled_dot_product_attention(query, keys, values, bias, scale=scale)
    else:
        query = _by_head(query, rows, length)
        causal, grouped = bias is None, keys.shape[1] < heads
        out = functional.scaled_dot_product_attention(
            query, keys, values, bias, is_causal=causal, scale=scale, enable_gqa=grouped
        ).transpose(1, 2)
    return out.reshape(-1, heads * size)


def _by_head(x: Tensor, rows: int, length: int) -> Tensor:
    """From ``[n * q, heads, size]`` to ``[n, heads, q, size]``."""
    return x.view(rows, length, *x.shape[1:]).transpose(1, 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) on ``[t, heads, size]``; cos and sin ``[t, 1, size]``."""
    half = x.shape[-1] // 2
    turned = torch.cat([x[..., half:].neg(), x[..., :half]], -1)
    return (x * cos).addcmul_(turned, sin)


def _rms_norm(norm: Any, x: Tensor) -> Tensor:
    """RMS norm (Zhang and Sennrich 2019), as one operation where that rounds in the same way."""
    floats = x.dtype == norm.weight.dtype == torch.float32
    if not floats or type(norm) not in _RMS_NORMS:
        return cast(Tensor, norm(x))
    return functional.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)
