"""How fast every registered reward judges texts of about 20 words.

    python -m benchmarks.rewards
    python -m benchmarks.rewards --texts 64 --only rouge bleu

Each reward judges the same texts in batches of 256 and one by one, and, if it has a cache, the
batches a second time. CPU time is that of this process (its server thread included) and of the
processes that it ends; the median of the repeats counts. A second table times rewards that wait for
a server: in one sum they wait together.

Writes benchmarks/results/rewards.md, unless only some rewards are measured.
"""

from __future__ import annotations

import inspect
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from agents.running.command_line import command_line
from benchmarks.studies.reward_cases import (
    ScoreServer,
    Texts,
    Workshop,
    options_of,
    prose,
    rows_for,
)
from textgym.errors import MissingDependencyError
from textgym.rewards import RewardFunction, RewardSum, make_reward, registered_rewards
from textgym.rewards.remote.http_scorer import HttpScorer
from textgym.storage.files import write_text

_BATCH = 256


@dataclass
class Settings:
    """Settings of the measurement."""

    texts: int = 512
    """Texts that each reward judges in batches."""
    alone: int = 64
    """Texts that it judges one by one."""
    only: tuple[str, ...] = ()
    """Rewards to measure, and no file is written then. Default: all."""
    repeats: int = 3
    """Measurements; the median counts."""
    seed: int = 0
    """Of the texts."""
    device: str = "cpu"
    """Device of the models. CPU times say little about another one."""
    threads: int = 1
    """CPU threads of torch."""
    out: Path = Path("benchmarks/results")
    """Folder for rewards.md."""


class Speed(NamedTuple):
    """Texts per second."""

    cpu: float
    wall: float

    @classmethod
    def median(cls, runs: Sequence[Speed]) -> Speed:
        """The median of each clock."""
        return cls(
            statistics.median(run.cpu for run in runs), statistics.median(run.wall for run in runs)
        )


@dataclass(frozen=True)
class Line:
    """The measurements of a reward.

    Attributes:
        name: Its registered name.
        range: Its range, and `needs` its requirements, from its docstring.
        batch: Speed in batches.
        alone: Speed of calls with a single text.
        again: Speed in batches of texts that were judged before; None if it has no cache.
        size: Texts of its batches, at most.
        words: Words of a text, on average.
    """

    name: str
    range: str
    needs: str
    batch: Speed
    alone: Speed
    again: Speed | None
    size: int
    words: float


def main(settings: Settings) -> None:
    """Measure, print and write."""
    torch.set_num_threads(settings.threads)
    lines: list[Line] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, ScoreServer() as server:
        shop = Workshop(Path(folder), server, settings.device)
        print(_HEAD)
        for name in settings.only or registered_rewards():
            make = partial(make_reward, name, **options_of(name, shop))
            try:
                lines.append(measure(name, make, settings))
                print(row_of(lines[-1]), flush=True)
            except MissingDependencyError as error:
                missing[name] = str(error)
        waits: dict[str, float] = {} if settings.only else waiting(server, settings.seed)
    for name, error_text in missing.items():
        print(f"not measured: {name}: {error_text}")
    if settings.only:
        return
    text = page(settings, lines, missing, waits)
    print(text[text.index("## ") :])
    settings.out.mkdir(parents=True, exist_ok=True)
    write_text(settings.out / "rewards.md", text)
    print(f"wrote {settings.out / 'rewards.md'}")


def measure(name: str, make: Callable[[], RewardFunction], settings: Settings) -> Line:
    """Time a reward; each repeat makes a new one, which has not seen the texts."""
    texts = rows_for(name, settings.texts, settings.seed)
    warm = rows_for(name, 1, settings.seed + 1)
    first = make()
    call(first, warm)  # Models stay loaded as long as one reward holds them.
    size = min(_BATCH, len(texts.prompts))
    cold: list[Speed] = []
    again: list[Speed] = []
    alone: list[Speed] = []
    few = texts.part(0, min(settings.alone, len(texts.prompts)))
    for _ in range(settings.repeats):
        reward = make()
        call(reward, warm)
        cold.append(speed_of(reward, texts, size))
        if remembers(reward):
            again.append(speed_of(reward, texts, size))
        reward = make()
        call(reward, warm)
        alone.append(speed_of(reward, few, 1))
    document = inspect.getdoc(type(first)) or ""
    return Line(
        name=name,
        range=clause(document, "Range"),
        needs=clause(document, "Needs"),
        batch=Speed.median(cold),
        alone=Speed.median(alone),
        again=Speed.median(again) if again else None,
        size=size,
        words=statistics.fmean(len(text.split()) for text in texts.completions),
    )


def remembers(reward: object) -> bool:
    """Whether a reward keeps results of texts, references or grades."""
    return bool(getattr(reward, "cache_size", 0) or getattr(reward, "cache", 0))


def call(reward: Any, texts: Texts) -> Any:
    """Judge texts."""
    return reward(texts.prompts, texts.completions, **texts.columns)


