"""METEOR: words aligned with a reference by form, stem and synonym. Computed by NLTK."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

from textgym.data.words import checked_language, words_and_marks
from textgym.errors import RewardError, require
from textgym.rewards.metrics.normalize import stemmer
from textgym.rewards.references import ReferenceReward
from textgym.rewards.registry import register_reward
from textgym.rewards.values import is_number

Synonyms = str | Mapping[str, Iterable[str]] | None


@register_reward("meteor")
@dataclass(frozen=True, eq=False)
class Meteor(ReferenceReward):
    """METEOR (Lavie and Agarwal 2007) as NLTK computes it, the best over the references.

    The score is that of :func:`nltk.translate.meteor_score.meteor_score`. Words are aligned one to
    one: equal words first, then words with the same stem, then synonyms. With m aligned words in c
    chunks (runs that are adjacent and in the same order on both sides), precision P = m / words of
    the completion and recall R = m / words of the reference::

        score = P * R / (alpha * P + (1 - alpha) * R) * (1 - gamma * (c / m) ** beta)

    NLTK expects tokens. They are lower-cased words and punctuation marks, and single letters in
    scripts without spaces (:mod:`textgym.data.words`).

    NLTK looks up synonyms in WordNet, whose data is not part of the package:
    ``python -m nltk.downloader wordnet`` installs it. Without it, ``meteor_score`` raises
    ``LookupError``; the default ``synonyms="auto"`` then skips the synonyms, which is METEOR with
    the stages "exact" and "stem" alone. Set ``synonyms="wordnet"`` or None where scores from
    several machines are compared.

    Range: [0, 1), higher is better. A completion that equals its reference gets
    ``1 - gamma / m ** beta``, so a correct single word gets 0.5.
    Needs: the column ``column``; the package nltk (``textgym[metrics]``).
    Cost: 100 us per text of 20 words.
    Gaming: recall weighs nine times as much as precision, so overlong texts lose little; the
    reference's words in any order get at least ``1 - gamma`` of their score in the right order.

    Args:
        column: The column of references: a string, or a list of alternatives.
        alpha: Weight of recall against precision, in [0, 1].
        beta: How fast the penalty falls with longer chunks, at least 0.
        gamma: The largest penalty, in [0, 1].
        stems: Whether words with the same stem are aligned (Porter's stemmer for English). Use
            False for other languages.
        synonyms: ``"auto"``: WordNet if its data is installed, else no synonyms; ``"wordnet"``:
            WordNet, or an error; None: no synonyms; or a dict from words to their synonyms.
        language: ``"auto"`` (words by script) or the language code of the texts, see
            :mod:`textgym.data.words`.

    Attributes:
        uses_synonyms: Whether synonyms are aligned.

    Raises:
        RewardError: If an option is invalid, or the column is missing.
        MissingDependencyError: If nltk is not installed.

    Example:
        >>> from textgym.rewards import Meteor
        >>> Meteor(synonyms=None)([""], ["the cats sat"], reference=["the cat sat"])
        [0.9814814814814815]
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
    _meteor_score: Callable[[list[list[str]], list[str]], float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for option in ("alpha", "gamma"):
            value = getattr(self, option)
            if not is_number(value) or not 0 <= value <= 1:
                raise RewardError(f"{self.name}: {option} must be in [0, 1], not {value!r}")
        if not is_number(self.beta) or self.beta < 0:
            raise RewardError(f"{self.name}: beta must be a number >= 0, not {self.beta!r}")
        checked_language(self.language, self.name, RewardError)
        stem = stemmer() if self.stems else str
        thesaurus = _thesaurus(self.synonyms, stem)
        score = partial(
            require("nltk.translate.meteor_score", "metrics").meteor_score,
            stemmer=SimpleNamespace(stem=stem),
            wordnet=thesaurus or _Thesaurus({}),
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
        )
        object.__setattr__(self, "_meteor_score", score)
        object.__setattr__(self, "uses_synonyms", thesaurus is not None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the options: WordNet is looked up again on the other machine."""
        options = (self.column, self.alpha, self.beta, self.gamma, self.stems, self.synonyms)
        return type(self), (*options, self.language)

    def _score(self, completion: str, references: list[str]) -> float:
        meant = [words_and_marks(one, self.language) for one in references]
        return float(self._meteor_score(meant, words_and_marks(completion, self.language)))


class _Thesaurus:
    """A stand-in for NLTK's WordNet reader.

    Args:
        synonyms: The synonyms of each word. NLTK looks words up after stemming them, so both are
            stems.
    """

    def __init__(self, synonyms: Mapping[str, set[str]]) -> None:
        self._synonyms = synonyms

    def synsets(self, word: str) -> list[Any]:
        synonyms = sorted(self._synonyms.get(word, ()))
        lemmas = [SimpleNamespace(name=partial(str, one)) for one in synonyms]
        return [SimpleNamespace(lemmas=lambda: lemmas)]


def _thesaurus(option: Any, stem: Callable[[str], str]) -> Any:
    """Return the object that NLTK asks for synonyms; None for no synonyms."""
    if option is None:
        return None
    if isinstance(option, Mapping):
        table: dict[str, set[str]] = {}
        for word, synonyms in option.items():
            table.setdefault(stem(word.lower()), set()).update(stem(s.lower()) for s in synonyms)
        return _Thesaurus(table)
    if option not in ("auto", "wordnet"):
        raise RewardError(
            "meteor: synonyms must be 'auto', 'wordnet', None or a dict from words to their "
            f"synonyms, not {option!r}"
        )
    wordnet = require("nltk.corpus", "metrics").wordnet
    try:
        wordnet.ensure_loaded()
    except LookupError:
        if option == "auto":
            return None
        raise RewardError(
            "meteor: synonyms='wordnet' needs NLTK's WordNet data; run "
            "`python -m nltk.downloader wordnet`, or use synonyms=None"
        ) from None
    return wordnet
