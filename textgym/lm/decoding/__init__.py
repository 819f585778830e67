"""Decoding with a cache, for every architecture."""

from textgym.lm.decoding.memo import MemoDecoder

__all__ = ["MemoDecoder"]
