"""A frozen language model that proposes tokens, fast: one cached decode for each new token.

What this module does not do: step environments (:mod:`textgym.wrappers.topk` does).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from textgym.data.observations import text_view
from textgym.errors import ActionError, SettingsError
from textgym.lm.decoding.memo import MemoDecoder
from textgym.lm.fingerprint import weights_hash
from textgym.lm.model import LanguageModel

Proposals: TypeAlias = dict[str, NDArray[Any]]
"""An observation of the wrappers: arrays by name, with a first axis of rows in the batch."""

# Texts that the decoder remembers at most, in calls; then it begins anew.
_CALLS = 128


class _Updates:
    """Counts the steps of all optimizers: after one, a decoder begins anew.

    It cannot know whose weights they were.
    """

    count = 0


def _note_update(*_: Any) -> None:
    _Updates.count += 1


register_optimizer_step_post_hook(_note_update)


class FrozenLM:
    """A language model that is only read, with its decoder.

    It is pickled by its name, and loaded again when it is next used. A deep copy is the object
    itself: what the decoder remembers is never more than a memo.

    Args:
        name: Name or path, as :meth:`LanguageModel.load` takes it.
        device: Where it runs; ``"auto"`` takes the GPU if there is one.
        env: The environment that it writes for.

    Raises:
        SettingsError: If the environment is not one of texts.
        ModelError: If the model cannot be loaded, or does not fit the environment.
    """

    def __init__(self, name: str, device: str, env: Any) -> None:
        texts, actions = _text_spaces(env)
        tokenizer = getattr(env.unwrapped, "tokenizer", None)
        self.name = name
        self.device = device
        self.width = int(texts.shape[0])
        self._vocab_size = int(actions.n)
        self._hash = None if tokenizer is None else tokenizer.agreement()
        self._loaded: tuple[LanguageModel, MemoDecoder] | None = self._load()
        # What the decoder was fed since it last began anew.
        self._fed: list[NDArray[np.int32]] = []
        self._updates = _Updates.count

    def _load(self) -> tuple[LanguageModel, MemoDecoder]:
        lm = LanguageModel.load(self.name, device=self.device)
        lm.check_fits(self.width, self._vocab_size, self._hash)
        lm.requires_grad_(False)
        return lm, MemoDecoder(lm, self.width)

    @property
    def lm(self) -> LanguageModel:
        """The model."""
        self._loaded = self._loaded or self._load()
        return self._loaded[0]

    def hidden(self, tokens: NDArray[np.int32]) -> Tensor:
        """Hidden states ``[B, d]`` after texts ``[B, L]``, a new tensor."""
        self._loaded = self._loaded or self._load()
        if len(self._fed) == _CALLS or self._updates != _Updates.count:
            self.forget()
        self._fed.append(tokens.copy())
        try:
            with torch.no_grad():
                return self._loaded[1](torch.from_numpy(tokens))
        except BaseException:
            self.forget()
            raise

    def forget(self) -> None:
        """Begin anew, so that equal seeds give equal numbers to the last bit.

        What is remembered saves work, and the work that is left is rounded in another order.
        """
        self._fed, self._updates = [], _Updates.count
        if self._loaded is not None:
            self._loaded[1].invalidate()

    def get_state(self) -> dict[str, Any]:
        """What the next numbers depend on to the last bit: the texts that are remembered.

        A decode and a prefill are rounded differently, so the texts are kept in the order in which
        they were read. Now and then the decoder begins anew, which bounds them.
        """
        known = self._fed if self._updates == _Updates.count else []
        return {"fed": np.stack(known) if known else None, "model": weights_hash(self.lm)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Read the texts again, as they were read.

        Raises:
            SettingsError: If another model read them.
        """
        if state["model"] != weights_hash(self.lm):
            raise SettingsError(
                f"another language model than {self.name} made the proposals; take the same one, "
                "with the same weights"
            )
        self.forget()
        for texts in () if state["fed"] is None else np.asarray(state["fed"], np.int32):
            self.hidden(texts)

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of the next token, float32 ``[B, V]``."""
        with torch.no_grad():
            return torch.log_softmax(self.lm.logits(hidden), -1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None, "_fed": []}

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenLM:
        return self


def likeliest(log_probs: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens of each row, in falling order.

    Equal ones come in the order of their ids: ``torch.topk`` alone promises no order, and not even
    which of several equal tokens it takes.

    Args:
        log_probs: ``[B, V]``.
        k: How many.

    Returns:
        Tokens (int64) and their log-probabilities, both ``[B, k]``.
    """
    values, tokens = log_probs.topk(k, -1)
    least = values[:, -1:]
    enough = log_probs >= least
    if bool((enough.sum(-1) > k).any()):  # A tie at the border.
        above = log_probs > least
        equal = enough & ~above
        taken = above | (equal & (equal.cumsum(-1) <= k - above.sum(-1, keepdim=True)))
        tokens = taken.nonzero()[:, 1].view(-1, k)
    tokens = tokens.sort(-1).values
    values, order = log_probs.gather(1, tokens).sort(dim=-1, descending=True, stable=True)
    return tokens.gather(1, order), values


