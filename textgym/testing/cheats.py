"""Texts that the task contract gives to a scorer: cheats, right answers, strange strings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np

from textgym.data.rows import Row

_SENTENCE = re.compile(r"[^.!?]+[.!?]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")


def cheats(
    row: Row, oracle: str, vocabulary: list[str], rng: np.random.Generator
) -> Iterator[tuple[str, str]]:
    """Texts that do not attempt the task, with their names."""
    prompt = row["prompt"]
    yield "an empty text", ""
    yield "a space", " "
    yield "the prompt", prompt
    yield "the prompt again", f" {prompt}"
    yield "the end of the prompt", " " + prompt.rstrip(".").rpartition(".")[2].strip() + "."
    yield "the oracle twice", oracle * 2
    yield "the oracle twice", f"{oracle} {oracle}"
    yield "the oracle three times", oracle * 3
    for words in (oracle.split(), _TOKEN.findall(oracle)):
        for _ in range(2):
            order = rng.permutation(len(words))
            yield "the oracle's words, shuffled", " " + " ".join([words[i] for i in order])
    sentences = _SENTENCE.findall(oracle)
    if len(sentences) > 1 and "".join(sentences) == oracle:
        count = len(sentences)
        orders = [range(count)[::-1], *(rng.permutation(count).tolist() for _ in range(4))]
        for order in orders:
            yield "the oracle's sentences, shuffled", "".join([sentences[i] for i in order])
        yield "one sentence over and over", sentences[0] * 4
    words = [vocabulary[i] for i in rng.integers(len(vocabulary), size=len(oracle.split()) or 1)]
    yield "random words", " " + " ".join(words)
    keywords = sorted(set(re.findall(r"\w+", oracle)))
    yield "the oracle's words, sorted", " " + " ".join(keywords)
    yield "the oracle's words, sorted", " " + ", ".join(keywords) + "."
    yield "the oracle's words, sorted", " " + " ".join(f"{word.capitalize()}." for word in keywords)
    yield "one word over and over", f" {max(keywords, key=len, default='x')}" * 20
    yield "all words of all references", " " + " ".join(vocabulary)
    given = re.findall(r"\w+", json.dumps([row[name] for name in row if name != "reference"]))
    yield "all words of the row", " " + " ".join(sorted(set(given)))


def spaced(oracle: str) -> Iterator[tuple[str, str]]:
    """A right answer with other white space around it, with names."""
    text = oracle.strip()
    yield "the oracle without white space around it", text
    yield "the oracle behind a line break", f"\n{text}"
    yield "the oracle behind two spaces", f"  {text}"
    yield "the oracle and a space", f"{oracle} "
    yield "the oracle and a line break", f"{oracle}\n"


def junk(oracle: str, sizes: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Strings that break careless scorers: malformed, unusual, and long ones of the given sizes."""
    strange = {
        "a null character": "\0",
        "white space": " \t\r\n\u2028\u00a0",
        "a lone surrogate": "\ud800",
        "emoji": "\U0001f600\u200d\U0001f468\U0010ffff",
        "combining marks": "e\u0301\u0301\u0301",
        "right-to-left text": "\u05d0\u05d1\u202e abc",
        "an end of text": "<|endoftext|>",
        "format fields": "{} {0} {x!r} %s %(a)d \\1 $1",
        "regular expression": "(((a+)+)+$ [",
        "no number": "nan inf -inf 1e999 \u00b2 \u0665",
        "JSON": '{"score": 1.0}',
    }
    yield from strange.items()
    for size in sizes:
        for name, piece in {
            **strange,
            "one letter": "a",
            "digits": "9",
            "full stops": ".",
            "words": "a ",
            "brackets": "(",
            "the oracle": oracle or "x",
        }.items():
            yield f"{name}, {size} characters", (piece * (size // len(piece) + 1))[:size]
