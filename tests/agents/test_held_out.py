"""Evaluation prompts of a user's own: held out, or not called an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents import random_tokens
from agents.running import run as common
from agents.running.environments import make_env
from agents.running.held_out import EvalPrompts, eval_prompts
from agents.running.run import RunSettings
from agents.running.run_record import settings_of_run
from textgym.errors import DataError, SettingsError
from textgym.tasks import make_task

SMALL: dict[str, Any] = {"n_envs": 4, "eval_episodes": 8, "threads": 1, "device": "cpu", "steps": 8}


def file_of(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def prompts_of(venv: Any) -> set[str]:
    (source,) = {id(one.source): one.source for one in venv.get_attr("settings")}.values()
    return {source.item(index)["prompt"] for index in range(source.size)}


def chosen(settings: RunSettings) -> tuple[EvalPrompts, set[str], set[str]]:
    """The name of the evaluation, the training prompts and the evaluation prompts."""
    venv = make_env(settings, 2, 0, "train")
    found = eval_prompts(settings, venv)
    return found, prompts_of(venv), prompts_of(found.make_env(2, 0))


NUMBERS = [{"prompt": f"p{at}"} for at in range(200)]


def test_a_share_is_held_out_by_default(tmp_path: Path) -> None:
    settings = RunSettings(prompts=file_of(tmp_path / "p.jsonl", NUMBERS), reward="distinct")
    found, learn, judge = chosen(settings)
    assert (found.held_out, found.key, str(found)) == (True, "eval", "eval prompts")
    assert not learn & judge
    assert len(learn | judge) == 200
    assert 5 < len(judge) < 40
    settings.eval_share = 0.5
    assert 70 < len(chosen(settings)[2]) < 130


def test_prompts_with_a_split_of_their_own(tmp_path: Path) -> None:
    rows = [{**row, "split": "test" if at < 30 else "train"} for at, row in enumerate(NUMBERS)]
    settings = RunSettings(prompts=file_of(tmp_path / "p.jsonl", rows), reward="distinct")
    found, learn, judge = chosen(settings)
    assert (found.split, len(learn), len(judge)) == ("eval", 170, 30)


def test_evaluation_prompts_in_a_file(tmp_path: Path) -> None:
    settings = RunSettings(
        prompts=file_of(tmp_path / "p.jsonl", NUMBERS), reward="distinct",
        eval_prompts=file_of(tmp_path / "e.jsonl", [{"prompt": "e1"}, {"prompt": "e2"}]),
    )  # fmt: skip
    found, learn, judge = chosen(settings)
    assert (found.key, len(learn), judge) == ("eval", 200, {"e1", "e2"})
    assert str(found) == f"prompts of {settings.eval_prompts}"
    # Of a built-in task, too.
    other = RunSettings(env="TextGen/QA-v0", level=1, eval_prompts=settings.eval_prompts)
    other.reward = "distinct"
    venv = make_env(other, 2, 0, "train")
    assert prompts_of(eval_prompts(other, venv).make_env(2, 0)) == {"e1", "e2"}
    settings.eval_prompts = file_of(tmp_path / "e.jsonl", [{"prompt": "e1"}, {"prompt": "p7"}])
    with pytest.raises(SettingsError, match=r"1 of 2 .*'p7'"):
        chosen(settings)


def test_a_prompt_on_both_sides_of_a_split_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a", "split": "eval"}]
    settings = RunSettings(prompts=file_of(tmp_path / "p.jsonl", rows), reward="distinct")
    with pytest.raises(SettingsError, match=r"1 of 1 .*'a'"):
        chosen(settings)


def test_tasks_have_evaluation_prompts() -> None:
    settings = RunSettings(env="TextGen/QA-v0")
    venv = make_env(settings, 2, 0, "train")
    assert eval_prompts(settings, venv).split == "eval"
    # An object of a task keeps the split that it was made with.
    settings = RunSettings(env_kwargs={"prompts": make_task("TextGen/QA-v0")})
    assert not eval_prompts(settings, venv).held_out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"prompts": "a.jsonl", "eval_share": 1.0}, "--eval-share 1.0"),
        ({"prompts": "a.jsonl", "eval_share": -0.1}, "--eval-share -0.1"),
        ({"eval_share": 0.1}, "--eval-share 0.1.*--prompts"),
        ({"prompts": "a", "eval_share": 0.1, "eval_prompts": "b"}, "leave one of the two out"),
    ],
)
def test_settings_that_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RunSettings(**flags)


def test_one_prompt_cannot_be_held_out(tmp_path: Path) -> None:
    settings = RunSettings(prompts=file_of(tmp_path / "p.jsonl", NUMBERS[:1]), reward="distinct")
    with pytest.raises(DataError, match="--eval-share 0"):
        make_env(settings, 2, 0, "train")


def test_training_prompts_are_not_called_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = RunSettings(
        prompts=file_of(tmp_path / "p.jsonl", NUMBERS[:1]), reward="distinct", max_new_tokens=2,
        eval_share=0, out=tmp_path, **SMALL,
    )  # fmt: skip
    folder = common.run("random_tokens", settings, random_tokens.make_agent)
    record = json.loads((folder / "run.json").read_text())
    assert record["results"]["eval_split"] is None
    assert set(record["results"]) >= {"training_prompts_before", "training_prompts_after"}
    assert "eval_before" not in record["results"]
    assert "training_prompts/reward" in (folder / "progress.csv").read_text()
    assert "training prompts, none is held out" in capsys.readouterr().out
    # A run of an earlier version, whose record does not know of held-out prompts, used them all.
    del record["settings"]["eval_share"], record["settings"]["eval_prompts"]
    (folder / "run.json").write_text(json.dumps(record))
    assert settings_of_run(folder, RunSettings()).eval_share == 0
