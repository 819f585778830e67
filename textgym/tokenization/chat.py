"""Chat templates, which render messages as the text that a chat model was trained on.

A template is a Jinja program. Transformers renders it in a sandbox, and is imported when the first
template is rendered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from textgym.errors import PromptError

Message = dict[str, Any]
"""``{"role": "system" | "user" | "assistant", "content": str}``."""

# The content of an assistant's message that finds the text which a template writes after it.
_MARK = "textgym0mark0"


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template and the special tokens that it uses.

    Attributes:
        source: The Jinja program.
        special_tokens: ``bos_token``, ``eos_token``, ... as strings.
        name: The tokenizer's name, for error messages.
    """

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    name: str = "a tokenizer"

    def render(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """Render messages, as ``apply_chat_template(tokenize=False)`` does.

        Args:
            messages: The conversation so far. If the last message is the assistant's, its turn
                stays open (``continue_final_message``).
            add_generation_prompt: Whether to start the assistant's turn at the end.

        Raises:
            PromptError: If the template refuses the messages (unknown roles, turns that do not
                alternate), or is invalid.
        """
        import jinja2
        from transformers.utils.chat_template_utils import render_jinja_template

        continues = add_generation_prompt and bool(messages)
        continues = continues and messages[-1].get("role") == "assistant"
        try:
            options: dict[str, Any] = {
                **self.special_tokens,
                "add_generation_prompt": add_generation_prompt and not continues,
                "continue_final_message": continues,
            }
            # It returns a pair, contrary to its annotation.
            pair: Any = render_jinja_template(
                [[dict(message) for message in messages]], chat_template=self.source, **options
            )
        except (jinja2.TemplateError, TypeError, KeyError, ValueError) as error:
            roles = [message.get("role") for message in messages]
            raise PromptError(
                f"the chat template of {self.name!r} does not accept messages with the roles "
                f"{roles} ({error})"
            ) from error
        return str(pair[0][0])

    def behind_reply(self, messages: Sequence[Mapping[str, Any]], answer: str) -> str:
        """The text that the template writes between an assistant's turn and its next one.

        Args:
            messages: The conversation before the assistant's turn, or with its beginning.
            answer: The user's message after the assistant's turn.

        Returns:
            The text from the end of the assistant's turn (its end token included) to the start of
            the next one. Changes of earlier turns by the template, such as removing their
            reasoning, are ignored, so that the text stays append-only.

        Raises:
            PromptError: As for `render`, or if the template drops the assistant's turn.
        """
        *before, last = messages
        if last.get("role") == "assistant":  # The prompt started the assistant's turn.
            turns = [*before, {**last, "content": f"{last['content']}{_MARK}"}]
        else:
            turns = [*messages, {"role": "assistant", "content": _MARK}]
        text = self.render([*turns, {"role": "user", "content": answer}])
        return self._after_mark(text)

    def end_of_turn(self) -> str:
        """The text that the template writes after an assistant's turn; "" if it is unknown."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
        try:
            return self._after_mark(self.render(messages, add_generation_prompt=False))
        except PromptError:
            return ""

    def _after_mark(self, text: str) -> str:
        _, found, after = text.rpartition(_MARK)
        if not found:
            raise PromptError(
                f"the chat template of {self.name!r} does not write the assistant's turns; it "
                "cannot be used for conversations"
            )
        return after
