"""A reward learned from preferences while they come in: an ensemble of linear heads.

    features = TextFeatures("textgym/tiny")
    reward = PreferenceEnsemble(features)
    reward.fit(pairs)                                   # again whenever there are new judgements
    env = gymnasium.make("TextGen/Story-v0", reward={reward: 1.0, reward.reward_version: 0.0})

Training a reward model (:mod:`textgym.rewards.train`) takes thousands of pairs and minutes. Here
the language model is frozen, and some heads on its hidden states are fitted in a fraction of a
second (:mod:`textgym.rewards.preferences.bradley_terry`). How much the heads disagree about a pair
says what its judgement would teach (:mod:`textgym.rewards.preferences.selection`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.data.messages import reads_texts
from textgym.errors import DataError, RewardError, StorageError
from textgym.rewards.preferences.bradley_terry import fit_heads
from textgym.rewards.preferences.calibration import scores_of
from textgym.rewards.preferences.features import Floats, TextFeatures
from textgym.rewards.preferences.pairs import Pair
from textgym.storage.tensors import read_tensors, write_tensors

_FORMAT = "textgym preference ensemble 1"

SCALES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Standard deviations of a text's reward under the prior, in logits, among which a fit chooses."""

_NUMBERS = ("weights", "scaling", "center", "spread")


class FitReport(NamedTuple):
    """The result of a fit.

    Attributes:
        version: The new version of the reward.
        pairs: Number of pairs.
        scale: The standard deviation of the prior that was chosen.
        accuracy: Share of the pairs on whose better text the ensemble agrees. These are the pairs
            that it was fitted to; see `PreferenceEnsemble.scores` for others.
    """

    version: int
    pairs: int
    scale: float
    accuracy: float


