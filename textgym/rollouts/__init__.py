"""Whole episodes from any ``VecEnv`` and policy, for agents that learn from whole texts.

:func:`collect` writes them, and :class:`Episodes` holds them: texts, actions, log-probabilities and
rewards, ready for ``LMPolicy.evaluate_actions``. REINFORCE in a few lines::

    import torch
    from textgym.rollouts import collect
    from textgym.sb3 import LMPolicy, make_vec_env

    venv = make_vec_env("TextGen/Sentiment-v0", n_envs=16, seed=0)
    policy = LMPolicy(venv.observation_space, venv.action_space, lambda _: 1e-3)
    for _ in range(2):
        episodes = collect(venv, policy)
        advantages = torch.from_numpy(episodes.returns - episodes.returns.mean()).float()
        policy.set_training_mode(True)
        _, log_probs, _ = policy.evaluate_actions(episodes.sequences, episodes.actions)
        loss = -(advantages[episodes.owners] * log_probs).sum() / len(episodes)
        policy.optimizer.zero_grad()
        loss.backward()
        policy.optimizer.step()
"""

from __future__ import annotations

from textgym.rollouts.collect import Rollout, Step, collect
from textgym.rollouts.episodes import Episodes

__all__ = ["Episodes", "Rollout", "Step", "collect"]
