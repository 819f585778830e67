"""The commands of ``textgym``."""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from textgym.cli.attack import attack_tasks
from textgym.cli.feedback import add_feedback_parser, feedback
from textgym.cli.new_task import new_task
from textgym.cli.pages import list_tasks, show_task
from textgym.cli.play import play_task
from textgym.cli.rescore import SYNTAX, rescore
from textgym.envs.registration import register_task
from textgym.errors import TaskError, TextGymError
from textgym.tasks import Task, make_task, registered_tasks
from textgym.testing import check_task

# Tables in a pipe are not squeezed into 80 columns.
_PIPE_WIDTH = 120

_CHECKED_ROWS = 200
_ATTACKED_ROWS = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    wide = None if sys.stdout.isatty() else _PIPE_WIDTH
    console = Console(width=wide, highlight=False, soft_wrap=False)
    try:
        return _run(options, console)
    except TextGymError as error:
        print(f"textgym: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # ``textgym list | head``
        sys.stderr.close()
    except (KeyboardInterrupt, EOFError):
        console.print()
    return 0


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.command == "list":
        list_tasks(console)
        return 0
    if options.command == "new-task":
        new_task(console, options.name, Path.cwd())
        return 0
    if options.command == "rescore":
        rescore(console, options.file, options.reward, options.out, options.batch, options.modules)
        return 0
    if options.command == "feedback":
        feedback(console, options, lambda: _task(options))
        return 0
    if options.command == "check" and (options.attack or options.all):
        return _attack(options, console)
    task = _task(options)
    if options.command == "show":
        show_task(console, task, options.samples, options.rows, options.lm)
    elif options.command == "play":
        play_task(console, task, seed=options.seed, by_token=options.tokens)
    else:
        rows = options.rows or _CHECKED_ROWS
        check_task(type(task) if options.level is None else task, n=rows)
        levels = "all levels" if options.level is None else f"level {task.level}"
        console.print(f"{task.id} keeps the task contract ({levels}, {rows} rows each)")
    return 0


def _attack(options: argparse.Namespace, console: Console) -> int:
    """Search for junk that tasks pay; 1 if any is found."""
    if options.all:
        if not options.attack or options.task is not None:
            raise TaskError("check --all needs --attack and no ID: it searches every task")
        tasks = [make_task(name) for name in registered_tasks()]
    else:
        tasks = [_task(options)]
    if options.level is not None and options.levels is not None:
        raise TaskError("--level and --levels exclude each other")
    return attack_tasks(
        console,
        tasks,
        levels=[options.level] if options.level is not None else options.levels,
        rows=options.rows or _ATTACKED_ROWS,
        seconds=options.seconds,
        seed=options.seed,
        out=options.out,
    )


def _task(options: argparse.Namespace) -> Task:
    """The task of a registered id, or of ``module:Class``.

    Raises:
        TaskError: If there is no such task.
    """
    name: str | None = options.task
    if name is None:
        raise TaskError("which task? `textgym list` lists them; check --attack --all takes all")
    module, colon, attribute = name.partition(":")
    if colon:
        # As in `python -m`: a module in the current folder is found.
        if "" not in sys.path:
            sys.path.insert(0, "")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # Whatever the module does when it is imported.
            raise TaskError(f"{name!r} cannot be imported: {error}") from error
        if not (isinstance(found, type) and issubclass(found, Task)):
            raise TaskError(f"{name!r} is not a subclass of textgym.Task")
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


def _seconds(text: str) -> float:
    """A finite time of 0 or more."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


_seconds.__name__ = "number of seconds"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="textgym", description="Show and play the built-in tasks, and check your own."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the tasks, a line each")
    show = commands.add_parser("show", help="a task's page, samples, and scores of simple writers")
    show.add_argument("--samples", type=_count, default=2, help="samples shown (default: 2)")
    show.add_argument("--rows", type=_count, default=100, help="rows to score (default: 100)")
    show.add_argument(
        "--lm",
        nargs="?",
        const="textgym/tiny",
        help="also score a language model (default: the built-in one)",
    )
    play = commands.add_parser("play", help="play a task yourself: type, and see the score")
    play.add_argument("--seed", type=int, default=None, help="of the prompts")
    play.add_argument("--tokens", action="store_true", help="type single tokens instead of texts")
    check = commands.add_parser("check", help="check a task against the task contract")
    check.add_argument(
        "--rows",
        type=_count,
        help=f"of each level (default: {_CHECKED_ROWS} of each split; "
        f"with --attack {_ATTACKED_ROWS})",
    )
    check.add_argument(
        "--attack",
        action="store_true",
        help="search for junk that is paid; exit with 1 if there is any",
    )
    check.add_argument("--all", action="store_true", help="with --attack: every registered task")
    check.add_argument(
        "--seconds",
        type=_seconds,
        default=60.0,
        help="time of the search, all tasks and levels together (default: 60)",
    )
    check.add_argument("--levels", type=int, nargs="+", help="with --attack: several difficulties")
    check.add_argument("--seed", type=int, default=0, help="of the search (default: 0)")
    check.add_argument(
        "--out", type=Path, metavar="FILE", help="with --attack: write the table (Markdown)"
    )
    new = commands.add_parser("new-task", help="write the folder of a new task")
    new.add_argument("name", metavar="NAME", help="the class, in CamelCase: WordLadder")
    again = commands.add_parser("rescore", help="score stored episodes with other rewards")
    again.add_argument("file", type=Path, metavar="FILE", help="JSONL, as RecordEpisodes writes it")
    again.add_argument(
        "--reward", action="append", required=True, metavar="REWARD", help=SYNTAX + "; repeatable"
    )
    again.add_argument("--out", type=Path, help="write the episodes with their new rewards (JSONL)")
    again.add_argument(
        "--batch", type=_count, default=256, help="episodes scored in one call (default: 256)"
    )
    again.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers your rewards; repeatable",
    )
    add_feedback_parser(commands)
    for command in (show, play, check):
        command.add_argument(
            "task",
            metavar="ID",
            nargs="?" if command is check else None,
            help="an id, its middle, or module:Class",
        )
        command.add_argument("--level", type=int, default=None, help="difficulty")
        command.add_argument("--split", default="train", help="train or eval")
    return parser
