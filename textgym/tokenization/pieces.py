"""The bytes that each token of a vocabulary adds to a text.

The common decoders of the ``tokenizers`` library decode one token at a time, except for the first
token of a text (SentencePiece drops its leading space). After other text, a token thus always adds
the same bytes, which are computed once.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from typing import Any

import tokenizers

# SentencePiece's byte-fallback tokens.
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_level_table(backend: tokenizers.Tokenizer, tokens: list[str]) -> list[bytes]:
    """The bytes of each entry of a byte-level vocabulary (GPT-2's).

    Added tokens are plain text, even if their letters are in the byte alphabet ("señor"), which the
    library's decoder gets wrong (tokenizers issue 1392). An added token that is also in the model's
    vocabulary ("Ġthe") has the model's bytes.
    """
    table = [_unmap_bytes(token) for token in tokens]
    for index in _added_only(backend):
        table[index] = tokens[index].encode("utf-8", "surrogatepass")
    return table


def broken_bytes_as(backend: tokenizers.Tokenizer, tokens: list[str]) -> str:
    """The error handler for bytes that are not UTF-8; "replace" for most tokenizers.

    A single letter of the byte alphabet that was added as a token ("Ö") shares its id with a byte
    (0xD6). The id is that byte within a character, and the letter elsewhere.
    """
    both = set(backend.get_added_tokens_decoder()) - set(_added_only(backend))
    letters = {
        _BYTE_OF[tokens[index]]: tokens[index] for index in both if tokens[index] in _BYTE_OF
    }
    letters = {byte: letter for byte, letter in letters.items() if byte >= 0x80}
    if not letters:
        return "replace"

    def replace(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        broken = error.object[error.start : error.end]
        # Like "replace", one mark for all bytes of an incomplete character.
        return letters.get(broken[0], "\ufffd") if len(broken) == 1 else "\ufffd", error.end

    name = f"textgym-{bytes(sorted(letters)).hex()}"
    codecs.register_error(name, replace)
    return name


def _added_only(backend: tokenizers.Tokenizer) -> list[int]:
    """The ids of added tokens that the model's own vocabulary does not have."""
    vocabulary = backend.get_vocab(with_added_tokens=False)
    added = backend.get_added_tokens_decoder()
    return [index for index, token in added.items() if token.content not in vocabulary]


def appended_table(
    backend: tokenizers.Tokenizer, decoder: dict[str, Any] | None, tokens: list[str]
) -> list[bytes] | None:
    """The bytes that each token adds to a non-empty text.

    Args:
        backend: The tokenizer.
        decoder: The JSON of its decoder; None if it joins tokens with spaces.
        tokens: The vocabulary by id; "" for unused ids.

    Returns:
        One ``bytes`` per id, or None if decoding depends on more than one token.
    """
    if decoder is None:
        return None
    if decoder["type"] == "WordPiece":
        return _measured(backend, tokens, range(len(tokens)))
    table: list[bytes] | None = None
    if decoder["type"] == "Metaspace":
        table = [_piece(token, [(decoder["replacement"], " ")], False) for token in tokens]
    elif decoder["type"] == "Fuse":
        table = [_piece(token, [], False) for token in tokens]
    elif decoder["type"] == "Sequence":
        table = _replaced(decoder["decoders"], tokens)
    # The normalizer may change added tokens, so their bytes are measured.
    added = sorted(backend.get_added_tokens_decoder())
    measured = _measured(backend, tokens, added) if table is not None and added else None
    for index, piece in zip(added, measured or (), strict=False):
        if table is not None and _BYTE.fullmatch(tokens[index]) is None:
            table[index] = piece
    return table


def byte_tokens(decoder: dict[str, Any] | None, tokens: list[str]) -> frozenset[int]:
    """The ids of SentencePiece's byte-fallback tokens, if the decoder has them."""
    parts = (decoder or {}).get("decoders", [])
    if not any(part["type"] == "ByteFallback" for part in parts):
        return frozenset()
    return frozenset(
        index for index, token in enumerate(tokens) if len(token) == 6 and _BYTE.fullmatch(token)
    )


def _measured(
    backend: tokenizers.Tokenizer, tokens: list[str], ids: Iterable[int]
) -> list[bytes] | None:
    """The bytes that the library writes for some tokens after another one."""
    anchor = next((index for index, token in enumerate(tokens) if token.isalnum()), None)
    if anchor is None:
        return None
    cut = len(backend.decode([anchor], skip_special_tokens=False))
    pairs = ([anchor, index] for index in ids)
    return [backend.decode(pair, skip_special_tokens=False)[cut:].encode() for pair in pairs]


def _replaced(parts: list[dict[str, Any]], tokens: list[str]) -> list[bytes] | None:
    """The table of Llama 2's and Gemma's decoders: Replace, ByteFallback, Fuse, Strip."""
    pairs: list[tuple[str, str]] = []
    rest = list(parts)
    while rest and rest[0]["type"] == "Replace" and "String" in rest[0]["pattern"]:
        part = rest.pop(0)
        pairs.append((part["pattern"]["String"], part["content"]))
    fallback = bool(rest) and rest[0]["type"] == "ByteFallback"
    rest = rest[1:] if fallback else rest
    # After Fuse there is one text, of which only the start may be changed.
    if not rest or rest[0]["type"] != "Fuse":
        return None
    if any(part["type"] != "Strip" or part.get("stop") for part in rest[1:]):
        return None
    return [_piece(token, pairs, fallback) for token in tokens]


def _piece(token: str, pairs: list[tuple[str, str]], fallback: bool) -> bytes:
    for old, new in pairs:
        token = token.replace(old, new)
    if fallback and (byte := _BYTE.fullmatch(token)):
        return bytes([int(byte[1], 16)])
    return token.encode("utf-8", "surrogatepass")


def _byte_alphabet() -> dict[str, int]:
    """The byte of each printable character in a byte-level vocabulary (GPT-2's)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(256 + rank): byte for rank, byte in enumerate(others)})
    return alphabet


_BYTE_OF = _byte_alphabet()


def _unmap_bytes(token: str) -> bytes:
    """The bytes of one entry of a byte-level vocabulary."""
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:  # Not in the byte alphabet, so plain text, as in the library.
        return token.encode()
