"""The resolved settings of an environment, made from its arguments."""

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
    shown,
)
from textgym.rewards.combine import RewardSpec, RewardSum
from textgym.rewards.registry import RewardFunction
from textgym.tasks.base import SPLITS, DenseAt, Task
from textgym.tasks.judgement import MARKS
from textgym.tasks.registry import check_registered, make_task
from textgym.tasks.sources.base import CompletedSource, Source, TaskPotential, TaskSource
from textgym.tasks.sources.lists import OnBadRow
from textgym.tasks.sources.loading import make_source
from textgym.tokenization import ChatTemplate, MarkedTokens, Tokenizer, load_tokenizer

_OVERFLOWS = {
    "error": "refuse the prompt",
    "left": "truncate that side",
    "right": "truncate that side",
    "skip": "draw another prompt",
}

_BAD_ROWS = {"error": "refuse the data", "skip": "leave out invalid rows"}

DEFAULT_TASK = "TextGen/Sentiment-v0"
"""Prompts and reward of ``TextGen-v0`` when none are arguments."""

DEFAULT_BUDGET = 64
"""Default of ``max_prompt_tokens`` and ``max_new_tokens``."""

# Maximal number of rows searched for the columns of a reward that the first row lacks.
_MAX_SEARCHED_ROWS = 10_000


