"""The language of concept sets: verbs with plausible agents, objects, tools and places.

A sentence has up to five roles: an agent, a verb, an object, a tool or companion ("with"), and a
place. Each verb restricts the words in the other roles.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from textgym.tasks.automaton import compile_grammar
from textgym.tasks.data_to_text.grammar import State, claiming, translate
from textgym.tasks.data_to_text.world import article

PEOPLE = (
    "boy", "girl", "man", "woman", "child", "farmer", "teacher", "baker", "doctor", "sailor",
    "painter", "actor",
)  # fmt: skip
COMPANIONS = ("friend", "cousin", "neighbour", "dog")


class Verb(NamedTuple):
    """A verb with its forms and the words of its other roles.

    Attributes:
        forms: Third person, past tense, present participle and past participle.
        objects: Plausible objects.
        tools: Plausible tools, in addition to companions.
        places: Plausible places.
        animals: Plausible agents in addition to people.
    """

    forms: tuple[str, str, str, str]
    objects: tuple[str, ...]
    tools: tuple[str, ...]
    places: tuple[str, ...]
    animals: tuple[str, ...] = ()


def _verb(forms: str, objects: str, tools: str, places: str, animals: str = "") -> Verb:
    third, past, going, done = forms.split()
    return Verb(
        (third, past, going, done),
        tuple(objects.split()),
        tuple(tools.split()),
        tuple(places.split()),
        tuple(animals.split()),
    )


_OUT = "park garden field beach street"

VERBS: dict[str, Verb] = {
    "throw": _verb("throws threw throwing thrown", "ball stick stone snowball", "", _OUT),
    "catch": _verb("catches caught catching caught", "ball fish mouse", "net", _OUT, "dog cat"),
    "kick": _verb("kicks kicked kicking kicked", "ball stone", "", _OUT, "horse"),
    "eat": _verb(
        "eats ate eating eaten", "apple cake sandwich pizza egg", "spoon fork",
        "kitchen garden park cafe", "dog horse",
    ),
    "cut": _verb(
        "cuts cut cutting cut", "cake pizza rope apple", "knife", "kitchen workshop garden"
    ),
    "read": _verb(
        "reads read reading read", "book letter map newspaper", "",
        "library garden park kitchen bedroom",
    ),
    "write": _verb(
        "writes wrote writing written", "letter book song", "pen pencil", "library kitchen bedroom"
    ),
    "play": _verb(
        "plays played playing played", "guitar violin drum flute piano", "", "hall street cafe park"
    ),
    "ride": _verb("rides rode riding ridden", "horse bike pony", "", _OUT),
    "wash": _verb(
        "washes washed washing washed", "car dog window plate", "sponge brush",
        "kitchen garden street",
    ),
    "paint": _verb(
        "paints painted painting painted", "door fence wall picture", "brush",
        "garden workshop street hall",
    ),
    "carry": _verb(
        "carries carried carrying carried", "box basket bag stick chair", "",
        "street garden barn hall", "dog",
    ),
    "feed": _verb(
        "feeds fed feeding fed", "dog cat horse duck rabbit", "spoon bottle",
        "barn garden park stable",
    ),
    "climb": _verb(
        "climbs climbed climbing climbed", "tree hill ladder wall", "rope", "garden park field",
        "cat",
    ),
    "open": _verb(
        "opens opened opening opened", "box door bottle window chest", "key knife",
        "kitchen attic cellar hall",
    ),
    "hit": _verb(
        "hits hit hitting hit", "ball nail drum", "bat hammer stick", "park workshop field garden"
    ),
    "repair": _verb(
        "repairs repaired repairing repaired", "bike clock car chair", "hammer",
        "workshop barn street",
    ),
    "cook": _verb("cooks cooked cooking cooked", "fish egg pizza dinner", "pan spoon", "kitchen"),
    "draw": _verb(
        "draws drew drawing drawn", "map picture horse tree", "pencil pen", "library garden park"
    ),
    "push": _verb("pushes pushed pushing pushed", "cart car bike", "", "street field park"),
}  # fmt: skip

OBJECTS = tuple(sorted({one for verb in VERBS.values() for one in verb.objects}))
TOOLS = tuple(sorted({one for verb in VERBS.values() for one in verb.tools}))
PLACES = tuple(sorted({one for verb in VERBS.values() for one in verb.places}))
ANIMALS = tuple(sorted({one for verb in VERBS.values() for one in verb.animals}))
AGENTS = (*PEOPLE, *COMPANIONS[:-1], *ANIMALS)

PREPOSITIONS = dict.fromkeys(PLACES, "in") | {"beach": "on", "street": "on"}

ADJECTIVES = {
    "agent": ("young", "happy", "tall", "old", "small"),
    "object": ("big", "new", "small", "old", "little"),
    "with": ("big", "new", "small", "old", "little"),
}
"""Adjectives that suit all nouns of a role."""

_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "fish": "fish", "mouse": "mice",
    "sandwich": "sandwiches", "box": "boxes", "brush": "brushes", "knife": "knives",
}  # fmt: skip


def plural(noun: str) -> str:
    """The plural of a noun of this language."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    return f"{noun[:-1]}ies" if noun[-1] == "y" and noun[-2] not in "aeiou" else f"{noun}s"


