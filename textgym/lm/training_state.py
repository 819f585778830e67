"""The state of a training on disk: weights, optimizer and how far it is, as safetensors.

A training that is killed and started again goes on from the last state in its folder, and only
there: the folder belongs to one training, whose settings it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer

from textgym.errors import SettingsError

_STATE = "training.safetensors"


class Progress(TypedDict):
    """How far a training is: steps done, and CPU seconds spent on them."""

    step: int
    cpu_seconds: float


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make a folder this training's own, or find that it is.

    Args:
        folder: The folder; made if there is none.
        settings: What decides the outcome of the training, JSON-able.

    Raises:
        SettingsError: If the folder holds a training with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "settings.json"
    if not file.exists():
        file.write_text(json.dumps(settings, indent=1))
        return
    theirs = json.loads(file.read_text())
    if theirs != settings:
        changed = [key for key in settings if theirs.get(key) != settings[key]]
        raise SettingsError(
            f"{folder} holds a training with other settings ({', '.join(changed)}); "
            "choose another --out, or delete the folder to start anew"
        )


def save_state(
    folder: Path, model: torch.nn.Module, optimizers: Iterable[Optimizer], progress: Progress
) -> None:
    """Write the state of a training; a kill in mid-write leaves the last one whole."""
    tensors = {name: tensor.contiguous() for name, tensor in _tensors(model, optimizers)}
    partial = folder / "training.partial"
    save_file(tensors, str(partial), metadata={"progress": json.dumps(progress)})
    partial.replace(folder / _STATE)


def resume(folder: Path, model: torch.nn.Module, optimizers: Iterable[Optimizer]) -> Progress:
    """Load the last state into model and optimizers, if there is one, and say how far it is."""
    file = folder / _STATE
    if not file.exists():
        return {"step": 0, "cpu_seconds": 0.0}
    with safe_open(str(file), framework="pt") as opened:
        progress = cast(Progress, json.loads(opened.metadata()["progress"]))
    tensors = load_file(str(file))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(tensors[f"model.{name}"])
    names = _names(model)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                end = f".{names[id(weight)]}"
                optimizer.state[weight] = {
                    key.removeprefix("optimizer.").removesuffix(end): tensor
                    for key, tensor in tensors.items()
                    if key.startswith("optimizer.") and key.endswith(end)
                }
    return progress


def _tensors(
    model: torch.nn.Module, optimizers: Iterable[Optimizer]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights and the optimizers' moments under flat names: safetensors, not pickle."""
    names = _names(model)
    for name, weight in model.named_parameters():
        yield f"model.{name}", weight.detach()
    for optimizer in optimizers:
        for owner, state in optimizer.state.items():
            for key, value in state.items():
                # A key has no dots in it, so that it can be told from the weight's name.
                yield f"optimizer.{key}.{names[id(owner)]}", value


def _names(model: torch.nn.Module) -> dict[int, str]:
    return {id(weight): name for name, weight in model.named_parameters()}
