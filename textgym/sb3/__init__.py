"""Stable-Baselines3: a language-model policy, a buffer of whole sequences, and a VecEnv.

``PPO`` and ``A2C`` run unmodified on the three pieces::

    from stable_baselines3 import PPO
    from textgym.sb3 import LMPolicy, LMRolloutBuffer, make_vec_env

    venv = make_vec_env("TextGen-v0", n_envs=64)
    model = PPO(LMPolicy, venv, policy_kwargs=dict(lm="textgym/tiny"),
                rollout_buffer_class=LMRolloutBuffer)
    model.learn(100_000)
"""

from __future__ import annotations

from textgym.sb3.buffer import LMRolloutBuffer
from textgym.sb3.policy import LMPolicy
from textgym.sb3.vec_env import TextVecEnv, make_vec_env

__all__ = ["LMPolicy", "LMRolloutBuffer", "TextVecEnv", "make_vec_env"]
