"""Policy files that cannot run code: safetensors for weights, JSON for arguments.

Classes among the arguments (activations, optimizers) are written by name, and looked up among the
modules that are already imported.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from textgym.errors import DataError, SettingsError, StorageError
from textgym.moved import current_name
from textgym.sb3.spaces import KINDS
from textgym.storage.value_files import read_values, write_values

_FORMAT = "textgym policy 1"
_CLASS = "$class"
_Policy = TypeVar("_Policy", bound=BasePolicy)


def save_policy(policy: BasePolicy, path: str | Path) -> None:
    """Write a policy's weights and constructor arguments.

    Raises:
        DataError: If an argument would have to be pickled.
        StorageError: If the file cannot be written; an existing file stays intact.
    """
    arguments = {
        name: _named(value)
        for name, value in policy._get_constructor_parameters().items()
        if name not in ("observation_space", "action_space", "lr_schedule")
    }
    values = {
        "format": _FORMAT,
        "policy": type(policy).__name__,
        "arguments": arguments,
        "observation_space": _plain_space(policy.observation_space),
        "action_space": _plain_space(policy.action_space),
        "weights": dict(policy.state_dict()),
    }
    write_values(Path(path), values)


def load_policy(kind: type[_Policy], path: str | Path, device: torch.device) -> _Policy:
    """Load a policy from a file of :func:`save_policy`.

    Args:
        kind: The class of the policy.
        path: The file. A pickle from SB3's own ``save`` is read by torch's restricted unpickler,
            which creates weights, spaces and known classes, and runs no code.
        device: Device of the policy.

    Raises:
        SettingsError: If the file is missing, damaged, of another class, or a pickle with other
            content.
    """
    path = Path(path)
    state = _read_pickle(path) if _is_zip(path) else _read(kind, path)
    arguments, weights = state
    arguments.pop("lr_schedule", None)
    if "lr_schedule" in accepted(kind):
        arguments["lr_schedule"] = kind._dummy_schedule
    try:
        policy = kind(**arguments)
        policy.load_state_dict(weights)
    except (TypeError, RuntimeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingsError(f"{path} is not a {kind.__name__} ({reason})") from error
    return policy.to(device)


def named_class(name: str, base: type) -> type | None:
    """An imported subclass of `base` by its ``module.name``; None if not found."""
    module, _, last = name.rpartition(".")
    module = current_name(module)
    found = vars(sys.modules[module]).get(last) if module in sys.modules else None
    return found if isinstance(found, type) and issubclass(found, base) else None


def accepted(kind: type) -> set[str]:
    """The arguments of a constructor, including those that it passes to a parent."""
    found: set[str] = set()
    for owner in kind.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters.values()  # type: ignore[misc]
        found |= {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found - {"self", "args"}


def _read(kind: type[BasePolicy], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    values = read_values(path)
    if values.get("format") != _FORMAT:
        raise SettingsError(f"{path} is not a policy; give a file of {kind.__name__}.save")
    if values.get("policy") != kind.__name__:
        raise SettingsError(
            f"{path} is a {values.get('policy')}; load it with {values.get('policy')}.load"
        )
    try:
        arguments = {name: _found(value, path) for name, value in values["arguments"].items()}
        for name in ("observation_space", "action_space"):
            arguments[name] = _space(values[name])
        return arguments, dict(values["weights"])
    except SettingsError:
        raise
    except Exception as error:  # The JSON may contain anything.
        raise SettingsError(f"{path} is not a policy ({type(error).__name__}: {error})") from error


def _named(value: Any) -> Any:
    if isinstance(value, type):
        return {_CLASS: f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, dict):
        return {key: _named(one) for key, one in value.items()}
    return value


def _found(value: Any, path: Path) -> Any:
    if not isinstance(value, dict):
        return value
    if _CLASS not in value:
        return {key: _found(one, path) for key, one in value.items()}
    name = str(value[_CLASS])
    found = named_class(name, nn.Module) or named_class(name, torch.optim.Optimizer)
    if found is None:
        raise SettingsError(
            f"{path} needs the class {name}, which is not a torch module or optimizer that this "
            f"program has imported; import {name.rpartition('.')[0]} first"
        )
    return found


def _plain_space(space: spaces.Space[Any]) -> dict[str, Any]:
    if isinstance(space, spaces.Box):
        return {"kind": "Box", "low": space.low, "high": space.high, "dtype": space.dtype.str}
    if isinstance(space, spaces.Discrete):
        tokenizer = getattr(space, "tokenizer_hash", None)
        sizes = {"n": int(space.n), "start": int(space.start)}
        return {"kind": "Discrete", **sizes, "tokenizer_hash": tokenizer}
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": {key: _plain_space(one) for key, one in space.items()}}
    raise DataError(f"a policy with the space {space} cannot be saved")


def _space(plain: dict[str, Any]) -> spaces.Space[Any]:
    if plain["kind"] == "Box":
        return spaces.Box(plain["low"], plain["high"], dtype=np.dtype(plain["dtype"]).type)
    if plain["kind"] == "Dict":
        return spaces.Dict({key: _space(one) for key, one in plain["spaces"].items()})
    space = spaces.Discrete(plain["n"], start=plain["start"])
    if plain["tokenizer_hash"] is not None:
        space.tokenizer_hash = plain["tokenizer_hash"]  # type: ignore[attr-defined]
    return space


# ------------------------------------------------------------- files of older versions


def _is_zip(path: Path) -> bool:
    """Whether a file is one of ``torch.save``."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return False  # Reported when it is read.


def _read_pickle(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with _only_known_globals(path):
            saved = torch.load(path, map_location="cpu", weights_only=True)
        return dict(saved["data"]), dict(saved["state_dict"])
    except StorageError:
        raise
    except Exception as error:
        raise SettingsError(
            f"{path} is a pickle that torch's restricted unpickler refuses: it is damaged or would "
            "run code; if you trust it, load it with torch.load(path, weights_only=False), and "
            "save the policy again with save(path)"
        ) from error


@contextmanager
def _only_known_globals(path: Path) -> Iterator[None]:
    """Allow torch's restricted unpickler a policy's spaces and classes, and nothing else."""
    generator = np.random.default_rng(0)
    seeds = np.random.SeedSequence(0)
    # Spaces contain arrays, numbers, and the generator that they sample with.
    parts: list[Any] = [np.zeros(1), np.float64(1), generator, generator.bit_generator, seeds]
    dtypes = "?bBhHiIlLqQefd"
    known: list[Any] = [
        spaces.Box, spaces.Discrete, spaces.Dict, *KINDS.values(), BasePolicy,
        (_dummy_schedule, "builtins.getattr"),
        np.ndarray, np.dtype, *(type(np.dtype(one)) for one in dtypes),
        type(generator.bit_generator), type(seeds), *(part.__reduce__()[0] for part in parts),
    ]  # fmt: skip
    for name in torch.serialization.get_unsafe_globals_in_checkpoint(path):
        found = named_class(name, nn.Module) or named_class(name, torch.optim.Optimizer)
        if found is not None:
            known.append(found)
    with torch.serialization.safe_globals(known):
        yield


def _dummy_schedule(owner: Any, name: str) -> Callable[[float], float]:
    """Replaces ``getattr``, which SB3's pickles need for one function alone."""
    if owner is BasePolicy and name == "_dummy_schedule":
        return BasePolicy._dummy_schedule
    raise ValueError(f"the pickle reads the attribute {name!r} of {owner!r}")
