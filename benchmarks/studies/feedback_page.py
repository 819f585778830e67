"""The page and the picture of the study of feedback."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from benchmarks.campaign.study import Findings

matplotlib.use("Agg")
from matplotlib import pyplot as plt

PAGE = "docs/judgements.md"
PICTURE = "docs/judgements.png"

TARGETS = (64, 128, 256)
"""Judgements of random pairs, whose accuracy the other ways to choose have to reach."""

SAVING = 0.5
"""Share of the judgements of random choice that active choice may need."""

GAIN = 0.6
"""Share of the gain of the true reward that 300 judgements have to reach."""

_REPLICATES = 2000
_COLORS = {
    "random": "0.45", "uncertainty": "tab:blue", "thompson": "tab:orange", "dpo": "tab:green"
}  # fmt: skip
# Two-sided 95 % quantiles of Student's t, by degrees of freedom.
_QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}

Floats = NDArray[np.float64]


def sections(findings: Findings) -> list[str]:
    """The lines of the page."""
    lines = ["# How many judgements", ""]
    curves, rewards = curves_of(findings), rewards_of(findings)
    if not curves and not rewards:
        return lines
    lines += [
        "Simulated annotators know the score of a task. They prefer one of two texts by the "
        "Bradley-Terry model: with 73 % the better one if the scores differ by 0.1, and almost "
        "surely if they differ by 0.5. Intervals are 95 %, over the seeds.",
        "",
    ]
    if curves:
        lines += [*_accuracy(curves), ""]
    if rewards:
        lines += [*_rewards(rewards), ""]
    return [*lines, f"![accuracy and reward against judgements]({PICTURE.rpartition('/')[2]})", ""]


Curves = dict[str, dict[str, tuple[list[int], Floats]]]
"""By task and way to choose: the numbers of judgements, the accuracy of each seed ``[S, n]``."""


def curves_of(findings: Findings) -> Curves:
    """The measurements of accuracy."""
    found: Curves = {}
    for record in findings.records:
        kind, _, task = record["experiment"].partition(" ")
        if kind != "accuracy":
            continue
        result, how = record["result"], record["agent"]
        labels, known = found.setdefault(task, {}).get(how, (result["labels"], None))
        row = np.array(result["accuracy"])[None]
        # A pool that is exhausted early has a shorter curve.
        size = min(len(labels), row.shape[1])
        rows = row if known is None else np.concatenate([known[:, :size], row[:, :size]])
        found[task][how] = labels[:size], rows
    return found


Rewards = dict[str, dict[str, list[dict[str, Any]]]]
"""By task and agent: the results of the seeds."""


def rewards_of(findings: Findings) -> Rewards:
    """The trainings."""
    found: Rewards = {}
    for record in findings.records:
        kind, _, task = record["experiment"].partition(" ")
        if kind == "reward":
            found.setdefault(task, {}).setdefault(record["agent"], []).append(record["result"])
    return found


def needed(labels: Sequence[int], accuracy: Floats, target: float) -> float:
    """The number of judgements at which a curve first reaches an accuracy; infinity if never.

    Args:
        labels: Numbers of judgements, rising.
        accuracy: The accuracy at each, which is interpolated.
        target: The accuracy to reach.
    """
    above = np.flatnonzero(accuracy >= target)
    if not len(above):
        return math.inf
    at = int(above[0])
    if at == 0:
        return float(labels[0])
    low, high = accuracy[at - 1], accuracy[at]
    share = (target - low) / (high - low)
    return float(labels[at - 1] + share * (labels[at] - labels[at - 1]))


def saving(
    random: tuple[Sequence[int], Floats], active: tuple[Sequence[int], Floats], count: int
) -> tuple[float, float, float]:
    """The share of the judgements of random choice that another way needs for the same accuracy.

    Args:
        random: The judgements ``[n]`` and accuracies ``[S, n]`` of random choice.
        active: The same of the other way.
        count: Judgements of random choice, one of its numbers.

    Returns:
        The share for the mean curves, and the ends of its 95 % interval: percentiles over seeds
        that are drawn again, of both ways independently.
    """
    at = list(random[0]).index(count)
    rng = np.random.default_rng(count)

    def share(first: Floats, second: Floats) -> float:
        return needed(active[0], second.mean(axis=0), float(first.mean(axis=0)[at])) / count

    found = [
        share(*(rows[rng.integers(len(rows), size=len(rows))] for rows in (random[1], active[1])))
        for _ in range(_REPLICATES)
    ]
    low, high = np.quantile(found, [0.025, 0.975], method="nearest")
    return share(random[1], active[1]), float(low), float(high)


def interval(values: Sequence[float] | Floats) -> tuple[float, float]:
    """The mean, and half of its 95 % interval by Student's t; NaN for a single value."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)), math.nan
    quantile = _QUANTILES.get(count - 1, 1.96)
    return float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(count)


