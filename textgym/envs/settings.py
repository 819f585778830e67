"""What the environments' arguments mean: from what a user writes to what the batch runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from textgym.envs.arguments import (
    MAX_BUDGET,
    Arguments,
    PromptOverflow,
    choice,
    flag,
    fraction,
    whole,
)
from textgym.envs.prompts.chat import ChatSource, OnUserText, chat_template
from textgym.envs.stopping import StopStrings
from textgym.errors import (
    RewardError,
    SettingsError,
    TextGymError,
    TokenizerError,
    naming,
    near_matches,
    shown,
)
from textgym.rewards.combine import RewardSpec, RewardSum
from textgym.tasks.base import SPLITS, Task
from textgym.tasks.registry import check_registered, make_task
from textgym.tasks.sources.base import CompletedSource, Source, TaskSource
from textgym.tasks.sources.lists import OnBadRow
from textgym.tasks.sources.loading import make_source
from textgym.tokenization import ChatTemplate, Tokenizer, load_tokenizer

_OVERFLOWS = {
    "error": "refuse the prompt",
    "left": "cut that side off",
    "right": "cut that side off",
    "skip": "take another prompt",
}

_BAD_ROWS = {"error": "refuse the data", "skip": "leave out rows that cannot be used"}

DEFAULT_TASK = "TextGen/Sentiment-v0"
"""Prompts and reward of ``TextGen-v0`` when none are given."""

_ROWS_LOOKED_AT = 10_000
"""Rows whose columns are looked up where the first one lacks what a reward asks for."""

DEFAULT_BUDGET = 64
"""Prompt tokens, and new tokens, where neither the user nor a task says how many."""


@dataclass(frozen=True)
class Settings:
    """The resolved settings of an environment; see :func:`resolve` for their meaning."""

    name: str
    source: Source
    tokenizer: Tokenizer
    reward: RewardSum
    step_reward: RewardSum | None
    step_reward_gamma: float
    costs: RewardSum | None
    max_prompt_tokens: int
    max_new_tokens: int
    stops: StopStrings
    prompt_overflow: PromptOverflow
    stop_at_eos: bool
    split: str
    max_episode_steps: int | None
    on_bad_row: OnBadRow = "error"
    chat: ChatTemplate | None = None
    """What renders the prompts, where they are messages."""
    conversation: Task | None = None
    """The other side, where the agent has several turns."""
    pictures: Task | None = None
    """What draws the pictures, where the policy sees one beside the text."""

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Shape of the picture that the policy sees, if it sees one."""
        return None if self.pictures is None else self.pictures.image_shape

    @property
    def end_id(self) -> int | None:
        """The token with which a writer is to end a text: in a chat the one that ends a turn."""
        if self.chat is None:
            return self.tokenizer.eos_id
        first = self.tokenizer.encode(self.chat.end_of_turn().strip())[:1]
        return first[0] if first and first[0] in self.tokenizer.ends else self.tokenizer.eos_id

    @property
    def width(self) -> int:
        """Length of an observation in tokens."""
        return self.max_prompt_tokens + self.max_new_tokens


def resolve(given: Arguments, max_episode_steps: int | None = None) -> Settings:
    """Check an environment's arguments and turn them into objects.

    The arguments are documented at :class:`textgym.envs.TextGenEnv`. What is not given comes from
    the task, and where there is no task from the defaults of ``TextGen-v0``.

    Raises:
        TextGymError: If an argument has an impossible value; the message says which.
    """
    if given.task is not None:
        known = isinstance(given.task, str) and len(given.task) < 200
        with naming(given.task if known else "TextGen-v0"):
            check_registered(given.task)
    name = given.task or "TextGen-v0"
    given = _checked(name, given)
    with naming(name):
        source, defaults = _source(given)
    # Budgets, stops and words are the task's wherever it is the task that is played, on its own
    # rows or on a user's; TextGen-v0 keeps its own budgets.
    at_eos = bool(_first(given.stop_at_eos, defaults and defaults.stop_at_eos, True))
    words = _tokenizer(name, given, defaults, at_eos)
    if given.stop is not None and (
        isinstance(given.stop, str) or not isinstance(given.stop, Sequence)
    ):
        raise SettingsError(
            f"{name}: stop={shown(given.stop)} is not a list; give a list of stop strings"
        )
    with naming(name):
        template = chat_template(name, given.chat, source, words)
        if template is not None:
            source = ChatSource(source, template)
    conversation = defaults if defaults is not None and defaults.max_turns > 1 else None
    with naming(name):
        stops = StopStrings(_first(given.stop, defaults and defaults.stop, ()), words)
        scored_by = source.default_reward() if given.reward is None else given.reward
        prompt_budget = source.prompt_budget(words)
    if conversation is not None and not at_eos and not stops:
        raise SettingsError(
            f"{name}: nothing would end the agent's turns in this conversation; use a tokenizer "
            "with an eos token and stop_at_eos=True, or give stop=[...]"
        )
    if max_episode_steps is not None:
        max_episode_steps = whole(name, "max_episode_steps", max_episode_steps, least=1)
    rewarded = _reward(name, scored_by)
    shaping = None
    if given.step_reward is not None:
        shaping = _reward(f"{name}, step_reward", given.step_reward, False)
    costs = given.costs
    if costs is None and defaults is not None:
        costs = defaults.costs()
        if template is not None:
            costs = {term: OnUserText(cost) for term, cost in costs.items()}
    costed = _costs(name, costs)
    _check_columns(source, [rewarded, shaping, costed], talks=conversation is not None)
    budgets = {
        "max_prompt_tokens": _first(
            given.max_prompt_tokens,
            defaults and defaults.max_prompt_tokens,
            prompt_budget,
            DEFAULT_BUDGET,
        ),
        "max_new_tokens": _first(
            given.max_new_tokens, defaults and defaults.max_new_tokens, DEFAULT_BUDGET
        ),
    }
    return Settings(
        name=name,
        source=source,
        tokenizer=words,
        reward=rewarded,
        step_reward=shaping,
        step_reward_gamma=fraction(name, "step_reward_gamma", given.step_reward_gamma),
        costs=costed,
        max_prompt_tokens=_budget(name, "max_prompt_tokens", budgets["max_prompt_tokens"]),
        max_new_tokens=_budget(name, "max_new_tokens", budgets["max_new_tokens"], least=1),
        stops=stops,
        prompt_overflow=given.prompt_overflow,
        stop_at_eos=at_eos,
        split=given.split,
        on_bad_row=given.on_bad_row,
        chat=template,
        max_episode_steps=max_episode_steps,
        conversation=conversation,
        pictures=defaults if defaults is not None and defaults.image_shape is not None else None,
    )


