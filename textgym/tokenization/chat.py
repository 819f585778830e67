"""Chat templates: messages to the one text that a chat model was trained to read.

The template is a checkpoint's own Jinja program. Transformers renders it, in a sandbox that reaches
nothing but the messages; it is imported when the first template is rendered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from textgym.errors import PromptError

Message = dict[str, Any]
"""``{"role": "system" | "user" | "assistant", "content": str}``."""

# What an assistant is made to say, to find out what a template writes behind it.
_MARK = "textgym0mark0"


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template and the special tokens that it refers to.

    Attributes:
        source: The Jinja program.
        special_tokens: ``bos_token``, ``eos_token``, ... as strings.
        name: The tokenizer that it belongs to, for error messages.
    """

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    name: str = "a tokenizer"

    def render(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """Messages as one text, as ``apply_chat_template(tokenize=False)`` writes them.

        Args:
            messages: The conversation so far. If the last message is the assistant's, its turn
                stays open, to be continued (``continue_final_message``).
            add_generation_prompt: Whether to leave the assistant's turn open at the end.

        Raises:
            PromptError: If the template refuses the messages (a role that it does not know, turns
                that do not alternate), or is not a template.
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
            # Its annotation says that it returns a string, but it returns a pair.
            pair: Any = render_jinja_template(
                [[dict(message) for message in messages]], chat_template=self.source, **options
            )
        except (jinja2.TemplateError, TypeError, KeyError, ValueError) as error:
            roles = [message.get("role") for message in messages]
            raise PromptError(
                f"the chat template of {self.name!r} does not take messages with the roles {roles} "
                f"({error})"
            ) from error
        return str(pair[0][0])

    def behind_reply(self, messages: Sequence[Mapping[str, Any]], answer: str) -> str:
        """What the template writes between an assistant's turn and its next one.

        Args:
            messages: The conversation; the assistant's turn follows, or its last message begins it.
            answer: The user's message that follows the assistant's turn.

        Returns:
            The text from the end of the assistant's turn (its end token included) to where the
            next one begins. Only what the template writes behind the turn counts, so that one that
            rewrites earlier turns (dropping their reasoning, say) keeps the text append-only.

        Raises:
            PromptError: As `render`, or if the template drops the assistant's turn.
        """
        *before, last = messages
        if last.get("role") == "assistant":  # Its turn was begun by the prompt.
            turns = [*before, {**last, "content": f"{last['content']}{_MARK}"}]
        else:
            turns = [*messages, {"role": "assistant", "content": _MARK}]
        text = self.render([*turns, {"role": "user", "content": answer}])
        return self._behind_mark(text)

    def end_of_turn(self) -> str:
        """What the template writes behind an assistant's turn; "" if it cannot be found out."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
        try:
            return self._behind_mark(self.render(messages, add_generation_prompt=False))
        except PromptError:
            return ""

    def _behind_mark(self, text: str) -> str:
        _, found, behind = text.rpartition(_MARK)
        if not found:
            raise PromptError(
                f"the chat template of {self.name!r} does not write the assistant's turns; it "
                "cannot be used for conversations"
            )
        return behind
