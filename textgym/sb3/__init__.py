"""Adapters for Stable-Baselines3: a policy, a rollout buffer, a replay buffer, and a VecEnv.

``PPO`` and ``A2C`` run unmodified with a language model::

    from stable_baselines3 import PPO
    from textgym.sb3 import LMPolicy, LMRolloutBuffer, make_vec_env

    venv = make_vec_env("TextGen-v0", n_envs=64)
    model = PPO(LMPolicy, venv, policy_kwargs=dict(lm="textgym/tiny"),
                rollout_buffer_class=LMRolloutBuffer)
    model.learn(100_000)

``DQN`` and other algorithms choose among a language model's proposals::

    from textgym.sb3 import LMReplayBuffer, TopKPolicy
    from textgym.wrappers import TopKActions

    venv = make_vec_env("TextGen/Sentiment-v0", n_envs=64, wrapper=TopKActions)
    model = DQN(TopKPolicy, venv, gamma=1.0, learning_starts=0, exploration_initial_eps=0.0,
                exploration_final_eps=0.0, replay_buffer_class=LMReplayBuffer,
                replay_buffer_kwargs=dict(n_steps=None, gamma=1.0))

* :mod:`~textgym.sb3.policy` (with :mod:`~textgym.sb3.value_head`) and
  :mod:`~textgym.sb3.buffer` for PPO and A2C; :mod:`~textgym.sb3.maskable` for MaskablePPO.
* :mod:`~textgym.sb3.optimizer` and :mod:`~textgym.sb3.schedules`: rates, their warm-up and decay;
  :mod:`~textgym.sb3.adapters`: the state of a policy with LoRA.
* :mod:`~textgym.sb3.topk` and :mod:`~textgym.sb3.replay` for DQN and QR-DQN.
* :mod:`~textgym.sb3.vec_env` (with :mod:`~textgym.sb3.spaces`), the environment.
* :mod:`~textgym.sb3.diagnostics` (with :mod:`~textgym.sb3.logging`): what to watch in a training.
* :mod:`~textgym.sb3.checkpoints`: saving, loading, resuming.
* :mod:`~textgym.sb3.compatibility`: error messages for arguments and algorithms that do not apply.
"""

from __future__ import annotations

from textgym.sb3.buffer import LMRolloutBuffer
from textgym.sb3.checkpoints.checkpoint import (
    Checkpoints,
    latest_checkpoint,
    load_checkpoint,
    resume,
    save_checkpoint,
)
from textgym.sb3.checkpoints.model_state import check_resumable, keep_kl_coef
from textgym.sb3.checkpoints.saved_agents import load_agent
from textgym.sb3.diagnostics import DiagnosticsCallback, DiagnosticsWarning
from textgym.sb3.logging import RewardTermsCallback
from textgym.sb3.policy import LMPolicy
from textgym.sb3.replay.buffer import LMReplayBuffer
from textgym.sb3.replay.priorities import td_errors
from textgym.sb3.schedules import WarmupSchedule
from textgym.sb3.topk.features import TopKFeatures
from textgym.sb3.topk.policy import TopKPolicy
from textgym.sb3.vec_env import TextVecEnv, make_vec_env

__all__ = [
    "Checkpoints",
    "DiagnosticsCallback",
    "DiagnosticsWarning",
    "LMPolicy",
    "LMReplayBuffer",
    "LMRolloutBuffer",
    "RewardTermsCallback",
    "TextVecEnv",
    "TopKFeatures",
    "TopKPolicy",
    "WarmupSchedule",
    "check_resumable",
    "keep_kl_coef",
    "latest_checkpoint",
    "load_agent",
    "load_checkpoint",
    "make_vec_env",
    "resume",
    "save_checkpoint",
    "td_errors",
]
