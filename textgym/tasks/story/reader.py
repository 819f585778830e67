"""Reads a story: which sentences are English of the task's grammar, and what they tell.

The automaton of `grammar` says whether a sentence is English. Then its words are read in
order, pronouns are looked up, and `World.do` says whether what it tells can happen where the story
stands.
"""

from __future__ import annotations

from typing import NamedTuple

from textgym.tasks.automaton import walk
from textgym.tasks.judgement import Judgement, quoted, unreadable
from textgym.tasks.story.grammar import DROP, FEELINGS, grammar
from textgym.tasks.story.world import NAMES, Event, World
from textgym.tasks.words import BOXES, GIVE, GO, MEN, PLACES, TAKE, THINGS, WOMEN

# What a word is, for the reader.
_SUBJECT, _PERSON, _THING, _BOX, _PLACE, _VERB, _AND, _IT = range(8)

_VERBS = (
    dict.fromkeys(GO, "go")
    | dict.fromkeys(TAKE, "take")
    | dict.fromkeys(GIVE, "give")
    | dict.fromkeys(DROP, "drop")
    | {"put": "put", "opened": "open", "closed": "close", "unlocked": "unlock"}
    | {"thanked": "thank", "greeted": "greet", "told": "tell"}
    | {told: base for base, told in FEELINGS.items()}
)

_KINDS: dict[str, tuple[int, str]] = (
    {"and": (_AND, ""), "it": (_IT, "")}
    | {name: (_PERSON, name) for name in (*MEN, *WOMEN)}
    | dict.fromkeys(("He", "he"), (_SUBJECT, "he"))
    | dict.fromkeys(("She", "she"), (_SUBJECT, "she"))
    | {"him": (_PERSON, "he"), "her": (_PERSON, "she")}
    | {word: (_THING, word) for word in (*THINGS, "key")}
    | {word: (_BOX, word) for word in BOXES}
    | {word: (_PLACE, word) for word in PLACES}
    | {told: (_VERB, base) for told, base in _VERBS.items()}
)


class Telling(NamedTuple):
    """What a text tells.

    Attributes:
        events: Each event in order, and the reason why it could not happen (empty: it could).
        slips: Faults of the sentences outside the grammar; a sentence without its full stop is
            one of them.
    """

    events: list[tuple[Event, str]]
    slips: int


def tell(completion: str, world: World, judgement: Judgement | None = None) -> Telling:
    """Read the continuation of a story, and let it happen.

    Args:
        completion: What was written: sentences with one space before each word.
        world: Where the story stands; it goes on from there.
        judgement: Gets a remark on each sentence outside the grammar.
    """
    start = grammar()
    events: list[tuple[Event, str]] = []
    slips = 0
    nearby = {NAMES[name]: name for name in world.people}  # whom he and she stand for
    known = world.people  # the people of the sentence before
    it = ""
    *sentences, rest = completion.rstrip().split(".")
    for sentence in sentences:
        words = sentence.replace(",", " ,").split(" ")
        if words[0] or "." not in walk(start, words[1:]):
            slips += unreadable(sentence)
            if judgement is not None:
                judgement.note(quoted(sentence), "not a sentence of the grammar")
            continue
        told, known, it = _understand(words, nearby, known, it)
        events += [(event, reason or world.do(event)) for event, reason in told]
    if rest:
        slips += unreadable(rest)
        if judgement is not None:
            judgement.note(quoted(rest), "breaks off before its full stop")
    return Telling(events, slips)


def _understand(
    words: list[str], nearby: dict[str, str], known: list[str], it: str
) -> tuple[list[tuple[Event, str]], list[str], str]:
    """The events of one sentence of the grammar.

    Args:
        words: Its words, without the full stop.
        nearby: The one man and the one woman of the story.
        known: Who was named in the sentence before: "he" and "she" may stand for them.
        it: The thing or box named last.

    Returns:
        The events, each with a reason why it cannot be understood; the people of this sentence; the
        thing or box named last.
    """
    events: list[tuple[Event, str]] = []
    named: list[str] = []
    who = verb = thing = box = place = whom = reason = ""
    for word in words:
        if word not in _KINDS:
            continue
        kind, meaning = _KINDS[word]
        if kind == _VERB:
            verb = meaning
        elif kind in (_PERSON, _SUBJECT):
            if meaning in nearby:
                person = nearby[meaning]
                if kind == _SUBJECT and person not in known and person not in named:
                    reason = f"nobody knows who {word} is"
                meaning = person
            named.append(meaning)
            if who:
                whom = meaning
            else:
                who = meaning
        elif kind == _THING:
            thing = it = meaning
        elif kind == _BOX:
            box = meaning
            if not thing:
                it = meaning
        elif kind == _PLACE:
            place = meaning
        elif kind == _IT:
            if not it:
                reason = "nobody knows what it is"
            elif verb in ("open", "close", "unlock"):
                box = it
            else:
                thing = it
        else:
            events.append((Event(verb, who, thing, box, place, whom), reason))
            thing = box = place = whom = reason = ""
    events.append((Event(verb, who, thing, box, place, whom), reason))
    return events, named, it
