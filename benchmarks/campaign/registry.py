"""The studies, by the names of their modules in ``benchmarks/studies/``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from benchmarks.campaign.study import Study
from textgym.errors import SettingsError, near_matches

STUDIES = {
    "demo": "demo",
    "improvement": "improvement",
    "warm_start": "warm_start",
    "trl": "trl",
    "real_model": "real_model",
    "quick": "suites",
    "quick_long": "suites",
    "topk": "topk",
    "feedback": "feedback",
    "long_run": "long_run",
    "gaming": "gaming_study",
    "tasks": "scripts",
    "preferences": "scripts",
    "adversarial": "scripts",
    "rewards": "scripts",
}
"""The modules of the studies, by name, in the order in which they are measured."""


def study(name: str) -> Study:
    """The study of a name: an entry of ``STUDIES`` in its module.

    Raises:
        SettingsError: If there is no such study (with near matches).
    """
    if name not in STUDIES:
        raise SettingsError(
            f"--only {name}: there is no such study{near_matches(name, STUDIES)}; "
            f"studies: {', '.join(STUDIES)}"
        )
    found: Study = import_module(f"benchmarks.studies.{STUDIES[name]}").STUDIES[name]
    return found


def studies(names: Sequence[str] = ()) -> list[Study]:
    """The studies of some names, or all."""
    return [study(name) for name in dict.fromkeys(names or STUDIES)]
