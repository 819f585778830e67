"""Rewards from n-gram overlap with references: BLEU, chrF, TER and ROUGE.

sacrebleu and rouge-score compute them. A library's scorer is made once with the reward, not for
every text, and what several references mean is the library's own definition where it has one.
BLEU, chrF and TER also have a number for a whole collection of texts, ``corpus``, which is not the
mean of the texts' numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import checked_language, is_latin, space_out, words_of
from textgym.errors import RewardError, require
from textgym.rewards.references import against_references
from textgym.rewards.registry import register_reward
from textgym.rewards.values import LONGEST_GRAM, excerpt, is_number, is_whole

_GREATEST_BETA = 1000


@register_reward("bleu")
@dataclass(frozen=True, eq=False)
class Bleu:
    """Sentence BLEU (Papineni et al. 2002) as sacrebleu computes it, divided by 100.

    Range: [0, 1], higher is better.
    Needs: the column ``column``; the package sacrebleu (``textgym[metrics]``).
    Cost: 300 us a text of 20 words.
    Gaming: frequent n-grams of the references in any order; meaning is not looked at. Texts that
    are too short pay a penalty, too long ones only through precision.

    Args:
        column: The column of references: a string, or a list of alternatives, whose n-grams
            count together.
        lowercase: Whether case is ignored.
        tokenize: ``"auto"`` is sacrebleu's ``"13a"``, with every letter of scripts without spaces
            as a word (of Chinese these are the words of its ``"zh"``); or the name of one of
            sacrebleu's, which then cuts all texts: ``"13a"``, ``"intl"``, ``"zh"``,
            ``"ja-mecab"``, ``"ko-mecab"``, ``"char"``, ...
        smooth_method: ``"exp"``, ``"floor"``, ``"add-k"`` or ``"none"`` (Chen and Cherry 2014).
        smooth_value: The value of ``floor`` and ``add-k``.
        max_ngram_order: The longest n-gram, at least 1.
        effective_order: Whether orders that the completion is too short for are left out. Without
            it a text of fewer than ``max_ngram_order`` words can hardly be rewarded.
        language: The texts' language, for ``"auto"``, see :mod:`textgym.data.words`.

    Raises:
        RewardError: If sacrebleu does not take the options, or the column is missing.
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
        if not is_whole(self.max_ngram_order, 1, LONGEST_GRAM):
            raise RewardError(
                f"{self.name}: max_ngram_order must be at least 1, not "
                f"{excerpt(self.max_ngram_order)}, and at most {LONGEST_GRAM}"
            )
        checked_language(self.language, self.name, RewardError)
        if self.smooth_value is not None and not is_number(self.smooth_value):
            raise RewardError(
                f"{self.name}: smooth_value must be a number, or None, not "
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

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        return against_references(self._score, completions, columns, self.column)

    @reads_texts
    def corpus(self, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> float:
        """Return corpus BLEU: the n-grams of all texts count together, and all orders are there."""
        return _corpus(replace(self, effective_order=False)._scorer, self, completions, columns)

    def cut(self, completion: str, references: list[str]) -> tuple[str, list[str]]:
        """Return texts that sacrebleu cuts into the right words."""
        if self.tokenize != "auto":
            return completion, references
        return _spaced_out(completion, references, self.language)

    def _score(self, completion: str, references: list[str]) -> float:
        completion, references = self.cut(completion, references)
        # The exponential of a mean of logarithms: a perfect text gets a hair more than 100.
        return min(float(self._scorer.sentence_score(completion, references).score) / 100.0, 1.0)


@register_reward("chrf")
@dataclass(frozen=True, eq=False)
class Chrf:
    """Sentence chrF (Popovic 2015) as sacrebleu computes it, divided by 100.

    It counts characters, so that every script will do; only with ``word_order`` does it count
    words, which are what stands between spaces.

    Range: [0, 1], higher is better.
    Needs: the column ``column``; the package sacrebleu (``textgym[metrics]``).
    Cost: 500 us a text of 20 words.
    Gaming: words that share their letters with the reference's; being the F2 score it favours
    recall, so that longer texts than the reference lose little.

    Args:
        column: The column of references: a string, or a list of alternatives (the best counts).
        char_order: The longest character n-gram, at least 1.
        word_order: The longest word n-gram: 0 is chrF, 2 is chrF++ (Popovic 2017).
        beta: How much more recall weighs than precision.
        lowercase: Whether case is ignored.
        whitespace: Whether spaces count among the characters.
        eps_smoothing: Whether orders that a text is too short for count as (nearly) 0 and are not
            left out, as in the original chrF++ script.

    Raises:
        RewardError: If sacrebleu does not take the options, or the column is missing.
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
        for option, least in (("char_order", 1), ("word_order", 0)):
            if not is_whole(getattr(self, option), least, LONGEST_GRAM):
                raise RewardError(
                    f"{self.name}: {option} must be at least {least}, not "
                    f"{excerpt(getattr(self, option))}, and at most {LONGEST_GRAM}"
                )
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

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        return against_references(self._score, completions, columns, self.column)

    @reads_texts
    def corpus(self, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> float:
        """Return corpus chrF: the n-grams of all texts count together."""
        return _corpus(self._scorer, self, completions, columns)

    def _score(self, completion: str, references: list[str]) -> float:
        return min(float(self._scorer.sentence_score(completion, references).score) / 100.0, 1.0)


@register_reward("ter")
@dataclass(frozen=True, eq=False)
class Ter:
    """1 minus the translation edit rate (Snover et al. 2006) as sacrebleu computes it.

    The rate is the number of edits, shifts of phrases among them, for each reference word. It is
    not clipped: a text with more errors than the reference has words gets less than 0, so that
    among bad texts the shorter one is still better. In scripts without spaces every letter is a
    word.

    Range: (-inf, 1], higher is better; silence gets 0.
    Needs: the column ``column``; the package sacrebleu (``textgym[metrics]``).
    Cost: 1 to 3 ms a text of 20 words, as it looks for shifts.
    Gaming: silence is better than a wrong text; the reference's words in another order cost little.

    Args:
        column: The column of references: a string, or a list of alternatives (the fewest edits,
            divided by the mean length).
        normalized: Whether punctuation becomes words of its own.
        no_punct: Whether punctuation is removed.
        asian_support: sacrebleu's own rule for Chinese characters, of use with ``normalized``.
        case_sensitive: Whether case counts.
        language: ``"auto"`` (words by script) or the code of the texts' language, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If the column is missing.
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

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        return against_references(self._score, completions, columns, self.column)

    @reads_texts
    def corpus(self, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> float:
        """Return 1 minus all texts' edits, divided by the words of all references."""
        return 1.0 - _corpus(self._scorer, self, completions, columns)

    def cut(self, completion: str, references: list[str]) -> tuple[str, list[str]]:
        """Return texts that sacrebleu cuts into the right words."""
        return _spaced_out(completion, references, self.language)

    def _score(self, completion: str, references: list[str]) -> float:
        completion, references = self.cut(completion, references)
        return 1.0 - float(self._scorer.sentence_score(completion, references).score) / 100.0


def _corpus(
    scorer: Any,
    reward: Bleu | Chrf | Ter,
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
) -> float:
    """Return sacrebleu's corpus score, divided by 100, of the texts that have references."""
    said: list[str] = []
    meant: list[list[str]] = []

    def keep(completion: str, references: list[str]) -> float:
        if not isinstance(reward, Chrf):
            completion, references = reward.cut(completion, references)
        said.append(completion)
        meant.append(references)
        return 0.0

    against_references(keep, completions, columns, reward.column)
    if not said:
        raise RewardError(f"{reward.name}: no text has references, so there is no corpus score")
    # sacrebleu takes the k-th references of all texts together, None where a text has fewer.
    streams = list(zip_longest(*meant))
    return float(scorer.corpus_score(said, streams).score) / 100.0


def _spaced_out(completion: str, references: list[str], language: str) -> tuple[str, list[str]]:
    return space_out(completion, language), [space_out(one, language) for one in references]


def _sacrebleu(metric: str, name: str, **options: Any) -> Any:
    metrics = require("sacrebleu.metrics", "metrics")
    try:
        return getattr(metrics, metric)(**options)
    # sacrebleu checks some options with assert, some by a look-up, some by an import.
    except (AssertionError, KeyError, ValueError, RuntimeError, ImportError) as error:
        raise RewardError(
            f"{name}: sacrebleu does not take {options} ({type(error).__name__}: "
            f"{str(error).strip()})"
        ) from error


_ROUGE = ("rouge1", "rouge2", "rougeL")


@register_reward("rouge")
@dataclass(frozen=True, eq=False)
class Rouge:
    """ROUGE (Lin 2004) as rouge-score computes it, the best over the references.

    Range: [0, 1], higher is better.
    Needs: the column ``column``; the package rouge-score (``textgym[metrics]``).
    Cost: 120 us a text of 20 words for ROUGE-1, 250 us for ROUGE-L, which grows with the product
    of the lengths; stemming adds 25 us a word.
    Gaming: recall rewards long texts without end, precision rewards one sure word; the F measure
    rewards frequent words of the reference in any order (ROUGE-1) or copied phrases of the prompt.

    Args:
        variant: ``"rouge1"`` to ``"rouge9"`` (n-grams), ``"rougeL"`` (longest common subsequence),
            ``"rougeLsum"`` (the same by sentences, one a line), or ``"rouge"``: the mean of
            ROUGE-1, -2 and -L.
        measure: ``"fmeasure"``, ``"precision"`` or ``"recall"``.
        column: The column of references: a string, or a list of alternatives. The best value
            of the measure counts, for each variant by itself.
        stemmer: Whether words are stemmed first (Porter's, for English).
        tokenizer: ``"rouge"`` is the original's, which keeps only the letters a to z and digits, so
            that texts in other scripts get 0. ``"words"`` takes the words of any script, and every
            letter of scripts without spaces (there is no stemming with it). ``"auto"`` is
            ``"words"`` for references of which half of the words or more are in other scripts than
            the Latin, and ``"rouge"`` for all others.
        language: The texts' language, for ``"words"``, see :mod:`textgym.data.words`.

    Raises:
        RewardError: If an option is unknown, or the column is missing.
        MissingDependencyError: If rouge-score is not installed.
    """

    variant: str = "rouge"
    measure: str = "fmeasure"
    column: str = "reference"
    stemmer: bool = False
    tokenizer: str = "auto"
    language: str = "auto"
    _variants: tuple[str, ...] = field(init=False, repr=False)
    _latin: Any = field(init=False, repr=False)
    _other: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        known = ("rouge", "rougeL", "rougeLsum", *(f"rouge{n}" for n in range(1, 10)))
        if self.variant not in known:
            raise RewardError(f"rouge: variant must be one of {known}, not {self.variant!r}")
        if self.measure not in ("fmeasure", "precision", "recall"):
            raise RewardError(
                f"rouge: measure must be 'fmeasure', 'precision' or 'recall', not {self.measure!r}"
            )
        if self.tokenizer not in ("auto", "rouge", "words"):
            raise RewardError(
                f"rouge: tokenizer must be 'auto', 'rouge' or 'words', not {self.tokenizer!r}"
            )
        checked_language(self.language, "rouge", RewardError)
        if self.stemmer and self.tokenizer == "words":
            raise RewardError("rouge: stemmer=True needs tokenizer='rouge'")
        variants = _ROUGE if self.variant == "rouge" else (self.variant,)
        scorer = require("rouge_score.rouge_scorer", "metrics").RougeScorer
        latin = scorer(list(variants), use_stemmer=self.stemmer)
        words = scorer(list(variants), tokenizer=_Words(self.language))
        object.__setattr__(self, "_variants", variants)
        object.__setattr__(self, "_latin", words if self.tokenizer == "words" else latin)
        object.__setattr__(self, "_other", latin if self.tokenizer == "rouge" else words)

    @property
    def name(self) -> str:
        """The variant."""
        return self.variant

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        return against_references(self._score, completions, columns, self.column)

    def _score(self, completion: str, references: list[str]) -> float:
        scores = [
            (self._latin if is_latin(reference) else self._other).score(reference, completion)
            for reference in references
        ]
        best = [max(getattr(one[kind], self.measure) for one in scores) for kind in self._variants]
        return float(sum(best) / len(best))


@dataclass(frozen=True)
class _Words:
    """The tokenizer that rouge-score is given for other scripts than the Latin."""

    language: str

    def tokenize(self, text: str) -> list[str]:
        return words_of(text, self.language)


for _variant in (*_ROUGE, "rougeLsum"):
    register_reward(_variant, partial(Rouge, _variant))
