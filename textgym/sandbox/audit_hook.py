"""Python's audit hook, the innermost layer of `textgym.sandbox.run`."""

from __future__ import annotations

import builtins
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NOT_IMPORTED = (
    "ctypes", "_ctypes", "_posixsubprocess", "_testcapi", "_testinternalcapi",
    "_xxsubinterpreters", "_posixshmem", "_multiprocessing", "faulthandler",
)  # fmt: skip
_FORBIDDEN_EVENTS = (
    "os.", "socket.", "subprocess.", "ctypes.", "shutil.", "fcntl.", "pty.", "resource.",
    "sqlite3.", "syslog.", "tempfile.", "urllib.", "http.client.", "ftplib.", "smtplib.",
    "poplib.", "imaplib.", "telnetlib.", "nntplib.", "webbrowser.", "glob.", "pathlib.",
    "signal.pthread_kill", "code.__new__",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_MAX_TEXT = 300

_HOOK = """
def hook(event, args):
    bad = False
    if event == "open" or event == "os.listdir":
        bad = True
        path = args[0]
        if path.__class__ is "".__class__:
            bad = (
                not "".__class__.startswith("".__class__.__add__(path, "/"), {folders!r})
                or "".__class__.find(path, "..") >= 0
                or "".__class__.find(path, "-packages") >= 0
                or (event == "open" and args[2] & {writing!r} != 0)
            ) and (
                # A syntax error looks for a file of the source's name, such as "<string>".
                event != "open"
                or "".__class__.startswith(path, "<") is False
                or "".__class__.find(path, "/") >= 0
                or args[2] & {writing!r} != 0
            )
    elif event == "import":
        bad = args[0] in {modules!r}
    elif event not in ("os.putenv", "os.unsetenv"):
        bad = "".__class__.startswith(event, {events!r})
    if bad:
        report(event, args)
        raise PermissionError("the sandbox forbids " + event)
"""
"""The audit hook. It looks up no names, so that a program which rebinds names of `builtins` or of
the hook changes only the error."""


def shorten(text: str) -> str:
    """Truncate a text for display."""
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."


def describe(error: BaseException) -> str:
    """The class and message of an exception, which may be hostile."""
    try:
        return shorten(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    except BaseException:
        return "an exception that cannot be displayed"


def standard_library() -> list[str]:
    """The folders of importable modules."""
    return [path for path in sys.path if path.startswith("/")]


def forbid(report: Callable[[str], None]) -> None:
    """Install the audit hook, which a program cannot remove.

    Args:
        report: Called with the first forbidden event; does not return.
    """

    def report_event(event: str, args: tuple[Any, ...]) -> None:
        argument = f" {args[0]!r}" if args and isinstance(args[0], str | bytes) else ""
        report(shorten(event + argument))

    folders = tuple(path.rstrip("/") + "/" for path in standard_library())
    source = _HOOK.format(
        folders=folders, writing=_WRITING, modules=NOT_IMPORTED, events=_FORBIDDEN_EVENTS
    )
    names: dict[str, Any] = {"report": report_event, "__builtins__": dict(vars(builtins))}
    exec(source, names)
    sys.addaudithook(names["hook"])
