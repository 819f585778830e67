"""The flags of agents that train a language model: each of them does something."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from rich.console import Console
from stable_baselines3 import PPO
from torch import nn

from agents import dpo, grpo, nlpo, ppo, reinforce, sft
from agents.running import command_line as cli
from agents.running.evaluation import Evaluation
from agents.running.midway import Evaluations, WeightAverage
from agents.running.run import run
from tests.agents.runs import ARGUMENTS, ENVIRONMENT, command, progress, start
from textgym.errors import SettingsError
from textgym.lm import LanguageModel
from textgym.lm.lora import has_adapter
from textgym.sb3 import WarmupSchedule, load_agent, make_vec_env

LORA = ["--lora.r", "2"]


def parsed(*words: str) -> ppo.Settings:
    return cli.parse("agents.ppo", ppo.Settings(), None, words)


# ---------------------------------------------------------------------- from flags to arguments


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", {}),
        ("--dtype bfloat16", {"dtype": "bfloat16"}),
        ("--lora.r 4", {"lora": {"r": 4, "lora_alpha": 8}}),
        ("--lora.r 4 --lora.alpha 3", {"lora": {"r": 4, "lora_alpha": 3.0}}),
        (
            "--lora.r 4 --lora.targets q_proj v_proj",
            {"lora": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}},
        ),
        (
            "--lora.r 4 --lora.targets all-linear",
            {"lora": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}},
        ),
        ("--gradient-checkpointing", {"gradient_checkpointing": True}),
        ("--micro-batch 3", {"micro_batch": 3}),
        (
            "--sampling.temperature 0.7 --sampling.top-k 5 --sampling.top_p 0.9 "
            "--sampling.repetition-penalty 1.1",
            {
                "sampling": {
                    "temperature": 0.7, "top_k": 5, "top_p": 0.9, "repetition_penalty": 1.1
                }
            },
        ),
        (
            "--weight-decay 0.1",
            {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}},
        ),
        ("--lr 1e-3 --value-lr 4e-3", {"value_lr_factor": 4.0}),
        # 100 tokens are two rollouts of 64, of 2 passes in 3 minibatches.
        (
            "--value-warmup 100 --n-steps 8 --n-envs 8 --n-epochs 2 --minibatches 3",
            {"value_warmup": 12},
        ),
    ],
)  # fmt: skip
def test_arguments_of_the_policy(words: str, expected: dict[str, Any]) -> None:
    assert parsed(*words.split()).policy_kwargs("name") == {"lm": "name", **expected}


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16", "avx512_f"])
def test_processors_with_bfloat16_compute_in_it(
    instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instructions: True})
    for flag in ("auto", "float32", "bfloat16"):
        s = parsed("--device", "cpu", "--dtype", flag, "--reference-dtype", flag)
        s.settle()
        chosen = "bfloat16" if flag == "auto" and instructions != "avx512_f" else flag
        assert (s.dtype, s.reference_dtype) == (chosen, chosen)


@pytest.mark.parametrize("device", ["cdua", "cuda:99"])
def test_an_unknown_device_is_refused_before_a_dtype_is_chosen(device: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"--device {device}.*give auto, cpu"):
        run("ppo", ppo.Settings(device=device, out=tmp_path), ppo.make_agent)


def test_the_dtype_is_recorded_and_resumed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    folder = start("ppo", tmp_path, "--kl-coef", "0.1", steps=64)
    record = json.loads((folder / "run.json").read_text("utf-8"))
    assert record["settings"]["dtype"] == record["settings"]["reference_dtype"] == "bfloat16"
    assert record["results"]["dtype"] == "torch.bfloat16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert command("ppo", "--resume", str(folder), "--steps", "128") == folder
    record = json.loads((folder / "run.json").read_text("utf-8"))
    assert record["results"]["dtype"] == "torch.bfloat16"


def test_the_reference_of_an_adapter_is_its_base() -> None:
    assert parsed().reference("name") == "name"
    assert parsed(*LORA).reference("name") == "base"


@pytest.mark.parametrize(
    ("agent", "values", "words"),
    [
        (ppo, {"lora_alpha": 4}, r"--lora\.alpha.*--lora\.r"),
        (ppo, {"lora_targets": ("q_proj",)}, r"--lora\.targets.*--lora\.r"),
        (ppo, {"lora_r": 0}, r"--lora\.r 0"),
        (ppo, {"micro_batch": 0}, "--micro-batch 0"),
        (ppo, {"sampling_top_k": 0}, r"--sampling\.top-k 0"),
        (ppo, {"sampling_top_p": 1.5}, r"--sampling\.top-p 1\.5"),
        (ppo, {"sampling_temperature": 0}, r"--sampling\.temperature 0"),
        (ppo, {"lr_warmup": 1.0}, r"--lr-warmup 1\.0"),
        (ppo, {"ema": 1.0}, r"--ema 1\.0"),
        (ppo, {"weight_decay": -1}, "--weight-decay -1"),
        (ppo, {"eval_every": 0}, "--eval-every 0"),
        (ppo, {"value_lr": 0}, "--value-lr 0"),
        (ppo, {"value_lr": 1, "lr": 0}, "--value-lr.*--lr"),
        (nlpo, {"sampling_top_p": 0.5}, r"--sampling\.top-p.*--top-p"),
        (sft, {"lr": -1}, "--lr -1"),
    ],
)
def test_impossible_values_are_refused(agent: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        agent.Settings(**values)


# ---------------------------------------------------------------------- schedules


def test_schedules_are_their_formulas() -> None:
    for kind, shape in {
        "constant": lambda t: 1.0,
        "linear": lambda t: 1 - 0.9 * t,
        "cosine": lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * t)) / 2,
    }.items():
        rate = parsed("--lr", "2", "--lr-schedule", kind, "--lr-warmup", "0.2").learning_rate
        for done in np.linspace(0, 1, 21):
            expected = done / 0.2 if done < 0.2 else shape((done - 0.2) / 0.8)
            assert rate(1 - done) == pytest.approx(2 * expected, abs=1e-9)
        plain = parsed("--lr", "2", "--lr-schedule", kind).learning_rate
        assert (plain if kind == "constant" else plain(0.25)) == pytest.approx(2 * shape(0.75))


@pytest.mark.parametrize(("kind", "warmup"), [("step", 0.0), ("linear", 1.0), ("linear", -0.1)])
def test_an_impossible_schedule_is_refused(kind: Any, warmup: float) -> None:
    with pytest.raises(SettingsError, match=r"kind='step'|warmup="):
        WarmupSchedule(1.0, kind=kind, warmup=warmup)


def test_a_saved_schedule_is_read_without_unpickling(tmp_path: Path) -> None:
    folder = start("ppo", tmp_path, "--lr-schedule", "cosine", "--lr-warmup", "0.25", steps=64)
    venv = make_vec_env("TextGen-v0", n_envs=2, reward="distinct", **ENVIRONMENT)
    model = load_agent(folder, PPO, venv, device="cpu")
    given = parsed("--lr-schedule", "cosine", "--lr-warmup", "0.25").learning_rate
    for left in (1.0, 0.9, 0.5, 0.0):
        assert model.lr_schedule(left) == given(left)


# ---------------------------------------------------------------------- what runs leave


@pytest.mark.parametrize("agent", ["ppo", "grpo", "reinforce", "sft"])
def test_a_run_with_an_adapter(
    agent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"grpo": ["--group-size", "2"], "sft": []}.get(agent, [])
    words = [word for word in ARGUMENTS if word not in ("--n-steps", "8")]
    rows = [{"prompt": prompt, "reference": "b c"} for prompt in ENVIRONMENT["prompts"]]
    at = words.index("--env-kwargs") + 1
    words[at] = json.dumps({**ENVIRONMENT, "prompts": rows})
    args = [*words, "--steps", "96", "--out", str(tmp_path), *own, *LORA]
    folder = command(agent, *args)
    assert "of them, an adapter, trained" in " ".join(capsys.readouterr().out.split())
    assert {file.name for file in (folder / "lm").glob("*.safetensors")} == {
        "adapter_model.safetensors"
    }
    lm = LanguageModel.load(str(folder / "lm"), device="cpu")
    assert has_adapter(lm.model)
    settings = json.loads((folder / "run.json").read_text())["settings"]
    assert settings["lora_r"] == 2
    whole = command(agent, *args, "--no-save-adapter")
    merged = LanguageModel.load(str(whole / "lm"), device="cpu")
    assert not has_adapter(merged.model)
    tokens = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(merged.hidden(tokens), lm.hidden(tokens), atol=1e-5, rtol=1e-4)


def test_the_model_card(tmp_path: Path) -> None:
    folder = start("ppo", tmp_path, steps=64)
    card = ModelCard.load(folder / "lm" / "README.md")
    assert card.data.library_name == "transformers"
    assert {"textgym", "ppo"} <= set(card.data.tags)
    results = json.loads((folder / "run.json").read_text())["results"]
    for when in ("before", "after"):
        found = results[f"eval_{when}"]
        assert f"| {when} | {found['mean']:.3f} | ± {found['ci95']:.3f} | 6 |" in card.text


def test_evaluations_on_the_way_change_nothing(tmp_path: Path) -> None:
    plain = start("ppo", tmp_path / "plain")
    often = start("ppo", tmp_path / "often", "--eval-every", "60")
    rows = progress(often)
    alone = [row for row in rows if set(row) == {"eval/reward"}]
    # The first is of before the training; that of after it is written with the last update.
    on_the_way = alone[1:]
    assert [row for row in rows if row not in on_the_way] == progress(plain)
    results = json.loads((often / "run.json").read_text())["results"]
    points = results["evaluations"]
    # Rollouts are of 32 steps: evaluations are at the ends of updates.
    assert [point["steps"] for point in points] == [64, 128]
    assert [point["mean"] for point in points] == pytest.approx(
        [float(row["eval/reward"]) for row in on_the_way]
    )
    best = max(points, key=lambda point: point["mean"])
    assert results["best"] == best == json.loads((often / "best" / "evaluation.json").read_text())
    assert (often / "best" / "lm" / "config.json").exists()


# ---------------------------------------------------------------------- average and best


def test_the_average_is_that_of_the_formula() -> None:
    module = nn.Linear(2, 1, bias=False)
    average = WeightAverage(module, 0.75)
    expected = module.weight.detach().clone()
    for number in range(5):
        with torch.no_grad():
            module.weight.add_(number + 1.0)
        average.update()
        expected = 0.75 * expected + 0.25 * module.weight.detach()
    present = module.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), expected)
    assert torch.equal(module.weight.detach(), present)
    again = WeightAverage(nn.Linear(2, 1, bias=False), 0.75)
    again.set_state(average.get_state())
    with again.applied():
        torch.testing.assert_close(again.get_state()["average"]["weight"], expected)


def test_the_last_update_is_averaged_once() -> None:
    """An interrupted training ends at the start of a rollout, which has averaged it already."""
    ends = []
    for interrupted in (False, True):
        module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(module.weight)
        average = WeightAverage(module, 0.5)
        average.model = SimpleNamespace(num_timesteps=10)  # type: ignore[assignment]
        nn.init.ones_(module.weight)
        if interrupted:
            average.on_rollout_start()
        average.finish()
        ends.append(module.weight.item())
    assert ends == [0.5, 0.5]


def test_the_first_of_several_best_ones_is_kept(tmp_path: Path) -> None:
    rewards = iter([0.5, 0.7, 0.7, 0.6])
    saved: list[int] = []

    class Model:
        num_timesteps = 0
        logger = type("Logger", (), {"output_formats": []})()

    def save(folder: Path) -> None:
        saved.append(Model.num_timesteps)
        (folder / "agent").write_text(str(Model.num_timesteps))

    def evaluate() -> Evaluation:
        return Evaluation(returns=[next(rewards)] * 3)

    callback = Evaluations(10, evaluate, "eval", save, tmp_path, Console(quiet=True))
    callback.model = Model()  # type: ignore[assignment]
    for steps in (0, 10, 15, 20, 31, 40, 41):
        Model.num_timesteps = callback.num_timesteps = steps
        callback.on_rollout_start()
    assert [point.steps for point in callback.points] == [10, 20, 31, 41]
    assert saved == [10, 20]
    assert (tmp_path / "best" / "agent").read_text() == "20"


def test_agents_of_other_kinds_have_the_same_flags() -> None:
    for agent in (grpo, reinforce, dpo, sft):
        name = f"agents.{agent.__name__.rpartition('.')[2]}"
        found = cli.parse(name, agent.Settings(), None, [*LORA, "--ema", "0.5"])
        assert found.policy_kwargs("x")["lora"]["r"] == 2
        assert found.ema == 0.5