def _checked(name: str, given: Arguments) -> Arguments:
    """The arguments, with flags and numbers of numpy as Python's own."""
    if not isinstance(given.split, str) or given.split not in SPLITS:
        raise SettingsError(
            f"{name}: there is no split {shown(given.split)}{near_matches(given.split, SPLITS)}; "
            f"use one of {list(SPLITS)}"
        )
    stop_at_eos, level, share = given.stop_at_eos, given.level, given.eval_share
    stop_at_eos = None if stop_at_eos is None else flag(name, "stop_at_eos", stop_at_eos)
    level = None if level is None else whole(name, "level", level)
    overflow = choice(name, "prompt_overflow", given.prompt_overflow, _OVERFLOWS)
    on_bad_row = choice(name, "on_bad_row", given.on_bad_row, _BAD_ROWS)
    if share is not None:
        share = fraction(name, "eval_share", share)
        if not 0 < share < 1:
            raise SettingsError(f"{name}: eval_share={share!r} has to be between 0 and 1")
    return replace(
        given,
        stop_at_eos=stop_at_eos,
        level=level,
        prompt_overflow=cast(PromptOverflow, overflow),
        on_bad_row=cast(OnBadRow, on_bad_row),
        eval_share=share,
    )


def _tokenizer(name: str, given: Arguments, defaults: Task | None, at_eos: bool) -> Tokenizer:
    """The tokenizer that is given, or the task's."""
    spec = given.tokenizer
    if spec is None and defaults is not None and defaults.tokenizer is not None:
        spec = list(defaults.tokenizer)
    with naming(name):
        words = load_tokenizer(spec, add_eos=at_eos)
    if at_eos and words.eos_id is None:
        raise TokenizerError(
            f"{name}: the tokenizer {words.name!r} has no end-of-sequence token; pass a tokenizer "
            "that names one (eos_token=...), or stop_at_eos=False"
        )
    return words


def _source(given: Arguments) -> tuple[Source, Task | None]:
    """Where prompts come from, and the task whose budgets and words are the defaults."""
    task, prompts, split, level = given.task, given.prompts, given.split, given.level
    if prompts is None:
        played = TaskSource(make_task(task or DEFAULT_TASK, level, split))
        return played, played.task if task else None
    own = make_task(task, None, split) if task else None
    convert = own.convert if own else None
    source = make_source(
        prompts, split, level, convert, on_bad_row=given.on_bad_row, eval_share=given.eval_share
    )
    if isinstance(source, TaskSource):
        return source, source.task
    if own is None:
        return source, None
    judged = given.reward is None  # The task's reward judges rows that are not its own.
    # The other side of a conversation, costs and pictures read the same columns as the score.
    read = judged or own.max_turns > 1 or own.costs() or own.image_shape is not None
    if not read:
        return source, own
    return CompletedSource(source, own, judged, skip=given.on_bad_row == "skip"), own


def _first(*values: Any) -> Any:
    """The first value that is given."""
    return next(value for value in values if value is not None)


def _check_columns(source: Source, sums: Sequence[RewardSum | None], talks: bool) -> None:
    """Refuse functions that cannot be called for the source's rows, where these are known."""
    if source.size is None or not source.repeatable:
        return
    added = ("completion_ids", "finish_reason", *(("turns", "replies") if talks else ()))
    names = dict.fromkeys((*source.item(0), *added))
    try:
        for one in sums:
            if one is not None:
                one.check_columns(name for name in names if name != "prompt")
    except RewardError:
        # Later rows may have columns that the first one lacks.
        for index in range(min(source.size, _ROWS_LOOKED_AT)):
            names.update(dict.fromkeys(source.item(index)))
        for one in sums:
            if one is not None:
                one.check_columns(name for name in names if name != "prompt")


def _reward(where: str, spec: RewardSpec, warn: bool = True) -> RewardSum:
    try:
        return RewardSum(spec, where, warn)
    except TextGymError:
        raise
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{where}: the reward {shown(spec)} cannot be used: {error}") from error


def _costs(name: str, costs: Mapping[str, Any] | None) -> RewardSum | None:
    """Costs are named functions with weight one; their sum is ``info["cost"]``."""
    if costs is None:
        return None
    if not isinstance(costs, Mapping):
        raise SettingsError(
            f"{name}: costs={shown(costs)} is not a dictionary of a name and a function"
        )
    return RewardSum.named(costs, f"{name}, costs", warn=False) if costs else None


def _budget(name: str, argument: str, value: Any, least: int = 0) -> int:
    """A number of tokens."""
    why = " tokens, more than any model reads"
    return whole(name, argument, value, least, MAX_BUDGET, why)
