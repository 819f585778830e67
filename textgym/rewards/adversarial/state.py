"""What an adversarial reward knows at some point of a training, and the file that keeps it."""

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
    """All that changes from call to call.

    Args:
        discriminator: The discriminator.
        capacity: Of the replay buffers.
        window: Texts of each kind that the statistics are of.

    Attributes:
        discriminator: The discriminator.
        reals: The last real texts.
        fakes: The last completions.
        seen_real: D of the last real texts, from before they were learned from.
        seen_fake: The same of completions.
        texts: Completions seen.
        pending: Those of them since the last update.
        calls: Calls that brought texts.
        warm: Whether the discriminator was warmed up by hand.
        loss: Mean loss of the last update.
        frozen: Whether nothing is to change.
    """

    def __init__(self, discriminator: Discriminator, capacity: int, window: int) -> None:
        self.discriminator = discriminator
        self.reals, self.fakes = Replay(capacity), Replay(capacity)
        self.seen_real: deque[float] = deque(maxlen=window)
        self.seen_fake: deque[float] = deque(maxlen=window)
        self.texts = self.pending = self.calls = 0
        self.warm = self.frozen = False
        self.loss = 0.0

    def take_in(
        self, fakes: Sequence[Ids], reals: Sequence[Ids], logits: NDArray[np.float64]
    ) -> None:
        """Judge the texts of a call, then keep them.

        Args:
            fakes: Completions ``[N]``.
            reals: Real texts, any number.
            logits: What the discriminator says of the completions ``[N]``.
        """
        self.seen_fake.extend(_probabilities(logits))
        self.seen_real.extend(_probabilities(self.discriminator.logits(reals)))
        self.fakes.add(fakes)
        self.reals.add(reals)
        self.texts += len(fakes)
        self.pending += len(fakes)
        self.calls += 1

    def stats(self, edge: float) -> dict[str, float]:
        """See `Adversarial.stats`; a text is called real where D is at least `edge`."""
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
        """Everything but whether it is frozen."""
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
        """Go on from `tensors`.

        Raises:
            RewardError: If they are not of a state with these sizes; then nothing changes.
        """
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            group, _, name = key.partition(".")
            parts.setdefault(group, {})[name] = value
        learned = parts.get("discriminator", {})
        missing = [key for key in self.tensors() if key not in tensors and "optimizer" not in key]
        if missing and "network" not in missing[0]:
            raise RewardError(
                f"adversarial: this is not a state of an adversarial reward, because it lacks "
                f"{missing[0]!r}; give one that save(path) or state_dict() made"
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
                "adversarial: this is not a state of a discriminator like this one "
                f"(different: {', '.join(different[:3]) or 'what is beside the network'}); make "
                "the reward with the options and the tokenizer that it was saved with"
            )
        for kind, replay in (("reals", self.reals), ("fakes", self.fakes)):
            kept, place = len(parts[kind]["lengths"]), int(parts[kind]["place"][0])
            if kept > replay.capacity or (kept < replay.capacity and place != kept):
                raise RewardError(
                    f"adversarial: the state holds {kept} texts of another buffer than one of "
                    f"buffer_size={replay.capacity}; use the one that it was saved with"
                )


def write_state(path: Path, state: Mapping[str, Tensor], signature: Mapping[str, Any]) -> None:
    """Write a state, and what a reward must be like to read it, atomically."""
    write_tensors(path, state, {"format": _FORMAT, "signature": json.dumps(signature)})


def read_state(path: Path, signature: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read what `write_state` wrote.

    Raises:
        RewardError: If it is another kind of file, is damaged, or its signature is another one.
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
            f"adversarial: {path} is no state of an adversarial reward; give a file that "
            "save(path) wrote"
        )
    different = [
        f"{name} {theirs.get(name)} (here {value})"
        for name, value in signature.items()
        if theirs.get(name) != value
    ]
    if different:
        raise RewardError(
            f"adversarial: {path} was saved with other options: {', '.join(different)}; make the "
            "reward with those"
        )
    return tensors


def _probabilities(logits: NDArray[np.float64]) -> list[float]:
    found: list[float] = (0.5 + 0.5 * np.tanh(logits / 2)).tolist()
    return found
