from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnv

from tests.lm.checkpoints import WORDS, write_checkpoint
from textgym.sb3 import make_vec_env

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The folder of a random checkpoint of an architecture, written once."""
    root: Path = tmp_path_factory.mktemp("checkpoints")

    def get(kind: str = "gpt2", seed: int = 0) -> str:
        folder = root / f"{kind}-{seed}"
        if not folder.exists():
            write_checkpoint(folder, kind, seed)
        return str(folder)

    return get


def share_of_low_words(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [sum(word[1:] < "2" for word in text.split()) / 10 for text in completions]


@pytest.fixture
def make_env() -> Callable[..., VecEnv]:
    """Text environments over the checkpoints' words, with prompts of several lengths."""

    def make(n_envs: int = 6, seed: int = 0, **kwargs: Any) -> VecEnv:
        rng = np.random.default_rng(0)
        prompts = [" ".join(rng.choice(WORDS[:-1], size)) for size in (0, 1, 2, 3, 5, 6, 6)]
        settings = {
            "prompts": prompts,
            "tokenizer": WORDS,
            "reward": share_of_low_words,
            "max_prompt_tokens": 6,
            "max_new_tokens": 7,
            **kwargs,
        }
        return make_vec_env("TextGen-v0", n_envs, seed=seed, **settings)

    return make
