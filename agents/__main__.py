"""``python -m agents``: the agents, a line each."""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def agents() -> dict[str, str]:
    """The first line of each agent's docstring, by the agent's name; nothing is imported."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        doc = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
        found[file.stem] = doc.partition("\n")[0]
    return found


def main(words: list[str]) -> int:
    """Print the list; the exit code is 2 if a word follows that belongs to an agent's own command.

    Args:
        words: The words of the command line.
    """
    known = agents()
    if words and words[0] not in ("-h", "--help"):
        name = words[0] if words[0] in known else "NAME"
        print(
            f"python -m agents only lists the agents; use python -m agents.{name}", file=sys.stderr
        )
        return 2
    print("python -m agents.NAME runs an agent; python -m agents.NAME --help lists its flags.\n")
    width = max(map(len, known))
    for name, line in known.items():
        print(f"{name:{width}}  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
