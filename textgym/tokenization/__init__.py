"""One interface to all tokenizers: text to token ids and back.

:func:`load_tokenizer` returns a :class:`Tokenizer` for a list of words, a path, a hub id, a
``tokenizers.Tokenizer`` or a transformers tokenizer. It needs only numpy and ``tokenizers``;
transformers is imported for hub ids, for tokenizer classes specific to transformers, and for chat
templates.

A prompt's ids are those of the checkpoint's own tokenizer (:meth:`Tokenizer.prompt_ids`), and a
response's text is the text of prompt and response minus the text of the prompt
(:meth:`Tokenizer.continuation`). Responses are only decoded, never tokenized again.
"""

from textgym.tokenization.base import ASSETS, EOS_NAMES, TINY, TINY_DIR, Tokenizer
from textgym.tokenization.chat import ChatTemplate, Message
from textgym.tokenization.fast import FastTokenizer
from textgym.tokenization.loading import TokenizerSpec, is_ours, load_tokenizer, looks_local
from textgym.tokenization.marks import MarkedTokens
from textgym.tokenization.slow import SlowTokenizer
from textgym.tokenization.words import WordTokenizer

__all__ = [
    "ASSETS",
    "EOS_NAMES",
    "TINY",
    "TINY_DIR",
    "ChatTemplate",
    "FastTokenizer",
    "MarkedTokens",
    "Message",
    "SlowTokenizer",
    "Tokenizer",
    "TokenizerSpec",
    "WordTokenizer",
    "is_ours",
    "load_tokenizer",
    "looks_local",
]
