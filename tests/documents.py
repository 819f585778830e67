"""Documents of a task, scored as if a policy had written them."""

import numpy as np

from textgym.tasks import Task


def document_scores(task: Task, count: int, separator: str) -> list[float]:
    """The scores of the completions in a task's documents.

    Args:
        task: A task whose documents are a row's prompt and a completion.
        count: The number of documents.
        separator: What every completion begins with.
    """
    scores = []
    for number in range(count):
        # `document` draws its row first, so that the same seed gives the row.
        row = task.sample(np.random.default_rng([task.level, number]))
        document = task.document(np.random.default_rng([task.level, number]))
        prompt = str(row["prompt"])
        assert document.startswith(prompt + separator)
        scores.append(task.score(document.removeprefix(prompt), row))
    return scores
