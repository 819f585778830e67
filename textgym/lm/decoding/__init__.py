"""Decoding with a KV cache, for every architecture.

* :mod:`~textgym.lm.decoding.memo`: :class:`MemoDecoder`, which compares each text with the cached
  one and runs only the missing tokens. It is the one entry point.
* :mod:`~textgym.lm.decoding.slots`: the interface `Slots` of a cache with one slot per row, and
  `make_slots`, which chooses the cache of an architecture. **A cache for a new architecture** is
  another implementation of `Slots`, with a branch there. There are three:
  :mod:`~textgym.lm.decoding.attention` (Transformer decoders),
  :mod:`~textgym.lm.decoding.recurrent` (state-space models, LSTM: those whose transformers cache
  has states alone, :func:`textgym.lm.architectures.is_recurrent`) and
  :mod:`~textgym.lm.decoding.encoder_decoder` (T5, BART, with
  :mod:`~textgym.lm.decoding.row_positions`).
* :mod:`~textgym.lm.decoding.cache`: `SlotCache`, the keys and values, as a transformers ``Cache``.
* Speed: :mod:`~textgym.lm.decoding.direct` (forward passes of GPT-2 and Llama without transformers'
  overhead) and :mod:`~textgym.lm.decoding.graphs` (CUDA graphs).
"""

from textgym.lm.decoding.memo import MemoDecoder

__all__ = ["MemoDecoder"]
