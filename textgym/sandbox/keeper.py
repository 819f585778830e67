"""The processes inside the sandbox of `textgym.sandbox.run`.

* The **keeper** (`main`) is a new interpreter. It drops its rights (see `kernel`), and forks a
  worker and a judge for each test. It enforces the time limits, kills both, and reports the outcome
  to the caller. It runs neither the program nor the tests.
* The **worker** (`worker`) runs the program and calls its functions on request. It never has the
  tests, which are still in the caller when it is forked.
* The **judge** (`judge`) runs the tests. Names that the tests do not define are the program's:
  calling one sends a request to the worker, and the reply is decoded into plain values.

The modules use few parts of the standard library, because an interpreter is started for every
program.
"""

from __future__ import annotations

import os
import select
import time

from textgym.sandbox import audit_hook as hook
from textgym.sandbox import judge, wire
from textgym.sandbox import kernel as layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType
    from typing import Any

_IMPORTED_EARLY = (
    "abc array base64 bisect builtins calendar cmath collections contextlib copy dataclasses "
    "datetime decimal difflib enum fractions functools hashlib heapq html io itertools json "
    "keyword math numbers operator os pprint queue random re secrets statistics string struct "
    "sys textwrap threading time traceback types typing unicodedata unittest uuid warnings "
    "weakref zlib"
)
"""Modules that the keeper imports once, rather than for every test, if a program mentions them."""

_STARTUP_S = 20.0
"""Wall seconds for a judge to start on a busy machine."""
_GRACE_CPU_S = 30
"""CPU seconds of the keeper."""
_AFTER_A_TIMEOUT = 0.5
"""Share of one test's time that all tests after a timeout have together."""
_NO_SANDBOX = 78
_SIGKILL, _SIGXCPU, _SIGSYS = 9, 24, 31


def main(job: dict[str, Any]) -> tuple[CodeType, int, int] | None:
    """Activate the sandbox's layers, and fork a worker and a judge for each test.

    A worker returns from this function, so that the program does not run below its frames and
    variables.

    Args:
        job: ``programs`` (sources, of which the first that compiles is run), ``count`` of tests,
            ``tests`` (the file to read them from), ``layers`` (the kernel's layers to activate),
            ``limits``.

    Returns:
        In a worker: the program's code, and the files for requests and replies. In the keeper, at
        the end: None.
    """
    limits: dict[str, Any] = job["limits"]
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    # A low descriptor, since `_close_other_files` closes the low ones.
    tests = os.dup(job["tests"])
    os.close(job["tests"])
    programs: list[str] = job["programs"]
    _import_early("\n".join(programs))
    system = layers.c_library() if job["layers"] else None
    active = _confine(system, job["layers"], limits)
    _send(["layers", active])
    code, reason, detail = _compile(programs)
    if code is None:
        for index in range(job["count"]):
            _send(["test", index, reason, detail])
        return None
    left: float = limits["total_s"]
    for index in range(job["count"]):
        if left <= 0:
            _send(["test", index, "time", "not run: the time for all tests is used up"])
            continue
        requests, replies, results = os.pipe(), os.pipe(), os.pipe()
        worker = os.fork()
        if worker == 0:
            _close_other_files(requests[0], replies[1])
            os.dup2(2, 1)
            _confine_child(system, active, limits, "landlock" in active)
            return code, requests[0], replies[1]
        judged = os.fork()
        if judged == 0:
            os.dup2(nothing, 1)
            _close_other_files(requests[1], replies[0], results[1], tests)
            data = wire.read_frame(tests, 1 << 31)
            os.write(results[1], b".")
            _confine_child(system, active, limits, True)
            judge.judge(data, index, requests[1], replies[0], results[1], limits["result_bytes"])
        for file in (requests[0], requests[1], replies[0], replies[1], results[1]):
            os.close(file)
        reason, detail, taken = _watch(results[0], min(limits["wall_s"], left))
        left -= taken
        os.close(results[0])
        worker_end, judge_end = _end(worker), _end(judged)
        if reason == "abandoned":
            return None
        if reason == "ended":
            reason, detail = _cause(*worker_end, limits["cpu_s"])
            if reason == "sandbox":
                # A program may choose this exit code; a judge would fail in the same way.
                reason = "exit"
        elif reason == "silent":
            reason, detail = _cause(*judge_end, limits["cpu_s"])
            detail = f"judging the result: {detail}"
        if reason == "time":
            left = min(left, _AFTER_A_TIMEOUT * limits["wall_s"])
        _send(["test", index, reason, detail])
    return None


