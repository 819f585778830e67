"""Agents to run, read and copy, one file per algorithm; ``python -m agents`` lists them.

Each file has the agent's hyperparameters, a dataclass ``Settings``, and its algorithm, or the call
of the library that has the algorithm. The code around a run (command line, evaluation, logs,
checkpoints) is in ``agents/running/`` and is not needed to understand an algorithm.

This package is not part of the wheel; it runs from a checkout.
"""

import textgym.moved  # noqa: F401  # old names, such as agents.common, can be imported
