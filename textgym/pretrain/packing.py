"""Batches of documents packed into rows of one length, each document as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.errors import SettingsError
from textgym.pretrain.documents import Document
from textgym.tokenization import Tokenizer

_EOS_FIRST_EVERY = 8
"""One document in this many begins with eos, so that the model can write without a prompt."""

_FILLED = 0.985
"""The share of a batch that is filled with documents; more leaves some out."""

PROMPT_WEIGHT = 0.1
"""Loss weight of a prompt token, relative to a token of the continuation: prompts are random, and
a policy never writes them."""


class Batch(NamedTuple):
    """Packed documents.

    Attributes:
        tokens: int64 ``[B, T]``, the inputs; 0 at the places of pictures and at the end of a row.
        targets: int64 ``[B, T]``, the next tokens of the same document.
        weights: float32 ``[B, T]``, the loss weight of each target; 0 where there is none.
        documents: int64 ``[B, T]``, the number of the document in its row, 0 for unused places.
        positions: int64 ``[B, T]``, within the document.
        images: uint8 ``[I, 3, H, W]``, or None.
        places: int64 ``[2, I, P]``, row and column of each picture's embeddings.
    """

    tokens: Tensor
    targets: Tensor
    weights: Tensor
    documents: Tensor
    positions: Tensor
    images: Tensor | None
    places: Tensor


class Encoded(NamedTuple):
    """A tokenized document.

    Attributes:
        ids: Its tokens.
        weights: The loss weight of each of them.
        image: The picture before it.
    """

    ids: list[int]
    weights: list[float]
    image: NDArray[np.uint8] | None


def encode(document: Document, tokenizer: Tokenizer, eos_first: bool) -> Encoded:
    """Tokenize a document, with eos after each piece.

    Prompt and continuation are tokenized separately, as in an episode.
    """
    eos = cast(int, tokenizer.eos_id)
    prompt, pieces, image, more = document
    ids = [eos] * eos_first + tokenizer.encode(prompt)
    weights = [PROMPT_WEIGHT] * len(ids)

    def add(text: str, weight: float) -> None:
        ids.extend(tokenizer.encode(text))
        weights.extend([weight] * (len(ids) - len(weights)))

    def end() -> None:
        ids.append(eos)
        weights.append(1.0)

    add(pieces[0][len(prompt) :], 1.0)
    for question, answer in more:
        add(question, PROMPT_WEIGHT)
        add(answer, 1.0)
    end()
    for piece in pieces[1:]:
        add(piece, 1.0)
        end()
    return Encoded(ids, weights, image)


def pack(
    documents: Iterator[Document], tokenizer: Tokenizer, rows: int, length: int, prefix: int = 0
) -> Batch:
    """Pack the first documents into rows, as many as fill them almost.

    Args:
        documents: Endless documents.
        tokenizer: The tokenizer.
        rows: Number of rows B.
        length: Tokens of a row T.
        prefix: Number of embeddings P of a picture.

    Raises:
        SettingsError: If a document is longer than a row.
    """
    taken: list[tuple[int, Encoded]] = []
    room = int(_FILLED * rows * length)
    for number, document in enumerate(documents):
        one = encode(document, tokenizer, number % _EOS_FIRST_EVERY == 0)
        size = len(one.ids) + prefix * (one.image is not None)
        if size > length:
            raise SettingsError(
                f"a document has {size} tokens, but a row has {length}; raise --row_length"
            )
        room -= size
        if room < 0:
            break
        taken.append((size, one))
    tokens, targets, numbers, positions = (np.zeros((rows, length), np.int64) for _ in range(4))
    weights = np.zeros((rows, length), np.float32)
    used, count = [0] * rows, [0] * rows
    images, places = [], []
    # First-fit decreasing; the few short documents that then fit nowhere are left out.
    for size, (ids, learned, image) in sorted(taken, key=lambda one: -one[0]):
        row = next((at for at in range(rows) if used[at] + size <= length), None)
        if row is None:
            continue
        start = used[row]
        used[row] += size
        count[row] += 1
        numbers[row, start : used[row]] = count[row]
        if image is not None:
            images.append(image)
            places.append([(row, start + at) for at in range(prefix)])
            start += prefix
        end = start + len(ids)
        tokens[row, start:end] = ids
        positions[row, start:end] = np.arange(len(ids))
        targets[row, start : end - 1] = ids[1:]
        weights[row, start : end - 1] = learned[1:]
    found = np.array(places, np.int64).reshape(len(images), prefix, 2).transpose(2, 0, 1)
    return Batch(
        tokens=torch.from_numpy(tokens),
        targets=torch.from_numpy(targets),
        weights=torch.from_numpy(weights),
        documents=torch.from_numpy(numbers),
        positions=torch.from_numpy(positions),
        images=torch.from_numpy(np.stack(images)) if images else None,
        places=torch.from_numpy(found.copy()),
    )
