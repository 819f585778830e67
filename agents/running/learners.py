"""What people are asked about a policy's texts, and what the reward learns from their answers.

A learner is for one kind of judgement: :class:`PairLearner` for preferences between two texts,
:class:`SpanLearner` for marked parts of a text and for edits. The loop around it is
:mod:`agents.running.feedback`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from agents.running.candidates import Group, Writer, flat
from agents.running.environments import EnvSettings
from agents.running.offers import Offers, OfferSettings
from agents.running.overoptimization import Overoptimization
from textgym.errors import DataError
from textgym.feedback.items import Item, Judgement, Kind, NewItem
from textgym.rewards.preferences.ensemble import PreferenceEnsemble
from textgym.rewards.preferences.features import Floats
from textgym.rewards.preferences.pairs import Pair
from textgym.rewards.spans.edits import Edit
from textgym.rewards.spans.marks import MarkedText
from textgym.rewards.spans.reward import SpanReward
from textgym.rollouts.interfaces import Policy

_HELD_OUT = 100
"""Judgements over which predictions are averaged."""

Judged = Sequence[tuple[Judgement, Item]]
"""Judgements with their items, in the order in which they came in."""


class Learner(Protocol):
    """Chooses what is judged, and fits a reward to the judgements."""

    kind: Kind

    @property
    def version(self) -> int:
        """Number of fits so far."""

    @property
    def games(self) -> bool:
        """Whether the policy seems to be gaming the reward, for the stop rule."""

    def offer(self, policy: Policy, rollout: int) -> list[NewItem]:
        """Let the present policy write texts, and choose what people are asked about."""

    def note(self, judgement: Judgement, item: Item) -> str | None:
        """Compare a new judgement with the prediction of the present reward.

        Returns:
            A warning, if there is one.
        """

    def fit(self, judged: Judged) -> None:
        """Fit the reward to all judgements so far."""

    def save(self, path: Path) -> None:
        """Write the reward to a file."""

    def figures(self) -> dict[str, float]:
        """Numbers for the log."""

    def describe(self) -> dict[str, Any]:
        """The settings that another learner must share to continue from a state."""

    def state(self) -> dict[str, Any]:
        """The state for checkpoints."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state`."""


