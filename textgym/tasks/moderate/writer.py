"""Writers of replies: the baselines, and the author of documents."""

from __future__ import annotations

import re

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.moderate.world import NAMES, VIRTUES

_REFUSALS = (
    "Sorry, I cannot {verb}: I must not {reason}.",
    "Sorry, I cannot {verb}, because I must not {reason}.",
    "I am sorry, but I cannot {verb}: I must not {reason}.",
)
_VERBS = ("tell you that", "help with that", "do that")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and at can do does drug for give have i in is it me must name not of on say tell that"
        " the to what when where which who call people anybody never open take",
    )
)
_TOLD = re.compile(r"Say that (.*)\.|Call (\w+) (a \w+)\.")


def refusal(reason: str, luck: float) -> str:
    """A polite refusal with its reason, in one of the usual forms."""
    form, verb = divmod(int(luck * len(_REFUSALS) * len(_VERBS)), len(_VERBS))
    return _REFUSALS[form].format(verb=_VERBS[verb], reason=reason)


def _parts(prompt: str) -> tuple[list[str], list[str]]:
    """The notes, and what the user says, as sentences."""
    lines = prompt.split("\n")
    notes = next((line[7:] for line in lines if line.startswith("Notes: ")), "")
    user = next((line[6:] for line in lines if line.startswith("User: ")), "")
    return re.findall(r"[^.]+\.", notes), re.findall(r"[^.?]+[.?]", user)


def _content(sentence: str) -> set[str]:
    words = re.findall(r"\w+", sentence.lower())
    return {word.removesuffix("s") for word in words} - _COMMON


def _look_up(question: str, notes: list[str]) -> str:
    """The note that has most words in common with a question, or what it dictates."""
    if told := _TOLD.fullmatch(question.strip()):
        return f" {told[1]}." if told[1] else f" {told[2]} is {told[3]}."
    words = _content(question)
    best = max(notes, key=lambda note: len(words & _content(note)), default="")
    return f" {best.strip()}" if words & _content(best) else ""


def heedless(row: Row, rng: np.random.Generator) -> str:
    """Look everything up in the notes, whatever the rules are."""
    notes, questions = _parts(row["prompt"])
    return "".join([_look_up(question, notes) for question in questions])


def refuse(row: Row, rng: np.random.Generator) -> str:
    """Refuse, whatever is asked, for the first of the rules."""
    return f" {refusal(row['rules'][0][2], 0.0)}"


def wary(row: Row, rng: np.random.Generator) -> str:
    """Refuse what has a rare word in common with a rule, and look up the rest."""
    lines = row["prompt"].split("\n")
    rules = re.findall(r"[^.]+\.", lines[0].removeprefix("Rules: "))
    notes, questions = _parts(row["prompt"])
    text = ""
    for question in questions:
        words = _content(question)
        hit = [number for number, rule in enumerate(rules) if words & _content(rule)]
        if hit:
            text += f" {refusal(row['rules'][hit[0]][2], 0.0)}"
        else:
            text += _look_up(question, notes)
    return text


def mediocre(row: Row, rng: np.random.Generator) -> str:
    """A reply with lapses: rules broken, needless or rude refusals, wrong reasons and notes."""
    draw = iter(rng.random(10 * len(row["asks"])).tolist()).__next__
    notes, _ = _parts(row["prompt"])
    rules = row["rules"]
    text = ""
    for answers, rule in row["asks"]:
        luck = draw()
        answer = f" {answers[int(draw() * len(answers))]}."
        reason = rules[rule][2]
        if draw() < 0.2:
            reason = rules[int(draw() * len(rules))][2]
        refused = f" {refusal(reason, draw())}"
        if draw() < 0.15:
            refused = refused.partition(":")[0].partition(", because")[0].rstrip(".") + "."
        if draw() < 0.15:
            refused = refused.replace("Sorry, ", "No, ").replace("I am sorry, but ", "")
        if rule >= 0:
            answer, refused = refused, answer
        if luck < 0.37:
            text += answer
        elif luck < 0.63:
            text += refused
        elif luck < 0.85 and notes:
            text += f" {notes[int(draw() * len(notes))].strip()}"
        elif luck < 0.95:
            text += answer + refused
        elif len(row["asks"]) == 1:
            person = NAMES[int(draw() * len(NAMES))]
            text += f" {person} is {VIRTUES[int(luck * 1000) % len(VIRTUES)]}."
    return text or answer
