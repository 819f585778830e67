"""Environments of several kinds, and a record of what happened in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from stable_baselines3.common.vec_env import VecEnvWrapper
from transformers import AutoModelForCausalLM

from tests.conversations import Parley
from tests.lm.checkpoints import WORDS as COLOUR_WORDS
from tests.lm.checkpoints import config_of, write_tokenizer
from tests.pictures import Colour
from textgym.data.observations import split_observation
from textgym.sb3 import LMPolicy, make_vec_env

torch.set_num_threads(1)

KINDS = ["plain", "dense", "turns", "pictures", "top_k"]
WORDS = ["a", "b", "<eos>"]


def reward(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [
        text.count("a") - 0.7 * text.count("b") + 0.1 * len(prompt)
        for prompt, text in zip(prompts, completions, strict=True)
    ]


def make_env(kind: str, n_envs: int = 6, seed: int = 0, **others: Any) -> Any:
    given: dict[str, Any] = {
        "prompts": ["a", "b", "a b", "b b a", "a a", "b a"], "reward": reward, "tokenizer": WORDS,
        "max_prompt_tokens": 3, "max_new_tokens": 5,
    }  # fmt: skip
    if kind == "dense":
        given["step_reward"] = lambda prompts, completions, **_: [0.3 * len(c) for c in completions]
    if kind == "turns":
        given = {
            "prompts": Parley(), "tokenizer": [*Parley.tokenizer, "<eos>"],
            "max_prompt_tokens": 4, "max_new_tokens": 20,
        }  # fmt: skip
    if kind == "pictures":
        given = {"prompts": Colour(), "stop_at_eos": False}
    return Recorder(make_vec_env("TextGen-v0", n_envs, seed, **{**given, **others}))


def make_policy(venv: Any, kind: str, lm: str) -> LMPolicy:
    torch.manual_seed(3)
    sampling = {"top_k": 2, "temperature": 0.8} if kind == "top_k" else None
    policy = LMPolicy(
        venv.observation_space, venv.action_space, lambda _: 1e-3, lm=lm, sampling=sampling
    )
    torch.nn.init.normal_(policy.value_net[-1].weight, std=0.1)
    return policy


class Action(NamedTuple):
    """One action, and what was seen before it."""

    text: tuple[int, ...]
    image: bytes
    token: int
    reward: float


class Recorder(VecEnvWrapper):
    """What happened in the environment since its last reset."""

    def reset(self) -> Any:
        self.obs = self.venv.reset()
        self.steps: list[Any] = []
        self.ends: list[Any] = []
        return self.obs

    def step_async(self, actions: Any) -> None:
        self.actions = actions.copy()
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        self.steps.append((self.obs, self.actions, rewards.copy(), dones.copy(), infos))
        self.obs = obs
        return obs, rewards, dones, infos

    def episodes(self, per_row: int = 1) -> tuple[list[list[Action]], list[dict[str, Any]]]:
        """The first episodes of each row, and the infos at their ends; rows change fastest."""
        found: list[list[Action]] = [[] for _ in range(per_row * self.num_envs)]
        ends: list[Any] = [None] * len(found)
        for row in range(self.num_envs):
            number = row
            for obs, actions, rewards, dones, infos in self.steps:
                if number >= len(found):
                    break
                tokens, images = split_observation(obs)
                text = tuple(tokens[row][tokens[row] >= 0].tolist())
                image = b"" if images is None else images[row].tobytes()
                found[number].append(Action(text, image, int(actions[row]), float(rewards[row])))
                if dones[row]:
                    ends[number] = infos[row]
                    number += self.num_envs
        assert all(end is not None for end in ends), "a row has too few episodes"
        return found, ends


def actions_of(episodes: Any) -> list[list[Action]]:
    """The actions of each episode, as :class:`Recorder` has them."""
    batch = episodes.sequences
    texts = batch.observations(0, len(episodes.actions))
    found: list[list[Action]] = [[] for _ in range(len(episodes))]
    for at, owner in enumerate(episodes.owners.tolist()):
        text = tuple(texts[at][texts[at] >= 0].tolist())
        image = b"" if batch.images is None else batch.images[batch.rows[at]].numpy().tobytes()
        reward = float(episodes.rewards[at])
        found[owner].append(Action(text, image, int(episodes.actions[at]), reward))
    return found


def write_lm(kind: str, folder: Path) -> str:
    """A random model over the words of a kind of environment."""
    words = {"turns": [*Parley.tokenizer, "<eos>"], "pictures": COLOUR_WORDS}.get(kind, WORDS)
    config = config_of("gpt2", len(words))
    config.bos_token_id = config.eos_token_id = len(words) - 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    write_tokenizer(folder, words)
    return str(folder)
