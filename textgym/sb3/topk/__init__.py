"""DQN and QR-DQN policies that choose among a language model's proposals.

:mod:`~textgym.sb3.topk.policy` for DQN, :mod:`~textgym.sb3.topk.quantile` for QR-DQN, and
:mod:`~textgym.sb3.topk.features`, the network of both.
"""
