"""A reward for sentences that use given concepts without copying them as a list (CommonGen)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import checked_language, words_of
from textgym.errors import RewardError
from textgym.rewards.metrics.normalize import stemmer
from textgym.rewards.references import against_references, column_of
from textgym.rewards.registry import register_reward
from textgym.rewards.values import is_number, is_whole

# "and" and "or" in English, and in languages where they are single letters or short words.
_JOINERS = frozenset(
    ("and", "or", "和", "与", "與", "或", "及", "と", "や", "및", "और", "या", "و", "أو", "и", "или")
)


@register_reward("concepts")
@dataclass(frozen=True, eq=False)
class Concepts:
    """The share of the concepts that the text uses, minus a penalty for copying.

    The coverage of CommonGen (Lin et al. 2020) with the penalty of RL4LMs (Ramamurthy et al. 2023),
    without which a policy learns to copy the prompt's list of concepts. A concept is used if a word
    has the same stem: "dogs" uses "dog", "threw" does not use "throw". The penalty is applied once,
    if the text

    * lists the concepts: all of them, if there are at least three, unchanged and in any order,
      separated by nothing but "and", "or" (also in some other languages) and punctuation
      ("dog, catch, frisbee", but not "the dog catches the frisbee");
    * or repeats ``copied`` consecutive words of the prompt, other than those of one concept;
    * or uses one of the ``forbidden`` words.

    In scripts without spaces each letter is a word, and 4 consecutive ones can be a coincidence;
    use a larger ``copied`` for these.

    Range: [-``penalty``, 1], higher is better.
    Needs: the column ``column``; the package nltk (``textgym[metrics]``) for its stemmer.
    Cost: 130 us per text of 20 words.
    Gaming: a list with any other word in it. Sense and grammar are not judged: use it as shaping,
    added to ``cider`` or ``meteor``.

    Args:
        column: The column of concepts: a list of strings. A concept of several words is used where
            they are consecutive.
        coverage: The reward for full coverage. 0 leaves only the penalty: RL4LMs' shaping.
        penalty: The cost of copying, at least 0.
        copied: The number of consecutive words of the prompt that count as a copy; 0 allows any.
        forbidden: Words or phrases that cost the penalty, e.g. of the instruction: ("generate",
            "sentence").
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If an option is invalid, or the column is missing.
        MissingDependencyError: If nltk is not installed.
    """

    column: str = "concepts"
    coverage: float = 1.0
    penalty: float = 1.0
    copied: int = 4
    forbidden: tuple[str, ...] = ()
    language: str = "auto"
    name: ClassVar[str] = "concepts"

    def __post_init__(self) -> None:
        for option in ("coverage", "penalty"):
            value = getattr(self, option)
            if not is_number(value) or value < 0:
                raise RewardError(f"{self.name}: {option} must be a number >= 0, not {value!r}")
        if not is_whole(self.copied, 0):
            raise RewardError(f"{self.name}: copied must be an integer >= 0, not {self.copied!r}")
        forbidden: Any = self.forbidden
        if isinstance(forbidden, str):
            raise RewardError(f"{self.name}: forbidden must be a tuple of words, not {forbidden!r}")
        checked_language(self.language, self.name, RewardError)
        # An entry without any word matches nothing.
        object.__setattr__(self, "forbidden", tuple(one for one in forbidden if self._words(one)))
        stemmer()  # raises if nltk is missing

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without concepts."""
        rewards: list[float | None] = []
        for prompt, completion, concepts in zip(
            prompts, completions, column_of(columns, self.column), strict=True
        ):
            row = {self.column: [concepts]}
            rewards += against_references(
                lambda text, concepts, prompt=prompt: self._score(text, concepts, prompt),  # type: ignore[misc]
                [completion],
                row,
                self.column,
            )
        return rewards

    def _score(self, completion: str, concepts: list[str], prompt: str) -> float:
        words = self._words(completion)
        stems = list(map(stemmer(), words))
        listed = list(dict.fromkeys(tuple(self._words(one)) for one in concepts))
        if not all(listed):
            raise TypeError(f"a concept needs at least one word: {concepts!r:.80}")
        wanted = {tuple(map(stemmer(), concept)) for concept in listed}
        used = sum(_is_in(concept, stems) for concept in wanted)
        score = self.coverage * used / len(wanted)
        if (
            (len(listed) > 2 and _lists(listed, words))
            or (self.copied and _copies(words, self._words(prompt), self.copied, listed))
            or any(_is_in(tuple(self._words(one)), words) for one in self.forbidden)
        ):
            score -= self.penalty
        return score

    def _words(self, text: str) -> list[str]:
        return words_of(text, self.language)


def _is_in(part: tuple[str, ...], words: list[str]) -> bool:
    size = len(part)
    return any(tuple(words[i : i + size]) == part for i in range(len(words) - size + 1))


def _lists(concepts: list[tuple[str, ...]], words: list[str]) -> bool:
    """Whether all concepts follow each other, in any order, with only joiners between them."""
    of_concepts = {word for concept in concepts for word in concept}
    run: list[str] = []
    for word in [*words, ""]:
        if word in of_concepts:
            run.append(word)
        elif word not in _JOINERS:
            if all(_is_in(concept, run) for concept in concepts):
                return True
            run = []
    return False


def _copies(
    words: list[str], prompt: list[str], size: int, concepts: list[tuple[str, ...]]
) -> bool:
    """Whether `size` consecutive words occur in the prompt too, and not within one concept."""
    if size > len(words):
        return False
    grams = set(zip(*(prompt[start:] for start in range(size)), strict=False))
    for concept in concepts:
        grams.difference_update(concept[i : i + size] for i in range(len(concept) - size + 1))
    return any(tuple(words[i : i + size]) in grams for i in range(len(words) - size + 1))
