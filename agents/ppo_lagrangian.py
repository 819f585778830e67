"""PPO under a constraint: the highest reward whose mean cost stays below a limit.

    python -m agents.ppo_lagrangian --env TextGen/Moderate-v0 --cost-limit 0.1
    python -m agents.ppo_lagrangian --help

Costs are what an environment tells in ``info["cost"]`` beside the reward. PPO-Lagrangian (Ray et
al. 2019, "Benchmarking Safe Exploration in Deep Reinforcement Learning") seeks the saddle point of

    E[reward] - multiplier * (E[cost] - limit),    multiplier >= 0,

and each rollout moves both sides once: the multiplier up its gradient, mean cost - limit, and then
the policy by PPO. Plain gradient ascent of the multiplier circles around the saddle point, so it is
a PID controller of which that ascent is the integral part (Stooke et al. 2020,
https://arxiv.org/abs/2007.03964): the proportional part damps.

There is one value function, of reward - multiplier * cost, not one for each: the estimate of
advantages is linear in the rewards, so the advantage of the difference is the difference of the
advantages. (A second one would only spare the baseline from following the multiplier.) Reward, cost
and KL penalty are all divided by 1 + multiplier, as in both papers: it keeps the scale of what the
value function learns, and the optimum stays where it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from agents.running.command_line import check_flags, command_line
from agents.running.run import RunSettings, run
from agents.running.validation import above, at_least, within
from agents.running.word_model import starting_model


@dataclass
class Settings(RunSettings):
    """Settings of PPO-Lagrangian, on top of those of every run: the constraint's, then PPO's."""

    cost_limit: float = 0.1
    """The mean cost of an episode that is not to be exceeded."""
    multiplier: float = 0.0
    """What a unit of cost takes off the reward, at first. It never falls below 0."""
    multiplier_lr: float = 0.2
    """How far the multiplier moves for each unit of mean cost above the limit, once a rollout."""
    multiplier_kp: float = 1.0
    """What a unit of mean cost above the limit adds as long as it lasts: the proportional part."""
    multiplier_kd: float = 0.0
    """What a unit by which the mean cost has risen adds at once: the derivative part."""
    normalize_advantage: bool = False
    """Divide advantages by their spread. At the saddle point they vanish: noise would be left."""
    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 5e-4
    """Learning rate of Adam."""
    n_steps: int = 32
    """Tokens per row and rollout: a rollout has n_steps * n_envs tokens."""
    n_epochs: int = 2
    """Passes over each rollout."""
    minibatches: int = 2
    """Gradient steps per pass over a rollout. Minibatches hold whole sequences."""
    gamma: float = 1.0
    """Discount. A text is judged as a whole, so its first token counts as much as its last."""
    gae_lambda: float = 0.97
    """Trade-off of the advantage estimate: 1 is Monte Carlo, 0 trusts the value function."""
    clip_range: float = 0.2
    """The probability ratio of a token is clipped to 1 - clip_range and 1 + clip_range."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    kl_coef: float = 0.02
    """Weight of the KL penalty, in reward per nat; the initial weight if --kl-target is given.
    With 0 there is no penalty and no reference model."""
    kl_target: float | None = 0.3
    """Adapt the weight to keep the KL near this many nats per token. None keeps it fixed."""
    whole_episodes: bool = True
    """Learn from a text when it is over, including the tokens that earlier rollouts wrote.
    Otherwise each rollout learns from its own tokens, and bootstraps the rest of the text."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(0, lr=self.lr, kl_coef=self.kl_coef)
        at_least(0, clip_range=self.clip_range, ent_coef=self.ent_coef, vf_coef=self.vf_coef)
        at_least(1, n_steps=self.n_steps, n_epochs=self.n_epochs, minibatches=self.minibatches)
        within(0, 1, gamma=self.gamma, gae_lambda=self.gae_lambda)
        above(0, kl_target=self.kl_target)
        names = ("multiplier", "multiplier_lr", "multiplier_kp", "multiplier_kd")
        at_least(0, **{name: getattr(self, name) for name in names})

    @property
    def env_id(self) -> str:
        """The environment id, with its default resolved: a task that has costs."""
        return self.env or ("TextGen-v0" if self.prompts else "TextGen/Moderate-v0")


if __name__ == "__main__":
    check_flags("agents.ppo_lagrangian", Settings(), __doc__)  # Before the slow imports.

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, unwrap_vec_wrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from textgym.errors import SettingsError
from textgym.sb3 import LMPolicy, LMRolloutBuffer


@dataclass
class Multiplier:
    """The Lagrange multiplier, a PID controller (Stooke et al. 2020, algorithm 2).

    With ``kp`` and ``kd`` at 0 it is projected gradient ascent.

    Attributes:
        limit: The limit of the mean cost.
        ki: Gain of the integral part, the learning rate of gradient ascent.
        kp: Gain of the proportional part.
        kd: Gain of the derivative part, which only counts where costs rise.
        value: The multiplier.
        integral: The integral part of it.
        before: The mean cost of the rollout before.
    """

    limit: float
    ki: float
    kp: float = 0.0
    kd: float = 0.0
    value: float = 0.0
    integral: float = 0.0
    before: float | None = None

    def update(self, mean_cost: float) -> None:
        """Take one step, with the mean cost of a rollout's episodes."""
        above = mean_cost - self.limit
        risen = 0.0 if self.before is None else max(0.0, mean_cost - self.before)
        self.integral = max(0.0, self.integral + self.ki * above)
        self.value = max(0.0, self.kp * above + self.integral + self.kd * risen)
        self.before = mean_cost


