"""The METEOR score: words aligned with a reference by form, stem and synonym."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.data.words import checked_language, words_and_marks
from textgym.errors import RewardError, require
from textgym.rewards.metrics.stemming import stemmer
from textgym.rewards.references import against_references
from textgym.rewards.registry import register_reward
from textgym.rewards.values import is_number

Synonyms = str | Mapping[str, Iterable[str]] | None
_Pairs = list[tuple[int, int]]

_BEAM = 16
"""How many partial alignments are kept. A usual sentence has fewer, so that nothing is lost."""


@register_reward("meteor")
@dataclass(frozen=True, eq=False)
class Meteor:
    """METEOR (Banerjee and Lavie 2005), the best over the references.

    Words are aligned one to one: first equal ones, then those of one stem (Porter's, for English),
    then synonyms. Each stage aligns as many as it can, with the fewest crossings. With m aligned
    words in c chunks (runs that are adjacent and in order on both sides), precision P = m / words
    of the text and recall R = m / words of the reference::

        score = P * R / (alpha * P + (1 - alpha) * R) * (1 - gamma * (c / m) ** beta)

    with the parameters of Lavie and Agarwal (2007). Words are compared in lower case, punctuation
    marks count as words, and in scripts without spaces every letter does. A text that equals its
    reference gets ``1 - gamma / m ** beta``, so a single right word gets 0.5.

    NLTK's ``meteor_score`` takes the same stages and formula, but aligns repeated words from the
    end and not with the fewest crossings, and looks up the synonyms of stems and not of words;
    where neither matters, the numbers are the same.

    Range: [0, 1), higher is better.
    Needs: the column ``column``; the package nltk (``textgym[metrics]``) for its stemmer.
    Cost: 100 to 200 us a text of 20 words, more with repeated words: 2 ms for 100 times the same.
    Gaming: recall weighs nine times as much as precision, so texts that are too long lose little;
    the reference's words in any order get at least ``1 - gamma`` of what they get in order.

    Args:
        column: The column of references: a string, or a list of alternatives.
        alpha: How much recall weighs, in [0, 1]; precision weighs the rest.
        beta: How fast the penalty falls with longer chunks, at least 0.
        gamma: The greatest penalty, in [0, 1].
        stems: Whether words of one stem are aligned; False for other languages than English.
        synonyms: ``"auto"``: WordNet's, if NLTK finds its data on this machine; ``"wordnet"``: an
            error if it doesn't; None: no synonyms; or a dict of each word's synonyms. Name
            ``"wordnet"`` or None where numbers of several machines are compared.
        language: ``"auto"`` (words by script) or the code of the texts' language, see
            :mod:`textgym.data.words`.

    Attributes:
        uses_synonyms: Whether there is a stage of synonyms.

    Raises:
        RewardError: If an option has an impossible value, or the column is missing.
        MissingDependencyError: If nltk is not installed.
    """

    column: str = "reference"
    alpha: float = 0.9
    beta: float = 3.0
    gamma: float = 0.5
    stems: bool = True
    synonyms: Synonyms = "auto"
    language: str = "auto"
    name: ClassVar[str] = "meteor"
    uses_synonyms: bool = field(init=False, repr=False)
    _stem: Callable[[str], str] | None = field(init=False, repr=False)
    _synonyms: Callable[[str], frozenset[str]] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for option in ("alpha", "gamma"):
            value = getattr(self, option)
            if not is_number(value) or not 0 <= value <= 1:
                raise RewardError(f"{self.name}: {option} must be in [0, 1], not {value!r}")
        if not is_number(self.beta) or self.beta < 0:
            raise RewardError(f"{self.name}: beta must be a number >= 0, not {self.beta!r}")
        checked_language(self.language, self.name, RewardError)
        synonyms = _synonyms_of(self.synonyms)
        object.__setattr__(self, "_stem", stemmer() if self.stems else None)
        object.__setattr__(self, "_synonyms", synonyms)
        object.__setattr__(self, "uses_synonyms", synonyms is not None)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        return against_references(self.score, completions, columns, self.column)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the options: the other process looks for WordNet itself."""
        options = (self.column, self.alpha, self.beta, self.gamma, self.stems, self.synonyms)
        return type(self), (*options, self.language)

    def score(self, completion: str, references: list[str]) -> float:
        """Return the best score of a text against some references."""
        said = words_and_marks(completion, self.language)
        return max(self._score(said, words_and_marks(one, self.language)) for one in references)

    def _score(self, said: list[str], meant: list[str]) -> float:
        pairs = align(said, meant, self._stem, self._synonyms)
        if not pairs:
            return 0.0
        matches = len(pairs)
        precision, recall = matches / len(said), matches / len(meant)
        mean = precision * recall / (self.alpha * precision + (1 - self.alpha) * recall)
        return float(mean * (1 - self.gamma * (chunks(pairs) / matches) ** self.beta))


def align(
    said: list[str],
    meant: list[str],
    stem: Callable[[str], str] | None = None,
    synonyms: Callable[[str], frozenset[str]] | None = None,
) -> _Pairs:
    """Align the words of a text with those of a reference.

    The stages of equal words and of equal stems keep the best 16 partial alignments as they read
    the text; the stage of synonyms takes for each word in turn the one with the fewest crossings.

    Args:
        said: The words of the text.
        meant: The words of the reference.
        stem: From a word to its stem; None leaves the stage of stems out.
        synonyms: From a word to its synonyms; None leaves that stage out.

    Returns:
        Pairs of positions in ``said`` and ``meant``, in the order of ``said``.
    """
    pairs = _aligned(said, meant, [])
    if stem is not None and len(pairs) < min(len(said), len(meant)):
        pairs = _aligned([stem(word) for word in said], [stem(word) for word in meant], pairs)
    if synonyms is not None:
        free = set(range(len(meant))) - {j for _, j in pairs}
        taken = {i for i, _ in pairs}
        for i, word in enumerate(said):
            if i in taken or not free:
                continue
            known = synonyms(word)
            fit = [j for j in sorted(free) if meant[j] in known]
            if fit:
                best = min(fit, key=lambda j, i=i: _crossings(i, j, pairs))  # type: ignore[misc]
                pairs.append((i, best))
                free.remove(best)
    return sorted(pairs)


def chunks(pairs: _Pairs) -> int:
    """Count the runs of an alignment that are adjacent, and in order, on both sides."""
    follows = sum(here == (before[0] + 1, before[1] + 1) for before, here in pairwise(pairs))
    return len(pairs) - follows


def _crossings(i: int, j: int, pairs: Iterable[tuple[int, int]]) -> int:
    return sum((i - other) * (j - its) < 0 for other, its in pairs)


def _aligned(said: list[str], meant: list[str], pairs: _Pairs) -> _Pairs:
    """Align equal strings that are still free: as many as can be, with the fewest crossings.

    Of the alignments of one word's occurrences the one in order crosses least, so that only what
    is skipped is to be chosen, on the side that has more of them.
    """
    said_free = _positions(said, {i for i, _ in pairs})
    meant_free = _positions(meant, {j for _, j in pairs})
    pairs = list(pairs)
    unsure: list[tuple[int, list[int], int]] = []  # position, the reference's, those of it to come
    for word, here in said_free.items():
        there = meant_free.get(word)
        if there is None:
            continue
        if len(here) == len(there):  # no choice
            pairs += zip(here, there, strict=True)
        else:
            unsure += [(i, there, len(here) - k) for k, i in enumerate(here)]
    return sorted(pairs + _least_crossed(sorted(unsure), pairs) if unsure else pairs)


def _least_crossed(unsure: list[tuple[int, list[int], int]], pairs: _Pairs) -> _Pairs:
    """Choose the partners of words that occur more often on one side than on the other.

    Args:
        unsure: For each occurrence in the text, in order: its position, the positions of the word
            in the reference, and how many occurrences in the text are still to come, this one too.
        pairs: What is aligned already.

    Returns:
        The new pairs.
    """
    fixed = dict(pairs)
    # The used positions of the reference as bits, and the one that the last word got, stand for all
    # that matters later; then crossings, minus the adjacent pairs, and the pairs as a linked list.
    beam: list[tuple[int, int, int, int, Any]] = [(0, 0, 0, -2, None)]
    last_i = -2
    for i, there, to_come in unsure:
        before = sum(1 << j for other, j in pairs if other < i)
        after = sum(1 << j for other, j in pairs if other > i)
        own = sum(1 << j for j in there)
        choices: dict[tuple[int, int], tuple[int, int, int, int, Any]] = {}
        for crossed, apart, used, last_j, chain in beam:
            start = bisect_left(there, (used & own).bit_length())
            surplus = len(there) - start - to_come
            options = [
                (
                    crossed
                    + ((used | before) >> j).bit_count()
                    + (after & ((1 << j) - 1)).bit_count(),
                    apart
                    - ((last_j if last_i == i - 1 else fixed.get(i - 1, -2)) == j - 1)
                    - (fixed.get(i + 1) == j + 1),
                    used | 1 << j,
                    j,
                    (i, j, chain),
                )
                for j in there[start : start + max(surplus, 0) + 1]
            ]
            if surplus < 0:  # the text has more of them: this one may stay alone
                options.append((crossed, apart, used, -2, chain))
            for option in options:
                state = option[2], option[3]
                known = choices.get(state)
                if known is None or option[:2] < known[:2]:
                    choices[state] = option
        beam = sorted(choices.values(), key=lambda one: one[:4])[:_BEAM]
        last_i = i
    chosen, chain = [], beam[0][4]
    while chain is not None:
        chosen.append(chain[:2])
        chain = chain[2]
    return chosen


def _positions(words: list[str], taken: set[int]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = defaultdict(list)
    for position, word in enumerate(words):
        if position not in taken:
            positions[word].append(position)
    return positions


def _synonyms_of(option: Any) -> Callable[[str], frozenset[str]] | None:
    if option is None:
        return None
    if isinstance(option, Mapping):
        table = {word.lower(): frozenset(map(str.lower, some)) for word, some in option.items()}
        return lambda word: table.get(word, frozenset())
    if option not in ("auto", "wordnet"):
        raise RewardError(
            "meteor: synonyms must be 'auto', 'wordnet', None or a dict of each word's synonyms, "
            f"not {option!r}"
        )
    wordnet = require("nltk.corpus", "metrics").wordnet
    try:
        wordnet.ensure_loaded()
    except LookupError:
        if option == "auto":
            return None
        raise RewardError(
            "meteor: synonyms='wordnet' needs NLTK's WordNet on this machine: run "
            "python -m nltk.downloader wordnet once, or take synonyms=None"
        ) from None
    return _wordnet_synonyms


@lru_cache(maxsize=1 << 16)
def _wordnet_synonyms(word: str) -> frozenset[str]:
    wordnet = require("nltk.corpus", "metrics").wordnet
    names = (lemma.name() for synset in wordnet.synsets(word) for lemma in synset.lemmas())
    return frozenset(name.lower() for name in names if "_" not in name)
