"""The task interface: prompts, a verifier, a budget and baselines, in one class.

A task is what the environment asks for its starts and its default reward. Writing one takes two
methods::

    class Parity(Task):
        id = "TextGen/Parity-v0"
        max_prompt_tokens = 16
        max_new_tokens = 8
        cheat_ceiling = 0.6

        def generate(self, rng):
            number = int(rng.integers(10_000))
            return {"prompt": f"{number} is", "reference": " odd" if number % 2 else " even"}

        def judge(self, text, row):
            return float(text == row["reference"].strip())

        def baselines(self):
            return {"coin": lambda row, rng: (" odd", " even")[int(rng.integers(2))]}

``textgym.register_task("TextGen/Parity-v0", Parity)`` makes an environment of it, and
``textgym.testing.check_task`` says whether it keeps the task contract. A task knows nothing of
tokens, environments or agents.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row
from textgym.errors import TaskError, near_matches, shown
from textgym.tasks.judgement import Judgement, Part

Baseline = Callable[[Row, np.random.Generator], str]
"""Writes a completion for a row without learning anything."""


class Reply(NamedTuple):
    r"""What the other side of a conversation does when the agent's turn ends.

    Attributes:
        text: What it says, up to where the agent's next turn begins (``"\nUser: ...\nAgent:"``).
        reward: Added to the step's reward.
        done: The conversation is over; the text is not shown any more.
        message: The same as the content of a chat message, without names or marks of turns; None
            takes `text` without the white space around it.
    """

    text: str = ""
    reward: float = 0.0
    done: bool = False
    message: str | None = None


SPLITS = ("train", "eval")

_EVAL_SHARE = 8
"""One prompt in this many belongs to the eval split."""

_MAX_DRAWS = 10_000
"""Draws in search of a prompt of the right split before `Task.sample` gives up."""


class Task(ABC):
    """Prompts with a verifiable score.

    A subclass sets the class attributes and defines `generate` and `judge`; everything else has a
    default. A task holds no mutable state, so that the same generator gives the same rows in any
    process.

    Args:
        level: Difficulty, one of `levels`; None is `default_level`.
        split: ``"train"`` or ``"eval"``. No prompt belongs to both (see `sample`).

    Attributes:
        id: Name of the task and of its environment, such as ``"TextGen/Sentiment-v0"``.
        tags: What the task requires of an agent ("reading"), and whether scores between 0 and 1
            are possible ("graded") or not ("exact"): for tables and reports.
        scored_by: What the score measures, in a phrase in Markdown: for tables.
        floor: Expected return of uniformly random tokens.
        ceiling: Return of the best policy.
        max_prompt_tokens: No prompt has more tokens.
        max_new_tokens: Tokens that the policy may write; every oracle fits, eos included. In a
            conversation the other side's tokens count too.
        max_turns: Turns of the agent in an episode. Above 1 the task is a conversation, and defines
            `reply`.
        stop: Strings that end the text.
        tokenizer: A closed vocabulary, or None for the built-in tokenizer.
        stop_at_eos: False where end-of-sequence is no action of its own.
        levels: The known difficulties.
        default_level: The difficulty when none is given.
        cheat_ceiling: No text of the task contract's list of cheats scores this much or more.
        junk_ceiling: No text that is nonsense, contradictory or off the question scores more; see
            `textgym.testing.attack_task`.
        disjoint_splits: False where the prompt space is too small to divide.
        lead: What `judge` finds in front of a text, whatever white space was written there: a space
            where its grammar has one before every word.
        image_shape: ``(3, height, width)`` of the picture that the policy sees beside the text;
            None where there is none. With a picture the task defines `image` and `identity`.

    Raises:
        TaskError: On an unknown level or split.
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
    max_turns: int = 1
    disjoint_splits: ClassVar[bool] = True
    lead: ClassVar[str] = ""
    image_shape: ClassVar[tuple[int, int, int] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "adopt" in vars(cls):
            raise TaskError(f"{cls.__name__}.adopt: this method is now named complete_row")

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
        """Draw a row, of either split, with `rng` as the only source of chance.

        Returns:
            ``{"prompt": str, "reference": str, ...}``. All values are JSON-able.
        """

    def score(self, completion: str, row: Mapping[str, Any]) -> float:
        """The score of a completion: what `judge` says of it, whatever white space is around it.

        A tokenizer may or may not write a space between prompt and completion, and models differ
        in whether they begin with a line break or end with one. A subclass that overrides this
        method, rather than `judge`, gets the completion as it was written from whoever calls it,
        and from `reward` as `align` makes it.
        """
        judged = self.judge(self.normalize(completion, row), row)
        return judged.score if isinstance(judged, Judgement) else judged

    def explain(self, completion: str, row: Mapping[str, Any]) -> list[Part]:
        """Why a completion has its score: what was right, wrong, missing or penalised.

        The points of the parts add up to `score`. A task explains itself by judging with a
        `Judgement`; of other tasks the score is the only part.

        Args:
            completion: Any text.
            row: The row that it answers; in a conversation with the column ``turns``, or with the
                turns as lines of the completion.

        Returns:
            Steps ``(part, what, points)``, in the order in which they were judged.
        """
        if type(self).score is not Task.score:
            return [Part("the text", "judged as a whole", self.score(completion, row))]
        judged = self.judge(self.normalize(completion, row), row)
        if isinstance(judged, Judgement):
            return list(judged.parts)
        return [Part("the text", "judged as a whole", judged)]

    def normalize(self, completion: str, row: Mapping[str, Any]) -> str:
        """The text that `judge` gets: without white space around it, and after `lead`."""
        text = completion.strip()
        return self.lead + text if text else ""

    def align(self, completion: str, row: Mapping[str, Any]) -> str:
        """The completion with the white space around it that the row's reference has.

        For tasks that define `score` itself, which may compare the two as they are. A task to which
        the white space around a text matters overrides it.
        """
        text, reference = completion.strip(), row.get("reference")
        if not text or not isinstance(reference, str) or not reference.strip():
            return completion
        before, _, after = reference.partition(reference.strip())
        return before + text + after

    def judge(self, text: str, row: Mapping[str, Any]) -> float | Judgement:
        """Judge a text: a float in [0, 1], deterministic, for any string at all.

        A `Judgement` has that float as its score, and says how it came about (see `explain`).

        In a conversation the environment adds the columns ``turns`` and ``replies``, the two
        sides' texts; the text is what the agent wrote, a line a turn.

        Args:
            text: The completion as `normalize` gives it.
            row: The row that it answers.
        """
        raise TaskError(f"{self.id} defines neither judge(text, row) nor score(completion, row)")

    def oracle(self, row: Mapping[str, Any]) -> str:
        """A completion that scores exactly 1.0; in a conversation the agent's turns, by lines."""
        return str(row["reference"])

    def reply(self, row: Mapping[str, Any], turns: Sequence[str]) -> Reply:
        """The other side of a conversation (`max_turns` above 1), when the agent's turn ends.

        A function of its arguments: whatever the other side knows or wants stands in the row.

        Args:
            row: The row that the episode started from.
            turns: All turns of the agent so far, each without the eos or stop string that ended it.
        """
        raise TaskError(f"{self.id} has max_turns={self.max_turns}, but defines no reply()")

    def image(self, row: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The picture of a row (`image_shape` not None): uint8, RGB, ``[3, height, width]``.

        A function of the row, which itself stays text and numbers.
        """
        raise TaskError(f"{self.id} has image_shape={self.image_shape}, but defines no image()")

    def identity(self, row: Mapping[str, Any]) -> str:
        """What tells starts apart, and so says which split each belongs to: the prompt.

        Where prompts are alike and something else differs, a picture say, it is to hold that too.
        """
        return str(row["prompt"])

    def costs(self) -> dict[str, Callable[..., Sequence[float]]]:
        """Constraints, by name, in a reward's signature: their sum is ``info["cost"]``."""
        return {}

    def baselines(self) -> dict[str, Baseline]:
        """Honest writers that learn nothing, by name: what an agent has to beat."""
        return {}

    def document(self, rng: np.random.Generator) -> str:
        """A text to train a language model on: prompt and continuation, from this split."""
        row = self.sample(rng)
        return str(row["prompt"]) + self.oracle(row)

    def turns_document(self, rng: np.random.Generator) -> list[str]:
        """The text of `document` in pieces: one ends, and eos is to follow, where a turn ends.

        A conversation overrides it, so that a language model learns to end its turns.
        """
        return [self.document(rng)]

    @classmethod
    def variants(cls, split: str) -> list[Task]:
        """The forms of the task that a language model is trained and judged on: every level."""
        return [cls(level=level, split=split) for level in cls.levels]

    def sample(self, rng: np.random.Generator) -> Row:
        """Draw a row of this split.

        A hash of its `identity` (the prompt) says which split a row belongs to, so the two share
        none whatever the seeds are; 1 in 8 belongs to ``"eval"``.

        Raises:
            TaskError: If the prompts are too few to divide and `disjoint_splits` is not False.
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
            f"{self.id}: none of {_MAX_DRAWS} generated prompts fell into the {self.split!r} "
            "split; generate more varied prompts, or set disjoint_splits = False"
        )

    def item(self, index: int) -> Row:
        """The row number `index` (>= 0) of this split and level, the same on every platform."""
        entropy = [zlib.crc32(self.id.encode()), SPLITS.index(self.split), self.level, index]
        return self.sample(np.random.default_rng(np.random.SeedSequence(entropy)))

    def convert(self, row: Row) -> Row:
        """Bring a raw row of somebody's data set into this task's form.

        Called for ``prompts=`` under this task's id, before a column with the prompt is looked for,
        so that the public formats of the field can be read. What it does not recognise it returns
        as it is; the default recognises none.

        Args:
            row: The row, with the data set's own columns; not to be changed.
        """
        return row

    def complete_row(self, row: Row) -> Row:
        """Give a row that a user wrote (``reset(options=...)``) the columns that `judge` reads.

        The default adds nothing; a task that can read its prompts overrides it.
        """
        return row

    def reward(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """The default reward, in TRL's signature: the score of each completion.

        Args:
            prompts: Prompts, one per text.
            completions: What was written after each.
            columns: The rows' other columns, one sequence each.

        Raises:
            TaskError: If the columns lack one that the verifier needs.
        """
        names = ["prompt", *columns]
        values = zip(prompts, *columns.values(), strict=True)
        rows = [dict(zip(names, some, strict=True)) for some in values]
        if type(self).score is not Task.score:
            completions = list(map(self.align, completions, rows))
        try:
            return list(map(self.score, completions, rows))
        except KeyError as error:
            raise TaskError(
                f"{self.id} cannot judge a row without the column {error}: give every row one, "
                "take the task's own rows (generate, sample, item), or pass another reward="
            ) from error
