"""Model, commit, machine and versions of a figure.

Figures of textgym/tiny hold for its present weights alone. So results are kept apart by a hash of
the weights, and every page with such figures has the hash in a comment (:func:`mark`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import textgym
from textgym.tokenization import TINY, TINY_DIR

ROOT = Path(__file__).parents[2]
"""The checkout."""

_MARK = re.compile(rf"{re.escape(TINY)} sha256:([0-9a-f]{{64}})")


def model_hash(folder: Path = TINY_DIR) -> str:
    """SHA-256 of the weights of a model: of its .safetensors files, one after the other by name."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def measured_with() -> str:
    """The name and the hash of the model, for records."""
    return f"{TINY} sha256:{model_hash()}"


def mark() -> str:
    """The comment of a page (Markdown or HTML) with figures of the present model."""
    return f"<!-- measured with {measured_with()} -->"


def models_named(text: str) -> set[str]:
    """The hashes of models in the marks of a text."""
    return set(_MARK.findall(text))


@cache
def provenance() -> dict[str, Any]:
    """Commit, machine and versions; only the day is not the same in every call."""
    packages = ("gymnasium", "numpy", "stable-baselines3", "torch", "transformers")
    return {
        "model": model_hash(),
        "commit": _commit(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {
            "textgym": textgym.__version__,
            **{name: version(name) for name in packages},
            "python": platform.python_version(),
        },
        "date": time.strftime("%Y-%m-%d"),
    }


def _commit() -> str | None:
    """The commit of the checkout, with a ``+`` if tracked files other than results differ."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    try:
        other = (".", ":!benchmarks/results")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *other)
        return git("rev-parse", "HEAD")[:12] + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):  # Not a checkout of git.
        return None


def _cpu() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