class PreferenceEnsemble:
    """Mean reward of an ensemble of Bradley-Terry heads, fitted to preferences.

    Each head is fitted to other weights of the pairs, drawn from an exponential distribution, and
    with another anchor of its prior. Both depend on the seed and on the place of a pair, so that a
    further fit with more pairs changes the heads no more than the new pairs do. The width of the
    prior is the one with the greatest evidence (MacKay 1992).

    The reward does not change between two fits, and has the number `version`. Its scale is
    normalized once per version: texts given as `reference`, usually those of the initial policy,
    have the mean 0 and the standard deviation 1. So the reward measures how far a policy is above
    the initial one, in standard deviations of it. Before the first fit it is 0.

    Range: (-inf, inf), higher is better.
    Needs: pairs of texts with a preference; the prompts.
    Cost: a forward pass of the language model for each text, without logits; 0.2 s for a fit of 300
    pairs on one CPU core with ``textgym/tiny``.
    Gaming: a linear function of hidden states rises without bound for texts unlike those that
    people have judged, such as very long ones. Go on judging texts of the present policy, and keep
    it close to the initial one (a KL penalty).

    Args:
        features: Computes the features of texts.
        heads: Number of heads K.
        seed: Seed of the weights of pairs and of the anchors.

    Attributes:
        features: As given.
        version: Number of fits so far.

    Raises:
        RewardError: If there is no head.
    """

    name = "preferences"

    def __init__(self, features: TextFeatures, heads: int = 5, seed: int = 0) -> None:
        if heads < 1:
            raise RewardError(f"{self.name}: heads={heads} must be at least 1")
        self.features = features
        self.version = 0
        self._count, self._seed = heads, seed
        self._weights = np.zeros((heads, features.size))
        self._scaling = np.zeros(features.size)
        self._center, self._spread = 0.0, 1.0

    def __deepcopy__(self, memo: dict[int, Any]) -> PreferenceEnsemble:
        """Return the same object: all environments share the reward."""
        return self

    def fit(
        self,
        pairs: Sequence[Pair],
        reference: tuple[Sequence[str], Sequence[str]] | None = None,
        known: Mapping[tuple[str, str], Floats] | None = None,
    ) -> FitReport:
        """Fit all heads to preferences, from the start; the version increases by 1.

        Args:
            pairs: The pairs, in the order in which they were judged. ``margin`` is ignored.
            reference: Prompts and completions, two lists, on which the reward has the mean 0 and
                the standard deviation 1. Default: all texts of the pairs.
            known: Features of texts that are known already, by prompt and completion.

        Raises:
            DataError: If there are no pairs.
        """
        if not pairs:
            raise DataError("there are no preferences to fit a reward to; judge some pairs first")
        first = self._features_of([(pair.prompt, pair.chosen) for pair in pairs], known)
        second = self._features_of([(pair.prompt, pair.rejected) for pair in pairs], known)
        both = np.concatenate([first, second])
        spread = both.std(axis=0)
        usable = spread > 1e-6 * (1 + np.abs(both).max(axis=0))
        scaling = np.zeros(len(spread))
        # The reward of a text then has the standard deviation of the prior.
        scaling[usable] = 1 / (spread[usable] * np.sqrt(max(1, usable.sum())))
        differences = torch.from_numpy((first - second) * scaling)
        preferences = torch.tensor([pair.preference for pair in pairs], dtype=torch.float64)
        weight = torch.tensor([pair.weight for pair in pairs], dtype=torch.float64)
        scale = _best_scale(differences, preferences, weight)
        counts, anchors = self._randomness(len(pairs))
        heads = fit_heads(
            differences,
            preferences,
            weight * torch.from_numpy(counts),
            torch.full((self._count,), scale, dtype=torch.float64),
            scale * torch.from_numpy(anchors),
        )
        self._weights, self._scaling = heads.weights.numpy(), scaling
        self._center, self._spread = 0.0, 1.0
        if reference is not None:
            both = self._features_of(list(zip(*reference, strict=True)), known)
        rewards = self.heads_of(both).mean(axis=0)
        self._center, self._spread = float(rewards.mean()), max(float(rewards.std()), 1e-6)
        self.version += 1
        learned = (self.heads_of(first) - self.heads_of(second)).mean(axis=0)
        accuracy = scores_of(learned, preferences.numpy())["accuracy"]
        return FitReport(self.version, len(pairs), scale, accuracy)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """Return N rewards: the mean of the heads."""
        if not self.version:
            return [0.0] * len(completions)
        found: list[float] = self.heads(prompts, completions).mean(axis=0).tolist()
        return found

    def reward_version(self, completions: Sequence[str], **columns: Any) -> list[float]:
        """Return the version N times: a term of weight 0 that reports it in ``info``."""
        return [float(self.version)] * len(completions)

    def heads(self, prompts: Sequence[str], completions: Sequence[str]) -> Floats:
        """Return the rewards of each head ``[K, N]``, on the common normalized scale."""
        return self.heads_of(self.features(prompts, completions))

    def heads_of(self, features: Floats) -> Floats:
        """Return the same ``[K, N]`` from features ``[N, D]`` that are known already."""
        return ((self._weights * self._scaling) @ features.T - self._center) / self._spread

    def logits(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Floats:
        """Return the log-odds that the first text of each pair is preferred, by head ``[K, N]``."""
        one, other = (self.features(prompts, texts) for texts in (first, second))
        return (self.heads_of(one) - self.heads_of(other)) * self._spread

    def std_of_differences(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return how much the heads disagree about each pair, ``[N]``.

        It is the standard deviation over the heads of the log-odds of the first text.
        """
        return np.asarray(self.logits(prompts, first, second).std(axis=0))

    def probabilities(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return the probability that the first text is preferred, ``[N]``: the mean of the heads.

        Where the heads disagree it is closer to 0.5 than that of their mean reward.
        """
        logits = self.logits(prompts, first, second)
        return np.asarray((0.5 + 0.5 * np.tanh(logits / 2)).mean(axis=0))

    def scores(self, pairs: Sequence[Pair]) -> dict[str, float]:
        """Return how well the ensemble predicts the preferences of other pairs.

        Returns:
            ``accuracy``, ``log_loss``, ``brier`` and the calibration, as
            :func:`textgym.rewards.preferences.calibration.scores_of`, of `probabilities`.
        """
        columns = zip(*((pair.prompt, pair.chosen, pair.rejected) for pair in pairs), strict=True)
        won = self.probabilities(*map(list, columns)).clip(1e-12, 1 - 1e-12)
        return scores_of(np.log(won) - np.log1p(-won), [pair.preference for pair in pairs])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as tensors."""
        numbers = (self._weights, self._scaling, self._center, self._spread)
        values = {
            name: torch.as_tensor(value, dtype=torch.float64).clone()
            for name, value in zip(_NUMBERS, numbers, strict=True)
        }
        return {**values, "version": torch.tensor(self.version)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state_dict`.

        Raises:
            RewardError: If it is of an ensemble with another number of heads or features; nothing
                is changed then.
        """
        shapes = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        theirs = {name: tuple(value.shape) for name, value in state.items()}
        if shapes != theirs:
            raise RewardError(
                f"{self.name}: the state has the shapes {theirs}, and these heads have {shapes}; "
                "use the language model and the number of heads that it was saved with"
            )
        self._weights = state["weights"].numpy().copy()
        self._scaling = state["scaling"].numpy().copy()
        self._center, self._spread = float(state["center"]), float(state["spread"])
        self.version = int(state["version"])

    def save(self, path: str | Path) -> None:
        """Write the heads to a safetensors file, with the name of the language model.

        Raises:
            StorageError: If the file cannot be written.
        """
        options = {"lm": self.features.name, "heads": self._count, "seed": self._seed}
        metadata = {"format": _FORMAT, "options": json.dumps(options)}
        write_tensors(path, self.state_dict(), metadata)

    @staticmethod
    def load(path: str | Path, device: str = "auto") -> PreferenceEnsemble:
        """Read a file that `save` wrote, and load its language model.

        Args:
            path: The file.
            device: Device of the language model.

        Raises:
            RewardError: If the file is damaged or of another kind.
            ModelError: If the language model cannot be loaded.
        """
        try:
            tensors, metadata = read_tensors(path)
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}")
            options = json.loads(metadata["options"])
            lm, heads, seed = str(options["lm"]), int(options["heads"]), int(options["seed"])
        except (StorageError, KeyError, TypeError, ValueError) as error:
            raise RewardError(
                f"{path} is not a saved preference ensemble ({error}); give a file that "
                "PreferenceEnsemble.save wrote"
            ) from error
        ensemble = PreferenceEnsemble(TextFeatures(lm, device), heads, seed)
        ensemble.load_state_dict(tensors)
        return ensemble

    def _features_of(
        self, texts: Sequence[tuple[str, str]], known: Mapping[tuple[str, str], Floats] | None
    ) -> Floats:
        found = {text: known[text] for text in texts if text in known} if known else {}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            prompts, completions = zip(*new, strict=True)
            found.update(zip(new, self.features(prompts, completions), strict=True))
        return np.stack([found[text] for text in texts])

    def _randomness(self, count: int) -> tuple[Floats, Floats]:
        """The weights of the pairs ``[K, n]``, and the anchors ``[K, D]`` for a prior of width 1.

        A single head is the mode of the posterior, without randomness.
        """
        if self._count == 1:
            return np.ones((1, count)), np.zeros((1, self.features.size))
        draws = [np.random.default_rng([self._seed, head]) for head in range(self._count)]
        anchors = np.stack([rng.standard_normal(self.features.size) for rng in draws])
        # Drawn one after the other, so that earlier pairs keep theirs.
        return np.stack([rng.standard_exponential(count) for rng in draws]), anchors


def _best_scale(differences: Tensor, preferences: Tensor, weight: Tensor) -> float:
    """The width of the prior with the greatest evidence."""
    scales = torch.tensor(SCALES, dtype=torch.float64)
    counts = weight.expand(len(scales), -1)
    anchors = torch.zeros(len(scales), differences.shape[1], dtype=torch.float64)
    fit = fit_heads(differences, preferences, counts, scales, anchors)
    return SCALES[int(fit.evidence.argmax())]
