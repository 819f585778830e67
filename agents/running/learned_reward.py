"""The reward that is learned from feedback, in the environment of a training."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from stable_baselines3.common.vec_env import VecEnv

import textgym
from agents.running.environments import EnvSettings, load_reward, own_prompts
from agents.running.learners import Learner, PairLearner, SpanLearner, SpanSettings
from agents.running.offers import OfferSettings
from textgym.errors import SettingsError
from textgym.feedback.simulated import SimulatedAnnotator
from textgym.rewards.preferences.ensemble import PreferenceEnsemble
from textgym.rewards.preferences.features import TextFeatures
from textgym.rewards.registry import RewardFunction
from textgym.rewards.spans.reward import SpanReward
from textgym.tasks import make_task
from textgym.tasks.sources.base import TaskReward


class LearnedRewardSettings(EnvSettings, Protocol):
    """The settings of the learned reward and of simulated annotators."""

    kind: Literal["pair", "spans", "edit"]
    reward_lm: str
    heads: int
    reward_scale: float
    simulate: int
    noise: float
    error_rate: float
    position_bias: float
    fatigue: float
    disagreement: float
    seed: int
    device: str


class LearnerSettings(OfferSettings, SpanSettings, Protocol):
    """The settings of all learners."""


def learned_reward(settings: LearnedRewardSettings) -> dict[str, Any]:
    """The arguments of the training's environment about its reward.

    ``info["reward_terms"]`` has three terms: ``preferences`` or ``spans``, which alone is rewarded;
    ``reward_version``; and the reward by which the agent is evaluated, if rows have what it needs.
    The rewards of tokens are also a potential, so that each word is paid when it is complete.
    """
    features = TextFeatures(settings.reward_lm, settings.device)
    learned: PreferenceEnsemble | SpanReward = SpanReward(features)
    if settings.kind == "pair":
        learned = PreferenceEnsemble(features, settings.heads, settings.seed)
    reward: dict[str | RewardFunction, float] = {learned: settings.reward_scale}
    reward[learned.reward_version] = 0.0
    if settings.reward is not None:
        reward[load_reward(settings.reward)] = 0.0
    elif own_prompts(settings) is None and _task_id(settings) in textgym.registered_tasks():
        reward[TaskReward(make_task(_task_id(settings), settings.level))] = 0.0
    if isinstance(learned, SpanReward):
        return {"reward": reward, "step_reward": {learned.potential: settings.reward_scale}}
    return {"reward": reward}


def learner_of(venv: VecEnv, settings: LearnerSettings) -> Learner:
    """The learner of the reward of an environment.

    Raises:
        SettingsError: If its reward is not learned, or its texts cannot be judged as texts.
    """
    env = venv.get_attr("settings")[0]
    for what, has in (("several turns", env.conversation), ("pictures", env.pictures)):
        if has is not None:
            raise SettingsError(
                f"{env.name} has {what}, and people judge texts that continue a prompt; choose a "
                "task without"
            )
    learned = next(iter(env.reward.functions.values()))
    if isinstance(learned, PreferenceEnsemble):
        return PairLearner(settings, learned)
    if isinstance(learned, SpanReward):
        return SpanLearner(settings, learned)
    raise SettingsError(
        f"{env.name}: the reward is {', '.join(env.reward.terms)}, and not learned from "
        "judgements; make the environment with Settings().train_kwargs"
    )


def simulated_annotators(settings: LearnedRewardSettings) -> list[SimulatedAnnotator]:
    """The simulated annotators that the settings ask for.

    Raises:
        SettingsError: If there is no task whose score they could know.
    """
    if not settings.simulate:
        return []
    if _task_id(settings) not in textgym.registered_tasks():
        raise SettingsError(
            f"--simulate {settings.simulate}: simulated annotators know the score of a task, and "
            f"{settings.env_id} is not a task; choose one: --env {textgym.registered_tasks()[0]}, "
            "for example; or let people judge"
        )
    task = make_task(_task_id(settings), settings.level)
    return [
        SimulatedAnnotator(
            task,
            f"simulated {number + 1}",
            temperature=settings.noise,
            error_rate=settings.error_rate,
            position_bias=settings.position_bias,
            fatigue=settings.fatigue,
            disagreement=settings.disagreement,
            seed=settings.seed,
        )
        for number in range(settings.simulate)
    ]


def _task_id(settings: EnvSettings) -> str:
    """The environment id without the module that registers it."""
    return settings.env_id.rpartition(":")[2]
