"""The words of the summary task, and a table of all its clauses.

Clauses are parsed by a single lookup. Each word is replaced by a symbol: a name by ``N``, a thing
by ``T``, a place by ``P``, a look by ``A``, a scene by ``Z``, an adverb by ``D``, ``he`` and
``she`` by ``H``, ``him`` and ``her`` by ``M``, any other word by itself. The sequence of symbols is
the key of the clause's fact. "Tom quietly stole the small ring" is ``N D stole the A T``, whose
fact is that N stole T.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import product
from typing import NamedTuple

from textgym.tasks.words import MEN, WOMEN

Fact = list[str]
"""A fact: verb, agent, thing, receiver (or victim), place; empty strings for missing parts."""

VERB, WHO, THING, WHOM, PLACE = range(5)

PEOPLE = (*MEN, *WOMEN)
THINGS = (
    "lantern", "book", "ball", "rope", "drum", "letter", "coin", "ring", "kite", "map", "flute",
    "candle", "hammer", "scarf", "doll", "cake", "mirror", "shell", "clock", "violin", "feather",
    "pencil", "bottle", "blanket", "necklace", "trumpet", "spoon", "bell", "puzzle",
)  # fmt: skip
PLACES = (
    "kitchen", "garden", "attic", "cellar", "barn", "hall", "library", "stable", "tower",
    "orchard", "bedroom", "courtyard", "workshop", "meadow", "greenhouse", "pantry", "chapel",
    "harbour",
)  # fmt: skip
LOOKS = ("new", "small", "lovely", "shabby")
"""Adjectives of things, which are not part of a fact."""
AIRS = ("cold", "warm", "dark", "bright", "pleasant", "dull")
"""Descriptions of a thing, a place or a scene."""
SCENES = ("house", "town", "weather")
ADVERBS = ("quickly", "quietly", "gladly")
OPENERS = (
    "One summer day", "One winter morning", "Late at night", "Late one evening", "After the storm",
    "Just before dinner", "Right after dinner", "On the same day", "On the way home",
    "Without a word", "For some reason",
)  # fmt: skip
"""Openers of a sentence, followed by a comma."""
LINKS = ("then", "soon", "later")
"""Openers of a clause, without a comma."""
IDLE = (
    "sang a song", "told a joke", "told a story", "had dinner", "had some coffee",
    "had some bread", "laughed", "smiled", "danced", "sighed",
)  # fmt: skip
"""Acts without an effect."""
IDLE_AT = {"walk": "walked to the", "rest": "rested in the"}
"""Acts without an effect, with a place."""

DID = {
    "lose": ("lost",), "find": ("found", "discovered"), "steal": ("stole",), "hide": ("hid",),
    "break": ("broke", "smashed"), "mend": ("mended", "repaired"), "sell": ("sold",),
    "give": ("gave", "handed"), "carry": ("carried", "brought"),
}  # fmt: skip
"""Past tenses of the verbs that change the state of a thing."""
DONE = DID | {
    "steal": ("stolen",), "hide": ("hidden",), "break": ("broken", "smashed"),
    "give": ("given", "handed"),
}  # fmt: skip
TURNED = {"sell": ("bought",), "give": ("got", "received")}
"""Past tenses with the receiver as the subject."""
_TURNED_BASE = {"buy": "sell", "get": "give"}

# The words after each verb. Parts after | are optional.
_ACTIVE = {
    "lose": ("<thing>",),
    "find": ("<thing>|in the <place>",),
    "steal": ("<thing>|from <whom>",),
    "hide": ("<thing>|in the <place>",),
    "break": ("<thing>",),
    "mend": ("<thing>",),
    "sell": ("<thing>|to <whom>", "<whom> <the_thing>"),
    "give": ("<thing>|to <whom>", "<whom> <the_thing>"),
    "carry": ("<thing>|to the <place>",),
}
_PASSIVE = {
    "lose": ("|by <who>",),
    "find": ("|in the <place>|by <who>", "by <who> in the <place>"),
    "steal": ("|from <whom>|by <who>", "by <who> from <whom>"),
    "hide": ("|in the <place>|by <who>", "by <who> in the <place>"),
    "break": ("|by <who>",),
    "mend": ("|by <who>",),
    "sell": ("|to <whom>|by <who>", "by <who> to <whom>"),
    "give": ("|to <whom>|by <who>", "by <who> to <whom>"),
    "carry": ("|to the <place>|by <who>", "by <who> to the <place>"),
}
_FORMS = {
    "<subject>": ("N", "H", ""),
    "<topic>": ("the T", "the A T", "a T", "a A T", "it", ""),
    "<who>": ("N", "M"),
    "<whom>": ("N", "M"),
    "<the_thing>": ("the T", "the A T", "a T", "a A T"),
    "<thing>": ("the T", "the A T", "a T", "a A T", "it"),
    "<place>": ("P",),
}
_ROLES = {"<who>": WHO, "<whom>": WHOM, "<thing>": THING, "<the_thing>": THING, "<place>": PLACE}
_SLOT = re.compile(r"<\w+>")


class Clause(NamedTuple):
    """The meaning of a sequence of symbols.

    Attributes:
        verb: The verb of the fact; empty for openers such as "One morning".
        roles: The positions in the fact of the names, things and places, in the order of the text.
            The first is the subject's, even if the clause omits it.
        bare: Whether the clause omits its subject, which is that of the previous clause.
    """

    verb: str
    roles: tuple[int, ...]
    bare: bool = False


@cache
def clauses() -> dict[str, Clause]:
    """All clauses, by their symbols."""
    table: dict[str, Clause] = {}
    for opener in OPENERS:
        table[opener[0].lower() + opener[1:]] = Clause("", ())
    for verb, forms in _ACTIVE.items():
        for past, form in product(DID[verb], forms):
            _add(table, verb, WHO, f"[D] {past} {form}")
        for form in forms:
            _add(table, f"want {verb}", WHO, f"wanted to {verb} {form}")
            _add(table, f"not {verb}", WHO, f"did not {verb} {form}")
    for verb, pasts in TURNED.items():
        for past in pasts:
            _add(table, verb, WHOM, f"[D] {past} <thing>|from <who>")
    for base, verb in _TURNED_BASE.items():
        _add(table, f"want {verb}", WHOM, f"wanted to {base} <thing>|from <who>")
        _add(table, f"not {verb}", WHOM, f"did not {base} <thing>|from <who>")
    for verb, forms in _PASSIVE.items():
        for past, form in product(DONE[verb], forms):
            _add(table, verb, THING, f"was {past} {form}")
            _add(table, verb, THING, f"{past} {form}", bare=True)
    _add(table, "like", WHO, "liked <thing>")
    for deed in IDLE:
        _add(table, deed, WHO, deed)
    for verb, deed in IDLE_AT.items():
        _add(table, verb, WHO, f"{deed} <place>")
    for air in AIRS:
        for thing in ("the T", "the A T", "it", "the Z"):
            table[f"{thing} was {air}"] = Clause(air, (THING,))
        table[f"the P was {air}"] = Clause(air, (PLACE,))
    return table


@cache
def unfinished() -> dict[str, Clause]:
    """Clauses without their object ("Tom found and sold the ring"), by their symbols."""
    table: dict[str, Clause] = {}
    for subject, verbs in ((WHO, DID), (WHOM, TURNED)):
        for verb, pasts in verbs.items():
            for past in pasts:
                _add(table, verb, subject, f"[D] {past}")
                _add(table, verb, subject, f"[D] {past}", bare=True)
    return table


def _add(table: dict[str, Clause], verb: str, subject: int, form: str, bare: bool = False) -> None:
    """Add all forms of a clause with, or (`bare`) without, its subject."""
    first = ("",) if bare else _FORMS["<topic>" if subject == THING else "<subject>"]
    for words in _ways(form):
        roles = tuple(_ROLES[slot] for slot in _SLOT.findall(words))
        for start in first:
            for adverb in ("D ", "") if "[D]" in words else ("",):
                rest = words.replace("[D] ", adverb)
                options = [_FORMS.get(part, (part,)) for part in rest.split()]
                for symbols in product(*options):
                    key = " ".join((start, *symbols) if start else symbols)
                    table[key] = Clause(verb, (subject, *roles), not start)


def _ways(form: str) -> Iterator[str]:
    """Expand the optional parts of a form."""
    first, *parts = form.split("|")
    for chosen in product((True, False), repeat=len(parts)):
        yield " ".join([first, *(part for part, yes in zip(parts, chosen, strict=True) if yes)])


_ENTITIES = (
    dict.fromkeys((*MEN, *WOMEN), "N")
    | {"he": "H", "she": "H", "him": "M", "her": "M", "it": "it"}
    | dict.fromkeys(THINGS, "T")
    | dict.fromkeys(PLACES, "P")
    | dict.fromkeys(SCENES, "Z")
)
SYMBOLS = (
    {word: word for clause in clauses() for word in clause.split() if word not in "NHMTPAZD"}
    | _ENTITIES
    | dict.fromkeys(LOOKS, "A")
    | dict.fromkeys(ADVERBS, "D")
    | dict.fromkeys(LINKS, "then")
    | {"and": "and", "but": "and", ",": ","}
)
"""The symbol of each word."""

PRONOUNS = {"he": "he", "him": "he", "she": "she", "her": "she", "it": "it"}
MEANINGS = (
    dict.fromkeys(_ENTITIES, "")
    | dict.fromkeys(MEN, "he")
    | dict.fromkeys(WOMEN, "she")
    | dict.fromkeys(THINGS, "it")
    | PRONOUNS
)
"""The words that are parts of facts, each with its pronoun, if there is one."""


Step = tuple[str, int, int, int, int]
"""A fact whose parts are indices into the sentence's names, things and places; -1 for none."""


