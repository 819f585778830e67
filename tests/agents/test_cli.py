"""The command line: flags, and what is refused and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents import cli, demo, environments, ppo, random_tokens
from agents.common import RunSettings
from textgym.errors import RewardError, SettingsError, TaskError

SHORT = ["--steps=16", "--n-envs=2", "--eval-episodes=2", "--threads=1", "--device=cpu"]


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What `python -m agents.random_tokens` prints before it ends with code 2."""
    with pytest.raises(SystemExit) as caught:
        cli.command_line(
            "agents.random_tokens",
            random_tokens.Settings(),
            None,
            random_tokens.main,
            [*SHORT, *args],
        )
    assert caught.value.code == 2
    output, errors = capsys.readouterr()
    assert "Traceback" not in output + errors
    return errors


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--eval-episodes", "1"], ["--eval-episodes 1", "at least 2"]),
        (["--env", "TextGen/Sentment-v0"], ["--env TextGen/Sentment-v0", "'TextGen/Sentiment-v0'"]),
        (["--env", "no_such_module:Env-v0"], ["no_such_module", "TextGen-v0"]),
        (["--prompts", "no/such/file.jsonl"], ["no/such/file.jsonl"]),
        (["--level", "99"], ["no level 99"]),
        (["--reward", "regx"], ["did you mean 'regex'"]),
        (["--reward", "length"], ["target", "textgym.make_reward(", "module:function"]),
        (["--reward", "regex"], ["pattern", "textgym.make_reward(", "module:function"]),
        (["--reward", "no_such_module:reward"], ["no_such_module", "registered name"]),
        (["--env-kwargs", '{"stopp": ["."]}'], ["--env-kwargs", "'stopp'"]),
        (["--env-kwargs", '{"split": "eval"}'], ["--env-kwargs: split"]),
        (
            ["--max-new-tokens", "3", "--env-kwargs", '{"max_new_tokens": 4}'],
            ["--env-kwargs and --max-new-tokens"],
        ),
        (["--env-kwargs", "[1]"], ["JSON object"]),
        (["--env-kwargs", "{"], ["--env-kwargs"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_refusals_name_the_cause(
    args: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, "--out", str(tmp_path), *args)
    assert [word for word in words if word not in message] == []


def test_a_reward_function_that_raises_is_located(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_rewards.py").write_text(
        "def reward(prompts, completions, **columns):\n    return [1 / 0]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    message = refusal(capsys, "--out", str(tmp_path), "--reward", "broken_rewards:reward")
    assert "division by zero" in message
    assert "broken_rewards.py:2" in message


def test_an_error_of_our_own_is_no_refusal() -> None:
    """A bug keeps its traceback: only what textgym refuses on purpose is cut short."""

    def main(settings: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.command_line("agents.ppo", ppo.Settings(), None, main, [])


def test_unknown_flag_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse("agents.ppo", ppo.Settings(), None, ["--kl-coeff", "0.1"])
    assert caught.value.code != 0
    output = "".join(capsys.readouterr())
    assert "--kl-coef " in output
    assert "python -m agents.ppo --help" in output


def test_defaults_are_those_of_the_instance() -> None:
    assert cli.parse("agents.demo", demo.SETTINGS, None, []) == demo.SETTINGS
    assert cli.parse("agents.demo", demo.SETTINGS, None, ["--steps", "5"]).steps == 5


@pytest.mark.parametrize("spec", ["no_such_module:reward", "json:no_such_function"])
def test_missing_reward_function_is_explained(spec: str) -> None:
    with pytest.raises(RewardError, match=r"module:function.*registered name"):
        environments.load_reward(spec)


def test_env_kwargs_reach_the_environment() -> None:
    words = '{"stop": ["."], "prompts": ["the cat"], "tokenizer": ["the", "cat", "sat", "<eos>"]}'
    args = ["--env", "TextGen-v0", "--reward", "distinct", "--env-kwargs", words]
    settings = cli.parse("agents.ppo", RunSettings(), None, args)
    assert settings.env_kwargs["stop"] == ["."]
    # A list has no eval split of its own.
    split = environments.eval_split(settings)
    assert split == "train"
    venv = environments.make_env(settings, 2, 0, split)
    assert venv.action_space.n == 4
    venv.reset()
    assert {info["prompt"] for info in venv.unwrapped.reset_infos} == {"the cat"}


def test_levels_are_the_tasks_own() -> None:
    with pytest.raises(TaskError, match="no level"):
        environments.make_env(RunSettings(level=99), 2, 0, "train")


def test_a_model_that_cannot_write_the_words_is_refused() -> None:
    """The built-in tokenizer spells "good" and "bad" in several tokens; the budget is one."""
    settings = RunSettings(env="TextGen/GoodBad-v0", lm="textgym/tiny")
    with pytest.raises(SettingsError, match=r"several|tokens of the tokenizer.*Leave --lm out"):
        environments.make_env(settings, 2, 0, "train")
    settings.max_new_tokens = 4
    environments.make_env(settings, 2, 0, "train")
