"""The prompts of finite lists are tokenized before the first episode.

So one that does not fit shows when the environment is made, not hours later, when it is drawn.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from textgym.envs.prompts.chat import messages_of
from textgym.errors import DataWarning, PromptError
from textgym.tasks.sources.base import FiniteSource

if TYPE_CHECKING:
    from textgym.envs.settings import Settings

Fit = Callable[[str, Any], Sequence[int] | None]
"""From the place of a row (for errors) and its prompt to the token ids; None if it is skipped."""

_SEEN: dict[str, dict[int, str]] = {}
"""What was found in lists that were looked at before: evaluation makes its environments often."""

_MAX_SEEN = 64
_NAMED = 5


def check_prompts(settings: Settings, fit: Fit) -> None:
    """Look at the prompts of every finite list that a source draws from.

    Rows whose prompt cannot be used are left out if ``on_bad_row`` is ``"skip"``; what was left out
    is reported by one `DataWarning`.

    Args:
        settings: The environment's settings.
        fit: Tokenizes a prompt and cuts it to size.

    Raises:
        PromptError: If a prompt does not fit or cannot be tokenized, or ``prompt_overflow="skip"``
            would leave none.
        DataError: If no row is left.
    """
    for rows in settings.source.lists():
        found = _look(rows, settings, fit)
        if found:
            rows.leave_out(found)
    _report(settings)


def _look(rows: FiniteSource, settings: Settings, fit: Fit) -> dict[int, str]:
    skip = settings.on_bad_row == "skip"
    prompts = [(index, rows.item(index)["prompt"]) for index in rows.checked()]
    key = _key(settings, prompts)
    if key in _SEEN:
        return _SEEN[key]
    bad: dict[int, str] = {}
    fitting = 0
    for index, prompt in prompts:
        try:
            text = prompt if settings.chat is None else settings.chat.render(messages_of(prompt))
            fitting += fit(rows.place(index), text) is not None
        except PromptError as error:
            if not skip:
                raise
            bad[index] = str(error)
    if not fitting and not bad:
        raise PromptError(
            f"{settings.name}: all {len(prompts)} prompts of {rows.name} that were looked at have "
            f"more than max_prompt_tokens={settings.max_prompt_tokens} tokens, so "
            "prompt_overflow='skip' leaves none; raise it, or cut prompts with 'left' or 'right'"
        )
    if len(_SEEN) >= _MAX_SEEN:
        _SEEN.clear()
    _SEEN[key] = bad
    return bad


def _key(settings: Settings, prompts: Sequence[tuple[int, Any]]) -> str:
    """A hash of everything that says which prompts fit."""
    tokenizer = settings.tokenizer
    rule = (
        settings.name,
        settings.on_bad_row,
        settings.prompt_overflow,
        settings.max_prompt_tokens,
        tokenizer.name,
        tokenizer.content_hash(),
        tokenizer.prompt_frame,
        settings.chat,
    )
    digest = hashlib.sha256(repr(rule).encode("utf-8", "surrogatepass"))
    for index, prompt in prompts:
        text = repr(prompt) if not isinstance(prompt, str) else prompt
        digest.update(f"{index}:{len(text)}:".encode())
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _report(settings: Settings) -> None:
    for rows in settings.source.lists():
        if not rows.skipped:
            continue
        count = len(rows.skipped)
        more = f"; and {count - _NAMED} more" if count > _NAMED else ""
        warnings.warn(
            f"{settings.name}: {count} of {count + rows.size} rows of {rows.name} are left out, as "
            f"on_bad_row='skip' asks for: {'; '.join(rows.skipped[:_NAMED])}{more}",
            DataWarning,
            stacklevel=2,
        )
