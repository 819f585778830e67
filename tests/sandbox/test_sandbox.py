"""Programs that pass, fail, or attack the sandbox."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.errors import DataError, SettingsError
from textgym.sandbox import run as sandbox
from textgym.sandbox.run import Limits, Verdict, run_tests, sandbox_layers
from textgym.sandbox.wire import WireError, decode, encode, frame

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

SHORT = Limits(wall_s=3.0, cpu_s=1, memory_bytes=128 << 20, output_bytes=1 << 16)

# As in HumanEval: a signature, a docstring, and a check.
PROMPT = '''from typing import List, Optional


def running_best(scores: List[int], start: Optional[int] = None) -> List[int]:
    """The largest of the scores so far, at each place.
    >>> running_best([3, 1, 4])
    [3, 3, 4]
    """
'''
SOLUTION = """    best = []
    for score in scores:
        start = score if start is None else max(start, score)
        best.append(start)
    return best
"""
CHECK = """
METADATA = {"dataset": "test"}

def check(candidate):
    assert candidate([3, 1, 4]) == [3, 3, 4]
    assert candidate([]) == [], "nothing in, nothing out"
    assert candidate([1, 2], start=5) == [5, 5]
    assert all(candidate([n])[0] == n for n in range(20))
"""

# As in MBPP: names in the asserts, and more than one test.
WORDS = """
import re
from collections import Counter

def count_words(text):
    return Counter(re.findall(r"[a-z]+", text.lower()))
"""
WORDS_TESTS = [
    "assert count_words('a b A') == {'a': 2, 'b': 1}",
    "assert count_words('') == {}",
    "assert set(count_words('x y')) == {'x', 'y'}",
]

GOOD = "def double(x):\n    return 2 * x\n"
TESTS = ["assert double(2) == 4", "assert double('ab') == 'abab'"]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, file or open pipe of a sandbox is left after a test."""
    sandbox_layers()
    started = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self.pid)

    monkeypatch.setattr(sandbox.subprocess, "Popen", Recorded)
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    files = len(os.listdir("/proc/self/fd"))
    yield
    assert not sessions().intersection(started)
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == files


def sessions() -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found.add(int(fields[3]))
    return found


