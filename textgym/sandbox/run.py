"""Run an untrusted Python program against tests: `run_tests`.

This is for data such as HumanEval and MBPP, whose answers are Python programs. A program that is
optimized for a reward may attack its evaluation and its machine.

**The verdict.** The program and its tests run in different processes (see
`textgym.sandbox.keeper`). The tests call functions that request results from the program's process,
and results are passed as plain values (see `textgym.sandbox.wire`). Neither the comparison, nor the
tests, nor the expected values are in the program's process. A program may replace ``assert``,
`builtins` or the harness, exit, print, or return objects that are equal to everything, but only the
right value passes a test.

**The layers**, outermost first; `sandbox_layers` returns the active ones:

* ``process``: a new interpreter in a new session, with an empty environment, no input, a temporary
  working directory, and limits on wall time and output. All its processes are killed before
  `run_tests` returns.
* ``rlimits``: limits on CPU time and memory; no files, core dumps or new processes.
* ``namespaces``: no network, users, mounts or interprocess objects of the machine.
* ``pid-namespace``: no access to outside processes.
* ``no-capabilities``: no privileges, not even root's.
* ``landlock``: no file systems and no TCP, except for reading the standard library and the folders
  of shared libraries.
* ``seccomp``: an allowlist of system calls. Starting processes, threads or programs, opening a
  socket, and tracing or signalling another process kill the program; opening for writing fails.
  Without Landlock, opening for reading fails too, and only common modules can be imported.
* ``audit-hook``: Python's audit hook, which reports the forbidden event. It alone does not stop a
  determined program (which may use `_ctypes` types or crafted bytecode).

Every Linux has the first two and the last; containers often lack the namespaces, and Landlock needs
Linux 5.13. Do not run untrusted programs without ``landlock`` and ``seccomp``.

**Not contained:** vulnerabilities of the kernel; the use of time and memory within the limits;
reading the standard library, the shared libraries, the names and sizes of all files (Landlock does
not restrict ``stat``), the kernel's version, the clock, and the program's user id; and load, by
which two concurrent programs can notice each other. A program may change helper functions of its
prompt, so tests that call helpers should define them (``setup=``).

**Tests** run under the same layers. They can only pass and receive plain values: None, bool,
numbers, strings, bytes, lists, tuples, sets, dicts (also of `collections`), deques, ranges, and
iterators (up to 20,000 items, as a list iterator). Objects of the program's classes can be called
and passed back to it, but not inspected. Arguments are copies, which do not show in-place changes.
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

# The modules are sent compiled, with the job: reading them from files would take longer than the
# rest of the start, and their package need not be importable.
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

# Wall seconds for the interpreter to start, or to end, on a busy machine.
_STARTUP_S = 30.0
# Wall seconds for the keeper to exit before it is killed.
_EXIT_S = 2.0


@dataclass(frozen=True)
class Limits:
    """Limits of a program, which can never start processes or write files.

    Attributes:
        wall_s: Wall seconds per test, including the program's start.
        total_s: Wall seconds of all tests. After the first timeout the remaining tests together get
            half of `wall_s`. Tests without time left are not run, and fail.
        cpu_s: CPU seconds per test, a whole number.
        memory_bytes: Address space of a process, including the interpreter's 50 MB.
        output_bytes: Printed bytes in all tests.
        result_bytes: Encoded size of one result.
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
                raise SettingsError(f"Limits({name}={value!r}): must be positive")
        if not isinstance(self.cpu_s, int):
            raise SettingsError(f"Limits(cpu_s={self.cpu_s!r}): must be an integer")
        if self.memory_bytes < 64 << 20:
            raise SettingsError(
                f"Limits(memory_bytes={self.memory_bytes}): Python itself needs 64 MiB (1 << 26)"
            )


