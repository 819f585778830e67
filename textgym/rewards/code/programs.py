"""Extraction of a Python program from the text of a language model.

A model continues the prompt or repeats the function, with or without code fences and explanations,
and its tokenizer or chat template may strip the whitespace at the beginning. `readings` lists the
possible programs in order of likelihood; the first one that compiles is used.
"""

from __future__ import annotations

import ast
import keyword
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

_FENCE = re.compile(r"(?:```|~~~)[ \t]*([^\n`~]*)(?:\n|\Z)")
_PYTHON = re.compile(r"(?:python|py)?[\d.]*|pycon", re.IGNORECASE)
_THOUGHTS = "</think>"
_KEYWORDS = frozenset(keyword.kwlist)
_OUTERMOST = re.compile(r"(?:async[ \t]+)?def\b|class\b|from\b|import\b|if[ \t]+__name__|[@#]")
_INDENT = "    "


class Readings(NamedTuple):
    """The possible programs of a text.

    Attributes:
        programs: Sources, the most likely one first.
        helpers: The prompt's source before the requested function. Each program contains it, and
            tests need another copy that the program cannot change.
    """

    programs: list[str]
    helpers: str


def readings(prompt: str, completion: str, entry_point: str | None) -> Readings:
    """Return the programs that a completion may contain.

    * With code fences: the first fence that defines `entry_point`, or else the first one in
      Python; and the text before a fence that only closes the prompt's.
    * If the prompt is a source that begins `entry_point` (or ends with such a source in an open
      fence), a text that does not define that function continues the prompt. The indentation of the
      first line or of all lines may be missing, and so may the line break or space after a prompt
      that ends without one.

    Args:
        prompt: The prompt.
        completion: The completion.
        entry_point: The name of the requested function, if known.
    """
    open_block = _open_block(prompt)
    source = prompt if open_block is None else open_block
    before, signature, _ = source.partition(f"def {entry_point}(") if entry_point else ("", "", "")
    # A chat prompt may quote the function in prose, which is not part of a program.
    if not signature or not _is_source(before):
        before = source = ""
    programs: dict[str, None] = {}
    for written in _code_parts(completion, entry_point, open_block is not None):
        if not source or _defines(written, entry_point):
            written = written.replace("\r\n", "\n")
            whole = f"{before}\n{written}" if before else written
            programs.update(dict.fromkeys((whole, f"{before}\n{textwrap.dedent(written)}")))
        else:
            programs.update(dict.fromkeys(_continued(source, written)))
    return Readings(list(programs), before)


def code_of(completion: str, entry_point: str | None = None) -> str:
    """Return the code block of a text that holds its program; without fences, the whole text.

    Args:
        completion: The completion.
        entry_point: The name of the requested function, if known.
    """
    return _code_parts(completion, entry_point, False)[0]


def _open_block(prompt: str) -> str | None:
    """Return the prompt after a code fence that it leaves open; None without such a fence."""
    fences = list(_FENCE.finditer(prompt))
    return prompt[fences[-1].end() :] if len(fences) % 2 else None


def _defines(source: str, name: str | None) -> bool:
    pattern = rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{name or r'[A-Za-z_]'}"
    return re.search(rf"{pattern}\b" if name else pattern, source, re.MULTILINE) is not None


def _code_parts(completion: str, entry_point: str | None, inside: bool) -> list[str]:
    """Return the parts of a text that can be the program; `inside` an open block of the prompt."""
    text = completion.rpartition(_THOUGHTS)[2]
    if "```" not in text and "~~~" not in text:
        return [text]
    fences = list(_FENCE.finditer(text))
    if not fences:
        return [text]
    if inside and not fences[0][1].strip():
        return [text[: fences[0].start()]]
    blocks = []
    for number in range(0, len(fences), 2):
        end = fences[number + 1].start() if number + 1 < len(fences) else len(text)
        if _PYTHON.fullmatch(fences[number][1].strip()):
            blocks.append(text[fences[number].end() : end])
    blocks.sort(key=lambda block: not _defines(block, entry_point))
    return [*blocks[:1], *([text[: fences[0].start()]] if len(fences) % 2 else [])] or [text]


def _continued(source: str, written: str) -> Iterator[str]:
    """Yield the programs of a source and the text that continues it."""
    written = written.replace("\r\n", "\n")
    if not source.endswith("\n"):
        last = re.search(r"(\w*)\Z", source)
        glued = source + written
        spaced = f"{source} {written.lstrip(' ')}"
        yield from (spaced, glued) if last and last[1] in _KEYWORDS else (glued, spaced)
        source += "\n"
    blank = re.match(r"(?:[ \t]*\n)*", written)
    body = written[blank.end() :] if blank else written
    first = body.partition("\n")[0]
    indented = first[:1] in (" ", "\t")
    if indented or not first or _OUTERMOST.match(first):
        yield source + written
    margin = _margin(source, body)
    yield source + margin + body.lstrip(" \t")
    yield source + textwrap.indent(textwrap.dedent(body), margin)
    if not indented:
        yield source + written


def _margin(source: str, body: str) -> str:
    """Return the indentation for the body of the function at the end of a source."""
    line = source.rstrip().rpartition("\n")[2]
    if not line.rstrip().endswith(":"):
        return line[: len(line) - len(line.lstrip())] or _INDENT
    deeper = [
        later[: len(later) - len(later.lstrip())]
        for later in body.split("\n")[1:]
        if later.strip() and later[0] in " \t"
    ]
    outer = line[: len(line) - len(line.lstrip())]
    return min(deeper, key=len) if deeper and not outer else outer + _INDENT


def _is_source(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
