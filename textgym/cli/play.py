"""``textgym play``: a person in place of the policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from textgym.data.observations import split_observation
from textgym.envs import TextGenEnv
from textgym.errors import TextGymError
from textgym.tasks import Task
from textgym.tokenization import Tokenizer

_HELP_TEXT = (
    r"Type the continuation and press Enter: the line is written, then end-of-sequence; \n is a "
    "line break. Ctrl-D ends."
)
_HELP_TOKENS = (
    "Type one token per line (text, blanks included, or #ID); an empty line is end-of-sequence. "
    "Ctrl-D ends."
)


def play_task(console: Console, task: Task, seed: int | None, by_token: bool) -> None:
    """Play episode after episode, until the input ends.

    Args:
        console: Receives texts and scores; lines are read from the standard input.
        task: The task.
        seed: Of the prompts.
        by_token: Read one token per line, not a text.
    """
    env = TextGenEnv(prompts=task)
    console.print(_HELP_TOKENS if by_token else _HELP_TEXT, style="dim")
    try:
        while True:
            obs, info = env.reset(seed=seed)
            seed = None
            console.rule(task.id)
            console.print(escape(info["prompt"]))
            text, image = split_observation(obs)
            if image is not None:
                console.print(_picture(console, image))
            end, total = _episode(console, env, int((text >= 0).sum()), by_token)
            _report(console, task, {**end, "prompt": info["prompt"]}, total)
    except EOFError:
        console.print()
    finally:
        env.close()


def _picture(console: Console, image: NDArray[np.uint8]) -> Text:
    """A picture ``[3, H, W]`` in half blocks: two rows of pixels per line."""
    if console.color_system is None:
        return Text("(a picture, which needs a terminal with colours)", style="dim")
    height, width = image.shape[1:]
    text = Text()
    for top in range(0, height, 2):
        for column in range(width):
            upper, lower = (
                "rgb({},{},{})".format(*image[:, min(row, height - 1), column].tolist())
                for row in (top, top + 1)
            )
            text.append("▀", style=f"{upper} on {lower}")
        text.append("\n")
    return text


def _episode(
    console: Console, env: TextGenEnv, shown: int, by_token: bool
) -> tuple[dict[str, Any], float]:
    """Play one episode.

    Args:
        console: Receives the other side's texts.
        env: The environment, after its reset.
        shown: Tokens that the person has seen.
        by_token: Read one token per line, not a text.

    Returns:
        The last ``info``, and the sum of the rewards.
    """
    over, total = False, 0.0
    while not over:
        line = input("> ")
        try:
            ids = [_token(line, env.tokenizer)] if by_token else _tokens(line, env)
        except TextGymError as error:
            console.print(f"[red]{escape(str(error))}[/red]")
            continue
        for index in ids:
            obs, reward, over, _, info = env.step(index)
            text, _ = split_observation(obs)
            shown += 1
            total += reward
            length = int((text >= 0).sum())
            if length > shown:  # The other side of a conversation.
                console.print(
                    escape(env.tokenizer.continuation(text[shown:length].tolist(), text[:shown]))
                )
                shown = length
            if over or "turn" in info:
                break
    return info, total


def _report(console: Console, task: Task, info: dict[str, Any], total: float) -> None:
    """Show the reward, why the text has its score, and a right answer."""
    console.print(f"[bold]{total:.3f}[/bold] ({info['finish_reason']})")
    for name, value in info["reward_terms"].items():
        worth = f"{value:.3f}" if value == value else "does not apply"
        console.print(f"  {escape(name)}: {worth}")
    for name, value in info.get("cost_terms", {}).items():
        console.print(f"  cost, {escape(name)}: {value:.3f}")
    console.print("  why the score:")
    for part, what, points in task.explain(info["response"], info):
        gained = f"{points:+.3f}" if points else "      "
        console.print(f"    {gained}  {escape(part)}: {escape(what)}")
    if "reference" in info:
        console.print(f"  a right answer: {escape(str(info['reference']))}", style="dim")


def _tokens(line: str, env: TextGenEnv) -> list[int]:
    tokenizer = env.tokenizer
    text = line.replace(r"\n", "\n")
    # Continuations begin with a blank, unless the vocabulary consists of words.
    if not tokenizer.separator and text and not text[0].isspace():
        text = f" {text}"
    ids = tokenizer.encode_continuation(text)
    return ids if tokenizer.eos_id is None else [*ids, tokenizer.eos_id]


def _token(line: str, tokenizer: Tokenizer) -> int:
    if not line and tokenizer.eos_id is not None:
        return tokenizer.eos_id
    if line.startswith("#") and line[1:].isdecimal() and int(line[1:]) < tokenizer.vocab_size:
        return int(line[1:])
    ids = tokenizer.encode_continuation(line.replace(r"\n", "\n"))
    if len(ids) != 1:
        pieces = [tokenizer.decode([index]) for index in ids]
        raise TextGymError(f"{line!r} is {len(ids)} tokens: {pieces}; type them one by one")
    return ids[0]