@dataclass(frozen=True)
class Verdict:
    """The outcome of the tests.

    Attributes:
        passed: Number of tests that passed.
        total: Number of tests.
        reason: ``"passed"``, or the reason why the first failed test failed: ``"wrong"`` (its
            assertion), ``"exception"``, ``"syntax"``, ``"missing"`` (no such function),
            ``"result"`` (not a plain value, or too large), ``"time"``, ``"memory"``, ``"output"``,
            ``"exit"`` (the program ended its process), ``"forbidden"`` (by the sandbox),
            ``"crash"`` (by a signal), or ``"tests"`` (the test itself violates the sandbox).
        detail: A human-readable explanation.
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
    """Run an untrusted program against its tests.

    Args:
        program: Python source that defines functions, or several readings of one text, of which the
            first that compiles is run.
        tests: HumanEval's source, which defines ``check(candidate)`` and is one test; or MBPP's
            list, such as ``["assert double(2) == 4"]``, whose tests run separately, each with a new
            process of the program.
        entry_point: The name of the function under test, which ``check`` gets. A list of tests
            needs it only if the name is a built-in's, and the tests do not call it first.
        setup: Source to run before each test, in the tests' process: imports, and helper functions
            that a program must not change.
        limits: The program's limits; None is ``Limits()``.

    Raises:
        DataError: If `tests` is empty, or they are not valid Python, lack ``check``, or never
            call the program.
        SettingsError: On a system without the layers that the sandbox needs.
    """
    limits = limits or Limits()
    whole = isinstance(tests, str)
    if whole and entry_point is None:
        raise DataError("tests that define check(candidate) need the function's name: entry_point=")
    parts = [tests] if isinstance(tests, str) else list(tests)
    if not parts:
        raise DataError("no tests: pass a source that defines check, or some asserts")
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
            f"(output: {_tail(run)}); is the system out of memory or processes?"
        )
    passed, failure = 0, None
    for index in range(len(parts)):
        reason, detail = run.outcomes.get(index, run.broken)
        if reason == "invalid":
            raise DataError(f"test {index}: {detail}")
        if reason == "sandbox":
            raise SettingsError(
                f"the sandbox failed: {detail} (output: {_tail(run)}); is the system overloaded?"
            )
        if reason == "passed":
            passed += 1
        elif failure is None:
            failure = (reason, f"test {index}: {detail}" if detail else f"test {index}")
    reason, detail = failure or ("passed", "")
    return Verdict(passed, len(parts), reason, detail)


def sandbox_layers() -> tuple[str, ...]:
    """The layers that are active on this system, outermost first; see the module docstring.

    Raises:
        SettingsError: On a system without the layers that the sandbox needs.
    """
    return ("process", "rlimits", *_kernel_layers(), "audit-hook")


@functools.cache
def _kernel_layers() -> tuple[str, ...]:
    """The available layers of `_KERNEL_LAYERS`, found by starting a sandbox once."""
    if sys.platform != "linux":
        raise SettingsError(
            f"running programs needs the limits of Linux, and this is {sys.platform}: use a "
            "Linux machine or container"
        )
    if not sys.executable or not hasattr(sys, "addaudithook"):
        raise SettingsError(
            "running programs needs a separate Python interpreter with audit hooks: use CPython, "
            f"started as a program (sys.executable is {sys.executable!r})"
        )
    run = _run([""], [], Limits(), _KERNEL_LAYERS)
    if run.layers is None:
        raise SettingsError(f"the sandbox does not start; output: {_tail(run)}")
    return tuple(run.layers)


@functools.cache
def _modules() -> list[tuple[str, Any]]:
    """The sandbox's modules, compiled, in the order of their imports."""
    names = ("wire", "kernel", "audit_hook", "judge", "worker", "keeper")
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    return [
        (module.__name__, compile(inspect.getsource(module), module.__name__, "exec"))
        for module in modules
    ]


class _Run:
    """The messages of a sandbox; `layers` is None if it did not report them."""

    def __init__(self) -> None:
        self.layers: list[str] | None = None
        self.outcomes: dict[int, tuple[str, str]] = {}
        self.broken = ("crash", "the sandbox ended early")
        self.output = b""
        self._received = b""

    def receive(self, data: bytes) -> None:
        """Parse messages of the keeper."""
        self._received += data
        while len(self._received) >= 4:
            end = 4 + int.from_bytes(self._received[:4], "big")
            if len(self._received) < end:
                return
            kind, *rest = wire.decode(self._received[4:end])
            self._received = self._received[end:]
            if kind == "layers":
                self.layers = rest[0]
            else:
                self.outcomes[rest[0]] = (rest[1], rest[2])


def _tail(run: _Run) -> str:
    return run.output[-300:].decode(errors="replace") or "nothing"


def _run(programs: list[str], frames: list[bytes], limits: Limits, wanted: Sequence[str]) -> _Run:
    """Start a sandbox, send its input, read its output, and remove it."""
    folder = tempfile.mkdtemp(prefix="textgym-sandbox-")
    tests_out, tests_in = os.pipe()
    try:
        job = {
            "modules": _modules(), "programs": programs, "count": len(frames), "tests": tests_out,
            "layers": list(wanted), "limits": asdict(limits),
        }  # fmt: skip
        process = subprocess.Popen(
            # Like -I without -E, since a fixed hash seed makes programs deterministic.
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
            seconds = _STARTUP_S + limits.total_s + limits.wall_s + len(frames)
            pending = {
                _number(process.stdin): memoryview(marshal.dumps(job)),
                tests_in: memoryview(b"".join(map(wire.frame, frames))),
            }
            _exchange(process, pending, run, limits.output_bytes, seconds)
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
    seconds: float,
) -> None:
    """Write pending input and read output until the keeper closes its messages."""
    deadline = time.monotonic() + seconds
    stdin, messages, printed = map(_number, (process.stdin, process.stdout, process.stderr))
    size = 0
    with selectors.DefaultSelector() as selector:
        for file in pending:
            os.set_blocking(file, False)
            selector.register(file, selectors.EVENT_WRITE)
        selector.register(messages, selectors.EVENT_READ)
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
                if file == messages:
                    if not data:
                        return
                    run.receive(data)
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
    """End all processes of the sandbox, and wait for their end."""
    # The keeper notices that its output is closed, and reaps its children, because the init process
    # of a container may not reap orphans.
    for file in (process.stdin, process.stdout):
        if file:
            file.close()
    if not _all_ended(process, _EXIT_S):
        # The keeper has not been waited for, so its process id is not reused.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _all_ended(process, _STARTUP_S)
    process.wait()
    if process.stderr:
        process.stderr.close()


def _all_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end of the pipe that every process of the sandbox has open."""
    printed = _number(process.stderr)
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(printed, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if selector.select(left) and not os.read(printed, 1 << 16):
                return True
    return False
