"""Domains: the records of the data-to-text task, and the writer's phrases about them.

A phrase has ``{attribute}`` in place of a value, and ``{a_attribute}`` for the value with its
article. The writer fills phrases in, and the reader's grammar is compiled from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from textgym.tasks.words import MEN, WOMEN


class Domain(NamedTuple):
    """A kind of record.

    Attributes:
        key: The attribute that names the subject of the record.
        subjects: Values of the key.
        named: The subject in a sentence, with ``{}`` for the value.
        pronouns: Other beginnings of a sentence, each with the pronoun that it counts as.
        values: All other attributes, with their values.
        clauses: Clauses that follow the subject.
        fronts: Phrases before the subject, with a comma.
        others: Whole sentences with the name (``{s}``) in the middle.
        surfaces: Spellings of values that differ from the record.
        kinds: Restricted values of some attributes, so that a record does not contradict itself.
            One kind is drawn per record.
    """

    key: str
    subjects: tuple[str, ...]
    named: str
    pronouns: dict[str, str]
    values: dict[str, tuple[str, ...]]
    clauses: tuple[str, ...]
    fronts: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    surfaces: Mapping[str, str] = MappingProxyType({})
    kinds: tuple[dict[str, tuple[str, ...]], ...] = ()


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


CITIES = _words("Paris Rome Oslo Berlin London Madrid Vienna Dublin Lisbon Athens Prague Cairo")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
TEAMS = _words("Lions Tigers Bears Eagles Wolves Foxes Hawks Sharks Bulls Owls")


def _with(heads: str, *tails: str) -> tuple[str, ...]:
    """Each line with each combination of the tails, in their order."""
    phrases = _lines(heads)
    for tail in tails:
        phrases += tuple(f"{phrase} {tail}" for phrase in phrases)
    return phrases


_SKIES = _words("sunny cloudy rainy foggy snowy stormy windy")

_SCORES = {
    "football": _words("1-0 2-0 2-1 3-0 3-1 3-2 4-0 4-1"),
    "hockey": _words("2-0 2-1 3-1 3-2 4-1 4-2 4-3 5-2 6-1"),
    "rugby": _words("15-12 18-9 21-14 24-17 27-20 30-25"),
    "handball": _words("23-20 25-21 26-24 28-25 30-26 32-29"),
}


def _sky(
    sky: str, high: tuple[int, int], low: tuple[int, int], wind: str, rain: str, tomorrow: str
) -> dict[str, tuple[str, ...]]:
    """A kind of weather: ranges of temperatures, and values of the other attributes."""
    return {
        "sky": (sky,),
        "high": tuple(map(str, range(high[0], high[1] + 1))),
        "low": tuple(map(str, range(low[0], low[1] + 1))),
        "wind": _words(wind),
        "rain": _words(rain),
        "tomorrow": _words(tomorrow),
    }


_MILD = "sunny cloudy rainy foggy stormy windy"

_WEATHERS = (
    _sky("sunny", (18, 29), (7, 12), "light fresh warm", "10 20 30", _MILD),
    _sky("cloudy", (10, 22), (4, 9), "light fresh strong cold", "20 30 40 50 60", _MILD),
    _sky("rainy", (9, 19), (3, 8), "light fresh strong cold", "70 80 90", _MILD),
    _sky("foggy", (7, 14), (2, 6), "light", "10 20 30 40", _MILD),
    _sky("snowy", (3, 5), (1, 2), "light fresh strong cold", "10 20 30", "cloudy foggy snowy"),
    _sky("stormy", (10, 22), (4, 9), "strong", "60 70 80 90", _MILD),
    _sky("windy", (8, 18), (3, 7), "fresh strong cold", "10 20 30 40 50 60", _MILD),
)

DOMAINS: dict[str, Domain] = {
    "restaurant": Domain(
        key="name",
        subjects=tuple(
            f"{colour} {thing}"
            for colour in ("Golden", "Silver", "Blue", "Red", "Green", "Old")
            for thing in ("Lantern", "Rose", "Bell", "Apple", "Clock", "Violin", "Spoon", "Tower")
        ),
        named="the {}",
        pronouns={"It": "it", "The restaurant": "it"},
        values={
            "food": _words("Italian French Indian Chinese Greek Thai Spanish Turkish"),
            "price": _words("cheap affordable expensive"),
            "rating": _words("poor average good excellent"),
            "area": ("city centre", "old town", "suburbs", "market square"),
            "near": _words("library chapel school station museum bridge tower harbour"),
            "children": ("yes", "no"),
            "closed": DAYS,
        },
        clauses=_with(
            """
            serves {food} food
            offers {food} food
            serves {price} food
            serves {price} {food} food
            is {a_food} restaurant
            is {a_price} restaurant
            is {a_price} {food} restaurant
            """,
            "in the {area}",
            "near the {near}",
        )
        + _lines("""
            is {price}
            has {a_rating} rating
            gets {a_rating} rating
            is rated {rating}
            is in the {area}
            stands in the {area}
            lies in the {area}
            is in the {area} near the {near}
            is near the {near}
            is close to the {near}
            stands near the {near}
            is next to the {near}
            {children} children
            {children} families
            is closed on {closed}
            closes on {closed}
            does not open on {closed}
        """),
        fronts=("In the {area}", "Near the {near}"),
        others=("The food at {s} is {price}", "The rating of {s} is {rating}"),
        surfaces={"yes": "welcomes", "no": "does not welcome"},
    ),
    "person": Domain(
        key="name",
        subjects=(*MEN, *WOMEN),
        named="{}",
        pronouns={"He": "he", "She": "she"},
        values={
            "job": _words(
                "teacher farmer baker painter doctor sailor actor engineer singer writer"
            ),
            "home": CITIES,
            "birthplace": CITIES,
            "born": tuple(map(str, range(1940, 2000))),
            "hobby": _words("chess tennis football painting cooking swimming dancing fishing"),
            "pet": _words("cat dog horse rabbit parrot goat pony duck"),
            "plays": _words("violin drum flute trumpet piano guitar"),
        },
        clauses=_lines("""
            is {a_job}
            works as {a_job}
            is {a_job} in {home}
            is {a_job} from {birthplace}
            works as {a_job} in {home}
            lives in {home}
            has a house in {home}
            lives in {home} with a {pet}
            was born in {birthplace}
            comes from {birthplace}
            is from {birthplace}
            was born in {born}
            was born in {birthplace} in {born}
            was born in {born} in {birthplace}
            likes {hobby}
            enjoys {hobby}
            loves {hobby}
            has a {pet}
            owns a {pet}
            keeps a {pet}
            plays the {plays}
            can play the {plays}
        """),
        fronts=("Born in {born}", "Born in {birthplace}", "Born in {birthplace} in {born}"),
    ),
    "match": Domain(
        key="winner",
        subjects=TEAMS,
        named="the {}",
        pronouns={"They": "they", "The team": "they"},
        values={
            "loser": TEAMS,
            "score": tuple(dict.fromkeys(score for some in _SCORES.values() for score in some)),
            "city": CITIES,
            "day": DAYS,
            "scorer": (*MEN, *WOMEN),
            "crowd": _words("large small noisy quiet happy"),
            "sport": tuple(_SCORES),
        },
        clauses=_with(
            """
            beat the {loser}
            defeated the {loser}
            won against the {loser}
            beat the {loser} {score}
            defeated the {loser} {score}
            won {score}
            won the match {score}
            won a {sport} match
            won the {sport} match {score}
            won a {sport} match against the {loser}
            """,
            "in {city}",
            "on {day}",
        )
        + _lines("""
            won in {city}
            played in {city}
            won on {day}
            played on {day}
            won in {city} on {day}
            played in {city} on {day}
            won with a goal by {scorer}
            won thanks to {scorer}
            drew a {crowd} crowd
            played before a {crowd} crowd
            won before a {crowd} crowd
            play {sport}
        """),
        fronts=("In {city}", "On {day}"),
        others=("{scorer} scored for {s}", "{scorer} scored a goal for {s}"),
        kinds=tuple({"sport": (sport,), "score": scores} for sport, scores in _SCORES.items()),
    ),
    "flight": Domain(
        key="number",
        subjects=tuple(map(str, range(10, 100))),
        named="flight {}",
        pronouns={"It": "it", "The flight": "it", "The plane": "it"},
        values={
            "from": CITIES,
            "to": CITIES,
            "leaves": tuple(f"{hour}:{part}" for hour in range(5, 12) for part in (10, 20, 30, 45)),
            "arrives": tuple(
                f"{hour}:{part}" for hour in range(13, 20) for part in (10, 20, 30, 45)
            ),
            "gate": tuple(map(str, range(1, 21))),
            "day": DAYS,
            "status": ("on time", "late", "full"),
        },
        clauses=_with(
            """
            leaves {from}
            departs from {from}
            leaves {from} for {to}
            """,
            "on {day}",
            "at {leaves}",
        )
        + _with(
            """
            goes from {from} to {to}
            flies from {from} to {to}
            flies to {to}
            goes to {to}
            """,
            "on {day}",
        )
        + _lines("""
            lands in {to}
            lands in {to} at {arrives}
            arrives in {to} at {arrives}
            leaves at {leaves}
            departs at {leaves}
            lands at {arrives}
            arrives at {arrives}
            boards at gate {gate}
            uses gate {gate}
            leaves from gate {gate}
            flies on {day}
            leaves on {day}
            leaves on {day} at {leaves}
            is {status}
            is now {status}
        """),
        fronts=("On {day}",),
        others=("Gate {gate} is for {s}",),
    ),
    "weather": Domain(
        key="city",
        subjects=CITIES,
        named="{}",
        pronouns={"It": "it", "The city": "it"},
        values={
            "sky": _SKIES,
            "high": tuple(map(str, range(3, 30))),
            "low": tuple(map(str, range(1, 13))),
            "wind": _words("light fresh strong cold warm"),
            "direction": _words("north south east west"),
            "rain": _words("10 20 30 40 50 60 70 80 90"),
            "tomorrow": _SKIES,
        },
        clauses=_lines("""
            is {sky}
            is {sky} today
            is {sky} with a high of {high} degrees
            has a high of {high} degrees
            reaches {high} degrees
            has a low of {low} degrees
            cools to {low} degrees
            has a high of {high} degrees and a low of {low} degrees
            has a {wind} wind
            gets a {wind} wind
            has a {wind} wind from the {direction}
            gets a {wind} wind from the {direction}
            has a wind from the {direction}
            gets wind from the {direction}
            has {a_rain} percent chance of rain
            has {a_rain} percent risk of rain
            will be {tomorrow} tomorrow
            turns {tomorrow} tomorrow
        """),
        others=(
            "The wind in {s} is {wind}",
            "The wind in {s} comes from the {direction}",
            "Tomorrow {s} will be {tomorrow}",
        ),
        kinds=_WEATHERS,
    ),
}


def article(word: str) -> str:
    """The word with its article: an Italian, a Greek, an 80."""
    return f"{'an' if word[0] in 'aeiouAEIOU8' else 'a'} {word}"
