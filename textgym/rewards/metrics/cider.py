"""CIDEr and CIDEr-D: n-grams shared with references, weighted by their rarity."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt
from pathlib import Path
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import checked_language, words_of
from textgym.errors import RewardError
from textgym.rewards.metrics.normalize import stemmer
from textgym.rewards.references import against_references
from textgym.rewards.registry import register_reward
from textgym.rewards.values import LONGEST_GRAM, excerpt, is_number, is_whole

_Gram = tuple[str, ...]
_Vector = tuple[list[dict[_Gram, float]], list[float], int]  # weights and norm for each n, length
Corpus = Sequence[str | Sequence[str]] | str | Path | None


@dataclass(frozen=True)
class _Frequencies:
    """Document frequencies of n-grams; a document is the set of references of a row."""

    of: Counter[_Gram]
    documents: int


@register_reward("cider")
@dataclass(frozen=True, eq=False)
class Cider:
    """CIDEr-D or CIDEr (Vedantam et al. 2015) against the references.

    For each n, a text is the vector of its n-gram counts times ``log(documents / documents with the
    n-gram)``, where a document is the set of references of one row. The score is the cosine between
    completion and reference, averaged over n = 1 to 4 and over the references, times 10. CIDEr-D
    clips counts at those of the reference and multiplies by
    ``exp(-(difference of lengths)^2 / (2 sigma^2))``, so that repeated rare words do not pay. Words
    are case-folded and without punctuation; in scripts without spaces each letter is a word. Scores
    equal those of the COCO caption evaluation on texts that are already tokenized.

    Without a corpus, the different sets of references in the batch are the documents. The reward of
    a text then depends on the other rows of the batch, and a phrase that all of them share is worth
    nothing. Give a corpus for training.

    Range: [0, ``scale``], higher is better; [0, 10] by default.
    Needs: the column ``column``; with ``stems`` the package nltk (``textgym[metrics]``).
    Cost: 250 us per text of 20 words with one reference, and 60 us for each further one.
    Gaming: the rare words of the references without grammar; for plain CIDEr, one rare word
    repeated.

    Args:
        corpus: The documents: a list with the references of each row (a string or a list of
            strings), or the path of a JSONL file; None uses the batch.
        corpus_column: The key of the references in that file. Default: ``column``.
        column: The column of references: a string, or a list of alternatives, which are averaged.
        variant: ``"cider-d"`` or ``"cider"``.
        n: The longest n-gram, at least 1.
        sigma: Tolerance for different lengths in CIDEr-D, in words; positive.
        scale: The score of a perfect text; positive.
        stems: Whether words are stemmed first (Porter's stemmer for English), as in the paper but
            not in the COCO evaluation.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Raises:
        RewardError: If an option is invalid, the corpus cannot be read or has fewer than two
            documents, or the column is missing.
        MissingDependencyError: If nltk is needed and not installed.
    """

    corpus: Corpus = field(default=None, repr=False)
    corpus_column: str | None = None
    column: str = "reference"
    variant: str = "cider-d"
    n: int = 4
    sigma: float = 6.0
    scale: float = 10.0
    stems: bool = False
    language: str = "auto"
    name: ClassVar[str] = "cider"
    _frequencies: _Frequencies | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.variant not in ("cider-d", "cider"):
            raise RewardError(
                f"{self.name}: variant must be 'cider-d' or 'cider', not {self.variant!r}"
            )
        if not is_whole(self.n, 1, LONGEST_GRAM):
            raise RewardError(
                f"{self.name}: n must be an integer >= 1 and <= {LONGEST_GRAM}, not "
                f"{excerpt(self.n)}"
            )
        for option in ("sigma", "scale"):
            value = getattr(self, option)
            if not is_number(value) or value <= 0:
                raise RewardError(f"{self.name}: {option} must be a number > 0, not {value!r}")
        checked_language(self.language, self.name, RewardError)
        if self.stems:
            stemmer()  # raises if nltk is missing
        frequencies = None
        if self.corpus is not None:
            source = self.corpus
            if isinstance(source, str | Path):
                source = _read(Path(source), self.corpus_column or self.column)
            frequencies = self._count(source)
            if frequencies.documents < 2:
                raise RewardError(
                    f"{self.name}: the corpus has {frequencies.documents} rows of references; "
                    "document frequencies need at least 2"
                )
        object.__setattr__(self, "_frequencies", frequencies)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        frequencies = self._frequencies
        if frequencies is None:
            rows: list[list[str]] = []

            def collect(_: str, references: list[str]) -> float:
                rows.append(references)
                return 0.0

            against_references(collect, completions, columns, self.column)
            if not rows:
                return [None] * len(completions)
            different = {tuple(row): row for row in rows}
            if len(different) < 2:
                raise RewardError(
                    "needs at least two rows with different references for document frequencies, "
                    "and this batch has one; give corpus= (lists of references, or a JSONL file)"
                )
            frequencies = self._count(different.values())
        vectors: dict[str, _Vector] = {}

        def vector(text: str) -> _Vector:
            if text not in vectors:
                vectors[text] = self._vector(text, frequencies)
            return vectors[text]

        def score(completion: str, references: list[str]) -> float:
            said = vector(completion)
            likeness = sum(self._likeness(said, vector(one)) for one in references)
            # Rounding errors can make a cosine exceed 1.
            return self.scale * min(likeness / len(references), 1.0)

        return against_references(score, completions, columns, self.column)

    def __deepcopy__(self, memo: dict[int, Any]) -> Cider:
        """Return the same object: it holds the frequencies of a corpus, and is never changed."""
        return self

    def _words(self, text: str) -> list[str]:
        words = words_of(text, self.language)
        return list(map(stemmer(), words)) if self.stems else words

    def _grams(self, text: str) -> Counter[_Gram]:
        words = self._words(text)
        return Counter(
            tuple(words[start : start + n])
            for n in range(1, self.n + 1)
            for start in range(len(words) - n + 1)
        )

    def _count(self, rows: Iterable[str | Sequence[str]]) -> _Frequencies:
        of: Counter[_Gram] = Counter()
        documents = 0
        for row in rows:
            references = [row] if isinstance(row, str) else list(row)
            if not all(isinstance(one, str) for one in references):
                raise RewardError(
                    f"{self.name}: a row of the corpus must be a string or a list of strings, not "
                    f"{row!r:.80}"
                )
            of.update({gram for one in references for gram in self._grams(one)})
            documents += bool(references)
        return _Frequencies(of, documents)

    def _vector(self, text: str, frequencies: _Frequencies) -> _Vector:
        total = log(frequencies.documents)
        weights: list[dict[_Gram, float]] = [{} for _ in range(self.n)]
        words = 0
        for gram, count in self._grams(text).items():
            # An unknown n-gram counts as if one document had it.
            rarity = total - log(max(1, frequencies.of.get(gram, 0)))
            weights[len(gram) - 1][gram] = count * rarity
            words += count * (len(gram) == 1)
        norms = [sqrt(sum(weight * weight for weight in one.values())) for one in weights]
        return weights, norms, words

    def _likeness(self, said: _Vector, meant: _Vector) -> float:
        """Return the mean over n of the cosines, in [0, 1]."""
        robust = self.variant == "cider-d"
        total = 0.0
        for a, b, norm_a, norm_b in zip(said[0], meant[0], said[1], meant[1], strict=True):
            if norm_a and norm_b:
                # In the order of the text: that of a set, and the rounding, vary between processes.
                dot = sum(
                    (min(weight, b[gram]) if robust else weight) * b[gram]
                    for gram, weight in a.items()
                    if gram in b
                )
                total += dot / (norm_a * norm_b)
        if robust:
            total *= exp(-((said[2] - meant[2]) ** 2) / (2 * self.sigma**2))
        return total / self.n


def _read(path: Path, column: str) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RewardError(f"cider: the corpus {str(path)!r} cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)[column]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise RewardError(
                f"cider: line {number} of the corpus {str(path)!r} is not a JSON object with the "
                f"key {column!r} ({type(error).__name__}); name the key in corpus_column="
            ) from error
        if value is not None:
            rows.append(value)
    return rows
