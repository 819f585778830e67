"""The task interface: prompts, a verifier, a token budget and baselines in one class.

The environment draws its starting states and its default reward from a task. A task needs two
methods::

    class Parity(Task):
        id = "TextGen/Parity-v0"
        max_prompt_tokens = 16
        max_new_tokens = 8
        cheat_ceiling = constant_ceiling = 0.6

        def generate(self, rng):
            number = int(rng.integers(10_000))
            return {"prompt": f"{number} is", "reference": " odd" if number % 2 else " even"}

        def judge(self, text, row):
            return float(text == row["reference"].strip())

        def baselines(self):
            return {"coin": lambda row, rng: (" odd", " even")[int(rng.integers(2))]}

``textgym.register_task("TextGen/Parity-v0", Parity)`` registers it as an environment, and
``textgym.testing.check_task`` verifies that it satisfies the task contract. A task does not depend
on tokens, environments or agents.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row, rows_of
from textgym.errors import TaskError, near_matches, shown
from textgym.tasks.judgement import Judgement, Part

Baseline = Callable[[Row, np.random.Generator], str]
"""``baseline(row, rng) -> completion``: a policy that does not learn."""


class Reply(NamedTuple):
    r"""The response of the other side of a conversation to a turn of the agent.

    Attributes:
        text: The text to append, up to the start of the agent's next turn
            (``"\nUser: ...\nAgent:"``).
        reward: Added to the reward of the step.
        done: Whether the conversation ends. The text is then not appended.
        message: The content of the equivalent chat message, without speaker names; None is `text`
            without surrounding whitespace.
    """

    text: str = ""
    reward: float = 0.0
    done: bool = False
    message: str | None = None


DenseAt = Literal["token", "punctuation", "turn"]
"""When a potential can change: after each token, after tokens with a punctuation mark (or a line
break) and at the end of a turn, or only at the end of a turn."""

SPLITS = ("train", "eval")

_EVAL_SHARE = 8
"""One in this many prompts belongs to the eval split."""

_MAX_DRAWS = 10_000
"""Attempts of `Task.sample` to draw a prompt of the requested split."""


class Task(ABC):
    """Prompts with a verifiable score.

    A subclass sets the class attributes and defines `generate` and `judge`; all other methods have
    a default. A task has no mutable state: the same generator gives the same rows in every process.

    Args:
        level: Difficulty, one of `levels`; None is `default_level`.
        split: ``"train"`` or ``"eval"``. The two share no prompt (see `sample`).

    Attributes:
        id: Id of the task and of its environment, such as ``"TextGen/Sentiment-v0"``.
        tags: The abilities that the task requires ("reading"), and whether partial scores are
            possible ("graded") or not ("exact"); for tables and reports.
        scored_by: A phrase in Markdown that describes the score; for tables.
        floor: Expected return of uniformly random tokens.
        ceiling: Return of the best policy.
        max_prompt_tokens: Upper bound on the prompt length, in tokens.
        max_new_tokens: Token budget of an episode. Every oracle completion fits, including eos. In
            a conversation the tokens of both sides count.
        max_turns: Maximum number of agent turns per episode. A task with more than one is a
            conversation and defines `reply`.
        stop: Strings that end a completion.
        tokenizer: A closed vocabulary of words, or None for the built-in tokenizer.
        stop_at_eos: Whether end-of-sequence is an action that ends the episode.
        levels: The available difficulties.
        default_level: The difficulty used when none is given.
        cheat_ceiling: Every cheat in the task contract's list scores less.
        junk_ceiling: No nonsensical, contradictory or off-topic text scores more; see
            `textgym.testing.attack_task`.
        constant_ceiling: No text that is the same for all prompts earns more on average; see
            `textgym.testing.best_constants`.
        disjoint_splits: Whether the two splits are disjoint. Set it to False if there are too few
            prompts to divide.
        dense_at: When `potential` can change, so that ``dense=True`` need not compute it after
            every token.
        lead: Prefix that `normalize` puts in front of a completion: ``" "`` if the task's grammar
            expects a space before every word.
        image_shape: ``(3, height, width)`` of the image in the observation, or None for text-only
            tasks. A task with images defines `image` and `identity`.

    Raises:
        TaskError: If the level or the split is unknown.
    """

    id: ClassVar[str]
    tags: ClassVar[tuple[str, ...]] = ()
    scored_by: ClassVar[str] = ""
    floor: float = 0.0
    ceiling: float = 1.0
    max_prompt_tokens: int
    max_new_tokens: int
    stop: ClassVar[tuple[str, ...]] = ()
    tokenizer: ClassVar[tuple[str, ...] | None] = None
    stop_at_eos: ClassVar[bool] = True
    levels: ClassVar[tuple[int, ...]] = (1,)
    default_level: ClassVar[int] = 1
    cheat_ceiling: float
    junk_ceiling: ClassVar[float] = 0.4
    constant_ceiling: ClassVar[float] = 0.15
    max_turns: int = 1
    disjoint_splits: ClassVar[bool] = True
    dense_at: ClassVar[DenseAt] = "punctuation"
    lead: ClassVar[str] = ""
    image_shape: ClassVar[tuple[int, int, int] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # `adopt` is the name of `complete_row` in version 0.1.0; tasks of users may define it.
        if "complete_row" in vars(cls):
            cls.adopt = cls.complete_row
        elif "adopt" in vars(cls):
            cls.complete_row = cls.adopt  # type: ignore[method-assign]

    def __init__(self, level: int | None = None, split: str = "train") -> None:
        level = self.default_level if level is None else level
        if (
            isinstance(level, bool)
            or not isinstance(level, (int, np.integer))
            or level not in self.levels
        ):
            known = ", ".join(map(str, self.levels))
            raise TaskError(f"{self.id} has no level {shown(level)}; its levels are: {known}")
        if not isinstance(split, str) or split not in SPLITS:
            raise TaskError(
                f"{self.id} has no split {shown(split)}; the splits are: {', '.join(SPLITS)}"
                f"{near_matches(split, SPLITS)}"
            )
        self.level = int(level)
        self.split = split

    def __str__(self) -> str:
        return f"{self.id}, level {self.level}"

    @abstractmethod
    def generate(self, rng: np.random.Generator) -> Row:
        """Generate a random row, of either split.

        Args:
            rng: The only source of randomness.

        Returns:
            ``{"prompt": str, "reference": str, ...}`` with JSON-serializable values.
        """

    def score(self, completion: str, row: Mapping[str, Any]) -> float:
        """Score a completion with `judge`, ignoring surrounding whitespace.

        Tokenizers differ in whether they put a space between prompt and completion, and models in
        whether they start or end with a line break. A subclass that overrides `score` instead of
        `judge` receives the completion unchanged, or as returned by `align` when called through
        `reward`.

        Returns:
            A score in [0, 1].
        """
        judged = self.judge(self.normalize(completion, row), row)
        return judged.score if isinstance(judged, Judgement) else judged

    def explain(self, completion: str, row: Mapping[str, Any]) -> list[Part]:
        """Break a score down into what was right, wrong, missing or penalized.

        The points of the parts add up to `score`. If `judge` returns a float instead of a
        `Judgement`, the score is the only part.

        Args:
            completion: Any text. In a conversation, the agent's turns, one per line.
            row: The row that the completion answers. In a conversation, the column ``turns``
                overrides the lines of the completion.

        Returns:
            The parts ``(part, what, points)`` in the order in which they were judged.
        """
        if type(self).score is not Task.score:
            return [Part("the text", "judged as a whole", self.score(completion, row))]
        judged = self.judge(self.normalize(completion, row), row)
        if isinstance(judged, Judgement):
            return list(judged.parts)
        return [Part("the text", "judged as a whole", judged)]

    def normalize(self, completion: str, row: Mapping[str, Any]) -> str:
        """Return the text passed to `judge`: stripped of whitespace and prefixed with `lead`."""
        text = completion.strip()
        return self.lead + text if text else ""

    def align(self, completion: str, row: Mapping[str, Any]) -> str:
        """Give a completion the surrounding whitespace of the row's reference.

        Called by `reward` for tasks that override `score` and may compare the two texts directly.
        Override it if surrounding whitespace is significant.
        """
        text, reference = completion.strip(), row.get("reference")
        if not text or not isinstance(reference, str) or not reference.strip():
            return completion
        before, _, after = reference.partition(reference.strip())
        return before + text + after

    def judge(self, text: str, row: Mapping[str, Any]) -> float | Judgement:
        """Judge a text. Deterministic, and defined for every string.

        Args:
            text: The completion as returned by `normalize`. In a conversation, the agent's turns,
                one per line.
            row: The row that the completion answers. In a conversation the environment adds the
                columns ``turns`` and ``replies``, the texts of the two sides.

        Returns:
            A score in [0, 1], or a `Judgement` with such a score (see `explain`).
        """
        raise TaskError(f"{self.id} defines neither judge(text, row) nor score(completion, row)")

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Sequence[float]:
        """Return the potentials of unfinished texts, for the environments' ``dense=True``.

        A step then also earns ``gamma * potential(text after) - potential(text before)``, where the
        potential after the end is 0; this leaves the best policy the best (Ng, Harada and Russell
        1999). A common choice is the score of the complete sentences so far
        (`textgym.tasks.judgement.finished`).

        Args:
            texts: N texts so far.
            rows: Their rows; in a conversation, with the columns ``turns`` and ``replies`` so far.

        Returns:
            N finite floats, which may only change as `dense_at` says.
        """
        raise TaskError(f"{self.id} defines no potential(texts, rows)")

    def oracle(self, row: Mapping[str, Any]) -> str:
        """Return a completion that scores exactly 1.0. In a conversation, one turn per line."""
        return str(row["reference"])

    def reply(self, row: Mapping[str, Any], turns: Sequence[str]) -> Reply:
        """Respond to a turn of the agent, for tasks with `max_turns` above 1.

        A pure function: the knowledge and goals of the other side are columns of the row.

        Args:
            row: The row that the episode started from.
            turns: All turns of the agent so far, without the eos or stop string that ended each.
        """
        raise TaskError(f"{self.id} has max_turns={self.max_turns}, but defines no reply()")

    def image(self, row: Mapping[str, Any]) -> NDArray[np.uint8]:
        """Render the image of a row, for tasks with an `image_shape`.

        Returns:
            ``[3, height, width]`` uint8, RGB. A pure function of the row.
        """
        raise TaskError(f"{self.id} has image_shape={self.image_shape}, but defines no image()")

    def identity(self, row: Mapping[str, Any]) -> str:
        """Return the string that identifies a starting state and decides its split.

        The default is the prompt. Override it if rows with equal prompts differ in something else,
        such as the image.
        """
        return str(row["prompt"])

    def costs(self) -> dict[str, Callable[..., Sequence[float]]]:
        """Return cost functions by name, in TRL's reward signature.

        The sum of the costs is ``info["cost"]``.
        """
        return {}

    def metrics(self) -> dict[str, Callable[..., Sequence[float | None]]]:
        """Return metrics that are reported next to the score, by name, in TRL's reward signature.

        The environment adds them to ``info["reward_terms"]``, with weight 0, if the task's own
        reward is used. None where a metric does not apply to a text.
        """
        return {}

    def baselines(self) -> dict[str, Baseline]:
        """Return non-learning reference policies by name, for agents to be compared with."""
        return {}

    def document(self, rng: np.random.Generator) -> str:
        """Sample a pretraining text from this split: a prompt and a continuation."""
        row = self.sample(rng)
        return str(row["prompt"]) + self.oracle(row)

    def turns_document(self, rng: np.random.Generator) -> list[str]:
        """Sample a pretraining text, divided where an eos token is to be inserted.

        A conversation overrides it, so that the language model learns to end its turns.
        """
        return [self.document(rng)]

    @classmethod
    def variants(cls, split: str) -> list[Task]:
        """Return the instances used in pretraining and its evaluation: one for every level."""
        return [cls(level=level, split=split) for level in cls.levels]

    def sample(self, rng: np.random.Generator) -> Row:
        """Sample a random row of this split.

        A hash of its `identity` assigns each row to a split, so the splits are disjoint for all
        seeds. One row in 8 belongs to ``"eval"``.

        Raises:
            TaskError: If `disjoint_splits` is set and no generated row belongs to the split.
        """
        if not self.disjoint_splits:
            return self.generate(rng)
        wants_eval = self.split == "eval"
        for _ in range(_MAX_DRAWS):
            row = self.generate(rng)
            digest = zlib.crc32(self.identity(row).encode("utf-8", "surrogatepass"))
            if (digest % _EVAL_SHARE == 0) == wants_eval:
                return row
        raise TaskError(
            f"{self.id}: none of {_MAX_DRAWS} generated prompts belongs to the {self.split!r} "
            "split; generate more varied prompts, or set disjoint_splits = False"
        )

    def item(self, index: int) -> Row:
        """Return row `index` (>= 0) of this split and level, the same on every platform."""
        entropy = [zlib.crc32(self.id.encode()), SPLITS.index(self.split), self.level, index]
        return self.sample(np.random.default_rng(np.random.SeedSequence(entropy)))

    def convert(self, row: Row) -> Row:
        """Convert a row of a public data set into this task's format.

        Called for every row of ``prompts=`` under this task's id, before the prompt column is read.
        Rows in an unknown format are returned unchanged, as all rows are by default.

        Args:
            row: The row with the data set's columns. Must not be modified.
        """
        return row

    def complete_row(self, row: Row) -> Row:
        """Add the columns that `judge` needs to a user's row (``reset(options=...)``).

        The default adds none. A task that can parse its prompts overrides it.
        """
        return row

    adopt = complete_row

    def reward(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """Return the score of each completion: the default reward, in TRL's signature.

        Args:
            prompts: The prompts.
            completions: One completion per prompt.
            columns: The other columns of the rows, one sequence each.

        Raises:
            TaskError: If a column that `judge` needs is missing.
        """
        rows = rows_of(prompts, columns)
        if type(self).score is not Task.score:
            completions = list(map(self.align, completions, rows))
        try:
            return list(map(self.score, completions, rows))
        except KeyError as error:
            raise TaskError(
                f"{self.id} cannot judge a row without the column {error}: add it to every row, "
                "use the task's own rows (generate, sample, item), or pass another reward="
            ) from error