def with_layers(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Pretend that the kernel supports only these layers."""
    if missing := set(names) - set(sandbox_layers()):
        pytest.skip(f"this kernel or container lacks {missing}")
    monkeypatch.setattr(sandbox, "_kernel_layers", lambda: names)


# Programs that solve their exercise, and some that do not.


def test_humaneval_solution() -> None:
    verdict = run_tests(PROMPT + SOLUTION, CHECK, entry_point="running_best")
    assert verdict == Verdict(1, 1, "passed", "")
    assert verdict.score == 1.0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    return scores\n", "wrong"),
        ("    return [0] + 1\n", "exception"),
        ("    return tuple(scores)\n", "wrong"),
        ("    retrun scores\n", "syntax"),
        ("", "wrong"),
    ],
)
def test_humaneval_failures(body: str, reason: str) -> None:
    verdict = run_tests(PROMPT + body, CHECK, entry_point="running_best")
    assert (verdict.score, verdict.reason) == (0.0, reason)
    assert verdict.detail


def test_mbpp_solution() -> None:
    assert run_tests(WORDS, WORDS_TESTS) == Verdict(3, 3, "passed", "")


def test_each_assert_is_a_test_of_its_own() -> None:
    program = """
seen = []
def double(x):
    seen.append(x)
    if x == 1:
        while True:
            pass
    if x == 2:
        raise SystemExit(0)
    return 2 * x + len(seen) - 1
"""
    tests = [f"assert double({n}) == {2 * n}" for n in range(5)]
    verdict = run_tests(program, tests, limits=SHORT)
    assert (verdict.passed, verdict.total, verdict.reason) == (3, 5, "time")
    assert verdict.detail.startswith("test 1: ")
    assert verdict.score == 3 / 5


def test_helpers_of_the_prompt_cannot_be_changed_when_setup_brings_them() -> None:
    check = "def check(candidate):\n    assert abs(value(candidate())) < 1e-6\n"
    prompt = "def value(x):\n    return x * x - 2\n\ndef root():\n"
    liar = prompt + "    return 0\n\ndef value(x):\n    return 0\n"
    honest = prompt + "    return 2 ** 0.5\n"
    assert run_tests(honest, check, entry_point="root").score == 1
    assert run_tests(liar, check, entry_point="root").score == 1
    for program, score in ((honest, 1), (liar, 0)):
        verdict = run_tests(program, check, entry_point="root", setup=prompt + "    pass\n")
        assert verdict.score == score


def test_a_function_with_the_name_of_a_builtin() -> None:
    program = "def sum(a, b):\n    return len([d for d in range(1, a + 1) if not a % d + b % d])\n"
    assert run_tests(program, ["assert sum(10, 15) == 2"]).score == 1
    listed = "def sum(a, b):\n    return [2]\n"
    hidden = ["assert list(sum(4, 6)) == [2]"]
    assert run_tests(listed, hidden, entry_point="sum").score == 1
    assert run_tests(listed, hidden).score == 0
    # A program cannot take over the built-ins that the tests use around it.
    liar = "def double(x):\n    return []\ndef set(x):\n    return 1\nsorted = set\n"
    assert run_tests(liar, ["assert set(double([1])) == set([1])"]).score == 0


def test_errors_that_a_test_expects() -> None:
    test = """
def check(candidate):
    try:
        candidate(-1)
    except ValueError as error:
        assert "negative" in str(error)
    else:
        assert False
"""
    program = "class Mine(ValueError):\n    pass\ndef f(x):\n    raise Mine(f'negative: {x}')\n"
    assert run_tests(program, test, entry_point="f").score == 1
    assert (
        run_tests(program.replace("(ValueError)", "(KeyError)"), test, entry_point="f").score == 0
    )
    assert run_tests("def f(x):\n    return x\n", test, entry_point="f").score == 0


def test_objects_of_the_program_go_back_to_it() -> None:
    program = """
class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b
def width(pairs):
    return max(p.b - p.a for p in pairs)
def adder(n):
    return lambda m: n + m
"""
    assert run_tests(program, ["assert width([Pair(1, 4), Pair(2, 3)]) == 3"]).score == 1
    assert run_tests(program, ["assert adder(2)(3) == 5"]).score == 1
    assert run_tests(program, ["assert Pair(1, 2) != 3"]).reason == "result"


@pytest.mark.parametrize(
    "value",
    [
        "None", "True", "0", "-(10 ** 400)", "1.5", "float('inf')", "2j", "'\\ud800é'", "b'\\x00'",
        "[1, (2, [3])]", "{1: {'a': [()]}}", "{1, frozenset({2})}", "range(3, 9, 2)",
        "__import__('collections').deque([1])", "__import__('collections').Counter('aab')",
    ],
)  # fmt: skip
def test_plain_values_cross_unchanged(value: str) -> None:
    program = f"def f(x):\n    assert x == {value}\n    return {value}\n"
    assert run_tests(program, [f"assert f({value}) == {value}"]) == Verdict(1, 1, "passed", "")


def test_the_same_program_does_the_same() -> None:
    program = "import random\ndef f():\n    return [random.random(), hash('a'), *{'a', 'b', 'c'}]\n"
    test = ["assert f() == 0"]
    scored = "def check(c):\n    raise Exception(str(c()))\n"
    first, second = (run_tests(program, scored, entry_point="f").detail for _ in range(2))
    assert first == second
    assert run_tests(program, test).score == 0


# Attacks. Each program also has a correct solution, so that its score shows an undetected attack.

FORBIDDEN = {
    "read": "open('/etc/passwd').read()",
    "read relative": "open('../../../../etc/passwd').read()",
    "read through the library": "import os; open(os.__file__ + '/../../../../../etc/passwd')",
    "read with io": "import io; io.FileIO('/etc/passwd')",
    "read with posix": "import posix; posix.open('/etc/passwd', 0)",
    "read the parent": "import os; open(f'/proc/{os.getppid()}/environ', 'rb')",
    "read memory": "open('/proc/self/mem', 'rb')",
    "list": "import os; os.listdir('/')",
    "write": "open('x', 'w').write('x')",
    "write absolute": "open('/tmp/textgym-attack', 'w').write('x')",
    "write the library": "import os; open(os.__file__, 'r+')",
    "remove": "import os; os.rmdir(os.getcwd())",
    "temporary file": "import tempfile; tempfile.TemporaryFile()",
    "network": "import socket; socket.create_connection(('127.0.0.1', 80))",
    "datagram": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "raw socket": "import _socket; _socket.socket()",
    "local socket": "import socket; socket.socketpair()",
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "threads": "import threading\nfor _ in range(9):\n    threading.Thread(target=print).start()",
    "ctypes": "import ctypes; ctypes.CDLL(None).system(b'true')",
    "_ctypes": "import _ctypes",
    "importlib": "import importlib; importlib.import_module('ctypes')",
    "__import__": "__import__('os').system('true')",
    "subprocess": "import subprocess; subprocess.run(['true'])",
    "fork_exec": "import _posixsubprocess",
    "popen": "import os; os.popen('true').read()",
    "exec": "import os; os.execv('/bin/true', ['true'])",
    "spawn": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "kill the parent": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "kill everybody": "import os; os.kill(-1, 9)",
    "kill the group": "import os; os.killpg(0, 9)",
    "raise limits": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
    "bytecode": "f = lambda: 0\nf.__code__ = f.__code__.replace(co_consts=())",
}  # fmt: skip


def contained(program: str, *reasons: str, tests: list[str] = TESTS) -> None:
    verdict = run_tests(program, tests, limits=SHORT)
    assert verdict.score == 0
    assert verdict.reason in reasons, verdict
    assert verdict.detail


@pytest.mark.parametrize("attack", FORBIDDEN.values(), ids=FORBIDDEN)
def test_forbidden(attack: str) -> None:
    contained(f"{GOOD}\n{attack}\n", "forbidden", "exception")
    swallowed = "try:\n" + "".join(f"    {line}\n" for line in attack.splitlines())
    swallowed += "except BaseException:\n    pass\n"
    if attack != FORBIDDEN["threads"]:
        contained(GOOD + swallowed, "forbidden")


OTHERS = {
    "endless loop": ("while True:\n    pass", "time"),
    "deaf endless loop": (
        "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, 1)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
        "time",
    ),
    "sleep": ("import time\nwhile True:\n    time.sleep(1)", "time"),
    "wait for input": ("input()", "exception"),
    "memory": ("x = [0]\nwhile True:\n    x += x", "memory"),
    "memory at once": ("x = bytearray(1 << 40)", "memory"),
    "output": ("while True:\n    print('x' * 1000)", "output"),
    "errors as output": ("import sys\nwhile True:\n    sys.stderr.write('x' * 1000)", "output"),
    "recursion": ("def f():\n    f()\nf()", "exception"),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\nclass A:\n    def __repr__(self):\n"
        "        return repr(self)\nrepr(A())",
        "crash memory",
    ),
    "deep source": ("x = " + "(" * 5000 + ")" * 5000, "syntax memory"),
    "segmentation fault": ("import signal\nsignal.raise_signal(11)", "crash"),
    "exit": ("import sys\nsys.exit(0)", "exit"),
    "hard exit": ("import os\nos._exit(0)", "exit"),
    "exit code of a filter": ("import os\nos._exit(78)", "exit"),
    "suicide": ("import signal\nsignal.raise_signal(9)", "crash"),
    "error": ("1 / 0", "exception"),
}


@pytest.mark.parametrize(("attack", "reasons"), OTHERS.values(), ids=OTHERS)
def test_contained(attack: str, reasons: str) -> None:
    contained(f"{GOOD}\n{attack}\n", *reasons.split(), tests=TESTS[:1])


FORGERIES = {
    "equal to everything": (
        "class Yes:\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n"
        "    def __ne__(self, other):\n        return False\n"
        "def double(x):\n    return Yes()",
        "result",
    ),
    "a str equal to everything": (
        "class Yes(str):\n    def __eq__(self, other):\n        return True\n"
        "def double(x):\n    return Yes()",
        "result",
    ),
    "a list of such": (
        "class Yes(int):\n    def __eq__(self, other):\n        return True\n"
        "def double(x):\n    return [Yes()]",
        "wrong",
    ),
    "true objects": ("def double(x):\n    return object()", "result"),
    "builtins": (
        "import builtins\nclass Quiet(BaseException):\n    def __new__(cls, *a):\n"
        "        import os\n        os._exit(0)\nbuiltins.AssertionError = Quiet\n"
        "builtins.isinstance = builtins.all = lambda *a: True\n"
        "builtins.type = builtins.len = builtins.str = lambda *a: 0\ndef double(x):\n    return 0",
        "wrong exit exception result",
    ),
    "atexit": (
        "import atexit, os\natexit.register(os._exit, 0)\ndef double(x):\n    raise SystemExit(0)",
        "exit",
    ),
    "printing": (
        "import sys\nprint('passed')\nsys.__stdout__.write('[\"passed\"]')\n"
        "def double(x):\n    return 0",
        "wrong",
    ),
    "every file": (
        "import os\nfor n in range(1, 70):\n    for data in (b'l2:S6:passedS0:',"
        " b'\\0\\0\\0\\x0fl2:S6:passedS0:', b'l4:S4:testi1:0S6:passedS0:'):\n"
        "        try:\n            os.write(n, data)\n        except OSError:\n            pass\n"
        "def double(x):\n    return 0",
        "result wrong exception",
    ),
    "frames": (
        "import sys, gc\ndef double(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for name, value in list(frame.f_locals.items()):\n"
        "            if isinstance(value, dict):\n"
        "                value.update(reason='passed', passed=1)\n"
        "        frame = frame.f_back\n    return 0",
        "wrong exception exit result",
    ),
    "patched modules": (
        "import sys\nfor module in list(sys.modules.values()):\n"
        "    for name in ('main', 'judge', 'encode', 'decode', 'write_frame', 'read_frame'):\n"
        "        if hasattr(module, name):\n            setattr(module, name, lambda *a: b'')\n"
        "def double(x):\n    return 0",
        "wrong exception exit result",
    ),
    "wrong tests": ("def check(candidate):\n    pass\ndef double(x):\n    return None", "wrong"),
    "too deep": ("def double(x):\n    y = []\n    for _ in range(10**5):\n        y = [y]\n"
                 "    return y", "result"),
    "too long": ("def double(x):\n    return 'x' * (1 << 23)", "result"),
    "endless iterator": ("import itertools\ndef double(x):\n    return itertools.count()", "wrong"),
    "itself": ("def double(x):\n    y = []\n    y.append(y)\n    return y", "result"),
    "for the judge": (
        "def double(x):\n    raise type('AssertionError', (Exception,), {})()",
        "exception",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("program", "reasons"), FORGERIES.values(), ids=FORGERIES)
def test_forgeries(program: str, reasons: str) -> None:
    verdict = run_tests(program, TESTS)
    assert verdict.score == 0
    assert verdict.reason in reasons.split(), verdict


def test_the_tests_are_not_in_the_programs_process() -> None:
    """The expected value is neither in objects nor in frames."""
    program = """
import gc, sys
def double(x):
    mark = "".join(["zq", "xj"])
    seen, todo = set(), [*gc.get_objects(), sys._current_frames(), sys.modules]
    while todo and len(seen) < 400_000:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, str) and mark in thing and len(thing) > 4:
            return thing
        if isinstance(thing, bytes) and mark.encode() in thing and len(thing) > 4:
            return thing.decode("utf-8", "replace")
        todo.extend(gc.get_referents(thing))
    return len(seen) > 1000
