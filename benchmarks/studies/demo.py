"""The demo and the README's own agent: what a newcomer sees first, for the README.

    python -m benchmarks results --only demo

``make demo`` with three seeds, and the agent of the README's section "Your own agent" by the
command that is given there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agents import demo, ppo
from benchmarks.campaign.agent_runs import SAMPLES, results_of, run_in, samples_of
from benchmarks.campaign.provenance import ROOT
from benchmarks.campaign.study import Findings, Scale, Study, as_bytes, as_text, job
from benchmarks.report.markdown import fenced
from benchmarks.suites.runner import Plan
from benchmarks.suites.store import Record

NAME = "demo"
README_AGENT = ("--steps", "32768", "--n-envs", "64")
"""The flags of the README's agent."""

_SMOKE = ("--steps", "512", "--n-envs", "16", "--eval-episodes", "16")
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TASK = ("TextGen/Sentiment-v0", None)


def plans(scale: Scale) -> list[Plan]:
    """The demo with some seeds, and the README's agent."""
    changed = scale.choose({"steps": 512, "n_envs": 16, "eval_episodes": 16}, {})
    runs = [
        job(NAME, "make demo", "ppo", seed, {"seed": seed, **changed}, _TASK)
        for seed in range(scale.choose(1, 3))
    ]
    flags = {"flags": [*README_AGENT, *scale.choose(_SMOKE, ())]}
    return [*runs, job(NAME, "README.md", "my_agent", 0, flags, _TASK)]


def measure(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Do a run."""
    if "flags" in spec:
        return _readme_agent(spec["flags"], scratch)
    settings = replace(demo.SETTINGS, **spec)
    folder = run_in(scratch, "demo", settings, ppo.make_agent)
    samples = samples_of(folder)
    return {
        **results_of(folder),
        **dict(zip(("grammatical_before", "grammatical_after"), demo.grammar(folder), strict=True)),
        "samples": samples[:SAMPLES],
        "curve": as_text((folder / "curve.png").read_bytes()),
    }


def _readme_agent(flags: list[str], scratch: Path) -> dict[str, Any]:
    """Run the agent of the README by its command line."""
    blocks = _BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
    (code,) = [block for block in blocks if 'command_line("my_agent"' in block]
    (scratch / "my_agent.py").write_text(code, "utf-8")
    subprocess.run(
        [sys.executable, "my_agent.py", *flags],
        cwd=scratch,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return results_of(max(scratch.glob("runs/*/run.json")).parent)


def write(findings: Findings) -> None:
    """Fill in the README, and draw the curve."""
    demos = findings.of("make demo")
    first = [record for record in demos if record["seed"] == 0]
    data = as_bytes(first[0]["result"]["curve"]) if first else None
    findings.picture("docs/curve.png", data)
    findings.fill("README.md", "demo", "\n".join(_demo(demos)) if first else "")
    own = [_change(record["result"]) for record in findings.of("README.md")]
    text = f"The reward goes {own[0]} in {_cpu(findings.of('README.md')[0])}." if own else ""
    findings.fill("README.md", "my-agent", text)


def _demo(demos: list[Record]) -> list[str]:
    """The output of the demo, abridged, and what other seeds do."""
    result = demos[0]["result"]
    before, after = (result[f"eval_{when}"] for when in ("before", "after"))
    lines = [
        f"reward before training {_mean(before)} (eval prompts)",
        *_columns(result["samples"][0]),
        "...",
        f"reward before {_mean(before)}, after {_mean(after)} "
        f"(mean of {demos[0]['kwargs'].get('eval_episodes', demo.SETTINGS.eval_episodes)} eval "
        "prompts, 95% confidence interval)",
        f"{result['steps']:,} tokens in {result['cpu_seconds']:.0f} CPU s",
        f"grammatical to the last word: {result['grammatical_before']:.0%} of the texts before, "
        f"{result['grammatical_after']:.0%} after",
    ]
    text = fenced(lines, "")
    if len(demos) > 1:
        means = ", ".join(f"{one['result']['eval_after']['mean']:.2f}" for one in demos)
        shares = ", ".join(f"{one['result']['grammatical_after']:.0%}" for one in demos)
        seconds = np.median([one["result"]["cpu_seconds"] for one in demos])
        text += [
            "",
            f"(abridged; the rewards after training of {len(demos)} seeds are {means}, with "
            f"{shares} of the texts grammatical, in {seconds:.0f} CPU seconds of training on one "
            "core). The learning curve:",
        ]
    return [*text, "", "![reward during the demo](docs/curve.png)"]


def _columns(sample: Mapping[str, Any], width: int = 25) -> list[str]:
    """A sample as the columns that a run prints."""
    columns = [textwrap.wrap(sample["prompt"].strip(), width)]
    for when in ("before", "after"):
        text = textwrap.wrap(sample[when].strip(), width)
        columns.append([*text, f"({sample[f'reward_{when}']:.2f})"])
    height = max(map(len, columns))
    heads = ["prompt", "before training", "after training"]
    rows = [
        heads,
        *zip(*(column + [""] * (height - len(column)) for column in columns), strict=True),
    ]
    return ["│ " + " │ ".join(f"{cell:{width}}" for cell in row) + " │" for row in rows]


def _mean(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.3f} ± {found['ci95']:.3f}"


def _change(result: Mapping[str, Any]) -> str:
    before, after = (result[f"eval_{when}"]["mean"] for when in ("before", "after"))
    return f"from {before:.2f} to {after:.2f}"


def _cpu(record: Record) -> str:
    return f"{record['result']['cpu_seconds']:.0f} CPU seconds"


STUDIES = {
    NAME: Study(
        name=NAME,
        title="make demo, three seeds, and the README's own agent",
        plans=plans,
        write=write,
        seconds=lambda plan: 150.0,
        measure=measure,
        pages=("README.md", "docs/curve.png"),
    )
}
