"""A frozen language model that proposes tokens, with one cached decode step per new token."""

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
from textgym.lm.model import LanguageModel
from textgym.lm.weights import weights_hash

Proposals: TypeAlias = dict[str, NDArray[Any]]
"""An observation of the wrappers: arrays by name, whose first axis is the batch."""

# Maximal number of calls whose texts stay in the decoder's cache.
MAX_CACHED_CALLS = 128


class _OptimizerSteps:
    """Counts the steps of all optimizers, after any of which a decoder's cache is invalid."""

    count = 0


def _count_step(*_: Any) -> None:
    _OptimizerSteps.count += 1


register_optimizer_step_post_hook(_count_step)


class FrozenLM:
    """A language model that is not trained, with its decoder.

    It is pickled by its name, and loaded on first use after unpickling. A deep copy is the object
    itself, since results do not depend on the decoder's cache.

    Args:
        name: Name or path, see :meth:`LanguageModel.load`.
        device: The device; ``"auto"`` is the GPU if there is one.
        env: The environment.

    Raises:
        SettingsError: If the environment is not a text environment.
        ModelError: If the model cannot be loaded, or does not match the environment.
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
        # The texts read since the decoder's cache was last cleared.
        self._fed: list[NDArray[np.int32]] = []
        self._steps = _OptimizerSteps.count

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
        if len(self._fed) == MAX_CACHED_CALLS or self._steps != _OptimizerSteps.count:
            self.forget()
        self._fed.append(tokens.copy())
        try:
            with torch.no_grad():
                return self._loaded[1](torch.from_numpy(tokens))
        except BaseException:
            self.forget()
            raise

    def forget(self) -> None:
        """Clear the decoder's cache, so that equal seeds give bitwise equal results.

        Results with and without a cache differ by rounding.
        """
        self._fed, self._steps = [], _OptimizerSteps.count
        if self._loaded is not None:
            self._loaded[1].invalidate()

    def get_state(self) -> dict[str, Any]:
        """The texts in the decoder's cache, on which the next results depend bitwise.

        Decode and prefill differ by rounding, so the texts are in the order of the calls.
        """
        fed = self._fed if self._steps == _OptimizerSteps.count else []
        return {"fed": np.stack(fed) if fed else None, "model": weights_hash(self.lm)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `get_state` by reading its texts again.

        Raises:
            SettingsError: If it is of another model.
        """
        if state["model"] != weights_hash(self.lm):
            raise SettingsError(
                f"the proposals were made by another language model than {self.name}; use the same "
                "one, with the same weights"
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
    """The k likeliest tokens of each row, likeliest first.

    Ties are broken by the lower id, whereas ``torch.topk`` breaks them arbitrarily.

    Args:
        log_probs: ``[B, V]``.
        k: Number of tokens.

    Returns:
        Tokens (int64) and their log-probabilities, both ``[B, k]``.
    """
    values, tokens = log_probs.topk(k, -1)
    least = values[:, -1:]
    enough = log_probs >= least
    if bool((enough.sum(-1) > k).any()):  # More than one token is tied for the k-th place.
        above = log_probs > least
        equal = enough & ~above
        taken = above | (equal & (equal.cumsum(-1) <= k - above.sum(-1, keepdim=True)))
        tokens = taken.nonzero()[:, 1].view(-1, k)
    tokens = tokens.sort(-1).values
    values, order = log_probs.gather(1, tokens).sort(dim=-1, descending=True, stable=True)
    return tokens.gather(1, order), values


def fillers(candidates: Any) -> Any:
    """A mask of the proposals of :class:`textgym.wrappers.TopKActions` that are fillers.

    Args:
        candidates: Proposed tokens ``[..., k]``, an array or a tensor. Fillers repeat the first
            token; all others are distinct.

    Returns:
        Bool ``[..., k]``, an array or a tensor like `candidates`.
    """
    repeated = candidates == candidates[..., :1]
    repeated[..., 0] = False
    return repeated


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor as a float32 array on the CPU."""
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array


def row_of(proposals: Proposals, row: int) -> Proposals:
    """A copy of the proposals of one row of a batch."""
    return {key: value[row].copy() for key, value in proposals.items()}


def hidden_space(*shape: int) -> gym.spaces.Box:
    """The space of hidden states, which are unbounded."""
    return gym.spaces.Box(-np.inf, np.inf, shape, np.float32)


def log_prob_space(k: int) -> gym.spaces.Box:
    """The space of k log-probabilities."""
    return gym.spaces.Box(-np.inf, 0.0, (k,), np.float32)


def check_choices(actions: Any, k: int, stepping: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The actions of a batch as an array ``[N]``, 0 for rows whose action is ignored.

    Args:
        actions: Integers ``[N]``.
        k: Number of proposals.
        stepping: ``[N]`` bool, the rows whose action counts.

    Raises:
        ActionError: If their shape or dtype is wrong, or one is out of range.
    """
    try:
        array = np.asarray(actions)
    except ValueError as error:
        raise ActionError(
            f"the actions are not an array ({error}); pass one integer per row"
        ) from error
    if array.shape != stepping.shape or array.dtype.kind not in "iu":
        raise ActionError(
            f"actions have shape {array.shape} and dtype {array.dtype}; pass integers of shape "
            f"{stepping.shape}"
        )
    wrong = stepping & ((array < 0) | (array >= k))
    if wrong.any():
        row = int(wrong.argmax())
        raise ActionError(
            f"row {row}: action {int(array[row])} is out of range; there are {k} proposals, so "
            f"actions range from 0 to {k - 1}"
        )
    return np.where(stepping, array, 0).astype(np.intp)


def check_count(name: str, value: Any) -> int:
    """A positive integer.

    Raises:
        SettingsError: If it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise SettingsError(f"{name}={value!r} has to be a positive integer")
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
    tokens = isinstance(actions, gym.spaces.Discrete) and actions.start == 0
    if view is None or view.image_shape is not None or not tokens:
        raise SettingsError(
            "a language model proposes tokens in text environments (a Box of token ids and "
            f"Discrete tokens), but the observations are {texts} and the actions {actions}; wrap "
            "an environment such as textgym:TextGen-v0 before any other wrapper changes its spaces"
        )
    return texts, actions
