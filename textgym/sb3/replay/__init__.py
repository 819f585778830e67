"""Replay buffer for the off-policy algorithms of Stable-Baselines3.

:mod:`~textgym.sb3.replay.buffer` has `LMReplayBuffer`; :mod:`~textgym.sb3.replay.priorities` and
:mod:`~textgym.sb3.replay.sum_tree` are for prioritized sampling.
"""

from textgym.sb3.replay.buffer import LMReplayBuffer

__all__ = ["LMReplayBuffer"]
