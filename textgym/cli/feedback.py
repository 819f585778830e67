"""``textgym feedback``: a page on which people judge texts, and the file of their judgements."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym.errors import SettingsError, TaskError, require
from textgym.feedback import Kind, Store
from textgym.feedback.agreement import Share, quality
from textgym.feedback.candidates import Candidates, items_of, read_candidates
from textgym.feedback.exchange import What, export, import_file
from textgym.feedback.items import KINDS, check_annotator
from textgym.tasks import Task

_PROMPTS = 40
_LM = "textgym/tiny"


def add_feedback_parser(commands: Any) -> None:
    """Add the command to the subcommands of a parser."""
    parser = commands.add_parser(
        "feedback",
        help="a web page to judge texts on, and what people judged",
        description=(
            "Serve a page on which people judge texts. The texts come from a language model "
            "(--env), from a file (--texts), or from a training that adds them to the same store."
        ),
    )
    parser.add_argument("--store", type=Path, metavar="FILE", help="the judgements (SQLite)")
    texts = parser.add_argument_group("texts to judge")
    texts.add_argument("--env", dest="task", metavar="ID", help="task whose prompts are continued")
    texts.add_argument("--lm", default=_LM, help=f"who continues them (default: {_LM})")
    texts.add_argument(
        "--prompts",
        type=int,
        default=_PROMPTS,
        metavar="N",
        help=f"number of prompts (default: {_PROMPTS})",
    )
    texts.add_argument(
        "--group-size",
        type=int,
        default=2,
        metavar="N",
        help="texts for each prompt; N texts make N - 1 pairs (default: 2)",
    )
    texts.add_argument("--level", type=int, help="difficulty of the task")
    texts.add_argument("--split", default="train", help="train or eval")
    texts.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="JSONL with 'prompt' and 'texts', or one 'text' a line",
    )
    page = parser.add_argument_group("the page")
    page.add_argument(
        "--mode",
        choices=KINDS,
        help="kind of judgement (default: pair; of a store alone, all kinds)",
    )
    page.add_argument(
        "--aspects",
        nargs="+",
        default=["quality"],
        metavar="NAME",
        help="with --mode rating: what is rated (default: quality)",
    )
    page.add_argument(
        "--annotator",
        nargs="+",
        default=[],
        metavar="NAME",
        help="only these people; a link for each is printed",
    )
    page.add_argument("--port", type=int, default=8000, help="(default: 8000)")
    page.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at, as 0.0.0.0 for all; others than the loopback ask "
        "for a token, which is printed (default: 127.0.0.1)",
    )
    page.add_argument("--seed", type=int, help="of the order of texts")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    stats = actions.add_parser("stats", help="agreement, and the quality of each annotator")
    stats.add_argument("file", type=Path, metavar="FILE", help="the store")
    out = actions.add_parser("export", help="write judgements as JSONL")
    out.add_argument("file", type=Path, metavar="FILE", help="the store")
    out.add_argument("out", type=Path, metavar="OUT", help="the JSONL file")
    out.add_argument(
        "--all",
        action="store_true",
        help="the whole store, instead of rows with prompt, chosen and rejected",
    )
    out.add_argument("--no-ties", action="store_true", help="leave ties out, for TRL")
    back = actions.add_parser("import", help="add the judgements of a JSONL file")
    back.add_argument("file", type=Path, metavar="FILE", help="the store, old or new")
    back.add_argument("source", type=Path, metavar="SOURCE", help="the JSONL file")
    back.add_argument(
        "--as",
        dest="name",
        default="imported",
        metavar="NAME",
        help="the annotator of rows that name none (default: imported)",
    )


def feedback(console: Console, options: argparse.Namespace, task: Callable[[], Task]) -> None:
    """Run the command.

    Args:
        console: The console.
        options: The parsed command line.
        task: Makes the task of ``--env``.

    Raises:
        TextGymError: If a setting, a file or the store is invalid.
    """
    if options.action == "stats":
        _stats(console, Store(options.file, create=False))
    elif options.action == "export":
        what: What = "all" if options.all else "preferences"
        count = export(
            Store(options.file, create=False), options.out, what, ties=not options.no_ties
        )
        console.print(f"wrote {count} lines to {escape(str(options.out))}")
    elif options.action == "import":
        check_annotator(options.name)
        found = import_file(Store(options.file), options.source, options.name)
        console.print(
            f"added {found.items} items and {found.judgements} judgements; "
            f"{found.known} judgements were there already"
        )
    else:
        _serve(console, options, task)


def _serve(console: Console, options: argparse.Namespace, task: Callable[[], Task]) -> None:
    for package in ("uvicorn", "starlette", "jinja2", "krippendorff"):
        require(package, "web")
    from textgym.serve.feedback.app import PageSettings
    from textgym.serve.feedback.server import serve

    if options.store is None:
        raise SettingsError("give --store FILE, the file for the judgements")
    if options.task is not None and options.texts is not None:
        raise SettingsError("--env and --texts exclude each other")
    if options.prompts < 1 or not 0 <= options.port < 65536:
        raise SettingsError("--prompts must be 1 or more, and --port 0 to 65535")
    names = tuple(map(check_annotator, options.annotator))
    mode: Kind | None = options.mode
    store = Store(options.store)
    if options.texts is not None:
        mode = mode or "pair"
        _add(console, store, read_candidates(options.texts), mode)
    elif options.task is not None:
        mode = mode or "pair"
        _sample(console, store, task(), options, mode)
    for name in names:
        store.claim(name)
    settings = PageSettings(
        host=options.host,
        port=options.port,
        mode=mode,
        aspects=tuple(map(check_annotator, options.aspects)),
        names=names,
        seed=options.seed,
    )

    def announce(addresses: list[str]) -> None:
        counts = store.counts(mode=mode)
        console.print(
            f"{counts['items']} items, {counts['judgements']} judgements in "
            f"{escape(str(store.path))}"
        )
        for name, address in zip(names or [""], addresses, strict=True):
            # Addresses are not wrapped, so that terminals recognise them.
            console.print(f"{f'{name}: ' if name else ''}{address}", soft_wrap=True, markup=False)
        console.print("Ctrl-C ends the server; every judgement is on the disk.")

    serve(store, settings, announce)


def _sample(
    console: Console, store: Store, task: Task, options: argparse.Namespace, mode: Kind
) -> None:
    """Add texts of the language model, unless enough of them are in the store."""
    least = 2 if mode == "pair" else 1
    if options.group_size < least:
        raise SettingsError(f"--group-size must be {least} or more for --mode {mode}")
    if task.max_turns > 1 or task.image_shape is not None:
        what = "conversations" if task.max_turns > 1 else "pictures"
        raise TaskError(
            f"{task.id} has {what}, and the page shows single texts; write texts into a file, and "
            "give it as --texts"
        )
    source = {"env": task.id, "level": task.level, "split": task.split}
    old = [
        item
        for item in store.items(kind=mode)
        if item.policy_version == options.lm and source.items() <= item.columns.items()
    ]
    # Prompts may repeat, and equal texts make no pair, so prompts are not counted.
    if any(item.columns.get("prompts", 0) >= options.prompts for item in old):
        return
    known = {item.prompt for item in old}
    console.print(f"{options.lm} writes {options.group_size} texts for {options.prompts} prompts")
    # Both need torch, and take seconds to import.
    from textgym.pretrain.writing import writer
    from textgym.testing.standings import play

    act, tokenizer = writer(options.lm)
    groups: dict[str, list[str]] = {}
    size = options.group_size
    for played in play(task, act, options.prompts, repeats=size, tokenizer=tokenizer):
        groups.setdefault(played.prompt, []).append(played.response)
    found = [
        Candidates(prompt, tuple(texts), options.lm, {**source, "prompts": options.prompts})
        for prompt, texts in groups.items()
        if prompt not in known
    ]
    if found:
        _add(console, store, found, mode)


def _add(console: Console, store: Store, groups: list[Candidates], mode: Kind) -> None:
    items = items_of(groups, mode)
    if not items:
        raise SettingsError(
            f"the texts make no items for --mode {mode}: give texts that are not empty"
            + (", and two different ones for a prompt" if mode == "pair" else "")
        )
    store.add_items(items)
    lone = sum(not items_of([group], mode) for group in groups)
    if lone:
        console.print(f"left out {lone} of {len(groups)} prompts, whose texts are equal or empty")


def _stats(console: Console, store: Store) -> None:
    found = quality(store)
    console.print(
        f"items: {found.items}, judged: {found.judged}, judgements: {found.judgements}, "
        f"annotators: {len(found.annotators)}"
    )
    if found.agreement:
        table = Table("judgement", "Krippendorff's alpha", "items judged twice or more", box=None)
        for name, one in found.agreement.items():
            alpha = "-" if one.alpha is None else f"{one.alpha:.2f}"
            table.add_row(escape(name), alpha, str(one.items))
        console.print(table)
    if found.annotators:
        table = Table(
            "annotator", "judgements", "skips", "seconds", "ties", "left", "same when repeated",
            "accuracy", box=None,
        )  # fmt: skip
        for person in found.annotators:
            table.add_row(
                escape(person.name), str(person.judgements), str(person.skips),
                f"{person.seconds:.1f}", _share(person.ties), _share(person.left),
                _share(person.repeats),
                "-" if person.accuracy is None else f"{100 * person.accuracy:.0f} %",
            )  # fmt: skip
        console.print(table)


def _share(share: Share | None) -> str:
    if share is None:
        return "-"
    low, high = share.interval
    return f"{100 * share.value:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
