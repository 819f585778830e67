"""The rules of the task contract for scores and rewards: a function each."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np

from textgym.tasks.base import Task
from textgym.tasks.judgement import MARKS
from textgym.testing.cheats import cheats, junk, spaced
from textgym.testing.checked_task import CheckedTask, shortened
from textgym.testing.constants import constant_texts, ranked
from textgym.testing.mutations import mutants

JUDGING_SECONDS = 5.0
"""CPU time within which a scorer has to judge 100 kB. A linear one needs milliseconds."""

_JUNK_ROWS = 3

_ATTACKED_ROWS = 5
"""Rows whose oracles are made into junk."""

_CONSTANT_ROWS = 50
"""With fewer rows, the mean score of a constant text says little."""

_FREQUENT = 20
"""The most frequent texts of each kind that are tried as constants."""


def oracle(check: CheckedTask) -> None:
    """The oracle scores exactly 1.0."""
    for row in check.rows:
        value = check.score("oracle", check.task.oracle(row), row, "the oracle")
        if value != 1.0:
            check.fail(
                "oracle",
                f"the oracle {check.task.oracle(row)!r} scores {value!r}, not 1.0",
                "let score accept the text of oracle (or row['reference'])",
                row,
            )


def scores(check: CheckedTask) -> None:
    """Scores are floats in [0, 1], the same each time, and change nothing."""
    baselines = list(check.task.baselines().values())
    texts = []
    for number, row in enumerate(check.rows):
        rng = np.random.default_rng([check.seed, number])
        written = [baseline(row, rng) for baseline in baselines]
        texts.append([check.task.oracle(row), row["prompt"], "x", *written])
    check.untouched(
        "scores",
        lambda: [
            [check.score("scores", text, row, "a text") for text in some]
            for some, row in zip(texts, check.rows, strict=True)
        ],
    )
    for row, drawn in zip(check.rows, check.draw(check.seed), strict=True):
        if row != drawn:
            check.fail("scores", "score changed the row", "copy what score has to change", row)


def cheating(check: CheckedTask) -> None:
    """Empty, echoed, shuffled, repeated and dumped texts stay below `cheat_ceiling`."""
    vocabulary = sorted({word for row in check.rows for word in row["reference"].split()})
    rng = np.random.default_rng(check.seed)
    ceiling = check.task.cheat_ceiling
    for row in check.rows:
        oracle = check.task.oracle(row)
        for name, text in cheats(row, oracle, vocabulary, rng):
            if text.strip() == oracle.strip():
                continue  # a single word cannot be shuffled
            value = check.score("cheats", text, row, name)
            if name == "random words":
                check.luck += value / check.n
            elif value >= ceiling:
                check.fail(
                    "cheats",
                    f"{name} scores {value:.3f}, the ceiling is {ceiling}: {shortened(text)}",
                    "let judge require what distinguishes an answer from this, or set a higher "
                    "cheat_ceiling",
                    row,
                )
    if check.luck >= ceiling:
        check.fail(
            "cheats",
            f"random words score {check.luck:.3f} on average, the ceiling is {ceiling}",
            "let judge require more than the presence of words",
        )


def strange_strings(check: CheckedTask) -> None:
    """No string raises, and long ones are judged in bounded time."""
    for row in check.rows[:_JUNK_ROWS]:
        # Long strings cost time, and depend less on the row.
        sizes = (1_000, 10_000, 100_000) if row is check.rows[0] else ()
        for name, text in junk(check.task.oracle(row), sizes):
            begin = time.process_time()
            value = check.score("junk", text, row, name)
            if (taken := time.process_time() - begin) > JUDGING_SECONDS:
                check.fail(
                    "junk",
                    f"score took {taken:.0f} s for {len(text)} characters ({name})",
                    "judge in linear time, and give up early on long texts",
                    row,
                )
            if value >= check.task.cheat_ceiling:
                check.fail("junk", f"{name} scores {value:.3f}", "score junk 0.0", row)


def junk_of_the_oracle(check: CheckedTask) -> None:
    """Junk made from the oracle scores no more than `junk_ceiling`."""
    rng = np.random.default_rng(check.seed)
    ceiling = check.task.junk_ceiling
    oracles = [check.task.oracle(row) for row in check.rows[: 4 * _ATTACKED_ROWS]]
    for number, row in enumerate(check.rows[:_ATTACKED_ROWS]):
        others = [oracle for oracle in oracles if oracle != oracles[number]]
        for kind, text, is_junk in mutants(oracles[number], others, rng):
            value = check.score("attack", text, row, kind)
            if value > ceiling if is_junk else value >= 1.0:
                limit = f"the ceiling is {ceiling}" if is_junk else "as only the right text may"
                check.fail(
                    "attack",
                    f"{kind} scores {value:.3f}, {limit}: {shortened(text)}",
                    "let the penalty for junk grow with its size, and read every part of a text; "
                    "`textgym check ID --attack` shows more texts that are paid",
                    row,
                )


def constants(check: CheckedTask) -> None:
    """The same text for every prompt earns no more than `constant_ceiling` on average."""
    # In a closed vocabulary every text is an answer, and random words set the scale.
    task = check.task
    if task.tokenizer is not None or check.n < _CONSTANT_ROWS:
        return
    best = ranked(task, constant_texts(task, check.rows, _FREQUENT, check.seed), check.rows)[0]
    # Above the ceiling by more than sampling error.
    if best.mean - 2 * best.error > task.constant_ceiling:
        check.fail(
            "constants",
            f"the constant text {best.text!r} earns {best.mean:.3f} on average, the ceiling is "
            f"{task.constant_ceiling}",
            "let judge require an answer to this prompt, draw more varied answers, or set a higher "
            "constant_ceiling if there are only a few",
        )


def baselines(check: CheckedTask) -> None:
    """There is a baseline, above random words and below the oracle on average."""
    means = {}
    for name, baseline in check.task.baselines().items():
        rng = np.random.default_rng(check.seed)
        values = [
            check.score("baselines", baseline(row, rng), row, f"the baseline {name!r}")
            for row in check.rows
        ]
        means[name] = sum(values) / len(values)
        if means[name] >= 1.0:
            check.fail(
                "baselines",
                f"the baseline {name!r} is as good as the oracle: there is nothing to learn",
                "make the task harder, or the baseline weaker",
            )
    if not means:
        check.fail(
            "baselines",
            "there are no baselines",
            "return at least one writer that does not learn, such as a template or a guess",
        )
    if max(means.values()) <= check.luck:
        check.fail(
            "baselines",
            f"none is better than random words ({check.luck:.3f}): {means}",
            "add a baseline that attempts the task",
        )


def reward(check: CheckedTask) -> None:
    """The default reward returns one finite float per text."""
    rows = check.rows
    # As in the environments: None where a row lacks a column of other rows.
    names = dict.fromkeys(name for row in rows for name in row if name != "prompt")
    columns = {name: [row.get(name) for row in rows] for name in names}
    oracles = [check.task.oracle(row) for row in rows]
    values = check.task.reward([row["prompt"] for row in rows], oracles, **columns)
    if len(values) != len(rows) or not np.isfinite(np.array(values, dtype=np.float64)).all():
        check.fail(
            "reward",
            f"reward returned {len(values)} values for {len(rows)} texts, or one not finite",
            "return one finite float for each text",
        )


def potential(check: CheckedTask) -> None:
    """The potential of unfinished texts is a finite float, and changes as `dense_at` says."""
    task = check.task
    if type(task).potential is Task.potential:
        return
    for row in check.rows[:_ATTACKED_ROWS]:
        # In a conversation these are the parts of the first turn: no turn has ended.
        given = row if task.max_turns == 1 else {**row, "turns": [], "replies": []}
        ids = check.tokenizer.encode(task.oracle(row).partition("\n")[0] or task.oracle(row))
        texts = [check.tokenizer.decode(ids[:end]) for end in range(len(ids))]
        values = list(task.potential(texts, [given] * len(texts)))
        if len(values) != len(texts) or not all(map(math.isfinite, values)):
            check.fail(
                "potential",
                f"it returned {len(values)} values for {len(texts)} texts, or one not finite",
                "return one finite float for each text",
                row,
            )
        for before, after, (old, new) in zip(texts, texts[1:], pairwise(values), strict=False):
            marked = not MARKS.isdisjoint(after[len(before) :]) or "\ufffd" in before + after
            if old != new and not (
                task.dense_at == "token" or (marked and task.dense_at != "turn")
            ):
                check.fail(
                    "potential",
                    f"it changes from {old!r} to {new!r} after {shortened(after)}, which "
                    f"dense_at = {task.dense_at!r} excludes",
                    "judge complete sentences alone (textgym.tasks.judgement.finished), or set "
                    'dense_at = "token"',
                    row,
                )


def spaces(check: CheckedTask) -> None:
    """White space around the oracle does not change the reward."""
    for row in check.rows:
        oracle = check.task.oracle(row)
        columns = {name: [value] for name, value in row.items() if name != "prompt"}
        [right] = check.task.reward([row["prompt"]], [oracle], **columns)
        for name, text in spaced(oracle):
            if not check.can_write(text):
                continue
            [value] = check.task.reward([row["prompt"]], [text], **columns)
            if value != right:
                check.fail(
                    "spaces",
                    f"{name} ({shortened(text)}) is rewarded with {value!r}, not {right!r}",
                    "define judge(text, row), which gets the text without the white space "
                    "around it, rather than score, or strip the completions",
                    row,
                )