def plausible(role: str, lemma: str, roles: Mapping[str, str]) -> bool:
    """Whether a word suits its role, given the words in the other roles."""
    verb, agent = VERBS[roles["verb"]], roles["agent"]
    if role == "agent":
        return lemma in PEOPLE or lemma in COMPANIONS[:-1] or lemma in verb.animals
    if role == "object":
        return lemma in verb.objects and lemma != agent
    if role == "with":
        if lemma in COMPANIONS:
            return lemma not in (agent, roles["object"])
        return lemma in verb.tools and agent not in ANIMALS
    return role == "verb" or lemma in verb.places


def _nouns(role: str, nouns: tuple[str, ...]) -> dict[str, list[str]]:
    """The rules of one role: singular, plural, and capitalised at the start of a sentence."""
    single = [claiming(noun, role, noun) for noun in nouns]
    many = [claiming(plural(noun), role, noun) for noun in nouns]
    one = [f"the [<{role}_adjective>] <{role}_noun>", f"<{role}_an> <{role}_noun>"]
    one += [claiming(article(noun), role, noun) for noun in nouns]
    several = [f"{det} [<{role}_adjective>] <{role}_nouns>" for det in ("the", "some", "two")]
    return {
        f"{role}_adjective": list(ADJECTIVES[role]),
        f"{role}_an": [article(word) for word in ADJECTIVES[role]],
        f"{role}_An": [article(word).capitalize() for word in ADJECTIVES[role]],
        f"{role}_noun": single,
        f"{role}_nouns": many,
        f"{role}_one": one,
        f"{role}_some": several,
        f"{role}_One": [_capital(phrase, role) for phrase in one],
        f"{role}_Some": [_capital(phrase, role) for phrase in several],
        f"{role}_any": [
            f"<{role}_one>", f"<{role}_some>", f"his <{role}_noun>", f"her <{role}_noun>",
        ],
    }  # fmt: skip


def _capital(phrase: str, role: str) -> str:
    if phrase.startswith("<"):
        return f"<{role}_An> <{role}_noun>"
    return phrase[0].upper() + phrase[1:]


@cache
def concept_grammars() -> tuple[State, State]:
    """The automata of active and of passive sentences.

    There are two because the first noun is the agent of one and the object of the other.
    """
    rules: dict[str, list[str]] = {
        **_nouns("agent", AGENTS),
        **_nouns("object", OBJECTS),
        **_nouns("with", tuple(sorted({*TOOLS, *COMPANIONS}))),
        "place": [
            f"{word} the {claiming(place, 'place', place)}"
            for place, preposition in PREPOSITIONS.items()
            for word in (preposition, "at")
        ],
        "goes": [claiming(verb.forms[0], "verb", base) for base, verb in VERBS.items()],
        "go": [claiming(base, "verb", base) for base in VERBS],
        "went": [claiming(verb.forms[1], "verb", base) for base, verb in VERBS.items()],
        "going": [claiming(verb.forms[2], "verb", base) for base, verb in VERBS.items()],
        "gone": [claiming(verb.forms[3], "verb", base) for base, verb in VERBS.items()],
        "done": ["<went>", "will <go>", "can <go>"],
        "does": ["<goes>", "is <going>", "was <going>", "<done>"],
        "do": ["<go>", "are <going>", "were <going>", "<done>"],
        "rest": ["", "with <with_any>", "<place>", "with <with_any> <place>",
                 "<place> with <with_any>"],
    }  # fmt: skip
    rules["Place"] = [phrase.capitalize() for phrase in rules["place"]]
    active = [
        "<agent_One> <does> <object_any> <rest> .",
        "<agent_Some> <do> <object_any> <rest> .",
        "<Place> [,] <agent_one> <does> <object_any> [with <with_any>] .",
        "<Place> [,] <agent_some> <do> <object_any> [with <with_any>] .",
    ]
    passive = [
        f"<object_{number}> {be} <gone> by <agent_{agent}> <rest> ."
        for number, be in (("One", "is"), ("One", "was"), ("Some", "are"), ("Some", "were"))
        for agent in ("one", "some")
    ]
    return (
        translate(compile_grammar({**rules, "sentence": active}, "sentence")),
        translate(compile_grammar({**rules, "sentence": passive}, "sentence")),
    )