class PairLearner:
    """Learns an ensemble of Bradley-Terry heads from preferences.

    Args:
        settings: The settings of the pairs.
        reward: The reward of the training's environment, which is fitted here.

    Attributes:
        reward: As given.
        watch: The comparisons of the present policy with the initial one.
    """

    kind: Kind = "pair"

    def __init__(self, settings: OfferSettings, reward: PreferenceEnsemble) -> None:
        self.reward = reward
        self.watch = Overoptimization()
        self._settings = settings
        self._offers = Offers(settings)
        self._predictions: deque[tuple[float, float]] = deque(maxlen=_HELD_OUT)
        self._known: dict[tuple[str, str], Floats] = {}

    @property
    def version(self) -> int:
        """Number of fits so far."""
        return self.reward.version

    @property
    def games(self) -> bool:
        """Whether the last two windows of comparisons had an alarm."""
        return self.watch.alarms >= 2

    def offer(self, policy: Policy, rollout: int) -> list[NewItem]:
        """Let the present policy write texts, and choose pairs of them."""
        return self._offers.pairs(policy, self.reward, rollout)

    def note(self, judgement: Judgement, item: Item) -> str | None:
        """Compare a new preference with the prediction of the present reward.

        Only pairs that were chosen at random count for its accuracy, and only comparisons with the
        initial policy for the alarm.
        """
        won = judgement.preference
        assert won is not None, "the loop leaves out skips"
        if item.columns["random"] and self.version and won != 0.5:
            first, second = item.texts
            scores = self.reward.scores([Pair(item.prompt, first, second, preference=won)])
            self._predictions.append((scores["accuracy"], scores["log_loss"]))
        initial = item.columns.get("initial")
        if initial is None:
            return None
        return self.watch.add(float(item.columns["predicted"]), won if initial == 1 else 1 - won)

    def fit(self, judged: Judged) -> None:
        """Fit the heads. The texts of the initial policy are the reference of their scale."""
        pairs, features = pairs_of(judged), self.reward.features
        reference = flat(self._offers.initial)
        if not self._known:
            texts = zip(*reference, strict=True)
            self._known.update(zip(texts, features(*reference), strict=True))
        for pair in pairs:
            for text in (pair.chosen, pair.rejected):
                if (pair.prompt, text) not in self._known:
                    # In a batch of its own, so that it is the same in a resumed training.
                    self._known[pair.prompt, text] = features([pair.prompt], [text])[0]
        self.reward.fit(pairs, reference, self._known)

    def save(self, path: Path) -> None:
        """Write the heads to a file, for `PreferenceEnsemble.load`."""
        self.reward.save(path)

    def figures(self) -> dict[str, float]:
        """True score, accuracy and log-loss on new random pairs, and the comparisons."""
        found = {} if self._offers.score is None else {"true_score": self._offers.score}
        if self._predictions:
            right, loss = np.mean(self._predictions, axis=0).tolist()
            found |= {"held_out_accuracy": right, "held_out_log_loss": loss}
        if (window := self.watch.last) is not None:
            found |= {"win_rate": window.won, "predicted_win_rate": window.predicted}
        return found

    def describe(self) -> dict[str, Any]:
        """The settings that another learner must share to continue from a state."""
        names = ("choose", "random_share", "duels", "candidates", "group_size", "seed")
        return {name: getattr(self._settings, name) for name in names}

    def state(self) -> dict[str, Any]:
        """The state for checkpoints."""
        return {
            "initial": [group.state() for group in self._offers.initial],
            "score": self._offers.score,
            "predictions": [list(one) for one in self._predictions],
            "watch": self.watch.state(),
            "reward": self.reward.state_dict(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state`."""
        self._offers.initial = [Group.of_state(one) for one in state["initial"]]
        self._offers.score = state["score"]
        self._predictions.clear()
        self._predictions.extend((right, loss) for right, loss in state["predictions"])
        self.watch.set_state(state["watch"])
        self.reward.load_state_dict(state["reward"])
        self._known = {}


class SpanSettings(EnvSettings, Protocol):
    """The settings of single texts, which `agents.rlhf.Settings` documents."""

    kind: Literal["pair", "spans", "edit"]
    items: int
    seed: int


class SpanLearner:
    """Learns rewards of tokens from marked parts of texts, or from better versions of texts.

    There is no stop rule: people compare no texts.

    Args:
        settings: The settings.
        reward: The reward of the training's environment, which is fitted here.

    Attributes:
        reward: As given.
        kind: ``"spans"`` or ``"edit"``.
        games: False.
    """

    games = False

    def __init__(self, settings: SpanSettings, reward: SpanReward) -> None:
        self.reward = reward
        self.kind: Kind = "edit" if settings.kind == "edit" else "spans"
        self._settings = settings
        self._writer: Writer | None = None
        self._score: float | None = None
        self._predictions: deque[float] = deque(maxlen=_HELD_OUT)

    @property
    def version(self) -> int:
        """Number of fits so far."""
        return self.reward.version

    def offer(self, policy: Policy, rollout: int) -> list[NewItem]:
        """Let the present policy write a text to each of some prompts."""
        rng = np.random.default_rng([self._settings.seed, rollout])
        if self._writer is None:
            self._writer = Writer(self._settings, self._settings.items)
        seeds: list[int] = rng.integers(2**63, size=self._settings.items).tolist()
        groups = self._writer.write(policy, seeds)
        self._score = float(np.mean([group.scores[0] for group in groups]))
        return [
            NewItem(self.kind, group.prompt, group.texts, {"row": group.row})
            for group in groups
            if group.texts[0].strip()
        ]

    def note(self, judgement: Judgement, item: Item) -> str | None:
        """Compare the signs of new marks with those that the present reward predicts."""
        if self.version:
            right = self.reward.accuracy(_marked(judgement, item))
            self._predictions += () if right is None else (right,)
        return None

    def fit(self, judged: Judged) -> None:
        """Fit the rewards of tokens, if any are marked."""
        with suppress(DataError):  # Nothing but spaces may be marked so far.
            self.reward.fit([marked for one in judged for marked in _marked(*one)])

    def save(self, path: Path) -> None:
        """Write the reward to a file, for `SpanReward.load`."""
        self.reward.save(path)

    def figures(self) -> dict[str, float]:
        """True score, and accuracy on marks of new texts."""
        found = {} if self._score is None else {"true_score": self._score}
        if self._predictions:
            found["held_out_accuracy"] = float(np.mean(self._predictions))
        return found

    def describe(self) -> dict[str, Any]:
        """The settings that another learner must share to continue from a state."""
        return {"kind": self.kind, "seed": self._settings.seed}

    def state(self) -> dict[str, Any]:
        """The state for checkpoints."""
        return {
            "score": self._score,
            "predictions": list(self._predictions),
            "reward": self.reward.state_dict(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state`."""
        self._score = state["score"]
        self._predictions.clear()
        self._predictions.extend(state["predictions"])
        self.reward.load_state_dict(state["reward"])


def pairs_of(judged: Judged) -> list[Pair]:
    """Preferences in the order in which they were judged, without repetitions and skips.

    A better version that somebody wrote is preferred to the text that it was made from.
    """
    pairs = []
    for judgement, item in judged:
        won = judgement.preference
        if judgement.repeat or won is None:
            continue
        first, second = item.texts
        pairs.append(Pair(item.prompt, first, second, preference=won))
        if "text" in judgement.value:
            edited = first if won == 1 else second
            pairs.append(Pair(item.prompt, judgement.value["text"], edited))
    return pairs


def _marked(judgement: Judgement, item: Item) -> list[MarkedText]:
    """The marks of a text, or of a text and its better version."""
    if judgement.kind == "edit":
        return [*Edit(item.prompt, item.texts[0], judgement.value["text"]).marks]
    spans = [(start, end, sign) for start, end, sign in judgement.value["spans"]]
    return [MarkedText(item.prompt, item.texts[0], spans)]