class Costs(VecEnvWrapper):
    """Takes down a rollout's costs, and keeps the multiplier, so that checkpoints have both.

    Args:
        venv: Environment that tells ``info["cost"]`` when an episode ends, or at each step.
        multiplier: The multiplier.

    Attributes:
        multiplier: The same.
        rewards: The rewards of the rollout, one array ``[N]`` a step.
        costs: Its costs, likewise.
        ended: The costs of the episodes that ended in it.

    Raises:
        SettingsError: If the environment tells no costs.
    """

    def __init__(self, venv: VecEnv, multiplier: Multiplier) -> None:
        super().__init__(venv)
        self.reset_infos = venv.reset_infos  # A wrapper's own list stays empty.
        if venv.has_attr("settings") and getattr(venv.get_attr("settings")[0], "costs", 0) is None:
            raise _no_costs()
        self.multiplier = multiplier
        self._running = np.zeros(venv.num_envs)
        self.start_rollout()

    def start_rollout(self) -> None:
        """Forget the last rollout."""
        self.rewards: list[np.ndarray] = []
        self.costs: list[np.ndarray] = []
        self.ended: list[float] = []

    def reset(self) -> Any:
        """Start new episodes."""
        self._running[:] = 0
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Take down what the step gave and what it cost."""
        obs, rewards, dones, infos = self.venv.step_wait()
        if any(done and "cost" not in info for info, done in zip(infos, dones, strict=True)):
            raise _no_costs()
        costs = np.array([info.get("cost", 0.0) for info in infos], dtype=np.float32)
        self.rewards.append(rewards.copy())
        self.costs.append(costs)
        self._running += costs
        self.ended += self._running[dones].tolist()
        self._running[dones] = 0
        return obs, rewards, dones, infos

    def get_state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"multiplier": asdict(self.multiplier), "running": self._running.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the multiplier of a checkpoint.

        Raises:
            SettingsError: If it had another limit or other gains.
        """
        theirs, ours = Multiplier(**state["multiplier"]), self.multiplier
        for name in ("limit", "ki", "kp", "kd"):
            if getattr(theirs, name) != getattr(ours, name):
                raise SettingsError(
                    f"the multiplier of the checkpoint had {name}={getattr(theirs, name)}, and "
                    f"this one has {getattr(ours, name)}; give it the same"
                )
        self.multiplier, self._running = theirs, np.array(state["running"])


