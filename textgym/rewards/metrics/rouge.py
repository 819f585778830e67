"""ROUGE: n-grams and subsequences shared with a reference. Computed by rouge-score."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from textgym.data.words import checked_language, is_latin, words_of
from textgym.errors import RewardError, require
from textgym.rewards.references import ReferenceReward
from textgym.rewards.registry import register_reward

_MEAN_OF = ("rouge1", "rouge2", "rougeL")


@register_reward("rouge")
@dataclass(frozen=True, eq=False)
class Rouge(ReferenceReward):
    """ROUGE (Lin 2004) as rouge-score computes it, the best over the references.

    Range: [0, 1], higher is better.
    Needs: the column ``column``; the package rouge-score (``textgym[metrics]``).
    Cost: 120 us per text of 20 words for ROUGE-1, 250 us for ROUGE-L, whose cost grows with the
    product of the lengths; stemming adds 25 us per word.
    Gaming: recall rewards long texts without limit, precision rewards a single safe word; the F
    measure rewards frequent words of the reference in any order (ROUGE-1) or phrases copied from
    the prompt.

    Args:
        variant: ``"rouge1"`` to ``"rouge9"`` (n-grams), ``"rougeL"`` (longest common subsequence),
            ``"rougeLsum"`` (the same by sentences, one per line), or ``"rouge"``: the mean of
            ROUGE-1, -2 and -L.
        measure: ``"fmeasure"``, ``"precision"`` or ``"recall"``.
        column: The column of references: a string, or a list of alternatives. The best value
            of the measure counts, for each variant separately.
        stemmer: Whether words are stemmed first (Porter's stemmer for English).
        tokenizer: ``"rouge"`` is the original tokenizer, which keeps only a to z and digits, so
            texts in other scripts get 0. ``"words"`` uses the words of any script, and single
            letters in scripts without spaces; it has no stemming. ``"auto"`` uses ``"words"`` for
            references of which at least half of the words are not in the Latin script, and
            ``"rouge"`` for all others.
        language: The language of the texts, for ``"words"``, see :mod:`textgym.data.words`.

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
        variants = _MEAN_OF if self.variant == "rouge" else (self.variant,)
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

    def _score(self, completion: str, references: list[str]) -> float:
        scores = [
            (self._latin if is_latin(reference) else self._other).score(reference, completion)
            for reference in references
        ]
        best = [max(getattr(one[kind], self.measure) for one in scores) for kind in self._variants]
        return float(sum(best) / len(best))


@dataclass(frozen=True)
class _Words:
    """A tokenizer for rouge-score that splits texts of any script."""

    language: str

    def tokenize(self, text: str) -> list[str]:
        return words_of(text, self.language)


for _variant in (*_MEAN_OF, "rougeLsum"):
    register_reward(_variant, partial(Rouge, _variant))
