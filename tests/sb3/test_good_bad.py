"""GoodBad, where one number is learned: what PPO makes of it is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from tests.lm.checkpoints import write_good_bad
from tests.sb3.rollouts import Record
from textgym.sb3 import LMPolicy, LMRolloutBuffer, make_vec_env


@pytest.fixture(scope="module")
def two_words(tmp_path_factory):
    return write_good_bad(tmp_path_factory.mktemp("two words"))


def make_model(lm, n_envs, **kwargs):
    return PPO(
        LMPolicy,
        make_vec_env("TextGen/GoodBad-v0", n_envs, seed=0),
        learning_rate=3e-3,
        policy_kwargs={"lm": lm},
        rollout_buffer_class=LMRolloutBuffer,
        device="cpu",
        seed=0,
        **kwargs,
    )


def probability_of_good(model):
    texts = torch.from_numpy(model.get_env().reset())
    with torch.no_grad():
        found = model.policy.get_distribution(texts).distribution.probs[:, 0]
    assert torch.allclose(found, found[0])  # There is one prompt.
    return float(found[0])


def test_ppo_makes_good_all_but_certain(two_words):
    model = make_model(two_words, 16, n_steps=16, batch_size=64, n_epochs=4)
    assert probability_of_good(model) < 0.6
    model.learn(2560)
    assert probability_of_good(model) > 0.99


def best_under_target(target, start):
    """The best P(good) at a KL of ``target`` to ``start``, and the coefficient that leads to it.

    J = 2 p - 1 - beta KL(p, start) has the derivative 2 - beta (logit p - logit start), so that
    beta = 2 / (logit p - logit start); KL rises with p above ``start``, so halving finds p.
    """

    def kl(p):
        return p * math.log(p / start) + (1 - p) * math.log((1 - p) / (1 - start))

    low, high = start, 1 - 1e-12
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kl(middle) < target else (low, middle)
    return low, 2 / (math.log(low / (1 - low)) - math.log(start / (1 - start)))


def test_an_adaptive_coefficient_finds_the_one_that_keeps_the_target(two_words):
    target = 0.2
    kwargs = {"kl_coef": 1.0, "kl_target": target, "reference": two_words}
    model = make_model(
        two_words, 32, n_steps=8, batch_size=256, n_epochs=2, gae_lambda=1.0,
        rollout_buffer_kwargs=kwargs,
    )  # fmt: skip
    expected, coef = best_under_target(target, probability_of_good(model))
    assert coef == pytest.approx(1.36, abs=0.1)  # Far enough from where it starts.
    record = Record()
    model.learn(90 * 256, callback=record)
    late = {key: np.mean([stats[key] for stats in record.seen[50:]]) for key in record.seen[0]}
    assert late["kl"] == pytest.approx(target, rel=0.15)
    assert late["kl_coef"] == pytest.approx(coef, rel=0.12)
    assert late["kl_penalty"] == pytest.approx(late["kl"] * late["kl_coef"], rel=0.1)
    assert late["task_reward"] == pytest.approx(2 * expected - 1, abs=0.1)
