"""Masks of texts to come, for whoever plans several tokens ahead.

``action_masks()`` tells of the present text. What :class:`textgym.wrappers.ActionMasks` forbids is
a function of the text, which can be asked about any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.envs.single import TextGenEnv
from textgym.envs.vector import TextGenVectorEnv
from textgym.errors import SettingsError
from textgym.tokenization.writable import writable_tokens
from textgym.wrappers.masks import ActionMasks, Mask, MaskFunction
from textgym.wrappers.nesting import layers


def masks_after(env: Any) -> MaskFunction | None:
    """What an environment of either kind allows after any texts, those to come included.

    Args:
        env: A text environment, in :class:`ActionMasks` or not.

    Returns:
        From texts ``[n, L]`` to masks ``[n, V]``; None if nothing tells.

    Raises:
        SettingsError: If a layer has masks of its own, which are known of the present text only.
    """
    *around, bare = layers(env)
    narrowing = [layer for layer in reversed(around) if isinstance(layer, ActionMasks)]
    others = [layer for layer in around if hasattr(layer, "action_masks")]
    if not isinstance(bare, (TextGenEnv, TextGenVectorEnv)) and hasattr(bare, "action_masks"):
        others.append(bare)
    for layer in others:
        if layer not in narrowing:
            raise SettingsError(
                f"{type(layer).__name__}.action_masks() tells of the present text alone, and here "
                "several tokens are written at once; forbid them by textgym.wrappers.ActionMasks"
            )
    if not hasattr(bare, "action_masks"):
        return None
    return _MasksAfter(writable_tokens(bare.tokenizer), narrowing)


@dataclass(frozen=True)
class _MasksAfter:
    allowed: Mask
    narrowing: list[ActionMasks]

    def __call__(self, texts: NDArray[np.int32]) -> Mask:
        found = np.tile(self.allowed, (len(texts), 1))
        for layer in self.narrowing:
            found = layer.narrow(texts, found)
        return found
