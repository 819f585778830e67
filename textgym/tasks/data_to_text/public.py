"""Public data-to-text data: conversion of its rows, and the scorer of texts.

The formats of ToTTo, E2E NLG, WebNLG and CommonGen, in the data sets' own files and in their copies
on the Hub, are recognised by their columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from textgym.data.literals import from_array
from textgym.data.rows import Row
from textgym.data.words import words_of
from textgym.errors import DataError
from textgym.tasks.on_topic import on_topic, overlap

_CELL = re.compile(r"<cell>\s*(.*?)\s*<", re.DOTALL)
_SLOT = re.compile(r"\s*([^,\[\]]+?)\s*\[([^\]]*)\]")
_TAG = re.compile(r"\s*</?\w+>\s*")
_MAX_CHARACTERS = 2_000
_MAX_RATIO = 4
"""Texts longer than this many times the longest reference (plus 200 characters) score 0."""


def convert(row: Row) -> Row:
    """Add prompt, references and values to a row of a known format; return others unchanged.

    An existing prompt is kept, and so are all columns that the format does not define.

    Raises:
        DataError: If a row of a known format has neither references nor a prompt. (Coverage of the
            record alone would score a list of keywords as high as a sentence.)
    """
    for name, read, columns in _FORMATS:
        made = read(row)
        if made is None:
            continue
        header, lines, values, references = made
        if not references:
            if "prompt" in row:
                return row
            raise DataError(
                f"{name}: a row has no reference text, so it cannot be scored: use a split that "
                "has references (train or validation), or add a prompt column and pass another "
                "reward="
            )
        kept = {key: row[key] for key in row if key not in columns.split() and key not in _OURS}
        prompt = row.get("prompt", "\n".join([header, *lines, "Text:"]))
        texts = [f" {text.strip()}" for text in references]
        return {
            **kept, "prompt": prompt, "values": values, "reference": texts[0], "references": texts
        }  # fmt: skip
    return row


_Made = tuple[str, list[str], list[str], list[str]]

_OURS = frozenset(("references", "reference", "target", "values", "facts"))
"""Columns that `convert` reads or writes in all formats, or that `judge` reads in built-in rows."""


def _e2e(row: Row) -> _Made | None:
    meaning = row.get("meaning_representation", row.get("mr"))
    if not isinstance(meaning, str):
        return None
    pairs = _SLOT.findall(meaning)
    if not pairs:
        return None
    values = [value for _, value in pairs if value.lower() not in ("yes", "no")]
    lines = [f"{name}: {value}" for name, value in pairs]
    return "Record: restaurant", lines, values, _texts(row, "human_reference", "ref")


def _commongen(row: Row) -> _Made | None:
    concepts = _strings(row.get("concepts"))
    joined = row.get("concept_set")  # in the data set's own files
    if not concepts and isinstance(joined, str):
        concepts = [one for one in joined.split("#") if one.strip()]
    if not concepts:
        return None
    return f"Concepts: {', '.join(concepts)}", [], concepts, _texts(row, "scene")


def _webnlg(row: Row) -> _Made | None:
    triples = _triples(row)
    if not triples:
        return None
    lines = [f"{_spaced(one)}: {_spaced(verb)}: {_spaced(two)}" for one, verb, two in triples]
    values = list(dict.fromkeys(_spaced(text) for one, _, two in triples for text in (one, two)))
    return "Record: facts", lines, values, _texts(row, "lex", "lexicalisations")


def _triples(row: Row) -> list[list[str]]:
    names = ("modified_triple_sets", "modifiedtripleset", "triple_set", "triples")
    sets = next((row[name] for name in names if row.get(name) is not None), None)
    if sets is None and not isinstance(row.get("input"), str):
        sets = row.get("input")
    found: list[list[str]] = []

    def look(value: Any) -> None:
        if isinstance(value, str):
            parts = [part.strip() for part in value.split("|")]
            if len(parts) == 3:
                found.append(parts)
        elif isinstance(value, Mapping):
            if {"subject", "object"} <= value.keys():
                verb = value.get("property", value.get("predicate", ""))
                found.append([str(value["subject"]), str(verb), str(value["object"])])
            else:
                inner = value.get("mtriple_set", list(value.values()))
                look(inner)
        elif hasattr(value, "__iter__"):
            for one in value:
                look(one)

    look(sets)
    return [triple for number, triple in enumerate(found) if triple not in found[:number]]


def _spaced(text: str) -> str:
    return text.replace("_", " ").strip('" ')


def _totto(row: Row) -> _Made | None:
    texts = _texts(row, "sentence_annotations")
    linear = row.get("linearized_input", row.get("subtable_and_metadata_str"))
    linear = linear if linear is not None else row.get("subtable_and_metadata")
    if isinstance(linear, str):
        values = [_TAG.sub(" ", cell).strip() for cell in _CELL.findall(linear)]
        if not values:
            return None
        titles = re.findall(r"<(?:page|section)_title>\s*(.*?)\s*<", linear)
        return "Record: table", _totto_lines(titles, values), values, texts
    table, cells = row.get("table"), row.get("highlighted_cells")
    if table is None or cells is None or not hasattr(cells, "__iter__"):
        return None
    values = []
    for cell in cells:
        try:
            value = table[int(cell[0])][int(cell[1])]["value"]
        except (IndexError, KeyError, TypeError, ValueError):
            continue  # a cell outside the table
        values.append(str(value))
    if not values:
        return None
    titles = [row.get("table_page_title"), row.get("table_section_title")]
    return "Record: table", _totto_lines(titles, values), values, texts


_FORMATS: tuple[tuple[str, Callable[[Row], _Made | None], str], ...] = (
    ("E2E NLG", _e2e, "meaning_representation mr human_reference ref"),
    ("CommonGen", _commongen, "concepts concept_set scene"),
    (
        "WebNLG",
        _webnlg,
        "modified_triple_sets modifiedtripleset original_triple_sets originaltriplesets triple_set "
        "triples input lex lexicalisations",
    ),
    (
        "ToTTo",
        _totto,
        "table highlighted_cells sentence_annotations linearized_input subtable_and_metadata "
        "subtable_and_metadata_str",
    ),
)
"""Name, reader and columns of each known format."""


def _totto_lines(titles: Iterable[Any], values: list[str]) -> list[str]:
    return [*(f"title: {title}" for title in titles if title), *(f"cell: {one}" for one in values)]


def _texts(row: Row, *names: str) -> list[str]:
    """All texts in the given columns and the usual ones."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, Mapping):
            for name in ("final_sentence", "text", "lex"):
                look(_english(value, name))
        elif hasattr(value, "__iter__"):
            for one in value:
                look(one)

    for name in (*names, "references", "target", "reference"):
        look(row.get(name))
    return list(dict.fromkeys(text for text in found if text.strip()))


