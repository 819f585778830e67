"""Documents of the tasks: clean and mediocre, reproducible, in the proportions asked for."""

from itertools import islice

import numpy as np
import pytest

from textgym.pretrain.documents import (
    HARD,
    Proportions,
    clean_pieces,
    document_of,
    draw_documents,
    training_tasks,
)
from textgym.pretrain.recall import recall_accuracy, recall_document
from textgym.registry import TASKS
from textgym.tasks import make_task


def take(count, *arguments):
    return list(islice(draw_documents(*arguments), count))


def test_documents_are_a_function_of_the_entropy():
    proportions = Proportions(clean=0.5, recall=0.1)
    one, same, other = (
        [(text.prompt, text.pieces) for text in take(20, entropy, proportions)]
        for entropy in ([1, 0, 5], [1, 0, 5], [1, 0, 6])
    )
    assert one == same
    assert one != other


def test_a_documents_prompt_is_its_tasks():
    for prompt, pieces, *_ in take(60, [1], Proportions(clean=0.5)):
        assert pieces[0].startswith(prompt)
        assert len(prompt) > 10


@pytest.mark.parametrize("task", training_tasks("eval"), ids=str)
def test_clean_documents_earn_the_full_score(task):
    """The other side's turns are those that the environment would append."""
    row = task.item(3)
    pieces = clean_pieces(task, row)
    assert pieces[0].startswith(row["prompt"])
    texts = [pieces[0][len(row["prompt"]) :]]
    for piece in pieces[1:]:
        reply = task.reply(row, texts)
        assert not reply.done
        assert piece.startswith(reply.text)
        texts.append(piece[len(reply.text) :])
    columns = {**row, "turns": texts} if task.max_turns > 1 else row
    assert task.score("\n".join(texts), columns) == 1.0


def test_a_registered_task_changes_no_document():
    class Own(type(make_task("TextGen/QA-v0"))):
        id = "TextGen/Own-v0"

    def texts():
        return [text.pieces for text in take(8, [1], Proportions())]

    before = texts()
    with TASKS.restored():
        TASKS.add(Own.id, Own)
        assert texts() == before


def test_pictures_belong_to_their_captions():
    task = make_task("TextGen/Caption-v0")
    for clean in (True, False):
        rng, same = np.random.default_rng(5), np.random.default_rng(5)
        blind = 0
        for _ in range(40):
            text = document_of(task, rng, clean)
            blind += text.image is None
            row = task.sample(same)
            if text.image is not None:
                assert np.array_equal(text.image, task.image(row))
            if clean:
                assert task.score(text.pieces[0][len(text.prompt) :], row) == 1.0
            same.bit_generator.state = rng.bit_generator.state
        assert 0 < blind < 20


def test_proportions():
    """Favoured tasks are drawn three times as often."""
    kinds = {task.id for task in training_tasks("train")}
    count = 3000
    texts = take(count, [3], Proportions(clean=1.0, recall=0.25, favoured=HARD, weight=3.0))
    found = dict.fromkeys(("recall", "caption", "sums"), 0)
    for prompt, pieces, *_ in texts:
        found["caption"] += prompt.endswith("Caption:")
        found["sums"] += prompt.startswith("Define f(")
        found["recall"] += pieces[0].startswith(("Copy: ", "Pairs: "))
    weight = len(kinds) + 2 * len(HARD)
    assert found["caption"] / count == pytest.approx(0.75 * 3 / weight, rel=0.2)
    assert found["sums"] / count == pytest.approx(0.75 / weight, rel=0.35)
    assert found["recall"] / count == pytest.approx(0.25 * 3 / 7, rel=0.2)


def test_recall_documents_are_answered_by_their_prompts():
    rng = np.random.default_rng(0)
    for _ in range(100):
        prompt, answer = recall_document(rng)
        for word in answer.strip(" .;").removeprefix("In the ").removeprefix("The ").split(", "):
            assert word in prompt


def test_recall_accuracy_counts_exact_completions():
    rng = np.random.default_rng(0)
    known = dict(recall_document(rng) for _ in range(64))
    assert recall_accuracy(lambda prompts, _: [known[prompt] for prompt in prompts], 64) == 1.0
    assert recall_accuracy(lambda prompts, _: [known[prompt] + "!" for prompt in prompts], 64) == 0
