"""Whole episodes as a value: select some of them, join them, and compute their returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.errors import SettingsError
from textgym.lm.kl import KLPenalty
from textgym.lm.model import LanguageModel
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.sampling.processing import Sampler
from textgym.lm.scoring import SequenceBatch
from textgym.rollouts.fragments import Ints

# Tokens that a reference model scores at once, about.
_CHUNK = 4096


@dataclass(frozen=True)
class Episodes:
    """Whole episodes: m of them, with n actions in all.

    Values per action are flat: those of the first episode in the order of time, then those of the
    second one, and so on. Tensors are on the CPU until :meth:`to`.

    Attributes:
        lengths: ``[m]`` int64, the number of actions of each episode, at least 1.
        actions: ``[n]`` int64, the actions: with text observations, the tokens that were written.
        rewards: ``[n]`` float32.
        prompts: The prompt of each episode; empty strings where the environment does not report it.
        infos: The info of the last step of each episode: ``response``, ``finish_reason``, ...
        costs: ``[n]`` float64, ``info["cost"]`` of each step; 0 where it is missing.
        sequences: The texts, each token stored once, and the place of each action in them.
            ``LMPolicy.evaluate_actions`` scores them in one forward pass per text. None if the
            observations are not texts.
        log_probs: ``[n]`` float32, the log-probability of each action when it was drawn; NaN for
            an agent that has only ``predict``.
        values: ``[n]`` float32, the value that the policy estimated before each action; NaN for an
            agent that has only ``predict``.
        extra: Further values of yours, ``[n]`` each, such as advantages: see :meth:`with_extra`.
    """

    lengths: Ints
    actions: Tensor
    rewards: NDArray[np.float32]
    prompts: tuple[str, ...]
    infos: tuple[dict[str, Any], ...]
    costs: NDArray[np.float64]
    sequences: SequenceBatch | None
    log_probs: Tensor
    values: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of episodes m."""
        return len(self.lengths)

    @property
    def responses(self) -> tuple[str, ...]:
        """The response of each episode; empty strings for episodes that were cut off."""
        return tuple(info.get("response", "") for info in self.infos)

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """``[m]``, whether a step limit cut the episode off before its text was judged."""
        cut = [bool(info.get("TimeLimit.truncated", False)) for info in self.infos]
        return np.array(cut, dtype=np.bool_)

    @property
    def owners(self) -> Tensor:
        """``[n]`` int64, the episode of each action: 0 to m - 1."""
        lengths = torch.from_numpy(self.lengths).to(self.actions.device)
        return torch.arange(len(self), device=lengths.device).repeat_interleave(lengths)

    @property
    def returns(self) -> NDArray[np.float64]:
        """``[m]``, the sum of the rewards of each episode."""
        return self.sums(self.rewards)

    def sums(self, values: Any) -> NDArray[np.float64]:
        """The sum ``[m]`` over each episode of values ``[n]`` per action."""
        owners = np.repeat(np.arange(len(self)), self.lengths)
        summed = np.bincount(owners, np.asarray(values, dtype=np.float64), minlength=len(self))
        return summed.astype(np.float64)

    def returns_to_go(self, gamma: float = 1.0) -> NDArray[np.float32]:
        """The discounted return ``G_t = r_t + gamma G_(t+1)`` from each action on, ``[n]``."""
        table = self.table(self.rewards)
        for step in reversed(range(len(table) - 1)):
            table[step] += gamma * table[step + 1]
        return self.flat(table)

    def table(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values ``[n]`` per action as a table ``[T, m]``: by step and episode, 0 after the end."""
        table = np.zeros((int(self.lengths.max(initial=0)), len(self)), dtype=values.dtype)
        table.T[self._mask()] = values
        return table

    def flat(self, table: NDArray[Any]) -> NDArray[Any]:
        """The values ``[n]`` per action in a table ``[T, m]``; the inverse of :meth:`table`."""
        values: NDArray[Any] = table.T[self._mask()]
        return values

    def with_extra(self, **values: Tensor) -> Episodes:
        """The same, with further values ``[n]`` per action.

        They are selected, joined, moved and dealt out to minibatches together with the others.

        Raises:
            SettingsError: If a value is not a tensor of n elements.
        """
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.shape[:1] != self.actions.shape[:1]:
                raise SettingsError(
                    f"{name} has to be a tensor of {len(self.actions)} values, one per action, not "
                    f"{type(value).__name__} {getattr(value, 'shape', '')}; with one value per "
                    f"episode write {name}[episodes.owners]"
                )
        return replace(self, extra={**self.extra, **values})

    def select(self, episodes: Sequence[int] | Ints) -> Episodes:
        """Some of the episodes, in the order of their indices ``episodes``."""
        chosen = np.asarray(episodes, dtype=np.int64)
        lengths = self.lengths[chosen]
        shift = (self.lengths.cumsum() - self.lengths)[chosen] - (lengths.cumsum() - lengths)
        places = np.arange(lengths.sum()) + shift.repeat(lengths)
        which = torch.from_numpy(places).to(self.actions.device)
        sequences = self.sequences
        if sequences is not None:
            texts: Tensor = torch.unique(sequences.rows[which])
            sequences = sequences.take(texts, which)
        return Episodes(
            lengths,
            self.actions[which],
            self.rewards[places],
            tuple(self.prompts[index] for index in chosen.tolist()),
            tuple(self.infos[index] for index in chosen.tolist()),
            self.costs[places],
            sequences,
            self.log_probs[which],
            self.values[which],
            {name: values[which] for name, values in self.extra.items()},
        )

    def minibatches(self, count: int) -> Iterator[Episodes]:
        """Deal the episodes out at random, by NumPy's global generator; each comes once.

        Args:
            count: The number of minibatches. Their sizes differ by one episode at most.
        """
        order = np.random.permutation(len(self))
        for chosen in np.array_split(order, min(count, len(self))):
            yield self.select(chosen)

    @staticmethod
    def concatenate(parts: Sequence[Episodes]) -> Episodes:
        """The episodes of all parts, one part after the other.

        Raises:
            ValueError: If `parts` is empty.
        """
        if not parts:
            raise ValueError("parts is empty: give at least one rollout")
        return Episodes(
            np.concatenate([part.lengths for part in parts]),
            torch.cat([part.actions for part in parts]),
            np.concatenate([part.rewards for part in parts]),
            tuple(prompt for part in parts for prompt in part.prompts),
            tuple(info for part in parts for info in part.infos),
            np.concatenate([part.costs for part in parts]),
            _joined([part.sequences for part in parts if part.sequences is not None]),
            torch.cat([part.log_probs for part in parts]),
            torch.cat([part.values for part in parts]),
            {
                name: torch.cat([part.extra[name] for part in parts])
                for name in parts[0].extra
                if all(name in part.extra for part in parts)
            },
        )

    def to(self, device: torch.device | str) -> Episodes:
        """The same, with its tensors on another device."""
        return replace(
            self,
            actions=self.actions.to(device),
            sequences=None if self.sequences is None else self.sequences.to(device),
            log_probs=self.log_probs.to(device),
            values=self.values.to(device),
            extra={name: values.to(device) for name, values in self.extra.items()},
        )

    def log_ratios(self, kl: KLPenalty, sampler: Sampler | None, lm: LanguageModel) -> Tensor:
        """``log pi(a|s) - log ref(a|s)`` of each action, float32 ``[n]``, in a few passes.

        Args:
            kl: The reference model.
            sampler: How the policy drew the actions: ``LMPolicy.sampler``; None for the full
                softmax.
            lm: The policy's model: ``LMPolicy.lm``.
        """
        passes = min(len(self), -(-len(self.actions) // _CHUNK))
        ratios = []
        for episodes in np.array_split(np.arange(len(self)), passes):
            part = self.select(episodes)
            assert part.sequences is not None, "the observations are not texts"
            scored = part.sequences, part.actions, part.log_probs
            ratios.append(kl.log_ratios(*scored, sampler, lm))
        return torch.cat(ratios)

    def _mask(self) -> NDArray[np.bool_]:
        """``[m, T]``, where an episode has an action."""
        mask: NDArray[np.bool_] = np.arange(self.lengths.max(initial=0)) < self.lengths[:, None]
        return mask


def _joined(parts: list[SequenceBatch]) -> SequenceBatch | None:
    if not parts:
        return None
    width = max(part.tokens.shape[1] for part in parts)
    tokens = [
        torch.nn.functional.pad(part.tokens, (0, width - part.tokens.shape[1]), value=-1)
        for part in parts
    ]
    counts = np.cumsum([0, *(len(part.tokens) for part in parts)]).tolist()
    sets = [part.kept for part in parts if part.kept is not None]
    images = [part.images for part in parts if part.images is not None]
    return SequenceBatch(
        torch.cat(tokens),
        torch.cat([part.rows + first for part, first in zip(parts, counts, strict=False)]),
        torch.cat([part.positions for part in parts]),
        KeptSets.join(sets) if sets else None,
        torch.cat(images) if images else None,
    )
