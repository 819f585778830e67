"""The words and the grammar of the story task."""

from __future__ import annotations

from functools import cache

from textgym.tasks.automaton import State, compile_grammar
from textgym.tasks.words import BOXES, GIVE, GO, MEN, PLACES, TAKE, THINGS, WOMEN

DROP = ("dropped",)
HAPPY = {
    "smile": "smiled", "laugh": "laughed", "sing": "sang", "dance": "danced", "clap": "clapped",
    "cheer": "cheered", "grin": "grinned",
}  # fmt: skip
SAD = {"sigh": "sighed", "cry": "cried", "frown": "frowned", "sob": "sobbed", "weep": "wept"}
FEELINGS = HAPPY | SAD
"""Expressions of a feeling: base form (in the prompt) and past tense (in the story)."""


@cache
def grammar() -> State:
    """The automaton of all sentences that a story may contain."""
    return compile_grammar(
        {
            "name": [*MEN, *WOMEN],
            "thing": [*THINGS, "key"],
            "box": list(BOXES),
            "place": list(PLACES),
            "whom": ["<name>", "him", "her"],
            "what": ["the <thing>", "it"],
            "feel": list(FEELINGS.values()),
            "deed": [
                "<go> [back] to the <place> [with <whom>]",
                "<take> <what>",
                "<take> the <thing> from the <box>",
                "<give> <what> to <whom>",
                "<give> <whom> the <thing>",
                "<drop> <what>",
                "put <what> in the <box>",
                "opened the <box>",
                "opened it",
                "closed the <box>",
                "closed it",
                "unlocked the <box>",
                "unlocked it",
                "thanked <whom>",
                "greeted <whom>",
                "told <whom> a joke",
                "told <whom> a story",
                "<feel>",
            ],
            "go": list(GO),
            "take": list(TAKE),
            "give": list(GIVE),
            "drop": list(DROP),
            "sentence": [
                "<name> <deed> [and <deed>] .",
                "He <deed> [and <deed>] .",
                "She <deed> [and <deed>] .",
                "<opener> <name> <deed> [and <deed>] .",
                "<opener> he <deed> [and <deed>] .",
                "<opener> she <deed> [and <deed>] .",
            ],
            "opener": ["Then", "Soon", "Later", "At last"],
        },
        "sentence",
    )
