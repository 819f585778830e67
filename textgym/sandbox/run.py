"""Run programs that nobody has read, and judge them by tests: `run_tests`.

For data of the kind of HumanEval and MBPP, whose answers are Python programs. A program that was
written to be rewarded will try everything, so the two questions are what it can do and whether it
can make up its verdict.

**The verdict.** The program and its tests run in different processes (see
`textgym.sandbox.keeper`). The tests see functions which ask the program's process for the result,
and results cross over as plain values (see `textgym.sandbox.wire`). A program can therefore replace
``assert``, `builtins` or the harness, exit, print, write to any file that it holds, return objects
that are equal to everything, hunt through frames and the garbage collector: none of it is in the
process that compares, and neither the tests nor the expected values are in its own. The one thing
that passes a test is the right value.

**What it can do.** The layers, outermost first; `sandbox_layers` says which are active here:

* ``process``: a fresh interpreter in a session of its own, with an empty environment, no input,
  an empty working directory that is removed, and bounds on wall time and output. It and all its
  children are killed, and gone, before `run_tests` returns.
* ``rlimits``: CPU time, memory, no files, no core, no processes.
* ``namespaces``: no network, users, mounts or interprocess objects of the machine.
* ``pid-namespace``: no process outside can be seen or signalled.
* ``no-capabilities``: no privileges, not even root's, and none to be had.
* ``landlock``: reading the standard library and the folders of shared libraries is all that the
  file system and TCP offer.
* ``seccomp``: an allowlist of system calls. Starting processes, threads or programs, opening a
  socket, tracing or signalling another process ends the program; opening for writing fails. Where
  Landlock is missing, so does opening for reading, and only common modules can be imported.
* ``audit-hook``: Python's own, which names what was forbidden. Alone it keeps honest programs
  honest; a determined one gets around it (with `_ctypes` types, or crafted bytecode).

The first two and the last are there on every Linux; containers often lack the namespaces, and
Landlock wants Linux 5.13. Without ``landlock`` and ``seccomp`` no program of a stranger should be
run. On other systems `run_tests` raises `SettingsError`.

**What is not contained.** Holes of the kernel itself. Time and memory within the limits, as often
as one calls. What the layers leave readable: the standard library, the shared libraries, the
names and sizes of files anywhere (``stat`` is not restricted by Landlock), the kernel's version,
the clock, the program's own user id. Two programs running at once can tell that from the load.
A program that uses helper functions of its prompt has them in its own process and may change
them: tests that call such helpers should bring them along (``setup=``).

**What tests cannot do.** A test is the data set's own code and runs under the same layers. It can
pass and receive plain values only: None, bool, numbers, strings, bytes, lists, tuples, sets,
dicts (also of `collections`), deques, ranges, iterators (up to 20,000 items, as a list iterator).
Objects of the program's own classes can be passed back to it and called, not looked at: a result
of such a type is no result. Arguments are copies, so a test does not see them changed in place.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import marshal
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from textgym.errors import DataError, SettingsError
from textgym.sandbox import wire

_KERNEL_LAYERS = ("namespaces", "pid-namespace", "no-capabilities", "landlock", "seccomp")

# The modules arrive compiled, with the job: reading them from files would take longer than all
# the rest, and the package around them need not be importable.
_BOOT = """
import marshal, sys
job = marshal.loads(sys.stdin.buffer.read())
for name, code in job.pop("modules"):
    module = sys.modules[name] = type(sys)(name)
    setattr(sys.modules.setdefault("textgym.sandbox", type(sys)("textgym.sandbox")),
            name.rpartition(".")[2], module)
    exec(code, module.__dict__)
work = module.main(job)
if work is not None:
    del job, code
    sys.modules["textgym.sandbox.worker"].serve(*work)
