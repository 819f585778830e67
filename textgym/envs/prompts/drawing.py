"""Where episodes start: each row's stream of prompts, and the prompts that ``reset`` names.

A row of the batch draws its prompts from a generator of its own, so that the same seed gives the
same prompts whatever the other rows do. Here prompts are drawn, tokenized and fitted; what happens
in an episode is :mod:`textgym.envs.batch`'s business.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from textgym.data.messages import is_conversation
from textgym.data.rows import Row, as_row
from textgym.envs.arguments import whole
from textgym.envs.prompts.chat import no_template, task_row
from textgym.envs.prompts.validation import check_prompts
from textgym.envs.settings import Settings
from textgym.errors import (
    PromptError,
    SettingsError,
    TaskError,
    TextGymError,
    TokenizerError,
    naming,
    near_matches,
    shown,
)
from textgym.tasks.base import Task

# A data set of which so many prompts in a row are too long has hardly one that fits.
_MAX_SKIPS = 1000

# Token ids of prompts that are kept from the check of a finite list; a larger one is a memo again.
_MAX_KEPT = 1_000_000

# Characters of a prompt that is not tokenized any more: at least, and for each token allowed.
_ENDLESS, _ENDLESS_TOKEN = 1_000_000, 256

_OPTIONS = ("prompt", "row", "index")


class Start(NamedTuple):
    """What an episode starts from.

    Attributes:
        row: The row of the source.
        ids: Its prompt's token ids.
        potential: The potential of an empty response to it.
        image: The picture beside it, uint8 ``[3, H, W]``; None where there is none.
    """

    row: Row
    ids: list[int]
    potential: float = 0.0
    image: NDArray[np.uint8] | None = None


class PromptStreams:
    """The prompts of each row of a batch, one after the other.

    Args:
        num_rows: Number of rows N.
        settings: Where prompts come from, and how many tokens they may have.
        group_size: So many neighbouring rows draw the same prompts in the same order.

    Attributes:
        rngs: One generator per row; None before the first seed.
        seeds: What each row was last seeded with; None if it never was.
    """

    def __init__(self, num_rows: int, settings: Settings, group_size: int = 1) -> None:
        self.settings = settings
        self.group_size = group_size
        self.rngs: list[np.random.Generator | None] = [None] * num_rows
        self.seeds: list[int | None] = [None] * num_rows
        # Prompts of a finite list come again and again; an endless source seldom repeats one.
        self._encoded: dict[str, list[int]] | None = {} if settings.source.size else None
        # The special tokens that the tokenizer writes around a prompt; they are never cut off.
        # A chat template writes its own.
        self._frame = settings.tokenizer.prompt_frame if settings.chat is None else ([], [])
        check_prompts(settings, self._fit)
        if sum(map(len, (self._encoded or {}).values())) > _MAX_KEPT:
            self._encoded = {}

    # ------------------------------------------------------------------ seeds

    def reseed(self, rows: Sequence[int], seeds: Sequence[int | None]) -> None:
        """Seed some rows' generators.

        Args:
            rows: The rows. If these are all, the rows of each group agree on one stream again.
            seeds: N seeds, of which each group's first one counts. None goes on with the present
                stream, or takes fresh entropy if there is none yet.

        Raises:
            SettingsError: If a seed is no whole number from 0.
        """
        for row in rows:
            self._seed(row, seeds[self._leader(row)])
        if len(rows) == len(self.rngs):
            # Rows of a group may have drawn differently often.
            for row in rows:
                leader = self._leader(row)
                if row != leader:
                    self._generator(row).bit_generator.state = self._generator(
                        leader
                    ).bit_generator.state

    def _seed(self, row: int, seed: int | None) -> None:
        if seed is None:
            if self.rngs[row] is None:
                # The rows of a group have to agree on one stream.
                shared = self.rngs[self._leader(row)]
                self.rngs[row] = np.random.default_rng() if shared is None else _copy(shared)
            return
        seed = whole(self.settings.name, "seed", seed)
        # The source and the split are part of the seed, so that no two share their prompts.
        words = (self.settings.source.seed_key, self.settings.split)
        key = [zlib.crc32(word.encode()) for word in words]
        self.rngs[row] = np.random.default_rng(np.random.SeedSequence([*key, seed]))
        self.seeds[row] = seed

    def _leader(self, row: int) -> int:
        return row - row % self.group_size

    def _generator(self, row: int) -> np.random.Generator:
        return cast(np.random.Generator, self.rngs[row])

    @contextmanager
    def restored_on_error(self, rows: Sequence[int]) -> Iterator[None]:
        """Put seeds and generators of some rows back if something is raised meanwhile."""
        rngs, seeds = list(self.rngs), list(self.seeds)
        states = [(rng, rng.bit_generator.state) for row in rows if (rng := rngs[row]) is not None]
        try:
            yield
        except BaseException:
            self.rngs, self.seeds = rngs, seeds
            for rng, state in states:
                rng.bit_generator.state = state
            raise

    # ------------------------------------------------------------------ prompts

    def draw(
        self, rows: Sequence[int], options: Mapping[str, Any] | None = None
    ) -> dict[int, Start]:
        """The next prompt of some rows, or the ones that the options of ``reset`` name.

        Raises:
            PromptError: If a prompt does not fit, or cannot be tokenized.
            DataError: If the source has no such row.
            SettingsError: If the options are unknown.
        """
        with naming(self.settings.name):
            if options is None:
                return {row: self._next(row) for row in rows}
            kind, values = self._named(options)
            if kind is None:
                return {row: self._next(row) for row in rows}
            return {row: self._fixed(row, self._chosen(kind, values[row])) for row in rows}

    def _next(self, row: int) -> Start:
        draw, rng = self.settings.source.draw, self._generator(row)
        for _ in range(_MAX_SKIPS):
            chosen = draw(rng)
            ids = self._fit(row, chosen["prompt"])
            if ids is not None:
                return Start(chosen, ids, image=self._image(row, chosen))
        raise PromptError(
            f"{self.settings.name}: {_MAX_SKIPS} prompts in a row from {self.settings.source.name} "
            f"have more than max_prompt_tokens={self.settings.max_prompt_tokens} tokens; raise it, "
            "or cut prompts with prompt_overflow='left' or 'right'"
        )

    def _fixed(self, row: int, chosen: Row) -> Start:
        ids = self._fit(row, chosen["prompt"])
        if ids is None:
            raise PromptError(
                f"{place(self.settings, row, chosen['prompt'])}: the prompt has more than "
                f"max_prompt_tokens={self.settings.max_prompt_tokens} tokens, and "
                "prompt_overflow='skip' cannot skip the prompt that reset's options name; raise "
                "max_prompt_tokens, or cut with prompt_overflow='left' or 'right'"
            )
        return Start(chosen, ids, image=self._image(row, chosen))

    def _image(self, row: int, chosen: Row) -> NDArray[np.uint8] | None:
        """The picture that belongs to a row, if the task shows one."""
        task = self.settings.pictures
        return None if task is None else picture(task, chosen, self.settings, row)

    def _named(self, options: Mapping[str, Any]) -> tuple[str | None, Sequence[Any]]:
        """Which of the options fixes the start, if one does, and its value for each row."""
        count = len(self.rngs)
        check_options(self.settings.name, options)
        unknown = [key for key in options if key not in (*_OPTIONS, "reset_mask")]
        if unknown:
            raise SettingsError(
                f"{self.settings.name}: reset has no option {shown(unknown[0])}"
                f"{near_matches(unknown[0], _OPTIONS)}; it knows 'prompt', 'row' and 'index'"
            )
        named = [key for key in _OPTIONS if key in options]
        if not named:
            return None, ()
        if len(named) > 1:
            raise SettingsError(
                f"{self.settings.name}: reset's options {named} contradict each other; give one"
            )
        value = options[named[0]]
        if isinstance(value, np.ndarray):
            value = value.tolist()
        # A list of messages is one prompt, and not a prompt for each row.
        if not isinstance(value, (list, tuple)) or is_conversation(value):
            return named[0], [value] * count
        if len(value) != count:  # One for each row.
            raise SettingsError(
                f"{self.settings.name}: reset's option {named[0]!r} lists {len(value)} values "
                f"for {count} rows; give one value, or one for each row"
            )
        return named[0], value

    def _chosen(self, kind: str, value: Any) -> Row:
        """The row that an option's value stands for."""
        source = self.settings.source
        if kind == "index":
            return source.item(
                whole(self.settings.name, "reset's option 'index'", value, least=None)
            )
        if kind == "prompt" and not isinstance(value, str):
            if not is_conversation(value):
                raise SettingsError(
                    f"{self.settings.name}: reset's option 'prompt' has to be a string (or, for a "
                    f"chat, a list of messages), not {shown(value)}"
                )
            value = {"prompt": value}
        return source.complete_row(as_row(value, f"{self.settings.name}: reset's option {kind!r}"))

    def _endless(self, row: int | str, prompt: str) -> bool:
        """Skip or refuse a text that cannot fit before it is tokenized, which may take minutes."""
        settings = self.settings
        most = max(_ENDLESS, _ENDLESS_TOKEN * settings.max_prompt_tokens)
        if len(prompt) > most and settings.prompt_overflow == "error":
            raise PromptError(
                f"{place(settings, row, prompt)}: the prompt has {len(prompt):,} characters, but "
                f"max_prompt_tokens is {settings.max_prompt_tokens}; raise it, shorten the prompt, "
                "or set prompt_overflow to 'left' or 'right' (cut that side off)"
            )
        return len(prompt) > most and settings.prompt_overflow == "skip"

    def _fit(self, row: int | str, prompt: str) -> list[int] | None:
        """The prompt's token ids, cut to size if so asked; None if it is to be skipped."""
        if not isinstance(prompt, str):
            raise PromptError(
                f"{place(self.settings, row, str(prompt))}: the prompt is a list of messages, but "
                f"{no_template(self.settings.tokenizer)}"
            )
        known = self._encoded
        if known is not None and prompt in known:
            ids = known[prompt]
        else:
            if self._endless(row, prompt):
                return None
            try:
                ids = self.settings.tokenizer.encode(prompt)
            except TokenizerError as error:
                raise PromptError(f"{place(self.settings, row, prompt)}: {error}") from error
            if known is not None:
                known[prompt] = ids
        before, behind = self._frame
        if before and ids[: len(before)] == before:
            before = []  # The prompt spells its bos itself.
        if behind and behind[-1] in ids:
            raise PromptError(
                f"{place(self.settings, row, prompt)}: the prompt spells the end-of-sequence token "
                "itself, but the tokenizer puts it behind every prompt; take it out of the text"
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
        framed = f" ({around} of them the tokenizer's own)" if around else ""
        raise PromptError(
            f"{place(self.settings, row, prompt)}: the prompt has {len(ids) + around} tokens"
            f"{framed}, but max_prompt_tokens is {room + around}; raise it, or set prompt_overflow "
            "to 'left' or 'right' (cut that side off) or 'skip' (take another prompt)"
        )


def check_options(name: str, options: object) -> None:
    """Refuse options of ``reset`` that are not a mapping.

    Raises:
        SettingsError: If they are something else.
    """
    if options is not None and not isinstance(options, Mapping):
        raise SettingsError(
            f"{name}: reset's options={shown(options)} have to be a dictionary, such as "
            "{'prompt': '...'}, {'row': {...}} or {'index': 0}"
        )


def picture(task: Task, chosen: Row, settings: Settings, row: int) -> NDArray[np.uint8]:
    """The picture of a row, uint8 ``[3, H, W]``.

    Raises:
        TaskError: If the task cannot draw it, or draws something else.
    """
    where = place(settings, row, str(chosen["prompt"]))
    try:
        image = task.image(task_row(chosen, settings.chat))
    except TextGymError as error:
        raise TaskError(f"{where}: {error}") from error
    except Exception as error:
        raise TaskError(
            f"{where}: {task.id} cannot draw its picture ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise TaskError(f"{where}: image() of {task.id} has to return a numpy array of uint8")
    if image.shape != task.image_shape:
        raise TaskError(
            f"{where}: image() of {task.id} returned the shape {image.shape}, but its image_shape "
            f"is {task.image_shape}"
        )
    return image


def place(settings: Settings, row: int | str, prompt: str) -> str:
    """How errors name a row: by environment, number (or its place in a file) and prompt."""
    short = prompt if len(prompt) <= 40 else prompt[:37] + "..."
    where = row if isinstance(row, str) else f"row {row}"
    return f"{settings.name}, {where} (prompt {short!r})"


def _copy(rng: np.random.Generator) -> np.random.Generator:
    """A generator that goes on as another one would."""
    twin = np.random.default_rng()
    twin.bit_generator.state = rng.bit_generator.state
    return twin
