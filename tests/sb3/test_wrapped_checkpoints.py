"""Trainings on a language model's proposals resume with the same curve.

As in test_checkpoints: the truth is the training that was never interrupted, nor saved.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback

from tests.sb3.test_checkpoints import disturb, train, weights
from textgym.errors import SettingsError
from textgym.sb3 import Checkpoints, TopKFeatures, load_checkpoint, resume
from textgym.sb3.checkpoints.env_state import get_env_state, set_env_state
from textgym.testing.vector import assert_same
from textgym.wrappers import ActionMasks, SegmentActions, TopKActions, proposals

STEPS = 30  # A rollout of 6 rows and 5 steps each.


def no_repeats(texts: np.ndarray) -> np.ndarray:
    """The last word may not be written again."""
    masks = np.ones((len(texts), 23), dtype=bool)
    lengths = (texts >= 0).sum(1)
    rows = np.flatnonzero(lengths > 0)
    masks[rows, texts[rows, lengths[rows] - 1]] = False
    return masks


def wrappers(lm: str) -> dict[str, Callable[[Any], Any]]:
    topk = partial(TopKActions, lm=lm, k=4, device="cpu")
    segment = partial(SegmentActions, lm=lm, k=3, segment=3, device="cpu")
    mask = partial(ActionMasks, banned=["w1"], mask=no_repeats)
    return {
        "topk": topk,
        "segment": segment,
        "masks": mask,
        "topk of masks": lambda envs: topk(mask(envs)),
        "segment of masks": lambda envs: segment(mask(envs)),
    }


class Journal(BaseCallback):
    """Every action, observation and reward."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def _on_step(self) -> bool:
        told = self.locals
        obs = told["new_obs"]
        seen = {key: value.copy() for key, value in obs.items()} if isinstance(obs, dict) else obs
        self.seen.append([seen, told["actions"].copy(), told["rewards"].copy()])
        return True


class Tokens(gym.vector.VectorActionWrapper):  # type: ignore[misc]
    """Stock agents know of no masks: what is masked becomes the next token that is not."""

    def actions(self, actions: Any) -> Any:
        masks = self.env.action_masks()
        size = masks.shape[1]
        order = (np.asarray(actions)[:, None] + np.arange(size)) % size
        return order[np.arange(len(order)), np.take_along_axis(masks, order, 1).argmax(1)]

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize(
    ("algorithm", "calls", "kind"),
    [
        (PPO, 128, "topk"),
        (PPO, 7, "topk"),
        (A2C, 7, "topk"),
        (PPO, 128, "segment"),
        (PPO, 7, "segment"),
        (A2C, 7, "segment"),
        (PPO, 128, "masks"),
        (PPO, 128, "topk of masks"),
        (PPO, 128, "segment of masks"),
    ],
)
def test_same_numbers(
    algorithm: Any,
    calls: int,
    kind: str,
    make_env: Callable[..., Any],
    checkpoint: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proposals, "MAX_CACHED_CALLS", calls)
    lm = checkpoint()
    wrap = wrappers(lm)[kind]
    features = {
        "features_extractor_class": TopKFeatures,
        "features_extractor_kwargs": {"lm": lm, "size": 8},
    }

    def make() -> Any:
        more: dict[str, Any] = {"batch_size": 10, "n_epochs": 2} if algorithm is PPO else {}
        if kind == "masks":
            env = make_env(wrapper=lambda envs: Tokens(wrap(envs)))
            return algorithm("MlpPolicy", env, n_steps=5, seed=0, device="cpu", **more)
        return algorithm(
            "MultiInputPolicy", make_env(wrapper=wrap), n_steps=5, seed=0, device="cpu",
            policy_kwargs=features, **more,
        )  # fmt: skip

    whole = make()
    rows, seen = train(whole, 6 * STEPS, reset=True, journal=Journal())

    class Killed(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 4 * STEPS + 12:
                raise RuntimeError("killed")
            return True

    checkpoints = Checkpoints(tmp_path, every=2 * STEPS)
    with pytest.raises(RuntimeError, match="killed"):
        train(make(), 6 * STEPS, checkpoints, Killed(), reset=True, journal=Journal())
    disturb()
    second = make()
    left = resume(second, tmp_path, 6 * STEPS)
    assert left == 2 * STEPS
    checkpoints = Checkpoints(tmp_path, every=2 * STEPS)
    rows_after, seen_after = train(second, left, checkpoints, journal=Journal())
    assert_same(seen[4 * 5 :], seen_after, "what happened")
    assert_same(rows[-len(rows_after) :], rows_after, "what is logged")
    assert_same(weights(whole), weights(second), "weights and optimizer")


def test_a_state_is_plain_and_shares_nothing(
    make_env: Callable[..., Any], checkpoint: Callable[..., str]
) -> None:
    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(type(key) is str and plain(each) for key, each in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or isinstance(value, (str, int, float, bool, np.ndarray))

    for name, wrap in wrappers(checkpoint()).items():
        env = make_env(wrapper=wrap)
        other = make_env(wrapper=wrap, seed=5)
        assert plain(get_env_state(env))  # Before the first reset too.

        def step(env: Any) -> Any:
            masks = env.env_method("action_masks")
            return env.step(np.array([mask.argmax() for mask in masks]))[:3]

        env.reset()
        other.reset()
        for _ in range(9):
            step(env)
        state = get_env_state(env)
        assert plain(state)
        expected = [step(env) for _ in range(9)]
        for _ in range(2):  # The second time shows what the first may have changed.
            set_env_state(other, state)
            assert_same([step(other) for _ in range(9)], expected, name)


def test_other_masks_are_refused_and_nothing_changes(make_env: Callable[..., Any]) -> None:
    one = make_env(wrapper=partial(ActionMasks, banned=["w1"]))
    other = make_env(wrapper=partial(ActionMasks, banned=["w2"]), seed=3)
    one.reset()
    other.reset()
    before = get_env_state(other)
    with pytest.raises(SettingsError, match="other tokens"):
        set_env_state(other, get_env_state(one))
    after = get_env_state(other)
    for state in (*before, *after):
        state["state"].pop("seconds", None)
    assert_same(before, after)


def test_unknown_layers_are_refused(make_env: Callable[..., Any], tmp_path: Path) -> None:
    env = make_env(wrapper=gym.wrappers.vector.RecordEpisodeStatistics)
    model = PPO("MlpPolicy", env, n_steps=5, batch_size=10, device="cpu")
    with pytest.raises(SettingsError, match=r"RecordEpisodeStatistics.*get_state"):
        model.learn(STEPS, callback=Checkpoints(tmp_path))
    with pytest.raises(SettingsError, match="path="):
        load_checkpoint(model, tmp_path)
