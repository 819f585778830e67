"""The rewards within a combinator, with the checks of :class:`RewardSum`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from textgym.errors import MissingDependencyError, RewardError, TaskError, TextGymError
from textgym.rewards.registry import RewardFunction, make_reward, reward_name
from textgym.rewards.signature import Call
from textgym.rewards.validation import checked_values, explain

Values = list[float | None]
"""The rewards of N texts; None where the reward does not apply."""

_ROW = re.compile(r"\brow \d")
_NUMBERED = " (rows are numbered within the call)"


class InnerReward:
    """A reward within a combinator: called by its signature, with checked values.

    Args:
        source: A registered name, or a reward function.
        outer: The name of the combinator, for errors.

    Attributes:
        source: As given.
        name: Its name in terms and errors.

    Raises:
        RewardError: If the name is unknown, or the source is neither.
        MissingDependencyError: If a named reward needs a library that is not installed.
    """

    def __init__(self, source: str | RewardFunction, outer: str) -> None:
        self.source = source
        try:
            if isinstance(source, str):
                self.name, function = source, make_reward(source)
            elif callable(source):
                self.name, function = reward_name(source), source
            else:
                raise RewardError(
                    f"takes registered names and reward functions, not {type(source).__name__} "
                    f"{source!r:.80}"
                )
            self._call = Call.of(function)
        except MissingDependencyError as error:
            raise MissingDependencyError(f"{outer}: reward {source!r}: {error}") from error
        except TextGymError as error:
            raise RewardError(f"{outer}: {error}") from error

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
    ) -> Values:
        """Return N finite numbers or Nones.

        Raises:
            RewardError: If the function raises or returns anything else. The message is a
                predicate: the caller puts the name of the outer reward in front of it.
        """
        count = len(completions)
        if not count:
            return []
        texts = list(completions)
        try:
            result = self._call(list(prompts), texts, columns)
            return checked_values(result, texts, None)
        except RewardError as error:
            raise RewardError(self._message(str(error))) from error
        except TaskError as error:
            raise RewardError(f"has the inner reward {self.name!r}: {error}") from error
        except Exception as error:
            reason = f"raised {type(error).__name__}: {error}"
            # The search for the row slices every column.
            if all(per_text(values, count) for values in columns.values()):
                reason = explain(error, self._call, list(prompts), texts, columns, None)
            raise RewardError(self._message(reason)) from error

    def _message(self, reason: str) -> str:
        # Only the outermost caller knows the row numbers of the environment.
        numbered = _ROW.search(reason) is not None and _NUMBERED not in reason
        return f"has the inner reward {self.name!r}, which {reason}{_NUMBERED * numbered}"


def per_text(values: Any, count: int) -> bool:
    """Whether this has one value per text, unlike other inputs that TRL passes."""
    return (
        hasattr(values, "__getitem__")
        and hasattr(values, "__len__")
        and not isinstance(values, str | bytes | Mapping)
        and len(values) == count
    )
