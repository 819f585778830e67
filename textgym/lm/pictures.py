"""Pictures for a language model: a small encoder maps them to prefix embeddings.

The text model reads ``[picture, text]``: a few embeddings before the first token, to which every
token attends, called a visual prefix by Tsimpoukelli et al. 2021, "Multimodal Few-Shot Learning
with Frozen Language Models". Like the first token they are at position 0, so the positions of the
text, and the context length, do not change.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from textgym.errors import ModelError, StorageError
from textgym.storage.tensors import read_tensors, write_tensors

PICTURES_FILE = "picture_encoder.safetensors"
"""The file in a checkpoint folder with the weights of its picture encoder."""


class PictureEncoder(nn.Module):
    """A convolutional encoder from a picture to one prefix embedding per cell.

    Three convolutions, average pooling to ``grid x grid`` cells, and a linear layer from the
    features of a cell to its embedding.

    Custom encoders, given as ``policy_kwargs=dict(picture_encoder_class=...)``, take the same first
    two arguments, and have the attributes ``positions`` and ``offset``.

    Args:
        shape: ``(3, height, width)`` of the pictures, in pixels.
        hidden_size: Width d of the language model's embeddings.
        grid: Cells along each side.
        channels: Number of channels of the convolutions.

    Attributes:
        positions: Number of prefix embeddings P, the number of cells.
        offset: ``[P, d]``, added to the embeddings. For a language model without a trained
            encoder it is initialized with the embedding of its start token
            (:meth:`LanguageModel.attach_pictures`), which hardly changes what the model writes
            before training; zeros or random vectors break its grammar.

    Raises:
        ModelError: If the pictures are smaller than the grid.
    """

    def __init__(
        self, shape: tuple[int, int, int], hidden_size: int, grid: int = 3, channels: int = 64
    ) -> None:
        super().__init__()
        if grid < 1 or min(shape[1:]) < 4 * grid:
            raise ModelError(
                f"grid={grid} must be at least 1, and pictures of {shape[2]} x {shape[1]} pixels "
                f"must have at least {4 * grid} pixels per side"
            )
        self.positions = grid**2
        self.see = nn.Sequential(
            nn.Conv2d(shape[0], channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(grid),
            nn.Flatten(2),
        )
        self.embed = nn.Linear(channels, hidden_size)
        self.offset = nn.Parameter(torch.zeros(self.positions, hidden_size))

    def forward(self, images: Tensor) -> Tensor:
        """Prefix embeddings.

        Args:
            images: ``[B, 3, H, W]`` uint8.

        Returns:
            ``[B, P, d]``.
        """
        weight = self.embed.weight
        seen = self.see(images.to(weight.device, weight.dtype) / 127.5 - 1)
        return cast(Tensor, self.embed(seen.transpose(1, 2)) + self.offset)


def save_pictures(encoder: nn.Module, folder: str | Path) -> None:
    """Write an encoder's weights to a checkpoint folder."""
    write_tensors(Path(folder) / PICTURES_FILE, encoder.state_dict())


def has_pictures(folder: str) -> bool:
    """Whether a checkpoint folder has the weights of an encoder."""
    return (Path(folder) / PICTURES_FILE).is_file()


def read_pictures(folder: str | Path) -> dict[str, Tensor] | None:
    """The weights of an encoder in a checkpoint folder; None if it has none.

    Raises:
        ModelError: If the file is damaged.
    """
    path = Path(folder) / PICTURES_FILE
    if not path.is_file():
        return None
    try:
        return read_tensors(path)[0]
    except StorageError as error:
        raise ModelError(f"the picture encoder cannot be loaded: {error}") from error


def load_pictures(encoder: nn.Module, folder: str) -> bool:
    """Load an encoder's weights from a checkpoint folder; False if it has none.

    Raises:
        ModelError: If they are of another encoder, or the file is damaged.
    """
    weights = read_pictures(folder)
    if weights is not None:
        set_pictures(encoder, weights, folder)
    return weights is not None


def set_pictures(encoder: nn.Module, weights: dict[str, Tensor], folder: str) -> None:
    """Give an encoder the weights that were read from a folder.

    Raises:
        ModelError: If they are of another encoder.
    """
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"{Path(folder) / PICTURES_FILE} has the weights of another picture encoder ({error}); "
            "give the class and arguments that it was made with, or delete the file"
        ) from error
