"""Sources for the procedural data sets of the ``reasoning-gym`` package."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from textgym.data.rows import Row
from textgym.errors import DataError, near_matches, require, shown
from textgym.rewards.combine import RewardSpec
from textgym.tasks.sources.base import Source, natural_index
from textgym.tasks.sources.lists import ListSource
from textgym.tokenization import Tokenizer

_EXTRA = "reasoning-gym"


class ReasoningGymSource(Source):
    """A procedural data set of the ``reasoning-gym`` package.

    The package generates item i from ``Random(seed + i)``, so data sets with adjacent seeds share
    nearly all items. Here all draws are indices into one data set with seed 0, and the two splits
    are disjoint halves of the indices.

    Args:
        spec: Name and optional settings: ``"chain_sum?min_terms=2&max_terms=3"``. Values are JSON,
            or else strings. A composite lists its data sets in the format of the package's
            configuration files::

                composite?datasets=[{"name": "chain_sum", "weight": 2, "config": {"max_terms": 3}},
                                    {"name": "leg_counting", "weight": 1, "config": {}}]

        split: ``"train"`` or ``"eval"``.

    Raises:
        DataError: If the data set or an option is unknown, or the options are invalid.
    """

    size = None

    # Some data sets prepare all items at once, and one is limited to 20,000.
    _SIZES = (2**21, 2**14)

    def __init__(self, spec: str, split: str) -> None:
        self.name = self.seed_key = f"reasoning_gym:{spec}"
        dataset, _, query = spec.partition("?")
        known = sorted(require("reasoning_gym", _EXTRA).factory.DATASETS)
        if dataset not in known:
            raise DataError(
                f"reasoning-gym has no data set {shown(dataset)}{near_matches(dataset, known)}"
            )
        self._dataset = dataset
        self._options = _options(self.name, dataset, query)
        self._split = split
        self._open()

    def _open(self) -> None:
        library = require("reasoning_gym", _EXTRA)
        for size in self._SIZES:
            try:
                options = {**self._options, "seed": 0, "size": size}
                self._items = library.create_dataset(self._dataset, **_with_specs(options))
                break
            except (AssertionError, ValueError, TypeError) as error:
                problem = error
        else:
            advice = "other options" if self._options else "another data set"
            raise DataError(
                f"{self.name} cannot be made ({type(problem).__name__}: {problem}); use {advice}"
            )
        self._half = size // 2
        self._offset = self._half if self._split == "eval" else 0

    def draw(self, rng: np.random.Generator) -> Row:
        """Draw a random item of the split."""
        return self.item(int(rng.random() * self._half))

    def item(self, index: int) -> Row:
        """Return an item of the split by index, with the columns ``reference`` and ``metadata``."""
        return _row(self._items[self._offset + natural_index(self, index) % self._half])

    def prompt_budget(self, tokenizer: Tokenizer) -> int:
        """Twice the length of the longest of the first 64 items."""
        return _twice_the_longest(self, 64, tokenizer)

    def default_reward(self) -> RewardSpec:
        """The scorer of the data set."""
        return self.score

    def score(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> list[float]:
        """The data set's score of each completion, in [0, 1]; see `Scorer`."""
        return Scorer(self._items)(prompts, completions, **columns)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_items"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class ReasoningGymObject(ListSource):
    """The items of a data set object, judged by its scorer.

    It has the size, seed and options of the object. It has no splits, but a share of its prompts
    can be held out.

    Args:
        dataset: A ``ProceduralDataset`` of the package, such as a composite.
        held_out: See `ListSource`.
    """

    def __init__(self, dataset: Any, held_out: tuple[float, bool] | None) -> None:
        self._items = dataset
        name = type(dataset).__name__
        # Items are generated on access, all by the same program: checking a few is enough.
        checked = None if held_out is not None else range(min(_CHECKED, len(dataset)))
        super().__init__(_Items(dataset), name, held_out=held_out, check_only=checked)
        self.seed_key = f"reasoning_gym:{name}"

    def prompt_budget(self, tokenizer: Tokenizer) -> int:
        """Twice the length of the longest of the first 64 items."""
        return _twice_the_longest(self, min(_CHECKED, self.size), tokenizer)

    def default_reward(self) -> RewardSpec:
        """The scorer of the data set."""
        return Scorer(self._items)


class Scorer:
    """A data set's score, in [0, 1], as a reward function.

    Some scorers of the package raise on a text that they cannot parse; such a text scores 0.
    """

    name = "score"

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> list[float]:
        """Score each completion. Requires the columns ``reference`` and ``metadata``."""
        rows = zip(prompts, columns["reference"], columns["metadata"], strict=True)
        entries = [{"question": q, "answer": a, "metadata": m} for q, a, m in rows]
        return [
            self._one(completion.strip(), entry)
            for completion, entry in zip(completions, entries, strict=True)
        ]

    def _one(self, answer: str, entry: dict[str, Any]) -> float:
        try:
            return float(self._dataset.score_answer(answer, entry=entry))
        except Exception:
            if answer == entry["answer"]:
                raise
            # A scorer that also fails on the reference is broken: raise instead of scoring 0.
            self._one(entry["answer"], entry)
            return 0.0


_CHECKED = 64


def is_reasoning_gym(spec: Any) -> bool:
    """Whether a value is a data set of the package, without importing it."""
    package = sys.modules.get("reasoning_gym.dataset")
    return package is not None and isinstance(spec, package.ProceduralDataset)


class _Items:
    """The items of a data set as rows."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Row:
        return _row(self._dataset[index])


def _row(entry: Mapping[str, Any]) -> Row:
    metadata = entry["metadata"]
    return {"prompt": entry["question"], "reference": entry["answer"], "metadata": metadata}


def _twice_the_longest(source: Source, count: int, tokenizer: Tokenizer) -> int:
    return 2 * max(len(tokenizer.encode(source.item(index)["prompt"])) for index in range(count))


def _options(name: str, dataset: str, query: str) -> dict[str, Any]:
    """Parse options ``a=1&b=[2, 3]`` and check them against those of the data set.

    Raises:
        DataError: If an option is unknown, has no value, or is given twice.
    """
    config = require("reasoning_gym", _EXTRA).factory.DATASETS[dataset][1]
    known = sorted(
        field.name for field in dataclasses.fields(config) if field.name not in ("seed", "size")
    )
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise DataError(
            f"{name}: the options are not of the form 'name=value&name=value': {error}"
        ) from None
    found: dict[str, Any] = {}
    for option, value in pairs:
        if option in found or option not in known:
            twice = "is given twice" if option in found else "is not one of its options"
            raise DataError(
                f"{name}: {option!r} {twice}{near_matches(option, known)}; they are: "
                f"{', '.join(known)} (seed and size are chosen here)"
            )
        try:
            found[option] = json.loads(value)
        except ValueError:
            found[option] = value
    return found


def _with_specs(options: dict[str, Any]) -> dict[str, Any]:
    """Convert a composite's list of data sets to the package's objects."""
    parts = options.get("datasets")
    if not isinstance(parts, Sequence) or isinstance(parts, str):
        return options
    spec = require("reasoning_gym.composite", _EXTRA).DatasetSpec
    made = [
        spec(**{"weight": 1.0, "config": {}, **part}) if isinstance(part, Mapping) else part
        for part in parts
    ]
    return {**options, "datasets": made}
