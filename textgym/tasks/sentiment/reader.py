"""Reads a review: which sentences are English of the task's grammar, and what they say of what.

The grammar (`sentiment_grammar`) decides what a sentence is: agreement of number (was/were), a or
an, aspects that belong to the subject, adjectives that suit the aspect. The meaning is then
composed word by word, in one pass over the sentence:

* a degree scales the word that follows: "very clean" is more than "clean", "a bit dirty" less than
  "dirty";
* "not" shifts a value by a constant towards the other side, so that "not bad" is mildly good and
  "not great" mildly bad; "never", "hardly", "not at all", "neither ... nor" and "nobody could say
  that" turn it over. Shift and reversal are the two models of negation compared by Taboada et al.,
  "Lexicon-Based Methods for Sentiment Analysis" (Computational Linguistics 37(2), 2011), section
  2.4;
* "X but Y" and "although X, Y" weigh Y three times as much as X (Polanyi and Zaenen, "Contextual
  Valence Shifters", 2006, on why it is not a mean), and are wrong if X and Y are on one side.
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
"""Points of a full review: opinions on three aspects and a verdict."""

WORDS_PER_SLIP = 4
LETTERS_PER_WORD = 6
"""A sentence outside the grammar counts as one failed point, and one more per this many words, or
letters of them."""

NOT_SHIFT = 1.3
REVERSAL = 1.4

# What a word does to the meaning of its sentence.
_VALUE, _ASPECT, _DEGREE, _NOT, _NEVER, _THAN, _PAUSE, _BUT, _ALTHOUGH, _VERDICT = range(10)


@cache
def _operations(subject: str) -> dict[str, tuple[int, float]]:
    """What each word of a review of a subject does, with its value or factor."""
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
"""Aspect, value (None: a contrast without opposition), weight, and the words of the value."""


class Reading(NamedTuple):
    """What a text says.

    Attributes:
        opinions: The opinions, in order.
        verdict: Value of the verdict, or None.
        slips: Points lost to whatever is not a sentence of the grammar or comes after the verdict.
        outside: How many sentences are not of the grammar; a last one that breaks off within
            `WORDS_PER_SLIP` words is not counted.
    """

    opinions: list[Opinion]
    verdict: float | None
    slips: float
    outside: int = 0

    def score(self, mentioned: Collection[str] = ()) -> float:
        """How positive the review is as a whole, in [0, 1]; see `judge`."""
        return self.judge(mentioned).score

    def judge(
        self, mentioned: Collection[str] = (), judgement: Judgement | None = None
    ) -> Judgement:
        """Judge how positive the review is as a whole, in [0, 1].

        Each opinion on a new aspect earns ``(value + 1) / 2`` times its weight, half of it when its
        words were used before; an opinion on an aspect that was `mentioned` earns nothing. The
        verdict earns what it says, but no more than the share of all other points that was earned,
        since it follows from them. The sum is divided by the points that were there to earn: at
        least `NEEDED`, and one more for each slip; and again by one more than the sentences outside
        the grammar, since any of them may take back what the others say.

        Args:
            mentioned: Aspects on which an opinion would be nothing new.
            judgement: What to add to: remarks of `read`.
        """
        judgement = Judgement() if judgement is None else judgement
        if not self.opinions:
            # Whatever the rest says, there is nothing to earn.
            return judgement.note("the text", "no opinion on anything")
        seen = set(mentioned)
        spent: set[str] = set()
        earned = 0.0
        points = self.slips
        for aspect, value, weight, words in self.opinions:
            points += weight
            about = f"{aspect}: {' '.join(words)}"
            if aspect in seen:
                judgement.note(about, "nothing new: the aspect was mentioned before")
            elif value is None:
                judgement.note(about, "a contrast of what does not contrast")
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
            judgement.note(f"{points:g} of {NEEDED:g} points", "more opinions, or a verdict")
        what = f"{points:g} points were there to earn, more than {NEEDED:g}"
        judgement.settle("the length", what, earned / max(NEEDED, points))
        what = f"{self.outside} may take back what the others say"
        return judgement.settle(
            "sentences outside the grammar", what, earned / max(NEEDED, points) / (1 + self.outside)
        )


def read(
    completion: str, subject: str, opening: str = "", judgement: Judgement | None = None
) -> Reading:
    """Read the continuation of a review.

    Args:
        completion: What was written: sentences with one space before each word. What is no
            sentence of the grammar is a slip, and so is all that follows a verdict.
        subject: Key of `sentiment_lexicon.SUBJECTS`.
        opening: The unfinished sentence at the end of the prompt, which the completion goes on
            with; opinions that it holds already are left out.
        judgement: Gets a remark on each sentence that does not count.
    """
    state, operations = grammar_of(subject), _operations(subject)
    gap: State = {"": state}  # a sentence that is not the prompt's own has a space before it
    opinions: list[Opinion] = []
    verdict: float | None = None
    slips = given = outside = 0
    if opening:
        given = opening.count(" ") + opening.count(",") + 1
    else:
        state = gap
    *sentences, rest = (opening + completion.rstrip()).split(".")
    for sentence in sentences:
        words = sentence.replace(",", " ,").split(" ")
        fine = "." in walk(state, words)
        if verdict is not None or not fine:
            slips += _slips(words[given:])
            outside += not fine
            if judgement is not None:
                what = "comes after the verdict" if fine else "not a sentence of the grammar"
                judgement.note(quoted(sentence), what)
        else:
            verdict = _understand(words, operations, given, opinions)
        state, given = gap, 0
    if rest:
        # The text breaks off in mid-sentence. That costs the sentence, however well it began.
        words = rest.replace(",", " ,").split(" ")
        begun = bool(walk(state, words))
        lost = 1 if begun and verdict is None else _slips(words[given:])
        slips += lost
        if judgement is not None:
            judgement.note(quoted(rest), "breaks off before its full stop")
        outside += not begun and lost > 1  # a word or two more say nothing yet
    return Reading(opinions, verdict, slips, outside)


def _slips(words: list[str]) -> int:
    """The points lost to a sentence that does not count."""
    text = " ".join(words)
    size = max(len(words), len(text.split()), len(text) // LETTERS_PER_WORD)
    return 1 + size // WORDS_PER_SLIP


def _understand(
    words: list[str],
    operations: dict[str, tuple[int, float]],
    given: int,
    opinions: list[Opinion],
) -> float | None:
    """Compose the meaning of one sentence of the grammar.

    Args:
        words: Its words, without the full stop.
        operations: What each word does.
        given: The first so many words are not the writer's.
        opinions: The writer's opinions are appended here.

    Returns:
        The value of a verdict; None for any other sentence.
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
            compared = False  # in "better than the soup", nothing is said of the soup
        else:  # an aspect, a pronoun or a comma: here a new clause may begin
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
