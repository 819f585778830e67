"""Pictures for a language model: a small encoder makes prefix embeddings of them.

The text model then reads ``[picture, text]``: a few vectors of its own width stand in front of the
first token, and every token attends to them (Tsimpoukelli et al. 2021, "Multimodal Few-Shot
Learning with Frozen Language Models", call this a visual prefix). They stand at position 0 as the
first token does, so the text's positions, and the context length, are what they are without.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from textgym.errors import ModelError, StorageError
from textgym.storage.tensors import read_tensors, write_tensors

PICTURES_FILE = "picture_encoder.safetensors"
"""Where a checkpoint's folder holds the weights of its picture encoder."""


class PictureEncoder(nn.Module):
    """A convolutional encoder: a picture becomes a few prefix embeddings.

    Three convolutions see colours and shapes, their features are pooled to ``grid x grid`` cells,
    and a linear layer makes the prefix of them.

    Subclasses, given as ``policy_kwargs=dict(picture_encoder_class=...)``, take the same first two
    arguments, and have ``positions`` and ``offset``.

    Args:
        shape: ``(3, height, width)`` of the pictures, in pixels.
        hidden_size: Width d of the language model's embeddings.
        positions: Number of prefix embeddings P.
        grid: Cells along each side.
        channels: Of the convolutions.

    Attributes:
        positions: Number of prefix embeddings P.
        offset: ``[P, d]``, added to what is seen. It begins as the embedding of the language
            model's start token (:meth:`LanguageModel.look_through`): a model that never saw a
            picture then writes on nearly as without (a KL of 0.02 nats a token for textgym/tiny;
            random vectors or zeros, and more of them, cost it its grammar).

    Raises:
        ModelError: If the pictures are smaller than the grid.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        hidden_size: int,
        positions: int = 4,
        grid: int = 3,
        channels: int = 64,
    ) -> None:
        super().__init__()
        if min(positions, grid) < 1 or min(shape[1:]) < 4 * grid:
            raise ModelError(
                f"pictures of {shape[2]} x {shape[1]} pixels are too small for a grid of {grid} "
                f"cells a side, which takes {4 * grid} pixels at least, or there are no positions"
            )
        self.positions = positions
        self.see = nn.Sequential(
            nn.Conv2d(shape[0], channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(grid),
            nn.Flatten(),
        )
        self.embed = nn.Linear(channels * grid**2, positions * hidden_size)
        self.offset = nn.Parameter(torch.zeros(positions, hidden_size))

    def forward(self, images: Tensor) -> Tensor:
        """Prefix embeddings.

        Args:
            images: ``[B, 3, H, W]`` uint8.

        Returns:
            ``[B, P, d]``.
        """
        weight = self.embed.weight
        seen = self.see(images.to(weight.device, weight.dtype) / 127.5 - 1)
        return cast(Tensor, self.embed(seen).view(-1, *self.offset.shape) + self.offset)


def save_pictures(encoder: nn.Module, folder: str | Path) -> None:
    """Write an encoder's weights beside a checkpoint."""
    write_tensors(Path(folder) / PICTURES_FILE, encoder.state_dict())


def load_pictures(encoder: nn.Module, folder: str) -> bool:
    """Take over the weights that lie beside a checkpoint, if there are any, and say so.

    Raises:
        ModelError: If they are of another encoder, or the file is damaged.
    """
    path = Path(folder) / PICTURES_FILE
    if not path.is_file():
        return False
    try:
        encoder.load_state_dict(read_tensors(path)[0])
    except StorageError as error:
        raise ModelError(f"the picture encoder cannot be loaded: {error}") from error
    except RuntimeError as error:
        raise ModelError(
            f"{path} holds the weights of another picture encoder ({error}); give the class and "
            "arguments that it was made with, or take the file away"
        ) from error
    return True
