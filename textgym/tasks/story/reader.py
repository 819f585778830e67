"""Parses a story into events and simulates them.

The automaton of `grammar` recognizes a sentence. Its words are then interpreted in order, pronouns
are resolved, and `World.do` decides whether the event is possible in the current state.
"""

from __future__ import annotations

from typing import NamedTuple

from textgym.tasks.automaton import walk
from textgym.tasks.judgement import Judgement, quoted, unreadable
from textgym.tasks.story.grammar import DROP, FEELINGS, grammar
from textgym.tasks.story.world import NAMES, Event, World
from textgym.tasks.words import BOXES, GIVE, GO, MEN, PLACES, TAKE, THINGS, WOMEN

# Kinds of words.
_SUBJECT, _PERSON, _THING, _BOX, _PLACE, _VERB, _AND, _IT = range(8)

_VERBS = (
    dict.fromkeys(GO, "go")
    | dict.fromkeys(TAKE, "take")
    | dict.fromkeys(GIVE, "give")
    | dict.fromkeys(DROP, "drop")
    | {"put": "put", "opened": "open", "closed": "close", "unlocked": "unlock"}
    | {"thanked": "thank", "greeted": "greet", "told": "tell"}
    | {past: base for base, past in FEELINGS.items()}
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
    | {past: (_VERB, base) for past, base in _VERBS.items()}
)


class Reading(NamedTuple):
    """The parse of a story.

    Attributes:
        events: The events in order, each with the reason why it is impossible, or an empty string.
        faults: Number of faults in sentences outside the grammar, incomplete ones included.
    """

    events: list[tuple[Event, str]]
    faults: int


def read(completion: str, world: World, judgement: Judgement | None = None) -> Reading:
    """Parse the continuation of a story and simulate it.

    Args:
        completion: Sentences with one space before each word.
        world: The state at the start of the continuation. Modified.
        judgement: Receives a remark on each sentence outside the grammar.
    """
    start = grammar()
    events: list[tuple[Event, str]] = []
    faults = 0
    by_pronoun = {NAMES[name]: name for name in world.people}
    known = world.people  # the people of the previous sentence
    it = ""
    *sentences, rest = completion.rstrip().split(".")
    for sentence in sentences:
        words = sentence.replace(",", " ,").split(" ")
        if words[0] or "." not in walk(start, words[1:]):
            faults += unreadable(sentence)
            if judgement is not None:
                judgement.note(quoted(sentence), "not a sentence of the grammar")
            continue
        found, known, it = _interpret(words, by_pronoun, known, it)
        events += [(event, reason or world.do(event)) for event, reason in found]
    if rest:
        faults += unreadable(rest)
        if judgement is not None:
            judgement.note(quoted(rest), "incomplete: no full stop")
    return Reading(events, faults)


def _interpret(
    words: list[str], by_pronoun: dict[str, str], known: list[str], it: str
) -> tuple[list[tuple[Event, str]], list[str], str]:
    """Extract the events of a sentence of the grammar.

    Args:
        words: Its words, without the full stop.
        by_pronoun: The one man and the one woman of the story.
        known: The people of the previous sentence, to whom "he" and "she" may refer.
        it: The thing or box named last.

    Returns:
        The events, each with the reason why a pronoun is unresolved, or an empty string; the people
        of this sentence; the thing or box named last.
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
            if meaning in by_pronoun:
                person = by_pronoun[meaning]
                if kind == _SUBJECT and person not in known and person not in named:
                    reason = f"{word!r} does not refer to anyone"
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
                reason = "'it' does not refer to anything"
            elif verb in ("open", "close", "unlock"):
                box = it
            else:
                thing = it
        else:
            events.append((Event(verb, who, thing, box, place, whom), reason))
            thing = box = place = whom = reason = ""
    events.append((Event(verb, who, thing, box, place, whom), reason))
    return events, named, it