def fillers(candidates: Any) -> Any:
    """Which proposals of :class:`textgym.wrappers.TopKActions` only fill up.

    Args:
        candidates: ``[..., k]``, an array or a tensor: proposed tokens. A filler repeats the first
            one, and all others differ.

    Returns:
        Booleans ``[..., k]`` of the same kind.
    """
    repeated = candidates == candidates[..., :1]
    repeated[..., 0] = False
    return repeated


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor as a float32 array on the CPU."""
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array


def row_of(proposals: Proposals, row: int) -> Proposals:
    """What a batch proposes to one of its rows, in arrays of its own."""
    return {key: value[row].copy() for key, value in proposals.items()}


def hidden_space(*shape: int) -> gym.spaces.Box:
    """The space of hidden states; no architecture has bounds for them."""
    return gym.spaces.Box(-np.inf, np.inf, shape, np.float32)


def log_prob_space(k: int) -> gym.spaces.Box:
    """The space of k log-probabilities."""
    return gym.spaces.Box(-np.inf, 0.0, (k,), np.float32)


def check_choices(actions: Any, k: int, stepping: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The choices of a batch, checked.

    Args:
        actions: Integers ``[N]``.
        k: Number of proposals.
        stepping: ``[N]``, the rows whose choice counts.

    Returns:
        ``[N]``; 0 for the rows that do not count.

    Raises:
        ActionError: If their shape or dtype is wrong, or one is not below k.
    """
    try:
        array = np.asarray(actions)
    except ValueError as error:
        raise ActionError(f"the actions are no array ({error}); give one choice a row") from error
    if array.shape != stepping.shape or array.dtype.kind not in "iu":
        raise ActionError(
            f"actions of shape {array.shape} and dtype {array.dtype} are no choices; give integers "
            f"of shape {stepping.shape}"
        )
    wrong = stepping & ((array < 0) | (array >= k))
    if wrong.any():
        row = int(wrong.argmax())
        raise ActionError(
            f"row {row}: there is no proposal {int(array[row])}; there are {k}, so actions go from "
            f"0 to {k - 1}"
        )
    return np.where(stepping, array, 0).astype(np.intp)


def check_count(name: str, value: Any) -> int:
    """A whole number above 0.

    Raises:
        SettingsError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise SettingsError(f"{name}={value!r} has to be a whole number above 0")
    return int(value)


def _text_spaces(env: Any) -> tuple[Any, Any]:
    """The observation and action space of one row.

    Raises:
        SettingsError: If they are not those of a text environment.
    """
    vector = isinstance(env, gym.vector.VectorEnv)
    texts = env.single_observation_space if vector else env.observation_space
    actions = env.single_action_space if vector else env.action_space
    view = text_view(texts)
    words = isinstance(actions, gym.spaces.Discrete) and actions.start == 0
    if view is None or view.image_shape is not None or not words:
        raise SettingsError(
            "a language model proposes tokens in text environments (a Box of token ids and "
            f"Discrete tokens), but the observations are {texts} and the actions {actions}; wrap "
            "an environment such as textgym:TextGen-v0 before any other wrapper changes its spaces"
        )
    return texts, actions
