"""Replay buffers for the off-policy algorithms of Stable-Baselines3."""

from textgym.sb3.replay.buffer import LMReplayBuffer

__all__ = ["LMReplayBuffer"]
