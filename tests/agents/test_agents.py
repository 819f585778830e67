"""The agents that ship: what a run of theirs writes, and what they learn."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from agents import a2c, ppo, random_tokens
from agents.running import evaluation
from agents.running import run as common
from tests.sb3.rollouts import begin, rollout
from textgym.errors import ModelError
from textgym.sb3 import make_vec_env

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"n_envs": 4, "eval_episodes": 6, "threads": 1, "device": "cpu"}


def ppo_command(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agents.ppo", *args],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prompts and a reward function of a user's own."""
    folder = tmp_path_factory.mktemp("own")
    rows = [{"prompt": "The food was", "wanted": " good"}, {"prompt": "It is", "wanted": " bad"}]
    (folder / "my.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "my_module.py").write_text(
        "def my_reward(prompts, completions, wanted, **columns):\n"
        "    return [float(word in text) for word, text in zip(wanted, completions)]\n"
    )
    return folder


@pytest.fixture(scope="module")
def two_words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model with random weights that knows "good", "bad" and an end of sequence."""
    words = {"good": 0, "bad": 1, "<eos>": 2}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<eos>"))
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=3, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=2, eos_token_id=2
    )
    folder = str(tmp_path_factory.mktemp("two_words"))
    GPT2LMHeadModel(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<eos>")
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ppo_run(own_data: Path) -> tuple[Path, str]:
    """One short run from the command line, on prompts and a reward of the user's own."""
    flags = "--prompts my.jsonl --reward my_module:my_reward --max-new-tokens 8 --lr 0"
    sizes = "--steps 128 --n-envs 4 --n-steps 16 --eval-episodes 6 --threads 1 --device cpu"
    done = ppo_command(*flags.split(), *sizes.split(), cwd=own_data)
    assert done.returncode == 0, done.stderr
    (folder,) = (own_data / "runs").iterdir()
    return folder, done.stdout


def test_run_writes_everything(ppo_run: tuple[Path, str]) -> None:
    folder, output = ppo_run
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["env"] == "TextGen-v0"
    assert record["settings"]["reward"] == "my_module:my_reward"
    assert record["settings"]["gamma"] == ppo.Settings().gamma  # defaults are written out too
    assert record["results"]["steps"] == 128
    # This file has no eval split: one of its two prompts is held out.
    assert record["results"]["eval_split"] == "eval"
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert list(folder.glob("events.out.tfevents.*"))
    assert {path.name for path in (folder / "lm").iterdir()} >= {"model.safetensors", "config.json"}
    columns = (folder / "progress.csv").read_text().splitlines()[0].split(",")
    assert {
        "eval/reward",
        "reward_terms/my_reward",
        "diagnostics/entropy",
        "episode/length",
        "episode/reward",
        "time/tokens_per_second",
    } <= set(columns)
    assert str(folder.relative_to(folder.parents[1])) in output
    assert (folder / "diagnostics.png").read_bytes().startswith(b"\x89PNG")
    diagnosed = record["results"]["diagnostics"]
    assert diagnosed["last"]["diagnostics/entropy"] > 0
    assert "what to watch" in output
    assert "entropy, nats per token" in output


def test_evaluations_share_their_prompts_and_match_the_samples(ppo_run: tuple[Path, str]) -> None:
    """The learning rate was 0, and rewards can be worked out from the texts alone."""
    folder, output = ppo_run
    results = json.loads((folder / "run.json").read_text())["results"]
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    for row in rows:
        wanted = {"The food was": " good", "It is": " bad"}[row["prompt"]]
        assert row["reward_before"] == float(wanted in row["before"])
        assert row["reward_after"] == float(wanted in row["after"])
        assert row["prompt"] in output
    for when in ("before", "after"):
        rewards = [row[f"reward_{when}"] for row in rows]
        assert results[f"eval_{when}"]["mean"] == pytest.approx(np.mean(rewards))


def test_saved_agent_and_language_model_load(ppo_run: tuple[Path, str]) -> None:
    from textgym.lm import LanguageModel

    folder, _ = ppo_run
    agent = PPO.load(folder / "model.zip", device="cpu")
    # Nothing was learned: the policy never left its reference, and the coefficient fell.
    assert 0 < agent.rollout_buffer_kwargs["kl_coef"] < ppo.Settings().kl_coef
    venv = make_vec_env("TextGen-v0", n_envs=2, seed=0, prompts=["The food was"], max_new_tokens=8)
    actions, _ = agent.predict(venv.reset())
    assert actions.shape == (2,)
    assert isinstance(LanguageModel.load(folder / "lm"), LanguageModel)


@pytest.mark.parametrize(
    ("module", "kind"),
    [(ppo, PPO), (a2c, A2C), (random_tokens, random_tokens.RandomTokens)],
    ids=["ppo", "a2c", "random_tokens"],
)
def test_make_agent_needs_only_an_environment_and_a_seed(module: Any, kind: type) -> None:
    venv: VecEnv = make_vec_env("TextGen/Sentiment-v0", n_envs=3, seed=0)
    agent = module.make_agent(venv, 0)
    assert isinstance(agent, kind)
    actions, _ = agent.predict(venv.reset())
    assert actions.shape == (3,)
    assert all(venv.action_space.contains(action) for action in actions)


