"""Documents of a task, scored as if a policy had written them."""

from collections.abc import Iterator

import numpy as np

from textgym.data.rows import Row
from textgym.tasks import Task


def split_documents(task: Task, count: int) -> Iterator[tuple[Row, str]]:
    """The row and the completion of each of a task's documents."""
    for number in range(count):
        # `document` draws its row first, so that the same seed gives the row.
        row = task.sample(np.random.default_rng([task.level, number]))
        document = task.document(np.random.default_rng([task.level, number]))
        assert document.startswith(row["prompt"])
        yield row, document.removeprefix(row["prompt"])


def document_scores(task: Task, count: int, separator: str) -> list[float]:
    """The scores of the completions, which all begin with a separator."""
    scores = []
    for row, completion in split_documents(task, count):
        assert completion.startswith(separator)
        scores.append(task.score(completion, row))
    return scores
