"""Public question answering data: how its rows are read, and how SQuAD's evaluation judges them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from textgym.rewards.normalize import normalize
from textgym.tasks.qa_answers import ABSTENTIONS, abstains, plain, spoken
from textgym.words import split_words

_IGNORED = ("case", "punctuation", "articles", "whitespace")
_CONTEXTS = ("context", "passage", "story")
_TURNS = ("not", "no", "never", "neither", "nor", "or", "isnt", "wasnt", "arent")
"""Words (without their punctuation) that make another answer of one."""

_TURNED = 0.4
"""The most for an answer with such a word."""

_SPARE = 400
"""Characters that an answer may have beyond four times those of the longest right one."""


def answers_of(value: Any) -> list[str] | None:
    """The alternatives in a column of answers, without repetition; None if it is no such column.

    Args:
        value: SQuAD's ``{"text": [...], "answer_start": [...]}``, a list of strings, a string, or a
            bool (BoolQ).
    """
    if isinstance(value, Mapping):
        value = value.get("text")
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, str):
        return [value] if value.strip() else []
    if hasattr(value, "tolist"):  # Parquet files give lists of strings as NumPy arrays
        value = value.tolist()
    if isinstance(value, Sequence) and all(isinstance(one, str) for one in value):
        return list(dict.fromkeys(one for one in value if one.strip()))
    return None


def convert(row: dict[str, Any]) -> dict[str, Any]:
    """A row of public data with ``prompt``, ``reference`` and ``answers``; any other as it is."""
    if "prompt" in row:
        return row
    story: Any = row.get("story")
    if hasattr(story, "tolist"):
        story = story.tolist()
    if isinstance(story, Mapping) or (isinstance(story, Sequence) and not isinstance(story, str)):
        return _from_babi(row, story)
    context = next((row[name] for name in _CONTEXTS if isinstance(row.get(name), str)), None)
    question = row.get("question")
    if context is None or not isinstance(question, str):
        return row
    answers = answers_of(row["answers"] if "answers" in row else row.get("answer"))
    if answers is None:
        return row
    return _made(row, context, question, answers)


def _made(row: dict[str, Any], context: str, question: str, answers: list[str]) -> dict[str, Any]:
    prompt = f"Context: {' '.join(context.split())}\nQuestion: {question.strip()}\nAnswer:"
    reference = f" {answers[0].strip()}" if answers else spoken(ABSTENTIONS[0])
    return {**row, "prompt": prompt, "reference": reference, "answers": answers}


def _from_babi(
    row: dict[str, Any], story: Mapping[str, Any] | Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The last question of a story of the hub's ``babi_qa``, after all the sentences before it.

    Args:
        row: The row.
        story: A mapping of columns, or a line each; lines that are told may lack an answer.
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
    told = " ".join(str(text) for kind, text, _ in lines[: asked[-1]] if kind == 0)
    _, question, answer = lines[asked[-1]]
    return _made(row, told, str(question), [str(answer)])


def score_public(completion: str, answers: Sequence[str], abstention: float) -> float:
    """The mean of exact match and token F1 (Rajpurkar et al. 2016), the best over the answers.

    Token F1 alone would pay in full for the right words in any order, and a long answer that is
    denied, or one of two, nearly in full: what denies ("not", "never") or offers a choice ("or")
    otherwise than the answer does earns at most 0.4.

    In scripts without spaces (Chinese, Japanese, Thai, ...) every character is a token, as in the
    evaluation of CMRC 2018 (Cui et al. 2019); see :mod:`textgym.words`.

    Args:
        completion: Any text.
        answers: Alternatives; none for an unanswerable question, where only an abstention is right.
        abstention: What it earns where there is an answer.
    """
    said = plain(completion)
    if not answers:
        return float(abstains(said))
    text = completion.strip()
    if not text or len(text) > _SPARE + 4 * max(map(len, answers)):
        return 0.0
    if text in [answer.strip() for answer in answers]:
        return 1.0
    best = max(_overlap(_tokens(text), _tokens(answer)) for answer in answers)
    return max(best, abstention) if abstains(said) else best


def _tokens(text: str) -> list[str]:
    """The words of a text; those of an answer such as "A" too, which are all articles."""
    return split_words(normalize(text, _IGNORED) or normalize(text, ("case", "punctuation")))


def _overlap(said: list[str], answer: list[str]) -> float:
    if not said or not answer:
        return 0.0
    if said == answer:
        return 1.0
    common = sum((Counter(said) & Counter(answer)).values())
    score = common / (len(said) + len(answer))
    turned = any(said.count(word) > answer.count(word) for word in _TURNS)
    return min(score, _TURNED) if turned else score
