"""Loading a saved algorithm (``model.zip``) without unpickling.

``PPO.load("model.zip")`` unpickles the file, which can run any code. But most of the file is JSON
and tensors, and the rest (classes, schedules) can be parsed as data. So :func:`load_agent` calls
the algorithm's constructor, and reads from the file only numbers, strings, tensors, and the names
of classes that are already imported.
"""

from __future__ import annotations

import base64
import io
import json
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from textgym.errors import SettingsError, TextGymError, near_matches
from textgym.sb3.checkpoints.policy_files import accepted, named_class
from textgym.sb3.schedules import ScheduleKind, WarmupSchedule

_Algorithm = TypeVar("_Algorithm", bound=BaseAlgorithm)

# Given by the caller, or derived.
_NOT_READ = {
    "self", "policy", "env", "device", "verbose", "tensorboard_log", "_init_setup_model",
    "_env", "support_multi_env", "supported_action_spaces", "monitor_wrapper",
}  # fmt: skip
_COUNTERS = (
    "num_timesteps", "_total_timesteps", "_num_timesteps_at_start", "_n_updates", "_episode_num",
    "_n_calls", "_current_progress_remaining", "exploration_rate",
)  # fmt: skip
_CLASSES = (nn.Module, torch.optim.Optimizer, BaseBuffer)
_CLASS = re.compile(r"<class '([\w.]+)'>")
_NUMBER = r"=([-+\d.einfa]+)"
_CONSTANT = re.compile(rf"ConstantSchedule\(val{_NUMBER}\)")
_LINEAR = re.compile(rf"LinearSchedule\(start{_NUMBER}, end{_NUMBER}, end_fraction{_NUMBER}\)")
_WARMUP = re.compile(
    rf"WarmupSchedule\(start{_NUMBER}, end{_NUMBER}, kind='(\w+)', warmup{_NUMBER}\)"
)


def load_agent(
    path: str | Path,
    algorithm: type[_Algorithm],
    venv: VecEnv,
    *,
    policy: type[BasePolicy] | str | None = None,
    device: torch.device | str = "auto",
    **arguments: Any,
) -> _Algorithm:
    """Load an agent that ``model.save(path)`` wrote, without running code from the file.

    Weights, optimizer state, settings and counters are those of the saved agent: it predicts the
    same, and can be trained further, from new episodes. To continue with the same episodes and
    random numbers, see :func:`textgym.sb3.resume`.

    Example::

        from stable_baselines3 import PPO
        from textgym.sb3 import load_agent, make_vec_env

        venv = make_vec_env("TextGen/Sentiment-v0", n_envs=16, seed=0)
        model = load_agent("runs/Sentiment-v0-ppo-20260101-120000", PPO, venv)

    Args:
        path: The ``.zip`` file, or the folder of a run with a ``model.zip``.
        algorithm: The class of the agent: ``PPO``, ``A2C``, ...
        venv: An environment like the one it was trained in, with any number of rows.
        policy: The class of its policy; by default the one that the file names.
        device: Device of the agent.
        arguments: Arguments of the algorithm to change, or that the file contains only as a pickle,
            such as a function for ``learning_rate``.

    Raises:
        SettingsError: If the file is missing, damaged or of another algorithm, or an argument is
            only there as a pickle; the message names the argument.
        ModelError: If the language model cannot be loaded or does not fit the environment.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "model.zip"
    elif not file.suffix:
        file = file.with_suffix(".zip")
    data, parameters, variables = _read(file)
    names = accepted(algorithm)
    for name in arguments:
        if name not in names:
            near = near_matches(name, names)
            raise SettingsError(f"{algorithm.__name__} has no argument {name!r}{near}")
    try:
        kind = policy or _policy_class(file, data.get("policy_class"))
        settings = {
            name: _setting(file, algorithm, name, data[key])
            for name in sorted(names - _NOT_READ - arguments.keys())
            for key in (name, f"_{name}")
            if key in data
        }
        model: _Algorithm = algorithm(kind, venv, device=device, **settings, **arguments)
        model.set_parameters(parameters, exact_match=True, device=model.device)
        _, known = model._get_torch_save_params()
        for name in known:
            target: Any = model
            for part in name.split("."):
                target = getattr(target, part)  # Names from the model, not from the file.
            target.data.copy_(variables[name].data)
    except TextGymError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingsError(
            f"{file} is not a {algorithm.__name__} for this environment "
            f"({type(error).__name__}: {reason}); give the class that it was saved by, and an "
            "environment like the one it was trained in"
        ) from error
    for name in _COUNTERS:
        if hasattr(model, name) and isinstance(data.get(name), int | float):
            setattr(model, name, data[name])
    return model


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The settings, the state dictionaries, and other tensors of a file."""
    try:
        with zipfile.ZipFile(file) as archive:
            data = json.loads(archive.read("data"))
            tensors = {
                name.removesuffix(".pth"): _tensors(archive.read(name))
                for name in archive.namelist()
                if name.endswith(".pth")
            }
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # A damaged archive can raise anything.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingsError(
            f"{file} is not an agent that can be loaded without running code in it "
            f"({type(error).__name__}: {reason}); give a file that model.save(path) wrote"
        ) from error
    if not isinstance(data, dict):
        raise SettingsError(f"{file} is not a saved agent: its data is not a JSON object")
    variables = tensors.pop("pytorch_variables", None) or {}
    return data, tensors, variables


