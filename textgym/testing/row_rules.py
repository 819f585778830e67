"""The rules of the task contract for rows, splits, budgets and training texts: a function each."""

from __future__ import annotations

import json

import numpy as np

from textgym.data.rows import Row
from textgym.errors import TextGymError
from textgym.tasks.base import SPLITS
from textgym.testing.checked_task import CheckedTask


def generation(check: CheckedTask) -> None:
    """Rows come from the generator that is passed in, and nothing else."""
    check.rows = check.untouched("generation", lambda: check.draw(check.seed))
    if not all(isinstance(row, dict) for row in check.rows):
        check.fail("rows", "generate did not return a dictionary", "return {'prompt': ..., ...}")


def row_format(check: CheckedTask) -> None:
    """Rows are dictionaries with a prompt and a reference, and survive JSON."""
    for row in check.rows:
        for name in ("prompt", "reference"):
            if not isinstance(row.get(name), str):
                check.fail("rows", f"row[{name!r}] is not a string", f"give each row a {name}", row)
        try:
            same = json.loads(json.dumps(row, allow_nan=False)) == row
        except (TypeError, ValueError):
            same = False
        if not same:
            check.fail(
                "rows",
                "the row does not survive json.dumps and json.loads",
                "use str, int, float, bool, None, and lists and dictionaries (with string "
                "keys) of them; no tuples, sets, NaN or numpy values",
                row,
            )


def seeds(check: CheckedTask) -> None:
    """Adjacent seeds share no more prompts than chance explains; `Task.item` is stable."""
    first = set(map(check.task.identity, check.rows))
    second = set(map(check.task.identity, check.draw(check.seed + 1)))
    # With N draws each, the expected number of shared prompts equals that of repeated prompts
    # within the two draws, whatever the size of the prompt space.
    repeated = 2 * check.n - len(first) - len(second)
    shared = len(first & second)
    if shared > 3 + 3 * repeated:
        check.fail(
            "seeds",
            f"seeds {check.seed} and {check.seed + 1} share {shared} of {check.n} prompts",
            "draw each row from the generator; do not derive seeds such as seed + index",
        )
    items = [check.task.item(index) for index in range(min(check.n, 20))]
    if items != [check.task.item(index) for index in range(min(check.n, 20))]:
        check.fail("seeds", "item(i) differs from call to call", "keep no state in the task")


def splits(check: CheckedTask, rows: dict[str, list[Row]]) -> None:
    """Train and eval share no prompt. `rows` are those of each split."""
    if not check.task.disjoint_splits:
        return
    train, test = (set(map(check.task.identity, rows[split])) for split in SPLITS)
    if train & test:
        check.fail(
            "splits",
            f"train and eval share {len(train & test)} prompts, such as {min(train & test)!r}",
            "do not override sample, or set disjoint_splits = False",
        )


def budget(check: CheckedTask) -> None:
    """Prompt and oracle fit the limits and the tokenizer; no stop string cuts the oracle."""
    task, tokenizer = check.task, check.tokenizer
    for row in check.rows:
        oracle = task.oracle(row)
        texts = (
            ("prompt", row["prompt"], task.max_prompt_tokens, 0),
            ("oracle", oracle, task.max_new_tokens, int(task.stop_at_eos)),
        )
        for name, text, limit, more in texts:
            try:
                ids = tokenizer.encode(text)
            except TextGymError as error:
                check.fail(
                    "budget",
                    f"the {name} cannot be tokenized ({error})",
                    "write with the words of the tokenizer",
                    row,
                )
            if tokenizer.decode(ids) != text:
                check.fail(
                    "budget",
                    f"the {name} {text!r} comes back from {tokenizer.name} as "
                    f"{tokenizer.decode(ids)!r}",
                    "write what the tokenizer can encode: under a closed vocabulary, its words "
                    "with single spaces between them",
                    row,
                )
            if len(ids) + more > limit:
                eos = " with eos" if more else ""
                check.fail(
                    "budget",
                    f"the {name} has {len(ids) + more} tokens{eos}, the limit is {limit}",
                    "shorten the text, or raise max_prompt_tokens or max_new_tokens",
                    row,
                )
        for stop in task.stop:
            if stop in oracle:
                check.fail(
                    "budget",
                    f"the stop string {stop!r} occurs in the oracle, which it would cut off",
                    "choose a stop string that no right answer contains",
                    row,
                )


def document(check: CheckedTask) -> None:
    """Training texts are text."""
    text = check.untouched(
        "document", lambda: check.task.document(np.random.default_rng(check.seed))
    )
    if not isinstance(text, str) or not text:
        check.fail("document", f"document returned {text!r}", "return the text as a string")
