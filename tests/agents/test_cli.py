"""The command line: flags, and what is refused and how."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from agents import demo, ppo, random_tokens
from agents.running import command_line as cli
from agents.running import environments
from agents.running.run import RunSettings
from textgym.errors import RewardError, SettingsError, TaskError
from textgym.registry import REWARDS

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
        (["--env", "Text Gen"], ["--env Text Gen", "Malformed"]),
        (["--reward", ":f"], ["--reward :f", "module:function"]),
        (["--reward", ".x:f"], ["--reward .x:f", "module:function"]),
        (["--reward", "no_such.py:f"], ["write no_such:f"]),
        (["--steps", "-5"], ["--steps -5", "at least 0"]),
        (["--n-envs", "0"], ["--n-envs 0", "at least 1"]),
        (["--threads", "0"], ["--threads 0", "at least 1"]),
        (["--seed", "-1"], ["--seed -1"]),
        (["--device", "cdua"], ["--device cdua", "give auto, cpu"]),
        (["--device", "cuda:99"], ["--device cuda:99", "give auto, cpu"]),
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
    settings.eval_share = 0  # There is one prompt alone.
    venv = environments.make_env(settings, 2, 0, "train")
    assert venv.action_space.n == 4
    venv.reset()
    assert {info["prompt"] for info in venv.unwrapped.reset_infos} == {"the cat"}


def test_levels_are_the_tasks_own() -> None:
    with pytest.raises(TaskError, match="no level"):
        environments.make_env(RunSettings(level=99), 2, 0, "train")


def test_a_model_that_cannot_write_the_words_is_refused() -> None:
    """The built-in tokenizer spells "good" and "bad" in several tokens; the budget is one."""
    settings = RunSettings(env="TextGen/GoodBad-v0", lm="textgym/tiny")
    with pytest.raises(SettingsError, match=r"textgym/tiny.* --lm .*--max-new-tokens [234]"):
        environments.make_env(settings, 2, 0, "train")
    settings.max_new_tokens = 4
    environments.make_env(settings, 2, 0, "train")


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    message = refusal(capsys, "--out", str(tmp_path / "file"))
    assert f"--out {tmp_path / 'file'}: no folder can be made there" in message


@pytest.mark.parametrize(
    ("agent", "setting", "value"),
    [
        ("ppo", "minibatches", 0),
        ("ppo", "n_epochs", 0),
        ("ppo", "gamma", 2.0),
        ("ppo", "lr", float("nan")),
        ("ppo", "kl_target", 0.0),
        ("nlpo", "n_steps", 0),
        ("a2c", "kl_coef", -0.1),
        ("trpo", "target_kl", 0.0),
        ("trpo", "minibatches", 0),
        ("grpo", "n_epochs", 0),
        ("grpo", "group_size", 1),
        ("rloo", "n_episodes", 0),
        ("reinforce", "gamma", -1.0),
        ("sft", "lr", -1.0),
        ("dpo", "beta", 0.0),
        ("dpo", "label_smoothing", 0.6),
        ("dpo", "held_out", 1.0),
        ("dpo", "n_epochs", 0),
        ("dpo", "group_size", 1),
        ("q_learning", "doubt", 0.0),
        ("q_learning", "explore", 0.0),
        ("q_learning", "temperature", (0.1, 0.0)),
        ("q_learning", "lam", 2.0),
        ("q_learning", "table_bits", 70),
        ("q_learning", "context", -1),
        ("q_learning", "seen", -1),
        ("dqn_topk", "batch_size", 0),
        ("dqn_topk", "k", 0),
        ("ppo_lagrangian", "multiplier", -0.1),
    ],
)
def test_impossible_numbers_are_refused_when_settings_are_made(
    agent: str, setting: str, value: Any
) -> None:
    settings = importlib.import_module(f"agents.{agent}").Settings
    with pytest.raises(SettingsError, match=f"--{setting.replace('_', '-')} "):
        settings(**{setting: value})


def test_help_is_wrapped_by_the_terminal_alone() -> None:
    """A line break of the source in the middle of a sentence would stay on the help page."""
    broken = []
    for file in (Path(__file__).parents[2] / "agents").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ClassDef) or not node.name.endswith("Settings"):
                continue
            docs = [
                each.value.value
                for each in node.body[1:]
                if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
            ]
            lines = [line for doc in docs for line in str(doc).splitlines()]
            broken += [line for line in lines if not line.endswith((".", "?", ":", "'"))]
    assert broken == []


def test_a_reward_that_its_module_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_vowels.py").write_text(
        "import textgym\n\n"
        "@textgym.register_reward('my_vowels')\n"
        "class Vowels:\n"
        "    def __call__(self, prompts, completions, **columns):\n"
        "        return [float('a' in text) for text in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    with REWARDS.restored():
        assert environments.load_reward("my_vowels:my_vowels") == "my_vowels"
        # A built-in name does not hide a wrong module, or an attribute that the module lacks.
        for wrong in ("my_vowels:other", "my_vowels:distinct", "no_such_module:distinct"):
            with pytest.raises(RewardError, match=wrong):
                environments.load_reward(wrong)


def test_the_default_reward_and_few_prompts_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "three.txt"
    prompts.write_text("one\ntwo\nthree\n")
    arguments = [*SHORT, "--eval-episodes=4", "--prompts", str(prompts), "--out", str(tmp_path)]
    cli.command_line(
        "agents.random_tokens", random_tokens.Settings(), None, random_tokens.main, arguments
    )
    output = " ".join(capsys.readouterr().out.split())
    assert "reward: distinct" in output
    assert "on 1 different prompts" in output


def test_dense_rewards_are_for_training_alone() -> None:
    """They are discounted as the agent discounts, which keeps the best policy the best."""
    s = cli.parse("agents.ppo", ppo.Settings(), None, ["--dense", "--gamma", "0.9"])
    assert s.train_kwargs == {"dense": True, "step_reward_gamma": 0.9}
    assert ppo.Settings().train_kwargs == {}
    settings = ppo.Settings(env="TextGen/Story-v0", dense=True)
    training = environments.make_env(settings, 2, 0, "train", **settings.train_kwargs)
    assert training.get_attr("settings", [0])[0].step_reward is not None
    evaluation = environments.make_env(settings, 2, 0, "eval")
    assert evaluation.get_attr("settings", [0])[0].step_reward is None
