"""Public question answering data: conversion of its rows, and the SQuAD scorer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from textgym.data.literals import from_array, from_literal
from textgym.data.rows import is_missing
from textgym.data.words import split_words
from textgym.errors import DataError
from textgym.rewards.metrics.normalize import normalize
from textgym.tasks.judgement import Judgement, nothing, quoted
from textgym.tasks.qa.answers import ABSTENTIONS, abstains, capitalized, completion_of

IGNORED = ("case", "punctuation", "articles", "whitespace")
"""Differences that the SQuAD evaluation ignores."""

_CONTEXTS = ("context", "passage", "story")
_ANSWERS = ("answers", "answers_spans", "answer")
_TEXTS = ("text", "spans", "value")
_NESTED = ("paragraphs", "qas", "questions")
"""Columns of articles with several questions: of SQuAD's own files, and of CoQA and QuAC."""

_NEGATIONS = ("not", "no", "never", "neither", "nor", "or", "isnt", "wasnt", "arent")
"""Words (without punctuation) that change the meaning of an answer."""

_NEGATED = 0.4
"""The maximum score of an answer with such a word."""

_SPARE = 400
"""Characters that an answer may have beyond four times the longest right one."""


def answers_of(value: Any) -> list[str] | None:
    """The alternatives in a column of answers, without repetition; None for another form.

    Args:
        value: SQuAD's ``{"text": [...], "answer_start": [...]}`` or its list of
            ``{"text": ..., "answer_start": ...}``, DROP's ``{"spans": [...]}``, a list of strings,
            a string, a number, or a bool (BoolQ); also a list or dictionary as text (CSV files).
    """
    spelled = from_literal(value)
    if spelled is not value and all(isinstance(one, (str, Mapping)) for one in spelled):
        found = answers_of(spelled)
        if found is not None:
            return found
    if isinstance(value, Mapping):
        value = next((value[name] for name in _TEXTS if value.get(name) is not None), None)
    if isinstance(value, (bool, int, float)):
        value = _spelled(value)
    if isinstance(value, str):
        return [value] if value.strip() else []
    value = from_array(value)
    if not isinstance(value, Sequence):
        return None
    texts: list[Any] = [one.get("text") if isinstance(one, Mapping) else one for one in value]
    texts = [_spelled(one) if isinstance(one, (bool, int, float)) else one for one in texts]
    if not all(isinstance(one, str) for one in texts):
        return None
    return list(dict.fromkeys(one for one in texts if one.strip()))


def _spelled(value: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def convert(row: dict[str, Any]) -> dict[str, Any]:
    """Add ``prompt``, ``reference`` and ``answers`` to a row of public data.

    Rows of other forms are returned unchanged.

    Raises:
        DataError: If a row has a question and a context but no readable answers, or several
            questions. (As a prompt, the bare question would lose its context.)
    """
    if "prompt" in row:
        return row
    story = from_array(row.get("story"))
    if isinstance(story, Mapping) or (isinstance(story, Sequence) and not isinstance(story, str)):
        return _from_babi(row, story)
    nested = next((name for name in _NESTED if row.get(name) is not None), None)
    if nested is not None and "question" not in row:
        raise DataError(
            f"column {nested!r} holds several questions: write one row per question, with "
            "'context', 'question' and 'answers' (as the data set's copy on the Hub does)"
        )
    context = next((text for name in _CONTEXTS if (text := _context(row.get(name)))), None)
    question = row.get("question")
    if context is None or not isinstance(question, str):
        return row
    name = next((name for name in _ANSWERS if not is_missing(row.get(name))), None)
    if name is None:
        raise DataError(
            "column 'answers' is missing, so the question cannot be scored: use a split that has "
            "answers, or add a prompt column and pass another reward="
        )
    answers = answers_of(row[name])
    if answers is None:
        raise DataError(
            f"column {name!r} is {row[name]!r:.60}; expected a string, a list of strings, or "
            "SQuAD's 'answers'; or add a 'prompt' column"
        )
    return _made(row, context, question, answers)


def _context(value: Any) -> str | None:
    """A context as one text, joining HotpotQA's titled paragraphs and PubMedQA's passages."""
    value = from_array(from_literal(value))
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("sentences", "contexts") if name in value), None)
        return None if value is None else _context(value)
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        # A paragraph may be a pair of title and sentences.
        parts = [one[1] if _is_titled(one) else one for one in value]
        texts = [_context(one) for one in parts]
        found = " ".join(text.strip() for text in texts if text)
        return found or None
    return None


