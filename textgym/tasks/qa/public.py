"""Public question answering data: how its rows are read, and how SQuAD's evaluation judges them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from textgym.data.literals import from_literal
from textgym.data.rows import is_missing
from textgym.data.words import split_words
from textgym.errors import DataError
from textgym.rewards.metrics.normalize import normalize
from textgym.tasks.judgement import Judgement, nothing, quoted
from textgym.tasks.qa.answers import ABSTENTIONS, abstains, plain, spoken

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
        value: SQuAD's ``{"text": [...], "answer_start": [...]}`` or its list of
            ``{"text": ..., "answer_start": ...}``, DROP's ``{"spans": [...]}``, a list of strings,
            a string, a number, or a bool (BoolQ); also a list of texts or a dictionary as a CSV
            file writes it.
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
    if hasattr(value, "tolist"):  # Parquet files give lists of strings as NumPy arrays
        value = value.tolist()
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


_TEXTS = ("text", "spans", "value")


def convert(row: dict[str, Any]) -> dict[str, Any]:
    """A row of public data with ``prompt``, ``reference`` and ``answers``; any other as it is.

    Raises:
        DataError: On a row with a question and its context whose answers are missing or cannot be
            read, and on one with several questions: a prompt of the bare question would lose the
            context, and no answer be right.
    """
    if "prompt" in row:
        return row
    story: Any = row.get("story")
    if hasattr(story, "tolist"):
        story = story.tolist()
    if isinstance(story, Mapping) or (isinstance(story, Sequence) and not isinstance(story, str)):
        return _from_babi(row, story)
    nested = next((name for name in _NESTED if row.get(name) is not None), None)
    if nested is not None and "question" not in row:
        raise DataError(
            f"a row with the column {nested!r} holds several questions; write a row for each, with "
            "'context', 'question' and 'answers' (as the data set's copy on the hub has them)"
        )
    context = next((text for name in _CONTEXTS if (text := _context(row.get(name)))), None)
    question = row.get("question")
    if context is None or not isinstance(question, str):
        return row
    name = next((name for name in _ANSWERS if not is_missing(row.get(name))), None)
    if name is None:
        raise DataError(
            "a row with a question and its context has no answers, and nothing else can judge what "
            "is written: take a split that has 'answers', or make rows with a prompt column and "
            "pass another reward="
        )
    answers = answers_of(row[name])
    if answers is None:
        raise DataError(
            f"a row with a question and its context has answers of no known form: {name!r} is "
            f"{row[name]!r:.60}; give a string, a list of strings, or SQuAD's 'answers', or else a "
            "'prompt' of your own"
        )
    return _made(row, context, question, answers)


_ANSWERS = ("answers", "answers_spans", "answer")
_NESTED = ("paragraphs", "qas", "questions")
"""Columns of articles with several questions: of SQuAD's own files, and of CoQA and QuAC."""


def _context(value: Any) -> str | None:
    """A context as one text: HotpotQA's is a list of titled paragraphs, PubMedQA's of passages."""
    value = from_literal(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("sentences", "contexts") if name in value), None)
        return None if value is None else _context(value)
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        # A paragraph may be a pair of its title and its sentences.
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


def judge_public(completion: str, answers: Sequence[str], abstention: float) -> Judgement:
    """The mean of exact match and token F1 (Rajpurkar et al. 2016), the best over the answers.

    Token F1 alone would pay in full for the right words in any order, and a long answer that is
    denied, or one of two, nearly in full: what denies ("not", "never") or offers a choice ("or")
    otherwise than the answer does earns at most 0.4.

    In scripts without spaces (Chinese, Japanese, Thai, ...) every character is a token, as in the
    evaluation of CMRC 2018 (Cui et al. 2019); see :mod:`textgym.data.words`.

    Args:
        completion: Any text.
        answers: Alternatives; none for an unanswerable question, where only an abstention is right.
        abstention: What it earns where there is an answer.
    """
    said, text = plain(completion), completion.strip()
    shown = quoted(text)
    if not answers:
        if abstains(said):
            return Judgement().add(shown, "right: there is no answer", 1.0)
        return nothing(shown, "wrong: there is no answer, and only saying so is right")
    if not text or len(text) > _SPARE + 4 * max(map(len, answers)):
        return nothing(shown, "too long for an answer" if text else "an empty text")
    if text in [answer.strip() for answer in answers]:
        return Judgement().add(shown, "the right answer", 1.0)
    told = _tokens(text)
    judgement = max([_compared(told, answer) for answer in answers], key=lambda one: one.score)
    if abstains(said) and judgement.score < abstention:
        judgement.settle(shown, "says that there is no answer", abstention)
    return judgement


def _tokens(text: str) -> list[str]:
    """The words of a text; those of an answer such as "A" too, which are all articles."""
    return split_words(normalize(text, _IGNORED) or normalize(text, ("case", "punctuation")))


def _compared(said: list[str], answer: str) -> Judgement:
    """The mean of exact match and F1 with one answer, bounded for denials and choices."""
    tokens, judgement = _tokens(answer), Judgement()
    if said and said == tokens:
        return judgement.add("the text", f"the right answer, {quoted(answer)}", 1.0)
    common = (Counter(said) & Counter(tokens)).total()
    judgement.add(
        f"{common} of {len(tokens)} words of {quoted(answer)}",
        f"with {len(said) - common} others: half of F1",
        common / max(1, len(said) + len(tokens)),
    )
    if any(said.count(word) > tokens.count(word) for word in _TURNS):
        what = "it is denied, or one answer of several"
        judgement.settle("the answer", what, min(judgement.score, _TURNED))
    return judgement
