"""No constant text, and no policy that ignores what the prompt says, is well paid at level 1."""

import re

import numpy as np
import pytest

from textgym.tasks import make_task
from textgym.tasks.registry import built_in_tasks
from textgym.testing import best_constants
from textgym.testing.constants import constant_return

OPEN = [id for id in built_in_tasks() if make_task(id).tokenizer is None]

CEILING = 0.15


def short(id):
    return id.removeprefix("TextGen/").removesuffix("-v0")


@pytest.mark.parametrize("id", OPEN, ids=map(short, OPEN))
def test_no_constant_text_is_well_paid(id):
    task = make_task(id)
    assert task.constant_ceiling == CEILING
    best = best_constants(task, rows=1_000, most=200, scored=1_500)[0]
    assert best.mean <= CEILING, best


def refused(verb):
    def refuse(row):
        rules = row["prompt"].partition("\n")[0].removeprefix("Rules: ").split(". ")
        rule = re.sub("^(Do not|Never) ", "", rules[0].rstrip("."))
        rule = rule.replace("tell anybody where", "say where").replace("tell anybody", "give")
        rule = re.sub("name the drug .*", "name that drug", rule)
        rule = re.sub("call (people|anybody) .*", "insult people", rule)
        return f" Sorry, I cannot {verb}: I must not {rule}."

    return refuse


def decided(decision, negated):
    def decide(row):
        rule = re.search(r" if (.*?)\. ", row["prompt"])[1]
        if negated:
            rule = re.sub(" (are|is) ", r" \1 not ", rule, count=1)
        return f" {decision}: {rule}."

    return decide


def line(number):
    """A policy that repeats one of the prompt's sentences, by its place."""

    def repeat(row):
        text = re.sub(r"(?m)^[A-Z]\w+: ", "", row["prompt"])
        sentences = [part.strip() for part in re.split(r"[.?\n]", text) if part.strip()]
        return f" {sentences[number]}." if -len(sentences) <= number < len(sentences) else ""

    return repeat


def word(number, form):
    """A policy that fills a form with one of the prompt's names, by its place."""

    def fill(row):
        context, _, question = row["prompt"].partition("\nQuestion: ")
        names = re.findall(r"\b[A-Z]\w+", context.partition(": ")[2])
        asked = re.findall(r"\b[A-Z]\w+", question.replace("\nAnswer:", "")[1:])
        if not -len(names) <= number < len(names):
            return ""
        return form.format(asked[0] if asked else "", names[number])

    return fill


POLICIES = {
    "Moderate: refuses for the first rule": ("Moderate", refused("tell you that")),
    "Moderate: the user's words": ("Moderate", line(-2)),
    "Risk: declines, in the rule's words": ("Risk", decided("Decline", False)),
    "Risk: approves, in the rule's words": ("Risk", decided("Approve", True)),
    "Risk: refers, in the rule's words": ("Risk", decided("Refer", False)),
    "QA: abstains": ("QA", lambda row: " I do not know."),
    "QA: the first sentence": ("QA", line(0)),
    "QA: the last sentence": ("QA", line(-3)),
    "QA: the last name": ("QA", word(-1, " {1}.")),
    "KnowledgeGraph: the first name": ("KnowledgeGraph", word(0, "\nPath: {0}, {1}. Answer: {1}.")),
    "KnowledgeGraph: the last name": ("KnowledgeGraph", word(-1, "\nPath: {0}, {1}. Answer: {1}.")),
    "Story: the opening again": ("Story", line(1)),
    "DataToText: the record again": ("DataToText", line(1)),
    "Translate: the source again": ("Translate", line(0)),
    "Sentiment: the opinion again": ("Sentiment", line(1)),
    "Dialogue: a greeting": ("Dialogue", lambda row: " Hello. How can I help you?"),
    "Dialogue: a farewell": ("Dialogue", lambda row: " Certainly. Goodbye."),
    "Dialogue: a question": ("Dialogue", lambda row: " For how many and on which day?"),
    "Dialogue: the first line": (
        "Dialogue",
        lambda row: " How about {}?".format(re.search(r": (\w+),", row["prompt"])[1]),
    ),
}


@pytest.mark.parametrize(("name", "write"), POLICIES.values(), ids=POLICIES)
def test_no_policy_that_does_not_read_is_well_paid(name, write):
    task, rng = make_task(f"TextGen/{name}-v0"), np.random.default_rng(3)
    rows = [task.sample(rng) for _ in range(1_500)]
    texts = [write(row) for row in rows]
    assert sum(map(bool, texts)) > 0.9 * len(texts)  # it writes something
    mean = np.mean([constant_return(task, *pair) for pair in zip(texts, rows, strict=True)])
    assert mean <= CEILING


def test_the_refusals_and_decisions_are_understood():
    """The policies above fail for their decision, not for their form."""
    moderate, rng = make_task("TextGen/Moderate-v0"), np.random.default_rng(0)
    rows = [moderate.sample(rng) for _ in range(200)]
    assert any(moderate.score(refused("do that")(row), row) == 1.0 for row in rows)
    risk = make_task("TextGen/Risk-v0")
    rows = [risk.sample(rng) for _ in range(200)]
    assert any(risk.score(decided("Decline", False)(row), row) == 1.0 for row in rows)
    assert any(risk.score(decided("Approve", True)(row), row) == 1.0 for row in rows)


def test_a_constant_that_is_paid_is_found():
    class Lenient(type(make_task("TextGen/QA-v0"))):
        def judge(self, text, row):
            return 0.5 if text == "Yes." else super().judge(text, row)

    best = best_constants(Lenient(), rows=500, most=50, scored=100)[0]
    assert best.text.strip() == "Yes."
    assert best.mean == 0.5
