"""Validation of the prompts of finite lists when an environment is made.

An invalid prompt thus raises before training, not hours later, when it is drawn.
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
"""Maps a row's place (for errors) and its prompt to token ids, or to None if it is skipped."""

# Invalid rows of the lists checked before, since evaluation makes its environments repeatedly.
_CHECKED: dict[str, dict[int, str]] = {}
_MAX_CHECKED_LISTS = 64

# Maximal number of rows that a warning names.
_MAX_NAMED = 5


def check_prompts(settings: Settings, fit: Fit) -> None:
    """Check the prompts of every finite list that a source draws from.

    If ``on_bad_row`` is ``"skip"``, rows with an invalid prompt are left out with a `DataWarning`.

    Args:
        settings: The environment's settings.
        fit: Tokenizes and truncates a prompt.

    Raises:
        PromptError: If a prompt does not fit or cannot be tokenized, or ``prompt_overflow="skip"``
            would skip all of them.
        DataError: If no row is left.
    """
    for rows in settings.source.lists():
        bad = _invalid_rows(rows, settings, fit)
        if bad:
            rows.leave_out(bad)
    _warn_of_skipped_rows(settings)


def _invalid_rows(rows: FiniteSource, settings: Settings, fit: Fit) -> dict[int, str]:
    """The errors of rows whose prompt is invalid, by index."""
    skip = settings.on_bad_row == "skip"
    prompts = [(index, rows.item(index)["prompt"]) for index in rows.checked()]
    key = _key(settings, prompts)
    if key in _CHECKED:
        return _CHECKED[key]
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
            f"{settings.name}: all {len(prompts)} prompts of {rows.name} that were checked have "
            f"more than max_prompt_tokens={settings.max_prompt_tokens} tokens, so "
            "prompt_overflow='skip' leaves none; raise it, or truncate with 'left' or 'right'"
        )
    if len(_CHECKED) >= _MAX_CHECKED_LISTS:
        _CHECKED.clear()
    _CHECKED[key] = bad
    return bad


def _key(settings: Settings, prompts: Sequence[tuple[int, Any]]) -> str:
    """A hash of all that determines which prompts are valid."""
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


def _warn_of_skipped_rows(settings: Settings) -> None:
    for rows in settings.source.lists():
        if not rows.skipped:
            continue
        count = len(rows.skipped)
        more = f"; and {count - _MAX_NAMED} more" if count > _MAX_NAMED else ""
        warnings.warn(
            f"{settings.name}: {count} of {count + rows.size} rows of {rows.name} are left out "
            f"(on_bad_row='skip'): {'; '.join(rows.skipped[:_MAX_NAMED])}{more}",
            DataWarning,
            stacklevel=2,
        )
