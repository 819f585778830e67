"""The loop around a policy that learns from judgements while they come in.

After each rollout :class:`FeedbackLoop` lets the present policy write texts, puts some of them into
a store, takes the judgements that have come in, and fits the learned reward again when there are
enough new ones. The reward is frozen in between, so that a rollout has one version of it. What is
asked and learned depends on the kind of judgement (:mod:`agents.running.learners`).

With simulated annotators a fixed number of judgements comes in after each rollout. All random
choices depend on the seed and on the number of the rollout, and judgements that are in the store
already are used instead of new ones. So a training that was killed continues with the same curve:
the store may be ahead of the last checkpoint, but never differs from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any, Literal, Protocol

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from tqdm import tqdm

from agents.running.diagnosis import print_warning
from agents.running.learners import Learner
from textgym.feedback.items import Item, Judgement
from textgym.feedback.simulated import SimulatedAnnotator
from textgym.feedback.store import Store

STORE, REWARD = "feedback.sqlite", "reward.safetensors"
"""Files in the folder of a run: the store without ``--store``, and the learned reward."""

_SHOWN = 3
"""Rollouts after which an item that nobody has judged is shown no more."""

_POLL = 1.0
"""Seconds between two looks at the store before the first fit."""


class FeedbackSettings(Protocol):
    """The settings of the loop, which `agents.rlhf.Settings` documents."""

    store: Path | None
    labels: int
    items: int
    refit_every: int
    stop_rule: Literal["stop", "warn"]


class FeedbackLoop:
    """Texts of the policy, judgements of them, and the fits of the reward.

    Args:
        settings: The settings.
        learner: Chooses what is judged, and learns from it.
        annotators: Simulated annotators, who judge in turn; empty for people.

    Attributes:
        learner: As given.
        labels: Number of judgements so far, without repetitions and skips.
    """

    def __init__(
        self,
        settings: FeedbackSettings,
        learner: Learner,
        annotators: Sequence[SimulatedAnnotator] = (),
    ) -> None:
        self.learner = learner
        self.labels = 0
        self._settings, self._annotators = settings, list(annotators)
        self._rollout = self._cursor = self._judged = self._fitted = 0
        self._store: Store | None = None
        self._run = ""

    def after_rollout(self, agent: OnPolicyAlgorithm, stopping: Callable[[], bool]) -> bool:
        """Offer new items, take the judgements that have come in, and fit the reward again.

        Before the first fit there is nothing to learn, so it waits for people until then; later it
        never waits.

        Args:
            agent: The agent, whose policy writes the texts, and whose logger has a folder.
            stopping: Whether the user asks to end the training.

        Returns:
            False if the stop rule ends the training.
        """
        folder = Path(agent.logger.get_dir() or ".")
        store = self._open(folder)
        self._rollout += 1
        if self.labels < self._settings.labels:
            self._offer(agent, store)
        for judgement, item in self._take(store, stopping):
            if judgement.repeat or judgement.skipped:
                continue
            self.labels += 1
            warning = self.learner.note(judgement, item) if self._is_own(item) else None
            if warning is not None:
                print_warning(agent.num_timesteps, warning)
        if self.labels - self._fitted >= self._settings.refit_every:
            self._fit(store, folder)
        for name, value in self._figures().items():
            agent.logger.record(f"feedback/{name}", value)
        return not (self.learner.games and self._settings.stop_rule == "stop")

    def describe(self) -> dict[str, Any]:
        """The settings that another training must share to continue from a state."""
        names = ("labels", "items", "refit_every")
        settings = {name: getattr(self._settings, name) for name in names}
        people = [one.name for one in self._annotators]
        return {**settings, **self.learner.describe(), "annotators": people}

    def state(self) -> dict[str, Any]:
        """The state for checkpoints."""
        return {
            "rollout": self._rollout,
            "cursor": self._cursor,
            "judged": self._judged,
            "labels": self.labels,
            "fitted": self._fitted,
            "learner": self.learner.state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state`."""
        self._rollout, self._cursor = state["rollout"], state["cursor"]
        self._judged, self.labels, self._fitted = state["judged"], state["labels"], state["fitted"]
        self.learner.set_state(state["learner"])

    def _open(self, folder: Path) -> Store:
        """The store, opened after the first rollout."""
        if self._store is None:
            path = Path(self._settings.store or folder / STORE)
            self._store, self._run = Store(path), folder.name
            if not self._annotators:
                tqdm.write(f"judge the policy's texts: textgym feedback --store {path}")
        return self._store

    def _offer(self, agent: OnPolicyAlgorithm, store: Store) -> None:
        """Put texts of the present policy into the store."""
        items = self.learner.offer(agent.policy, self._rollout)
        store.retire(f"{self._run}/{self._rollout - _SHOWN}")
        store.add_items(
            replace(
                item,
                columns={**item.columns, "rollout": self._rollout},
                policy_version=f"{self._run}/{self._rollout}",
                # Of the latest policy first.
                priority=self._rollout + place / (2 * len(items)),
                key=f"{self._run}/{self._rollout}/{_digest(item.prompt, *item.texts)}",
            )
            for place, item in enumerate(items)
        )

    def _take(self, store: Store, stopping: Callable[[], bool]) -> list[tuple[Judgement, Item]]:
        """The judgements that have come in, with their items."""
        found = self._simulated(store) if self._annotators else self._human(store, stopping)
        if found:
            self._cursor = found[-1].id
            self._judged += len(found)
        items = {item.id: item for item in store.items([one.item for one in found])}
        return [(one, items[one.item]) for one in found]

    def _human(self, store: Store, stopping: Callable[[], bool]) -> list[Judgement]:
        kind = self.learner.kind
        while True:
            found = store.judgements(self._cursor, kind)
            enough = self.labels + len(found) >= self._settings.refit_every
            # If everything is judged, the next rollout brings new items.
            if self.learner.version or enough or stopping() or not store.counts(mode=kind)["left"]:
                return found
            sleep(_POLL)

    def _simulated(self, store: Store) -> list[Judgement]:
        """The judgements of this rollout: those that are in the store, then new ones."""
        wanted = min(self._settings.items, self._settings.labels - self.labels)
        if wanted <= 0:
            return []
        kind = self.learner.kind
        there = store.judgements(self._cursor, kind, skips=True)
        items = {item.id: item for item in store.items([one.item for one in there])}
        # A training that was killed may have gone on to later rollouts.
        found = [one for one in there if not self._is_later(items[one.item])][:wanted]
        while len(found) < wanted:
            turn = self._judged + len(found)
            for place in range(len(self._annotators)):
                annotator = self._annotators[(turn + place) % len(self._annotators)]
                judgement = annotator.judge_next(store, kind)
                if judgement is not None:
                    found.append(judgement)
                    break
            else:
                break
        return found

    def _is_own(self, item: Item) -> bool:
        """Whether an item is of this run; a store may have others."""
        return item.policy_version.startswith(f"{self._run}/")

    def _is_later(self, item: Item) -> bool:
        """Whether an item is of a rollout after this one."""
        return self._is_own(item) and int(item.columns["rollout"]) > self._rollout

    def _fit(self, store: Store, folder: Path) -> None:
        """Fit the reward to all judgements so far, except for those that were undone."""
        known = [one for one in store.judgements(0, self.learner.kind) if one.id <= self._cursor]
        known = [one for one in known if not one.repeat]
        if not known:
            return
        items = {item.id: item for item in store.items([one.item for one in known])}
        self.learner.fit([(one, items[one.item]) for one in known])
        self._fitted = self.labels
        self.learner.save(folder / REWARD)

    def _figures(self) -> dict[str, float]:
        figures = {"labels": self.labels, "reward_version": self.learner.version}
        return {**figures, **self.learner.figures()}


def _digest(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:24]
