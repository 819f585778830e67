"""One interface over every kind of tokenizer: text to token ids and back.

:func:`load_tokenizer` takes what users have (nothing, a list of words, a path, a hub id, a
``tokenizers.Tokenizer``, a transformers tokenizer) and returns a :class:`Tokenizer`. Only numpy
and ``tokenizers`` are needed; transformers is imported when a hub id, a folder whose tokenizer is
one of transformers' own classes, or a chat template asks for it.

Two rules hold for every tokenizer. A prompt's ids are those that the checkpoint's own tokenizer
writes (:meth:`Tokenizer.prompt_ids`). A response's text is the text of prompt and response less the
text of the prompt (:meth:`Tokenizer.continuation`).

What this package does not do: train a tokenizer (:mod:`textgym.pretrain.train` does), or
re-tokenize what a policy wrote. Token in, token out: environments only ever *decode* a response.
"""

from textgym.tokenization.base import ASSETS, EOS_NAMES, TINY, TINY_DIR, Tokenizer
from textgym.tokenization.chat import ChatTemplate, Message
from textgym.tokenization.fast import FastTokenizer
from textgym.tokenization.loading import TokenizerSpec, is_ours, load_tokenizer, looks_local
from textgym.tokenization.slow import SlowTokenizer
from textgym.tokenization.words import WordTokenizer

__all__ = [
    "ASSETS",
    "EOS_NAMES",
    "TINY",
    "TINY_DIR",
    "ChatTemplate",
    "FastTokenizer",
    "Message",
    "SlowTokenizer",
    "Tokenizer",
    "TokenizerSpec",
    "WordTokenizer",
    "is_ours",
    "load_tokenizer",
    "looks_local",
]