class LagrangianPPO(PPO):
    """PPO that pays for costs when a rollout is complete; its environment is a :class:`Costs`.

    The multiplier is the environment's, ``agent.env.multiplier``: checkpoints hold it, but not what
    ``save`` writes, which is plain PPO to any use but more training.
    """

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Collect a rollout, move the multiplier, and estimate advantages with it.

        Raises:
            SettingsError: If the environment does not take costs down.
        """
        known = unwrap_vec_wrapper(env, Costs)
        if known is None:
            raise SettingsError(
                "PPO-Lagrangian learns in an agents.ppo_lagrangian.Costs(venv, multiplier), which "
                "takes costs down; wrap the environment in it"
            )
        assert isinstance(rollout_buffer, LMRolloutBuffer)
        known.start_rollout()
        if not super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps):
            return False
        if known.ended:  # Else nothing is known of an episode's cost.
            mean_cost = float(np.mean(known.ended))
            known.multiplier.update(mean_cost)
            self.logger.record("cost/mean", mean_cost)
        multiplier = known.multiplier.value
        self.logger.record("cost/multiplier", multiplier)

        # The KL penalty has been charged. Where an episode was cut off, SB3 has added the value of
        # what is missing, in which costs are paid for.
        values = rollout_buffer.task_rewards - np.stack(known.rewards)
        paid = rollout_buffer.rewards - values - multiplier * np.stack(known.costs)
        rollout_buffer.rewards = (paid / (1 + multiplier) + values).astype(np.float32)
        with torch.no_grad():
            last = obs_as_tensor(self._last_obs, self.device)  # type: ignore[arg-type]
            last_values = self.policy.predict_values(last)
        assert self._last_episode_starts is not None
        rollout_buffer.compute_returns_and_advantage(last_values, self._last_episode_starts)
        return True


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> LagrangianPPO:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids with costs, from `textgym.sb3.make_vec_env`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.

    Raises:
        SettingsError: If the environment tells no costs, or a setting is below 0.
    """
    s = settings or Settings()
    multiplier = Multiplier(
        s.cost_limit, s.multiplier_lr, s.multiplier_kp, s.multiplier_kd, s.multiplier, s.multiplier
    )
    paying = Costs(venv, multiplier)
    lm = starting_model(venv, s.lm, seed, s.out)
    return LagrangianPPO(
        LMPolicy,
        paying,
        normalize_advantage=s.normalize_advantage,
        learning_rate=s.lr,
        n_steps=s.n_steps,
        batch_size=max(2, s.n_steps * paying.num_envs // s.minibatches),
        n_epochs=s.n_epochs,
        gamma=s.gamma,
        gae_lambda=s.gae_lambda,
        clip_range=s.clip_range,
        ent_coef=s.ent_coef,
        vf_coef=s.vf_coef,
        max_grad_norm=s.max_grad_norm,
        rollout_buffer_class=LMRolloutBuffer,
        rollout_buffer_kwargs={
            "kl_coef": s.kl_coef,
            "kl_target": s.kl_target if s.kl_coef else None,
            "reference": lm if s.kl_coef else None,
            "whole_episodes": s.whole_episodes,
        },
        policy_kwargs={"lm": lm},
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("ppo_lagrangian", settings, partial(make_agent, settings=settings))


def _no_costs() -> SettingsError:
    return SettingsError(
        "this environment tells no info['cost'], so there is nothing to limit; use a task that has "
        "costs (TextGen/Moderate-v0), give the environment costs={'name': function}, or use "
        "agents.ppo"
    )


if __name__ == "__main__":
    command_line("agents.ppo_lagrangian", Settings(), __doc__, main)
