"""Base of rewards with a neural network: loading, batching and caching.

The constructor only checks the options; the first call loads the model. A pickle holds the options
alone, and a deep copy is the same object. Rewards with the same model share its weights. Only
safetensors weights are read, and code in a checkpoint is never run.
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
    """A reward that runs a neural network.

    Args:
        model: Path of a folder, hub id, or ``"textgym/tiny"``.
        device: Device of the model; ``"auto"`` uses the GPU if there is one.
        dtype: Data type of the weights: ``"float32"``, ``"bfloat16"``, ...; ``"auto"`` is float32
            on a CPU, bfloat16 on a GPU that supports it, and else that of the checkpoint.
        batch_tokens: Maximum number of tokens in a forward pass, including padding. Texts are
            sorted by length; a longer text forms a batch alone.
        cache_size: Size of the LRU cache of results; 0 disables it.

    Raises:
        RewardError: If an option is invalid; at the first call, if the model cannot be loaded.
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
            given = repr(self.model) if isinstance(self.model, str) else type(self.model).__name__
            raise RewardError(
                f"{self.name}: model must be a path or a hub id, not {given}; save a model object "
                "with save_pretrained(folder) and give the folder, so that worker processes can "
                "load it"
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
        """Pickle the options: the other process loads the model again."""
        return _rebuilt, (
            type(self),
            {f.name: getattr(self, f.name) for f in fields(self) if f.init},
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelReward[Model]:
        """Return the same object: Gymnasium copies the arguments of every environment."""
        return self

    @abstractmethod
    def _load(self, device: torch.device, dtype: torch.dtype | None) -> Model:
        """Load the model; with ``dtype`` None, in the data type of the checkpoint."""

    def _loaded(self) -> Model:
        """Return the model, loaded at the first call.

        Raises:
            RewardError: If it cannot be loaded; the message is a predicate.
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
            # Transformers draws missing weights; the caller's random numbers must not change.
            with torch.random.fork_rng(devices=[]), _silence():
                return self._load(device, dtype)
        except (RewardError, MissingDependencyError):
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RewardError(
                f"cannot load its model {self.model!r}: {reason} (model= takes the folder of a "
                "checkpoint with safetensors weights and a tokenizer, or an available hub id)"
            ) from error

    def _remembered(
        self, keys: Sequence[_Key], compute: Callable[[list[_Key]], Sequence[_Value]]
    ) -> list[_Value]:
        """Return the values of N keys, from the cache or computed in one call."""
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
            raise RewardError(f"{self.name}: {option} must be an integer >= {least}, not {value!r}")

    def _check_truncation(self, truncate: str, max_tokens: int | None) -> None:
        self._check_choice("truncate", truncate, ("left", "right"))
        if max_tokens is not None:
            self._check_count("max_tokens", max_tokens, 1)

    def _check_choice(self, option: str, value: Any, choices: Sequence[Any]) -> None:
        if value not in choices:
            known = ", ".join(map(repr, choices))
            raise RewardError(f"{self.name}: {option} must be one of {known}, not {value!r}")


def _rebuilt(kind: Callable[..., Any], options: dict[str, Any]) -> Any:
    return kind(**options)


_MODEL_FILES = ("*.safetensors", "*.json", "*.gguf")


def shared(kind: str, name: str, device: Any, dtype: Any, load: Callable[[], Model]) -> Model:
    """Return a model that several rewards share while at least one of them holds it.

    Args:
        kind: The kind of object that is loaded.
        name: The path or hub id. Changed files are loaded again.
        device: The device of the model.
        dtype: The data type of the weights.
        load: Loads the model.
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
    """Return the device of a name; ``"auto"`` is the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def length_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut texts into batches of similar length.

    Args:
        lengths: N lengths in tokens.
        budget: Maximum tokens in a batch, including padding; a longer text forms a batch alone.

    Yields:
        The indices of a batch, by increasing length; together they are ``range(N)``.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # The last text is the longest, so its length is that of the padded batch.
        if batch and (len(batch) + 1) * lengths[index] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def encodable(text: str) -> str:
    """Return the text without lone surrogates, which tokenizers reject."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def _silence() -> Iterator[None]:
    """Silence transformers' reports about unused weights."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with no_progress_bars():
            yield
    finally:
        logging.set_verbosity(verbosity)