@dataclass(frozen=True)
class Settings:
    """The resolved settings of an environment; see :func:`resolve` for their meaning."""

    name: str
    source: Source
    tokenizer: Tokenizer
    reward: RewardSum
    step_reward: RewardSum | None
    step_reward_gamma: float
    dense_at: DenseAt
    """When the potential can change."""
    marks: MarkedTokens | None
    """The tokens after which it can change, if `dense_at` is "punctuation"."""
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
    """The chat template that renders the prompts, if they are messages."""
    conversation: Task | None = None
    """The task that replies, if the agent has several turns."""
    pictures: Task | None = None
    """The task that draws the pictures, if observations have pictures."""

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Shape of the pictures, if observations have pictures."""
        return None if self.pictures is None else self.pictures.image_shape

    @property
    def end_id(self) -> int | None:
        """The token that ends a reference text: in a chat, the token that ends a turn."""
        if self.chat is None:
            return self.tokenizer.eos_id
        first = self.tokenizer.encode(self.chat.end_of_turn().strip())[:1]
        return first[0] if first and first[0] in self.tokenizer.ends else self.tokenizer.eos_id

    @property
    def width(self) -> int:
        """Length of an observation in tokens."""
        return self.max_prompt_tokens + self.max_new_tokens


def resolve(arguments: Arguments, max_episode_steps: int | None = None) -> Settings:
    """Check an environment's arguments and turn them into objects.

    The arguments are documented at :class:`textgym.envs.TextGenEnv`. Defaults are those of the
    task, or of ``TextGen-v0`` without a task.

    Raises:
        TextGymError: If an argument is invalid.
    """
    if arguments.task is not None:
        known = isinstance(arguments.task, str) and len(arguments.task) < 200
        with naming(arguments.task if known else "TextGen-v0"):
            check_registered(arguments.task)
    name = arguments.task or "TextGen-v0"
    arguments = _checked(name, arguments)
    with naming(name):
        source, defaults = _source(arguments)
    judge = source.task if isinstance(source, TaskSource) else defaults
    # Defaults are the task's, for its own rows and for a user's.
    at_eos = bool(_first(arguments.stop_at_eos, defaults and defaults.stop_at_eos, True))
    words = _tokenizer(name, arguments, defaults, at_eos)
    if arguments.stop is not None and (
        isinstance(arguments.stop, str) or not isinstance(arguments.stop, Sequence)
    ):
        raise SettingsError(
            f"{name}: stop={shown(arguments.stop)} is not a list of strings, such as ['.']"
        )
    with naming(name):
        template = chat_template(name, arguments.chat, source, words)
        if template is not None:
            source = ChatSource(source, template)
    conversation = defaults if defaults is not None and defaults.max_turns > 1 else None
    with naming(name):
        stops = StopStrings(_first(arguments.stop, defaults and defaults.stop, ()), words)
        scored_by = source.default_reward() if arguments.reward is None else arguments.reward
        prompt_budget = source.prompt_budget(words)
    if conversation is not None and not at_eos and not stops:
        raise SettingsError(
            f"{name}: stop_at_eos=False needs stop strings in a conversation, to end the agent's "
            "turns; use a tokenizer with an eos token and stop_at_eos=True, or stop=[...]"
        )
    if max_episode_steps is not None:
        max_episode_steps = whole(name, "max_episode_steps", max_episode_steps, least=1)
    metrics = _on_user_text(
        defaults.metrics() if defaults is not None and arguments.reward is None else {}, template
    )
    rewarded = _reward(name, scored_by, reported=metrics)
    shaping = None
    if arguments.dense:
        own = {"dense": TaskPotential(_with_potential(name, judge))}
        shaping = _reward(f"{name}, dense", _on_user_text(own, template)["dense"], False)
    elif arguments.step_reward is not None:
        shaping = _reward(f"{name}, step_reward", arguments.step_reward, False)
    dense_at = judge.dense_at if arguments.dense and judge is not None else "token"
    costs = arguments.costs
    if costs is None and defaults is not None:
        costs = _on_user_text(defaults.costs(), template)
    costed = _costs(name, costs)
    _check_columns(source, [rewarded, shaping, costed], multi_turn=conversation is not None)
    max_prompt_tokens = _first(
        arguments.max_prompt_tokens,
        defaults and defaults.max_prompt_tokens,
        prompt_budget,
        DEFAULT_BUDGET,
    )
    max_new_tokens = _first(
        arguments.max_new_tokens, defaults and defaults.max_new_tokens, DEFAULT_BUDGET
    )
    return Settings(
        name=name,
        source=source,
        tokenizer=words,
        reward=rewarded,
        step_reward=shaping,
        step_reward_gamma=fraction(name, "step_reward_gamma", arguments.step_reward_gamma),
        dense_at=dense_at,
        marks=MarkedTokens(words, MARKS) if dense_at == "punctuation" else None,
        costs=costed,
        max_prompt_tokens=_budget(name, "max_prompt_tokens", max_prompt_tokens),
        max_new_tokens=_budget(name, "max_new_tokens", max_new_tokens, least=1),
        stops=stops,
        prompt_overflow=arguments.prompt_overflow,
        stop_at_eos=at_eos,
        split=arguments.split,
        on_bad_row=arguments.on_bad_row,
        chat=template,
        max_episode_steps=max_episode_steps,
        conversation=conversation,
        pictures=defaults if defaults is not None and defaults.image_shape is not None else None,
    )


def _checked(name: str, arguments: Arguments) -> Arguments:
    """Check the arguments that need nothing else; returns them as Python's types."""
    choice(name, "split", arguments.split, SPLITS)
    stop_at_eos, level, share = arguments.stop_at_eos, arguments.level, arguments.eval_share
    stop_at_eos = None if stop_at_eos is None else flag(name, "stop_at_eos", stop_at_eos)
    level = None if level is None else whole(name, "level", level)
    dense = flag(name, "dense", arguments.dense)
    if dense and arguments.step_reward is not None:
        raise SettingsError(
            f"{name}: dense=True and step_reward={shown(arguments.step_reward)} are both potential "
            "functions; leave one of them out (a step_reward may call the task's potential)"
        )
    overflow = choice(name, "prompt_overflow", arguments.prompt_overflow, _OVERFLOWS)
    on_bad_row = choice(name, "on_bad_row", arguments.on_bad_row, _BAD_ROWS)
    if share is not None:
        share = fraction(name, "eval_share", share)
        if not 0 < share < 1:
            raise SettingsError(f"{name}: eval_share={share!r} has to be between 0 and 1")
    return replace(
        arguments,
        stop_at_eos=stop_at_eos,
        level=level,
        dense=dense,
        prompt_overflow=cast(PromptOverflow, overflow),
        on_bad_row=cast(OnBadRow, on_bad_row),
        eval_share=share,
    )


