"""The state of a supervised training on disk: weights, optimizers and progress, as safetensors.

An interrupted training resumes from the last state in its folder, which belongs to one training and
has its settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from textgym.errors import SettingsError, StorageError
from textgym.storage.files import write_json
from textgym.storage.tensors import read_tensors, write_tensors

_STATE = "training.safetensors"


class Progress(TypedDict):
    """Number of steps done, and CPU seconds spent on them."""

    step: int
    cpu_seconds: float


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Reserve a folder for a training, or check that it is this training's.

    Args:
        folder: The folder; created if it does not exist.
        settings: The settings that affect the result, JSON-serializable.

    Raises:
        SettingsError: If the folder is of a training with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(settings))  # As they are read: tuples are lists.
    file = folder / "settings.json"
    if not file.exists():
        write_json(file, settings)
        return
    try:
        theirs = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{file} cannot be read ({error}); choose another --out") from error
    if not isinstance(theirs, dict):
        raise SettingsError(
            f"{file} does not contain the settings of a training; choose another --out"
        )
    if theirs != settings:
        changed = [key for key in settings if theirs.get(key) != settings[key]]
        raise SettingsError(
            f"{folder} is of a training with other settings ({', '.join(changed)}); "
            "choose another --out, or delete the folder to start again"
        )


def save_state(
    folder: Path, model: torch.nn.Module, optimizers: Iterable[Optimizer], progress: Progress
) -> None:
    """Write the state of a training atomically."""
    tensors = {name: tensor.contiguous() for name, tensor in _tensors(model, optimizers)}
    write_tensors(folder / _STATE, tensors, {"progress": json.dumps(progress)})


def resume(folder: Path, model: torch.nn.Module, optimizers: Iterable[Optimizer]) -> Progress:
    """Load the last state, if there is one, into model and optimizers; returns the progress."""
    file = folder / _STATE
    if not file.exists():
        return {"step": 0, "cpu_seconds": 0.0}
    try:
        tensors, metadata = read_tensors(file)
        progress = cast(Progress, json.loads(metadata["progress"]))
        if not {"step", "cpu_seconds"} <= progress.keys():
            raise KeyError("step")
        check_weights(file, tensors, model, "model.")
    except StorageError as error:
        raise SettingsError(f"the training cannot be resumed: {error}") from error
    except (KeyError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(
            f"{file} does not contain the state of a training ({type(error).__name__}: {error}); "
            "delete it to start again"
        ) from error
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


def check_weights(
    file: Path, tensors: Mapping[str, Tensor], model: torch.nn.Module, prefix: str = ""
) -> None:
    """Check that a file has all weights of a model, in their shapes.

    Raises:
        SettingsError: If it does not.
    """
    for name, weight in model.named_parameters():
        found = tensors.get(prefix + name)
        if found is None or found.shape != weight.shape:
            what = "no such weight" if found is None else f"one of shape {list(found.shape)}"
            raise SettingsError(
                f"{file} has {what} for {name!r} {list(weight.shape)}: it is the state of another "
                "model's training; delete it to start again"
            )


def _tensors(
    model: torch.nn.Module, optimizers: Iterable[Optimizer]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights and optimizer states under flat names."""
    names = _names(model)
    for name, weight in model.named_parameters():
        yield f"model.{name}", weight.detach()
    for optimizer in optimizers:
        for owner, state in optimizer.state.items():
            for key, value in state.items():
                # Keys have no dots, so they can be separated from the weight's name.
                yield f"optimizer.{key}.{names[id(owner)]}", value


def _names(model: torch.nn.Module) -> dict[int, str]:
    return {id(weight): name for name, weight in model.named_parameters()}