"""

_STARTUP_S = 30.0
"""Wall seconds for the interpreter to start and to end, on a busy machine."""
_PATIENCE_S = 2.0
"""Wall seconds for the keeper to end by itself before it is killed."""


@dataclass(frozen=True)
class Limits:
    """What a program may use. It may start no process and write no file, whatever the limits.

    Attributes:
        wall_s: Seconds that one test may take, starting the program included.
        total_s: Seconds that all tests together may take. Behind the first test that ran out of
            time, the others together get half of `wall_s`: a program that never ends costs its
            limit about once, and one that is slow on one test is still judged by the rest. Tests
            for which there is no time are not run, and fail.
        cpu_s: CPU seconds that one test may take; whole seconds, as the kernel counts.
        memory_bytes: Address space of a process, the interpreter's own 50 MB included.
        output_bytes: What all the tests' runs of the program may print.
        result_bytes: Size of one result, encoded.
    """

    wall_s: float = 5.0
    total_s: float = 30.0
    cpu_s: int = 3
    memory_bytes: int = 512 << 20
    output_bytes: int = 1 << 20
    result_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise SettingsError(f"Limits({name}={value!r}): must be above 0")
        if not isinstance(self.cpu_s, int):
            raise SettingsError(f"Limits(cpu_s={self.cpu_s!r}): must be whole seconds")
        if self.memory_bytes < 64 << 20:
            raise SettingsError(
                f"Limits(memory_bytes={self.memory_bytes}): Python itself takes 64 MiB (1 << 26)"
            )


@dataclass(frozen=True)
class Verdict:
    """The outcome of the tests.

    Attributes:
        passed: Tests that hold.
        total: All tests.
        reason: ``"passed"``, or why the first test that failed did: ``"wrong"`` (its assertion),
            ``"exception"``, ``"syntax"``, ``"missing"`` (no such function), ``"result"`` (not a
            plain value, or too large), ``"time"``, ``"memory"``, ``"output"``, ``"exit"`` (the
            program ended its process), ``"forbidden"`` (it tried what the sandbox forbids),
            ``"crash"`` (by a signal), or ``"tests"`` (the test itself does what it cannot).
        detail: A line for people.
    """

    passed: int
    total: int
    reason: str
    detail: str

    @property
    def score(self) -> float:
        """The share of tests passed, in [0, 1]."""
        return self.passed / self.total


def run_tests(
    program: str | Sequence[str],
    tests: str | Sequence[str],
    *,
    entry_point: str | None = None,
    setup: str = "",
    limits: Limits | None = None,
) -> Verdict:
    """Run a program that nobody trusts against its tests.

    Args:
        program: Python source that defines functions. Of several, which are readings of one text,
            the first that compiles is run.
        tests: HumanEval's source, which defines ``check(candidate)``: one test, all or nothing.
            Or MBPP's list, such as ``["assert double(2) == 4"]``: one test each, each with a
            program of its own, so that one failure does not touch the rest.
        entry_point: The function under test: what ``check`` gets. A list of tests needs it only
            where that function has the name of a built-in and the tests do not call it first.
        setup: Source to run before each test, in the tests' own process: imports, and the helper
            functions that a program must not be able to change.
        limits: What the program may use; None is ``Limits()``.

    Raises:
        DataError: If there are no tests, or they are no valid Python, lack ``check``, or never
            call the program.
        SettingsError: On a system without the layers that the sandbox needs.
    """
    limits = limits or Limits()
    whole = isinstance(tests, str)
    if whole and entry_point is None:
        raise DataError("tests that define check(candidate) need the function's name: entry_point=")
    parts = [tests] if isinstance(tests, str) else list(tests)
    if not parts:
        raise DataError("there are no tests: pass a source that defines check, or some asserts")
    kind = "check" if whole else "assert"
    frames = [
        wire.encode([index, kind, setup, part, entry_point]) for index, part in enumerate(parts)
    ]
    wanted = _kernel_layers()
    programs = [program] if isinstance(program, str) else list(program)
    run = _run(programs, frames, limits, wanted)
    if lost := [layer for layer in wanted if layer not in (run.layers or ())]:
        raise SettingsError(
            f"the sandbox did not start with its layers: {', '.join(lost)} "
            f"(it said: {_tail(run)}); is the system out of memory or processes?"
        )
    passed = 0
    failure: tuple[str, str] | None = None
    for index in range(len(parts)):
        reason, detail = run.outcomes.get(index, run.broken)
        if reason == "invalid":
            raise DataError(f"test {index}: {detail}")
        if reason == "sandbox":
            raise SettingsError(
                f"the sandbox failed: {detail} (it said: {_tail(run)}); is the system overloaded?"
            )
        if reason == "passed":
            passed += 1
        elif failure is None:
            failure = (reason, f"test {index}: {detail}" if detail else f"test {index}")
    reason, detail = failure or ("passed", "")
    return Verdict(passed, len(parts), reason, detail)


def sandbox_layers() -> tuple[str, ...]:
    """The layers that are active on this system, outermost first; see the module's docstring.

    Raises:
        SettingsError: On a system without the layers that the sandbox needs.
    """
    return ("process", "rlimits", *_kernel_layers(), "audit-hook")


@functools.cache
def _kernel_layers() -> tuple[str, ...]:
    """Those of `_KERNEL_LAYERS` that this system allows, tried out once."""
    if sys.platform != "linux":
        raise SettingsError(
            f"running programs needs the limits of Linux, and this is {sys.platform}: use a "
            "Linux machine or container"
        )
    if not sys.executable or not hasattr(sys, "addaudithook"):
        raise SettingsError(
            "running programs needs a Python interpreter of its own with audit hooks: run under "
            "CPython, started as a program (sys.executable is "
            f"{sys.executable!r})"
        )
    run = _run([""], [], Limits(), _KERNEL_LAYERS)
    if run.layers is None:
        raise SettingsError(f"the sandbox does not start; it said: {_tail(run)}")
    return tuple(run.layers)


@functools.cache
def _modules() -> list[tuple[str, Any]]:
    """The child's modules, compiled, in the order of their imports."""
    names = ("wire", "kernel", "audit_hook", "judge", "worker", "keeper")
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    return [
        (module.__name__, compile(inspect.getsource(module), module.__name__, "exec"))
        for module in modules
    ]