def speed_of(reward: RewardFunction, texts: Texts, size: int) -> Speed:
    """Judge texts in batches of a size, and take the time."""
    parts = [texts.part(at, at + size) for at in range(0, len(texts.prompts), size)]
    cpu, wall = cpu_seconds(), time.perf_counter()
    for part in parts:
        call(reward, part)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    return Speed(len(texts.prompts) / max(cpu, 1e-9), len(texts.prompts) / wall)


def cpu_seconds() -> float:
    """CPU time of this process, and of the processes that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def clause(document: str, heading: str) -> str:
    """The text after ``Range:`` or ``Needs:`` in a reward's docstring."""
    match = re.search(rf"^{heading}: (.*?)(?=^\w+: |^$|\Z)", document, re.M | re.S)
    if match is None:
        return "not said"
    said = " ".join(match[1].split()).replace("``", "`")
    if heading == "Range":
        said = re.split(r"[,;.:]? [Hh]igher is better|; (?:how|mostly)", said)[0]
    return said.rstrip(".")


def waiting(server: ScoreServer, seed: int, seconds: float = 0.2) -> dict[str, float]:
    """Seconds of two rewards that wait for a server, of one that computes, and of their sum."""
    texts = prose(_BATCH, seed)
    url = f"{server.url}/slow/{seconds}"
    first, second, local = HttpScorer(url), HttpScorer(url), make_reward("parent")
    together = RewardSum({first: 1.0, second: 1.0, local: 1.0}, "benchmark")
    found: dict[str, float] = {}
    for name, reward in {"`http`": first, "another `http`": second, "`parent`": local}.items():
        found[name] = seconds_of(partial(call, reward, texts))
    found["one after the other"] = sum(found.values())
    found["in one `RewardSum`"] = seconds_of(
        partial(together, texts.prompts, texts.completions, texts.columns)
    )
    return found


def seconds_of(work: Callable[[], object], repeats: int = 3) -> float:
    """Median wall time of a call."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


# -- the page --------------------------------------------------------------------------------------


def row_of(line: Line) -> str:
    """A line of the table."""
    numbers = [line.batch.cpu, line.batch.wall, line.alone.cpu, line.alone.wall]
    name = f"`{line.name}`" + (f" (batches of {line.size})" if line.size < _BATCH else "")
    cells = [name, line.range, *map(rate, numbers)]
    cells += ["" if line.again is None else rate(line.again.cpu), line.needs]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def rate(number: float) -> str:
    """A number with two figures that count: more would promise what no run keeps."""
    if number < 10:
        return f"{number:.1f}"
    return f"{float(f'{number:.2g}'):,.0f}"


def page(
    settings: Settings, lines: Sequence[Line], missing: dict[str, str], waits: dict[str, float]
) -> str:
    """The whole file."""
    prose_lines = [line for line in lines if line.name != "unit_tests"] or lines
    words = statistics.fmean(line.words for line in prose_lines)
    text = [_PAGE.format(command=_command(settings), words=words, batch=_BATCH), _HEAD]
    text += map(row_of, lines)
    if missing:
        text += ["", "Not measured, as a package is missing:", ""]
        text += [f"* `{name}`: {error}" for name, error in missing.items()]
    if waits:
        text += ["", _WAITS.format(batch=_BATCH)]
        text += [f"| {name} | {seconds:.2f} |" for name, seconds in waits.items()]
    return "\n".join(text) + "\n"


def _command(settings: Settings) -> str:
    flags = [
        f" --{name} {value}"
        for name, value in vars(settings).items()
        if name not in ("out", "only") and value != getattr(Settings(), name)
    ]
    return "python -m benchmarks.rewards" + "".join(flags)


_HEAD = """\
| reward | range | texts/s in a batch, CPU | wall | alone, CPU | wall | known texts, CPU | needs |
|---|---|--:|--:|--:|--:|--:|---|"""

_PAGE = """\
# How fast the rewards are

By `{command}`.

Texts a second, of {words:.0f} words on average, in batches of {batch} and alone (a call for each),
by CPU time and by wall time. Other programs used the CPU, too: quote the CPU time. Known texts were
judged before: `fluency`, `classifier`, `reward_model` and `judge` remember the texts, `similarity`
and `bertscore` the references alone.

Models are of the size of `textgym/tiny` (`classifier` and `reward_model` with random weights); a
larger one costs in proportion to its weights. `http` and `judge` ask a server in this very process
that answers at once: what is measured is what asking costs, on both sides. `adversarial` learns
from each text that it judges. `unit_tests` runs programs with two tests each.
"""

_WAITS = """\
## Rewards that wait

Wall seconds for a batch of {batch} texts: two rewards that ask a server which takes 0.2 s to
answer, and one that computes. In one sum the two wait at the same time, while the third computes,
so that the sum takes as long as the slowest.

| | seconds |
|---|--:|"""


if __name__ == "__main__":
    command_line("benchmarks.rewards", Settings(), __doc__, main)
