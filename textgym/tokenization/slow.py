"""Transformers tokenizers that are written in Python."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from textgym.tokenization.base import Tokenizer, size_of
from textgym.tokenization.frame import prompt_frame

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class SlowTokenizer(Tokenizer):
    """A transformers tokenizer that has no ``tokenizers`` backend.

    Args:
        tokenizer: The tokenizer.
        name: Its origin.
        encoder_decoder: Whether the model is an encoder-decoder; None if unknown.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, name: str, encoder_decoder: bool | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.encoder_decoder = encoder_decoder
        self.vocab_size = size_of(tokenizer.get_vocab(), name)
        self.eos_id = tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    @cached_property
    def prompt_frame(self) -> tuple[list[int], list[int]]:
        """The special tokens added before and after a prompt."""
        return prompt_frame(
            self, lambda text: list(self.tokenizer.encode(text)), self.encoder_decoder
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids, special tokens included."""
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def is_added(self, index: int) -> bool:
        """Whether an id is an added token, which is matched before the text is tokenized."""
        return index in self.tokenizer.added_tokens_decoder

    def token(self, index: int) -> str:
        """The vocabulary entry of one id."""
        return str(self.tokenizer.convert_ids_to_tokens(index))
