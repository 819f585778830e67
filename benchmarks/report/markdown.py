"""Markdown pages with generated parts, and blocks of code."""

from __future__ import annotations

from collections.abc import Sequence

from textgym.errors import SettingsError


def fill(page: str, name: str, text: str) -> str:
    """The page with a text between the marks ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.

    Raises:
        SettingsError: If the page has no such marks.
    """
    begin_mark, end_mark = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, begin, rest = page.partition(begin_mark)
    # The last one: a policy's text might contain the mark.
    _, end, tail = rest.rpartition(end_mark)
    if not begin or not end:
        raise SettingsError(f"the page has no lines {begin_mark} and {end_mark} to write between")
    return f"{head}{begin}\n{text}\n{end}{tail}"


def fenced(lines: Sequence[str], language: str = "text") -> list[str]:
    """A block of code or plain text, whatever is in it."""
    body = "\n".join(lines)
    fence = "```"
    while fence in body:
        fence += "`"
    return [f"{fence}{language}", body, fence]
