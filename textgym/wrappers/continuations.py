"""Sampling of several continuations of each text from a language model.

Each text is repeated in k rows of one batch, so m tokens cost m forward passes for any k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.storage.json_values import from_plain, to_plain
from textgym.wrappers.lookahead_masks import masks_after
from textgym.wrappers.masks import MaskFunction
from textgym.wrappers.proposals import FrozenLM, Proposals, as_array


class Continuations:
    """Proposes continuations to the rows of a batch; each row has its own random generator.

    Args:
        frozen: The language model.
        env: The environment.
        rows: Number of rows N.
        shape: Number k of continuations, and their length m.
        temperature: See `sample_continuations`.

    Raises:
        SettingsError: If the environment's masks are only known for the current text.
    """

    def __init__(
        self, frozen: FrozenLM, env: Any, rows: int, shape: tuple[int, int], temperature: float
    ) -> None:
        self.frozen = frozen
        self._shape = shape
        self._temperature = temperature
        self._masks = masks_after(env)
        settings = getattr(env.unwrapped, "settings", None)
        self._budget = None if settings is None else int(settings.max_new_tokens)
        self._ends = settings.tokenizer.ends if settings and settings.stop_at_eos else ()
        self._rngs = [np.random.default_rng() for _ in range(rows)]
        self._limits = np.zeros(rows, np.intp)

    def start_episodes(self, texts: NDArray[np.int32], rows: Sequence[int]) -> None:
        """Set the maximal length of the texts of new episodes."""
        lengths = (texts[rows] >= 0).sum(1)
        width = texts.shape[1]
        self._limits[rows] = width if self._budget is None else lengths + self._budget

    def seed(self, row: int, seed: int | None) -> None:
        """Seed the generator of a row; None leaves it as it is."""
        if seed is not None:
            # A stream other than the environment's, which uses the seed itself.
            self._rngs[row] = np.random.default_rng([int(seed), self._shape[1]])

    def propose(self, texts: NDArray[np.int32], proposing: NDArray[np.bool_]) -> Proposals:
        """Propose continuations of the texts ``[N, L]`` of some rows, and none for the others."""
        room = np.where(proposing, self._limits - (texts >= 0).sum(1), 0)
        uniform = np.stack(
            [
                rng.random(self._shape) if active else np.zeros(self._shape)
                for rng, active in zip(self._rngs, proposing, strict=True)
            ]
        )
        return sample_continuations(
            self.frozen, texts, room, uniform, self._temperature, self._ends, self._masks
        )

    def get_state(self) -> dict[str, Any]:
        """The random generators, budgets, and the texts in the language model's cache."""
        where = "the random generator of a row"
        return {
            "limits": self._limits.copy(),
            "generators": [to_plain(rng.bit_generator.state, where) for rng in self._rngs],
            **self.frozen.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `get_state`."""
        self._limits = np.array(state["limits"], np.intp)
        for rng, generator in zip(self._rngs, state["generators"], strict=True):
            rng.bit_generator.state = from_plain(generator)
        self.frozen.set_state(state)


def sample_continuations(
    frozen: FrozenLM,
    texts: NDArray[np.int32],
    room: NDArray[np.intp],
    uniform: NDArray[np.float64],
    temperature: float,
    closing: Sequence[int],
    masks: MaskFunction | None = None,
) -> Proposals:
    """Sample k continuations of up to m tokens for each of B texts.

    Args:
        frozen: The language model.
        texts: ``[B, L]``, padded with -1.
        room: ``[B]``, maximal number of further tokens of each text; 0 if its episode is over.
        uniform: Random numbers in [0, 1), ``[B, k, m]``, one per token.
        temperature: Divides the logits; 1 is the model's distribution.
        closing: The tokens that end a continuation.
        masks: Maps texts ``[n, L]`` to the allowed next tokens, bool ``[n, V]``; None allows all.

    Returns:
        The observations of :class:`textgym.wrappers.SegmentActions`, with the likeliest
        continuation first.
    """
    rows, k, m = uniform.shape
    written = np.repeat(texts, k, axis=0)
    numbers = uniform.reshape(rows * k, m)
    left = np.repeat(room, k)
    ends = (written >= 0).sum(1)
    tokens = np.full((rows * k, m), -1, np.int32)
    sums = np.zeros(rows * k, np.float32)
    hidden = frozen.hidden(written)
    before = as_array(hidden).reshape(rows, k, -1)[:, 0].copy()
    alive = np.ones(rows * k, np.bool_)
    for step in range(m):
        alive &= step < left
        if not alive.any():
            break
        active = np.flatnonzero(alive)
        log_probs = frozen.log_probs(hidden[torch.from_numpy(active).to(hidden.device)])
        logits = log_probs / temperature
        if masks is not None and not (allowed := masks(written[active])).all():
            logits.masked_fill_(torch.from_numpy(~allowed).to(logits.device), -torch.inf)
        chosen = _sample(logits, numbers[active, step])
        sums[active] += as_array(log_probs.gather(1, chosen[:, None]))[:, 0]
        ids = chosen.cpu().numpy()
        tokens[active, step] = written[active, ends[active] + step] = ids
        alive[active[np.isin(ids, closing)]] = False
        hidden = frozen.hidden(written)
    order = np.argsort(-sums.reshape(rows, k), axis=1, kind="stable")
    row = np.arange(rows)[:, None]
    return {
        "hidden": before,
        "candidates": tokens.reshape(rows, k, m)[row, order],
        "logprobs": np.minimum(sums.reshape(rows, k)[row, order], 0.0),
        "outcomes": as_array(hidden).reshape(rows, k, -1)[row, order],
    }


def _sample(logits: Tensor, uniform: NDArray[np.float64]) -> Tensor:
    """One token per row, by inverting the cumulative distribution."""
    cumulative = torch.softmax(logits.double(), -1).cumsum(-1)
    targets = torch.from_numpy(uniform).to(cumulative.device)[:, None] * cumulative[:, -1:]
    # The first entry above the target never has probability 0, as it would equal its predecessor.
    # Rounding may leave no entry above the target.
    last = torch.nextafter(cumulative[:, -1:], torch.zeros_like(targets))
    return torch.searchsorted(cumulative, torch.minimum(targets, last), right=True)[:, 0]
