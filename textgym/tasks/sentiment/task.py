"""Continue a review so that it speaks well of its subject: compositional polarity, checked."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.automaton import walk
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, nothing
from textgym.tasks.sentiment.grammar import grammar_of
from textgym.tasks.sentiment.lexicon import SUBJECTS
from textgym.tasks.sentiment.reader import read
from textgym.tasks.sentiment.writer import Clause, Said, phrases_of, verb_of

_NAMES = tuple(SUBJECTS)

# How a prompt may break off in mid-sentence, by level. The polarity of the words that have to
# follow is the opposite of the wanted one wherever the opening negates.
_OPENINGS = {
    2: ("but", "although", "not", "never"),
    3: ("nobody", "neither", "although not", "hardly but"),
}

Find = Callable[[str], re.Match[str] | None]

_PRAISES = 512
"""References for each subject and mentioned aspect, at level 1."""

Draw = Callable[[], float]
"""The next of the uniform numbers in [0, 1) of one text, which were drawn at once."""


class Sentiment(Task):
    """Continue a review so that it speaks well of its subject.

    ## Description

    The prompt is the beginning of a review of a hotel, a restaurant, a film, a book, a phone, a
    museum, a concert or a train journey. The policy goes on with it. A full review says something
    of three aspects that were not mentioned yet, in words that are not used twice, and ends with a
    verdict. The score says how positive it is.

    Polarity is composed, not counted: "not bad" is mildly good and "never bad" wholly, "a bit
    slow" is less bad than "very slow", and in "X, but Y" it is Y that counts more. Only sentences
    of a grammar count at all: number has to agree ("the beds were", "a great owner", "an awful
    meal"), an aspect has to belong to the subject (a phone has no waiter) and an adjective to the
    aspect (a waiter is not sturdy). Chanting, keyword dumps and copies of the prompt are no
    sentences; sentences said twice are worth nothing the second time.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end:

        score = (earned points) / max(4, points) / (1 + sentences outside the grammar)

    * An opinion is one point. It earns (value + 1) / 2, where the value in [-1, 1] is the one of
      its words: 0.75 for "clean", 1 for "superb" and "very clean", 0.55 for "not bad", negative
      for their opposites. It earns half of that if its words were used before, and nothing if the
      aspect was mentioned before. In a contrast ("X, but Y", "Although X, Y") the points are 0.5
      for X and 1.5 for Y, and Y earns nothing if it is on X's side.
    * A verdict ("Overall, ...") is one point. It earns its value likewise, but no more than the
      share of all other points that was earned, since it follows from them.
    * Whatever is not a sentence of the grammar, and whatever follows the verdict, is one point not
      earned, and one more for every four words. A last sentence that breaks off in the middle is
      one point not earned.
    * The whole is divided by 1 + the number of sentences that are not of the grammar: "That is not
      true." takes back what was said before.

    A fluent writer who is as often displeased as pleased gets about 0.45 (the ``mediocre``
    baseline), one sentence of praise 0.25 (``brief``).

    ## Starting State

    A prompt of `generate`, by level:

    1. The first sentence, and one opinion, either way.
    2. The first sentence, and one that breaks off: a contrast that has to be turned ("The room was
       dirty, but"), or a negation after which only a bad word is good ("The room was never").
    3. The first sentence, an opinion, and a sentence that breaks off with more between the negation
       and the word ("Nobody could say that the room was", "The room was neither"), or with a
       contrast to a negation ("Although the room was not clean,").

    ``item(0)`` at level 1::

        I went to a small concert in Lisbon in October. The drinks were worse than
        expected.

        -> The drummer was fantastic, the tickets were really reasonable and the crowd
        never disappointed us. Overall, it was a fantastic evening.

    ``item(0)`` at level 2::

        I took a night train to Lisbon last spring. The engine was not

        -> at all slow. The seats were very clean and the corridor never disappointed us.
        Overall, it was a great journey.

    ``item(1)`` at level 2::

        We went to a new museum in Seville in May. Although the entrance was bad,

        -> the tickets were never mediocre. The staff was very helpful and the paintings
        really impressed us. Overall, we would gladly go there again.

    ``item(0)`` at level 3::

        I stayed at a small hotel in Madrid in May. The room was nicer than expected.
        Nobody could say that the beds were

        -> bad. The breakfast really impressed us and the owner was very polite. In short,
        I was very happy.

    The row's other columns are ``subject``, ``opening`` (the unfinished sentence) and ``mentioned``
    (aspects on which an opinion is nothing new).

    ## Episode End

    End-of-sequence, or 64 tokens (the oracle needs at most 30): a termination. Continuations begin
    with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Sentiment-v0"
    tags = ("free writing", "graded")
    scored_by = (
        'how positive the review is; polarity is composed ("not bad", "X, but Y"), and '
        "only grammatical sentences on new aspects count"
    )
    max_prompt_tokens = 48
    max_new_tokens = 64
    levels = (1, 2, 3)
    cheat_ceiling = 0.41
    lead = " "

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw the beginning of a review, and a wholly positive continuation."""
        # One call for all the choices of a row: several times faster than a call for each.
        draws = rng.random(8 if self.level == 1 else 20).tolist()
        subject = _NAMES[int(draws[0] * len(_NAMES))]
        aspects, said, heads, tails, praise, _, _ = phrases_of(subject)
        prompt = f"{heads[int(draws[1] * len(heads))]} {tails[int(draws[2] * len(tails))]}."
        aspect = aspects[int(draws[3] * len(aspects))]
        clauses = said[aspect].good if draws[4] < 0.5 else said[aspect].bad
        if self.level != 2:
            prompt += f" {clauses[int(draws[5] * len(clauses))][1]}."
        if self.level == 1:
            praises = _praises(subject, aspect)
            return {
                "prompt": prompt,
                "reference": praises[int(draws[6] * len(praises))],
                "subject": subject,
                "opening": "",
                "mentioned": [aspect],
            }
        draw = iter(draws[6:]).__next__
        pool = list(aspects)
        mentioned = []
        if self.level != 2:
            pool.remove(aspect)
            mentioned.append(aspect)
        kinds = _OPENINGS[self.level]
        kind = kinds[int(draw() * len(kinds))]
        aspect = pool.pop(int(draw() * len(pool)))
        was = f"{aspect} {verb_of(subject, aspect)}"
        opening, reference = _open(kind, said[aspect], was, draw)
        warmly = said[pool.pop(int(draw() * len(pool)))].warmly
        warm, warm_first = warmly[int(draw() * len(warmly))]
        gladly = said[pool.pop(int(draw() * len(pool)))].gladly
        glad, glad_first = gladly[int(draw() * len(gladly))]
        verdict = praise[int(draw() * len(praise))]
        if not reference:
            mentioned.append(aspect)
            strongly = said[pool.pop(int(draw() * len(pool)))].strongly
            reference = f" {strongly[int(draw() * len(strongly))][0]}."
        if draw() < 0.5:
            reference += f" {warm_first} and {glad}. {verdict}"
        else:
            reference += f" {glad_first} and {warm}. {verdict}"
        return {
            "prompt": f"{prompt} {opening}",
            "reference": reference,
            "subject": subject,
            "opening": opening,
            "mentioned": mentioned,
        }

    def normalize(self, completion: str, row: Mapping[str, Any]) -> str:
        """The text with one space before it, unless it ends a word that the prompt begins."""
        opening = row["opening"]
        if opening and completion and not completion[0].isspace():
            *words, begun = opening.replace(",", " ,").split(" ")
            end = re.match(r"[a-z]+", completion)
            state = walk(grammar_of(row["subject"]), words)
            if end and begun not in state and begun + end[0] in state:
                return completion.rstrip()
        return super().normalize(completion, row)

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """How positive the continuation is, if it is a fluent review at all."""
        subject, opening = row["subject"], row["opening"]
        if not opening:
            # Most junk holds no beginning of a sentence, and need not be read.
            first, later = _beginnings(subject)
            if not first(text) and not later(text):
                return nothing("the text", f"not a sentence of a review of a {subject}")
        judgement = Judgement()
        return read(text, subject, opening, judgement).judge(row["mentioned"], judgement)

    def complete_row(self, row: Row) -> Row:
        """Read subject, opening and mentioned aspects out of a prompt that a user wrote."""
        *_, opening = re.split(r"[.!?]\s*", row["prompt"])
        words = set(re.findall(r"[a-z]+", row["prompt"].lower()))
        # Its own name says what a review is of; failing that, what it speaks of.
        subject = max(
            _NAMES, key=lambda name: (name in words, len(words & SUBJECTS[name].aspects.keys()))
        )
        said = row["prompt"].removesuffix(opening) + opening.rpartition(",")[0]
        mentioned = [
            word for word in re.findall(r"[a-z]+", said) if word in SUBJECTS[subject].aspects
        ]
        found = {"subject": subject, "opening": opening.rstrip(), "mentioned": mentioned}
        return {**found, **row}

    def baselines(self) -> dict[str, Baseline]:
        """``mediocre`` is fluent and as often bad as good; ``brief`` writes one good sentence."""
        return {"mediocre": _mediocre, "brief": _brief}

    def document(self, rng: np.random.Generator) -> str:
        """A review of mixed polarity: the prompt and what the ``mediocre`` baseline makes of it."""
        row = self.sample(rng)
        return str(row["prompt"]) + _mediocre(row, rng)


@cache
def _beginnings(subject: str) -> tuple[Find, Find]:
    """What finds the beginning of a sentence at the start of a text, and after a full stop."""
    words = "|".join(map(re.escape, grammar_of(subject)))
    return re.compile(f" (?:{words})[ ,]").match, re.compile(rf"\. (?:{words})[ ,]").search


@cache
def _praises(subject: str, mentioned: str) -> tuple[str, ...]:
    """Wholly positive continuations that leave one aspect out, for `Sentiment.generate`.

    Composing one takes as long as all the rest of a row, so they are composed once.
    """
    aspects, said, _, _, praise, _, _ = phrases_of(subject)
    others = [aspect for aspect in aspects if aspect != mentioned]
    seed = zlib.crc32(f"{subject} {mentioned}".encode())
    draw = iter(np.random.default_rng(seed).random(8 * _PRAISES).tolist()).__next__
    texts = []
    for _ in range(_PRAISES):
        pool = list(others)
        warmly = said[pool.pop(int(draw() * len(pool)))].warmly
        warm, warm_first = warmly[int(draw() * len(warmly))]
        gladly = said[pool.pop(int(draw() * len(pool)))].gladly
        glad, glad_first = gladly[int(draw() * len(gladly))]
        strongly = said[pool.pop(int(draw() * len(pool)))].strongly
        strong, strong_first = strongly[int(draw() * len(strongly))]
        bodies = (
            f"{warm_first}, {glad} and {strong}",
            f"{strong_first}, {warm} and {glad}",
            f"{glad_first}, {strong} and {warm}",
        )
        verdict = praise[int(draw() * len(praise))]
        texts.append(f" {bodies[int(draw() * 3)]}. {verdict}")
    return tuple(texts)


def _open(kind: str, said: Said, was: str, draw: Draw) -> tuple[str, str]:
    """The beginning of a sentence, and what makes a good one of it, if no clause has to follow."""
    bad, good = said.bad_words, said.good_words
    number = int(draw() * len(bad))
    if kind == "but":
        return f"The {was} {bad[number]}, but", ""
    if kind == "although":
        return f"Although the {was} {bad[number]},", ""
    if kind == "although not":
        return f"Although the {was} not {good[int(draw() * len(good))]},", ""
    if kind == "hardly but":
        return f"The {was} hardly {good[int(draw() * len(good))]}, but", ""
    if kind == "not":
        return f"The {was} not", f" at all {bad[number]}."
    if kind == "never":
        return f"The {was} never", f" {bad[number]}."
    if kind == "nobody":
        return f"Nobody could say that the {was}", f" {bad[number]}."
    return f"The {was} neither", f" {bad[number]} nor {bad[number - 1]}."


def _mediocre(row: Row, rng: np.random.Generator) -> str:
    """Go on fluently, with no regard to what the words say."""
    draw = iter(rng.random(32).tolist()).__next__
    phrases = phrases_of(row["subject"])
    said = phrases.said
    pool = [aspect for aspect in phrases.aspects if aspect not in row["mentioned"]]
    goodness = draw()  # some writers like more than others
    likes: list[bool] = []

    def clause() -> Clause:
        aspect = pool[number := int(draw() * len(pool))]
        if draw() < 0.95:
            del pool[number]  # else it may be named again: not every writer takes care
        likes.append(draw() < goodness)
        clauses = said[aspect].good if likes[-1] else said[aspect].bad
        return clauses[int(draw() * len(clauses))]

    text = ""
    opening = row["opening"]
    if opening.endswith(("but", ",")):
        text = f" {clause()[0]}."
    elif opening:
        aspect = next(word for word in opening.split() if word in said)
        likes.append(draw() < goodness)
        # What the sentence says is the opposite of the word, since all these openings negate.
        words = said[aspect].bad_words if likes[-1] else said[aspect].good_words
        text = _finish(opening, words, draw)
    while (room := 3 - len(likes)) > 0:
        first, capital = clause()
        form = draw()
        if room == 1 or form < 0.3 or " but " in capital:
            text += f" {capital}."
            continue
        second, _ = clause()
        if likes[-1] != likes[-2]:
            text += f" {capital}, but {second}." if form < 0.8 else f" Although {first}, {second}."
        elif room == 2 or form < 0.6:
            text += f" {capital} and {second}."
        else:
            text += f" {capital}, {second} and {clause()[0]}."
    if draw() < 0.9:
        fair = draw() < sum(likes) / len(likes)
        verdicts = phrases.good_verdicts if fair else phrases.bad_verdicts
        text += f" {verdicts[int(draw() * len(verdicts))]}"
    return text


def _finish(opening: str, words: tuple[str, ...], draw: Draw) -> str:
    """Finish a sentence that broke off before an adjective."""
    number = int(draw() * len(words))
    word = words[number]
    if opening.endswith("neither"):
        return f" {word} nor {words[number - 1]}."
    if opening.endswith("not") and (emphasis := draw()) < 0.4:
        return f" {'at all' if emphasis < 0.2 else 'very'} {word}."
    return f" {word}."


def _brief(row: Row, rng: np.random.Generator) -> str:
    """One sentence of praise, which fits wherever the prompt ends in a full sentence."""
    aspects = phrases_of(row["subject"]).aspects
    return f" I loved the {aspects[int(rng.integers(len(aspects)))]}."