def _tensors(raw: bytes) -> Any:
    return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)


def _setting(file: Path, algorithm: type, name: str, value: Any) -> Any:
    """An argument from the file, if it can be read without unpickling."""
    if not _is_pickled(value):
        return value
    kind = value[":type:"]
    if kind == "<class 'dict'>":
        inner = {key: one for key, one in value.items() if not key.startswith(":")}
        return {key: _inner(file, algorithm, f"{name}[{key!r}]", one) for key, one in inner.items()}
    text = str(value.get("value_schedule", ""))
    if found := _CONSTANT.fullmatch(text):
        return float(found[1])
    if found := _LINEAR.fullmatch(text):
        return LinearSchedule(*map(float, found.groups()))
    if kind.endswith(".LinearSchedule'>"):
        return LinearSchedule(*(float(value[key]) for key in ("start", "end", "end_fraction")))
    if kind.endswith(".WarmupSchedule'>"):
        start, end, warmup = (float(value[key]) for key in ("start", "end", "warmup"))
        return WarmupSchedule(start, end, value["kind"], warmup)
    if found := _WARMUP.fullmatch(text):
        return WarmupSchedule(
            float(found[1]), float(found[2]), cast(ScheduleKind, found[3]), float(found[4])
        )
    if "TrainFreq'" in kind:
        count, unit = _strings_and_numbers(value)
        if len(count) == 1 and len(unit) == 1:
            return count[0], unit[0]
    if (found_class := _global(value)) is not None:
        return found_class
    raise _only_pickled(file, algorithm, name)


def _inner(file: Path, algorithm: type, name: str, value: Any) -> Any:
    """A value in a dictionary, where SB3 writes the ``str`` of values that are not JSON."""
    if not isinstance(value, str) or not value.startswith("<"):
        return value
    match = _CLASS.fullmatch(value)
    for base in _CLASSES if match else ():
        if match and (found := named_class(match[1], base)) is not None:
            return found
    raise _only_pickled(file, algorithm, name)


def _only_pickled(file: Path, algorithm: type, name: str) -> SettingsError:
    argument = name.partition("[")[0]
    return SettingsError(
        f"{file} has the argument {name} of {algorithm.__name__} only as a pickle, which is not "
        f"read because it can run code; give it: load_agent(..., {argument}=...)"
    )


def _is_pickled(value: Any) -> bool:
    return isinstance(value, dict) and ":serialized:" in value and ":type:" in value


def _policy_class(file: Path, value: Any) -> type[BasePolicy]:
    found: type[BasePolicy] | None = _global(value, BasePolicy) if _is_pickled(value) else None
    if found is None:
        raise SettingsError(
            f"{file} names a class of policies that this program has not imported; give it: "
            "load_agent(..., policy=LMPolicy)"
        )
    return found


def _global(value: dict[str, Any], *bases: type) -> Any:
    """The class that a pickle refers to, if it contains nothing else; the pickle is not run."""
    try:
        raw = base64.b64decode(value[":serialized:"], validate=True)
        operations = [(op.name, arg) for op, arg, _ in pickletools.genops(raw)]
    except Exception:  # Damaged, or another protocol.
        return None
    quiet = {"PROTO", "FRAME", "MEMOIZE", "STOP"}
    core = [(name, arg) for name, arg in operations if name not in quiet]
    names = [name for name, _ in core]
    if names != ["SHORT_BINUNICODE", "SHORT_BINUNICODE", "STACK_GLOBAL"]:
        return None
    full = f"{core[0][1]}.{core[1][1]}"
    for base in bases or _CLASSES:
        if (found := named_class(full, base)) is not None:
            return found
    return None


def _strings_and_numbers(value: dict[str, Any]) -> tuple[list[int], list[str]]:
    """The numbers of a pickle, and its strings that are SB3's units of training frequency."""
    try:
        raw = base64.b64decode(value[":serialized:"], validate=True)
        operations = [(op.name, arg) for op, arg, _ in pickletools.genops(raw)]
    except Exception:
        return [], []
    counts = [int(arg or 0) for name, arg in operations if name.startswith("BININT")]
    return counts, [str(arg) for _, arg in operations if arg in ("step", "episode")]