"""
    marker = "zqxj"
    limits = Limits(cpu_s=10, wall_s=20)
    test = f"def check(c):\n    assert c(1) == True\n    assert c(1) == '{marker}-1'\n"
    verdict = run_tests(program, test, entry_point="double", limits=limits)
    assert (verdict.score, verdict.reason) == (0, "wrong")
    # The first assertion holds: the hunt looked at much, and found nothing.
    alone = f"def check(c):\n    assert c(1) is True, '{marker}-1'\n"
    assert run_tests(program, alone, entry_point="double", limits=limits).score == 1


def test_a_test_that_swallows_everything_does_not_hide_a_broken_program() -> None:
    test = "def check(c):\n    try:\n        c(1)\n    except BaseException:\n        pass\n"
    assert (
        run_tests("def f(x):\n    import os\n    os._exit(0)\n", test, entry_point="f").score == 0
    )
    assert run_tests("def f(x):\n    return object()\n", test, entry_point="f").score == 1
    assert run_tests("x = 1\n", test, entry_point="f").reason == "missing"


def test_a_result_that_keeps_the_judge_busy() -> None:
    verdict = run_tests(
        "def f():\n    return 10 ** 12\n", ["assert sum(range(f())) == 0"], limits=SHORT
    )
    assert (verdict.score, verdict.reason) == (0, "time")


# The layers, one at a time.

LAYER_SETS = [
    ("no-capabilities", "landlock", "seccomp"),
    ("no-capabilities", "seccomp"),
    ("no-capabilities", "landlock"),
    (),
]


@pytest.mark.parametrize("names", LAYER_SETS, ids=lambda names: "+".join(names) or "none")
def test_fewer_layers(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with_layers(monkeypatch, *names)
    assert sandbox_layers() == ("process", "rlimits", *names, "audit-hook")
    assert run_tests(WORDS, WORDS_TESTS).score == 1
    assert run_tests(PROMPT + SOLUTION, CHECK, entry_point="running_best").score == 1
    for attack in (
        "read",
        "write",
        "network",
        "fork bomb",
        "ctypes",
        "subprocess",
        "kill everybody",
    ):
        # Without Landlock an attack cannot import its modules.
        reasons = (
            ("forbidden",)
            if "seccomp" not in names or "landlock" in names
            else (
                "forbidden",
                "exception",
            )
        )
        contained(f"{GOOD}\n{FORBIDDEN[attack]}\n", *reasons, tests=TESTS[:1])
    contained(f"{GOOD}\nwhile True:\n    pass\n", "time", tests=TESTS[:1])


@pytest.fixture
def no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox's modules without the audit hook, to test the kernel's layers."""
    modules = []
    for name, code in sandbox._modules():
        if name.endswith("_hook"):
            path = Path(sandbox.__file__).with_name("audit_hook.py")
            source = path.read_text().replace('    sys.addaudithook(names["hook"])\n', "")
            assert "addaudithook" not in source
            source = source.replace('"ctypes", "_ctypes", "_posixsubprocess", ', "")
            code = compile(source, name, "exec")
        modules.append((name, code))
    monkeypatch.setattr(sandbox, "_modules", lambda: modules)


