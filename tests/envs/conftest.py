"""Small environments whose every step can be followed by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import pytest

import textgym  # noqa: F401  (registers the ids)
from textgym.envs import TextGenEnv, TextGenVectorEnv

WORDS = ["the", "cat", "sat", "ran", "<eos>"]


def count_letters(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """A reward that differs for responses of different lengths."""
    return [float(len(text)) for text in completions]


@pytest.fixture
def words_env() -> Callable[..., TextGenEnv]:
    """A single environment of five words."""

    def make(**arguments: Any) -> TextGenEnv:
        defaults = {
            "prompts": ["the cat", "the", "cat ran the"],
            "tokenizer": list(WORDS),
            "reward": count_letters,
            "max_prompt_tokens": 4,
            "max_new_tokens": 3,
        }
        return TextGenEnv(**{**defaults, **arguments})

    return make


@pytest.fixture
def words_batch() -> Callable[..., TextGenVectorEnv]:
    """A batch with the same arguments."""

    def make(num_envs: int = 3, **arguments: Any) -> TextGenVectorEnv:
        defaults = {
            "prompts": ["the cat", "the", "cat ran the"],
            "tokenizer": list(WORDS),
            "reward": count_letters,
            "max_prompt_tokens": 4,
            "max_new_tokens": 3,
        }
        return TextGenVectorEnv(num_envs, **{**defaults, **arguments})

    return make


@pytest.fixture
def play() -> Callable[..., tuple[list[Any], dict[str, Any]]]:
    """Play some actions: the rewards, and the last info."""

    def play(env: gym.Env[Any, Any], actions: Sequence[int]) -> tuple[list[Any], dict[str, Any]]:
        rewards, info = [], {}
        for number, action in enumerate(actions, 1):
            _, reward, terminated, _, info = env.step(action)
            rewards.append(reward)
            assert terminated == (number == len(actions)), f"action {number} of {actions}"
        return rewards, info

    return play
