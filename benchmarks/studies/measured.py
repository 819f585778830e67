"""PPO that measures the KL to the initial model, also without a penalty on it."""

from __future__ import annotations

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from agents import ppo
from textgym.sb3 import LMRolloutBuffer


def make_agent(venv: VecEnv, seed: int, settings: ppo.Settings) -> PPO:
    """The agent of `agents.ppo`; with a KL coefficient of 0, its reference model only measures."""
    agent = ppo.make_agent(venv, seed, settings)
    if settings.kl_coef == 0.0:
        options = {**agent.rollout_buffer_kwargs, "reference": agent.policy_kwargs["lm"]}
        agent.rollout_buffer = LMRolloutBuffer(
            agent.n_steps,
            agent.observation_space,
            agent.action_space,
            device=agent.device,
            gamma=agent.gamma,
            gae_lambda=agent.gae_lambda,
            n_envs=agent.n_envs,
            **options,
        )
    return agent
