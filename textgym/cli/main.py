"""The words of the command line, and what each runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from textgym.cli.pages import list_tasks, show_task
from textgym.cli.playing import play_task
from textgym.cli.rescore import SYNTAX, rescore
from textgym.envs.registration import register_task
from textgym.errors import TaskError, TextGymError
from textgym.tasks import Task, make_task, registered_tasks
from textgym.testing import check_task

# Tables in a pipe are not squeezed into 80 columns.
_PIPE_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    wide = None if sys.stdout.isatty() else _PIPE_WIDTH
    console = Console(width=wide, highlight=False, soft_wrap=False)
    try:
        _run(options, console)
    except TextGymError as error:
        print(f"textgym: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # ``textgym list | head``
        sys.stderr.close()
    except (KeyboardInterrupt, EOFError):
        console.print()
    return 0


def _run(options: argparse.Namespace, console: Console) -> None:
    if options.command == "list":
        list_tasks(console)
        return
    if options.command == "rescore":
        rescore(console, options.file, options.reward, options.out, options.batch, options.modules)
        return
    task = _task(options)
    if options.command == "show":
        show_task(console, task, options.samples, options.rows, options.lm)
    elif options.command == "play":
        play_task(console, task, seed=options.seed, by_token=options.tokens)
    else:
        check_task(type(task) if options.level is None else task, n=options.rows)
        levels = "all levels" if options.level is None else f"level {task.level}"
        console.print(f"{task.id} keeps the task contract ({levels}, {options.rows} rows each)")


def _task(options: argparse.Namespace) -> Task:
    """The task that is meant: a registered id, or ``module:Class`` of anyone's own.

    Raises:
        TaskError: If there is none.
    """
    name: str = options.task
    module, colon, attribute = name.partition(":")
    if colon:
        # As in `python -m`: a module in the folder where one stands is found.
        if "" not in sys.path:
            sys.path.insert(0, "")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # Whatever the module does when it is imported.
            raise TaskError(f"{name!r} cannot be imported: {error}") from error
        if not (isinstance(found, type) and issubclass(found, Task)):
            raise TaskError(f"{name!r} is no subclass of textgym.Task")
        if not isinstance(getattr(found, "id", None), str):
            raise TaskError(f"{name!r} has no id; write `id = 'TextGen/...-v0'` in the class")
        if found.id not in registered_tasks():
            register_task(found.id, found)
        try:
            return found(level=options.level, split=options.split)
        except TypeError as error:  # Abstract methods, or a constructor of its own.
            raise TaskError(f"{name!r} cannot be made: {error}") from error
    if f"TextGen/{name}" in registered_tasks():
        name = f"TextGen/{name}"
    elif f"TextGen/{name}-v0" in registered_tasks():
        name = f"TextGen/{name}-v0"
    return make_task(name, options.level, options.split)


def _count(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_count.__name__ = "whole number above 0"  # As argparse names it in its error.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="textgym", description="Look at the built-in tasks, play them, check one's own."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the tasks, a line each")
    show = commands.add_parser("show", help="a task's page: what it is, samples, who scores what")
    show.add_argument("--samples", type=_count, default=2, help="samples shown (default: 2)")
    show.add_argument(
        "--rows", type=_count, default=100, help="rows that are judged (default: 100)"
    )
    show.add_argument(
        "--lm",
        nargs="?",
        const="textgym/tiny",
        help="also the score of a language model (default: the built-in one)",
    )
    play = commands.add_parser("play", help="play a task oneself: type, and see the score")
    play.add_argument("--seed", type=int, default=None, help="of the prompts")
    play.add_argument("--tokens", action="store_true", help="token by token, not by text")
    check = commands.add_parser("check", help="hold a task to the task contract")
    check.add_argument("--rows", type=_count, default=200, help="of each level and split")
    again = commands.add_parser("rescore", help="judge stored episodes again by other rewards")
    again.add_argument("file", type=Path, metavar="FILE", help="JSONL, as RecordEpisodes writes it")
    again.add_argument(
        "--reward", action="append", required=True, metavar="REWARD", help=SYNTAX + "; repeatable"
    )
    again.add_argument("--out", type=Path, help="write the episodes with their new rewards (JSONL)")
    again.add_argument(
        "--batch", type=_count, default=256, help="episodes judged in one call (default: 256)"
    )
    again.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers rewards of one's own; repeatable",
    )
    for command in (show, play, check):
        command.add_argument("task", metavar="ID", help="an id, its middle, or module:Class")
        command.add_argument("--level", type=int, default=None, help="difficulty")
        command.add_argument("--split", default="train", help="train or eval")
    return parser
