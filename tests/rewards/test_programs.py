"""The program in a text of a language model, tested by what the program computes."""

from __future__ import annotations

import sys

import pytest

from textgym.data.rows import as_row
from textgym.rewards import make_reward
from textgym.rewards.code.programs import readings
from textgym.tasks import make_task

PROMPT = 'import math\n\n\ndef inc(x):\n    """Add one."""\n'
TEST = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(-1) == 0\n"
BODY = "    y = x + 1\n    return y\n"
WHOLE = "def inc(x):\n" + BODY


def first_that_compiles(prompt: str, completion: str, name: str | None = "inc") -> str:
    for program in readings(prompt, completion, name).programs:
        try:
            compile(program, "a reading", "exec")
        except SyntaxError:
            continue
        return program
    return ""


def result(prompt: str, completion: str, name: str = "inc") -> object:
    """Return what the program of a text computes from 1; None if it is not a program."""
    names: dict[str, object] = {}
    try:
        exec(first_that_compiles(prompt, completion, name), names)
        return names[name](1)  # type: ignore[operator]
    except Exception as error:
        return type(error).__name__


RIGHT = {
    "the body": BODY,
    "no space at all": BODY.strip(),
    "one space less": BODY[1:],
    "one space more": " " + BODY,
    "a line break before": "\n" + BODY,
    "a line break, and no indentation": "\n\n" + BODY.lstrip(),
    "all lines without indentation": "y = x + 1\nreturn y",
    "all lines with one space less": "   y = x + 1\n   return y\n",
    "carriage returns": BODY.replace("\n", "\r\n"),
    "trailing white space": BODY + "\n \t\n",
    "a block first": "if x:\n        x += 1\n    return x",
    "a comment first": "# one more\n    return x + 1",
    "its own import": "import os\n    return x + 1",
    "one statement": "return x + 1",
    "a function in the function": "def more(y):\n        return y + 1\n    return more(x)",
    "the function": WHOLE,
    "the prompt, and the body": PROMPT + BODY,
    "a fence": f"```python\n{WHOLE}```",
    "a fence of an unnamed language": f"```\n{WHOLE}```",
    "a fence that is not closed": f"```python3\n{WHOLE}",
    "a fence of tildes": f"~~~py\n{WHOLE}~~~",
    "prose around a fence": f"Sure! Here it is:\n\n```python\n{WHOLE}```\n\nIt adds one.",
    "the body in a fence": f"The body is:\n```python\n{BODY}```",
    "the body in a fence, without indentation": "```python\ny = x + 1\nreturn y\n```",
    "an indented fence": "1. So:\n   ```python\n   def inc(x):\n       return x + 1\n   ```",
    "another language first": f"```bash\npip install x\n```\nthen\n```python\n{WHOLE}```",
    "an example first": f"```python\ninc(1)\n```\nneeds\n```python\n{WHOLE}```",
    "an example afterwards": f"```python\n{WHOLE}```\nSo:\n```python\nassert inc(1) == 7\n```",
    "thoughts": f"<think>\n```python\nreturn 0\n```\n</think>\n```python\n{WHOLE}```",
    "an async helper": "async def more(y):\n        return y\n    return x + 1",
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_right_programs(text: str) -> None:
    assert result(PROMPT, text) == 2


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("def inc(x):", "return x + 1"),
        ("def inc(x):", " return x + 1"),
        ("def inc(x):", "\n  y = x\n  return y + 1"),
        ("def inc(x):\n", "  y = x\n  return y + 1"),
        ("def inc(x):\n", "y = x\n  return y + 1"),
        ("def inc(x):\n    return", "x + 1"),
        ("def inc(x):\n    return", " x + 1"),
        ("def inc(x):\n    ret", "urn x + 1"),  # the prompt ends within a word
        ("def inc(x):\n    total = x + 1\n    return to", "tal"),
        ("def inc(x):\n    y = x + 1", "return y"),
        ("def inc(x):\n    y = x + 1", "\n    return y"),
        ('def inc(x):\n    """Add one."""', "    return x + 1"),
        ('def inc(x):\n    """Add one."""', "return x + 1"),
        ("def inc(x):\n    for y in [x]:\n", "return y + 1"),
        ("Complete this:\n```python\ndef inc(x):\n", f"{BODY}```\nThat adds one."),
        ("Complete this:\n```python\ndef inc(x):\n", "return x + 1\n```\nThat adds one."),
        ("Complete `def inc(x):`, which adds one.", f"```python\n{WHOLE}```"),
        ("Complete `def inc(x):`, which adds one.", WHOLE),
    ],
)
def test_prompts_of_other_forms(prompt: str, text: str) -> None:
    assert result(prompt, text) == 2


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n", "Done.", "    return x", "```python\n```", "```\nIt adds one.\n```",
     f"```cpp\n{WHOLE}```", "    return x + 1)", "  x = 1\n return x", "def inc(x):", "```"],
)  # fmt: skip
def test_wrong_programs(text: str) -> None:
    assert result(PROMPT, text) != 2


def test_helpers_of_the_prompt_are_known() -> None:
    assert readings(PROMPT, BODY, "inc").helpers == "import math\n\n\n"
    assert readings("prose of def inc(x)", BODY, "inc").helpers == ""
    assert readings("", "def f(): pass", None).helpers == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
@pytest.mark.parametrize(
    "text",
    [RIGHT["prose around a fence"], RIGHT["no space at all"], "    return x\n", WHOLE, "",
     "```python\ndef dec(x):\n    return x + 1\n```"],
)  # fmt: skip
def test_the_task_and_the_reward_agree(text: str) -> None:
    """Rows of HumanEval and of MBPP have one judge, whoever asks."""
    task, reward = make_task("TextGen/Code-v0"), make_reward("unit_tests")
    human_eval = {"task_id": "T/0", "prompt": PROMPT, "canonical_solution": BODY, "test": TEST,
                  "entry_point": "inc"}  # fmt: skip
    mbpp = {"text": "Add one.", "code": WHOLE, "test_list": ["assert inc(1) == 2"] * 2}
    for raw in (human_eval, mbpp):
        row = task.complete_row(as_row(task.convert(dict(raw)), "the row"))
        columns = {name: [value] for name, value in row.items() if name != "prompt"}
        [expected] = reward([row["prompt"]], [text], **columns)
        assert task.score(text, row) == expected
        assert task.score(task.oracle(row), row) == 1.0
