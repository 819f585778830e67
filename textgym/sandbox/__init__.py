"""Untrusted Python programs, run and judged by tests in processes of their own."""

from textgym.sandbox.run import Limits, Verdict, run_tests, sandbox_layers

__all__ = ["Limits", "Verdict", "run_tests", "sandbox_layers"]
