"""Parses a review and computes its sentiment.

The grammar (:mod:`textgym.tasks.sentiment.grammar`) recognizes sentences: number agreement
(was/were), a or an, aspects that belong to the subject, adjectives that suit the aspect. The
sentiment is then composed word by word, in one pass over the sentence:

* A degree scales the next word: "very clean" is more than "clean", "a bit dirty" less than "dirty".
* "not" shifts a value by a constant in the opposite direction, so "not bad" is mildly positive and
  "not great" mildly negative. "never", "hardly", "not at all", "neither ... nor" and "nobody could
  say that" reverse it. Taboada et al., "Lexicon-Based Methods for Sentiment Analysis"
  (Computational Linguistics 37(2), 2011), section 2.4, compare both models of negation.
* "X but Y" and "although X, Y" weigh Y three times as much as X (Polanyi and Zaenen, "Contextual
  Valence Shifters", 2006, explain why it is not a mean). They are wrong if X and Y have the same
  polarity.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import NamedTuple

from textgym.tasks.automaton import State, walk
from textgym.tasks.judgement import Judgement, quoted
from textgym.tasks.sentiment import lexicon
from textgym.tasks.sentiment.grammar import OPENERS, grammar_of

NEEDED = 4.0
"""Points of a complete review: opinions on three aspects and a verdict."""

WORDS_PER_POINT = 4
LETTERS_PER_WORD = 6
"""A sentence outside the grammar loses one point, plus one per this many words or the corresponding
number of letters."""

NOT_SHIFT = 1.3
REVERSAL = 1.4

# Effects of a word on the meaning of its sentence.
_VALUE, _ASPECT, _DEGREE, _NOT, _NEVER, _THAN, _PAUSE, _BUT, _ALTHOUGH, _VERDICT = range(10)


@cache
def _operations(subject: str) -> dict[str, tuple[int, float]]:
    """The effect of each word of a review of a subject, with its value or factor."""
    operations: dict[str, tuple[int, float]] = {
        "all": (_NEVER, 0),  # only in "not at all"
        "than": (_THAN, 0),
        "I": (_PAUSE, 0),
        "we": (_PAUSE, 0),
        "it": (_PAUSE, 0),
        "expected": (_PAUSE, 0),  # only in "than expected"
        ",": (_PAUSE, 0),
        "but": (_BUT, 0),
        "Although": (_ALTHOUGH, 0),
    }
    operations |= {opener.split()[0]: (_VERDICT, 0) for opener in OPENERS}
    operations |= dict.fromkeys(lexicon.WEAK_NEGATORS, (_NOT, 0))
    operations |= dict.fromkeys(lexicon.STRONG_NEGATORS, (_NEVER, 0))
    operations |= {word: (_DEGREE, factor) for word, factor in lexicon.DEGREES.items()}
    for sort in (lexicon.GENERAL, *lexicon.SORTS.values()):
        values = (lexicon.PLAIN, lexicon.STRONG, -lexicon.PLAIN, -lexicon.STRONG)
        for words, value in zip(sort, values, strict=True):
            operations |= dict.fromkeys(words, (_VALUE, value))
    for table in (
        lexicon.LIKE | lexicon.DISLIKE | lexicon.LIKE_BASE | lexicon.PLEASE | lexicon.ANNOY,
        lexicon.PLEASE_BASE | lexicon.ANNOY_BASE | lexicon.COMPARE | lexicon.MOOD,
        lexicon.VERDICT,
    ):
        operations |= {word: (_VALUE, value) for word, value in table.items()}
    operations |= dict.fromkeys(lexicon.SUBJECTS[subject].aspects, (_ASPECT, 0))
    return operations


Opinion = tuple[str, float | None, float, list[str]]
"""Aspect, value (None: a contrast without opposition), weight, and the words with a value."""


class Reading(NamedTuple):
    """The parse of a review.

    Attributes:
        opinions: The opinions, in order.
        verdict: Value of the verdict, or None.
        lost_points: Points lost to sentences outside the grammar or after the verdict.
        outside: Number of sentences outside the grammar, except an incomplete last one of fewer
            than `WORDS_PER_POINT` words.
    """

    opinions: list[Opinion]
    verdict: float | None
    lost_points: float
    outside: int = 0

    def score(self, mentioned: Collection[str] = ()) -> float:
        """The score in [0, 1]; see `judge`."""
        return self.judge(mentioned).score

    def judge(
        self, mentioned: Collection[str] = (), judgement: Judgement | None = None
    ) -> Judgement:
        """Judge how positive the review is as a whole, in [0, 1].

        Each opinion on a new aspect earns ``(value + 1) / 2`` times its weight, or half of that if
        its words were used before. An opinion on an aspect in `mentioned` earns nothing. The
        verdict earns its value, but at most the share of the other points that was earned. The sum
        is divided by the number of available points (lost ones included, at least `NEEDED`), and
        by one plus the number of sentences outside the grammar, since each of them may retract the
        others.

        Args:
            mentioned: Aspects that were mentioned before.
            judgement: Remarks of `read`, to add to.
        """
        judgement = Judgement() if judgement is None else judgement
        if not self.opinions:
            return judgement.note("the text", "no opinion on anything")
        seen = set(mentioned)
        spent: set[str] = set()
        earned = 0.0
        points = self.lost_points
        for aspect, value, weight, words in self.opinions:
            points += weight
            about = f"{aspect}: {' '.join(words)}"
            if aspect in seen:
                judgement.note(about, "the aspect was mentioned before")
            elif value is None:
                judgement.note(about, "a contrast without opposition")
            else:
                share = 1.0 if spent.isdisjoint(words) else 0.5
                gain = share * weight * (value + 1) / 2
                earned += gain
                what = f"value {value:+.2f}" + ("" if share == 1.0 else ", in words used before")
                judgement.add(about, what, gain / NEEDED)
            seen.add(aspect)
            spent.update(words)
        if self.verdict is not None:
            gain = min((self.verdict + 1) / 2, earned / points)
            earned += gain
            points += 1
            judgement.add("the verdict", f"value {self.verdict:+.2f}", gain / NEEDED)
        if points < NEEDED:
            judgement.note(f"{points:g} of {NEEDED:g} points", "opinions or a verdict are missing")
        what = f"{points:g} points were available, more than {NEEDED:g}"
        judgement.settle("the length", what, earned / max(NEEDED, points))
        what = f"{self.outside} may retract the others"
        return judgement.settle(
            "sentences outside the grammar", what, earned / max(NEEDED, points) / (1 + self.outside)
        )


def read(
    completion: str, subject: str, opening: str = "", judgement: Judgement | None = None
) -> Reading:
    """Parse the continuation of a review.

    Args:
        completion: Sentences with one space before each word. Sentences outside the grammar and
            sentences after the verdict lose points.
        subject: Key of `lexicon.SUBJECTS`.
        opening: The unfinished sentence at the end of the prompt, which the completion finishes.
            Opinions in the opening itself do not count.
        judgement: Receives a remark on each sentence that does not count.
    """
    state, operations = grammar_of(subject), _operations(subject)
    spaced: State = {"": state}  # a new sentence starts with a space
    opinions: list[Opinion] = []
    verdict: float | None = None
    lost_points = given = outside = 0
    if opening:
        given = opening.count(" ") + opening.count(",") + 1
    else:
        state = spaced
    *sentences, rest = (opening + completion.rstrip()).split(".")
    for sentence in sentences:
        words = sentence.replace(",", " ,").split(" ")
        grammatical = "." in walk(state, words)
        if verdict is not None or not grammatical:
            lost_points += _lost_points(words[given:])
            outside += not grammatical
            if judgement is not None:
                what = "after the verdict" if grammatical else "not a sentence of the grammar"
                judgement.note(quoted(sentence), what)
        else:
            verdict = _interpret(words, operations, given, opinions)
        state, given = spaced, 0
    if rest:
        # An incomplete sentence earns nothing, but loses no more if it starts grammatically.
        words = rest.replace(",", " ,").split(" ")
        grammatical = bool(walk(state, words))
        lost = 1 if grammatical and verdict is None else _lost_points(words[given:])
        lost_points += lost
        if judgement is not None:
            judgement.note(quoted(rest), "incomplete: no full stop")
        outside += not grammatical and lost > 1  # one or two words do not retract anything
    return Reading(opinions, verdict, lost_points, outside)


def _lost_points(words: list[str]) -> int:
    """The points lost to a sentence that does not count."""
    text = " ".join(words)
    size = max(len(words), len(text.split()), len(text) // LETTERS_PER_WORD)
    return 1 + size // WORDS_PER_POINT


def _interpret(
    words: list[str],
    operations: dict[str, tuple[int, float]],
    given: int,
    opinions: list[Opinion],
) -> float | None:
    """Compose the meaning of a sentence of the grammar.

    Args:
        words: Its words, without the full stop.
        operations: The effect of each word.
        given: Number of words that belong to the prompt.
        opinions: The completion's opinions are appended to this list.

    Returns:
        The value of a verdict, or None for any other sentence.
    """
    clauses: list[tuple[str, float, list[str], bool]] = []
    aspect = ""
    value: float | None = None
    carriers: list[str] = []
    degree = 1.0
    negation = position = 0
    contrast = concluding = adversative = compared = mine = False
    for word in words:
        position += 1
        if word not in operations:
            continue
        kind, number = operations[word]
        if kind == _VALUE:
            if negation == _NOT:
                number += -NOT_SHIFT if number > 0 else NOT_SHIFT
            elif negation == _NEVER:
                number *= -REVERSAL
            else:
                number *= degree
            number = max(-1.0, min(1.0, number))
            negation, degree = 0, 1.0
            if value is None:
                value = number
            elif not adversative:
                value = (value + number) / 2
            elif value * number < 0:
                value = 0.25 * value + 0.75 * number
            else:
                value = min(0.0, value, number)
            carriers.append(word)
            mine = position > given
        elif kind == _DEGREE:
            degree = number
        elif kind in (_NOT, _NEVER):
            negation = kind
        elif kind == _BUT and value is not None:
            adversative = True  # "slow but clever"; after a comma, the clause has ended
        elif kind in (_BUT, _ALTHOUGH):
            contrast = True
        elif kind == _VERDICT:
            concluding = True
        elif kind == _THAN:
            compared = True
        elif kind == _ASPECT and compared:
            compared = False  # "better than the soup" is not an opinion on the soup
        else:  # a new clause may begin at an aspect, a pronoun or a comma
            if aspect and value is not None:
                clauses.append((aspect, value, carriers, mine))
                aspect, value, carriers = "", None, []
                adversative = compared = False
            if kind == _ASPECT:
                aspect = word
    if concluding:
        return value
    if aspect and value is not None:
        clauses.append((aspect, value, carriers, mine))
    if not contrast:
        opinions += [
            (aspect, value, 1.0, carriers) for aspect, value, carriers, mine in clauses if mine
        ]
    else:
        (_, less, _, _), (_, more, _, _) = clauses
        for (aspect, value, carriers, mine), weight in zip(clauses, (0.5, 1.5), strict=True):
            if mine:
                opposed = less * more < 0 or weight < 1
                opinions.append((aspect, value if opposed else None, weight, carriers))
    return None