def test_the_learning_rate_falls_to_a_tenth_or_stays(two_words: str, tmp_path: Path) -> None:
    for schedule, expected in (("linear", [0.775, 0.55, 0.325, 0.1]), ("constant", [1.0] * 4)):
        settings = ppo.Settings(
            env="TextGen/GoodBad-v0", lm=two_words, steps=256, n_envs=16, n_steps=4, lr=1e-3,
            lr_schedule=schedule, eval_episodes=16, device="cpu", threads=1, out=tmp_path,
        )  # fmt: skip
        folder = common.run("ppo", settings, partial(ppo.make_agent, settings=settings))
        with (folder / "progress.csv").open(encoding="utf-8") as file:
            rates = [row["train/learning_rate"] for row in csv.DictReader(file)]
        found = [float(rate) for rate in rates if rate]
        assert found == pytest.approx([1e-3 * share for share in expected])


@pytest.mark.parametrize(
    ("module", "own"), [(ppo, {"lr": 3e-3, "n_epochs": 2}), (a2c, {"lr": 3e-2})], ids=["ppo", "a2c"]
)
def test_learns_to_say_good(
    module: Any, own: dict[str, Any], two_words: str, tmp_path: Path
) -> None:
    """One word an episode, +1 for "good" and -1 for "bad": a uniform policy gets 0."""
    settings = module.Settings(
        env="TextGen/GoodBad-v0",
        lm=two_words,
        lr_schedule="constant",
        kl_coef=0.0,
        kl_target=None,
        **own,
        steps=2048,
        n_steps=16,
        n_envs=16,
        eval_episodes=64,
        threads=1,
        device="cpu",
        out=tmp_path,
    )
    folder = common.run("test", settings, partial(module.make_agent, settings=settings))
    results = json.loads((folder / "run.json").read_text())["results"]
    assert results["eval_before"]["mean"] < 0.5
    assert results["eval_after"]["mean"] > 0.9


def test_random_agent_is_uniform_and_reproducible() -> None:
    venv = make_vec_env("TextGen/GoodBad-v0", n_envs=4, seed=0)
    obs = np.repeat(venv.reset(), 1000, axis=0)
    agents = [random_tokens.make_agent(venv, seed) for seed in (1, 1, 2)]
    draws = [agent.learn(10_000).predict(obs)[0] for agent in agents]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    # Binomial(4000, 1/2): six standard deviations are 190.
    assert abs(np.bincount(draws[0])[0] - 2000) < 190


def test_random_agent_runs_through_the_same_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = common.RunSettings(env="TextGen/GoodBad-v0", out=tmp_path, **SMALL)
    folder = common.run("random_tokens", settings, random_tokens.make_agent)
    results = json.loads((folder / "run.json").read_text())["results"]
    assert results["steps"] == 0
    assert results["eval_before"] == results["eval_after"], "nothing has changed in between"
    assert {path.name for path in folder.iterdir()} >= {"model.json", "curve.png", "samples.jsonl"}
    assert not (folder / "lm").exists()
    output = capsys.readouterr().out
    assert re.search(r"^reward \d\.\d+ ± \d\.\d+ \(mean of 6", output, re.MULTILINE)
    printed = re.findall(r"^(?:curve|model): +(.*)$", output, re.MULTILINE)
    assert [Path(path).is_file() for path in printed] == [True, True]


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    settings = common.RunSettings(env="TextGen/GoodBad-v0", out=tmp_path, **SMALL)
    folders = {common.run("random", settings, random_tokens.make_agent) for _ in range(3)}
    assert len(folders) == 3


def test_the_ratio_is_one_for_all_that_the_present_weights_wrote(own_data: Path) -> None:
    """With the settings that are shipped; tokens that waited for the end of their text have that
    to the weights that wrote them."""
    venv = make_vec_env("TextGen/Sentiment-v0", 8, seed=0)
    agent = ppo.make_agent(venv, 0, ppo.Settings(device="cpu", lr=3e-3))
    agent.learn(agent.n_steps * 8)
    rollout(agent, begin(agent, reset=False))
    written = set(agent.rollout_buffer.log_probs.flatten().tolist())
    (batch,) = agent.rollout_buffer.get(None)
    # Tokens that were nearly certain have the same log-probability as others.
    known = {value for value in written if value < -0.01}
    present = torch.tensor([value in known for value in batch.old_log_prob.tolist()])
    assert 10 < present.sum() < len(present)
    with torch.no_grad():
        _, log_probs, _ = agent.policy.evaluate_actions(batch.observations, batch.actions)
    ratio = (log_probs - batch.old_log_prob).exp()
    torch.testing.assert_close(ratio[present], torch.ones(int(present.sum())), atol=1e-4, rtol=0)
    assert (ratio[~present] - 1).abs().max() > 0.05


