"""The process that runs the program for `textgym.sandbox.run`: `serve`.

The program may change everything in this process, so nothing here is trusted: only values leave the
process, and the judge treats them as values.
"""

from __future__ import annotations

import builtins
import os
import sys

from textgym.sandbox import audit_hook as hook
from textgym.sandbox import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, NoReturn

    Reply = list[Any]


def serve(code: CodeType, requests: int, replies: int) -> NoReturn:
    """Run the program, and then the judge's requests."""

    def send(reply: Reply, opaque: Callable[[Any], tuple[str, str]] | None = None) -> None:
        wire.write_frame(replies, wire.encode(reply, opaque) if opaque else wire.encode(reply))

    def report(what: str) -> None:
        send(["forbidden", what])
        os._exit(1)

    for name in list(sys.modules):
        if name in hook.NOT_IMPORTED or name.startswith(("ctypes.", "textgym")):
            del sys.modules[name]
    if "random" in sys.modules:
        # For deterministic verdicts; the module reseeds itself after a fork.
        sys.modules["random"].seed(0)
    hook.forbid(report)
    names: dict[str, Any] = {"__name__": "program", "__builtins__": builtins}
    handles: list[Any] = []

    def look_up(tag: str, text: str) -> Any:
        return handles[int(text)] if tag == "h" else names[text]

    def make_handle(value: Any) -> tuple[str, str]:
        handles.append(value)
        return "h", f"{len(handles) - 1} {hook.shorten(type(value).__name__)}"

    def run(function: Callable[[], Any]) -> Reply:
        try:
            return ["value", function()]
        except SystemExit:
            return ["exit"]
        except BaseException as error:
            return ["raised", _builtin_name(error), hook.describe(error)]

    reply = run(lambda: exec(code, names))
    if reply[0] != "value":
        send(reply)
        os._exit(1)
    send(["ready"])
    while (data := wire.read_frame(requests, 1 << 31)) is not None:
        try:
            function, args, kwargs = wire.decode(data, look_up)
        except KeyError as error:
            send(["missing", str(error.args[0])])
            continue
        reply = run(lambda call=function, a=args, k=kwargs: call(*a, **k))  # type: ignore[misc]
        try:
            send(reply, make_handle)
        except wire.WireError as error:
            send(["unplain", str(error)])
        except BaseException as error:
            send(["raised", _builtin_name(error), hook.describe(error)])
    os._exit(0)


def _builtin_name(error: BaseException) -> str:
    """The most specific built-in class of an exception."""
    kinds = type(error).__mro__
    return next((kind.__name__ for kind in kinds if kind.__module__ == "builtins"), "Exception")
