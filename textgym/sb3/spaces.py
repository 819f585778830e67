"""Spaces of text environments: the check of a policy, and comparison by vocabulary.

``PPO.load(path, env=venv)`` and ``set_env`` compare the saved spaces with the environment's by
``!=``, and their error prints both. For them, two vocabularies of the same size are equal. So the
spaces of :class:`textgym.sb3.TextVecEnv` compare vocabularies too, and raise an error that explains
the difference in that one comparison. Otherwise they are Gymnasium's spaces.
"""

from __future__ import annotations

import copy
import sys
from typing import Any, TypeVar, cast

from gymnasium import spaces

from textgym.data.observations import TextView, text_view
from textgym.errors import SettingsError

_Space = TypeVar("_Space", bound=spaces.Space[Any])
# The function of Stable-Baselines3 that compares spaces.
_ASKS = "check_for_correct_spaces"
_ADVICE = (
    "make the environment with the arguments of the agent's training (max_prompt_tokens and "
    "max_new_tokens, tokenizer, task), or load the agent for this one with "
    "textgym.sb3.load_agent(path, PPO, venv), which accepts other lengths, but not another "
    "vocabulary"
)


class _Compared:
    """Raises an error that explains a difference, when Stable-Baselines3 compares."""

    def __ne__(self, other: object) -> bool:
        differs = not self == other
        if differs and sys._getframe(1).f_code.co_name == _ASKS:
            raise SettingsError(f"the agent and the environment {_why(self, other)}; {_ADVICE}")
        return differs


class TokenActions(_Compared, spaces.Discrete):
    """One action per token; ``tokenizer_hash`` identifies the vocabulary, if it is known."""

    def __eq__(self, other: object) -> bool:
        mine, theirs = getattr(self, "tokenizer_hash", None), getattr(other, "tokenizer_hash", None)
        same = mine is None or theirs is None or mine == theirs
        return same and spaces.Discrete.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]


class TextObservations(_Compared, spaces.Box):
    """Token ids ``[L]``."""

    def __eq__(self, other: object) -> bool:
        return spaces.Box.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]


class PictureObservations(_Compared, spaces.Dict):
    """Token ids and a picture, or a wrapper's ``Dict`` observations."""

    def __eq__(self, other: object) -> bool:
        return spaces.Dict.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]


KINDS: dict[type[Any], type[Any]] = {
    spaces.Discrete: TokenActions,
    spaces.Box: TextObservations,
    spaces.Dict: PictureObservations,
}


def checked_view(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> TextView:
    """The text part of an environment's observations, for a policy.

    Raises:
        SettingsError: If the spaces are not those of a text environment.
    """
    view = text_view(observation_space)
    if view is None or not isinstance(action_space, spaces.Discrete) or action_space.start != 0:
        raise SettingsError(
            "LMPolicy needs a text environment (observations: a Box of token ids, or a Dict of it "
            f"and a picture; actions: Discrete tokens), not the observations {observation_space} "
            f"and actions {action_space}; use an environment such as textgym:TextGen-v0"
        )
    return view


def compared(space: _Space) -> _Space:
    """A copy of a space of the compared kind; other spaces than the three are only copied."""
    found = copy.deepcopy(space)
    kind = KINDS.get(type(space))
    if kind is None:
        return found
    ours = object.__new__(kind)
    vars(ours).update(vars(found))
    return cast(_Space, ours)


def _why(one: object, other: object) -> str:
    """The difference of two spaces, as the end of a sentence."""
    if isinstance(one, spaces.Discrete) and isinstance(other, spaces.Discrete):
        if one.n != other.n:
            return f"have different numbers of actions: {one.n} and {other.n}"
        return f"have different vocabularies of {one.n} tokens"
    views = [
        text_view(space) if isinstance(space, spaces.Space) else None for space in (one, other)
    ]
    first, second = views
    if first is None or second is None:
        return f"have different spaces: {one} and {other}"
    if (first.image_shape is None) != (second.image_shape is None):
        return "differ: only one of them has pictures"
    if first.image_shape != second.image_shape:
        return f"have pictures of different shapes: {first.image_shape} and {second.image_shape}"
    if first.width != second.width:
        return (
            "have texts of different lengths: up to "
            f"{first.width} and {second.width} tokens, prompt included"
        )
    return f"have different vocabularies: {one} and {other}"
