"""Drawing prompts: each row's stream of prompts, and the options of ``reset``.

Each row of the batch has its own generator, so that its prompts do not depend on the other rows.
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
from textgym.envs.prompts.chat import task_row
from textgym.envs.prompts.fitting import PromptFitter, describe_row
from textgym.envs.prompts.validation import check_prompts
from textgym.envs.settings import Settings
from textgym.errors import (
    PromptError,
    SettingsError,
    TaskError,
    TextGymError,
    naming,
    near_matches,
    shown,
)
from textgym.tasks.base import Task

# After this many consecutive prompts that are too long, drawing gives up.
_MAX_SKIPS = 1000

_OPTIONS = ("prompt", "row", "index")


class Start(NamedTuple):
    """The start of an episode.

    Attributes:
        row: The data row.
        ids: Token ids of its prompt.
        potential: The potential of an empty response.
        image: Its picture, uint8 ``[3, H, W]``; None if the task has no pictures.
    """

    row: Row
    ids: list[int]
    potential: float = 0.0
    image: NDArray[np.uint8] | None = None


class PromptStreams:
    """The prompts of each row of a batch, in order.

    Args:
        num_rows: Number of rows N.
        settings: The source of the prompts, and their maximal length.
        group_size: This many neighbouring rows draw the same prompts in the same order.

    Attributes:
        rngs: One generator per row; None before the first seed.
        seeds: The last seed of each row; None if it was never seeded.
    """

    def __init__(self, num_rows: int, settings: Settings, group_size: int = 1) -> None:
        self.settings = settings
        self.group_size = group_size
        self.rngs: list[np.random.Generator | None] = [None] * num_rows
        self.seeds: list[int | None] = [None] * num_rows
        # An endless source rarely repeats a prompt.
        self._fitter = PromptFitter(settings, cached=bool(settings.source.size))
        check_prompts(settings, self._fitter.fit)
        self._fitter.limit_cache()

    def reseed(self, rows: Sequence[int], seeds: Sequence[int | None]) -> None:
        """Seed some rows' generators.

        Args:
            rows: Indices of the rows. If these are all rows, each group shares one stream again.
            seeds: N seeds, of which each group uses its first row's. None continues the current
                stream, or draws entropy from the operating system at first.

        Raises:
            SettingsError: If a seed is not a non-negative integer.
        """
        for row in rows:
            self._seed(row, seeds[self._leader(row)])
        if len(rows) == len(self.rngs):
            # The rows of a group may have drawn different numbers of prompts.
            for row in rows:
                leader = self._leader(row)
                if row != leader:
                    self._generator(row).bit_generator.state = self._generator(
                        leader
                    ).bit_generator.state

    def _seed(self, row: int, seed: int | None) -> None:
        if seed is None:
            if self.rngs[row] is None:
                # The rows of a group share one stream.
                shared = self.rngs[self._leader(row)]
                self.rngs[row] = np.random.default_rng() if shared is None else _copy(shared)
            return
        seed = whole(self.settings.name, "seed", seed)
        # The source and the split are part of the seed, so that no two share their prompts.
        names = (self.settings.source.seed_key, self.settings.split)
        key = [zlib.crc32(name.encode()) for name in names]
        self.rngs[row] = np.random.default_rng(np.random.SeedSequence([*key, seed]))
        self.seeds[row] = seed

    def _leader(self, row: int) -> int:
        return row - row % self.group_size

    def _generator(self, row: int) -> np.random.Generator:
        return cast(np.random.Generator, self.rngs[row])

    @contextmanager
    def restored_on_error(self, rows: Sequence[int]) -> Iterator[None]:
        """Restore the seeds and generators of some rows if an error is raised in the block."""
        rngs, seeds = list(self.rngs), list(self.seeds)
        states = [(rng, rng.bit_generator.state) for row in rows if (rng := rngs[row]) is not None]
        try:
            yield
        except BaseException:
            self.rngs, self.seeds = rngs, seeds
            for rng, state in states:
                rng.bit_generator.state = state
            raise

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
            kind, values = self._start_option(options)
            if kind is None:
                return {row: self._next(row) for row in rows}
            return {row: self._fixed(row, self._option_row(kind, values[row])) for row in rows}

    def _next(self, row: int) -> Start:
        draw, rng = self.settings.source.draw, self._generator(row)
        for _ in range(_MAX_SKIPS):
            data = draw(rng)
            ids = self._fitter.fit(row, data["prompt"])
            if ids is not None:
                return Start(data, ids, image=self._image(row, data))
        raise PromptError(
            f"{self.settings.name}: {_MAX_SKIPS} prompts in a row from {self.settings.source.name} "
            f"have more than max_prompt_tokens={self.settings.max_prompt_tokens} tokens; raise it, "
            "or cut prompts with prompt_overflow='left' or 'right'"
        )

    def _fixed(self, row: int, data: Row) -> Start:
        ids = self._fitter.fit(row, data["prompt"])
        if ids is None:
            raise PromptError(
                f"{describe_row(self.settings, row, data['prompt'])}: the prompt has more than "
                f"max_prompt_tokens={self.settings.max_prompt_tokens} tokens, and "
                "prompt_overflow='skip' cannot skip a prompt that reset's options name; raise "
                "max_prompt_tokens, or truncate with prompt_overflow='left' or 'right'"
            )
        return Start(data, ids, image=self._image(row, data))

    def _image(self, row: int, data: Row) -> NDArray[np.uint8] | None:
        task = self.settings.pictures
        return None if task is None else picture(task, data, self.settings, row)

    def _start_option(self, options: Mapping[str, Any]) -> tuple[str | None, Sequence[Any]]:
        """The option that fixes the start, if any, and its value for each row."""
        count = len(self.rngs)
        check_options(self.settings.name, options)
        unknown = [key for key in options if key not in (*_OPTIONS, "reset_mask")]
        if unknown:
            raise SettingsError(
                f"{self.settings.name}: reset has no option {shown(unknown[0])}"
                f"{near_matches(unknown[0], _OPTIONS)}; use 'prompt', 'row' or 'index'"
            )
        named = [key for key in _OPTIONS if key in options]
        if not named:
            return None, ()
        if len(named) > 1:
            raise SettingsError(
                f"{self.settings.name}: reset's options {named} contradict each other; use one"
            )
        value = options[named[0]]
        if isinstance(value, np.ndarray):
            value = value.tolist()
        # A list of messages is one prompt, not one prompt per row.
        if not isinstance(value, (list, tuple)) or is_conversation(value):
            return named[0], [value] * count
        if len(value) != count:
            raise SettingsError(
                f"{self.settings.name}: reset's option {named[0]!r} lists {len(value)} values "
                f"for {count} rows; pass one value, or one per row"
            )
        return named[0], value

    def _option_row(self, kind: str, value: Any) -> Row:
        """The data row that an option's value specifies."""
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


def check_options(name: str, options: object) -> None:
    """Check that the options of ``reset`` are a mapping.

    Raises:
        SettingsError: If they are not.
    """
    if options is not None and not isinstance(options, Mapping):
        raise SettingsError(
            f"{name}: reset's options={shown(options)} have to be a dictionary, such as "
            "{'prompt': '...'}, {'row': {...}} or {'index': 0}"
        )


def picture(task: Task, data: Row, settings: Settings, row: int) -> NDArray[np.uint8]:
    """The picture of a row, uint8 ``[3, H, W]``.

    Raises:
        TaskError: If the task raises, or returns something else.
    """
    where = describe_row(settings, row, str(data["prompt"]))
    try:
        image = task.image(task_row(data, settings.chat))
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


def _copy(rng: np.random.Generator) -> np.random.Generator:
    copy = np.random.default_rng()
    copy.bit_generator.state = rng.bit_generator.state
    return copy
