"""The environment of a run, from its settings."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any, Literal, Protocol

import gymnasium as gym
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv

import textgym
from textgym.errors import RewardError, SettingsError, UnknownArgumentError
from textgym.registry import REWARDS
from textgym.sb3 import make_vec_env


class EnvSettings(Protocol):
    """The settings that an environment is made from; `agents.running.run.RunSettings` has them."""

    prompts: str | None
    eval_prompts: str | None
    eval_share: float | None
    reward: str | None
    lm: str | None
    level: int | None
    chat: Literal["auto", "true", "false"] | None
    max_prompt_tokens: int | None
    max_new_tokens: int | None
    env_kwargs: dict[str, Any]

    @property
    def env_id(self) -> str:
        """The environment id."""

    def wrap(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Wrap the batch as the agent needs it."""


def load_reward(spec: str | None) -> Any:
    """Import a reward given as ``module:function``; a registered name is returned as it is.

    Raises:
        RewardError: If there is no such module or function, or the name needs options.
    """
    if spec is None:
        return None
    if ":" not in spec:
        _check_name(spec)
        return spec
    try:
        return load_function(spec)
    except SettingsError as error:
        module, _, name = spec.partition(":")
        # The module may have registered it under another name than the attribute's.
        if name in REWARDS and getattr(REWARDS.get(name), "__module__", None) == module:
            _check_name(name)
            return name
        raise RewardError(
            f"--reward {error}, or a registered name: {', '.join(textgym.registered_rewards())}"
        ) from None


def load_function(spec: str) -> Any:
    """Import ``module:function``; the working directory is on the path.

    Raises:
        SettingsError: If there is no such module or function.
    """
    module, _, function = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    names = [*module.split("."), function]
    advice = f"give module:function with {names[0] or 'module'}.py in {os.getcwd()} or installed"
    if module.endswith(".py"):
        plain = f"{module.removesuffix('.py')}:{function}"
        raise SettingsError(f"{spec}: leave the ending .py out; write {plain}")
    if not all(name.isidentifier() for name in names):
        raise SettingsError(f"{spec}: this is not module:function; {advice}")
    try:
        return getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise SettingsError(f"{spec}: {error}; {advice}") from None


def _check_name(name: str) -> None:
    try:
        textgym.make_reward(name)
    except RewardError as error:
        if name not in textgym.registered_rewards():
            raise
        raise RewardError(
            f"--reward {name}: {error}. A flag takes no options: write `my_reward = "
            f'textgym.make_reward("{name}", ...)` in my_module.py, and give --reward '
            "my_module:my_reward (module:function)"
        ) from None


_CHAT = {None: None, "auto": "auto", "true": True, "false": False}

EVAL_SHARE = 0.1
"""Share of a user's prompts that is held out where they have no evaluation split."""


def own_prompts(settings: EnvSettings) -> Any:
    """The user's prompts; None where the task's own are used."""
    return settings.prompts or settings.env_kwargs.get("prompts")


def _held_out_share(settings: EnvSettings) -> float | None:
    """Share of the prompts that is held out; None where the prompts have a split of their own."""
    if own_prompts(settings) is None or settings.eval_prompts is not None:
        return None
    share = EVAL_SHARE if settings.eval_share is None else settings.eval_share
    return share or None


def make_env(
    settings: EnvSettings,
    n_envs: int,
    seed: int,
    split: str,
    prompts: Any = None,
    **chosen: Any,
) -> VecEnv:
    """Build the vector environment that the settings describe.

    Args:
        settings: The settings.
        n_envs: Number of rows.
        seed: Seed of the first row.
        split: The split of the prompts.
        prompts: Replace the prompts of the settings.
        **chosen: Further arguments of the environment, set by the agent.

    Raises:
        SettingsError: If there is no such environment, an argument is unknown or given twice, or
            the language model cannot write the environment's words.
    """
    flags: dict[str, Any] = {
        "prompts": settings.prompts,
        "reward": load_reward(settings.reward),
        "tokenizer": settings.lm,
        "level": settings.level,
        "chat": _CHAT[settings.chat],
        "max_prompt_tokens": settings.max_prompt_tokens,
        "max_new_tokens": settings.max_new_tokens,
        "eval_share": _held_out_share(settings),
    }
    given = {name: value for name, value in flags.items() if value is not None}
    for name in settings.env_kwargs:
        if name in given and name != "eval_share":
            flag = "lm" if name == "tokenizer" else name.replace("_", "-")
            raise SettingsError(f"--env-kwargs and --{flag} both set {name}; leave one of them out")
        if name in ("split", "eval_share", "num_envs", "n_envs", "seed", *chosen):
            raise SettingsError(f"--env-kwargs: {name} is set by the run itself; leave it out")
    kwargs = {**given, **settings.env_kwargs, **chosen, "split": split}
    if prompts is not None:
        kwargs = {**kwargs, "prompts": prompts}
        kwargs.pop("level", None)  # The level of a built-in task does not apply to other prompts.
    try:
        venv = make_vec_env(
            settings.env_id, n_envs=n_envs, seed=seed, wrapper=settings.wrap, **kwargs
        )
    except (gym.error.Error, ModuleNotFoundError) as error:
        known = ["TextGen-v0", *textgym.registered_tasks()]
        name = settings.env_id.rpartition("/")[2].removesuffix("-v0")
        short = {id.removeprefix("TextGen/").removesuffix("-v0"): id for id in known}
        close = difflib.get_close_matches(name, short, n=1, cutoff=0.5)
        near = f"; did you mean {short[close[0]]!r}?" if close else ""
        # Gymnasium's own suggestions are among all environments.
        missing = near and isinstance(error, gym.error.NameNotFound)
        reason = "there is no such environment" if missing else f"{error}"
        raise SettingsError(
            f"--env {settings.env_id}: {reason}{near}; textgym has {', '.join(known)}; a task of "
            "yours is --env MODULE:ID, where MODULE calls textgym.register_task"
        ) from error
    except UnknownArgumentError as error:
        raise SettingsError(f"--env-kwargs: {error}") from error
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise SettingsError(
            f"--env-kwargs: {error}; help(textgym.TextGenVectorEnv) names the arguments"
        ) from error
    _check_words(settings, venv)
    return venv


def _check_words(settings: EnvSettings, venv: VecEnv) -> None:
    """Refuse a model whose tokenizer needs more tokens for a word than the budget has."""
    task_id = settings.env_id.rpartition(":")[2]
    if settings.lm is None or task_id not in textgym.registered_tasks():
        return
    budget = venv.get_attr("settings")[0].max_new_tokens
    (tokenizer,) = set(venv.get_attr("tokenizer"))
    for word in textgym.make_task(task_id).tokenizer or ():
        tokens = len(tokenizer.encode(word))
        if tokens > budget:
            raise SettingsError(
                f"{task_id} has a closed vocabulary, and {word!r} is {tokens} tokens of the "
                f"tokenizer of {settings.lm!r}, but its texts have at most {budget}: no text could "
                "be right. Leave --lm out, for a small new model of these words, or give "
                f"--max-new-tokens {tokens} or more"
            )
