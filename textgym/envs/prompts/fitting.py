"""Token ids of prompts: tokenized, framed by the tokenizer's special tokens, and truncated."""

from __future__ import annotations

from textgym.envs.prompts.chat import no_template
from textgym.envs.settings import Settings
from textgym.errors import PromptError, TokenizerError

# Maximal number of token ids that are cached at a time.
_MAX_CACHED_IDS = 1_000_000

# A prompt with more characters than both limits is not tokenized, which might take minutes.
_MAX_CHARACTERS, _MAX_CHARACTERS_PER_TOKEN = 1_000_000, 256


class PromptFitter:
    """Turns the prompts of an environment into token ids.

    Args:
        settings: The environment's tokenizer and budgets.
        cached: Keep the ids of prompts, because they come again.
    """

    def __init__(self, settings: Settings, cached: bool = False) -> None:
        self.settings = settings
        self._encoded: dict[str, list[int]] | None = {} if cached else None
        # The special tokens that the tokenizer adds around a prompt, which are never cut off.
        # A chat template contains its special tokens.
        self._frame = settings.tokenizer.prompt_frame if settings.chat is None else ([], [])

    def fit(self, row: int | str, prompt: str) -> list[int] | None:
        """The prompt's token ids, truncated if so configured; None if it is skipped.

        Args:
            row: Index of the row in the batch, or its place in a file, for errors.
            prompt: The prompt; with a chat template, as it was rendered.

        Raises:
            PromptError: If it does not fit, or cannot be tokenized.
        """
        if not isinstance(prompt, str):
            raise PromptError(
                f"{describe_row(self.settings, row, str(prompt))}: the prompt is a list of "
                f"messages, but {no_template(self.settings.tokenizer)}"
            )
        cache = self._encoded
        if cache is not None and prompt in cache:
            ids = cache[prompt]
        else:
            if self._too_long(row, prompt):
                return None
            try:
                ids = self.settings.tokenizer.encode(prompt)
            except TokenizerError as error:
                raise PromptError(f"{describe_row(self.settings, row, prompt)}: {error}") from error
            if cache is not None:
                cache[prompt] = ids
        before, behind = self._frame
        if before and ids[: len(before)] == before:
            before = []  # The prompt contains the bos token itself.
        if behind and behind[-1] in ids:
            raise PromptError(
                f"{describe_row(self.settings, row, prompt)}: the prompt contains the "
                "end-of-sequence token, which the tokenizer adds to every prompt; remove it from "
                "the text"
            )
        around = len(before) + len(behind)
        room = self.settings.max_prompt_tokens - around
        if len(ids) <= room:
            return [*before, *ids, *behind] if around else ids
        overflow = self.settings.prompt_overflow
        if overflow == "skip":
            return None
        if room >= 0 and overflow == "left":
            return [*before, *ids[len(ids) - room :], *behind]
        if room >= 0 and overflow == "right":
            return [*before, *ids[:room], *behind]
        framed = f" ({around} of them added by the tokenizer)" if around else ""
        raise PromptError(
            f"{describe_row(self.settings, row, prompt)}: the prompt has {len(ids) + around} tokens"
            f"{framed}, but max_prompt_tokens is {room + around}; raise it, or set prompt_overflow "
            "to 'left' or 'right' (truncate that side) or 'skip' (draw another prompt)"
        )

    def limit_cache(self) -> None:
        """Empty the cache if it is large."""
        if sum(map(len, (self._encoded or {}).values())) > _MAX_CACHED_IDS:
            self._encoded = {}

    def _too_long(self, row: int | str, prompt: str) -> bool:
        """Whether to skip a prompt that is far too long, without tokenizing it."""
        settings = self.settings
        limit = max(_MAX_CHARACTERS, _MAX_CHARACTERS_PER_TOKEN * settings.max_prompt_tokens)
        if len(prompt) > limit and settings.prompt_overflow == "error":
            raise PromptError(
                f"{describe_row(settings, row, prompt)}: the prompt has {len(prompt):,} "
                f"characters, but max_prompt_tokens is {settings.max_prompt_tokens}; raise it, "
                "shorten it, or set prompt_overflow to 'left' or 'right' (truncate that side)"
            )
        return len(prompt) > limit and settings.prompt_overflow == "skip"


def describe_row(settings: Settings, row: int | str, prompt: str) -> str:
    """A row for error messages: environment, index (or place in a file) and prompt."""
    short = prompt if len(prompt) <= 40 else prompt[:37] + "..."
    where = row if isinstance(row, str) else f"row {row}"
    return f"{settings.name}, {where} (prompt {short!r})"
