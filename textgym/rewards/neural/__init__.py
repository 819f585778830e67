"""Rewards that run a neural network; the rest of :mod:`textgym.rewards` does not import torch."""
