"""The words of the sentiment task: subjects, their aspects, and the value of each word.

Values are in [-1, 1]: 0.75 for a plain word of praise ("clean"), 1 for a strong one ("superb"), and
negative for criticism. Only plain words take a degree ("very clean").
"""

from __future__ import annotations

from typing import NamedTuple

PLAIN = 0.75
STRONG = 1.0


class Sort(NamedTuple):
    """Adjectives that suit one sort of aspect, in addition to the general ones."""

    good: tuple[str, ...]
    great: tuple[str, ...]
    bad: tuple[str, ...]
    awful: tuple[str, ...]


MASS = frozenset(
    ("bread", "coffee", "dialogue", "fish", "music", "scenery", "sound", "staff", "tea")
)
"""Singular aspects that take no article."""


class Subject(NamedTuple):
    """The subject of a review.

    Attributes:
        intro: The parts of the first sentence, with the options of each.
        noun: The noun of a verdict ("it was a great ...").
        deed: Phrases of a verdict ("I would ...").
        aspects: The sort of each aspect. No two subjects share one, so praise of one subject is not
            praise of another.
        plurals: The plural aspects.
    """

    intro: tuple[tuple[str, ...], ...]
    noun: str
    deed: tuple[str, ...]
    aspects: dict[str, str]
    plurals: frozenset[str]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GENERAL = Sort(
    _words("good nice lovely pleasant"),
    _words("great excellent superb wonderful fantastic"),
    _words("bad poor mediocre disappointing"),
    _words("terrible awful horrible dreadful"),
)

SORTS = {
    "person": Sort(
        _words("friendly helpful polite kind patient"),
        _words("charming brilliant"),
        _words("rude lazy careless unfriendly grumpy"),
        _words("hostile hopeless"),
    ),
    "place": Sort(
        _words("clean bright spacious cosy comfortable"),
        _words("beautiful spotless"),
        _words("dirty dark cramped shabby smelly"),
        _words("filthy hideous"),
    ),
    "sight": Sort(
        _words("bright elegant colourful"),
        _words("beautiful"),
        _words("dull ugly pale"),
        _words("hideous"),
    ),
    "food": Sort(
        _words("tasty fresh warm healthy"),
        _words("delicious"),
        _words("bland stale greasy soggy"),
        _words("disgusting"),
    ),
    "story": Sort(
        _words("clever funny moving original witty"),
        _words("gripping brilliant"),
        _words("dull boring silly confusing shallow"),
        _words("tedious unbearable"),
    ),
    "device": Sort(
        _words("fast reliable sturdy handy modern"),
        _words("flawless"),
        _words("slow faulty flimsy clumsy noisy"),
        _words("worthless"),
    ),
    "price": Sort(
        _words("fair reasonable modest sensible"),
        _words("unbeatable"),
        _words("unfair steep excessive"),
        _words("outrageous"),
    ),
    "sound": Sort(
        _words("lively clear warm"),
        _words("beautiful"),
        _words("loud harsh thin shrill"),
        _words("unbearable"),
    ),
}

LIKE = {"liked": PLAIN, "enjoyed": PLAIN, "loved": STRONG, "adored": STRONG}
DISLIKE = {"disliked": -PLAIN, "regretted": -PLAIN, "hated": -STRONG, "detested": -STRONG}
LIKE_BASE = {"like": PLAIN, "enjoy": PLAIN, "love": STRONG}

PLEASE = {"impressed": PLAIN, "pleased": PLAIN, "delighted": STRONG, "charmed": PLAIN}
ANNOY = {"annoyed": -PLAIN, "disappointed": -PLAIN, "bothered": -PLAIN, "shocked": -STRONG}
PLEASE_BASE = {"impress": PLAIN, "please": PLAIN}
ANNOY_BASE = {"annoy": -PLAIN, "disappoint": -PLAIN, "bother": -PLAIN}

COMPARE = {"better": PLAIN, "nicer": PLAIN, "worse": -PLAIN}
MOOD = {"happy": PLAIN, "cheerful": PLAIN, "angry": -PLAIN, "unhappy": -PLAIN, "upset": -PLAIN}
VERDICT = {"recommend": PLAIN, "worth": PLAIN, "back": PLAIN, "again": PLAIN}

DEGREES = {
    "very": 1.4, "really": 1.4, "truly": 1.4, "even": 1.4, "gladly": 1.4, "well": 1.4, "quite": 0.8,
    "rather": 0.8, "bit": 0.4,
}  # fmt: skip
"""Factors on the next value, which is clipped to [-1, 1]."""

WEAK_NEGATORS = ("not",)
STRONG_NEGATORS = ("never", "neither", "nor", "Nobody", "hardly")