@lru_cache(maxsize=1 << 14)
def plan(line: str) -> tuple[Step, ...] | None:
    """Parse a sentence, given as symbols, to facts; None if it is not grammatical.

    Clauses are joined by "and", by a comma and "and", or, before the last "and", by commas. Verbs
    may share the object of the last one.
    """
    table, verbs = clauses(), unfinished()
    opener, comma, rest = line.partition(" , ")
    if comma and opener in table and not table[opener].verb:
        line = rest
    *first, end = line.replace(" , and ", " and ").split(" and ")
    steps: list[Step] = []
    subject, is_thing = -1, False  # of the previous clause
    number = 0
    waiting = 0  # clauses that wait for their object
    for symbols in (*[clause for part in first for clause in part.split(" , ")], end):
        # "Then", "soon" and "later" may precede any clause.
        symbols = symbols.removeprefix("then ")
        clause = table.get(symbols)
        # "found" means "was found" if the subject is a thing; otherwise it lacks an object.
        lacks = clause is None or (clause.bare and not is_thing and clause.roles[0] == THING)
        if lacks:
            clause = verbs.get(symbols)
        if clause is None or not clause.verb:
            return None
        verb, roles, bare = clause
        if bare and (subject < 0 or is_thing != (roles[0] == THING)):
            return None
        if waiting and not bare:
            return None
        where = [-1] * 5
        for role in roles[bare:]:
            where[role] = number
            number += 1
        if bare:
            where[roles[0]] = subject
        subject, is_thing = where[roles[0]], roles[0] == THING
        steps.append((verb, where[WHO], where[THING], where[WHOM], where[PLACE]))
        if lacks:
            waiting += 1
        elif waiting:
            if roles[1:2] != (THING,):  # "found and sold Leo the ring" is ungrammatical
                return None
            for place in range(len(steps) - 1 - waiting, len(steps) - 1):
                verb, who, _, whom, at = steps[place]
                steps[place] = verb, who, where[THING], whom, at
            waiting = 0
    return None if waiting else tuple(steps)
