"""Texts as pieces, and words that no task uses: the material of the junk search."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_PIECE = re.compile(r"\s*(?:[\u3040-\u30ff\u3400-\u9fff]|\w+(?:['\u2019-]\w+)*|[^\w\s])|\s+$")
_WORD = re.compile(r"\w")

FOREIGN = tuple(
    re.findall(
        r"\w+",
        "walrus trombone quasar parsnip glacier velcro marzipan sprocket lagoon origami plankton "
        "zeppelin turnip accordion basalt mitten hydrant nebula gazebo pretzel molasses tundra "
        "cactus saxophone bobsled lichen pancake tadpole whisk fjord radish kazoo dandelion anvil "
        "igloo sardine lobster yodel spatula mollusc",
    )
)
"""Words that no built-in task uses: they are off topic in any answer."""

SPECIAL = (
    "<|endoftext|>",
    "</s>",
    "<s>",
    "<pad>",
    "[SEP]",
    "<|im_end|>",
    "<|im_start|>user",
    "<|eot_id|>",
    "<eos>",
    "\ufffd",
)
"""Special tokens of known tokenizers, as text."""


def split(text: str) -> list[str]:
    """The words and marks of a text, each with the white space before it.

    Characters of scripts without spaces are a piece each. ``"".join`` restores the text.
    """
    return _PIECE.findall(text)


def is_word(piece: str) -> bool:
    """Whether a piece is a word rather than a mark."""
    return _WORD.search(piece) is not None


def words_of(text: str) -> list[str]:
    """The words of a text, without marks and white space."""
    return [piece.strip() for piece in split(text) if is_word(piece)]


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """One of several strings."""
    return choices[int(rng.integers(len(choices)))]


def junk_size(oracle: str) -> int:
    """How many words of junk make any answer nonsense: half as many as it has, at least eight."""
    return max(8, -(-len(words_of(oracle)) // 2))


def foreign_run(rng: np.random.Generator, size: int) -> list[str]:
    """Random words that no task knows, as pieces."""
    return [f" {FOREIGN[i]}" for i in rng.integers(len(FOREIGN), size=size)]
