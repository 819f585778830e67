from __future__ import annotations

import builtins
import copy
import pickle
import sys
import time

import gymnasium as gym
import numpy as np
import pytest

import textgym  # noqa: F401
from textgym.errors import RewardError
from textgym.rewards import make_reward
from textgym.rewards.code.unit_tests import UnitTests
from textgym.rewards.combine import RewardSum

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

SHORT = {"wall_s": 3.0, "cpu_s": 1, "memory_mb": 128}

# In the manner of HumanEval.
PROMPT = '''from typing import List

def half(x):
    return x // 2

def halves(xs: List[int]) -> List[int]:
    """The half of each."""
'''
BODY = "    return [half(x) for x in xs]\n"
CHECK = """
def check(candidate):
    assert candidate([4, 7]) == [half(4), half(7)]
    assert candidate([]) == []
"""
HUMAN_EVAL = {"test": CHECK, "entry_point": "halves"}

# In the manner of MBPP.
MBPP = {"test_list": ["assert twice(2) == 4", "assert twice('ab') == 'abab'"]}
TWICE = "def twice(x):\n    return 2 * x\n"
WRONG = "def twice(x):\n    return 4\n"

PAIRS = {"tests": [[[1, 2], 3], [["a", "b"], "ab"], [[[1], [2]], [1, 2]]], "entry_point": "add"}


def judge(reward, completion, row, prompt=""):
    [value] = reward([prompt], [completion], **{name: [one] for name, one in row.items()})
    return value


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (BODY, 1.0),
        ("    return [x / 2 for x in xs]\n", 0.0),
        ("def halves(xs: List[int]):\n    return [half(x) for x in xs]\n", 1.0),  # alone
        (f"Here it is:\n```python\ndef halves(xs):\n{BODY}```\nIt halves.", 1.0),
        # Its own helper does not change the test's.
        ("    return [half(x) for x in xs]\n\ndef half(x):\n    return 0\n", 0.0),
    ],
)
def test_human_eval(completion, expected):
    assert judge(UnitTests(**SHORT), completion, HUMAN_EVAL, PROMPT) == expected


def test_a_prompt_of_prose_is_no_program():
    chat = f"Please complete:\n```python\n{PROMPT}```"
    whole = f"```\n{PROMPT}{BODY}```"
    test = "def check(candidate):\n    assert candidate([4]) == [2]"
    row = {"test": test, "entry_point": "halves"}
    assert judge(UnitTests(**SHORT), whole, row, chat) == 1.0


@pytest.mark.parametrize(("partial", "expected"), [(True, [1.0, 0.5, 0.0]), (False, [1, 0, 0])])
def test_mbpp_partial_or_all(partial, expected):
    reward = UnitTests(partial=partial, **SHORT)
    tests = [np.array(MBPP["test_list"], dtype=object)] * 3  # As from a Parquet file.
    assert reward([""] * 3, [TWICE, WRONG, "no program"], test_list=tests) == expected
    assert [verdict.reason for verdict in reward.last] == ["passed", "wrong", "syntax"]
    assert [(verdict.passed, verdict.total) for verdict in reward.last] == [(2, 2), (1, 2), (0, 2)]


def test_setup_and_a_source_without_check():
    row = {"test": "assert twice(PI) == 2 * PI", "test_imports": ["from math import pi as PI"]}
    assert judge(UnitTests(**SHORT), TWICE, row) == 1.0
    row = {"test_list": ["assert twice(Y) == 6"], "test_setup_code": "Y = 3"}
    assert judge(UnitTests(**SHORT), TWICE, row) == 1.0


def test_pairs():
    reward = UnitTests(**SHORT)
    add = "def add(a, b):\n    return a + b"
    assert judge(reward, add, PAIRS) == 1.0
    assert judge(reward, "def add(a, b):\n    return 3", PAIRS) == pytest.approx(1 / 3)
    row = {"inputs": [[1, 2], [2, 2]], "outputs": [3, 5], "entry_point": "add"}
    assert judge(reward, add, row) == 0.5
    row = {"inputs": [[1, 2]], "outputs": [[1, 2]], "entry_point": "both"}
    assert judge(reward, "def both(*given):\n    return given", row) == 0.0  # a tuple, not a list


def test_rows_without_tests_do_not_apply():
    reward = UnitTests(workers=2, **SHORT)
    tests = [None, MBPP["test_list"], []]
    assert reward([""] * 3, [TWICE] * 3, test_list=tests, test=[None, "", None]) == [
        None,
        1.0,
        None,
    ]
    assert reward.last[0] is None


