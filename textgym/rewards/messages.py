"""Reward functions that judge conversations as lists of messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textgym.rewards.registry import RewardFunction, reward_name
from textgym.rewards.signature import Call


class MessageReward:
    """A reward function that gets messages in place of texts; made by :func:`messages`.

    Args:
        function: The function.

    Attributes:
        function: The function.
        name: Its name, for ``info["reward_terms"]``.
        reward_call: How it is called.
    """

    def __init__(self, function: RewardFunction) -> None:
        self.function = function
        self.reward_call = Call.of(function, messages=True)
        self.name = self.__name__ = reward_name(function)

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> Sequence[float | None]:
        """Return what the function returns."""
        values: Sequence[float | None] = self.reward_call(list(prompts), list(completions), columns)
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the function."""
        return type(self), (self.function,)

    def __deepcopy__(self, memo: dict[int, Any]) -> MessageReward:
        """Return the same object: the function may hold a model."""
        return self


def messages(function: RewardFunction) -> MessageReward:
    """Make a reward function get lists of messages, as it does in TRL with conversational data.

    Its ``prompts`` are the rows' column ``messages`` (a prompt that is only a text becomes one
    message of the user), each of its ``completions`` is a list of one message of the assistant.
    Without this, a function gets strings, unless it is one of TRL's own or annotates its texts as a
    list of lists (``completions: list[list[dict[str, str]]]``). In TRL the result gets messages
    too, whatever the data set.

    Args:
        function: A reward function, or any object that can be called; asynchronous or not.

    Returns:
        The reward function that gets them.

    Raises:
        RewardError: If its signature cannot be read.

    Example:
        >>> from textgym.rewards import messages
        >>> reward = messages(lambda completions: [len(c[0]["content"]) for c in completions])
        >>> reward(["How many?"], ["three"])
        [5]
    """
    return MessageReward(function)
