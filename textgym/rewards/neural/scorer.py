"""What rewards backed by a neural network share: loading, batches and memory.

A reward that holds a model is its specification: making it only checks the options, the first call
loads the model, a pickle holds the options alone, and a deep copy is the same object. Rewards that
name the same model share its weights. Only safetensors weights are read, and no code that comes
with a checkpoint is run.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakValueDictionary

import torch
from transformers.utils import logging

from textgym.errors import MissingDependencyError, RewardError, TextGymError
from textgym.lm.loading.dtypes import as_dtype, has_bfloat16
from textgym.lm.loading.files import no_progress_bars

Model = TypeVar("Model")
_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")

_LOADING = threading.RLock()
_SHARED: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class ModelReward(ABC, Generic[Model]):
    """A reward that asks a neural network.

    Args:
        model: Path of a folder, hub id, or ``"textgym/tiny"``.
        device: Where the model runs; ``"auto"`` takes the GPU if there is one.
        dtype: Of the weights: ``"float32"``, ``"bfloat16"``, ...; ``"auto"`` is float32 on a CPU,
            bfloat16 on a GPU that has it, and else the checkpoint's own.
        batch_tokens: Texts are sorted by length and go through the model in batches of at most so
            many tokens, padding included; a longer text goes alone.
        cache_size: How many results are kept for texts that come again, the least recently used
            one dropped first; 0 keeps none.

    Raises:
        RewardError: If an option is impossible; at the first call, if the model cannot be loaded.
    """

    model: str
    _: KW_ONLY
    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int = 8192
    cache_size: int = 4096
    name: ClassVar[str]
    _held: list[Model] = field(init=False, repr=False, default_factory=list)
    _known: OrderedDict[Any, Any] = field(init=False, repr=False, default_factory=OrderedDict)
    _lock: Any = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise RewardError(
                f"{self.name}: model= takes a string (a path or a hub id), not "
                f"{type(self.model).__name__}; save a live model with save_pretrained(folder) and "
                "give the folder, so that the reward can be loaded again elsewhere"
            )
        try:
            if self.device != "auto":
                torch.device(self.device)
            if self.dtype != "auto":
                as_dtype(self.dtype)
        except (RuntimeError, TypeError, TextGymError) as error:
            raise RewardError(f"{self.name}: {str(error).splitlines()[0]}") from error
        self._check_count("batch_tokens", self.batch_tokens, 1)
        self._check_count("cache_size", self.cache_size, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the options: the model is loaded again, on whatever device is there."""
        return _rebuilt, (
            type(self),
            {f.name: getattr(self, f.name) for f in fields(self) if f.init},
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelReward[Model]:
        """Return the same object: Gymnasium copies the arguments of every environment."""
        return self

    @abstractmethod
    def _load(self, device: torch.device, dtype: torch.dtype | None) -> Model:
        """Load what the reward asks; ``dtype`` None is the checkpoint's own."""

    def _loaded(self) -> Model:
        """What the reward asks, loaded at the first call.

        Raises:
            RewardError: If it cannot be loaded; the message is the rest of a sentence.
            MissingDependencyError: If a library is missing.
        """
        if not self._held:
            with _LOADING:
                if not self._held:
                    self._held.append(self._load_quietly())
        return self._held[0]

    def _load_quietly(self) -> Model:
        device = chosen_device(self.device)
        dtype: torch.dtype | None = None
        if self.dtype != "auto":
            dtype = as_dtype(self.dtype)
        elif device.type == "cpu" or has_bfloat16(device):
            dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        try:
            # Transformers draws what a checkpoint lacks: a training's random numbers stay its own.
            with torch.random.fork_rng(devices=[]), _silence():
                return self._load(device, dtype)
        except (RewardError, MissingDependencyError):
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RewardError(
                f"cannot load its model {self.model!r}: {reason} (model= takes the folder of a "
                "checkpoint with safetensors weights and a tokenizer, or a hub id in reach)"
            ) from error

    def _remembered(
        self, keys: Sequence[_Key], compute: Callable[[list[_Key]], Sequence[_Value]]
    ) -> list[_Value]:
        """Values of N keys: known ones from memory, new ones computed together, each once."""
        values: dict[_Key, _Value] = {}
        with self._lock:
            for key in keys:
                if key in self._known:
                    self._known.move_to_end(key)
                    values[key] = self._known[key]
        new = [key for key in dict.fromkeys(keys) if key not in values]
        if new:
            values.update(zip(new, compute(new), strict=True))
            with self._lock:
                self._known.update((key, values[key]) for key in new[: self.cache_size])
                while len(self._known) > self.cache_size:
                    self._known.popitem(last=False)
        return [values[key] for key in keys]

    def _check_count(self, option: str, value: Any, least: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise RewardError(
                f"{self.name}: {option} must be an integer of at least {least}, not {value!r}"
            )

    def _check_choice(self, option: str, value: Any, choices: Sequence[Any]) -> None:
        if value not in choices:
            known = ", ".join(map(repr, choices))
            raise RewardError(f"{self.name}: {option} must be one of {known}, not {value!r}")


def _rebuilt(kind: Callable[..., Any], options: dict[str, Any]) -> Any:
    return kind(**options)


_MODEL_FILES = ("*.safetensors", "*.json", "*.gguf")


def shared(kind: str, name: str, device: Any, dtype: Any, load: Callable[[], Model]) -> Model:
    """A model that several rewards ask, loaded once as long as one of them holds it.

    Args:
        kind: What is made of the checkpoint.
        name: The path or hub id. A file or folder that has changed is another model.
        device: Where the model is.
        dtype: Of its weights.
        load: Loads it.

    Returns:
        The model.
    """
    path = Path(name).expanduser()
    files = [path] if path.is_file() else []
    if path.is_dir():
        files = [file for ending in _MODEL_FILES for file in path.glob(ending)]
    stamp = tuple(sorted((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files))
    key = (kind, name, str(device), str(dtype), stamp)
    with _LOADING:
        model = _SHARED.get(key)
        if model is None:
            model = _SHARED[key] = load()
    return model


def chosen_device(name: str) -> torch.device:
    """The device of a name; ``"auto"`` is the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def length_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut texts into batches of similar length.

    Args:
        lengths: N lengths in tokens.
        budget: The most tokens in a batch, padding included; a longer text is a batch of its own.

    Yields:
        The indices of a batch, by rising length; together they are ``range(N)``.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # The latest is the longest: its length is that of the padded batch.
        if batch and (len(batch) + 1) * lengths[index] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def encodable(text: str) -> str:
    """The text without lone surrogates, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def _silence() -> Iterator[None]:
    """Keep transformers from reporting on weights that are not asked for."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with no_progress_bars():
            yield
    finally:
        logging.set_verbosity(verbosity)