# An attack is worth nothing: the right solution is there, so an attack that does nothing passes.
ATTACKS = {
    "endless loop": "while True:\n    pass",
    "exit": "import os\nos._exit(0)",
    "exit of the interpreter": "raise SystemExit(0)",
}
PATCHES = {
    "equal to everything": (
        "class Same:\n    def __eq__(self, other):\n        return True\n"
        "def twice(x):\n    return Same()\n"
    ),
    "patched builtins": (
        "import builtins\nbuiltins.AssertionError = ZeroDivisionError\n"
        "builtins.check = lambda *_: None\ndef twice(x):\n    return 0\n"
    ),
    "patched harness": (
        "import sys\n"
        "for module in list(sys.modules.values()):\n"
        "    for name in ('judge', 'finish', 'run_tests', '_run_test', 'check'):\n"
        "        try:\n            setattr(module, name, lambda *a, **k: 'passed')\n"
        "        except Exception:\n            pass\n"
        "def twice(x):\n    return 0\n"
    ),
    "closed fence": "```python\ndef twice(x):\n    return 0\n```\nassert True",
    "no text": "",
    "null": "\0",
    "half a character": "\ud800 = 1",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_programs_that_do_not_end_well(attack):
    row = {"test_list": MBPP["test_list"][:1]}
    assert judge(UnitTests(**SHORT), f"{TWICE}\n{attack}\n", row) == 0.0


@pytest.mark.parametrize("attack", PATCHES.values(), ids=PATCHES)
def test_programs_that_patch(attack):
    before = dict(vars(builtins))
    assert judge(UnitTests(**SHORT), attack, MBPP) == 0.0
    assert dict(vars(builtins)) == before


def test_workers_and_copies_agree():
    completions = [TWICE, WRONG, "x", TWICE]
    row = {"test_list": [MBPP["test_list"]] * 4}
    reward = make_reward("unit_tests", workers=4, **SHORT)
    expected = UnitTests(**SHORT)([""] * 4, completions, **row)
    assert reward([""] * 4, completions, **row) == expected == [1.0, 0.5, 0.0, 1.0]
    twin = pickle.loads(pickle.dumps(reward))
    assert twin([""] * 4, completions, **row) == expected
    assert twin.last == copy.deepcopy(reward).last == reward.last


def test_in_an_environment():
    env = gym.make(
        "TextGen-v0",
        prompts=[{"prompt": "def f(x):", "test": "def check(c):\n    assert c(2) == 4",
                  "entry_point": "f"}],
        tokenizer=["def", "f(x):", "return", "x*x", "x", "<eos>"],
        reward=UnitTests(**SHORT),
    )  # fmt: skip
    env.reset(seed=0)
    *_, last = (env.step(action) for action in (2, 3, 5))
    assert last[1] == 1.0
    assert last[4]["reward_terms"] == {"unit_tests": 1.0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"reference": "x"}, r"needs the column 'test'.*they have: 'reference'.*'test_list'"),
        ({"test": CHECK}, "entry_point"),
        ({"test_list": ["assert ("]}, "cannot be compiled"),
        ({"test_list": ["assert 1 == 1"]}, "never call"),
        ({"tests": [[[1], 1]]}, "column 'entry_point'"),
        ({"tests": [[1, 1]], "entry_point": "f"}, "neither an assert nor a pair"),
        ({"tests": [[[float("nan")], 1]], "entry_point": "f"}, r"\[\[nan\], 1\]"),
        ({"tests": 3, "entry_point": "f"}, "source or a list"),
        ({"inputs": [[1]], "outputs": [], "entry_point": "f"}, "1 inputs and 0 outputs"),
        ({"inputs": [[1]], "entry_point": "f"}, "'inputs' and 'outputs'"),
        ({"tests": [[[1], 1]], "entry_point": "f(); x"}, r"entry_point .*'f\(\); x'"),
    ],
)
def test_broken_tests_are_told(row, message):
    total = RewardSum({UnitTests(**SHORT): 1.0}, "the env")
    columns = {name: [value] for name, value in row.items()}
    with pytest.raises(RewardError, match=message) as caught:
        total(["the prompt"], [TWICE], columns)
    assert str(caught.value).startswith("the env: reward 'unit_tests' ")


@pytest.mark.parametrize("options", [{"workers": 0}, {"wall_s": 0}, {"cpu_s": 1.5},
                                     {"memory_mb": 8}, {"memory_mb": "8"}])  # fmt: skip
def test_wrong_options(options):
    with pytest.raises(RewardError, match=next(iter(options)).split("_")[0]):
        UnitTests(**options)


