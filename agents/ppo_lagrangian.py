"""PPO under a constraint: the highest reward whose mean cost stays below a limit.

    python -m agents.ppo_lagrangian --env TextGen/Moderate-v0 --cost-limit 0.1
    python -m agents.ppo_lagrangian --help

An environment reports costs in ``info["cost"]``, next to the reward. PPO-Lagrangian (Ray et al.
2019, "Benchmarking Safe Exploration in Deep Reinforcement Learning") seeks the saddle point of

    E[reward] - multiplier * (E[cost] - limit),    multiplier >= 0,

and updates both after each rollout: the multiplier by a step along its gradient, mean cost - limit,
and then the policy by PPO. Plain gradient ascent of the multiplier oscillates around the saddle
point, so the multiplier is a PID controller with that ascent as its integral part (Stooke et al.
2020, https://arxiv.org/abs/2007.03964); the proportional part damps the oscillation.

There is one value function, of reward - multiplier * cost, instead of one for each: advantage
estimates are linear in the rewards, so the advantage of the difference is the difference of the
advantages. (With two, the baseline would not have to follow the multiplier.) Reward, cost and KL
penalty are all divided by 1 + multiplier, as in both papers: this keeps the scale of the value
function's targets, and does not change the optimum.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from agents.running.command_line import check_flags, command_line
from agents.running.run import CriticSettings, StepSettings, run
from agents.running.validation import above, at_least, within
from agents.running.word_model import starting_model


@dataclass
class Settings(CriticSettings, StepSettings):
    """Settings of PPO-Lagrangian, on top of those of every run: the constraint's, then PPO's."""

    cost_limit: float = 0.1
    """Limit of the mean cost per episode."""
    multiplier: float = 0.0
    """Initial value of the multiplier: the reward that a unit of cost costs. Never below 0."""
    multiplier_lr: float = 0.2
    """Integral gain: the change of the multiplier per rollout and unit of cost above the limit."""
    multiplier_kp: float = 1.0
    """Proportional gain: added per unit of the current mean cost above the limit."""
    multiplier_kd: float = 0.0
    """Derivative gain: added per unit by which the mean cost has risen since the last rollout."""
    normalize_advantage: bool = False
    """Divide advantages by their standard deviation. At the saddle point that amplifies noise."""
    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 6e-4
    """Learning rate of Adam."""
    n_steps: int = 32
    """Tokens per row and rollout: a rollout has n_steps * n_envs tokens."""
    n_epochs: int = 1
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
    vf_coef: float = 0.1
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
        at_least(0, kl_coef=self.kl_coef)
        at_least(0, clip_range=self.clip_range, ent_coef=self.ent_coef, vf_coef=self.vf_coef)
        at_least(1, n_steps=self.n_steps, n_epochs=self.n_epochs, minibatches=self.minibatches)
        within(0, 1, gamma=self.gamma, gae_lambda=self.gae_lambda)
        above(0, kl_target=self.kl_target)
        names = ("multiplier", "multiplier_lr", "multiplier_kp", "multiplier_kd")
        at_least(0, **{name: getattr(self, name) for name in names})

    @property
    def env_id(self) -> str:
        """The environment id, with its default resolved: a task with costs."""
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
        kd: Gain of the derivative part, which applies to rising costs only.
        value: The multiplier.
        integral: Its integral part.
        before: The mean cost of the previous rollout.
    """

    limit: float
    ki: float
    kp: float = 0.0
    kd: float = 0.0
    value: float = 0.0
    integral: float = 0.0
    before: float | None = None

    def update(self, mean_cost: float) -> None:
        """Update the multiplier with the mean cost of a rollout's episodes."""
        above = mean_cost - self.limit
        risen = 0.0 if self.before is None else max(0.0, mean_cost - self.before)
        self.integral = max(0.0, self.integral + self.ki * above)
        self.value = max(0.0, self.kp * above + self.integral + self.kd * risen)
        self.before = mean_cost


