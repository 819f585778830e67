"""GRPO and RLOO: their rollout of whole episodes, advantages, gradients, and what they learn."""

from __future__ import annotations

import copy
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecEnvWrapper

from agents import grpo, rloo
from agents.running import command_line as cli
from tests.conversations import Parley
from textgym.errors import SettingsError
from textgym.sb3 import Checkpoints, make_vec_env, resume

BOTH = pytest.mark.parametrize("module", [grpo, rloo], ids=["grpo", "rloo"])
N, G, E = 8, 4, 2
WORDS = ["a", "b", "<eos>"]
SHAPED = {
    "step_reward": lambda prompts, completions, **columns: [0.3 * len(c) for c in completions]
}


def pay(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """So many a's as b's is worth nothing, and the prompt has a say."""
    return [
        text.count("a") - 0.7 * text.count("b") + 0.1 * len(prompt) * text.count("a b")
        for prompt, text in zip(prompts, completions, strict=True)
    ]


def make_env(seed: int = 0, n_envs: int = N, group_size: int = G, **others: Any) -> Any:
    arguments = {
        "prompts": ["a", "b", "a b", "b b a", "a a", "b a"],
        "reward": pay,
        "tokenizer": WORDS,
        "max_prompt_tokens": 3,
        "max_new_tokens": 5,
    }
    arguments |= others
    return make_vec_env("TextGen-v0", n_envs, seed, group_size=group_size, **arguments)


def make(module: Any, tmp_path: Path, venv: Any = None, seed: int = 0, **settings: Any) -> Any:
    values = {"kl_coef": 0.0, "kl_target": None, "group_size": G, "out": tmp_path, "device": "cpu"}
    made = module.Settings(**{**values, **settings})
    return module.make_agent(make_env(seed) if venv is None else venv, seed, made)


def collect(agent: Any, rollouts: int = 1) -> Any:
    """The last of some rollouts, of which nothing is learned, as the update sees it."""
    seen: list[Any] = []
    agent.update = lambda episodes, *_: seen.append(episodes)
    agent.learn(1)
    for _ in range(rollouts - 1):
        agent.learn(1, reset_num_timesteps=False)
    del agent.update
    return seen[-1]


def advantages_of(episodes: Any) -> Any:
    """The advantage of each episode, which all its tokens have."""
    found = [episodes.select([index]).extra["advantages"] for index in range(len(episodes))]
    assert all((each == each[0]).all() for each in found)
    return [float(each[0]) for each in found]


class Written(KVWriter):
    """What was logged, one dictionary for each time."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: Any, key_excluded: Any, step: int = 0) -> None:
        self.rows.append(dict(key_values))


def written(agent: Any) -> list[dict[str, Any]]:
    """What the agent logs from now on."""
    writer = Written()
    agent.set_logger(Logger(folder=None, output_formats=[writer]))
    return writer.rows


class Recorder(VecEnvWrapper):
    """What happened in the environment, one list of steps for each reset."""

    def reset(self) -> Any:
        self.obs = self.venv.reset()
        self.__dict__.setdefault("rollouts", []).append([])
        return self.obs

    def step_async(self, actions: Any) -> None:
        self.actions = actions.copy()
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        self.rollouts[-1].append((self.obs.copy(), self.actions, rewards.copy(), dones.copy()))
        self.obs = obs
        return obs, rewards, dones, infos

    def episodes(self, n_episodes: int) -> list[list[list[tuple[tuple[int, ...], int, float]]]]:
        """By number and row, the text, token and reward of each step of the last rollout."""
        found: Any = [[[] for _ in range(self.num_envs)] for _ in range(n_episodes)]
        for row in range(self.num_envs):
            number = 0
            for obs, actions, rewards, dones in self.rollouts[-1]:
                if number < n_episodes:
                    text = tuple(obs[row][obs[row] >= 0].tolist())
                    found[number][row].append((text, int(actions[row]), float(rewards[row])))
                number += int(dones[row])
            assert number >= n_episodes, "a row has too few episodes"
        return found


def parley() -> Any:
    """Turns, with rewards of their own."""
    return make_vec_env(
        "TextGen-v0", N, 0, group_size=G, prompts=Parley(), tokenizer=[*Parley.tokenizer, "<eos>"],
        max_prompt_tokens=4, max_new_tokens=20,
    )  # fmt: skip


# ---------------------------------------------------------------------- the rollout


@BOTH
@pytest.mark.parametrize("kind", ["plain", "dense", "turns"])
@pytest.mark.parametrize("n_episodes", [1, 3])
def test_advantages_are_those_of_the_recorded_episodes(
    module: Any, kind: str, n_episodes: int, tmp_path: Path
) -> None:
    dense = SHAPED if kind == "dense" else {}
    venv = Recorder(parley() if kind == "turns" else make_env(**dense))
    agent = make(module, tmp_path, venv, n_episodes=n_episodes)
    logged = written(agent)
    for rollouts in (1, 2):
        advantages = advantages_of(collect(agent, rollouts))
        episodes = venv.episodes(n_episodes)
        lengths = [len(steps) for rows in episodes for steps in rows]
        assert len(set(lengths)) > 2
        assert len(venv.rollouts[-1]) == max(
            sum(len(episodes[at][row]) for at in range(n_episodes)) for row in range(N)
        ), "it is over with the last row"
        writing = sum(lengths) / (len(venv.rollouts[-1]) * N)
        assert logged[-1]["rollout/writing"] == writing < 1
        for number, rows in enumerate(episodes):
            returns = [sum(reward for _, _, reward in steps) for steps in rows]
            for first in range(0, N, G):
                prompts = {rows[row][0][0] for row in range(first, first + G)}
                assert len(prompts) == 1, "a group is of one prompt"
                group = returns[first : first + G]
                for at, value in enumerate(group):
                    if module is grpo:
                        expected = value - statistics.mean(group)
                        expected /= statistics.stdev(group) + 1e-4
                    else:
                        expected = value - statistics.mean(group[:at] + group[at + 1 :])
                    found = advantages[number * N + first + at]
                    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [1, 3, 100])
def test_every_token_of_the_episodes_comes_once(count: int, tmp_path: Path) -> None:
    for venv in (Recorder(make_env()), Recorder(parley())):
        buffer = collect(make(grpo, tmp_path, venv, n_episodes=E), 2)
        found = []
        for batch in buffer.minibatches(count):
            owners = batch.owners.tolist()
            assert sorted(set(owners)) == list(range(len(batch)))
            advantages = advantages_of(batch)
            texts = batch.sequences.observations(0, len(owners))
            for owner in set(owners):
                at = [place for place, other in enumerate(owners) if other == owner]
                written = [tuple(text[text >= 0].tolist()) for text in texts[at]]
                tokens = [int(batch.actions[place]) for place in at]
                found.append((list(zip(written, tokens, strict=True)), advantages[owner]))
        advantages = advantages_of(buffer)
        expected = [
            ([step[:2] for step in steps], advantages[number * N + row])
            for number, rows in enumerate(venv.episodes(E))
            for row, steps in enumerate(rows)
        ]
        assert sorted(found) == sorted(expected)


def test_rollouts_do_not_repeat_their_prompts(tmp_path: Path) -> None:
    """A reset goes on with the streams of prompts; it does not begin them anew."""
    venv = Recorder(make_env(prompts=lambda rng: {"prompt": "ab"[int(rng.integers(2))]}))
    collect(make(grpo, tmp_path, venv), 20)
    firsts = [steps[0][0][::G, 0].tolist() for steps in venv.rollouts if steps]
    assert len({tuple(first) for first in firsts}) == 4
    assert firsts[:10] != firsts[10:20]


class Ends(BaseCallback):
    """What callbacks are told of ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = self.rollouts = 0

    def _on_step(self) -> bool:
        self.ends += int(self.locals["dones"].sum())
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            assert done == ("response" in info)
        return True

    def _on_rollout_end(self) -> None:
        self.rollouts += 1
        assert self.ends == self.rollouts * E * N


@BOTH
def test_what_resting_rows_do_is_seen_by_nobody(module: Any, tmp_path: Path) -> None:
    judged: list[str] = []

    def counted(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        judged.extend(completions)
        return pay(prompts, completions)

    venv = make_env(reward=counted)
    agent = make(module, tmp_path, venv, n_episodes=E)
    callback = Ends()
    agent.learn(300, callback=callback)
    assert callback.rollouts > 3
    assert len(agent.ep_info_buffer) == min(100, callback.ends)
    judged.clear()
    agent = make(module, tmp_path, venv)
    logged = written(agent)
    collect(agent, 5)
    assert logged[-1]["rollout/writing"] < 1
    assert len(judged) == 5 * N, "with one episode a row, no filler is judged"


@pytest.mark.parametrize("sampling", [None, {"top_k": 2, "temperature": 0.8}])
@BOTH
def test_the_ratio_is_one_at_first(module: Any, sampling: Any, tmp_path: Path) -> None:
    agent = make(module, tmp_path, n_episodes=E)
    if sampling:
        kind = type(agent)
        policy_kwargs = {**agent.policy_kwargs, "sampling": sampling}
        agent = kind(
            agent.policy_class, agent.env, group_size=G, n_episodes=E, policy_kwargs=policy_kwargs
        )
    buffer = collect(agent, 2)
    agent.policy.set_training_mode(True)
    for batch in buffer.minibatches(3):
        _, log_probs, _ = agent.policy.evaluate_actions(batch.sequences, batch.actions)
        ratio = torch.exp(log_probs - batch.log_probs)
        torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-5, rtol=0)


# ---------------------------------------------------------------------- the update


def log_probs(model: Any, steps: Any) -> torch.Tensor:
    """Of an episode's tokens, one pass over the whole text for each."""
    found = []
    for text, token, _ in steps:
        logits = model(input_ids=torch.tensor([text])).logits[0, -1]
        found.append(torch.log_softmax(logits, -1)[token])
    return torch.stack(found)


def gradient_of_update(agent: Any) -> dict[str, torch.Tensor]:
    """What `train` hands to the optimizer in one step over everything."""
    caught: dict[str, torch.Tensor] = {}

    def catch(*_: Any) -> None:
        for name, weight in agent.policy.lm.named_parameters():
            caught[name] = weight.grad.clone()
        assert all(weight.grad is None for weight in agent.policy.value_net.parameters())

    handle = agent.policy.optimizer.register_step_pre_hook(catch)
    agent.max_grad_norm = 1e9
    agent.learn(1)
    handle.remove()
    return caught


def assert_gradients(agent: Any, caught: Any, model: Any, loss: torch.Tensor) -> None:
    loss.backward()
    expected = dict(model.named_parameters())
    largest = max(float(weight.grad.abs().max()) for weight in expected.values())
    assert largest > 1e-3
    names = {name.removeprefix("model."): value for name, value in caught.items()}
    assert names.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(names[name], weight.grad, rtol=1e-4, atol=1e-5 * largest)


class Nudge(BaseCallback):
    """Moves the weights between rollout and update, so that ratios are not 1."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        generator = torch.Generator().manual_seed(5)
        model = self.model.policy.lm.model
        self.old = copy.deepcopy(model)
        with torch.no_grad():
            for weight in model.parameters():
                weight += self.scale * torch.randn(weight.shape, generator=generator)
        self.new = copy.deepcopy(model)


@pytest.mark.parametrize(
    ("loss_type", "scale", "kl_coef"),
    [("grpo", True, 0.3), ("grpo", False, 0.0), ("dapo", True, 0.0), ("dr_grpo", False, 0.2)],
)
def test_grpo_s_gradient(loss_type: Any, scale: bool, kl_coef: float, tmp_path: Path) -> None:
    venv = Recorder(make_env())
    agent = make(
        grpo, tmp_path, venv, n_episodes=E, loss_type=loss_type, scale_rewards=scale,
        kl_coef=kl_coef, n_epochs=1, minibatches=1,
    )  # fmt: skip
    nudge = Nudge(0.02)
    learn = agent.learn
    agent.learn = lambda steps: learn(steps, callback=nudge)
    caught = gradient_of_update(agent)
    episodes = [steps for rows in venv.episodes(E) for steps in rows]
    returns = np.array([sum(reward for *_, reward in steps) for steps in episodes])
    advantages = grpo.relative(returns.reshape(-1, G), scale).flatten()
    total, clipped = torch.zeros(()), 0
    for steps, advantage in zip(episodes, advantages.tolist(), strict=True):
        new, old = log_probs(nudge.new, steps), log_probs(nudge.old, steps).detach()
        losses = []
        # The first rollout was the reference's own.
        for mine, theirs, reference in zip(new, old, old, strict=True):
            ratio = torch.exp(mine - theirs)
            cut = min(max(ratio.item(), 0.8), 1.2)
            clipped += cut != ratio.item()
            one, other = ratio * advantage, torch.tensor(cut) * advantage
            loss = -(one if ratio.item() == cut or one.item() < other.item() else other)
            away = torch.exp(reference - mine)
            losses.append(loss + kl_coef * (away - torch.log(away) - 1))
        summed = torch.stack(losses).sum()
        total = total + (summed / len(steps) if loss_type == "grpo" else summed)
    tokens = sum(map(len, episodes))
    total = total / {"grpo": E * N, "dapo": tokens, "dr_grpo": E * N * 5}[loss_type]
    assert 0 < clipped < tokens
    assert_gradients(agent, caught, nudge.new, total)


@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
def test_rloo_s_gradient(kl_coef: float, tmp_path: Path) -> None:
    venv = Recorder(make_env())
    agent = make(rloo, tmp_path, venv, kl_coef=kl_coef)
    reference = copy.deepcopy(agent.policy.lm.model)
    if kl_coef:  # Else it would be 0 at first.
        with torch.no_grad():
            agent.policy.lm.model.lm_head.weight += 0.1
            agent.policy.lm.model.lm_head.weight[0] += 0.1
    model = copy.deepcopy(agent.policy.lm.model)
    caught = gradient_of_update(agent)
    (rows,) = venv.episodes(1)
    written = [log_probs(model, steps) for steps in rows]
    returns = [
        sum(reward for _, _, reward in steps)
        - kl_coef * (mine - log_probs(reference, steps)).sum().item()
        for steps, mine in zip(rows, written, strict=True)
    ]
    total = torch.zeros(())
    for row, mine in enumerate(written):
        first = row - row % G
        others = [returns[other] for other in range(first, first + G) if other != row]
        total = total - (returns[row] - statistics.mean(others)) * mine.sum() / N
    assert_gradients(agent, caught, model, total)


@BOTH
def test_equal_rewards_have_no_gradient(module: Any, tmp_path: Path) -> None:
    """Exactly none: 0.1 three times is not three times 0.1, and the rest could be scaled up."""

    def same(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        return [0.1 for _ in completions]

    venv = make_env(reward=same, n_envs=6, group_size=3)
    agent = make(module, tmp_path, venv, group_size=3)
    caught = gradient_of_update(agent)
    assert all(float(value.abs().max()) == 0 for value in caught.values())
    mixed = np.array([[0.1, 0.1, 0.1], [0.1, 0.1, 0.4]])
    advantages = grpo.relative(mixed, True) if module is grpo else rloo.leave_one_out(mixed)
    assert (advantages[0] == 0).all()
    assert (advantages[1] != 0).all()


@BOTH
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_learns_to_say_good(module: Any, seed: int, tmp_path: Path) -> None:
    venv = make_vec_env("TextGen/GoodBad-v0", n_envs=16, seed=seed, group_size=8)
    agent = make(module, tmp_path, venv, seed, group_size=8, lr=2e-3)
    value = [weight.clone() for weight in agent.policy.value_net.parameters()]
    good = agent.policy.get_distribution(torch.as_tensor(venv.reset())).distribution.probs[0, 0]
    assert 0.2 < good.item() < 0.8
    agent.learn(384)
    good = agent.policy.get_distribution(torch.as_tensor(venv.reset())).distribution.probs[0, 0]
    assert good.item() > 0.95
    assert all(map(torch.equal, value, agent.policy.value_net.parameters()))


# ---------------------------------------------------------------------- around it


@BOTH
def test_a_resumed_training_is_the_same(module: Any, tmp_path: Path) -> None:
    def agent() -> Any:
        return make(
            module, tmp_path, n_episodes=E, kl_coef=0.1, kl_target=0.01, lr_schedule="constant"
        )

    whole = agent()
    whole.learn(400)
    first = agent()
    first.learn(200, callback=Checkpoints(tmp_path / "saved", every=100))
    second = agent()
    left = resume(second, tmp_path / "saved", 400)
    assert 0 < left < 400
    second.learn(left, callback=Checkpoints(tmp_path / "saved"), reset_num_timesteps=False)
    assert second.num_timesteps == whole.num_timesteps
    assert second.kl.coef == whole.kl.coef == whole.kl_coef != 0.1
    weights = whole.get_parameters()["policy"]
    for name, weight in second.get_parameters()["policy"].items():
        assert torch.equal(weight, weights[name]), name


@BOTH
def test_groups_of_another_size_are_not_resumed(module: Any, tmp_path: Path) -> None:
    make(module, tmp_path).learn(50, callback=Checkpoints(tmp_path / "saved"))
    with pytest.raises(SettingsError, match=r"group_size .*4.*2"):
        resume(make(module, tmp_path, group_size=2), tmp_path / "saved", 400)


@BOTH
def test_saved_agents_load(module: Any, tmp_path: Path) -> None:
    agent = make(module, tmp_path, **({"loss_type": "dapo"} if module is grpo else {}))
    agent.learn(50)
    agent.save(tmp_path / "model.zip")
    loaded = type(agent).load(tmp_path / "model.zip", device="cpu")
    obs = make_env().reset()
    assert np.array_equal(
        loaded.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0]
    )
    assert loaded.max_tokens == 5
    again = type(agent).load(tmp_path / "model.zip", env=make_env(), device="cpu")
    again.learn(50)
    if module is grpo:
        assert again.loss_type == "dapo"


@BOTH
@pytest.mark.parametrize(
    ("group_size", "words"),
    [(1, "group.size.*1.*2"), (3, "n_envs=8"), (8, "group_size=8")],
)
def test_groups_that_cannot_be(module: Any, group_size: int, words: str, tmp_path: Path) -> None:
    """The environment's groups are of 4."""
    with pytest.raises(SettingsError, match=words):
        make(module, tmp_path, group_size=group_size).learn(1000)


@BOTH
def test_texts_that_a_step_limit_cuts_off_are_refused(module: Any, tmp_path: Path) -> None:
    """They have no verdict, and a reward of 0 would be none."""
    agent = make(module, tmp_path, make_env(max_episode_steps=3))
    with pytest.raises(SettingsError, match="step limit"):
        agent.learn(200)


@BOTH
def test_the_command_line(module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = module.__name__
    flags = [
        "--env=TextGen/GoodBad-v0", "--steps=32", "--n-envs=8", "--eval-episodes=6", "--threads=1",
        "--device=cpu", f"--out={tmp_path}", "--checkpoint-every=16",
    ]  # fmt: skip
    cli.command_line(name, module.Settings(), module.__doc__, module.main, flags)
    (folder,) = (path for path in tmp_path.iterdir() if path.name != "word-models")
    record = json.loads((folder / "run.json").read_text())
    assert record["agent"] == name.removeprefix("agents.")
    assert record["settings"]["group_size"] == 8
    assert record["results"]["steps"] == 32
    columns = (folder / "progress.csv").read_text().splitlines()[0].split(",")
    assert {"episode/reward", "rollout/kl", "rollout/writing", "train/loss"} <= set(columns)
    with pytest.raises(SystemExit):
        cli.command_line(name, module.Settings(), None, module.main, [*flags, "--group-size=1"])
    assert "--group-size 1: it has to be at least 2" in capsys.readouterr().err


@BOTH
def test_training_has_groups_and_evaluation_has_none(module: Any, tmp_path: Path) -> None:
    """Also where the number of evaluation episodes is no multiple of the group's size."""
    flags = [
        "--env=TextGen/Sentiment-v0", "--steps=8", "--n-envs=4", "--group-size=4",
        "--max-new-tokens=2", "--eval-episodes=6", "--threads=1", "--device=cpu",
        f"--out={tmp_path}", "--checkpoint-every=0",
    ]  # fmt: skip
    cli.command_line(module.__name__, module.Settings(), None, module.main, flags)
    (folder,) = tmp_path.iterdir()
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len({row["prompt"] for row in samples}) > 3


def test_the_size_of_groups_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--env-kwargs", '{"group_size": 4}', f"--out={tmp_path}"]
    with pytest.raises(SystemExit):
        cli.command_line("agents.grpo", grpo.Settings(), None, grpo.main, flags)
    assert "--env-kwargs: group_size" in capsys.readouterr().err
