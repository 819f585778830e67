"""Wrong programs, made from a right one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import numpy as np

_BODIES = (
    "raise StopIteration",
    "raise SystemExit",
    "raise SystemExit(0)",
    "raise KeyboardInterrupt",
    "raise GeneratorExit",
    "raise AssertionError",
    "raise Exception",
    "raise BaseException",
    "raise StopAsyncIteration",
    "pass",
    "return None",
    "return NotImplemented",
    "return ...",
    "return float('nan')",
    "return (yield)",
    "exit()",
    "quit()",
    "import os; os._exit(0)",
    "import sys; sys.exit(0)",
    "while True: pass",
    "return f",
    "return type('E', (), {'__eq__': lambda a, b: True, '__hash__': lambda a: 0})()",
    "return type('I', (int,), {'__eq__': lambda a, b: True, '__hash__': lambda a: 0})()",
)
"""Bodies without an answer."""

_AFTER = (
    "raise SystemExit",
    "raise SystemExit(0)",
    "raise StopIteration",
    "import os; os._exit(0)",
    "assert False",
    "while True: pass",
)
"""Statements after a program that prevent its use."""


def is_code(text: str) -> bool:
    """Whether a text is a Python program rather than prose."""
    return _functions(text) is not None


def _functions(text: str) -> list[ast.FunctionDef] | None:
    try:
        tree = ast.parse(text.strip("\n"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return found or None


def code_mutations(oracle: str, rng: np.random.Generator) -> Iterator[str]:
    """Programs with other names, without a body, that exit early, or that undo themselves.

    Args:
        oracle: A right program; other texts have no such mutations.
        rng: The source of randomness.
    """
    functions = _functions(oracle)
    if not functions:
        return
    source = oracle.strip("\n")
    lead = oracle[: len(oracle) - len(oracle.lstrip("\n"))]
    last = functions[-1]
    arguments = ast.unparse(last.args)
    for body in _BODIES:
        yield f"{lead}def {last.name}({arguments}):\n    {body}"
    for name in ("g", "solution", f"{last.name}2", "walrus"):
        renamed = ast.parse(source)
        for node in ast.walk(renamed):
            if isinstance(node, ast.FunctionDef) and node.name == last.name:
                node.name = name
            elif isinstance(node, ast.Name) and node.id == last.name:
                node.id = name
        yield f"{lead}{ast.unparse(renamed)}"
        yield f"{lead}{source.replace(f'def {last.name}(', f'def {name}(', 1)}"
    for statement in _AFTER:
        yield f"{lead}{source}\n{statement}"
        yield f"{lead}{statement}\n{source}"
    for body in ("return None", "raise StopIteration", "pass"):
        yield f"{lead}{source}\n\ndef {last.name}({arguments}):\n    {body}"
    yield f"{lead}{source}\n{last.name} = None"
    yield f"{lead}{source}\ndel {last.name}"
    yield f"{lead}if False:\n" + "\n".join([f"    {line}" for line in source.split("\n")])
    yield f'{lead}"""\n{source}\n"""'
    yield lead + "\n".join([f"# {line}" for line in source.split("\n")])
    yield f"{lead}{source}\n    )(]"
    yield f"{lead}{source.replace('return', 'retrun')}"
    yield f"{lead}class {last.name}: pass"