class Costs(VecEnvWrapper):
    """Records the costs of a rollout, and holds the multiplier, so that checkpoints have both.

    Args:
        venv: Environment with ``info["cost"]`` at the end of each episode, or at each step.
        multiplier: The multiplier.

    Attributes:
        multiplier: The same.
        rewards: The rewards of the rollout, one array ``[N]`` per step.
        costs: The costs of the rollout, one array ``[N]`` per step.
        episode_costs: The total costs of the episodes that ended in the rollout.

    Raises:
        SettingsError: If the environment has no costs.
    """

    def __init__(self, venv: VecEnv, multiplier: Multiplier) -> None:
        super().__init__(venv)
        self.reset_infos = venv.reset_infos  # SB3 fills the list of the inner environment alone.
        if venv.has_attr("settings") and getattr(venv.get_attr("settings")[0], "costs", 0) is None:
            raise _no_costs()
        self.multiplier = multiplier
        self._running = np.zeros(venv.num_envs)
        self.start_rollout()

    def start_rollout(self) -> None:
        """Clear the records of the last rollout."""
        self.rewards: list[np.ndarray] = []
        self.costs: list[np.ndarray] = []
        self.episode_costs: list[float] = []

    def reset(self) -> Any:
        """Start new episodes."""
        self._running[:] = 0
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and record rewards and costs."""
        obs, rewards, dones, infos = self.venv.step_wait()
        if any(done and "cost" not in info for info, done in zip(infos, dones, strict=True)):
            raise _no_costs()
        costs = np.array([info.get("cost", 0.0) for info in infos], dtype=np.float32)
        self.rewards.append(rewards.copy())
        self.costs.append(costs)
        self._running += costs
        self.episode_costs += self._running[dones].tolist()
        self._running[dones] = 0
        return obs, rewards, dones, infos

    def get_state(self) -> dict[str, Any]:
        """The state for checkpoints."""
        return {"multiplier": asdict(self.multiplier), "running": self._running.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `get_state`.

        Raises:
            SettingsError: If its multiplier has another limit or other gains.
        """
        theirs, ours = Multiplier(**state["multiplier"]), self.multiplier
        for name in ("limit", "ki", "kp", "kd"):
            if getattr(theirs, name) != getattr(ours, name):
                raise SettingsError(
                    f"the multiplier of the checkpoint had {name}={getattr(theirs, name)}, and "
                    f"this one has {getattr(ours, name)}; use the same"
                )
        self.multiplier, self._running = theirs, np.array(state["running"])


class LagrangianPPO(PPO):
    """PPO that subtracts the costs from a complete rollout; its environment is a :class:`Costs`.

    The multiplier belongs to the environment, ``agent.env.multiplier``. Checkpoints contain it, but
    the file of ``save`` does not: that is a plain PPO, except for further training.
    """

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Collect a rollout, update the multiplier, and estimate advantages with it.

        Raises:
            SettingsError: If the environment is not wrapped in `Costs`.
        """
        record = unwrap_vec_wrapper(env, Costs)
        if record is None:
            raise SettingsError(
                "PPO-Lagrangian needs an agents.ppo_lagrangian.Costs(venv, multiplier), which "
                "records costs; wrap the environment in it"
            )
        assert isinstance(rollout_buffer, LMRolloutBuffer)
        record.start_rollout()
        # Decisions that wait for the end of their episode have been paid with this multiplier.
        rollout_buffer.waiting_kl_scale = 1 / (1 + record.multiplier.value)
        if not super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps):
            return False
        if record.episode_costs:  # Otherwise no episode's cost is known.
            mean_cost = float(np.mean(record.episode_costs))
            record.multiplier.update(mean_cost)
            self.logger.record("cost/mean", mean_cost)
        multiplier = record.multiplier.value
        self.logger.record("cost/multiplier", multiplier)

        # The buffer's rewards already have the KL penalty. For truncated episodes SB3 has added the
        # value of the final state, which already accounts for costs.
        values = rollout_buffer.task_rewards - np.stack(record.rewards)
        net = rollout_buffer.rewards - values - multiplier * np.stack(record.costs)
        rollout_buffer.rewards = (net / (1 + multiplier) + values).astype(np.float32)
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
        SettingsError: If the environment has no costs.
    """
    s = settings or Settings()
    multiplier = Multiplier(
        s.cost_limit, s.multiplier_lr, s.multiplier_kp, s.multiplier_kd, s.multiplier, s.multiplier
    )
    with_costs = Costs(venv, multiplier)
    lm = starting_model(venv, s.lm, seed, s.out)
    return LagrangianPPO(
        LMPolicy,
        with_costs,
        normalize_advantage=s.normalize_advantage,
        learning_rate=s.learning_rate,
        n_steps=s.n_steps,
        batch_size=max(2, s.n_steps * venv.num_envs // s.minibatches),
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
            "reference": s.reference(lm) if s.kl_coef else None,
            "reference_dtype": s.reference_dtype,
            "whole_episodes": s.whole_episodes,
        },
        policy_kwargs=s.policy_kwargs(lm),
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("ppo_lagrangian", settings, partial(make_agent, settings=settings))


def _no_costs() -> SettingsError:
    return SettingsError(
        "this environment has no info['cost'], so there is nothing to limit; use a task with costs "
        "(TextGen/Moderate-v0), pass costs={'name': function} to the environment, or use agents.ppo"
    )


if __name__ == "__main__":
    command_line("agents.ppo_lagrangian", Settings(), __doc__, main)
