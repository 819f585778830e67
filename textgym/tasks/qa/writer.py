"""Writes a story for a question: a plot, and asides about other people strewn in between."""

from __future__ import annotations

from collections.abc import Callable

from textgym.tasks.qa.cast import Cast, Plan
from textgym.tasks.qa.world import PLOTS, UNANSWERABLE

_SHARES = {1: UNANSWERABLE, 2: UNANSWERABLE, 3: UNANSWERABLE / 2}
"""Plots that leave the question open; some of the others at level 3 do so now and then."""

_LENGTHS = {1: 5, 2: 6, 3: 6}
"""Sentences, if the chain is not longer."""


def write(level: int, draw: Callable[[], float]) -> tuple[str, Plan]:
    """A story, and the plan that it follows.

    Args:
        level: 1 to 3.
        draw: Random numbers in [0, 1), at most 64 of them.
    """
    cast = Cast(draw)
    answered, unanswered = PLOTS[level]
    kinds = unanswered if draw() < _SHARES[level] else answered
    plan = kinds[int(draw() * len(kinds))](cast)
    story = list(plan.chain)
    others = cast.name(), cast.name()
    at = 0
    for _ in range(_LENGTHS[level] - int(draw() * 2) - len(story)):
        at += int(draw() * (len(story) + 1 - at))
        story.insert(at, cast.aside(others[int(draw() * 2)]))
        at += 1
    return " ".join(story), plan
