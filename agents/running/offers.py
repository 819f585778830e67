"""The pairs that people are asked about after each rollout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from agents.running.candidates import Group, Writer, flat
from agents.running.environments import EnvSettings
from textgym.feedback.items import NewItem
from textgym.rewards.preferences.ensemble import PreferenceEnsemble
from textgym.rewards.preferences.features import Floats
from textgym.rewards.preferences.selection import How, choose_pairs
from textgym.rollouts.interfaces import Policy


class OfferSettings(EnvSettings, Protocol):
    """The settings of the pairs, which `agents.rlhf.Settings` documents."""

    choose: How
    items: int
    random_share: float
    duels: int
    candidates: int
    group_size: int
    seed: int


class Offers:
    """Lets a policy write texts, and chooses pairs of them.

    All random choices depend on the seed and on the number of the rollout alone.

    Args:
        settings: The settings.

    Attributes:
        initial: Texts of the initial policy, those of the first call.
        score: Mean reward of the last texts in the environment of the evaluation; None before.
    """

    def __init__(self, settings: OfferSettings) -> None:
        self.initial: list[Group] = []
        self.score: float | None = None
        self._settings = settings
        self._writers: dict[int, Writer] = {}

    def pairs(self, policy: Policy, reward: PreferenceEnsemble, rollout: int) -> list[NewItem]:
        """Write texts to new prompts, and choose pairs, in random order.

        Args:
            policy: The present policy.
            reward: The present reward; pairs are random before its first fit.
            rollout: The number of the rollout.

        Returns:
            Items whose columns are ``row`` (the columns of the prompt's row), ``random`` (whether
            the pair was chosen at random), and in comparisons with the initial policy ``initial``
            (0 or 1, the place of its text) and ``predicted`` (the probability that the present
            policy wins).
        """
        s, rng = self._settings, np.random.default_rng([self._settings.seed, rollout])
        seeds: list[int] = rng.integers(2**63, size=s.candidates).tolist()
        groups = self._writer(s.candidates, s.group_size).write(policy, seeds)
        self.score = float(np.mean([score for group in groups for score in group.scores]))
        items: list[NewItem] = []
        if not self.initial:
            self.initial = groups
        elif reward.version:
            items = self._duels(policy, reward, rng)
        how: How = s.choose if reward.version else "random"
        heads, texts = _heads(reward, groups), [group.texts for group in groups]
        for choice in choose_pairs(texts, heads, s.items - len(items), how, rng, s.random_share):
            group = groups[choice.group]
            both = (group.texts[choice.first], group.texts[choice.second])
            items.append(_item(group, both, random=choice.random))
        return [items[at] for at in rng.permutation(len(items)).tolist()]

    def _duels(
        self, policy: Policy, reward: PreferenceEnsemble, rng: np.random.Generator
    ) -> list[NewItem]:
        """Pairs of a text of the present policy and one of the initial policy."""
        count = min(self._settings.duels, self._settings.items, len(self.initial))
        if not count:
            return []
        chosen = [self.initial[at] for at in rng.permutation(len(self.initial))[:count].tolist()]
        present = self._writer(count, 1).write(policy, [group.seed for group in chosen])
        items = []
        for before, now in zip(chosen, present, strict=True):
            old, new = before.texts[int(rng.integers(len(before.texts)))], now.texts[0]
            place = int(rng.integers(2))
            if old == new:
                continue
            both = (new, old) if place == 1 else (old, new)
            predicted = float(reward.probabilities([now.prompt], [new], [old])[0])
            items.append(_item(now, both, random=False, initial=place, predicted=predicted))
        return items

    def _writer(self, prompts: int, group_size: int) -> Writer:
        if group_size not in self._writers:
            self._writers[group_size] = Writer(self._settings, prompts, group_size)
        return self._writers[group_size]


def _item(group: Group, texts: tuple[str, str], **columns: Any) -> NewItem:
    return NewItem("pair", group.prompt, texts, {"row": group.row, **columns})


def _heads(reward: PreferenceEnsemble, groups: Sequence[Group]) -> list[Floats]:
    """The rewards of each group's texts by head, ``[K, G]``."""
    found = reward.heads(*flat(groups))
    return np.split(found, np.cumsum([len(group.texts) for group in groups])[:-1], axis=1)