def test_a_diverged_model_writes_nothing(two_words: str) -> None:
    venv = make_vec_env("TextGen/GoodBad-v0", 4, tokenizer=two_words)
    agent = ppo.make_agent(venv, 0, ppo.Settings(lm=two_words, device="cpu"))
    with torch.no_grad():
        next(agent.policy.lm.parameters()).fill_(float("nan"))
    for deterministic in (False, True):
        with pytest.raises(ModelError, match="NaN"):
            agent.predict(venv.reset(), deterministic=deterministic)
    with pytest.raises(ModelError, match="NaN"):
        agent.learn(8)


@pytest.mark.parametrize("module", [ppo, a2c], ids=["ppo", "a2c"])
def test_without_a_penalty_there_is_no_reference(module: Any, two_words: str) -> None:
    venv = make_vec_env("TextGen/GoodBad-v0", 4, tokenizer=two_words)
    for coef in (0.0, 0.1):
        chosen = module.Settings(lm=two_words, kl_coef=coef, device="cpu")
        agent = module.make_agent(venv, 0, chosen)
        assert (agent.rollout_buffer.kl is None) == (coef == 0)


class Charging(VecEnvWrapper):
    """Each token costs its id and a half."""

    def reset(self) -> Any:
        self.reset_infos = self.venv.reset_infos
        return self.venv.reset()

    def step_async(self, actions: Any) -> None:
        self.costs = actions + 0.5
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        priced = [{**info, "cost": cost} for info, cost in zip(infos, self.costs, strict=True)]
        return obs, rewards, dones, priced


def test_costs_of_an_episode_are_those_of_its_own_steps() -> None:
    """Texts end at different times; what is written behind an end is nobody's cost."""
    words = ["a", "b", "c", "<eos>"]

    def make(n_envs: int, seed: int) -> Any:
        arguments = {"prompts": ["a", "b"], "tokenizer": words, "max_new_tokens": 5}
        return Charging(make_vec_env("TextGen-v0", n_envs, seed, reward="distinct", **arguments))

    agent = random_tokens.make_agent(make(1, 0), 3)
    found = evaluation.evaluate(agent, make, 60, 20)
    lengths = set()
    for text, cost in zip(found.responses, found.costs, strict=True):
        ids = [words.index(word) for word in text.split()]
        if len(ids) < 5:  # It was ended by eos, which is no part of the text.
            ids.append(3)
        assert cost == sum(ids) + 0.5 * len(ids)
        lengths.add(len(ids))
    assert len(lengths) > 3


class Scripted:
    """An agent that writes "good" in even rows and "bad" in odd ones."""

    def learn(self, total_timesteps: int, callback: Any = None) -> Scripted:
        raise KeyboardInterrupt

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> tuple[Any, None]:
        return np.arange(len(observation)) % 2, None

    def save(self, path: str) -> None:
        Path(path).with_suffix(".saved").touch()


def test_evaluation_counts_every_row_once() -> None:
    def make_venv(n_envs: int, seed: int) -> VecEnv:
        return make_vec_env("TextGen/GoodBad-v0", n_envs=n_envs, seed=seed)

    result = evaluation.evaluate(Scripted(), make_venv, episodes=7, batch=4)
    # Batches of 4 and 3 rows.
    assert result.responses == ["good", "bad", "good", "bad", "good", "bad", "good"]
    assert result.returns == [1, -1, 1, -1, 1, -1, 1]
    assert result.mean == pytest.approx(1 / 7)
    # Sum of squares 7 - 7 (1/7)^2 = 48/7, sample variance 48/42; 1.96 standard errors.
    assert result.half_width == pytest.approx(1.96 * np.sqrt(48 / 42 / 7))


def test_terms_of_the_reward_are_evaluated_where_they_apply() -> None:
    """The second term is reported with weight 0, and does not apply to "bad"."""

    def only_good(completions: list[str], **columns: Any) -> list[float | None]:
        return [0.5 if text == "good" else None for text in completions]

    def make_venv(n_envs: int, seed: int) -> VecEnv:
        reward = {"distinct": 1.0, only_good: 0.0}
        return make_vec_env("TextGen/GoodBad-v0", n_envs=n_envs, seed=seed, reward=reward)

    result = evaluation.evaluate(Scripted(), make_venv, episodes=7, batch=4)
    assert result.term_means() == {"distinct": pytest.approx(result.mean), "only_good": 0.5}
    assert result.summary()["reward_terms/only_good"] == 0.5
    assert "only_good 0.500" in str(result)

    def alone(n_envs: int, seed: int) -> VecEnv:
        return make_vec_env("TextGen/GoodBad-v0", n_envs=n_envs, seed=seed)

    assert evaluation.evaluate(Scripted(), alone, episodes=2, batch=2).terms == {}


def test_interrupt_still_evaluates_and_saves(tmp_path: Path) -> None:
    settings = common.RunSettings(env="TextGen/GoodBad-v0", out=tmp_path, **SMALL)
    folder = common.run("scripted", settings, lambda *_: Scripted())
    assert (folder / "model.saved").exists()
    record = json.loads((folder / "run.json").read_text())
    assert record["results"]["interrupted"] is True
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 6