def _accuracy(curves: Curves) -> list[str]:
    """The tables of accuracy, and the verdict on active choice."""
    lines = [
        "## Accuracy of the reward",
        "",
        "The policy is `textgym/tiny`, and pairs are chosen in rounds of 16 from a pool of its "
        "texts. Share of the pairs of other texts of which the reward finds the one better that "
        "has the higher score.",
        "",
    ]
    wins: dict[str, list[bool]] = {}
    for task, ways in curves.items():
        common = set.intersection(*(set(labels) for labels, _ in ways.values()))
        shown = sorted(common & {16, *TARGETS, 512})
        heads = " | ".join(f"{count} judgements" for count in shown)
        lines += [f"`{task}`:", "", f"| pairs | {heads} |", "| --- |" + " ---: |" * len(shown)]
        for how, (labels, rows) in ways.items():
            cells = [_cell(*interval(rows[:, list(labels).index(count)])) for count in shown]
            lines.append(f"| {how} | {' | '.join(cells)} |")
        lines.append("")
        if "random" not in ways:
            continue
        targets = [count for count in TARGETS if count in ways["random"][0]]
        for how in (how for how in ways if how != "random"):
            found = [saving(ways["random"], ways[how], count) for count in targets]
            said = ", ".join(
                f"{_share(value)} [{_share(low)}, {_share(high)}] of {count}"
                for count, (value, low, high) in zip(targets, found, strict=True)
            )
            lines.append(f"* For the accuracy of random choice, `{how}` needs {said} judgements.")
            wins.setdefault(how, []).append(bool(found) and found[-1][0] <= SAVING)
        lines.append("")
    for how, won in wins.items():
        verdict = "" if sum(won) >= 2 else "**not** "
        lines.append(
            f"* For the accuracy of the largest number in the list, `{how}` needs at most half of "
            f"the judgements of random choice on {sum(won)} of {len(won)} tasks, so {verdict}on at "
            "least two."
        )
    return lines


def _rewards(rewards: Rewards) -> list[str]:
    """The tables of true scores after training."""
    lines = [
        "## Reward reached",
        "",
        "True score on evaluation prompts before and after training on a number of judgements, "
        "and the share of the gain of PPO on the true score. `dpo` learns from random pairs of the "
        "initial policy's texts.",
        "",
    ]
    for task, agents in rewards.items():
        full = _gain(agents["ppo"]) if "ppo" in agents else math.nan
        lines += [
            f"`{task}`:",
            "",
            "| agent | judgements | before | after | share of the gain |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for name, runs in sorted(agents.items(), key=_by_labels):
            way, _, count = name.partition(" ")
            before = float(np.mean([np.mean(run["before"]) for run in runs]))
            after = interval(_means(runs))
            share = _gain(runs) / full if full else math.nan
            said = "" if math.isnan(share) else f"{share:.0%}"
            what = "PPO on the true score" if way == "ppo" else way
            lines.append(f"| {what} | {count} | {before:.3f} | {_cell(*after)} | {said} |")
        lines.append("")
        best = max(
            (_gain(runs) / full for name, runs in agents.items() if name.endswith(" 300")),
            default=math.nan,
        )
        if "Sentiment" in task and not math.isnan(best):
            verdict = "reach" if best >= GAIN else "do **not** reach"
            lines += [f"300 judgements {verdict} {GAIN:.0%} of the gain: {best:.0%}.", ""]
    return lines


def picture(findings: Findings) -> bytes | None:
    """Accuracy and reward against the number of judgements, a column for each task."""
    curves, rewards = curves_of(findings), rewards_of(findings)
    tasks = list(dict.fromkeys([*curves, *rewards]))
    if not tasks:
        return None
    size = (3.6 * len(tasks) + 0.4, 5.6)
    figure, axes = plt.subplots(2, len(tasks), figsize=size, layout="constrained", squeeze=False)
    for column, task in enumerate(tasks):
        top, bottom = axes[:, column]
        top.set_title(task.removeprefix("TextGen/").removesuffix("-v0"))
        for how, (labels, rows) in curves.get(task, {}).items():
            means, errors = np.array([interval(each) for each in rows.T]).T
            top.plot(labels, means, color=_COLORS[how], label=how)
            top.fill_between(labels, means - errors, means + errors, color=_COLORS[how], alpha=0.15)
        agents = rewards.get(task, {})
        for how, color in _COLORS.items():
            points = sorted(
                (int(name.partition(" ")[2]), *interval(_means(runs)))
                for name, runs in agents.items()
                if name.startswith(f"{how} ")
            )
            if points:
                counts, means, errors = np.array(points).T
                style: dict[str, Any] = {"color": color, "marker": "o", "capsize": 2}
                bottom.errorbar(counts, means, errors, label=how, **style)
        if "ppo" in agents:
            level = float(np.mean(_means(agents["ppo"])))
            bottom.axhline(level, color="0.2", linestyle="--", label="PPO on the true score")
        top.set_xlabel("judgements")
        bottom.set_xlabel("judgements")
        bottom.set_xscale("log")
    axes[0, 0].set_ylabel("accuracy on other pairs")
    axes[1, 0].set_ylabel("true score after training")
    handles = {
        label: handle
        for each in axes.flat
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=5, fontsize="small")
    data = io.BytesIO()
    figure.savefig(data, dpi=120, format="png")
    plt.close(figure)
    return data.getvalue()


def _means(runs: Sequence[dict[str, Any]]) -> list[float]:
    """The mean score of each run after training."""
    return [float(np.mean(run["after"])) for run in runs]


def _gain(runs: Sequence[dict[str, Any]]) -> float:
    return float(np.mean([np.mean(run["after"]) - np.mean(run["before"]) for run in runs]))


def _by_labels(entry: tuple[str, Any]) -> tuple[int, str]:
    way, _, count = entry[0].partition(" ")
    return int(count or 10**9), way


def _cell(mean: float, error: float) -> str:
    return f"{mean:.3f}" if math.isnan(error) else f"{mean:.3f} ± {error:.3f}"


def _share(value: float) -> str:
    return "more than all" if math.isinf(value) else f"{value:.0%}"
