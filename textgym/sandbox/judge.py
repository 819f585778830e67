"""The process that runs the tests for `textgym.sandbox.run`: `judge`."""

from __future__ import annotations

import builtins
import os

from textgym.sandbox import audit_hook as hook
from textgym.sandbox import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, NoReturn


class _Stop(BaseException):
    """Stops the test. An ``except Exception`` of a test does not catch it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail


class _Program:
    """The judge's side of a worker."""

    def __init__(self, requests: int, replies: int, result_bytes: int) -> None:
        self.calls = 0
        self.broken: _Stop | None = None
        self.raised: BaseException | None = None
        self.may_end_iteration = False
        self._requests = requests
        self._replies = replies
        self._result_bytes = result_bytes

    def stop(self, reason: str, detail: str = "") -> _Stop:
        """Record that the test has failed, even if it catches the exception."""
        self.broken = self.broken or _Stop(reason, hook.shorten(detail))
        return self.broken

    def call(self, function: _Remote, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have the worker call a function, and raise its exception."""
        if self.broken:
            raise self.broken
        self.calls += 1
        try:
            data = wire.encode([function, list(args), kwargs], _name)
        except wire.WireError as error:
            raise self.stop("tests", f"an argument cannot be passed on: {error}") from None
        try:
            wire.write_frame(self._requests, data)
        except BrokenPipeError:
            raise self.stop("ended") from None
        return self.answer()

    def answer(self) -> Any:
        """Read the worker's next reply."""
        try:
            data = wire.read_frame(self._replies, self._result_bytes)
            if data is None:
                raise self.stop("ended")
            reply = wire.decode(data, self._remote_object)
            kind, detail = str(reply[0]), reply[1] if len(reply) > 1 else ""
        except (wire.WireError, TypeError, IndexError, KeyError) as error:
            raise self.stop("result", f"the result is not plain: {error}") from None
        if kind in ("value", "ready"):
            return detail
        if kind == "raised":
            text = str(reply[2]) if len(reply) > 2 else ""
            self.raised = _exception(str(detail), text, self.may_end_iteration)
            raise self.raised
        if kind == "forbidden":
            raise self.stop("forbidden", str(detail))
        if kind == "missing":
            raise self.stop("missing", f"the program defines no {detail!s:.100}")
        if kind == "exit":
            raise self.stop("exit", "the program called sys.exit")
        raise self.stop("result", f"the result is not plain: {detail!s:.200}")

    def _remote_object(self, tag: str, text: str) -> _Remote:
        if tag != "h":
            raise wire.WireError(f"unknown tag {tag!r}")
        number, _, kind = text.partition(" ")
        return _Remote(self, "h", number, f"an object of the program's type {kind}")


_ENDS_ITERATION = (StopIteration, StopAsyncIteration)


def _exception(name: str, text: str, ends: bool = False) -> Exception:
    """The program's exception, to be raised in the test.

    Args:
        name: Its built-in class.
        text: Its message.
        ends: Whether the test mentions exceptions that end an iteration. If not, they become a
            RuntimeError, as in a generator (PEP 479), because they would end the test's own loop
            in ``all(map(f, values))``, which would then pass.
    """
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        if issubclass(kind, _ENDS_ITERATION) and not ends:
            return RuntimeError(f"the program raised {name}")
        try:
            return kind(text)
        except Exception:
            return Exception(text)
    return Exception(text)


def _name(value: Any) -> tuple[str, str]:
    if type(value) is _Remote:
        return value.reference
    raise wire.WireError(f"a {type(value).__name__} is not a plain value")


class _Remote:
    """A function or object of the program, which can only be called and passed to the program."""

    __slots__ = ("_program", "_what", "reference")

    def __init__(self, program: _Program, tag: str, text: str, what: str) -> None:
        self._program = program
        self._what = what
        self.reference = (tag, text)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._program.call(self, args, kwargs)

    def _refuse(self, *_: Any) -> NoReturn:
        raise self._program.stop("result", f"the result is not plain: {self._what}")

    __getattr__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __hash__ = _refuse
    __len__ = __iter__ = __contains__ = __getitem__ = __str__ = __repr__ = __format__ = _refuse
    __int__ = __float__ = __index__ = __abs__ = __neg__ = __round__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _refuse


def judge(
    data: bytes | None, index: int, requests: int, replies: int, results: int, result_bytes: int
) -> NoReturn:
    """Run one test against a worker, and write the reason (``passed`` if it holds) to `results`."""

    def finish(reason: str, detail: str) -> NoReturn:
        wire.write_frame(results, wire.encode([reason, hook.shorten(detail)]))
        os._exit(0)

    hook.forbid(lambda what: finish("tests", f"the tests do what the sandbox forbids: {what}"))
    program = _Program(requests, replies, result_bytes)
    try:
        number, kind, setup, source, entry_point = wire.decode(data or b"")
        if number != index:
            finish("sandbox", "the tests came out of order")
        _run_test(program, kind, setup, source, entry_point)
    except _Stop as stop:
        finish(stop.reason, stop.detail)
    except BaseException as error:
        if program.broken:
            finish(program.broken.reason, program.broken.detail)
        if isinstance(error, MemoryError):
            finish("memory", "MemoryError")
        if isinstance(error, AssertionError) and error is not program.raised:
            finish("wrong", hook.describe(error))
        finish("exception", str(error) if error is program.raised else hook.describe(error))
    if program.broken:
        finish(program.broken.reason, program.broken.detail)
    if not program.calls:
        finish(
            "invalid", "the test never calls the program; pass its function's name: entry_point="
        )
    finish("passed", "")


def _run_test(
    program: _Program, kind: str, setup: str, source: str, entry_point: str | None
) -> None:
    names: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
    try:
        before = compile(setup, "<setup>", "exec", dont_inherit=True)
        code = compile(source, "<tests>", "exec", dont_inherit=True)
    except Exception as error:
        raise _Stop("invalid", f"the tests cannot be compiled: {hook.describe(error)}") from None
    program.answer()
    known = {*_names(before), *_names(code)}
    program.may_end_iteration = not known.isdisjoint(end.__name__ for end in _ENDS_ITERATION)
    for name in known:
        if not hasattr(builtins, name):
            names[name] = _Remote(program, "n", name, f"the program's {name}")
    exec(before, names)
    if entry_point is not None:
        names[entry_point] = _Remote(program, "n", entry_point, f"the program's {entry_point}")
    elif kind == "assert" and all(hasattr(builtins, name) for name in _names(code)):
        # In `assert sum(10, 15) == 6` the outermost function is the program's `sum`.
        for name in _names(code)[:1]:
            names[name] = _Remote(program, "n", name, f"the program's {name}")
    exec(code, names)
    if kind == "check":
        # The tests may contain the prompt with a stub of the function.
        names[str(entry_point)] = _Remote(program, "n", str(entry_point), "the program's function")
        check = names.get("check")
        if check is None or type(check) is _Remote:
            raise _Stop("invalid", "the tests define no function check(candidate)")
        check(_Remote(program, "n", str(entry_point), f"the program's {entry_point}"))


def _names(code: CodeType) -> list[str]:
    """The global names (and attributes) in a code object, in the order of their first use."""
    found = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            found += _names(constant)
    return found
