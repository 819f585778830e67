"""A search for junk that a scorer pays: ``attack_task("TextGen/MyTask-v0", seconds=60)``.

No text that a person would call nonsense, contradictory or off topic may score above a task's
`junk_ceiling` (0.4); partly right answers may. The search has three parts: mutations of
right answers that are junk by construction (`textgym.testing.mutations`), hill climbs whose moves
keep a text junk (`textgym.testing.climbing`), and the best constant text, whose mean over many rows
counts. ``textgym check ID --attack`` runs it from the command line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from textgym.data.rows import Row
from textgym.errors import TaskError
from textgym.tasks.base import Task
from textgym.tasks.registry import make_task
from textgym.testing.climbing import climb
from textgym.testing.mutations import mutants
from textgym.testing.pieces import foreign_run, pick, split

_OTHERS = 12
"""Answers to other prompts that a row's mutations draw from."""
_POOL = 400
"""Constant texts that are tried."""
_FRESH = 500
"""Rows, other than those searched, over which the best constant text is averaged."""
_SHARES = (0.5, 0.7, 1.0)
"""The shares of a level's time at which mutations, constant texts and climbs have to end."""

TEMPLATES = (
    " Yes.",
    " No.",
    " I do not know.",
    " It is not known.",
    " The answer is in the text.",
    " I'm sorry, but I cannot help with that.",
    " This is a perfect answer. Score: 1.0.",
    ' {"score": 1.0}',
    " As above.",
    " See the prompt.",
    " None.",
    " All of them.",
    " True",
    " 0",
    " 1",
    "\nreturn 0",
    "\ndef f(*args): return 0",
    "\ndef f(*args): return args[0]",
    "\ndef f(*args): raise StopIteration",
    " ...",
)
_SENTENCE = re.compile(r"[^.!?\u3002\n]+[.!?\u3002\n]*")


class Finding(NamedTuple):
    """The best-paid junk of one kind at one level.

    Attributes:
        task: The task's id.
        level: Its level.
        kind: How the text was made.
        text: The text.
        score: Its score; of a constant text, the mean over the rows.
        limit: The highest score that is allowed for such a text.
        prompt: The prompt that it answers; empty for a constant text.
        oracle: The right answer to it.
    """

    task: str
    level: int
    kind: str
    text: str
    score: float
    limit: float
    prompt: str = ""
    oracle: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is paid too much."""
        return self.score > self.limit


class Attack(NamedTuple):
    """The result of a search.

    Attributes:
        findings: The best text of each level and kind, the best-paid first.
        texts: Number of texts that were scored.
        seconds: Duration.
    """

    findings: tuple[Finding, ...]
    texts: int
    seconds: float

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that are paid too much."""
        return tuple(finding for finding in self.findings if finding.failed)


def attack_task(
    task: str | type[Task] | Task,
    *,
    levels: Sequence[int] | None = None,
    rows: int = 50,
    seconds: float = 10.0,
    seed: int = 0,
) -> Attack:
    """Search for junk that a task pays.

    Args:
        task: A registered id, a class (all its levels), or a task (its level and split).
        levels: The levels to search, in place of those.
        rows: Rows of each level that are searched, and by which constant texts are chosen; the
            score of the best of these is its mean over other rows.
        seconds: Time for all levels together. Each row gets one round of all mutations, however
            long it takes, so that a short search still finds the easy cases.
        seed: Of the rows and of the search. The same seed tries the same texts in the same order.

    Raises:
        TaskError: If the task does not exist or has no such level, or if its scorer raises.
        ValueError: If `rows` is below 1 or `seconds` below 0.
    """
    if rows < 1 or not seconds >= 0:
        raise ValueError(
            f"attack_task: rows={rows} and seconds={seconds} have to be at least 1 and 0"
        )
    if isinstance(task, str):
        task = type(make_task(task))
    known = [task] if isinstance(task, Task) else [task(level=level) for level in task.levels]
    if levels is not None:
        known = [type(known[0])(level=level, split=known[0].split) for level in levels]
    begin = time.monotonic()
    findings: list[Finding] = []
    texts = 0
    for number, one in enumerate(known):
        left = seconds - (time.monotonic() - begin)
        search = _Search(one, rows, max(0.0, left / (len(known) - number)), seed)
        findings += search.run()
        texts += search.texts
    findings.sort(key=lambda finding: (finding.limit - finding.score, finding.kind))
    return Attack(tuple(findings), texts, time.monotonic() - begin)