def _is_titled(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and isinstance(value[0], str)
        and not isinstance(value[1], str)
    )


def _prompt(context: str, question: str) -> str:
    return f"Context: {' '.join(context.split())}\nQuestion: {question.strip()}\nAnswer:"


def _made(row: dict[str, Any], context: str, question: str, answers: list[str]) -> dict[str, Any]:
    prompt = _prompt(context, question)
    reference = f" {answers[0].strip()}" if answers else completion_of(ABSTENTIONS[0])
    return {**row, "prompt": prompt, "reference": reference, "answers": answers}


def _from_babi(
    row: dict[str, Any], story: Mapping[str, Any] | Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The last question of a story of the Hub's ``babi_qa``, with all sentences before it.

    Args:
        row: The row.
        story: A mapping of columns, or a list of lines, where statements may lack an answer.
    """
    try:
        if isinstance(story, Mapping):
            lines = list(zip(story["type"], story["text"], story["answer"], strict=True))
        else:
            lines = [(one["type"], one["text"], one.get("answer", "")) for one in story]
    except (AttributeError, KeyError, TypeError, ValueError):
        return row
    asked = [number for number, (kind, _, _) in enumerate(lines) if kind == 1]
    if not asked:
        return row
    context = " ".join(str(text) for kind, text, _ in lines[: asked[-1]] if kind == 0)
    _, question, answer = lines[asked[-1]]
    return _made(row, context, str(question), [str(answer)])


def judge_public(completion: str, answers: Sequence[str], abstention: float) -> Judgement:
    """The mean of exact match and token F1 (Rajpurkar et al. 2016), maximum over the answers.

    Token F1 alone ignores word order, and pays nearly in full for a long answer that is negated or
    one of two. A negation ("not", "never") or choice ("or") that the answer does not have limits
    the score to 0.4.

    In scripts without spaces (Chinese, Japanese, Thai, ...) every character is a token, as in the
    evaluation of CMRC 2018 (Cui et al. 2019); see :mod:`textgym.data.words`.

    Args:
        completion: Any text.
        answers: Alternatives; empty for an unanswerable question, which takes an abstention.
        abstention: The score of an abstention where there is an answer.
    """
    text = completion.strip()
    shown, abstained = quoted(text), abstains(capitalized(completion))
    if not answers:
        if abstained:
            return Judgement().add(shown, "right: there is no answer", 1.0)
        return nothing(shown, "wrong: the question is unanswerable")
    if not text or len(text) > _SPARE + 4 * max(map(len, answers)):
        return nothing(shown, "too long for an answer" if text else "an empty text")
    if text in [answer.strip() for answer in answers]:
        return Judgement().add(shown, "the right answer", 1.0)
    tokens = _tokens(text)
    judgement = max([_compare(tokens, answer) for answer in answers], key=lambda one: one.score)
    if abstained and judgement.score < abstention:
        judgement.settle(shown, "an abstention", abstention)
    return judgement


def _tokens(text: str) -> list[str]:
    """The words of a text without articles, unless it has no others (the answer "A")."""
    return split_words(normalize(text, IGNORED) or normalize(text, ("case", "punctuation")))


def _compare(tokens: list[str], answer: str) -> Judgement:
    """The mean of exact match and F1 with one answer, limited for negations and choices."""
    expected, judgement = _tokens(answer), Judgement()
    if tokens and tokens == expected:
        return judgement.add("the text", f"the right answer, {quoted(answer)}", 1.0)
    common = (Counter(tokens) & Counter(expected)).total()
    judgement.add(
        f"{common} of {len(expected)} words of {quoted(answer)}",
        f"with {len(tokens) - common} others: half of F1",
        common / max(1, len(tokens) + len(expected)),
    )
    if any(tokens.count(word) > expected.count(word) for word in _NEGATIONS):
        what = "negated, or one answer of several"
        judgement.settle("the answer", what, min(judgement.score, _NEGATED))
    return judgement
