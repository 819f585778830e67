"""Action masks of future texts, for planning several tokens ahead.

``action_masks()`` is only for the current text, but the masks of
:class:`textgym.wrappers.ActionMasks` are functions of any text.
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
    """The masks of an environment (single or batch) as a function of the texts.

    Args:
        env: A text environment, with or without :class:`ActionMasks` around it.

    Returns:
        Maps texts ``[n, L]`` to masks ``[n, V]``; None if the environment has no masks.

    Raises:
        SettingsError: If another wrapper has masks, which are only known for the current text.
    """
    *wrappers, bare = layers(env)
    maskers = [layer for layer in reversed(wrappers) if isinstance(layer, ActionMasks)]
    others = [layer for layer in wrappers if hasattr(layer, "action_masks")]
    if not isinstance(bare, (TextGenEnv, TextGenVectorEnv)) and hasattr(bare, "action_masks"):
        others.append(bare)
    for layer in others:
        if layer not in maskers:
            raise SettingsError(
                f"{type(layer).__name__}.action_masks() only masks the current text, but several "
                "tokens are written at once; forbid tokens with textgym.wrappers.ActionMasks"
            )
    if not hasattr(bare, "action_masks"):
        return None
    return _MasksAfter(writable_tokens(bare.tokenizer), maskers)


@dataclass(frozen=True)
class _MasksAfter:
    allowed: Mask
    wrappers: list[ActionMasks]

    def __call__(self, texts: NDArray[np.int32]) -> Mask:
        masks = np.tile(self.allowed, (len(texts), 1))
        for layer in self.wrappers:
            masks = layer.narrow(texts, masks)
        return masks