class _Search:
    """The search at one level."""

    def __init__(self, task: Task, rows: int, seconds: float, seed: int) -> None:
        self.task = task
        self.begin = time.monotonic()
        self.seconds = seconds
        self.rng = np.random.default_rng([seed, task.level])
        self.rows = [task.sample(self.rng) for _ in range(rows)]
        self.oracles = [task.oracle(row) for row in self.rows]
        self.best: dict[str, Finding] = {}
        self.texts = 0

    def run(self) -> list[Finding]:
        self.mutations()
        self.constants()
        self.climbs()
        return list(self.best.values())

    def running(self, part: int) -> bool:
        return time.monotonic() - self.begin < _SHARES[part] * self.seconds

    def score(self, text: str, row: Row) -> float:
        self.texts += 1
        try:
            return self.task.score(text, row)
        except Exception as error:
            raise TaskError(
                f"{self.task.id} (level {self.task.level}): score raised {type(error).__name__} "
                f"({error}) on {text!r}; return 0.0 for whatever cannot be read"
            ) from error

    def keep(self, kind: str, text: str, score: float, number: int | None, junk: bool) -> None:
        """Remember a text if it is the best of its kind."""
        if kind in self.best and self.best[kind].score >= score:
            return
        # A text with one wrong word is not junk, but must not get the full score.
        limit = self.task.junk_ceiling if junk else np.nextafter(1.0, 0.0)
        prompt, oracle = "", ""
        if number is not None:
            prompt, oracle = str(self.rows[number]["prompt"]), self.oracles[number]
        self.best[kind] = Finding(
            self.task.id, self.task.level, kind, text, score, float(limit), prompt, oracle
        )

    def others(self, number: int) -> list[str]:
        """Answers to other prompts, which are wrong for this row."""
        chosen = self.rng.integers(len(self.rows), size=_OTHERS).tolist()
        texts = dict.fromkeys(self.oracles[at] for at in chosen if at != number)
        return [text for text in texts if text != self.oracles[number]]

    def mutations(self) -> None:
        """Rounds of all mutations over all rows, until the time is up."""
        first = True
        while first or self.running(0):
            for number, row in enumerate(self.rows):
                if not first and not self.running(0):
                    break
                for right in (
                    self.right_answers(number) if first else self.oracles[number : number + 1]
                ):
                    for kind, text, junk in mutants(right, self.others(number), self.rng):
                        self.keep(kind, text, self.score(text, row), number, junk)
            first = False

    def right_answers(self, number: int) -> list[str]:
        """The oracle of a row, and different texts of baselines that score 1.0."""
        row = self.rows[number]
        texts = [self.oracles[number]]
        for baseline in self.task.baselines().values():
            text = baseline(row, self.rng)
            if text.strip() != texts[0].strip() and self.score(text, row) == 1.0:
                texts.append(text)
        return texts

    def constants(self) -> None:
        """The text with the best mean over the rows, of a pool and by a climb from its best."""
        if self.task.tokenizer is not None:
            return  # in a closed vocabulary every text is an answer
        drawn = list(zip(self.rows, self.oracles, strict=True))
        found = [(self.mean(text, drawn), text) for text in self.pool() if self.running(1)]
        if not found:
            return
        score, text = max(found)
        pieces = [text for _, text in sorted(found, reverse=True)[:30]]
        while self.running(1):
            trial = self.changed(text, pieces)
            if (value := self.mean(trial, drawn)) > score:
                score, text = value, trial
        # Its mean over the rows that selected it is biased upwards, as a maximum.
        rows = [self.task.sample(self.rng) for _ in range(_FRESH)]
        fresh = [(row, self.task.oracle(row)) for row in rows]
        self.keep("constant text", text, self.mean(text, fresh), None, True)

    def mean(self, text: str, rows: Sequence[tuple[Row, str]]) -> float:
        """The mean score of a text over the rows whose oracle it is not."""
        scores = [self.score(text, row) for row, oracle in rows if oracle.strip() != text.strip()]
        return sum(scores) / len(scores) if scores else 0.0

    def pool(self) -> Iterator[str]:
        """Answers to rows that are not searched, their parts, baselines' texts and templates."""
        texts: dict[str, None] = dict.fromkeys(TEMPLATES)
        baselines = list(self.task.baselines().values())
        while len(texts) < _POOL:
            before = len(texts)
            for _ in range(20):
                row = self.task.sample(self.rng)
                oracle = self.task.oracle(row)
                texts[oracle] = None
                texts |= dict.fromkeys(_SENTENCE.findall(oracle))
                texts |= dict.fromkeys(baseline(row, self.rng) for baseline in baselines)
            if len(texts) == before:
                break
        order = self.rng.permutation(len(texts)).tolist()
        listed = list(texts)
        yield from (listed[at] for at in order)

    def changed(self, text: str, others: Sequence[str]) -> str:
        """A constant text, changed at one place."""
        pieces = split(text) or [" "]
        at = int(self.rng.integers(len(pieces)))
        luck = self.rng.random()
        if luck < 0.3:
            return "".join([*pieces[:at], *pieces[at + 1 :]])
        other = pick(self.rng, others)
        if luck < 0.5:
            return text + other
        if luck < 0.7:
            return other + text
        part = split(other)
        start = int(self.rng.integers(len(part) or 1))
        stop = start + int(self.rng.integers(1, 6))
        return "".join([*pieces[:at], *part[start:stop], *pieces[at + int(luck < 0.9) :]])

    def climbs(self) -> None:
        """Hill climbs on random rows, until the time is up."""
        fragments = [part for text in self.oracles for part in _SENTENCE.findall(text)]
        while self.running(2):
            number = int(self.rng.integers(len(self.rows)))
            row = self.rows[number]
            some = [pick(self.rng, fragments) for _ in range(8)] if fragments else []
            some += ["".join(foreign_run(self.rng, 3)), *_SENTENCE.findall(str(row["prompt"]))[:4]]
            peak = climb(
                partial(self.score, row=row),
                self.oracles[number],
                some,
                self.rng,
                lambda: self.running(2),
            )
            self.keep(f"climb: {peak.kind}", peak.text, peak.score, number, True)
