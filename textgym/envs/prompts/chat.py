"""Prompts that are messages, rendered with the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from textgym.data.messages import is_conversation
from textgym.data.rows import Row, user_text
from textgym.errors import DataError, SettingsError, TextGymError
from textgym.rewards.combine import RewardSpec
from textgym.rewards.registry import RewardFunction, reward_name
from textgym.rewards.signature import Call
from textgym.tasks.sources.base import FiniteSource, Source, TaskReward, TaskSource
from textgym.tokenization import ChatTemplate, Message, Tokenizer

Chat: TypeAlias = "bool | Literal['auto']"


class ChatSource(Source):
    """The rows of another source, with prompts rendered by a chat template.

    A row's ``prompt`` is the rendered text, generation prompt included, and its column ``messages``
    holds the messages. A string is one user message.

    Args:
        source: The source of the rows.
        template: The tokenizer's chat template.

    Attributes:
        task: The task whose rows they are, if any.
    """

    def __init__(self, source: Source, template: ChatTemplate) -> None:
        self.name = source.name
        self.seed_key = source.seed_key
        self.size = source.size
        self.repeatable = source.repeatable
        self.task = getattr(source, "task", None)
        self._source = source
        self._template = template

    def draw(self, rng: np.random.Generator) -> Row:
        """A random row, rendered."""
        return self._rendered(self._source.draw(rng))

    def item(self, index: int) -> Row:
        """The row of one index, rendered."""
        return self._rendered(self._source.item(index))

    def complete_row(self, row: Row) -> Row:
        """A row given by the user, completed and rendered."""
        return self._rendered(self._source.complete_row(row))

    def prompt_budget(self, tokenizer: Tokenizer) -> int | None:
        """The default of ``max_prompt_tokens``."""
        return self._source.prompt_budget(tokenizer)

    def default_reward(self) -> RewardSpec:
        """The source's reward; a task's reward gets the user's text without the template."""
        reward = self._source.default_reward()
        return OnUserText(reward) if isinstance(reward, TaskReward) else reward

    def lists(self) -> list[FiniteSource]:
        """The finite lists that the source draws from, with prompts that are not rendered."""
        return self._source.lists()

    def _rendered(self, row: Row) -> Row:
        messages = messages_of(row["prompt"])
        return {**row, "messages": messages, "prompt": self._template.render(messages)}


def task_row(row: Row, template: ChatTemplate | None) -> Row:
    """A row as its task expects it: the prompt is the user's text, without the template.

    Args:
        row: The row.
        template: The template that rendered its prompt, if any.
    """
    return row if template is None else {**row, "prompt": user_text(row["messages"])}


class OnUserText:
    """A task's reward or cost, called with the user's text instead of the rendered prompt.

    Args:
        function: The function, with a reward's signature.
    """

    def __init__(self, function: RewardFunction) -> None:
        self.name = reward_name(function)
        self._function = function
        self._call = Call.of(function)

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> Sequence[float | None]:
        """Call the function with the user's text as prompts."""
        texts = [user_text(messages) for messages in columns["messages"]]
        values: Sequence[float | None] = self._call(texts, list(completions), columns)
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._function,)


def messages_of(prompt: Any) -> list[Message]:
    """The messages of a prompt; a string is one user message."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt]


def chat_template(
    name: str, chat: Any, source: Source, tokenizer: Tokenizer
) -> ChatTemplate | None:
    """The template that renders an environment's prompts; None if they are plain text.

    Args:
        name: The environment's name, for errors.
        chat: True, False or "auto" (render if the source's prompts are messages).
        source: The source of the prompts.
        tokenizer: The tokenizer with the template.

    Raises:
        SettingsError: If `chat` is invalid, or the tokenizer has no template.
        DataError: If the prompts are messages, but `chat` is False.
    """
    if not isinstance(chat, (bool, np.bool_)) and chat != "auto":
        raise SettingsError(f"{name}: chat={chat!r} is unknown; use True, False or 'auto'")
    messages = _gives_messages(source, tokenizer)
    if messages and chat is not True and chat != "auto":
        raise DataError(
            f"{name}: the prompts of {source.name} are messages, which chat=False does not render; "
            "omit chat, or use strings as prompts"
        )
    if not messages and chat is not True:
        return None
    if tokenizer.chat_template is None:
        why = "the prompts are messages" if messages else "chat=True"
        raise SettingsError(f"{name}: {why}, but {no_template(tokenizer)}")
    if tokenizer.encoder_decoder:
        raise SettingsError(
            f"{name}: the chat template of {tokenizer.name!r} cannot be used, because its model is "
            "an encoder-decoder: the first eos ends the encoder's input, and a template may write "
            "one after each turn; use strings as prompts, and omit chat"
        )
    return tokenizer.chat_template


def no_template(tokenizer: Tokenizer) -> str:
    """The part of an error that says why messages are not rendered, and what to do."""
    if tokenizer.chat_template is not None:
        return (
            "the environment's first prompt is a string, so prompts are not rendered; use "
            "chat=True to render both (a string is one user message)"
        )
    return (
        f"the tokenizer {tokenizer.name!r} has no chat template; use the tokenizer of an "
        "instruction-tuned model (tokenizer=..., or --lm for an agent), set "
        "tokenizer.chat_template of a transformers tokenizer, or use strings as prompts"
    )


def _gives_messages(source: Source, tokenizer: Tokenizer) -> bool:
    """Whether the first prompt of a source is a list of messages."""
    if isinstance(source, TaskSource):
        return False
    if not source.repeatable and tokenizer.chat_template is None:
        return False  # Calling a prompt function may change what it returns next.
    try:
        return is_conversation(source.item(0)["prompt"])
    except TextGymError:
        if source.repeatable:
            raise
        return False  # The function raises again when it is called for an episode.
