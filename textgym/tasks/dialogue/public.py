"""Public dialogue data: conversion of its rows, and the scorer of responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textgym.data.rows import Row
from textgym.tasks.on_topic import on_topic, overlap

_HISTORIES = (
    "turns",
    "dialogue",
    "dialog",
    "log",
    "messages",
    "utterances",
    "conversations",
    "conversation",
)
_PAIRS = (("context", "response"), ("history", "response"), ("text", "response"))
_TEXTS = ("utterance", "text", "content", "value", "transcript")
_SPEAKERS = ("speaker", "role", "from")
_AGENTS = frozenset(("system", "agent", "assistant", "wizard", "bot", "gpt", "sys", "1"))
_RESERVED = frozenset(("turns", "replies"))
"""Columns that the environment adds."""

_MAX_CHARACTERS = 2_000
_MAX_RATIO = 4
"""Texts longer than this many times the reference (plus 100 characters) score 0."""

_Utterance = tuple[bool, str]
"""Whether the agent is the speaker, and the text."""


def convert(row: Row) -> Row:
    """Add a prompt, the conversation up to the agent's last turn, and that turn as the reference.

    Rows with a prompt, and rows of unknown form, are returned unchanged.
    """
    if "prompt" in row:
        return row
    for name in _HISTORIES:
        talk = _talk(row.get(name))
        while talk and not talk[-1][0]:
            talk.pop()
        if len(talk) > 1:
            return _made(row, talk[:-1], talk[-1][1])
    for before, after in _PAIRS:
        history, response = row.get(before), row.get(after)
        if not isinstance(response, str) or not response.strip():
            continue
        if isinstance(history, str):
            history = history.strip().split("\n")
        talk = _talk(history, last_is_agent=False)
        if talk:
            return _made(row, talk, response)
    return row


def _made(row: Row, talk: Sequence[_Utterance], response: str) -> Row:
    lines = [f"{'Agent' if agent else 'User'}: {text}" for agent, text in talk]
    kept = {name: value for name, value in row.items() if name not in _RESERVED}
    prompt = "\n".join([*lines, "Agent:"])
    return {**kept, "prompt": prompt, "reference": f" {' '.join(response.split())}"}


def _talk(value: Any, last_is_agent: bool | None = None) -> list[_Utterance]:
    """The turns of a conversation; empty for another value.

    Args:
        value: Columns of speakers and utterances (the Hub's MultiWOZ 2.2), turns as dictionaries
            (MultiWOZ's own files, chat messages), or strings of alternating speakers.
        last_is_agent: Whether the agent wrote the last string; None: the user wrote the first.
    """
    if isinstance(value, Mapping):
        texts = next((value[name] for name in _TEXTS if name in value), None)
        speakers = next((value[name] for name in _SPEAKERS if name in value), None)
        if texts is None or speakers is None or isinstance(texts, str):
            return []
        turns: list[Any] = [
            {"speaker": who, "text": text} for who, text in zip(speakers, texts, strict=False)
        ]
    elif hasattr(value, "__iter__") and not isinstance(value, str):
        turns = list(value)
    else:
        return []
    talk: list[_Utterance] = []
    for number, turn in enumerate(turns):
        if isinstance(turn, Mapping):
            text = next((turn[name] for name in _TEXTS if isinstance(turn.get(name), str)), "")
            who = next((turn[name] for name in _SPEAKERS if name in turn), number % 2)
            # Skip a chat's system prompt.
            if number == 0 and "role" in turn and str(who).lower() == "system":
                continue
            agent = str(int(who) if isinstance(who, bool) else who).lower() in _AGENTS
        elif isinstance(turn, str):
            text = turn
            after = len(turns) - number if last_is_agent is False else number + 1
            agent = after % 2 == 0
        else:
            return []
        if text.strip():
            talk.append((agent, " ".join(text.split())))
    return talk


def score_public(completion: str, reference: str) -> float:
    """The geometric mean of sentence BLEU and chrF, times the `on_topic` factor.

    BLEU measures precision and word order, chrF also recall; the geometric mean is small if either
    is small. The reference itself scores 1.
    """
    text, wanted = " ".join(completion[:_MAX_CHARACTERS].split()), " ".join(reference.split())
    limit = min(_MAX_CHARACTERS, _MAX_RATIO * len(wanted) + 100)
    if not text or not wanted or len(completion) > limit:
        return 0.0
    if text == wanted:
        return 1.0
    product = overlap("bleu", text, wanted) * overlap("chrf", text, wanted)
    return float(product**0.5 * on_topic(text, [wanted]))