def _compile(programs: list[str]) -> tuple[CodeType | None, str, str]:
    """The first source that compiles, or the reason and the error of the first source."""
    errors: list[Exception] = []
    for program in programs:
        try:
            return compile(program, "<program>", "exec", dont_inherit=True), "", ""
        except Exception as error:
            errors.append(error)
    reason = "memory" if isinstance(errors[0], MemoryError) else "syntax"
    return None, reason, hook.describe(errors[0])


def _send(message: list[Any]) -> None:
    wire.write_frame(1, wire.encode(message))


def _import_early(program: str) -> None:
    words: set[str] = set()
    for line in program.splitlines():
        if "import" in line:
            words.update(line.replace(",", " ").replace(".", " ").replace(";", " ").split())
    for name in words.intersection(_IMPORTED_EARLY.split()):
        __import__(name)


def _confine(system: Any, wanted: Iterable[str], limits: dict[str, Any]) -> list[str]:
    """Activate the wanted layers that the keeper can activate; returns the active ones."""
    active = []
    readable = _readable_paths() if "landlock" in wanted else []
    if "namespaces" in wanted and layers.enter_namespaces(system):
        active.append("namespaces")
    if "pid-namespace" in wanted and layers.children_get_own_pids(system):
        active.append("pid-namespace")
        alive, held = os.pipe()
        child = os.fork()
        if child:
            os.close(held)
            _wait(alive, None)
            _end(child)
            os._exit(0)
        os.close(alive)
        layers.die_with_parent(system)
    if "no-capabilities" in wanted and layers.drop_capabilities(system):
        active.append("no-capabilities")
    if "landlock" in wanted and layers.restrict_files(system, readable):
        active.append("landlock")
    if "seccomp" in wanted and layers.can_filter_calls(system):
        active.append("seccomp")
    layers.limit_resources(limits["memory_bytes"], limits["cpu_s"] + _GRACE_CPU_S)
    return active


def _readable_paths() -> list[str]:
    """The standard library, and the folders of the loaded shared libraries."""
    paths = {*hook.standard_library(), "/etc/ld.so.cache"}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            path = line.rstrip("\n").partition("/")[2]
            if ".so" in path:
                paths.add(os.path.dirname("/" + path))
    return sorted(paths)


def _close_other_files(*needed: int) -> None:
    for file in range(3, 64):
        if file not in needed:
            try:
                os.close(file)
            except OSError:
                continue


def _confine_child(system: Any, active: list[str], limits: dict[str, Any], may_open: bool) -> None:
    """Activate the layers that forbid forking."""
    layers.limit_resources(limits["memory_bytes"], limits["cpu_s"])
    layers.limit_processes()
    if "seccomp" in active and not layers.filter_calls(system, may_open):
        os._exit(_NO_SANDBOX)


def _wait(file: int, seconds: float | None) -> str:
    """Wait until there is something to read: ``"ready"``, ``"late"`` or ``"abandoned"``.

    The last one means that the caller has closed its end of the output, or died.
    """
    poll = select.poll()
    poll.register(file, select.POLLIN)
    poll.register(1, 0)
    events = dict(poll.poll(None if seconds is None else 1000 * seconds))
    if 1 in events:
        return "abandoned"
    return "ready" if file in events else "late"


def _watch(results: int, wall_s: float) -> tuple[str, str, float]:
    """Wait for the judge's verdict: the reason, a detail, and the elapsed seconds."""
    state = _wait(results, _STARTUP_S)
    if state != "abandoned" and (state == "late" or os.read(results, 1) != b"."):
        return "sandbox", "the judge did not start", 0.0
    start = time.monotonic()
    if state == "ready":
        state = _wait(results, wall_s)
    taken = time.monotonic() - start
    if state == "late":
        return "time", f"not done after {wall_s:.3g} s", taken
    if state != "ready":
        return state, "", taken
    data = wire.read_frame(results, 1 << 16)
    if data is None:
        return "silent", "", taken
    reason, detail = wire.decode(data)
    return reason, detail, taken


def _end(child: int) -> tuple[int, float]:
    """Kill a child, and return its exit status and CPU seconds."""
    os.kill(child, _SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return status, usage.ru_utime + usage.ru_stime


def _cause(status: int, used: float, cpu_s: int) -> tuple[str, str]:
    """The reason why a process ended without a reply."""
    if not os.WIFSIGNALED(status):
        code = os.waitstatus_to_exitcode(status)
        if code == _NO_SANDBOX:
            return "sandbox", "a filter of system calls was refused"
        return "exit", f"the process ended itself with exit code {code}"
    signal = os.WTERMSIG(status)
    if signal == _SIGSYS:
        return "forbidden", "a system call that the sandbox forbids"
    if signal in (_SIGKILL, _SIGXCPU) and used > cpu_s - 0.5:
        return "time", f"used {used:.1f} s of CPU time, the limit is {cpu_s} s"
    return "crash", f"ended by signal {signal}"
