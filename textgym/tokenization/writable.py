"""The tokens that a policy may write."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from textgym.tokenization import FastTokenizer, SlowTokenizer, Tokenizer

# The mask is requested at every step, and takes milliseconds for large vocabularies.
_CACHE: WeakKeyDictionary[Tokenizer, NDArray[np.bool_]] = WeakKeyDictionary()


def writable_tokens(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """A mask ``[V]`` of the tokens that are text or end one; a new array.

    Other special tokens (padding, unknown, beginning of sequence, ...) and unused ids are False.
    """
    if tokenizer not in _CACHE:
        mask = np.array([tokenizer.token(index) != "" for index in range(tokenizer.vocab_size)])
        mask[_special(tokenizer)] = False
        mask[list(tokenizer.ends)] = True
        _CACHE[tokenizer] = mask
    return _CACHE[tokenizer].copy()


def _special(tokenizer: Tokenizer) -> list[int]:
    if isinstance(tokenizer, FastTokenizer):
        added = tokenizer.backend.get_added_tokens_decoder()
        return [index for index, token in added.items() if token.special]
    if isinstance(tokenizer, SlowTokenizer):
        return list(tokenizer.tokenizer.all_special_ids)
    return []