def _tokenizer(name: str, arguments: Arguments, defaults: Task | None, at_eos: bool) -> Tokenizer:
    """The tokenizer of the arguments, or the task's."""
    spec = arguments.tokenizer
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


def _source(arguments: Arguments) -> tuple[Source, Task | None]:
    """The source of the prompts, and the task with the defaults."""
    task, prompts, split, level = (
        arguments.task,
        arguments.prompts,
        arguments.split,
        arguments.level,
    )
    if prompts is None:
        task_source = TaskSource(make_task(task or DEFAULT_TASK, level, split))
        return task_source, task_source.task if task else None
    defaults = make_task(task, None, split) if task else None
    convert = defaults.convert if defaults else None
    source = make_source(
        prompts,
        split,
        level,
        convert,
        on_bad_row=arguments.on_bad_row,
        eval_share=arguments.eval_share,
    )
    if isinstance(source, TaskSource):
        return source, source.task
    if defaults is None:
        return source, None
    scored = arguments.reward is None  # By the task's reward.
    # Replies, costs, pictures and potentials use the same columns as the task's reward.
    more = defaults.max_turns > 1 or defaults.costs() or defaults.image_shape is not None
    if scored or more or arguments.dense:
        source = CompletedSource(source, defaults, scored, skip=arguments.on_bad_row == "skip")
    return source, defaults


def _first(*values: Any) -> Any:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


def _check_columns(source: Source, sums: Sequence[RewardSum | None], multi_turn: bool) -> None:
    """Refuse functions that need columns which the source's rows lack, if these are known."""
    if source.size is None or not source.repeatable:
        return
    added = ("completion_ids", "finish_reason", *(("turns", "replies") if multi_turn else ()))
    names = dict.fromkeys((*source.item(0), *added))
    functions = [function for function in sums if function is not None]
    try:
        for function in functions:
            function.check_columns(name for name in names if name != "prompt")
    except RewardError:
        # Later rows may have columns that the first one lacks.
        for index in range(min(source.size, _MAX_SEARCHED_ROWS)):
            names.update(dict.fromkeys(source.item(index)))
        for function in functions:
            function.check_columns(name for name in names if name != "prompt")


def _with_potential(name: str, task: Task | None) -> Task:
    """The task that judges unfinished texts.

    Raises:
        SettingsError: If there is none, or it cannot.
    """
    why = "there is no task that could judge an unfinished text"
    advice = "omit it, or pass a potential function as step_reward="
    if task is not None:
        if type(task).potential is not Task.potential:
            return task
        why = f"{task.id} cannot judge an unfinished text"
        advice += ", or define the task's potential(texts, rows)"
    raise SettingsError(f"{name}: dense=True, but {why}; {advice}")


def _on_user_text(
    functions: Mapping[str, RewardFunction], template: ChatTemplate | None
) -> Mapping[str, RewardFunction]:
    """A task's functions, which get the user's text without the template."""
    if template is None:
        return functions
    return {name: OnUserText(function) for name, function in functions.items()}


def _reward(
    where: str,
    spec: RewardSpec,
    warn: bool = True,
    reported: Mapping[str, RewardFunction] | None = None,
) -> RewardSum:
    try:
        return RewardSum(spec, where, warn, reported)
    except TextGymError:
        raise
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{where}: the reward {shown(spec)} cannot be used: {error}") from error


def _costs(name: str, costs: Mapping[str, Any] | None) -> RewardSum | None:
    """The sum of the costs, each with weight one."""
    if costs is None:
        return None
    if not isinstance(costs, Mapping):
        raise SettingsError(
            f"{name}: costs={shown(costs)} is not a dictionary of names and functions"
        )
    return RewardSum.named(costs, f"{name}, costs", warn=False) if costs else None


def _budget(name: str, argument: str, value: Any, least: int = 0) -> int:
    why = " tokens, more than any model reads"
    return whole(name, argument, value, least, MAX_BUDGET, why)
