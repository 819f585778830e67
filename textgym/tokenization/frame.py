"""The special tokens that a checkpoint's tokenizer writes around a prompt."""

from __future__ import annotations

from collections.abc import Callable

from textgym.tokenization.base import Tokenizer

Frame = tuple[list[int], list[int]]


def prompt_frame(
    tokenizer: Tokenizer, encode: Callable[[str], list[int]], encoder_decoder: bool | None
) -> Frame:
    """Find the frame from a text that is encoded with special tokens around it.

    Args:
        tokenizer: Encodes without special tokens.
        encode: Encodes with them.
        encoder_decoder: Whether the model is an encoder-decoder, whose prompts end with eos. A
            decoder's prompt is to be continued, so that an eos behind it is dropped: tokenizers
            are saved with ``add_eos_token=True`` after fine-tuning. None keeps what is written.

    Returns:
        The token ids before and behind a prompt.
    """
    before, behind = _around(tokenizer, encode)
    if encoder_decoder is False:
        while behind and behind[-1] in tokenizer.ends:
            behind = behind[:-1]
    return before, behind


def _around(tokenizer: Tokenizer, encode: Callable[[str], list[int]]) -> Frame:
    frame = encode("")
    if not frame:
        return [], []
    for index in range(tokenizer.vocab_size):
        text = tokenizer.decode([index])
        plain = tokenizer.encode(text)
        if plain and not set(plain) & set(frame):
            # The frame is cut in two where the text is.
            at = encode(text).index(plain[0])
            return frame[:at], frame[at:]
    return ([], frame) if frame[-1] == tokenizer.eos_id else (frame, [])
