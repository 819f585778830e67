from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import textgym  # noqa: F401
from tests.lm.checkpoints import WORDS, write_checkpoint

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small random model of the tests' words."""
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "gpt2")


@pytest.fixture(scope="session")
def padded_lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with more logits than words."""
    folder = tmp_path_factory.mktemp("padded") / "gpt2"
    return write_checkpoint(folder, vocab_size=len(WORDS) + 9)


def number_of_low_words(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [float(sum(word[1:] < "2" for word in text.split())) for text in completions]


def long_texts(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def settings() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "prompts": [" ".join(rng.choice(WORDS[:-1], size)) for size in (1, 1, 2, 3, 4, 4)],
        "tokenizer": WORDS,
        "reward": number_of_low_words,
        "costs": {"length": long_texts},
        "max_prompt_tokens": 4,
        "max_new_tokens": 6,
    }


@pytest.fixture
def make() -> Callable[..., gym.Env[Any, Any]]:
    return lambda **kwargs: gym.make("TextGen-v0", **{**settings(), **kwargs})


@pytest.fixture
def make_vec() -> Callable[..., gym.vector.VectorEnv[Any, Any, Any]]:
    def get(num_envs: int = 5, mode: Any = "NextStep", **kwargs: Any) -> Any:
        arguments = {**settings(), **kwargs}
        return gym.make_vec("TextGen-v0", num_envs=num_envs, autoreset_mode=mode, **arguments)

    return get


def same(ours: Any, theirs: Any, where: str = "") -> None:
    """Nested values are equal up to rounding errors of floats."""
    assert type(ours) is type(theirs), f"{where}: {type(ours)} and {type(theirs)}"
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), f"{where}: {ours.keys()} and {theirs.keys()}"
        for key in ours:
            same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, (tuple, list)):
        assert len(ours) == len(theirs)
        for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            same(one, other, f"{where}[{at}]")
    elif isinstance(ours, np.ndarray):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), where
        if ours.dtype == object:
            same(list(ours.flat), list(theirs.flat), where)
        elif ours.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4, err_msg=where)
        else:
            assert np.array_equal(ours, theirs), f"{where}: {ours} and {theirs}"
    else:
        assert ours == theirs, f"{where}: {ours} and {theirs}"
