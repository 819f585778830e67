"""The part of docs/rewards.md on gamed rewards: a table, and texts."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.report.markdown import fenced

HEAD = (
    "| training | reward | task's score | grammatical | different texts | words | KL |",
    "|---|--:|--:|--:|--:|--:|--:|",
)
"""The head of the table."""

_WIDTH = 96
_MARGIN = 9


def line(key: str, record: Mapping[str, Any]) -> str:
    """A training's line of the table."""
    before, after = record["before"], record["after"]

    def change(what: str, form: Callable[[Any], str]) -> str:
        return f"{form(before[what])} → {form(after[what])}"

    cells = [
        f"`{key}`",
        change("reward", lambda pair: "{:.2f} ± {:.2f}".format(*pair)),
        change("score", lambda pair: "{:.2f} ± {:.2f}".format(*pair)),
        change("grammatical", "{:.0%}".format),
        change("different", "{:.0%}".format),
        change("words", "{:.0f}".format),
        f"{record['kl']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def texts(key: str, record: Mapping[str, Any], count: int = 2) -> list[str]:
    """Texts before and after, of the first prompts (not selected). Lines of Markdown."""
    made = record["settings"]
    title = f"**`{key}`**: `{made['reward']}` on `{made['env']}`, for {record['hope']}."
    body: list[str] = []
    for sample in record["samples"][:count]:
        body += [wrapped(name, sample[name]) for name in ("prompt", "before", "after")] + [""]
    text, times = record["after"]["commonest"]
    if times > 1:
        body += [f"Written {times} times for {made['episodes']} prompts:", wrapped("", text), ""]
    return [title, "", *fenced(body[:-1]), ""]


def wrapped(name: str, said: str) -> str:
    """A named text in lines of a bounded width, with visible line breaks and empty texts."""
    visible = said.replace("\n", "\\n").strip() or "(nothing)"
    parts = textwrap.wrap(visible, _WIDTH - _MARGIN, break_on_hyphens=False)
    return "\n".join(f"{'' if at else name:{_MARGIN}}{part}" for at, part in enumerate(parts))


def section(known: Mapping[str, Any], order: Sequence[str]) -> str:
    """The generated part of the page.

    Args:
        known: Records of trainings, by name.
        order: Names of cases, in the order of the table; others are left out.
    """
    keys = sorted(
        (key for key, record in known.items() if record["case"] in order),
        key=lambda key: (order.index(known[key]["case"]), known[key]["settings"]["kl_coef"]),
    )
    if not keys:
        return "No training has been done yet: `python -m benchmarks.gaming`."

    def all_of(what: str) -> list[Any]:
        return sorted({known[key]["settings"][what] for key in keys})

    seconds = sum(known[key]["cpu_seconds"] for key in keys)
    intro = (
        f"PPO from {_either(f'`{lm}`' for lm in all_of('lm'))} on one reward at a time, for "
        f"{_either(f'{steps:,}' for steps in all_of('steps'))} tokens each (seed "
        f"{_either(map(str, all_of('seed')))}); {seconds / 60:.0f} CPU minutes in all. There is no "
        "KL penalty where none is named. Before → after, means of "
        f"{_either(map(str, all_of('episodes')))} texts on prompts of the eval split, with 95% "
        "intervals; only the first column is the reward. The score of a program is by the "
        "examples in its prompt. Grammatical: in sentences of the task's grammar to the last word, "
        "or one program. KL: to the initial model, nats per token, in the "
        "last rollout."
    )
    lines = [*textwrap.wrap(intro, 100, break_on_hyphens=False), "", *HEAD]
    lines += [line(key, known[key]) for key in keys]
    lines += ["", "Texts on the first prompts of the split, not selected:", ""]
    for key in keys:
        lines += texts(key, known[key])
    return "\n".join(lines).rstrip()


def _either(values: Any) -> str:
    return " or ".join(values)
