"""What the rewards of finished episodes are made of, in Stable-Baselines3's logger."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

_COUNT = "episode/count"


class RewardTermsCallback(BaseCallback):
    """Log means over the episodes that ended since the last log.

    For TensorBoard, CSV and whatever else the logger writes; a mean reward alone does not tell
    which of its terms grows, nor at whose cost. Of text environments in
    :func:`textgym.sb3.make_vec_env`, for on-policy and off-policy algorithms::

        model.learn(100_000, callback=RewardTermsCallback())

    * ``reward_terms/NAME``: each term before weighting; ``cost_terms/NAME``: each cost.
    * ``episode/reward`` and ``episode/length`` (steps), where ``VecMonitor`` tells them;
      ``episode/cost``.
    * ``episode/characters``: of the response.
    * ``episode/finish_REASON``: the share of episodes that ended so; ``finish_truncated`` are those
      that a step limit cut off.
    * ``episode/count``: so many episodes these are means of.

    A mean is over the episodes that have the value: a truncated one has no terms. Where no episode
    ended between two logs, nothing of it is logged. The logger is the memory of "since the last
    log", so that any ``log_interval`` is right; SB3's own ``rollout/ep_rew_mean`` is over the last
    100 episodes instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reasons: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()

    def _on_training_start(self) -> None:
        self._forget()

    def _on_step(self) -> bool:
        ended = [
            info for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True)
            if done
        ]  # fmt: skip
        if ended:
            # A log empties the logger: what is no longer there has been written.
            if _COUNT not in self.logger.name_to_value:
                self._forget()
            for info in ended:
                self._take(info)
            self._record()
        return True

    def _take(self, info: dict[str, Any]) -> None:
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

    def _record(self) -> None:
        count = self._ended.total()
        for name, number in self._counts.items():
            self.logger.record(name, self._sums[name] / number)
        # A reason that has occurred once is logged for good: a curve without gaps.
        self._reasons.update(self._ended)
        for reason in sorted(self._reasons):
            self.logger.record(f"episode/finish_{reason}", self._ended[reason] / count)
        self.logger.record(_COUNT, count)
