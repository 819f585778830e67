"""Reward terms of finished episodes in Stable-Baselines3's logger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

_COUNT = "episode/count"


class RewardTermsCallback(BaseCallback):
    """Log means over the episodes that ended since the last log.

    The mean reward alone does not show which of its terms improves at the cost of others. For text
    environments of :func:`textgym.sb3.make_vec_env`, with on-policy and off-policy algorithms::

        model.learn(100_000, callback=RewardTermsCallback())

    * ``reward_terms/NAME``: each term before weighting; ``cost_terms/NAME``: each cost.
    * ``episode/reward`` and ``episode/length`` (steps), with a ``VecMonitor``; ``episode/cost``.
    * ``episode/characters``: length of the response.
    * ``episode/finish_REASON``: the share of episodes with this finish reason;
      ``finish_truncated`` for those cut off by a step limit.
    * ``episode/count``: the number of episodes.

    Each mean is over the episodes that have the value; a truncated one has no terms. Without
    finished episodes since the last log, nothing is logged. It works with any ``log_interval``;
    SB3's ``rollout/ep_rew_mean`` is over the last 100 episodes instead.

    :class:`textgym.sb3.DiagnosticsCallback` includes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reasons: set[str] = set()
        self._clear()

    def _clear(self) -> None:
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()

    def _on_training_start(self) -> None:
        if not self.model.num_timesteps:
            self._clear()

    def _on_step(self) -> bool:
        ended = [
            info for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True)
            if done
        ]  # fmt: skip
        if ended:
            # The logger is emptied when it is written.
            if _COUNT not in self.logger.name_to_value:
                self._clear()
            for info in ended:
                self._add(info)
            self._record()
        return True

    def _add(self, info: dict[str, Any]) -> None:
        values = {
            f"{group}/{name}": value
            for group in ("reward_terms", "cost_terms")
            for name, value in info.get(group, {}).items()
        }
        if "cost" in info:
            values["episode/cost"] = info["cost"]
        if "response" in info:
            values["episode/characters"] = len(info["response"])
        if "episode" in info:  # VecMonitor's
            values["episode/reward"] = info["episode"]["r"]
            values["episode/length"] = info["episode"]["l"]
        for name, value in values.items():
            if value == value:  # a term that does not apply to a text is NaN
                self._sums[name] += float(value)  # type: ignore[assignment]
                self._counts[name] += 1
        self._ended[str(info.get("finish_reason", "truncated"))] += 1

    def get_state(self) -> dict[str, Any]:
        """The episodes since the last log, as values of JSON, for a checkpoint."""
        return {
            "sums": dict(self._sums),
            "counts": dict(self._counts),
            "ended": dict(self._ended),
            "reasons": sorted(self._reasons),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`, before ``learn``."""
        self._sums, self._counts, self._ended = (
            Counter(state[name]) for name in ("sums", "counts", "ended")
        )
        self._reasons = set(state["reasons"])

    def _record(self) -> None:
        count = self._ended.total()
        for name, number in self._counts.items():
            self.logger.record(name, self._sums[name] / number)
        # A reason that has occurred is always logged, so that its curve has no gaps.
        self._reasons.update(self._ended)
        for reason in sorted(self._reasons):
            self.logger.record(f"episode/finish_{reason}", self._ended[reason] / count)
        self.logger.record(_COUNT, count)