def _english(value: Mapping[str, Any], name: str) -> Any:
    """The texts of one name; only the English ones if there is a language (WebNLG has Russian)."""
    texts: Any = value.get(name)
    languages = value.get("lang")
    if isinstance(languages, str):
        return None if languages not in ("", "en") else texts
    if languages is None or isinstance(texts, str) or not hasattr(texts, "__iter__"):
        return texts
    english = [text for text, lang in zip(texts, languages, strict=False) if lang in ("", "en")]
    return english or texts


def _strings(value: Any) -> list[str]:
    value = from_array(value)
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return list(value)
    return []


def score_public(completion: str, row: Mapping[str, Any]) -> float:
    """The mean of ROUGE-L and chrF times the coverage of the values, maximum over the references.

    Coverage counts only values that the reference contains ("yes" or an inflected verb may be
    missing), so every reference scores 1. The score is reduced by the share of the record's lines
    that are copied verbatim ("food: French"), and multiplied by the `on_topic` factor.
    """
    references = _strings(row.get("references")) or [row["reference"]]
    longest = max(map(len, references), default=0)
    text = completion.strip()
    if not text or not longest or len(text) > min(_MAX_CHARACTERS, _MAX_RATIO * longest + 200):
        return 0.0
    values = _strings(row.get("values"))
    text_words = words_of(text)
    best = 0.0
    for one in references:
        words = words_of(one)
        asked = [value for value in values if _contains(words, value)]
        found = [value for value in asked if _contains(text_words, value)]
        coverage = len(found) / len(asked) if asked else 1.0
        if coverage > best:
            rouge = overlap("rouge", text, one, variant="rougeL", tokenizer="words")
            best = max(best, coverage * (rouge + overlap("chrf", text, one)) / 2)
    lines = [line for line in str(row.get("prompt", "")).split("\n") if ": " in line]
    copied = sum(line in text for line in lines) / len(lines) if lines else 0.0
    return best * (1.0 - copied) * on_topic(text, references)


def _contains(words: Sequence[str], value: str) -> bool:
    """Whether the words include those of a value, possibly with other endings."""
    return all(
        any(
            word == part
            or (len(part) > 2 and word.startswith(_stem(part)) and len(word) <= len(part) + 4)
            for word in words
        )
        for part in words_of(value)
    )


def _stem(word: str) -> str:
    return word[:-1] if word[-1] in "ey" else word
