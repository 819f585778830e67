"""Supervised fine-tuning: the language model learns to write the references. A warm start for RL.

    python -m agents.sft --env TextGen/Story-v0 --steps 50_000
    python -m agents.sft --env TextGen/Story-v0 --data demonstrations.jsonl
    python -m agents.ppo --env TextGen/Story-v0 --lm runs/FOLDER/lm

Behavioural cloning, the first stage of Ziegler et al. 2019 (https://arxiv.org/abs/1909.08593) and
Ouyang et al. 2022 (https://arxiv.org/abs/2203.02155): cross-entropy on the completions, eos
included, and on nothing else.

The demonstrations are played. agents/oracle.py writes the references in the environment, on its own
prompts, and what it wrote is learned: the same token ids that a policy would see and write, prompts
cut to size, completions tokenised apart from them, and in conversations the agent's turns alone,
between the other side's real answers. So a step is a token that is learned, as one of PPO is a
token that is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from agents.oracle import Oracle
from agents.running.command_line import command_line
from agents.running.lm_agent import LMAgent
from agents.running.planning import Plans, batch_of
from agents.running.run import run
from agents.running.supervised import Recorder, Text, gradient_step
from agents.running.training import TrainingSettings
from agents.running.word_model import starting_model
from textgym.data.files import read_file
from textgym.data.messages import is_messages, text_of_messages
from textgym.data.rows import as_row
from textgym.errors import DataError, SettingsError
from textgym.sb3 import LMPolicy, make_vec_env
from textgym.sb3.checkpoints.env_state import get_env_state, set_env_state

Self = TypeVar("Self", bound="SFT")


@dataclass
class Settings(TrainingSettings):
    """Settings of supervised fine-tuning; `steps` counts the tokens that are learned."""

    data: str | None = None
    """Demonstrations of your own, a .jsonl, .csv or .parquet file.
    Its rows have prompt and completion (or reference). Default: the environment's references."""
    batch_size: int = 32
    """Texts per gradient step."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""


class Reading:
    """An environment whose references are written by its oracle, and taken down.

    Args:
        venv: The environment.
        about: The agent's own environment; the same one, unless the references are a file's.

    Attributes:
        about: The same.
        texts: The episodes that are complete, and not learned yet.
    """

    def __init__(self, venv: VecEnv, about: VecEnv) -> None:
        self.about = about
        self.texts: list[Text] = []
        self._venv = venv
        self._oracle, self._recorder = Oracle(venv), Recorder(venv.num_envs)
        self._obs: Any = None
        self._plans: Plans | None = None
        self._starts = np.ones(venv.num_envs, np.bool_)

    def start(self) -> None:
        """Start the first episodes."""
        self._obs = self._venv.reset()

    def step(self) -> tuple[NDArray[np.bool_], list[dict[str, Any]]]:
        """Write one token of each row's reference.

        Returns:
            Which episodes have ended ``[N]``, and what is told of them.
        """
        actions, self._plans = self._oracle.predict(self._obs, self._plans, self._starts)
        before = self._obs
        self._obs, _, self._starts, infos = self._venv.step(actions)
        self.texts += self._recorder.step(before, self._starts, infos).values()
        return self._starts, infos

    def get_state(self) -> dict[str, Any]:
        """What the next step depends on, but for the agent's own environment."""
        apart = self._venv is not self.about
        return {
            "environment": get_env_state(self._venv) if apart else None,
            "observations": self._obs,
            "plans": self._plans,
            "starts": self._starts,
            "places": self._recorder.places,
            "texts": [text._asdict() for text in self.texts],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `get_state`."""
        if state["environment"] is not None:
            set_env_state(self._venv, state["environment"])
        self._obs, self._plans, self._starts = (
            state[name] for name in ("observations", "plans", "starts")
        )
        self._recorder.places = [list(places) for places in state["places"]]
        self.texts = [Text(**text) for text in state["texts"]]


class SFT(LMAgent):
    """Supervised fine-tuning with the interface of Stable-Baselines3.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`). But a training
    that was over, and then goes on with more steps, is not the same as a longer one: at its end it
    has learned a batch that was not full.

    Args:
        policy: :class:`textgym.sb3.LMPolicy`.
        env: The environment, whose references are learned.
        learning_rate: Learning rate, or a schedule.
        batch_size: Texts per gradient step.
        max_grad_norm: Gradients are scaled down to this norm.
        data: A file of demonstrations to learn instead.
        **others: See :class:`agents.running.lm_agent.LMAgent`.
    """

    learns = True

    def __init__(
        self,
        policy: type[LMPolicy] = LMPolicy,
        env: VecEnv | None = None,
        learning_rate: float | Schedule = 5e-4,
        batch_size: int = 32,
        max_grad_norm: float = 1.0,
        data: str | None = None,
        **others: Any,
    ) -> None:
        if batch_size < 1:
            raise SettingsError(f"SFT: batch_size={batch_size} has to be at least 1")
        self.batch_size = batch_size
        self.max_grad_norm = max_grad_norm
        self.data = data
        self._reading: Reading | None = None
        super().__init__(policy, env, learning_rate, **others)

    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "sft",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn references for this many tokens of them.

        Raises:
            SettingsError: If the environment has no references.
            DataError: If the file of demonstrations has rows without prompt or completion.
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        assert self.env is not None
        reading = self._reading
        if reading is None or reset_num_timesteps or reading.about is not self.env:
            reading = self._reading = self._open(self.env)
            reading.start()
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            callback.on_rollout_start()
            while len(reading.texts) < self.batch_size and self.num_timesteps < total_timesteps:
                dones, infos = reading.step()
                self.num_timesteps += self.env.num_envs
                self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
                # The file's texts are nobody's episodes: there is no reward to log.
                dones = dones if self.data is None else np.zeros_like(dones)
                callback.update_locals({**locals(), "dones": dones})
                if not callback.on_step():
                    callback.on_training_end()
                    return self
            callback.on_rollout_end()
            before, over = self._n_updates, self.num_timesteps >= total_timesteps
            # At the end, what is left is learned too.
            while len(reading.texts) >= self.batch_size or (over and reading.texts):
                self._train(reading.texts[: self.batch_size])
                del reading.texts[: self.batch_size]
            if self._n_updates // log_interval > before // log_interval:
                self.logger.dump(self.num_timesteps)
        callback.on_training_end()
        return self

    def _open(self, venv: VecEnv) -> Reading:
        """What is to be read: the environment's references, or the file."""
        if self.data is None:
            return Reading(venv, venv)
        return Reading(demonstrations(self.data, venv, self.seed), venv)

    def describe(self) -> dict[str, Any]:
        """What has to be the same for another one to go on with this training."""
        return {"data": self.data}

    def get_state(self) -> dict[str, Any]:
        """Where the reading is, for checkpoints."""
        return {"reading": None if self._reading is None else self._reading.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `get_state`."""
        reading = None
        if state["reading"] is not None:
            assert self.env is not None
            reading = self._open(self.env)
            reading.set_state(state["reading"])
        self._reading = reading

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_reading"]

    def _train(self, texts: list[Text]) -> None:
        self._update_learning_rate(self.policy.optimizer)
        loss = gradient_step(self.policy, texts, self.max_grad_norm)
        self._n_updates += 1
        self.logger.record_mean("train/loss", loss)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")


def demonstrations(file: str, like: VecEnv, seed: int | None) -> VecEnv:
    """An environment whose prompts and references are those of a file.

    Args:
        file: Its rows have ``prompt`` and ``completion`` (or ``reference``), or are messages that
            end with the assistant's (TRL's conversational forms).
        like: Tokenizer, chat template, budgets and ends of texts are those of this environment.
        seed: Seed of the order.

    Raises:
        SettingsError: If `like` is an environment of conversations, or of pictures.
        DataError: If a row has neither, or there are no rows.
    """
    settings = batch_of(like).settings
    if settings.conversation is not None or settings.pictures is not None:
        what = "conversations" if settings.conversation is not None else "pictures"
        raise SettingsError(
            f"--data {file}: {settings.name} is about {what}, which a file of prompts and "
            "completions does not hold; leave --data out, to learn the environment's own oracle"
        )
    table = read_file(Path(file).expanduser())
    rows = [_demonstration(file, index, table[index]) for index in range(len(table))]
    if not rows:
        raise DataError(f"--data {file}: the file holds no demonstrations; give at least one")
    return make_vec_env(
        "TextGen-v0",
        like.num_envs,
        seed,
        prompts=rows,
        reward=_no_reward,
        tokenizer=settings.tokenizer,
        chat=True if settings.chat is not None else "auto",
        max_prompt_tokens=settings.max_prompt_tokens,
        max_new_tokens=settings.max_new_tokens,
        prompt_overflow=settings.prompt_overflow,
        stop=settings.stops.stops,
        stop_at_eos=settings.stop_at_eos,
    )


def _demonstration(file: str, index: int, row: Any) -> dict[str, Any]:
    where = f"--data {file}: row {index}"
    known = isinstance(row, Mapping) and ("prompt" in row or "messages" in row)
    read = as_row(row, where) if known else {}
    text: Any = read.get("completion")
    if is_messages(text):
        text = text_of_messages(text, "assistant")
    text = read.get("reference") if text is None else text
    if not isinstance(text, str):
        raise DataError(
            f"{where} is {str(row)[:60]!r}; give every row a 'prompt' and a 'completion' (or "
            "'reference'), strings or messages, or 'messages' that end with the assistant's"
        )
    return {"prompt": read["prompt"], "reference": text}


def _no_reward(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> SFT:
    """Build the agent.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of prompts and sampling, and of a new model's weights.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    return SFT(
        LMPolicy,
        venv,
        learning_rate=s.lr,
        batch_size=s.batch_size,
        max_grad_norm=s.max_grad_norm,
        data=s.data,
        policy_kwargs={"lm": starting_model(venv, s.lm, seed, s.out)},
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("sft", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.sft", Settings(), __doc__, main)