# What is raised for the tests to swallow, or is equal to what they want: all of it is worth
# nothing. Each is tried against tests that call, that iterate lazily, and that look at the result.
CHEATS = {
    "StopIteration": "raise StopIteration",
    "a class of StopIteration": "class End(StopIteration): pass\n    raise End",
    "StopIteration of next": "return next(iter(()))",
    "StopAsyncIteration": "raise StopAsyncIteration",
    "GeneratorExit": "raise GeneratorExit",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "SystemExit": "raise SystemExit(0)",
    "exit": "import os\n    os._exit(0)",
    "a group": "raise BaseExceptionGroup('', [KeyboardInterrupt()])",
    "endless recursion": "return twice(x)",
    "AssertionError": "raise AssertionError",
    "NotImplemented": "return NotImplemented",
    "an int": (
        "class Int(int):\n        __eq__ = lambda *_: True\n        __hash__ = None\n"
        "    return Int()"
    ),
    "a string": "class Str(str):\n        __eq__ = lambda *_: True\n    return Str()",
    "a list": "class List(list):\n        __eq__ = lambda *_: True\n    return List()",
    "a metaclass": (
        "class M(type):\n        __eq__ = lambda *_: True\n        __hash__ = type.__hash__\n"
        "    return M('M', (), {})"
    ),
    "a number of no value": "return float('nan')",
    "the frames": (
        "import sys\n    frame = sys._getframe()\n    while frame:\n"
        "        for name, value in {**frame.f_globals, **frame.f_locals}.items():\n"
        "            if ']4[ ni )2(eciwt'[::-1] in repr(value):\n                return 2 * x\n"
        "        frame = frame.f_back"
    ),
    "the garbage collector": (
        "import gc\n    test = ']4[ ni )2(eciwt'[::-1]\n"
        "    for one in gc.get_objects():\n"
        "        if type(one) in (list, tuple, dict) and test in repr(one):\n"
        "            return 2 * x"
    ),
    "a verdict that is printed": "print('passed')\n    import os\n    os.write(1, b'passed')",
    "a verdict on all files": (
        "import os\n    for file in range(3, 20):\n        try:\n"
        "            os.write(file, b'\\0\\0\\0\\x0fl2:S6:passedS0:')\n"
        "        except OSError:\n            pass"
    ),
}  # fmt: skip
LAZY = [
    "assert all(value == 2 * number for number, value in zip([1, 2], map(twice, [1, 2])))",
    "assert not [1 for value in filter(lambda n: twice(n) != 2 * n, [1, 2])]",
    "assert not any(value != 4 for value in map(twice, [2, 2]))",
    "for value in map(twice, [2, 2]):\n    assert value == 4",
    "assert set(map(twice, [2, 2])) <= {4}",
    "assert twice(2) in [4]",
    "assert not twice(2) != 4",
    "assert 4 == twice(2)",
    "assert max([1, 2], key=twice) == 2 and twice(1) == 2",
]


@pytest.mark.parametrize("body", CHEATS.values(), ids=CHEATS)
def test_programs_that_cheat(body):
    limits = {**SHORT, "wall_s": 1.0}
    reward, program = UnitTests(**limits), f"def twice(x):\n    {body}\n"
    assert judge(reward, program, {"test_list": LAZY}) == 0.0


def test_right_programs_pass_tests_that_iterate_lazily():
    assert judge(UnitTests(**SHORT), TWICE, {"test_list": LAZY}) == 1.0


def test_a_program_may_end_an_iteration_where_the_tests_expect_it():
    program = "def first(xs):\n    return next(iter(xs))\n"
    test = "try:\n    first([])\nexcept StopIteration:\n    pass\nelse:\n    assert False"
    assert judge(UnitTests(**SHORT), program, {"test": test}) == 1.0
    generator = "def upto(n):\n    for i in range(n):\n        yield i\n    return\n"
    row = {"test_list": ["assert list(upto(3)) == [0, 1, 2]"]}
    assert judge(UnitTests(**SHORT), generator, row) == 1.0


def test_an_endless_program_costs_its_limit_once():
    row = {"test_list": [f"assert f({n}) == 0" for n in range(100)]}
    reward = UnitTests(wall_s=0.6, cpu_s=5)
    begin = time.monotonic()
    assert judge(reward, "def f(n):\n    while True: pass", row) == 0.0
    assert time.monotonic() - begin < 10  # 0.9 s and the start, on a busy machine
    assert reward.last[0].reason == "time"
    # One test without an end does not cost the others.
    row = {"test_list": row["test_list"][:6]}
    assert judge(reward, "def f(n):\n    while n == 1: pass\n    return 0", row) == 5 / 6


def test_the_time_of_all_tests_is_limited():
    row = {"test_list": [f"assert f({n}) == 0" for n in range(40)]}
    reward = UnitTests(total_s=0.5)
    value = judge(reward, "import time\ndef f(n):\n    time.sleep(0.1)\n    return 0", row)
    assert 0 < value < 1
    assert reward.last[0].reason == "time"
    with pytest.raises(RewardError, match="total_s"):
        UnitTests(total_s=0)
