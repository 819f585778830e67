"""Our own agents on the suite ``quick``, for the report pages and the README's table.

    python -m benchmarks results --only quick --only quick_long

``quick`` has two pages: agents on all six tasks, and more agents on three of them. ``quick_long``
has the agents that learn fastest, for four times as many tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from benchmarks.campaign.provenance import mark
from benchmarks.campaign.study import Findings, Scale, Study
from benchmarks.report import statistics as st
from benchmarks.report.cells import read_cells
from benchmarks.report.page import report
from benchmarks.report.summary import Summary
from benchmarks.report.tables import with_interval
from benchmarks.suites.runner import Options, Plan, make_plans
from benchmarks.suites.store import CELLS, Record
from textgym.storage.files import write_text

ALL_TASKS = {
    "random_tokens": "",
    "oracle": "",
    "lm": "textgym/tiny as it is, sampled",
    "lm --sampling greedy": "its likeliest texts",
    "ppo": "",
    "grpo": "",
    "reinforce": "",
    "nlpo": "",
    "rloo": "",
    "a2c": "",
    "dqn_topk": "chooses among its proposals",
    "best_of_n": "asks the reward at every prompt, learns nothing",
}
"""Agents on all tasks of quick, with a remark for the README."""

SOME_TASKS = (
    "sft",
    "expert_iteration",
    "dpo",
    "maskable_ppo --no-repeat-ngram 3",
    "ppo --no-whole-episodes",
    "dqn_topk --algorithm qrdqn",
    "q_learning",
)
"""Agents on `FEW` alone."""

FEW = tuple(f"TextGen/{name}-v0" for name in ("Sentiment", "Summarize", "QA"))
FAST = ("ppo", "grpo", "reinforce")
"""Agents of quick-long."""

CPU_SECONDS = {
    "random_tokens": 10, "oracle": 10, "lm": 20, "lm --sampling greedy": 20, "ppo": 120,
    "grpo": 100, "reinforce": 75, "nlpo": 160, "rloo": 75, "a2c": 90, "dqn_topk": 110,
    "best_of_n": 110,
}  # fmt: skip
"""Estimates for a cell of quick."""


def quick_plans(scale: Scale) -> list[Plan]:
    """The cells of both pages."""
    if scale.smoke:
        return _plans(scale, "smoke", ("lm", "ppo"))
    return _plans(scale, "quick", tuple(ALL_TASKS)) + _plans(scale, "quick", SOME_TASKS, FEW)


def quick_long_plans(scale: Scale) -> list[Plan]:
    """The cells of the agents that learn fastest."""
    return _plans(scale, *(("smoke", ("ppo",)) if scale.smoke else ("quick-long", FAST)))


def _plans(
    scale: Scale, suite: str, agents: tuple[str, ...], only: tuple[str, ...] = ()
) -> list[Plan]:
    seeds = scale.choose(1, 5)
    return make_plans(Options(suite, agents, seeds, out=scale.runs, only=only))


def write_quick(findings: Findings) -> None:
    """Write both report pages, and the README's table."""
    everywhere = [one for one in findings.records if one["agent"] not in SOME_TASKS]
    pages(findings, "quick", everywhere)
    few = [one for one in findings.records if one["env"] in FEW]
    pages(findings, "agents", few if any(one["agent"] in SOME_TASKS for one in few) else [])
    findings.fill("README.md", "quick", readme(findings, "quick", ALL_TASKS))


def write_quick_long(findings: Findings) -> None:
    """Write the report page, and the README's table."""
    pages(findings, "quick-long", findings.records)
    remarks = dict.fromkeys(FAST, "")
    findings.fill("README.md", "quick-long", readme(findings, "quick-long", remarks))


def pages(findings: Findings, name: str, records: Sequence[Record]) -> None:
    """Write the cells and their report; without cells, remove those of an earlier model."""
    folder = findings.out / "benchmarks" / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    page = f"benchmarks/results/{name}/report.md"
    if not records:
        findings.write(page, f"# Benchmark: {name}\n")
        return
    write_text(folder / CELLS, "".join(json.dumps(record) + "\n" for record in records))
    report(folder, folder)
    # The commands on the page are for the root of a checkout.
    short = f"benchmarks/results/{name}"
    texts = [(folder / f"report.{end}").read_text("utf-8") for end in ("md", "html")]
    markdown, html = (text.replace(str(folder), short) for text in texts)
    findings.write(page, markdown)
    write_text(folder / "report.html", f"{html.rstrip()}\n{mark()}\n")


def readme(findings: Findings, name: str, remarks: Mapping[str, str]) -> str:
    """The interquartile means of the agents, the best last."""
    folder = findings.out / "benchmarks" / "results" / name
    if not (folder / CELLS).is_file():
        return ""
    cells, _ = read_cells(folder)
    summary = Summary(cells)
    known = [agent for agent in summary.scoring if agent in remarks and agent != "oracle"]
    if not summary.common:
        return ""
    found = {agent: summary.over(agent, summary.common, st.iqm) for agent in known}
    spent = {
        agent: [float(cell.record["cpu_seconds"]) for cell in summary.of(agent=agent)]
        for agent in known
    }
    lines = ["| | IQM, 95% interval | CPU minutes a run |", "| --- | --- | ---: |"]
    for agent in sorted(known, key=lambda agent: found[agent].value):
        title = f"`{agent}`" + (f": {remarks[agent]}" if remarks[agent] else "")
        minutes = sum(spent[agent]) / len(spent[agent]) / 60
        lines.append(f"| {title} | {with_interval(found[agent])} | {minutes:.1f} |")
    return "\n".join(lines)


def seconds(plan: Plan) -> float:
    """An estimate of a cell's CPU seconds."""
    times = 4 if plan.key.suite == "quick-long" else 1
    return float(times * CPU_SECONDS.get(plan.key.agent, 110))


STUDIES = {
    "quick": Study(
        name="quick",
        title="our agents on the suite quick, five seeds",
        plans=quick_plans,
        write=write_quick,
        seconds=seconds,
        measure=None,
        pages=(
            "benchmarks/results/quick/report.md",
            "benchmarks/results/agents/report.md",
            "README.md",
        ),
    ),
    "quick_long": Study(
        name="quick_long",
        title="PPO, GRPO and REINFORCE on quick-long (65,536 tokens), five seeds",
        plans=quick_long_plans,
        write=write_quick_long,
        seconds=seconds,
        measure=None,
        pages=("benchmarks/results/quick-long/report.md", "README.md"),
    ),
}
