"""Prompts that are messages: rendered by the tokenizer's chat template, as rows are drawn."""

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
    """The rows of another source, with prompts that a chat template has rendered.

    A row's ``prompt`` is the rendered text, generation prompt included, and its column ``messages``
    holds the messages. A prompt that is a string is one message of the user.

    Args:
        source: Where the rows come from.
        template: The tokenizer's chat template.

    Attributes:
        task: The task whose rows they are, if it is one.
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
        """Complete a row of the user's, and render it."""
        return self._rendered(self._source.complete_row(row))

    def prompt_budget(self, tokenizer: Tokenizer) -> int | None:
        """Tokens to allow for a prompt."""
        return self._source.prompt_budget(tokenizer)

    def default_reward(self) -> RewardSpec:
        """The source's own reward; a task's reads what the user says, without the template."""
        reward = self._source.default_reward()
        return OnUserText(reward) if isinstance(reward, TaskReward) else reward

    def lists(self) -> list[FiniteSource]:
        """The finite lists that the source draws from; their prompts are not rendered."""
        return self._source.lists()

    def _rendered(self, row: Row) -> Row:
        messages = messages_of(row["prompt"])
        return {**row, "messages": messages, "prompt": self._template.render(messages)}


def task_row(row: Row, template: ChatTemplate | None) -> Row:
    """A row as its task reads it: what the user says is the prompt, not what a template made of it.

    Args:
        row: The row.
        template: What has rendered its prompt; None: nothing.
    """
    return row if template is None else {**row, "prompt": user_text(row["messages"])}


class OnUserText:
    """A task's reward or cost, whose prompts are what the user says, without the template.

    Args:
        function: The function, in a reward's signature.
    """

    def __init__(self, function: RewardFunction) -> None:
        self.name = reward_name(function)
        self._function = function
        self._call = Call.of(function)

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> Sequence[float | None]:
        """What the function returns."""
        texts = [user_text(messages) for messages in columns["messages"]]
        values: Sequence[float | None] = self._call(texts, list(completions), columns)
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._function,)


def messages_of(prompt: Any) -> list[Message]:
    """The messages of a prompt; a string is one message of the user."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt]


def chat_template(
    name: str, chat: Any, source: Source, tokenizer: Tokenizer
) -> ChatTemplate | None:
    """The template that renders an environment's prompts; None if they are plain text.

    Args:
        name: The environment, for errors.
        chat: True, False or "auto": render if the source's prompts are messages.
        source: Where prompts come from.
        tokenizer: Its template.

    Raises:
        SettingsError: If `chat` is something else, or the tokenizer has no template.
        DataError: If the prompts are messages, but are not to be rendered.
    """
    if not isinstance(chat, (bool, np.bool_)) and chat != "auto":
        raise SettingsError(f"{name}: chat={chat!r} is unknown; use True, False or 'auto'")
    messages = _gives_messages(source, tokenizer)
    if messages and chat is not True and chat != "auto":
        raise DataError(
            f"{name}: the prompts of {source.name} are messages, which chat=False does not render; "
            "leave chat out, or give prompts that are strings"
        )
    if not messages and chat is not True:
        return None
    if tokenizer.chat_template is None:
        why = "the prompts are messages" if messages else "chat=True"
        raise SettingsError(f"{name}: {why}, but {no_template(tokenizer)}")
    if tokenizer.encoder_decoder:
        raise SettingsError(
            f"{name}: the chat template of {tokenizer.name!r} cannot be used, because its model is "
            "an encoder-decoder: the first eos ends what the encoder reads, and a template may "
            "write one after each turn; give prompts as strings, and leave chat out"
        )
    return tokenizer.chat_template


def no_template(tokenizer: Tokenizer) -> str:
    """What to do where messages meet an environment that renders none."""
    if tokenizer.chat_template is not None:
        return (
            "the environment's first prompt is a string, so that none is rendered; chat=True "
            "renders both (a string is one message of the user)"
        )
    return (
        f"the tokenizer {tokenizer.name!r} has no chat template; use the tokenizer of an "
        "instruction-tuned model (tokenizer=..., or --lm for an agent), set "
        "tokenizer.chat_template of a transformers tokenizer, or give prompts as strings"
    )


def _gives_messages(source: Source, tokenizer: Tokenizer) -> bool:
    """Whether the first prompt of a source is a list of messages."""
    if isinstance(source, TaskSource):
        return False
    if not source.repeatable and tokenizer.chat_template is None:
        return False  # A look at what a function makes may change what it makes next.
    try:
        return is_conversation(source.item(0)["prompt"])
    except TextGymError:
        if source.repeatable:
            raise
        return False  # A function that fails says so when it is called for an episode.