_CITIES = _words(
    "Rome Lyon Oslo Vienna Dublin Lisbon Prague Madrid Paris Boston Berlin Athens Geneva Naples "
    "Porto Seville Turin Krakow"
)
_TIMES = (
    "last week", "last month", "last spring", "last summer", "last winter", "on Friday",
    "on Sunday", "in May", "in October", "this year",
)  # fmt: skip
_WHO = ("I", "We")
_HEROES = (
    "a sailor", "a young king", "a lost city", "two sisters", "a bank robbery", "an old doctor",
    "a long war", "a summer at sea", "a country school", "a clever thief",
)  # fmt: skip
_PERSONS = ("my sister", "my brother", "my father", "my daughter", "work", "the family", "school")

SUBJECTS = {
    "hotel": Subject(
        (
            _WHO, ("stayed at",), ("a small", "a large", "an old", "a new", "a famous"),
            ("hotel in",), _CITIES, _TIMES,
        ),
        "stay",
        ("come back", "stay there again"),
        {
            "staff": "person", "porter": "person", "manager": "person", "room": "place",
            "bathroom": "place", "lobby": "place", "garden": "place", "breakfast": "food",
            "coffee": "food", "price": "price", "beds": "place",
        },
        frozenset({"beds"}),
    ),
    "restaurant": Subject(
        (
            _WHO, ("had lunch at", "had dinner at"),
            ("a small", "a large", "an old", "a new", "a famous"), ("restaurant in",), _CITIES,
            _TIMES,
        ),
        "meal",
        ("come back", "eat there again"),
        {
            "waiter": "person", "cook": "person", "owner": "person", "soup": "food",
            "fish": "food", "bread": "food", "dessert": "food", "vegetables": "food",
            "tables": "place", "terrace": "place", "band": "sound", "prices": "price",
        },
        frozenset({"vegetables", "tables", "prices"}),
    ),
    "film": Subject(
        (
            _WHO, ("saw", "watched"), ("a short", "a long", "an old", "a new"), ("film about",),
            _HEROES, _TIMES,
        ),
        "film",
        ("see it again", "watch it again"),
        {
            "plot": "story", "script": "story", "ending": "story", "jokes": "story",
            "dialogue": "story", "actors": "person", "director": "person", "music": "sound",
            "voices": "sound", "costumes": "sight", "scenery": "sight",
        },
        frozenset({"jokes", "actors", "voices", "costumes"}),
    ),
    "book": Subject(
        (
            _WHO, ("read",), ("a short", "a long", "an old", "a new"), ("book about",), _HEROES,
            _TIMES,
        ),
        "book",
        ("read it again", "buy it again"),
        {
            "tale": "story", "opening": "story", "poems": "story", "chapters": "story",
            "letters": "story", "style": "story", "author": "person", "hero": "person",
            "cover": "sight", "pictures": "sight", "cost": "price",
        },
        frozenset({"poems", "chapters", "letters", "pictures"}),
    ),
    "phone": Subject(
        (
            _WHO, ("bought",), ("a small", "a large", "a used", "a new", "a cheap"),
            ("phone for",), _PERSONS, _TIMES,
        ),
        "phone",
        ("buy it again", "choose it again"),
        {
            "screen": "device", "battery": "device", "camera": "device", "keyboard": "device",
            "buttons": "device", "charger": "device", "speaker": "sound", "ringtones": "sound",
            "seller": "person", "charges": "price",
        },
        frozenset({"buttons", "ringtones", "charges"}),
    ),
    "museum": Subject(
        (
            _WHO, ("visited", "went to"), ("a small", "a large", "an old", "a new", "a famous"),
            ("museum in",), _CITIES, _TIMES,
        ),
        "visit",
        ("come back", "go there again"),
        {
            "guide": "person", "guards": "person", "cashier": "person", "paintings": "sight",
            "courtyard": "place", "entrance": "place", "halls": "place", "tour": "story",
            "films": "story", "cakes": "food", "fees": "price",
        },
        frozenset({"guards", "paintings", "halls", "films", "cakes", "fees"}),
    ),
    "concert": Subject(
        (
            _WHO, ("went to",), ("a small", "a large", "a long", "a free", "an open"),
            ("concert in",), _CITIES, _TIMES,
        ),
        "evening",
        ("come back", "go there again"),
        {
            "singer": "person", "drummer": "person", "crowd": "person", "songs": "sound",
            "choir": "sound", "guitar": "sound", "sound": "sound", "stage": "place",
            "lights": "sight", "drinks": "food", "seats": "place", "tickets": "price",
        },
        frozenset({"songs", "lights", "drinks", "seats", "tickets"}),
    ),
    "train": Subject(
        (
            _WHO, ("took",), ("a night", "a slow", "an early", "a late"), ("train to",), _CITIES,
            _TIMES,
        ),
        "journey",
        ("take it again", "travel that way again"),
        {
            "conductor": "person", "driver": "person", "passengers": "person", "benches": "place",
            "carriage": "place", "corridor": "place", "toilets": "place", "tea": "food",
            "sandwiches": "food", "engine": "device", "view": "sight", "fare": "price",
        },
        frozenset({"passengers", "benches", "toilets", "sandwiches"}),
    ),
}  # fmt: skip
