"""The state of a policy with an adapter: without the frozen weights below it.

Those are found again by the name of the model, so a checkpoint of a training with LoRA has the
adapter, the value head and the optimizer's state, and not the model. A hash of the frozen weights
is stored in their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from textgym.errors import ModelError
from textgym.lm.lora import has_adapter
from textgym.lm.model import LanguageModel
from textgym.lm.weights import tensors_hash

BASE_HASH = "base_hash"
"""The name of the hash of the frozen weights in a state."""
_LM = "lm."


def leave_out_base(policy: nn.Module) -> None:
    """Let ``policy.state_dict()`` leave out the frozen weights of ``policy.lm``.

    ``load_state_dict`` keeps them as they are, and raises `ModelError` if the saved policy had
    others. Without an adapter nothing changes. States with the frozen weights can be loaded too.
    """
    policy.register_state_dict_post_hook(_leave_out)  # type: ignore[no-untyped-call]
    policy.register_load_state_dict_pre_hook(_fill_in)  # type: ignore[no-untyped-call]


def _frozen(policy: Any) -> Iterator[tuple[str, Tensor]]:
    lm: LanguageModel = policy.lm
    if has_adapter(lm.model):
        for name, weight in lm.named_parameters():
            if name.startswith("model.") and not weight.requires_grad:
                yield f"{_LM}{name}", weight


def _base_hash(frozen: dict[str, Tensor]) -> Tensor:
    return torch.tensor(int(tensors_hash(frozen), 16))


def _leave_out(policy: Any, state: dict[str, Any], prefix: str, _: Any) -> None:
    frozen = dict(_frozen(policy))
    for name in _tied(policy, frozen):
        state.pop(prefix + name, None)
    if frozen:
        state[prefix + BASE_HASH] = _base_hash(frozen)


def _tied(policy: Any, frozen: dict[str, Tensor]) -> set[str]:
    """The names of frozen weights, with those under which a tied weight appears again."""
    places = {id(weight) for weight in frozen.values()}
    every = policy.lm.named_parameters(remove_duplicate=False)
    return {f"{_LM}{name}" for name, weight in every if id(weight) in places}


def _fill_in(policy: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    theirs = state.pop(prefix + BASE_HASH, None)
    frozen = dict(_frozen(policy))
    if theirs is None or not frozen:
        return
    if int(theirs) != int(_base_hash(frozen)):
        raise ModelError(
            f"{policy.lm.name!r} has other weights than the model that the adapter was trained on; "
            "give the checkpoint that it was"
        )
    every = dict(policy.lm.named_parameters(remove_duplicate=False))
    for name in _tied(policy, frozen):
        state[prefix + name] = every[name.removeprefix(_LM)].detach()