class _Run:
    """What came back of a sandbox: `layers` is None if it did not get to say."""

    def __init__(self) -> None:
        self.layers: list[str] | None = None
        self.outcomes: dict[int, tuple[str, str]] = {}
        self.broken = ("crash", "the sandbox ended early")
        self.output = b""
        self._said = b""

    def hear(self, data: bytes) -> None:
        """Take in messages of the keeper."""
        self._said += data
        while len(self._said) >= 4:
            end = 4 + int.from_bytes(self._said[:4], "big")
            if len(self._said) < end:
                return
            kind, *rest = wire.decode(self._said[4:end])
            self._said = self._said[end:]
            if kind == "layers":
                self.layers = rest[0]
            else:
                self.outcomes[rest[0]] = (rest[1], rest[2])


def _tail(run: _Run) -> str:
    return run.output[-300:].decode(errors="replace") or "nothing"


def _run(programs: list[str], frames: list[bytes], limits: Limits, wanted: Sequence[str]) -> _Run:
    """Start a sandbox, feed it, hear it out, and leave nothing of it behind."""
    folder = tempfile.mkdtemp(prefix="textgym-sandbox-")
    tests_out, tests_in = os.pipe()
    try:
        job = {
            "modules": _modules(), "programs": programs, "count": len(frames), "tests": tests_out,
            "layers": list(wanted), "limits": asdict(limits),
        }  # fmt: skip
        process = subprocess.Popen(
            # Like -I, without its -E: a fixed hash seed makes the same program do the same.
            [sys.executable, "-s", "-P", "-S", "-B", "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=folder,
            env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
            pass_fds=[tests_out],
            start_new_session=True,
        )
        run = _Run()
        try:
            os.close(tests_out)
            tests_out = -1
            seconds = limits.total_s + limits.wall_s + len(frames)
            deadline = time.monotonic() + _STARTUP_S + seconds
            pending = {
                _number(process.stdin): memoryview(marshal.dumps(job)),
                tests_in: memoryview(b"".join(map(wire.frame, frames))),
            }
            _exchange(process, pending, run, limits.output_bytes, deadline)
        finally:
            _end(process)
        return run
    finally:
        os.close(tests_in)
        if tests_out >= 0:
            os.close(tests_out)
        shutil.rmtree(folder)


def _number(file: Any) -> int:
    return int(file.fileno())


def _exchange(
    process: subprocess.Popen[bytes],
    pending: dict[int, memoryview],
    run: _Run,
    output_bytes: int,
    deadline: float,
) -> None:
    """Write what is pending and read what comes, until the keeper has said everything."""
    stdin, said, printed = map(_number, (process.stdin, process.stdout, process.stderr))
    size = 0
    with selectors.DefaultSelector() as selector:
        for file in pending:
            os.set_blocking(file, False)
            selector.register(file, selectors.EVENT_WRITE)
        selector.register(said, selectors.EVENT_READ)
        selector.register(printed, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                file = key.fd
                if file in pending:
                    try:
                        pending[file] = pending[file][os.write(file, pending[file][: 1 << 16]) :]
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:
                        pending[file] = pending[file][:0]
                    if not pending[file]:
                        selector.unregister(file)
                        if file == stdin and process.stdin:
                            process.stdin.close()
                    continue
                data = os.read(file, 1 << 16)
                if file == said:
                    if not data:
                        return
                    run.hear(data)
                    continue
                if not data:
                    selector.unregister(file)
                size += len(data)
                run.output = (run.output + data)[-(1 << 12) :]
                if size > output_bytes:
                    run.broken = ("output", f"printed more than {output_bytes} bytes")
                    return
    run.broken = ("time", "the sandbox did not end in time")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the sandbox's whole session, and wait until none of it is left."""
    # The keeper notices that nobody listens any more; it ends and gathers its children itself, so
    # that no dead process is left to a system whose first process gathers none.
    for file in (process.stdin, process.stdout):
        if file:
            file.close()
    if not _all_gone(process, _PATIENCE_S):
        # The keeper has not been waited for: its number is still its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _all_gone(process, _STARTUP_S)
    process.wait()
    if process.stderr:
        process.stderr.close()


def _all_gone(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end of the pipe that every process of the sandbox holds."""
    printed = _number(process.stderr)
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(printed, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if selector.select(left) and not os.read(printed, 1 << 16):
                return True
    return False
