"""The callback that logs the diagnostics of a training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from textgym.rollouts import Episodes
from textgym.sb3.diagnostics.cross_scoring import prompt_key
from textgym.sb3.diagnostics.dependence import PromptDependence
from textgym.sb3.diagnostics.estimates import reward_shares, share_without_variance
from textgym.sb3.diagnostics.watch import Watch
from textgym.sb3.logging import RewardTermsCallback

# Shares and groups are over the episodes since the last log, but at least over this many; the
# lengths of later episodes are compared with those of this many first ones.
_WINDOW = 64
# Where the algorithm has no groups: the number of episodes of one prompt that are a group, and the
# number of groups below which there is no share.
_REPEATS = 4
_GROUPS = 4
# Potential-based shaping sums up to nearly the same number whatever the text is: it explains no
# variance, and another term does not dominate it.
_UNWEIGHTED = {"step_reward": 0.0}
_INFORMATION = ("diagnostics/mutual_information", "diagnostics/mutual_information_max")


class DiagnosticsWarning(UserWarning):
    """A training that goes wrong, in plain words."""


class _Episode(NamedTuple):
    """A finished episode: a key of its prompt, its return, and the terms of its reward."""

    prompt: str
    total: float
    terms: dict[str, float]


class DiagnosticsCallback(BaseCallback):
    """Log whether a training has anything to learn from, and what goes wrong.

    For text environments of :func:`textgym.sb3.make_vec_env`, with on-policy and off-policy
    algorithms::

        model.learn(100_000, callback=DiagnosticsCallback())

    It logs all values of :class:`RewardTermsCallback` (``reward_terms/NAME``, ``episode/length``,
    ``episode/finish_length``: the share of responses that reach the token budget, ...), and:

    * ``diagnostics/entropy``: entropy of the policy in nats per token. It is the mean of
      ``-log p(token)`` over the sampled tokens of the rollout, whose expectation is the mean
      entropy of the distributions that they were drawn from. For :class:`textgym.sb3.TopKPolicy`
      it is the exact entropy of the choice among the proposals. (SB3's ``train/entropy_loss`` is a
      loss: minus the mean entropy over the passes of the update.)
    * ``diagnostics/mutual_information`` of prompts and responses, in nats, and
      ``diagnostics/mutual_information_max``, the logarithm of the number of prompts
      (:func:`~textgym.sb3.diagnostics.estimates.mutual_information`): near 0, responses do not
      depend on the prompt. The policy scores each of some responses after each of their prompts;
      for agents that choose among proposals, the frozen language model does. It reads at most one
      token for eight environment steps, so the value is logged every few rollouts. (`watch` has one
      more, at the end of the training.)
    * ``diagnostics/groups_without_variance``: the share of groups of responses to one prompt whose
      returns are all equal (:func:`~textgym.sb3.diagnostics.estimates.share_without_variance`).
      Groups are those of the algorithm; elsewhere, the episodes of each prompt that occurred at
      least four times, if there are four such prompts. Absent without groups.
    * ``diagnostics/length_ratio``: ``episode/length`` divided by the mean length of the first
      episodes: those that each row writes first, 64 or more in all.
    * ``reward_shares/NAME``: the share of the variance of the reward that each term explains, where
      there are several (:func:`~textgym.sb3.diagnostics.estimates.reward_shares`), without the
      potential-based ``step_reward``.
    * ``rollout/kl``, ``rollout/kl_coef``, ...: the statistics of an
      :class:`textgym.sb3.LMRolloutBuffer`.

    ``train/explained_variance`` is logged by the algorithms that have a value function
    (:func:`stable_baselines3.common.utils.explained_variance`), and is watched here. Shares and
    groups are over the episodes since the last log, but at least over the last 64.

    Some findings are reported in plain words, each one once: see
    :data:`textgym.sb3.diagnostics.watch.RULES`.

    Nothing random is drawn, and nothing of the model is changed: a training is bit for bit the same
    with and without it.

    An algorithm that is not one of SB3's shows its rollout before ``callback.on_rollout_end()`` by
    ``callback.update_locals({"episodes": episodes, "group_size": G})``, with
    :class:`textgym.rollouts.Episodes`. If its episodes are demonstrations, which the policy did not
    write, it has the attribute ``learns_demonstrations = True``. Without ``logger`` and
    ``get_env()`` it is not diagnosed.

    To resume a training, save the state with it, ``Checkpoints(folder,
    extra=diagnostics.get_state)``, and restore it: ``diagnostics.set_state(load_checkpoint(model,
    folder))``.

    Args:
        prompts: Number of prompts and responses for the mutual information; 0 leaves it out.
        warn: Called with the environment steps and a sentence; default: a `DiagnosticsWarning`.

    Attributes:
        watch: The course of the logged values, and the warnings so far.
    """

    def __init__(self, prompts: int = 8, warn: Callable[[int, str], None] | None = None) -> None:
        super().__init__()
        self.watch = Watch(warn or _warn)
        self._terms = RewardTermsCallback()
        self._dependence = PromptDependence(prompts)
        self._writer = _Rows(self)
        self._weights: Mapping[str, float] = {}
        self._active = False
        self._clear()

    def _clear(self) -> None:
        self.watch.clear()
        self._dependence.clear()
        self._recent: list[_Episode] = []
        self._since_log = 0
        # The lengths of the first episodes of each row.
        self._first: list[list[float]] = []

    def _on_training_start(self) -> None:
        self._active = hasattr(self.model, "logger") and hasattr(self.model, "get_env")
        if not self._active:
            return
        if not self.model.num_timesteps:
            self._clear()
        self._terms.init_callback(self.model)
        self._terms.on_training_start(self.locals, self.globals)
        env = self.training_env
        if env.has_attr("settings"):
            weights = getattr(env.get_attr("settings")[0].reward, "weights", {})
            self._weights = {**_UNWEIGHTED, **weights}
        self._dependence.start(self.model, env)
        if self._writer not in self.logger.output_formats:
            self.logger.output_formats.append(self._writer)

    def _on_training_end(self) -> None:
        if self._active and self._writer in self.logger.output_formats:
            self.logger.output_formats.remove(self._writer)
            values: dict[str, Any] = dict(self.logger.name_to_value)
            found = self._dependence.last_estimate()
            if found is not None:
                values |= dict(zip(_INFORMATION, found, strict=True))
            self.watch.finish(self.model.num_timesteps, values)

    def row_written(self, step: int, values: Mapping[str, Any]) -> None:
        """Take a row of the log that was written."""
        self.watch.add(step, values)
        self._since_log = 0
        del self._recent[:-_WINDOW]

    def _on_rollout_start(self) -> None:
        self._dependence.begin(self.model.num_timesteps)

    def _on_step(self) -> bool:
        if self._active and "dones" in self.locals and "infos" in self.locals:
            self._terms.locals = self.locals
            self._terms.on_step()
            self._first = self._first or [[] for _ in self.locals["dones"]]
            for row in np.flatnonzero(self.locals["dones"]).tolist():
                self._add(row, self.locals["infos"][row])
        return True

    def _add(self, row: int, info: Mapping[str, Any]) -> None:
        """Take a finished episode."""
        if "episode" in info and len(self._first[row]) < -(-_WINDOW // len(self._first)):
            self._first[row].append(float(info["episode"]["l"]))
        if "reward_terms" not in info:
            return  # Cut off, and not scored.
        terms = {name: float(value) for name, value in info["reward_terms"].items()}
        total = math.nan
        if "episode" in info:
            total = float(info["episode"]["r"])
        self._recent.append(_Episode(prompt_key(info), total, terms))
        self._since_log += 1
        self._dependence.add(info)

    def _on_rollout_end(self) -> None:
        if self._active:
            for name, value in self._values().items():
                self.logger.record(name, value)

    def _values(self) -> dict[str, float]:
        """All values of a rollout."""
        values: dict[str, float | None] = {"diagnostics/entropy": self._entropy()}
        for name, value in getattr(self.locals.get("rollout_buffer"), "stats", {}).items():
            values[f"rollout/{name}"] = value
        found = self._dependence.estimate(self.model.num_timesteps)
        if found is not None:
            values |= dict(zip(_INFORMATION, found, strict=True))
        if self._since_log:
            values["diagnostics/length_ratio"] = self._length_ratio()
            values["diagnostics/groups_without_variance"] = share_without_variance(self._groups())
            recent = self._recent[-max(self._since_log, _WINDOW) :]
            names = dict.fromkeys(name for episode in recent for name in episode.terms)
            terms = {
                name: np.array([episode.terms.get(name, math.nan) for episode in recent])
                for name in names
            }
            for name, share in reward_shares(terms, self._weights).items():
                values[f"reward_shares/{name}"] = share
        return {name: value for name, value in values.items() if value is not None}

    def _entropy(self) -> float | None:
        """Nats per token; None if the policy does not report it."""
        episodes, buffer = self.locals.get("episodes"), self.locals.get("rollout_buffer")
        policy: Any = getattr(self.model, "policy", None)
        last = getattr(self.model, "_last_obs", None)
        if isinstance(episodes, Episodes):
            log_probs = episodes.log_probs.numpy()
        elif buffer is not None:
            log_probs = buffer.log_probs
        elif hasattr(policy, "choice_entropy") and last is not None:
            # Rollouts are short: once for each row of the log is enough.
            known = "diagnostics/entropy" in self.logger.name_to_value
            return None if known else float(policy.choice_entropy(last))
        else:
            return None
        nats = -float(np.mean(log_probs, dtype=np.float64))
        return None if math.isnan(nats) else nats

    def _length_ratio(self) -> float | None:
        now = self.logger.name_to_value.get("episode/length")
        needed = -(-_WINDOW // max(1, len(self._first)))
        if now is None or any(len(lengths) < needed for lengths in self._first):
            return None
        return float(now) / float(np.mean(self._first))

    def _groups(self) -> list[list[float]]:
        """The returns of several responses to one prompt, for each of some prompts."""
        episodes, size = self.locals.get("episodes"), self.locals.get("group_size", 1)
        if isinstance(episodes, Episodes) and size > 1:
            groups: list[list[float]] = episodes.returns.reshape(-1, size).tolist()
            return groups
        by_prompt: dict[str, list[float]] = {}
        for episode in self._recent[-max(self._since_log, _WINDOW) :]:
            if not math.isnan(episode.total):
                by_prompt.setdefault(episode.prompt, []).append(episode.total)
        repeated = [group for group in by_prompt.values() if len(group) >= _REPEATS]
        return repeated if len(repeated) >= _GROUPS else []

    def get_state(self) -> dict[str, Any]:
        """The state, as values of JSON and arrays, for a checkpoint between two rollouts."""
        return {
            "watch": self.watch.get_state(),
            "terms": self._terms.get_state(),
            "dependence": self._dependence.get_state(),
            "recent": [list(episode) for episode in self._recent],
            "since_log": self._since_log,
            "first": [list(lengths) for lengths in self._first],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`, before ``learn``."""
        self.watch.set_state(state["watch"])
        self._terms.set_state(state["terms"])
        self._dependence.set_state(state["dependence"])
        self._recent = [
            _Episode(str(prompt), float(total), dict(terms))
            for prompt, total, terms in state["recent"]
        ]
        self._since_log = int(state["since_log"])
        self._first = [list(lengths) for lengths in state["first"]]


class _Rows(KVWriter):
    """Passes the rows of the log to the callback."""

    def __init__(self, callback: DiagnosticsCallback) -> None:
        self._callback = callback

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Pass a row on."""
        self._callback.row_written(step, key_values)

    def close(self) -> None:
        """Do nothing: there is no file."""


def _warn(step: int, sentence: str) -> None:
    warnings.warn(f"after {step:,} steps: {sentence}", DiagnosticsWarning, stacklevel=2)