KERNEL = {
    "read": ("open('/etc/passwd')", "landlock"),
    "read without landlock": ("open('/etc/passwd')", "seccomp"),
    "write": ("open('/tmp/textgym-attack', 'w')", "seccomp"),
    "write with landlock": ("open('/tmp/textgym-attack', 'w')", "landlock"),
    "make a folder": ("import os; os.mkdir('/tmp/textgym-attack')", "landlock"),
    "remove": ("import os; os.rmdir(os.getcwd())", "seccomp"),
    "chmod": ("import os; os.chmod('.', 0o777)", "seccomp"),
    "socket": ("import _socket; _socket.socket()", "seccomp"),
    "datagram": ("import _socket; _socket.socket(2, 2).sendto(b'', ('127.0.0.1', 9))", "seccomp"),
    "fork": ("import os; os.fork()", "seccomp"),
    "exec": ("import os; os.execv('/bin/true', ['true'])", "seccomp"),
    "exec with landlock": ("import os; os.execv('/bin/true', ['true'])", "landlock"),
    "spawn": ("import subprocess; subprocess.run(['/bin/true'], close_fds=False)", "seccomp"),
    "system": ("import os; assert os.system('true') == 0", "seccomp"),
    "parent": ("import os; os.kill(os.getppid(), 0)", "seccomp"),
    "everybody": ("import os; os.kill(-1, 0)", "seccomp"),
    "limits": ("import resource as r; r.setrlimit(r.RLIMIT_CORE, (0, 0))", "seccomp"),
    "session": ("import os; os.setsid()", "seccomp"),
    "namespace": (
        "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0", "seccomp landlock",
    ),
    "become root": ("import os; os.setuid(0); os.chroot('/')", "no-capabilities"),
    "trace": (
        "import ctypes, os; assert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0",
        "seccomp landlock",
    ),
    "memory of the parent": (
        "import ctypes, os; assert ctypes.CDLL(None).process_vm_readv(os.getppid(),0,0,0,0,0) == 0",
        "seccomp landlock",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("no_hook")
@pytest.mark.parametrize(("attack", "names"), KERNEL.values(), ids=KERNEL)
def test_the_kernel_alone(attack: str, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_layers(monkeypatch, *("no-capabilities", *names.split()))
    assert run_tests(GOOD, TESTS[:1]).score == 1
    contained(f"{GOOD}\n{attack}\n", "forbidden", "exception", tests=TESTS[:1])
    assert not os.path.exists("/tmp/textgym-attack")


@pytest.mark.usefixtures("no_hook")
def test_a_process_namespace_hides_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with_layers(monkeypatch, "namespaces", "pid-namespace")
    contained(f"{GOOD}\nimport os\nos.kill({os.getpid()}, 0)\n", "exception", tests=TESTS[:1])
    program = "import os\ndef f():\n    return os.getppid()\n"
    assert run_tests(program, ["assert f() == 1"]).score == 1


def test_a_layer_that_is_lost_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_kernel_layers", lambda: ("no-such-layer",))
    with pytest.raises(SettingsError, match="no-such-layer"):
        run_tests(GOOD, TESTS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("platform", "darwin", "darwin"), ("executable", "", "sys.executable")],
)
def test_other_systems_are_refused(name: str, value: str, message: str) -> None:
    """In a process of its own: the layers of a system are looked up once."""
    code = f"""if True:
        import sys
        from textgym.errors import SettingsError
        from textgym.sandbox.run import run_tests
        sys.{name} = {value!r}
        try:
            run_tests("", ["assert True"])
        except SettingsError as error:
            print(error)
    """
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert message in process.stdout, process.stderr


# The caller.


@pytest.mark.parametrize(
    ("tests", "entry_point", "what"),
    [
        ([], None, "no tests"),
        ("def check(c):\n    pass\n", None, "entry_point"),
        ("def test(c):\n    pass\n", "double", "check"),
        ("def check(c) pass", "double", "compiled"),
        (["assert double(1) = 2"], None, "compiled"),
        ("def check(c):\n    pass\n", "double", "never calls"),
    ],
)
def test_useless_tests_are_errors(tests: Any, entry_point: str | None, what: str) -> None:
    with pytest.raises(DataError, match=what):
        run_tests(GOOD, tests, entry_point=entry_point)


@pytest.mark.parametrize(
    "values", [{"wall_s": 0}, {"cpu_s": 1.5}, {"memory_bytes": 1}, {"output_bytes": -1}]
)
def test_impossible_limits(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        Limits(**values)


def test_tests_that_cannot_be_run_here() -> None:
    assert run_tests(GOOD, ["assert double(lambda: 0)"]).reason == "tests"
    assert run_tests(GOOD, ["open('/etc/passwd')\nassert double(1) == 2"]).reason == "tests"


def test_large_tests_and_programs() -> None:
    tests = [f"assert double({'x' * 300_000!r}) == {'x' * 600_000!r}"] * 2
    assert run_tests(GOOD + f"x = {'y' * 300_000!r}\n", tests).score == 1


@pytest.mark.parametrize("program", ["", "\0", "\ud800", "é = 1", "x = 1\n" * 1000])
def test_any_string_is_a_program(program: str) -> None:
    assert run_tests(program, TESTS[:1]).reason in ("syntax", "missing")


def test_from_several_threads() -> None:
    verdicts: list[Verdict] = []
    programs = [GOOD, "def double(x):\n    return 0\n", GOOD]
    threads = [
        threading.Thread(target=lambda p=p: verdicts.append(run_tests(p, TESTS)))  # type: ignore[misc]
        for p in programs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdict.passed for verdict in verdicts) == [0, 2, 2]


def test_an_interrupted_caller_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sandbox, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tests("while True:\n    pass\n", TESTS)


# The wire.

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary()
    | st.text(st.characters(exclude_categories=[])) | st.complex_numbers(allow_nan=False)
    | st.builds(range, st.integers(), st.integers(), st.integers(1)),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
    | st.lists(inner).map(deque) | st.frozensets(st.integers()) | st.sets(st.text()),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_round_trip(value: Any) -> None:
    copy = decode(encode(value))
    assert copy == value
    assert type(copy) is type(value)


@settings(max_examples=300, deadline=None)
@given(st.binary() | st.text("NTFSixbcrdltsfqg0123456789:").map(str.encode))
def test_junk_is_refused_or_plain(data: bytes) -> None:
    try:
        value = decode(data)
    except WireError:
        return
    assert type(value).__module__ in ("builtins", "collections")


def test_dictionaries_of_collections_become_plain() -> None:
    assert type(decode(encode(Counter("aab")))) is dict
    assert decode(encode(OrderedDict(a=1))) == {"a": 1}
    assert decode(encode(defaultdict(list, b=[2]))) == {"b": [2]}
    assert list(decode(encode(map(str, [1, 2])))) == ["1", "2"]
    assert math.isnan(decode(encode(math.nan)))


def test_a_length_that_lies_costs_nothing() -> None:
    for data in (b"l999999999999:", b"l99:N", b"S5:abc", b"i0:", b"d1:l0:N", b"NN", b"", b"z1:a"):
        with pytest.raises(WireError):
            decode(data)
    with pytest.raises(WireError):
        decode(b"l1:" * 100_000 + b"N")
    assert frame(b"ab") == b"\0\0\0\2ab"
