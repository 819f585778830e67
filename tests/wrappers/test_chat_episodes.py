"""Chats in recorded episodes, rescored, and behind the wrappers that propose tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tests.envs.test_chat import CHAT, rendered, tokenizer
from textgym.cli.rescore import rescore
from textgym.envs import TextGenVectorEnv
from textgym.rewards import messages
from textgym.wrappers import RecordEpisodes

ROWS = [{"prompt": CHAT, "reference": "6"}, {"prompt": CHAT[1:2], "reference": "4"}]


@messages
def said(prompts: Any, completions: Any, reference: Any) -> list[float]:
    """1 if the answer is the reference, plus 10 per message of the prompt."""
    return [
        10.0 * len(prompt) + float(completion[0]["content"] == right)
        for prompt, completion, right in zip(prompts, completions, reference, strict=True)
    ]


def played(path: Path) -> list[dict[str, Any]]:
    theirs = tokenizer()
    envs: Any = RecordEpisodes(
        TextGenVectorEnv(
            prompts=ROWS, num_envs=2, tokenizer=theirs, max_prompt_tokens=200, max_new_tokens=4,
            reward=said,
        ),
        path,
    )  # fmt: skip
    envs.reset(seed=0, options={"row": ROWS})
    for right, wrong in zip(theirs.encode("6"), theirs.encode("5"), strict=True):
        envs.step(np.array([right, wrong]))
    envs.step(np.array([theirs.convert_tokens_to_ids("<|im_end|>")] * 2))
    envs.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_recorded_episodes_hold_their_messages(tmp_path: Path) -> None:
    theirs = tokenizer()
    first, second = played(tmp_path / "episodes.jsonl")
    assert first["columns"] == {"messages": CHAT, "reference": "6"}
    assert second["columns"]["messages"] == CHAT[1:2]
    assert theirs.encode(first["prompt"], add_special_tokens=False) == rendered(theirs, CHAT)
    assert (first["response"], first["reward"]) == ("6", 41.0)
    assert (second["response"], second["reward"]) == ("5", 10.0)


def test_rescored_rewards_get_the_messages(tmp_path: Path, monkeypatch: Any) -> None:
    path, out = tmp_path / "episodes.jsonl", tmp_path / "out.jsonl"
    played(path)
    (tmp_path / "own_rewards.py").write_text(
        "from textgym import register_reward\n"
        "from tests.wrappers.test_chat_episodes import said\n"
        "register_reward('said_in_chats', lambda: said)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    rescore(Console(quiet=True), path, ["said_in_chats", "exact_match"], out,
            modules=["own_rewards"])  # fmt: skip
    terms = [json.loads(line)["reward_terms"] for line in out.read_text().splitlines()]
    assert terms == [
        {"said_in_chats": 41.0, "exact_match": 1.0},
        {"said_in_chats": 10.0, "exact_match": 0.0},
    ]
