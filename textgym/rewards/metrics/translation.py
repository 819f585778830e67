"""BLEU, chrF and TER, the metrics of machine translation. Computed by sacrebleu.

Each is a reward per text and has a method ``corpus`` for a whole collection of texts, whose score
is not the mean of the texts' scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import checked_language, space_out
from textgym.errors import RewardError, require
from textgym.rewards.references import ReferenceReward, against_references
from textgym.rewards.registry import register_reward
from textgym.rewards.values import LONGEST_GRAM, excerpt, is_number, is_whole

_GREATEST_BETA = 1000


class _SacreBleu(ReferenceReward):
    """A reward that a metric of sacrebleu computes, on a scale where 1 is a perfect text."""

    name: ClassVar[str]
    column: str
    _scorer: Any

    @reads_texts
    def corpus(self, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> float:
        """Return sacrebleu's corpus score of all texts that have references.

        Raises:
            RewardError: If no text has references, or the column is missing.
        """
        said: list[str] = []
        meant: list[list[str]] = []

        def collect(completion: str, references: list[str]) -> float:
            said.append(self._spaced(completion))
            meant.append([self._spaced(one) for one in references])
            return 0.0

        against_references(collect, completions, columns, self.column)
        if not said:
            raise RewardError(
                f"{self.name}: a corpus score needs at least one text with references"
            )
        # sacrebleu expects one stream per reference index, with None where a text has fewer.
        return self._scaled(self._corpus_scorer().corpus_score(said, list(zip_longest(*meant))))

    def _score(self, completion: str, references: list[str]) -> float:
        spaced = [self._spaced(one) for one in references]
        # BLEU is the exponential of a mean of logarithms, which can exceed 1 by a rounding error.
        return min(self._scaled(self._scorer.sentence_score(self._spaced(completion), spaced)), 1.0)

    def _corpus_scorer(self) -> Any:
        return self._scorer

    def _spaced(self, text: str) -> str:
        """Put spaces between the words where sacrebleu would not find them."""
        return text

    def _scaled(self, score: Any) -> float:
        return float(score.score) / 100.0


@register_reward("bleu")
@dataclass(frozen=True, eq=False)
class Bleu(_SacreBleu):
    """Sentence BLEU (Papineni et al. 2002) as sacrebleu computes it, divided by 100.

    Range: [0, 1], higher is better.
    Needs: the column ``column``; the package sacrebleu (``textgym[metrics]``).
    Cost: 300 us per text of 20 words.
    Gaming: frequent n-grams of the references in any order; meaning is ignored. Texts that are too
    short get the brevity penalty, texts that are too long lose precision only.

    Args:
        column: The column of references: a string, or a list of alternatives, whose n-grams
            count together.
        lowercase: Whether case is ignored.
        tokenize: ``"auto"`` is sacrebleu's ``"13a"`` with each letter of scripts without spaces
            as a word (for Chinese, these are the words of its ``"zh"``); or the name of a
            sacrebleu tokenizer, which then splits all texts: ``"13a"``, ``"intl"``, ``"zh"``,
            ``"ja-mecab"``, ``"ko-mecab"``, ``"char"``, ...
        smooth_method: ``"exp"``, ``"floor"``, ``"add-k"`` or ``"none"`` (Chen and Cherry 2014).
        smooth_value: The value of ``floor`` and ``add-k``.
        max_ngram_order: The longest n-gram, at least 1.
        effective_order: Whether orders for which the completion is too short are left out. Without
            it, a text of fewer than ``max_ngram_order`` words gets almost no reward. ``corpus``
            always uses all orders.
        language: The language of the texts, for ``"auto"``, see :mod:`textgym.data.words`.

    Raises:
        RewardError: If sacrebleu rejects the options, or the column is missing.
        MissingDependencyError: If sacrebleu is not installed.
    """

    column: str = "reference"
    lowercase: bool = False
    tokenize: str = "auto"
    smooth_method: str = "exp"
    smooth_value: float | None = None
    max_ngram_order: int = 4
    effective_order: bool = True
    language: str = "auto"
    name: ClassVar[str] = "bleu"
    _scorer: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_order(self, "max_ngram_order", 1)
        checked_language(self.language, self.name, RewardError)
        if self.smooth_value is not None and not is_number(self.smooth_value):
            raise RewardError(
                f"{self.name}: smooth_value must be a number or None, not "
                f"{excerpt(self.smooth_value)}"
            )
        scorer = _sacrebleu(
            "BLEU",
            self.name,
            lowercase=self.lowercase,
            tokenize="13a" if self.tokenize == "auto" else self.tokenize,
            smooth_method=self.smooth_method,
            smooth_value=self.smooth_value,
            max_ngram_order=self.max_ngram_order,
            effective_order=self.effective_order,
        )
        object.__setattr__(self, "_scorer", scorer)

    def _corpus_scorer(self) -> Any:
        return replace(self, effective_order=False)._scorer

    def _spaced(self, text: str) -> str:
        return space_out(text, self.language) if self.tokenize == "auto" else text


@register_reward("chrf")
@dataclass(frozen=True, eq=False)
class Chrf(_SacreBleu):
    """Sentence chrF (Popovic 2015) as sacrebleu computes it, divided by 100.

    It compares character n-grams, so it works for any script. With ``word_order`` it also compares
    n-grams of words, which are the parts between spaces.

    Range: [0, 1], higher is better.
    Needs: the column ``column``; the package sacrebleu (``textgym[metrics]``).
    Cost: 500 us per text of 20 words.
    Gaming: words that share letters with the reference's. As an F2 score it favours recall, so
    overlong texts lose little.

    Args:
        column: The column of references: a string, or a list of alternatives (the best counts).
        char_order: The longest character n-gram, at least 1.
        word_order: The longest word n-gram: 0 is chrF, 2 is chrF++ (Popovic 2017).
        beta: Weight of recall against precision.
        lowercase: Whether case is ignored.
        whitespace: Whether spaces count as characters.
        eps_smoothing: Whether orders for which a text is too short count as (nearly) 0 instead of
            being left out, as in the original chrF++ script.

    Raises:
        RewardError: If an option is invalid, or the column is missing.
        MissingDependencyError: If sacrebleu is not installed.
    """

    column: str = "reference"
    char_order: int = 6
    word_order: int = 0
    beta: int = 2
    lowercase: bool = False
    whitespace: bool = False
    eps_smoothing: bool = False
    name: ClassVar[str] = "chrf"
    _scorer: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_order(self, "char_order", 1)
        _check_order(self, "word_order", 0)
        if not is_number(self.beta) or not 0 < self.beta <= _GREATEST_BETA:
            raise RewardError(
                f"{self.name}: beta must be a number > 0 and <= {_GREATEST_BETA}, not "
                f"{excerpt(self.beta)}"
            )
        scorer = _sacrebleu(
            "CHRF",
            self.name,
            char_order=self.char_order,
            word_order=self.word_order,
            beta=self.beta,
            lowercase=self.lowercase,
            whitespace=self.whitespace,
            eps_smoothing=self.eps_smoothing,
        )
        object.__setattr__(self, "_scorer", scorer)


@register_reward("ter")
@dataclass(frozen=True, eq=False)
class Ter(_SacreBleu):
    """1 minus the translation edit rate (Snover et al. 2006) as sacrebleu computes it.

    The rate is the number of edits, including shifts of phrases, per reference word. It is not
    clipped: a text with more errors than the reference has words gets less than 0, so that among
    bad texts the shorter one is still better. In scripts without spaces each letter is a word.

    Range: (-inf, 1], higher is better; an empty text gets 0.
    Needs: the column ``column``; the package sacrebleu (``textgym[metrics]``).
    Cost: 1 to 3 ms per text of 20 words, because it searches for shifts.
    Gaming: an empty text beats a wrong one; the reference's words in another order cost little.

    Args:
        column: The column of references: a string, or a list of alternatives (the fewest edits,
            divided by the mean length).
        normalized: Whether punctuation is split from words.
        no_punct: Whether punctuation is removed.
        asian_support: sacrebleu's own rule for Chinese characters, used together with
            ``normalized``.
        case_sensitive: Whether case counts.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If an option is invalid, or the column is missing.
        MissingDependencyError: If sacrebleu is not installed.
    """

    column: str = "reference"
    normalized: bool = False
    no_punct: bool = False
    asian_support: bool = False
    case_sensitive: bool = False
    language: str = "auto"
    name: ClassVar[str] = "ter"
    _scorer: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checked_language(self.language, self.name, RewardError)
        scorer = _sacrebleu(
            "TER",
            self.name,
            normalized=self.normalized,
            no_punct=self.no_punct,
            asian_support=self.asian_support,
            case_sensitive=self.case_sensitive,
        )
        object.__setattr__(self, "_scorer", scorer)

    def _spaced(self, text: str) -> str:
        return space_out(text, self.language)

    def _scaled(self, score: Any) -> float:
        return 1.0 - float(score.score) / 100.0


def _check_order(reward: Bleu | Chrf, option: str, least: int) -> None:
    value = getattr(reward, option)
    if not is_whole(value, least, LONGEST_GRAM):
        raise RewardError(
            f"{reward.name}: {option} must be an integer from {least} to {LONGEST_GRAM}, not "
            f"{excerpt(value)}"
        )


def _sacrebleu(metric: str, name: str, **options: Any) -> Any:
    metrics = require("sacrebleu.metrics", "metrics")
    try:
        return getattr(metrics, metric)(**options)
    # sacrebleu checks some options with assert, some by a look-up, some by an import.
    except (AssertionError, KeyError, ValueError, RuntimeError, ImportError) as error:
        raise RewardError(
            f"{name}: sacrebleu rejects the options {options} ({type(error).__name__}: "
            f"{str(error).strip()})"
        ) from error
