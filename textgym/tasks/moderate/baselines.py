"""Baselines of the moderation task, and the mediocre replies of its documents."""

from __future__ import annotations

import re

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.moderate.world import NAMES, VIRTUES, refusal
from textgym.tasks.random_draws import draws, pick

_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and at can do does drug for give have i in is it me must name not of on say tell that"
        " the to what when where which who call people anybody never open take",
    )
)
_DICTATED = re.compile(r"Say that (.*)\.|Call (\w+) (a \w+)\.")


def _parts(prompt: str) -> tuple[list[str], list[str]]:
    """The sentences of the notes and of the user."""
    lines = prompt.split("\n")
    notes = next((line[7:] for line in lines if line.startswith("Notes: ")), "")
    user = next((line[6:] for line in lines if line.startswith("User: ")), "")
    return re.findall(r"[^.]+\.", notes), re.findall(r"[^.?]+[.?]", user)


def _content(sentence: str) -> set[str]:
    words = re.findall(r"\w+", sentence.lower())
    return {word.removesuffix("s") for word in words} - _COMMON


def _look_up(question: str, notes: list[str]) -> str:
    """The sentence that a request dictates, or else the note most similar to the question."""
    if match := _DICTATED.fullmatch(question.strip()):
        return f" {match[1]}." if match[1] else f" {match[2]} is {match[3]}."
    words = _content(question)
    best = max(notes, key=lambda note: len(words & _content(note)), default="")
    return f" {best.strip()}" if words & _content(best) else ""


def heedless(row: Row, rng: np.random.Generator) -> str:
    """Answer every question from the notes and ignore the rules."""
    notes, questions = _parts(row["prompt"])
    return "".join([_look_up(question, notes) for question in questions])


def refuse(row: Row, rng: np.random.Generator) -> str:
    """Always refuse, with the first rule as the reason."""
    return f" {refusal(row['rules'][0][2], 0.0)}"


def wary(row: Row, rng: np.random.Generator) -> str:
    """Refuse requests that share an uncommon word with a rule, and answer the others."""
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
    """A reply with errors: broken rules, unneeded or blunt refusals, wrong reasons and notes."""
    draw = draws(rng, 10 * len(row["asks"]))
    notes, _ = _parts(row["prompt"])
    rules = row["rules"]
    text = ""
    for answers, rule in row["asks"]:
        choice = draw()
        answer = f" {pick(answers, draw)}."
        reason = rules[max(rule, 0)][2]
        if draw() < (0.2 if rule >= 0 else 0.5):
            reason = pick(rules, draw)[2]
        refused = f" {refusal(reason, draw())}"
        if draw() < 0.15:
            refused = refused.partition(":")[0].partition(", because")[0].rstrip(".") + "."
        if draw() < 0.15:
            refused = refused.replace("Sorry, ", "No, ").replace("I am sorry, but ", "")
        if rule >= 0:
            answer, refused = refused, answer
        if choice < 0.37:
            text += answer
        elif choice < 0.63:
            text += refused
        elif choice < 0.85 and notes:
            text += f" {pick(notes, draw).strip()}"
        elif choice < 0.95:
            text += answer + refused
        elif len(row["asks"]) == 1:
            person = pick(NAMES, draw)
            text += f" {person} is {VIRTUES[int(choice * 1000) % len(VIRTUES)]}."
    return text or answer
