"""Continue a review positively: compositional polarity, verified by a parser."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.automaton import walk
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, finished, nothing
from textgym.tasks.random_draws import Draw, draws, pick
from textgym.tasks.sentiment.baselines import brief, mediocre
from textgym.tasks.sentiment.grammar import grammar_of
from textgym.tasks.sentiment.lexicon import SUBJECTS
from textgym.tasks.sentiment.reader import read
from textgym.tasks.sentiment.writer import AspectPhrases, phrases_of, verb_of

_NAMES = tuple(SUBJECTS)

# Kinds of unfinished sentences at the end of a prompt, by level. An opening that negates has to be
# followed by words of the opposite polarity.
_OPENINGS = {
    2: ("but", "although", "not", "never"),
    3: ("nobody", "neither", "although not", "hardly but"),
}

Find = Callable[[str], re.Match[str] | None]

_PRAISES = 512
"""Number of references for each subject and mentioned aspect, at level 1."""


class Sentiment(Task):
    """Continue a review with a positive opinion.

    ## Description

    The prompt is the beginning of a review of a hotel, a restaurant, a film, a book, a phone, a
    museum, a concert or a train journey. The policy continues it. A complete review has opinions on
    three new aspects, in words that are not repeated, and ends with a verdict. The score is its
    positivity.

    Polarity is compositional: "not bad" is mildly positive and "never bad" fully, "a bit slow" is
    less negative than "very slow", and in "X, but Y" the second part counts more. Only sentences of
    a grammar count: number and article have to agree ("the beds were", "an awful meal"), an aspect
    has to belong to the subject (a phone has no waiter) and an adjective to the aspect (a waiter is
    not sturdy). Lists of keywords and copies of the prompt are not sentences, and repeated opinions
    earn nothing.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end:

        score = (earned points) / max(4, points) / (1 + sentences outside the grammar)

    * An opinion is one point. It earns (value + 1) / 2, where the value of its words is in [-1, 1]:
      0.75 for "clean", 1 for "superb" and "very clean", 0.55 for "not bad", negative for their
      opposites. It earns half of that if its words were used before, and nothing if the aspect was
      mentioned before. In a contrast ("X, but Y", "Although X, Y") X is 0.5 points and Y 1.5, and Y
      earns nothing if it has the polarity of X.
    * A verdict ("Overall, ...") is one point. It earns its value in the same way, but at most the
      share of all other points that was earned.
    * A sentence outside the grammar or after the verdict loses one point, plus one per four words.
      An incomplete last sentence loses one point.
    * The result is divided by 1 + the number of sentences outside the grammar, because such a
      sentence may retract the others ("That is not true.").

    No two subjects share an aspect, so praise of a fixed subject earns at most 0.14. Fluent text of
    random polarity scores about 0.46 (the ``mediocre`` baseline), one sentence of
    praise 0.25 (``brief``).

    ## Starting State

    A prompt of `generate`, by level:

    1. The first sentence, and one opinion, either way.
    2. The first sentence, and an unfinished one: a contrast with a criticism ("The room was dirty,
       but"), or a negation that requires a negative word ("The room was never").
    3. The first sentence, an opinion, and an unfinished sentence with a longer distance between the
       negation and the word ("Nobody could say that the room was", "The room was neither"), or with
       a contrast to a negation ("Although the room was not clean,").

    ``item(0)`` at level 1::

        I went to a small concert in Lisbon in October. The drinks were worse than
        expected.

        -> The drummer was fantastic, the tickets were really reasonable and the crowd
        never disappointed us. Overall, it was a fantastic evening.

    ``item(0)`` at level 2::

        I took a night train to Lisbon last spring. The engine was not

        -> at all slow. The benches were very clean and the corridor never disappointed us.
        Overall, it was a great journey.

    ``item(1)`` at level 2::

        We went to a new museum in Seville in May. Although the entrance was bad,

        -> the fees were never mediocre. The cashier was very helpful and the paintings
        really impressed us. Overall, we would gladly go there again.

    ``item(0)`` at level 3::

        I stayed at a small hotel in Madrid in May. The room was nicer than expected.
        Nobody could say that the beds were

        -> bad. The breakfast really impressed us and the manager was very polite. In
        short, I was very happy.

    The row's other columns are ``subject``, ``opening`` (the unfinished sentence) and ``mentioned``
    (aspects that were mentioned before).

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
        """Generate the beginning of a review, and a fully positive continuation."""
        draw = draws(rng, 8 if self.level == 1 else 20)
        subject = pick(_NAMES, draw)
        aspects, about, heads, tails, praise, _, _ = phrases_of(subject)
        prompt = f"{pick(heads, draw)} {pick(tails, draw)}."
        aspect = pick(aspects, draw)
        _, clause = pick(about[aspect].good if draw() < 0.5 else about[aspect].bad, draw)
        if self.level != 2:
            prompt += f" {clause}."
        if self.level == 1:
            return {
                "prompt": prompt,
                "reference": pick(_praises(subject, aspect), draw),
                "subject": subject,
                "opening": "",
                "mentioned": [aspect],
            }
        pool = list(aspects)
        mentioned = []
        if self.level != 2:
            pool.remove(aspect)
            mentioned.append(aspect)
        kind = pick(_OPENINGS[self.level], draw)
        aspect = pool.pop(int(draw() * len(pool)))
        was = f"{aspect} {verb_of(subject, aspect)}"
        opening, reference = _open(kind, about[aspect], was, draw)
        warmly = about[pool.pop(int(draw() * len(pool)))].warmly
        warm, warm_first = pick(warmly, draw)
        gladly = about[pool.pop(int(draw() * len(pool)))].gladly
        glad, glad_first = pick(gladly, draw)
        verdict = pick(praise, draw)
        if not reference:
            mentioned.append(aspect)
            strongly = about[pool.pop(int(draw() * len(pool)))].strongly
            reference = f" {pick(strongly, draw)[0]}."
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
        """Prefix the text with a space, unless it finishes the last word of the prompt."""
        opening = row["opening"]
        if opening and completion and not completion[0].isspace():
            *words, begun = opening.replace(",", " ,").split(" ")
            end = re.match(r"[a-z]+", completion)
            state = walk(grammar_of(row["subject"]), words)
            if end and begun not in state and begun + end[0] in state:
                return completion.rstrip()
        return super().normalize(completion, row)

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """Score the positivity of the continuation."""
        subject, opening = row["subject"], row["opening"]
        if not opening:
            # A shortcut: most nonsense has no beginning of a sentence.
            first, later = _beginnings(subject)
            if not first(text) and not later(text):
                return nothing("the text", f"not a sentence of a review of a {subject}")
        judgement = Judgement()
        return read(text, subject, opening, judgement).judge(row["mentioned"], judgement)

    def complete_row(self, row: Row) -> Row:
        """Parse the subject, opening and mentioned aspects of a user's prompt."""
        *_, opening = re.split(r"[.!?]\s*", row["prompt"])
        words = set(re.findall(r"[a-z]+", row["prompt"].lower()))
        # The subject that is named, or else the one with the most aspects.
        subject = max(
            _NAMES, key=lambda name: (name in words, len(words & SUBJECTS[name].aspects.keys()))
        )
        before = row["prompt"].removesuffix(opening) + opening.rpartition(",")[0]
        mentioned = [
            word for word in re.findall(r"[a-z]+", before) if word in SUBJECTS[subject].aspects
        ]
        found = {"subject": subject, "opening": opening.rstrip(), "mentioned": mentioned}
        return {**found, **row}

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score of the complete sentences so far."""
        return list(map(self.score, map(finished, texts), rows))

    def baselines(self) -> dict[str, Baseline]:
        """``mediocre`` is fluent with random polarity; ``brief`` writes one sentence of praise."""
        return {"mediocre": mediocre, "brief": brief}

    def document(self, rng: np.random.Generator) -> str:
        """A review of mixed polarity: the prompt, continued by the ``mediocre`` baseline."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


@cache
def _beginnings(subject: str) -> tuple[Find, Find]:
    """Searches for the beginning of a sentence at the start of a text, and after a full stop."""
    words = "|".join(map(re.escape, grammar_of(subject)))
    return re.compile(f" (?:{words})[ ,]").match, re.compile(rf"\. (?:{words})[ ,]").search


@cache
def _praises(subject: str, mentioned: str) -> tuple[str, ...]:
    """Fully positive continuations that avoid one aspect, for `Sentiment.generate`.

    They are cached, because composing one would take as long as the rest of a row.
    """
    aspects, about, _, _, praise, _, _ = phrases_of(subject)
    others = [aspect for aspect in aspects if aspect != mentioned]
    seed = zlib.crc32(f"{subject} {mentioned}".encode())
    draw = draws(np.random.default_rng(seed), 8 * _PRAISES)
    texts = []
    for _ in range(_PRAISES):
        pool = list(others)
        warmly = about[pool.pop(int(draw() * len(pool)))].warmly
        warm, warm_first = pick(warmly, draw)
        gladly = about[pool.pop(int(draw() * len(pool)))].gladly
        glad, glad_first = pick(gladly, draw)
        strongly = about[pool.pop(int(draw() * len(pool)))].strongly
        strong, strong_first = pick(strongly, draw)
        bodies = (
            f"{warm_first}, {glad} and {strong}",
            f"{strong_first}, {warm} and {glad}",
            f"{glad_first}, {strong} and {warm}",
        )
        verdict = pick(praise, draw)
        texts.append(f" {pick(bodies, draw)}. {verdict}")
    return tuple(texts)


def _open(kind: str, phrases: AspectPhrases, was: str, draw: Draw) -> tuple[str, str]:
    """An unfinished sentence, and its positive end unless a clause has to follow."""
    bad, good = phrases.bad_words, phrases.good_words
    number = int(draw() * len(bad))
    if kind == "but":
        return f"The {was} {bad[number]}, but", ""
    if kind == "although":
        return f"Although the {was} {bad[number]},", ""
    if kind == "although not":
        return f"Although the {was} not {pick(good, draw)},", ""
    if kind == "hardly but":
        return f"The {was} hardly {pick(good, draw)}, but", ""
    if kind == "not":
        return f"The {was} not", f" at all {bad[number]}."
    if kind == "never":
        return f"The {was} never", f" {bad[number]}."
    if kind == "nobody":
        return f"Nobody could say that the {was}", f" {bad[number]}."
    return f"The {was} neither", f" {bad[number]} nor {bad[number - 1]}."
