#!/usr/bin/env python3
"""Count turns of phrase that textgym's docs avoid; fail where there are too many.

    python .ci/prose.py [FOLDER ...]        default: textgym agents benchmarks
    python .ci/prose.py --where [FOLDER ...]   list the places

Docstrings, comments and the messages of errors are counted, per 10,000 words. Gymnasium, TRL and
stable-baselines3 are at 0 to 1.2 for each. A hit is a place to look at, not always an error.
"""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

# Name, pattern, and the most that is accepted for 10,000 words.
_WHAT = "is|was|it|a|an|the|has|some|every|each|they|he|makes|comes|agents|does|else|may|one|of"
_NO = "longer|way|more|need|such|guarantee|point"
PHRASES = (
    ("a sentence that begins with a 'What ...' clause", rf"(?:^|[.:] )What (?:{_WHAT})\b", 1.0),
    ("tell, tells, told", r"\b(?:told|tells?|telling)\b", 1.0),
    ("is no X", rf"\b(?:is|are|was|were) no (?!{_NO})\w+", 1.5),
    ("goes on", r"\b(?:goes|go|went|going) on\b", 0.5),
    ("stands, for 'is'", r"\bstands? (?!for\b)", 0.5),
    ("beside", r"\bbeside\b", 0.5),
    ("anew", r"\banew\b", 0.5),
    ("so many, so much", r"\bso (?:many|much)\b", 1.0),
    ("of its own, of ours", r"\bof (?:its|their|our|your|his) own\b|\bof ours\b", 3.0),
    ("is none", r"\b(?:is|are|if) none\b", 1.0),
)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings, comments, and strings within ``raise`` statements, with their lines."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and isinstance(node.body[0], ast.Expr):
                yield node.body[0].lineno, text
        elif isinstance(node, ast.Raise):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string.lstrip("#: ")


def main(words: list[str]) -> int:
    """Print the counts, or the places; 1 if a count is too high."""
    where = "--where" in words
    folders = [word for word in words if word != "--where"] or ["textgym", "agents", "benchmarks"]
    total, found = 0, {name: 0 for name, _, _ in PHRASES}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            for line, text in prose(path):
                total += len(re.findall(r"\w+", text))
                for name, pattern, _ in PHRASES:
                    for match in re.finditer(pattern, text, re.MULTILINE):
                        found[name] += 1
                        if where:
                            start = text.rfind("\n", 0, match.start()) + 1
                            at = line + text.count("\n", 0, match.start())
                            print(f"{path}:{at}: {text[start:].splitlines()[0].strip()}  [{name}]")
    failed = 0
    print(f"{total:,} words of prose; for 10,000 words (the most that is accepted):")
    for name, _, most in PHRASES:
        rate = 1e4 * found[name] / max(1, total)
        failed |= rate > most
        print(f"{rate:6.1f} ({most:.1f}) {name}{'   TOO MANY' if rate > most else ''}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
