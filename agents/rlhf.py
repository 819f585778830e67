"""RLHF: PPO on a reward that is learned from people's judgements while they come in.

    python -m agents.rlhf --env TextGen/Story-v0 --store feedback.sqlite
    textgym feedback --store feedback.sqlite            # in another terminal: judge on a page
    python -m agents.rlhf --env TextGen/Story-v0 --simulate 3   # without people
    python -m agents.rlhf --help

Reinforcement learning from human preferences (Christiano et al. 2017,
https://arxiv.org/abs/1706.03741; for language models Ziegler et al. 2019,
https://arxiv.org/abs/1909.08593). After each rollout the present policy writes texts, and pairs of
them are put into the store. Whenever there are enough new judgements, an ensemble of Bradley-Terry
heads on a frozen language model is fitted to all of them, in a fraction of a second, and the next
rollout has the new reward. The training never waits for a person after the first fit; before it,
nothing is learned.

`--choose` decides which pairs people are asked about: any, those about which the heads disagree, or
those that might be best. A share is random in any case, for an unbiased estimate of the accuracy.
Some compare the present policy with the initial one: if the learned reward predicts more and more
wins, and people report fewer, the training warns, and then stops.

With `--kind spans` people mark good and bad parts of single texts instead, with `--kind edit` they
write better versions. Marks and changes are rewards of tokens (Wu et al. 2023,
https://arxiv.org/abs/2306.01693), which are learned in the same way.

Logged: ``feedback/labels``, ``feedback/reward_version``, ``feedback/held_out_accuracy``,
``feedback/held_out_log_loss``, ``feedback/win_rate``; and for evaluation only, never for training,
the true score where the environment has one, ``feedback/true_score``. The evaluations before and
after the training are of the true score too.

The algorithm is PPO as in agents/ppo.py; the loop around it is agents/running/feedback.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from agents.running.command_line import check_flags, command_line
from agents.running.run import CriticSettings, run
from agents.running.validation import above, at_least, within
from agents.running.word_model import starting_model
from textgym.errors import SettingsError


@dataclass
class Settings(CriticSettings):
    """Settings of the feedback, on top of those of every run, then those of PPO."""

    store: Path | None = None
    """File of the pairs and judgements, which `textgym feedback --store` opens too.
    Default: feedback.sqlite in the run's folder."""
    kind: Literal["pair", "spans", "edit"] = "pair"
    """People choose one of two texts, mark its good and bad parts, or write a better one.
    Marks and changes become rewards of tokens."""
    choose: Literal["random", "uncertainty", "thompson"] = "uncertainty"
    """Pairs to ask about: any, those on which heads differ most, or the best of two heads."""
    random_share: float = 0.2
    """Share of these pairs that is chosen at random, for an unbiased estimate of the accuracy."""
    labels: int = 300
    """Judgements after which nothing more is put into the store."""
    items: int = 16
    """Pairs, or texts to mark or edit, that are put into the store after each rollout."""
    duels: int = 2
    """How many of the pairs compare the present policy with the initial one."""
    candidates: int = 32
    """Prompts to which the policy writes texts after each rollout, from which pairs are chosen."""
    group_size: int = 4
    """Texts for each of these prompts."""
    refit_every: int = 16
    """New judgements after which the reward is fitted again."""
    reward_lm: str = "textgym/tiny"
    """Frozen language model whose hidden states the reward reads."""
    heads: int = 5
    """Heads of the reward's ensemble."""
    reward_scale: float = 0.2
    """Standard deviation of the reward on texts of the initial policy, like that of most tasks.
    With a larger one the value function outweighs the policy in their common model."""
    stop_rule: Literal["stop", "warn"] = "stop"
    """What to do when the learned reward rises while people's preference falls.
    stop: warn, and end the training if it continues. warn: only warn."""
    simulate: int = 0
    """Number of simulated annotators, who know the task's score. 0: people judge."""
    noise: float = 0.1
    """Noise of simulated annotators: a difference of the scores that is judged right with 73 %."""
    error_rate: float = 0.0
    """Share of random judgements of simulated annotators."""
    position_bias: float = 0.0
    """Log-odds with which simulated annotators favour the text on the left."""
    fatigue: float = 0.0
    """Increase of the error rate of a simulated annotator per 100 judgements."""
    disagreement: float = 0.0
    """Strength of the individual taste of simulated annotators."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    lr: float = 3e-4
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
        at_least(0, simulate=self.simulate, noise=self.noise, fatigue=self.fatigue)
        at_least(0, duels=self.duels, disagreement=self.disagreement)
        at_least(1, labels=self.labels, items=self.items, candidates=self.candidates)
        at_least(1, refit_every=self.refit_every, heads=self.heads)
        at_least(2, group_size=self.group_size)
        within(0, 1, random_share=self.random_share, error_rate=self.error_rate)
        at_least(0, kl_coef=self.kl_coef)
        at_least(0, clip_range=self.clip_range, ent_coef=self.ent_coef, vf_coef=self.vf_coef)
        at_least(1, n_steps=self.n_steps, n_epochs=self.n_epochs, minibatches=self.minibatches)
        within(0, 1, gamma=self.gamma, gae_lambda=self.gae_lambda)
        above(0, kl_target=self.kl_target, reward_scale=self.reward_scale)
        if self.labels < self.refit_every:
            raise SettingsError(
                f"--labels {self.labels} is less than --refit-every {self.refit_every}, so that "
                "nothing would be learned; raise it"
            )

    @property
    def train_kwargs(self) -> dict[str, Any]:
        """The learned reward with its version, and the true score, which is only reported."""
        from agents.running.learned_reward import learned_reward

        return {**super().train_kwargs, **learned_reward(self)}


if __name__ == "__main__":
    check_flags("agents.rlhf", Settings(), __doc__)  # Before the slow imports.

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.running.feedback import FeedbackLoop
from agents.running.learned_reward import learner_of, simulated_annotators
from textgym.sb3 import Checkpoints, LMPolicy, LMRolloutBuffer


class RLHF(PPO):
    """Stable-Baselines3's PPO, with a step for feedback between a rollout and its update.

    Attributes:
        feedback: The loop; set after the construction. A loaded agent has none: it only predicts.
    """

    feedback: FeedbackLoop

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int
    ) -> bool:
        """Collect a rollout, then exchange texts for judgements.

        Returns:
            False if a callback or the stop rule ends the training.
        """
        goes_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        return goes_on and self.feedback.after_rollout(self, _stopping(callback))

    def train(self) -> None:
        """Update the policy, unless the rollout was before the first fit, without a reward."""
        if self.feedback.learner.version > 0:
            super().train()

    def describe(self) -> dict[str, Any]:
        """The settings that another agent must share to continue this training."""
        return {"reward": self.feedback.describe()}

    def get_state(self) -> dict[str, Any]:
        """The state of the feedback, for checkpoints."""
        return self.feedback.state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `get_state`."""
        self.feedback.set_state(state)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "feedback"]


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> RLHF:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, whose reward is that of `Settings.train_kwargs`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.

    Raises:
        SettingsError: If the environment has another reward, several turns or pictures, or there is
            no task that could simulate annotators.
    """
    s = settings or Settings()
    learner = learner_of(venv, s)
    lm = starting_model(venv, s.lm, seed, s.out)
    agent = RLHF(
        LMPolicy,
        venv,
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
    agent.feedback = FeedbackLoop(s, learner, simulated_annotators(s))
    return agent


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("rlhf", settings, partial(make_agent, settings=settings))


def _stopping(callback: BaseCallback) -> Callable[[], bool]:
    """Whether a callback is asked to end the training at the end of the update."""
    every = getattr(callback, "callbacks", [callback])
    checkpoints = [one for one in every if isinstance(one, Checkpoints)]
    return lambda: any(one.stopping for one in checkpoints)


if __name__ == "__main__":
    command_line("agents.rlhf", Settings(), __doc__, main)
