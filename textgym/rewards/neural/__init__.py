"""Rewards that run a neural network: each is imported, with torch, when it is first made.

They stand above the language models (:mod:`textgym.lm`), which some of them read texts with; the
rest of :mod:`textgym.rewards` knows nothing of torch.
"""
