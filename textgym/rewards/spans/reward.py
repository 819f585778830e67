"""Rewards per token, learned from marked parts of texts.

    reward = SpanReward(TextFeatures("textgym/tiny"), [MarkedText(prompt, text, [(0, 9, 1)])])
    env = gymnasium.make("TextGen/Story-v0", reward=reward, step_reward=reward.potential)

A person marks parts of a text as good or bad. In a Markov decision process whose actions are
tokens, such a mark is a reward for the tokens of the part, so that the policy learns where a text
is good and not only whether it is (Wu et al. 2023, https://arxiv.org/abs/2306.01693). The
characters are mapped to tokens, and a linear function of the tokens' hidden states is fitted to the
marks, so that texts that nobody has marked get rewards too.

The environment pays the rewards by its own two mechanisms. The reward of a text is the sum over its
tokens. The potential of an unfinished text is the sum so far. A step earns the difference of two
potentials, and the last one the reward less the last potential, so that each word is paid when it
is complete, and the return is the sum. That holds for an undiscounted return
(``step_reward_gamma=1``, the default).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.data.messages import reads_texts
from textgym.errors import DataError, RewardError, StorageError
from textgym.rewards.preferences.features import Floats, TextFeatures
from textgym.rewards.spans.marks import MarkedText, token_marks
from textgym.rewards.spans.ridge import fit_ridge
from textgym.storage.tensors import read_tensors, write_tensors

_FORMAT = "textgym span reward 1"

_UNMARKED = 0.1
"""Weight of a token that is not marked: it is probably neutral, or was overlooked."""

_CACHE = 100_000
"""Number of texts whose reward is remembered."""


class SpanFit(NamedTuple):
    """The result of a fit.

    Attributes:
        tokens: Number of marked tokens.
        ridge: The strength of the penalty that was chosen.
        error: Leave-one-out estimate of the mean squared error of a token's reward.
    """

    tokens: int
    ridge: float
    error: float


class SpanReward:
    """The sum of learned token rewards, and a potential that pays each word when it is complete.

    A token's reward is a linear function of its hidden state, fitted by ridge regression to 1, -1
    and, with a tenth of the weight, to 0 for tokens without a mark. The penalty is chosen by
    leave-one-out cross-validation. The rewards are divided by a common factor: the squares of the
    token rewards of a marked text add up to 1 in the mean.

    The reward does not change between two fits, and has the number `version`. Before the first fit
    it is 0.

    Range: (-inf, inf), higher is better.
    Needs: marked texts; the prompts.
    Cost: a forward pass of the language model, without logits, for each text, and with `potential`
    for each word of each text. Rollouts of ``textgym/tiny`` then take several times as long.
    Gaming: more good tokens are better, so texts become long if most tokens are good.

    Args:
        features: The language model whose hidden states are used.
        marked: Marked texts to fit to; None for a later `fit`.

    Attributes:
        features: As given.
        version: Number of fits so far.

    Raises:
        DataError: As `fit`.
    """

    name = "spans"

    def __init__(self, features: TextFeatures, marked: Sequence[MarkedText] | None = None) -> None:
        self.features = features
        self.version = 0
        self._weights, self._offset = np.zeros(features.width), 0.0
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        if marked is not None:
            self.fit(marked)

    def __deepcopy__(self, memo: dict[int, Any]) -> SpanReward:
        """Return the same object: all environments share the reward."""
        return self

    def fit(self, marked: Sequence[MarkedText]) -> SpanFit:
        """Fit the rewards of tokens to marked texts; the version increases by 1.

        Raises:
            DataError: If no token is marked, or a part is not within its text.
        """
        states, targets = self._tokens(marked)
        known = sum(int((marks != 0).sum()) for marks in targets)
        if not known:
            raise DataError(
                f"no token of {len(marked)} texts is marked; mark some parts as good or bad"
            )
        x, y = np.concatenate(states).astype(np.float64), np.concatenate(targets)
        weights, offset, ridge, error = fit_ridge(x, y, np.where(y != 0, 1.0, _UNMARKED))
        # As the standard deviation of a text's reward would be, if its tokens were independent.
        factor = max(np.sqrt(float(((x @ weights + offset) ** 2).sum()) / len(marked)), 1e-6)
        self._weights, self._offset = weights / factor, offset / factor
        self._known.clear()
        self.version += 1
        return SpanFit(known, ridge, error)

    def accuracy(self, marked: Sequence[MarkedText]) -> float | None:
        """Return the share of marked tokens whose reward has the sign of the mark.

        Returns:
            The share; None if no token is marked.
        """
        states, targets = self._tokens(marked)
        right = [
            (state @ self._weights + self._offset)[marks != 0] * marks[marks != 0] > 0
            for state, marks in zip(states, targets, strict=True)
        ]
        found = np.concatenate(right)
        return float(found.mean()) if len(found) else None

    def token_rewards(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> list[NDArray[np.float64]]:
        """Return the rewards of the tokens of N texts, N arrays ``[n]``.

        The tokens are those of the language model that judges.
        """
        _, states = self.features.states(prompts, completions)
        return [state.astype(np.float64) @ self._weights + self._offset for state in states]

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N rewards: the sums over the tokens of each text."""
        if not self.version:
            return [0.0] * len(completions)
        keys = list(zip(prompts, completions, strict=True))
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            rewards = self.token_rewards(*map(list, zip(*new, strict=True)))
            self._known.update(
                (key, float(one.sum())) for key, one in zip(new, rewards, strict=True)
            )
        found = [self._known[key] for key in keys]
        while len(self._known) > _CACHE:
            self._known.popitem(last=False)
        return found

    def potential(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N potentials: the reward of the complete words of each unfinished text.

        A word is complete when a space follows. A text without spaces consists of single letters.
        """
        found: list[float] = self(prompts, [_complete(text) for text in completions])
        return found

    def reward_version(self, completions: Sequence[str], **columns: Any) -> list[float]:
        """Return the version N times: a term of weight 0 that reports it in ``info``."""
        return [float(self.version)] * len(completions)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as tensors."""
        numbers = {"weights": self._weights, "offset": self._offset}
        values = {name: torch.as_tensor(one, dtype=torch.float64) for name, one in numbers.items()}
        return {**values, "version": torch.tensor(self.version)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state_dict`.

        Raises:
            RewardError: If it is of a language model of another width; nothing is changed then.
        """
        width = tuple(state["weights"].shape) if "weights" in state else ()
        if width != (self.features.width,) or not {"offset", "version"} <= state.keys():
            raise RewardError(
                f"{self.name}: the state has weights of the shape {width}, and the language model "
                f"has the width {self.features.width}; use the model that it was saved with"
            )
        self._weights, self._offset = state["weights"].numpy().copy(), float(state["offset"])
        self.version = int(state["version"])
        self._known.clear()

    def save(self, path: str | Path) -> None:
        """Write the rewards of tokens to a safetensors file, with the name of the language model.

        Raises:
            StorageError: If the file cannot be written.
        """
        metadata = {"format": _FORMAT, "lm": self.features.name}
        write_tensors(path, self.state_dict(), metadata)

    @staticmethod
    def load(path: str | Path, device: str = "auto") -> SpanReward:
        """Read a file that `save` wrote, and load its language model.

        Raises:
            RewardError: If the file is damaged or of another kind.
            ModelError: If the language model cannot be loaded.
        """
        try:
            tensors, metadata = read_tensors(path)
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}")
        except (StorageError, ValueError) as error:
            raise RewardError(
                f"{path} is not a saved span reward ({error}); give a file that SpanReward.save "
                "wrote"
            ) from error
        reward = SpanReward(TextFeatures(metadata["lm"], device))
        reward.load_state_dict(tensors)
        return reward

    def _tokens(
        self, marked: Sequence[MarkedText]
    ) -> tuple[list[NDArray[np.float32]], list[Floats]]:
        """The hidden states of the tokens of marked texts, and their marks."""
        columns = [one.prompt for one in marked], [one.text for one in marked]
        texts, states = self.features.states(*columns)
        pairs = zip(marked, texts, strict=True)
        marks = [token_marks(one.text, self.features.ends(text), one.spans) for one, text in pairs]
        return states, marks


def _complete(text: str) -> str:
    """The text without its last word, unless the text has no spaces."""
    before, space, _ = text.rstrip().rpartition(" ")
    return before if space and text == text.rstrip() else text
