"""Reward functions that take conversations as lists of messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textgym.rewards.registry import RewardFunction, reward_name
from textgym.rewards.signature import Call


class MessageReward:
    """A reward function that is called with messages instead of strings; see :func:`messages`.

    Attributes:
        function: The wrapped function.
        name: Its name in ``info["reward_terms"]``.
        reward_call: The function with its signature.
    """

    def __init__(self, function: RewardFunction) -> None:
        self.function = function
        self.reward_call = Call.of(function, messages=True)
        self.name = self.__name__ = reward_name(function)

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Sequence[float | None]:
        """Call the function."""
        values: Sequence[float | None] = self.reward_call(list(prompts), list(completions), columns)
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the function alone; the signature is read again."""
        return type(self), (self.function,)

    def __deepcopy__(self, memo: dict[int, Any]) -> MessageReward:
        """Return the same object: the function may hold a model."""
        return self


def messages(function: RewardFunction) -> MessageReward:
    """Pass lists of messages to a reward function, as TRL does with conversational data.

    The function's ``prompts`` are the column ``messages`` of the rows (a plain prompt becomes one
    user message); each of its ``completions`` is a list of one assistant message. Other functions
    get strings, except those of TRL and those that annotate a text as a list of lists
    (``completions: list[list[dict[str, str]]]``). In TRL, the returned function gets messages with
    any data set.

    Args:
        function: A reward function, or any callable object; asynchronous or not.

    Returns:
        The wrapped reward function.

    Raises:
        RewardError: If its signature cannot be read.

    Example:
        >>> from textgym.rewards import messages
        >>> reward = messages(lambda completions: [len(c[0]["content"]) for c in completions])
        >>> reward(["How many?"], ["three"])
        [5]
    """
    return MessageReward(function)
