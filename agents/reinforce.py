"""REINFORCE on tokens, written out from its formula.

    python -m agents.reinforce --env TextGen/Sentiment-v0
    python -m agents.reinforce --baseline value
    python -m agents.reinforce --help

Williams 1992 (https://doi.org/10.1007/BF00992696), with the return from each decision on, as in the
policy gradient theorem of Sutton et al. 2000 ("Policy Gradient Methods for Reinforcement Learning
with Function Approximation"). With J(theta) the expected reward of a text,

    grad J = E[ sum_t grad log pi(a_t | s_t) (G_t - b_t) ],    G_t = r_t + gamma G_(t+1)

The expectation is over whole texts, and `Reinforce.loss` is its estimate from a batch of them: sums
over tokens, means over texts. A baseline b_t may depend on anything but the token a_t. It leaves
the expectation as it is and makes it less noisy.

With gamma = 1 that is the gradient of J. With gamma < 1 a token is credited with rewards k steps
later by gamma^k, while texts are weighted as if gamma were 1: the sum over the states s of
d(s) sum_a grad pi(a | s) Q(s, a), where Q is discounted and the visits d are not. So do PPO and
A2C. (The gradient of the discounted return would have gamma^t before each term, and learn next to
nothing of the ends of texts.)

The KL penalty is that of agents/ppo.py, a part of the rewards r_t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from agents.running.command_line import check_flags, command_line
from agents.running.run import LMSettings, StepSettings, run
from agents.running.validation import above, at_least, cut_off, within
from agents.running.word_model import starting_model
from textgym.errors import SettingsError


@dataclass
class Settings(LMSettings, StepSettings):
    """Settings of REINFORCE. Each update sees one whole text of each of the n_envs rows."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 1e-3
    """Learning rate of Adam, which makes one step for each batch of texts."""
    gamma: float = 1.0
    """Discount. A text is judged as a whole, so its first token counts as much as its last."""
    baseline: Literal["none", "mean", "value"] = "mean"
    """The baseline of a return: nothing, the batch's mean, or the estimate of a value head.
    The mean is that of the other texts' returns from the same token on, so it takes two rows."""
    kl_coef: float = 0.02
    """Weight of the KL penalty, in reward per nat; the initial weight if --kl-target is given.
    With 0 the penalty is off, and the reference model is not loaded."""
    kl_target: float | None = 0.3
    """Adapt the weight to keep the KL near this many nats per token. None keeps it fixed."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus, which is per token; rewards are per text."""
    vf_coef: float = 0.1
    """Weight of the value loss. It trains the value head alone, not the language model."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        within(0, 1, gamma=self.gamma)
        at_least(0, kl_coef=self.kl_coef)
        above(0, kl_target=self.kl_target)
        at_least(0, ent_coef=self.ent_coef, vf_coef=self.vf_coef)


if __name__ == "__main__":
    check_flags("agents.reinforce", Settings(), __doc__)  # Before the slow imports.

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    ConvertCallback,
    ProgressBarCallback,
)
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import (
    FloatSchedule,
    explained_variance,
    get_device,
    set_random_seed,
    update_learning_rate,
)
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize
from torch import Tensor
from torch.nn.functional import mse_loss

from agents.running.lm_agent import initial_model
from textgym.lm.kl import KLPenalty
from textgym.lm.scoring import score_actions, sequence_hidden
from textgym.rollouts import Episodes, Step, collect
from textgym.sb3 import LMPolicy

Floats = NDArray[np.float32]
Callbacks = BaseCallback | Callable[..., Any] | list[BaseCallback] | None


class Reinforce:
    """REINFORCE with the interface of Stable-Baselines3.

    A batch is one whole episode of each row of the environment. Rows that are done write on until
    the last one is, and those texts are thrown away: to count all episodes that come to an end in
    time would prefer short texts.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`).

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of the value head, sampling and prompts.
        settings: Settings.
        policy_kwargs: Arguments of `LMPolicy`: ``lm``, and whatever else.

    Attributes:
        policy: The policy, an `LMPolicy`.
        kl: The KL penalty, with its current coefficient; None without one.
        num_timesteps: Environment steps so far, those that were thrown away included.
        logger: Stable-Baselines3's logger; see `set_logger`.
    """

    def __init__(
        self, venv: VecEnv, seed: int, settings: Settings, policy_kwargs: dict[str, Any]
    ) -> None:
        self.env = venv
        self.settings = settings
        self.rate = FloatSchedule(settings.learning_rate)
        self.device = get_device(settings.device)
        set_random_seed(seed, using_cuda=self.device.type == "cuda")
        venv.seed(seed)
        self.policy = LMPolicy(
            venv.observation_space, venv.action_space, self.rate, **policy_kwargs
        ).to(self.device)
        self.kl: KLPenalty | None = None
        if settings.kl_coef:
            self.kl = KLPenalty(
                settings.kl_coef, settings.kl_target, initial_model(self.policy),
                self.device, settings.reference_dtype,
            )  # fmt: skip
        self.num_timesteps = 0
        self.logger = Logger(folder=None, output_formats=[])

    def learn(
        self,
        total_timesteps: int,
        callback: Callbacks = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Reinforce:
        """Train for about this many environment steps: to the end of the texts under way.

        Args:
            total_timesteps: Length of the training, all rows together.
            callback: Called as by algorithms of Stable-Baselines3. An episode that is thrown away
                is not among ``dones``.
            reset_num_timesteps: Count from 0 again.
            progress_bar: Show a progress bar.
        """
        if reset_num_timesteps:
            self.num_timesteps = 0
        until = self.num_timesteps + total_timesteps
        heard = self._callbacks(callback, progress_bar)
        heard.on_training_start({"self": self, "total_timesteps": until}, {})
        while self.num_timesteps < until:
            heard.on_rollout_start()
            episodes = self.play(heard)
            if episodes is None:
                break
            episodes = self.charge(episodes)
            heard.update_locals({"episodes": episodes})
            heard.on_rollout_end()
            rate = self.rate(1 - self.num_timesteps / until)
            update_learning_rate(self.policy.optimizer, rate)
            self.update(episodes)
            self.logger.dump(self.num_timesteps)
        heard.on_training_end()
        return self

    def play(self, callback: BaseCallback | None = None) -> Episodes | None:
        """Write one text in each row; None if a callback ends the training.

        Raises:
            SettingsError: If a step limit cuts texts off.
        """

        def on_step(step: Step) -> bool:
            self.num_timesteps += len(step.dones)
            cut_off(step.infos, "REINFORCE")
            if callback is None:
                return True
            callback.update_locals(step._asdict())
            return callback.on_step()

        return collect(self.env, self.policy, rest=False, on_step=on_step)

    def charge(self, episodes: Episodes) -> Episodes:
        """Lower the rewards by the KL penalty, as `LMRolloutBuffer` does for PPO."""
        if self.kl is None:
            return episodes
        coef = self.kl.coef
        ratios = episodes.log_ratios(self.kl, self.policy.sampler, self.policy.lm).numpy()
        mean = self.kl.adapt(ratios)
        stats = {
            "kl": mean,
            "kl_coef": coef,
            "kl_penalty": coef * mean,
            "task_reward": float(episodes.rewards.mean()),
        }
        for name, value in stats.items():
            self.logger.record(f"rollout/{name}", value)
        charged = episodes.rewards - np.float32(coef) * ratios
        return replace(episodes, rewards=charged.astype(np.float32))

    def returns(self, episodes: Episodes) -> Floats:
        """``G_t = r_t + gamma G_(t+1)`` by step and text, float32 ``[T, N]``; 0 after the end."""
        return episodes.table(episodes.returns_to_go(self.settings.gamma))

    def baselines(self, episodes: Episodes, returns: Floats) -> Floats:
        """``b_t`` by step and text, float32 ``[T, N]``; it does not depend on the token at t."""
        if self.settings.baseline == "value":
            return episodes.table(episodes.values.numpy())
        if self.settings.baseline == "none":
            return np.zeros_like(returns)
        writing = episodes.lengths > np.arange(len(returns))[:, None]
        others = writing.sum(1, keepdims=True) - 1
        total = returns.sum(1, keepdims=True)
        mean = (total - returns) / np.maximum(others, 1) * (others > 0)
        return np.asarray(mean, dtype=np.float32)

    def loss(self, episodes: Episodes) -> Tensor:
        """The loss: its gradient is minus the estimate of grad J, and minus that of the bonus.

        The value head reads hidden states that it cannot change, so that the language model's
        gradient is that of the formula.
        """
        s, policy = self.settings, self.policy
        assert episodes.sequences is not None
        batch = episodes.sequences.to(self.device)
        actions = episodes.actions.to(self.device)
        returns = self.returns(episodes)
        advantages = returns - self.baselines(episodes, returns)
        weights = torch.from_numpy(episodes.flat(advantages)).to(self.device)

        hidden = sequence_hidden(policy.lm, batch)
        log_probs, entropy = score_actions(policy.lm, hidden, actions, policy.sampler, batch)
        gain = (log_probs * weights).sum() / len(episodes)
        loss: Tensor = -gain - s.ent_coef * entropy.sum() / len(episodes)
        self.logger.record("train/policy_gradient_loss", -gain.item())
        if s.baseline == "value":
            values = policy.value_net(hidden.detach().float())[:, 0]
            targets = torch.from_numpy(episodes.flat(returns)).to(self.device)
            value_loss = mse_loss(values, targets)
            self.logger.record("train/value_loss", value_loss.item())
            explained = explained_variance(episodes.values.numpy(), episodes.flat(returns))
            self.logger.record("train/explained_variance", float(explained))
            loss = loss + s.vf_coef * value_loss
        return loss

    def update(self, episodes: Episodes) -> None:
        """One step of gradient ascent."""
        self.policy.set_training_mode(True)
        self.policy.optimizer.zero_grad()
        self.loss(episodes).backward()  # type: ignore[no-untyped-call]
        parameters = self.policy.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)
        self.logger.record("train/grad_norm", norm.item())
        self.policy.optimizer.step()

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Choose one token a row, as `predict` of Stable-Baselines3's algorithms."""
        return self.policy.predict(observation, state, episode_start, deterministic)

    def save(self, path: str) -> None:
        """Write the policy, to ``path`` with the ending .safetensors, for `LMPolicy.load`."""
        self.policy.save(Path(path).with_suffix(".safetensors"))

    def describe(self) -> dict[str, Any]:
        """The settings that another agent must share to continue this training."""
        weights = {name: tuple(value.shape) for name, value in self.policy.state_dict().items()}
        kl: dict[str, Any] | None = None
        if self.kl is not None:
            kl = {"target": self.kl.target, "reference": self.kl.fingerprint}
            if self.kl.target is None:
                kl["coef"] = self.kl.coef
        own = {"gamma": self.settings.gamma, "baseline": self.settings.baseline}
        return {**own, "kl": kl, "weights": weights}

    def get_state(self) -> dict[str, Any]:
        """The state of the training, for checkpoints."""
        return {
            "policy": dict(self.policy.state_dict()),
            "optimizer": self.policy.optimizer.state_dict(),
            "kl_coef": self.kl and self.kl.coef,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `get_state`, with the learning rate of these settings."""
        self.policy.load_state_dict(state["policy"])
        self.policy.optimizer.load_state_dict(state["optimizer"])
        update_learning_rate(self.policy.optimizer, self.rate(1.0))
        if self.kl is not None:
            self.kl.coef = state["kl_coef"]

    def set_logger(self, logger: Logger) -> None:
        """Log there from now on."""
        self.logger = logger

    def get_env(self) -> VecEnv:
        """The environment, for callbacks."""
        return self.env

    def get_vec_normalize_env(self) -> VecNormalize | None:
        """The layer that normalises, for callbacks."""
        return unwrap_vec_normalize(self.env)

    def _callbacks(self, given: Callbacks, progress_bar: bool) -> CallbackList:
        entries = given if isinstance(given, list) else [] if given is None else [given]
        heard = [
            each if isinstance(each, BaseCallback) else ConvertCallback(each) for each in entries
        ]
        if progress_bar:
            heard.append(ProgressBarCallback())
        callbacks = CallbackList(heard)
        callbacks.init_callback(self)  # type: ignore[arg-type]
        return callbacks


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> Reinforce:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.

    Raises:
        SettingsError: If the baseline is the mean of other rows, and there is only one row.
    """
    s = settings or Settings()
    if s.baseline == "mean" and venv.num_envs < 2:
        raise SettingsError(
            "--baseline mean compares a text with those of other rows, and there is one row; use "
            "--baseline value or --baseline none"
        )
    return Reinforce(venv, seed, s, s.policy_kwargs(starting_model(venv, s.lm, seed, s.out)))


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("reinforce", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.reinforce", Settings(), __doc__, main)
