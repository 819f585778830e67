"""The special tokens that a checkpoint's tokenizer adds around a prompt."""

from __future__ import annotations

from collections.abc import Callable

from textgym.tokenization.base import Tokenizer

Frame = tuple[list[int], list[int]]


def prompt_frame(
    tokenizer: Tokenizer, encode: Callable[[str], list[int]], encoder_decoder: bool | None
) -> Frame:
    """Find the special tokens around a prompt by encoding a text with and without them.

    Args:
        tokenizer: Encodes without special tokens.
        encode: Encodes with special tokens.
        encoder_decoder: Whether the model is an encoder-decoder, whose prompts end with eos. For a
            decoder, which has to continue the prompt, an eos after it is dropped: tokenizers may
            be saved with ``add_eos_token=True`` after fine-tuning. None (unknown) keeps it.

    Returns:
        The token ids before and after a prompt.
    """
    before, behind = _special_tokens(tokenizer, encode)
    if encoder_decoder is False:
        while behind and behind[-1] in tokenizer.ends:
            behind = behind[:-1]
    return before, behind


def _special_tokens(tokenizer: Tokenizer, encode: Callable[[str], list[int]]) -> Frame:
    frame = encode("")
    if not frame:
        return [], []
    for index in range(tokenizer.vocab_size):
        text = tokenizer.decode([index])
        plain = tokenizer.encode(text)
        if plain and not set(plain) & set(frame):
            # The position of the text splits the frame.
            split = encode(text).index(plain[0])
            return frame[:split], frame[split:]
    return ([], frame) if frame[-1] == tokenizer.eos_id else (frame, [])
