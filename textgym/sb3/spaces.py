"""Spaces that say in a sentence why an agent does not fit an environment.

``PPO.load(path, env=venv)`` and ``set_env`` compare the saved spaces with the environment's by
``!=``, before any code of a policy runs, and report both as they print. Two vocabularies of the
same size are equal spaces to them, although every token means something else. So the spaces of
:class:`textgym.sb3.TextVecEnv` compare vocabularies too, and answer that one question of
Stable-Baselines3 with an error of textgym's. To all else they are plain spaces of Gymnasium.
"""

from __future__ import annotations

import copy
import sys
from typing import Any, TypeVar, cast

from gymnasium import spaces

from textgym.data.observations import text_view
from textgym.errors import SettingsError

_Space = TypeVar("_Space", bound=spaces.Space[Any])
# The function of Stable-Baselines3 that compares.
_ASKS = "check_for_correct_spaces"
_ADVICE = (
    "make the environment with the arguments that it had when the agent was saved "
    "(max_prompt_tokens and max_new_tokens, tokenizer, task), or load the agent for this one with "
    "textgym.sb3.load_agent(path, PPO, venv), which takes other lengths, but no other vocabulary"
)


class _Compared:
    """What the kinds have in common."""

    def __ne__(self, other: object) -> bool:
        differs = not self == other
        if differs and sys._getframe(1).f_code.co_name == _ASKS:
            raise SettingsError(f"the agent and the environment {_why(self, other)}; {_ADVICE}")
        return differs


class TokenActions(_Compared, spaces.Discrete):
    """One action a token; ``tokenizer_hash`` says of which vocabulary, where it is known."""

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
    """Token ids and a picture, or what a wrapper makes of them."""

    def __eq__(self, other: object) -> bool:
        return spaces.Dict.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]


KINDS: dict[type[Any], type[Any]] = {
    spaces.Discrete: TokenActions,
    spaces.Box: TextObservations,
    spaces.Dict: PictureObservations,
}


def compared(space: _Space) -> _Space:
    """A copy of a space that compares as this module says; other kinds than the three stay."""
    found = copy.deepcopy(space)
    kind = KINDS.get(type(space))
    if kind is None:
        return found
    ours = object.__new__(kind)
    vars(ours).update(vars(found))
    return cast(_Space, ours)


def _why(one: object, other: object) -> str:
    """What two spaces differ in: the end of a sentence."""
    if isinstance(one, spaces.Discrete) and isinstance(other, spaces.Discrete):
        if one.n != other.n:
            return f"have different numbers of actions: {one.n} and {other.n}"
        return f"have vocabularies of {one.n} tokens each, but not the same ones"
    views = [
        text_view(space) if isinstance(space, spaces.Space) else None for space in (one, other)
    ]
    first, second = views
    if first is None or second is None:
        return f"have different spaces: {one} and {other}"
    if (first.image_shape is None) != (second.image_shape is None):
        return "differ: one of them has pictures beside the text, the other has none"
    if first.image_shape != second.image_shape:
        return f"have pictures of different shapes: {first.image_shape} and {second.image_shape}"
    if first.width != second.width:
        return (
            "have texts of different lengths: up to "
            f"{first.width} and {second.width} tokens, prompt included"
        )
    return f"have different vocabularies: {one} and {other}"
