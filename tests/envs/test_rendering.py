"""How an episode looks."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.envs.rendering import frame, layout


def test_ansi_is_the_text(words_env: Any) -> None:
    env = gym.make("TextGen-v0", prompts=["The cat"], render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "The cat"
    for index in env.unwrapped.tokenizer.encode(" sat."):
        env.step(index)
    assert env.render() == "The cat sat."


def test_ansi_of_nothing_is_an_empty_line(words_env: Any) -> None:
    env = words_env(prompts=[""], render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "\n"


def test_human_prints_the_text_as_it_grows(capsys: pytest.CaptureFixture[str]) -> None:
    env = gym.make("TextGen-v0", prompts=["The cat"], render_mode="human")
    env.reset(seed=0)
    (index,) = env.unwrapped.tokenizer.encode("s")
    env.step(index)
    assert capsys.readouterr().out == "The cat\nThe cats\n"
    assert env.render() is None


def test_human_of_a_batch_names_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    envs = gym.make_vec("TextGen-v0", num_envs=2, prompts=["cat"], render_mode="human")
    envs.reset(seed=0)
    assert capsys.readouterr().out == "[0] cat\n[1] cat\n"
    assert envs.render() is None


def test_rgb_array_is_an_image_of_constant_size() -> None:
    env = gym.make("TextGen-v0", prompts=["The cat"], render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert (env.render() == first).all()
    env.step(env.unwrapped.tokenizer.encode("!")[0])
    second = env.render()
    assert second.shape == first.shape
    assert (second != first).any()


def test_frames_of_a_batch() -> None:
    for mode in ("ansi", "rgb_array"):
        envs = gym.make_vec("TextGen-v0", num_envs=3, prompts=["cat"], render_mode=mode)
        assert envs.render_mode == mode
        envs.reset(seed=0)
        frames = envs.render()
        assert type(frames) is tuple
        assert len(frames) == 3
    assert np.array_equal(frames[0], frames[1])


def test_render_without_a_mode_warns(words_env: Any, words_batch: Any) -> None:
    for env in (words_env(), words_batch()):
        env.reset(seed=0)
        with pytest.warns(UserWarning, match="render_mode="):
            assert env.render() is None


@settings(max_examples=60)
@given(
    prompt=st.text("ab \n\t", max_size=150),
    response=st.text("cd \n\t\x0b日", max_size=150),
)
def test_layout_draws_every_character_once(prompt: str, response: str) -> None:
    cells = [cell for line in layout(prompt, response) for cell in line]
    visible = [cell for cell in cells if not cell[0].isspace()]
    text = [(char, False) for char in prompt] + [(char, True) for char in response]
    assert visible == [cell for cell in text if not cell[0].isspace()]
    assert max((len(line) for line in layout(prompt, response)), default=0) <= 64


@pytest.mark.parametrize(
    "text", ["", "\n" * 50, "x" * 5000, "日本 🙂 \x00\x1b[31m\u202e", "\ufffd"]
)
def test_any_text_can_be_drawn(text: str) -> None:
    assert frame("rgb_array", text, text).shape == frame("rgb_array", "", "").shape
