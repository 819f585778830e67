"""The mutable state of an adversarial reward, and its file format."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.errors import RewardError, StorageError
from textgym.rewards.adversarial.discriminator import Discriminator, Ids
from textgym.rewards.adversarial.texts import Replay
from textgym.storage.tensors import read_tensors, write_tensors

_FORMAT = "textgym adversarial 1"


class State:
    """The state that changes from call to call.

    Args:
        discriminator: The discriminator.
        capacity: Capacity of the replay buffers.
        window: Number of texts of each kind in the statistics.

    Attributes:
        discriminator: The discriminator.
        reals: The latest real texts.
        fakes: The latest completions.
        seen_real: D of the latest real texts, before they were trained on.
        seen_fake: D of the latest completions, before they were trained on.
        texts: Number of completions so far.
        pending: Number of completions since the last update.
        calls: Number of calls with texts.
        warm: Whether `warm_up` was called.
        loss: Mean loss of the last update.
        frozen: Whether updates are disabled.
    """

    def __init__(self, discriminator: Discriminator, capacity: int, window: int) -> None:
        self.discriminator = discriminator
        self.reals, self.fakes = Replay(capacity), Replay(capacity)
        self.seen_real: deque[float] = deque(maxlen=window)
        self.seen_fake: deque[float] = deque(maxlen=window)
        self.texts = self.pending = self.calls = 0
        self.warm = self.frozen = False
        self.loss = 0.0

    def add(self, fakes: Sequence[Ids], reals: Sequence[Ids], logits: NDArray[np.float64]) -> None:
        """Add the texts of a call to the statistics and the buffers.

        Args:
            fakes: Completions ``[N]``.
            reals: Real texts, any number.
            logits: The discriminator's logits of the completions ``[N]``.
        """
        self.seen_fake.extend(_probabilities(logits))
        self.seen_real.extend(_probabilities(self.discriminator.logits(reals)))
        self.fakes.add(fakes)
        self.reals.add(reals)
        self.texts += len(fakes)
        self.pending += len(fakes)
        self.calls += 1

    def stats(self, edge: float) -> dict[str, float]:
        """See `Adversarial.stats`; a text is classified as real if D is at least `edge`."""
        found: dict[str, float] = {}
        if self.seen_real and self.seen_fake:
            real, fake = np.array(self.seen_real), np.array(self.seen_fake)
            found["accuracy"] = float(((real >= edge).mean() + (fake < edge).mean()) / 2)
            found |= {"d_real": float(real.mean()), "d_fake": float(fake.mean())}
        steps = self.discriminator.steps
        if steps:
            found["loss"] = self.loss
        return found | ({"texts": self.texts, "steps": steps} if self.texts or steps else {})

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as tensors, except `frozen`."""
        numbers = [self.texts, self.pending, self.calls, int(self.warm), self.discriminator.steps]
        tensors = {
            "numbers": torch.tensor(numbers),
            "loss": torch.tensor(self.loss, dtype=torch.float64),
            "seen.real": torch.tensor(list(self.seen_real), dtype=torch.float64),
            "seen.fake": torch.tensor(list(self.seen_fake), dtype=torch.float64),
        }
        for kind, replay in (("reals", self.reals), ("fakes", self.fakes)):
            tensors |= {f"{kind}.{name}": value for name, value in replay.state().items()}
        learned = self.discriminator.state()
        return tensors | {f"discriminator.{name}": value for name, value in learned.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore `tensors`.

        Raises:
            RewardError: If they belong to a state with other sizes; nothing is changed then.
        """
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            group, _, name = key.partition(".")
            parts.setdefault(group, {})[name] = value
        learned = parts.get("discriminator", {})
        missing = [key for key in self.tensors() if key not in tensors and "optimizer" not in key]
        if missing and "network" not in missing[0]:
            raise RewardError(
                f"adversarial: not a state of an adversarial reward, because it lacks "
                f"{missing[0]!r}; give one from save(path) or state_dict()"
            )
        self._check(parts, learned)
        numbers = [int(value) for value in parts["numbers"][""].tolist()]
        self.texts, self.pending, self.calls, warm, steps = numbers
        self.warm = bool(warm)
        self.loss = float(parts["loss"][""])
        for deque_, name in ((self.seen_real, "real"), (self.seen_fake, "fake")):
            deque_.clear()
            deque_.extend(parts["seen"][name].tolist())
        self.reals.restore(parts["reals"])
        self.fakes.restore(parts["fakes"])
        self.discriminator.restore(learned, steps)

    def _check(self, parts: Mapping[str, Mapping[str, Tensor]], learned: Mapping[str, Any]) -> None:
        mine = {
            f"network.{name}": tuple(value.shape)
            for name, value in self.discriminator.network.state_dict().items()
        }
        theirs = {
            name: tuple(value.shape)
            for name, value in learned.items()
            if name.startswith("network.")
        }
        if not {"numbers", "loss", "seen", "reals", "fakes"} <= parts.keys() or mine != theirs:
            different = sorted(name for name in mine if mine[name] != theirs.get(name))
            raise RewardError(
                "adversarial: not a state of a discriminator with these options (different: "
                f"{', '.join(different[:3]) or 'entries other than the network'}); use the options "
                "and the tokenizer that it was saved with"
            )
        for kind, replay in (("reals", self.reals), ("fakes", self.fakes)):
            size, place = len(parts[kind]["lengths"]), int(parts[kind]["place"][0])
            if size > replay.capacity or (size < replay.capacity and place != size):
                raise RewardError(
                    f"adversarial: the state has {size} texts, which do not fit "
                    f"buffer_size={replay.capacity}; use the value that it was saved with"
                )


def write_state(path: Path, state: Mapping[str, Tensor], signature: Mapping[str, Any]) -> None:
    """Write a state and the signature of the reward atomically."""
    write_tensors(path, state, {"format": _FORMAT, "signature": json.dumps(signature)})


def read_state(path: Path, signature: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read a file that `write_state` wrote.

    Raises:
        RewardError: If the file has another format, is damaged, or has another signature.
    """
    try:
        tensors, metadata = read_tensors(path)
    except StorageError as error:
        raise RewardError(
            f"adversarial: {path} cannot be read ({error}); give a file that save(path) wrote"
        ) from error
    try:
        theirs = json.loads(metadata["signature"])
    except (KeyError, ValueError, RecursionError):
        theirs = None
    if metadata.get("format") != _FORMAT or not isinstance(theirs, dict):
        raise RewardError(
            f"adversarial: {path} is not a state of an adversarial reward; give a file that "
            "save(path) wrote"
        )
    different = [
        f"{name} {theirs.get(name)} (here {value})"
        for name, value in signature.items()
        if theirs.get(name) != value
    ]
    if different:
        raise RewardError(
            f"adversarial: {path} was saved with other options: {', '.join(different)}; use those"
        )
    return tensors


def _probabilities(logits: NDArray[np.float64]) -> list[float]:
    found: list[float] = (0.5 + 0.5 * np.tanh(logits / 2)).tolist()
    return found
