from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.lm.checkpoints import write_checkpoint
from textgym.lm import LanguageModel

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a random checkpoint of an architecture, written once."""
    root: Path = tmp_path_factory.mktemp("checkpoints")

    def get(kind: str) -> str:
        if not (root / kind).exists():
            write_checkpoint(root / kind, kind)
        return str(root / kind)

    return get


@pytest.fixture(scope="session")
def load(checkpoint: Callable[[str], str]) -> Callable[[str], LanguageModel]:
    """A fresh model of an architecture."""
    return lambda kind: LanguageModel.load(checkpoint(kind), device="cpu")
