"""Which tokens a policy may write."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from textgym.tokenization import FastTokenizer, SlowTokenizer, Tokenizer

_KNOWN: WeakKeyDictionary[Tokenizer, NDArray[np.bool_]] = WeakKeyDictionary()


def writable_tokens(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """A mask ``[V]`` of the tokens that are text or end one; a new array.

    Left out are the tokenizer's other special tokens (padding, unknown, beginning of sequence,
    ...), as far as it declares them, and ids that no token has.
    """
    if tokenizer not in _KNOWN:
        # Asked for at every step, and large vocabularies take some milliseconds.
        _KNOWN[tokenizer] = _writable(tokenizer)
    return _KNOWN[tokenizer].copy()


def _writable(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    mask = np.array([tokenizer.token(index) != "" for index in range(tokenizer.vocab_size)])
    mask[_special(tokenizer)] = False
    mask[list(tokenizer.ends)] = True
    return mask


def _special(tokenizer: Tokenizer) -> list[int]:
    if isinstance(tokenizer, FastTokenizer):
        added = tokenizer.backend.get_added_tokens_decoder()
        return [index for index, token in added.items() if token.special]
    if isinstance(tokenizer, SlowTokenizer):
        return list(tokenizer.tokenizer.all_special_ids)
    return []
