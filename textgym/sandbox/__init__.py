"""Running untrusted Python programs against tests, in separate processes."""

from textgym.sandbox.run import Limits, Verdict, run_tests, sandbox_layers

__all__ = ["Limits", "Verdict", "run_tests", "sandbox_layers"]
