"""Supervised learning on episodes: cross-entropy on the tokens that the agent wrote.

The token ids are those of the episode, so that nothing is tokenised again: the prompt is the
environment's, truncated as it truncates prompts, and the loss is on the agent's own tokens, the eos
included. Prompts, pictures, and the other side's turns of a conversation, are read and not learned.

:class:`SFT` learns the texts of the environment's oracle. It is the algorithm of ``agents/sft.py``
and of every agent's ``--warm-start`` (:mod:`agents.running.warm_start`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.running.lm_agent import LMAgent
from agents.running.oracle import Oracle
from agents.running.planning import batch_of
from textgym.data.files import read_file
from textgym.data.messages import is_messages, text_of_messages
from textgym.data.rows import as_row
from textgym.errors import DataError, SettingsError
from textgym.lm.model import LanguageModel
from textgym.lm.scoring import score_actions, sequence_hidden
from textgym.rollouts import Episodes, Rollout
from textgym.sb3 import LMPolicy, make_vec_env
from textgym.sb3.checkpoints.env_state import get_env_state, set_env_state

Self = TypeVar("Self", bound="SFT")


def cross_entropy(lm: LanguageModel, episodes: Episodes) -> Tensor:
    """Mean negative log-probability, in nats, of the actions of some episodes.

    It is a mean over tokens, so long texts have more weight. The full softmax is taken, whatever
    the sampling is.
    """
    return _scored(lm, episodes)[0]


def _scored(lm: LanguageModel, episodes: Episodes) -> tuple[Tensor, Tensor]:
    """The cross-entropy, and the mean entropy of the model's distributions at these actions."""
    batch = episodes.to(lm.device)
    assert batch.sequences is not None
    log_probs, entropy = score_actions(lm, sequence_hidden(lm, batch.sequences), batch.actions)
    return -log_probs.mean(), entropy.detach().mean()


def gradient_step(
    policy: LMPolicy, episodes: Episodes, max_grad_norm: float
) -> tuple[float, float]:
    """One step of the policy's optimizer on some episodes.

    Returns:
        Before it, their cross-entropy, and the mean entropy of the model's distributions there.
    """
    policy.set_training_mode(True)  # It empties the cache, which is of the old weights.
    policy.optimizer.zero_grad()
    loss, entropy = _scored(policy.lm, episodes)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(policy.lm.parameters(), max_grad_norm)
    policy.optimizer.step()
    policy.set_training_mode(False)
    return float(loss.detach()), float(entropy)


class SFT(LMAgent):
    """Supervised fine-tuning with the interface of Stable-Baselines3.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`). But a training
    that was over, and is then continued with more steps, is not the same as a longer one: at its
    end it has learned a batch that was not full.

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
    learns_demonstrations = True

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
        self._playing: VecEnv | None = None
        self._rollout: Rollout | None = None
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
        if self._rollout is None or reset_num_timesteps:
            self._rollout = self._open(self.env)
            self._rollout.reset()
        rollout = self._rollout
        on_step = self.on_step(callback)
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            callback.on_rollout_start()
            while len(rollout.complete) < self.batch_size and self.num_timesteps < total_timesteps:
                step = rollout.step()
                if self.data is not None:  # The file's texts have no reward to log.
                    step = step._replace(dones=np.zeros_like(step.dones))
                self._update_current_progress_remaining(
                    self.num_timesteps + self.n_envs, total_timesteps
                )
                if not on_step(step):
                    callback.on_training_end()
                    return self
            callback.on_rollout_end()
            before, over = self._n_updates, self.num_timesteps >= total_timesteps
            # At the end, the remaining texts are learned too.
            while len(rollout.complete) >= self.batch_size or (over and rollout.complete):
                self._train(rollout.take(list(rollout.complete)[: self.batch_size]))
            if self._n_updates // log_interval > before // log_interval:
                self.logger.dump(self.num_timesteps)
        callback.on_training_end()
        return self

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Learn the references of another environment from now on."""
        super().set_env(env, force_reset)
        self._rollout = None

    def _open(self, venv: VecEnv) -> Rollout:
        """The oracle in the environment, or in one with the prompts and references of the file."""
        self._playing = venv if self.data is None else demonstrations(self.data, venv, self.seed)
        return Rollout(self._playing, Oracle(self._playing))

    def describe(self) -> dict[str, Any]:
        """The settings that another agent must share to continue this training."""
        return {"data": self.data}

    def get_state(self) -> dict[str, Any]:
        """The state of the rollout, for checkpoints."""
        playing = self._playing
        apart = playing is not None and playing is not self.env
        return {
            "rollout": None if self._rollout is None else self._rollout.get_state(),
            "environment": get_env_state(playing) if apart and playing is not None else None,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `get_state`."""
        rollout = None
        if state["rollout"] is not None:
            assert self.env is not None
            rollout = self._open(self.env)
            if state["environment"] is not None:
                assert self._playing is not None
                set_env_state(self._playing, state["environment"])
            rollout.set_state(state["rollout"])
        self._rollout = rollout

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_playing", "_rollout"]

    def _train(self, texts: Episodes) -> None:
        self._update_learning_rate(self.policy.optimizer)
        loss, entropy = gradient_step(self.policy, texts, self.max_grad_norm)
        self._n_updates += 1
        self.logger.record_mean("train/loss", loss)
        # Of the policy's distributions behind the demonstrated tokens: none is sampled.
        self.logger.record_mean("diagnostics/entropy", entropy)
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
