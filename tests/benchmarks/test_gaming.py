"""How rewards are gamed: cases, judges, the file of results, and the page docs/rewards.md."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import ppo
from agents.running.command_line import parse as parse_agent
from agents.running.evaluation import Evaluation
from benchmarks.report.markdown import fenced, fill
from benchmarks.studies import gaming
from benchmarks.studies.gaming_page import HEAD, line, section, texts, wrapped
from textgym.errors import SettingsError
from textgym.lm.model import LanguageModel
from textgym.rewards import registered_rewards, train
from textgym.tasks import make_task

BEGIN, END = "<!-- gaming:begin -->", "<!-- gaming:end -->"
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rewards.md").read_text("utf-8")
CODE = "TextGen/Code-v0"
TASKS = sorted({case.env for case in gaming.CASES.values()})


# -- cases and judges ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in gaming.CASES if name != "reward_model"])
def test_cases_judge_rows_of_their_tasks(name: str) -> None:
    case = gaming.CASES[name]
    reward = gaming.reward_of(case, gaming.Settings(), "")
    task = make_task(case.env)
    rows = [task.item(k) for k in range(4)]
    columns = {key: [row[key] for row in rows] for key in rows[0] if key != "prompt"}
    said = reward([row["prompt"] for row in rows], [task.oracle(row) for row in rows], **columns)
    assert len(said) == 4
    assert all(value is not None for value in said)
    assert case.said.startswith(case.reward)


@pytest.mark.parametrize("env", [env for env in TASKS if env != CODE])  # Its tests are hidden.
def test_scores_from_the_prompt_alone_are_the_tasks_scores(env: str) -> None:
    task = make_task(env, split="eval")
    rng = np.random.default_rng(0)
    rows = [task.sample(rng) for _ in range(60)]
    for k, row in enumerate(rows):
        write = list(task.baselines().values())[k % 2]
        for text in (write(row, rng), task.oracle(row), rows[k - 1]["reference"]):
            assert task.score(text, task.complete_row({"prompt": row["prompt"]})) == task.score(
                text, row
            )


@pytest.mark.parametrize("env", TASKS)
def test_right_answers_are_grammatical_and_junk_is_not(env: str) -> None:
    task = make_task(env, split="eval")
    for k in range(40):
        row = task.item(k)
        right = task.oracle(row)
        assert gaming.grammatical(task, row["prompt"], right)
        # What comes before a program is no matter to it.
        late = right.strip()[env == CODE :]
        for text in ("", " ", " the the the.", right.rpartition(" ")[0], late):
            assert not gaming.grammatical(task, row["prompt"], text)


def test_judge_counts_texts() -> None:
    task = make_task("TextGen/Story-v0", split="eval")
    rows = [task.item(k) for k in range(4)]
    right = [task.oracle(row) for row in rows]
    found = Evaluation([row["prompt"] for row in rows], [*right[:2], " x", " x"], [1.0, 0, 0, 1])
    said = gaming.judge(task, found)
    assert said["reward"][0] == 0.5
    assert said["score"][0] == 0.5
    assert said["grammatical"] == 0.5
    assert said["different"] == 0.75
    assert said["commonest"] == [" x", 2]
    assert said["words"] == (len(right[0].split()) + len(right[1].split()) + 2) / 4


# -- the page --------------------------------------------------------------------------------------


def record(case: str = "length", kl_coef: float = 0.0, after: str = " and and") -> dict[str, Any]:
    said = {"score": [0.5, 0.01], "grammatical": 0.754, "words": 20.4, "different": 1.0}
    return {
        "settings": {
            "steps": 30_000, "lm": "textgym/tiny", "episodes": 128, "kl_coef": kl_coef, "seed": 0,
            "reward": "length(target=40)", "env": "TextGen/Sentiment-v0",
        },
        "case": case,
        "hope": "long reviews",
        "before": {**said, "reward": [0.25, 0.02], "commonest": ["x", 1]},
        "after": {**said, "reward": [0.75, 0.03], "different": 0.1, "commonest": [after, 90]},
        "kl": 1.234,
        "cpu_seconds": 90.0,
        "samples": [{"prompt": "We\nwent.", "before": " It was.", "after": after}] * 3,
    }  # fmt: skip


def test_line_of_the_table() -> None:
    assert line("length", record()) == (
        "| `length` | 0.25 ± 0.02 → 0.75 ± 0.03 | 0.50 ± 0.01 → 0.50 ± 0.01 | 75% → 75% "
        "| 100% → 10% | 20 → 20 | 1.23 |"
    )
    assert {row.count("|") for row in (*HEAD, line("length", record()))} == {8}


def test_texts_are_shown_as_they_are() -> None:
    shown = "\n".join(texts("length", record()))
    assert "`length(target=40)` on `TextGen/Sentiment-v0`" in shown
    assert "prompt   We\\nwent.\nbefore   It was.\nafter    and and\n" in shown
    assert "Written 90 times for 128 prompts:\n         and and\n```" in shown
    once = record()
    once["after"]["commonest"] = ["and", 1]
    assert "Written" not in "\n".join(texts("length", once))
    assert wrapped("after", " ") == "after    (nothing)"


def test_long_texts_lose_nothing() -> None:
    said = " ".join(f"word{k}" for k in range(60))
    rows = wrapped("after", said).split("\n")
    assert all(len(row) <= 96 for row in rows)
    assert [row[:9].strip() for row in rows] == ["after"] + [""] * (len(rows) - 1)
    assert " ".join(row[9:] for row in rows) == said


def test_fences_hold_whatever_was_written() -> None:
    first, body, last = fenced(["a ``` b", "````"])
    assert body == "a ``` b\n````"
    assert first == last + "text"
    assert last not in body


def test_section_is_in_the_order_of_the_cases() -> None:
    known = {
        "length, KL 0.1": record(kl_coef=0.1),
        "length": record(),
        "gone": record("gone"),
        "rouge": record("rouge"),
    }
    rows = section(known, ["rouge", "length"]).splitlines()
    names = [row.split("`")[1] for row in rows if row.startswith("| `")]
    assert names == ["rouge", "length", "length, KL 0.1"]
    assert "No training" in section({}, ["rouge"])


def test_page_is_filled_again_and_again() -> None:
    page = f"head\n{BEGIN}\nold\n{END}\ntail\n"
    once = fill(page, "gaming", "new")
    assert once == f"head\n{BEGIN}\nnew\n{END}\ntail\n"
    assert fill(once, "gaming", "new") == once
    # A text that holds a mark does not cut the page.
    assert fill(fill(page, "gaming", f"a {END} {BEGIN} b"), "gaming", "new") == once
    for broken in ("", f"{BEGIN}", f"{END}", f"{END} {BEGIN}"):
        with pytest.raises(SettingsError):
            fill(broken, "gaming", "new")


# -- the script ------------------------------------------------------------------------------------


def test_script_trains_once_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n{BEGIN}\n{END}\n", "utf-8")
    settings = gaming.Settings(
        rewards=("length",), steps=256, n_envs=8, episodes=8, results=tmp_path / "gaming.json",
        page=page, scratch=tmp_path,
    )  # fmt: skip
    gaming.main(settings)
    found = json.loads(settings.results.read_text("utf-8"))
    assert list(found) == ["length"]
    assert found["length"]["settings"]["steps"] == 256
    assert len(found["length"]["samples"]) == 3
    assert line("length", found["length"]) in page.read_text("utf-8")
    capsys.readouterr()
    gaming.main(dataclasses.replace(settings, kl_coef=(0.0, 0.5)))
    assert "length: done before" in capsys.readouterr().out
    both = json.loads(settings.results.read_text("utf-8"))
    assert both["length"] == found["length"]
    assert both["length, KL 0.5"]["settings"]["kl_coef"] == 0.5
    with pytest.raises(SettingsError, match=r"--rewards lenght: .*'length'"):
        gaming.main(dataclasses.replace(settings, rewards=("lenght",)))


def test_results_of_another_model_do_not_count() -> None:
    lm = LanguageModel.load("textgym/tiny")
    first = gaming.fingerprint(lm)
    assert first == gaming.fingerprint(LanguageModel.load("textgym/tiny"))
    weight = next(lm.parameters())
    weight.data[0, 0] += 1
    assert gaming.fingerprint(lm) != first
    settings = gaming.Settings()
    one = gaming.identity(settings, "length", 0.0, first)
    assert one == gaming.identity(settings, "length", 0.0, first)
    assert one != gaming.identity(settings, "length", 0.0, "other")
    assert one != gaming.identity(dataclasses.replace(settings, seed=1), "length", 0.0, first)


def test_preference_model_is_a_reward(tmp_path: Path) -> None:
    settings = gaming.Settings(pairs=60, scratch=tmp_path)
    reward = gaming.reward_of(gaming.CASES["reward_model"], settings, "weights")
    (value,) = reward(["I went to a concert."], [" It was great."])
    assert isinstance(value, float)
    assert Path(reward.model).is_relative_to(tmp_path)  # type: ignore[attr-defined]


# -- docs/rewards.md -------------------------------------------------------------------------------


def test_page_has_the_marks_and_names_every_reward() -> None:
    assert fill(PAGE, "gaming", "x").count(BEGIN) == 1
    variants = {"rouge1", "rouge2", "rougeL", "rougeLsum"}
    names = {name for name in registered_rewards() if not name.startswith("test_")} - variants
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_example_of_the_page_runs(tmp_path: Path) -> None:
    ((code, output),) = re.findall(r"^```python\n(.*?)^```\n```text\n(.*?)^```", PAGE, re.M | re.S)
    assert len(code.splitlines()) <= 6
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == output


def test_commands_of_the_page_are_understood() -> None:
    commands = re.findall(r"^\.venv/bin/python -m (\S+) (.*)$", PAGE, re.M)
    assert [module for module, _ in commands] == ["textgym.rewards.train", "agents.ppo"]
    assert train.parse(shlex.split(commands[0][1])).pairs == "pairs.jsonl"
    settings = parse_agent("agents.ppo", ppo.Settings(), None, shlex.split(commands[1][1]))
    assert settings.kl_coef == 0.05


def test_links_of_the_page_lead_somewhere() -> None:
    heads = {
        re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    targets = re.findall(r"\]\((#?[^)]+)\)", PAGE)
    assert {target[1:] for target in targets if target.startswith("#")} <= heads
    assert re.findall(r"python -m (benchmarks\.\w+)", PAGE)
