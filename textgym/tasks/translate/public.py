"""Public parallel text as prompts of the translation task, and the scores of its translations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from textgym.data.literals import from_literal
from textgym.tasks.on_topic import on_topic, overlap

_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

_ENGLISH_COLUMNS = ("en", "eng", "english", "en_us", "en_gb", "eng_latn", "sentence_eng_latn")
_CHINESE_COLUMNS = (
    "zh", "zho", "cmn", "chinese", "zh_cn", "zh_hans", "zh_hant", "zh_tw",
    "zho_hans", "zho_hant", "sentence_zho_hans", "sentence_zho_hant",
)  # fmt: skip
_SOURCES, _TARGETS = ("source", "src", "source_text"), ("target", "tgt", "target_text")


def similarity(text: str, reference: str) -> float:
    """Sentence chrF against the reference, times the factor `on_topic`."""
    return overlap("chrf", text, reference) * on_topic(text, [reference])


def prompt_of(source: str, direction: str) -> str:
    """The prompt of a source sentence."""
    if direction == "en-zh":
        return f"English: {source}\nChinese:"
    return f"中文: {source}\nEnglish:"


def convert(row: dict[str, Any], direction: str) -> dict[str, Any]:
    """Convert a row of parallel text; other rows are returned unchanged."""
    pair = _pair(row)
    if pair is None or "prompt" in row:
        return row
    names, english, chinese = pair
    rest = {name: value for name, value in row.items() if name not in names}
    source, target = (english, chinese) if direction == "en-zh" else (chinese, english)
    return {
        **rest,
        "prompt": prompt_of(source, direction),
        "reference": f" {target}",
        "direction": direction,
    }


def _pair(row: Mapping[str, Any]) -> tuple[set[str], str, str] | None:
    """The columns of a sentence pair, its English and its Chinese, or None."""
    column = "translation" if "translation" in row else "translations"
    inner = _by_language(from_literal(row.get(column)))
    table = inner if isinstance(inner, Mapping) else row
    names = {str(name).lower().replace("-", "_"): name for name in table}
    english = next((names[name] for name in _ENGLISH_COLUMNS if name in names), None)
    chinese = next((names[name] for name in _CHINESE_COLUMNS if name in names), None)
    if english is None or chinese is None:
        english = next((names[name] for name in _SOURCES if name in names), None)
        chinese = next((names[name] for name in _TARGETS if name in names), None)
    if english is None or chinese is None:
        return None
    first, second = table[english], table[chinese]
    if not isinstance(first, str) or not isinstance(second, str):
        return None
    # Columns named source and target do not identify the languages, so the scripts do.
    if _han_share(first) > _han_share(second):
        first, second = second, first
    if not _HAN.search(second):
        return None
    used = {column} if table is inner else {english, chinese}
    return used, " ".join(first.split()), " ".join(second.split())


def _by_language(value: Any) -> Any:
    """Texts by language. TED talks have languages and texts in two lists."""
    if not isinstance(value, Mapping) or not {"language", "translation"} <= value.keys():
        return value
    return dict(zip(value["language"], value["translation"], strict=False))


def _han_share(text: str) -> float:
    """The share of Chinese characters."""
    return len(_HAN.findall(text)) / max(1, len(text))
