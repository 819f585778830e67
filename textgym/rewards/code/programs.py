"""The program in Python that a text stands for, as language models write programs.

A model completes the prompt, or writes the function again, between fences of three backticks or
not, with explanations around them; and its tokenizer or its chat template may take the white space
from the beginning of the text. `readings` lists what such a text can mean, in the order in which it
is tried: the first reading that compiles is the program.
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
    """What a text can mean.

    Attributes:
        programs: Sources, the likeliest first.
        helpers: What the prompt defines before the function that is asked for, of which each
            program has a copy: tests need their own, which the program cannot change.
    """

    programs: list[str]
    helpers: str


def readings(prompt: str, completion: str, entry_point: str | None) -> Readings:
    """The programs that a completion may stand for.

    * Of a text with fences, what is within the first fence that defines `entry_point`, or else the
      first one in Python; and what is before a fence that only closes the prompt's.
    * Where the prompt is a source that begins `entry_point` (or ends with such a source in an open
      fence), a text that does not define that function continues the prompt. Its first line may
      lack its indentation, or all its lines may; and it may lack the line break or the space after
      a prompt that ends without one.

    Args:
        prompt: The prompt.
        completion: What was written.
        entry_point: The function that is asked for, if it is known.
    """
    begun = _begun(prompt)
    source = prompt if begun is None else begun
    before, signature, _ = source.partition(f"def {entry_point}(") if entry_point else ("", "", "")
    # The prompt of a chat may quote the function: it is prose then, and no part of a program.
    if not signature or not _is_source(before):
        before = source = ""
    programs: dict[str, None] = {}
    for written in _written(completion, entry_point, begun is not None):
        if not source or _defines(written, entry_point):
            written = written.replace("\r\n", "\n")
            whole = f"{before}\n{written}" if before else written
            programs.update(dict.fromkeys((whole, f"{before}\n{textwrap.dedent(written)}")))
        else:
            programs.update(dict.fromkeys(_continued(source, written)))
    return Readings(list(programs), before)


def code_of(completion: str, entry_point: str | None = None) -> str:
    """What is within the fence of a text that holds its program; a text without fences as it is.

    Args:
        completion: What was written.
        entry_point: The function that is asked for, if it is known.
    """
    return _written(completion, entry_point, False)[0]


def _begun(prompt: str) -> str | None:
    """What follows the opening of a fence that the prompt leaves open; None if there is none."""
    fences = list(_FENCE.finditer(prompt))
    return prompt[fences[-1].end() :] if len(fences) % 2 else None


def _defines(source: str, name: str | None) -> bool:
    pattern = rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{name or r'[A-Za-z_]'}"
    return re.search(rf"{pattern}\b" if name else pattern, source, re.MULTILINE) is not None


def _written(completion: str, entry_point: str | None, inside: bool) -> list[str]:
    """The parts of a text that can be the program, without the fences."""
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
    """The programs of a source and of what is written behind it."""
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
    """The indentation of the body of the function that a source ends in."""
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
