"""What a record may say, in which words: domains, phrases, and an automaton that reads them back.

The phrases are written once, with ``{attribute}`` where the value goes. The writer fills them in,
and the reader's automaton is compiled from the same list, so that it knows all that the writer
writes, and from a second one of what people say besides (`data_to_text_phrases`). The automaton
translates: the word that completes a value carries the pair (attribute, value) that it claims.
``{a_food}`` is the value with its article.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from textgym.tasks.automaton import State as Plain
from textgym.tasks.automaton import compile_grammar
from textgym.tasks.data_to_text.phrases import ENDINGS, MORE, POSSESSIVES
from textgym.tasks.words import MEN, WOMEN

Claim = tuple[str, str]
"""An attribute and its value; ``("about", ...)`` and ``("pronoun", ...)`` say whom it is about."""

State = dict[str, tuple["State", Claim | None]]
"""Next word -> the next state, and what the word claims."""


class Domain(NamedTuple):
    """One kind of record.

    Attributes:
        key: The attribute that names what the record is about.
        subjects: Its values.
        named: How a sentence names it, with ``{}`` for the value; capitalised where it begins one.
        pronouns: What else a sentence may begin with, and the pronoun that it counts as.
        values: All attributes but the key, with their values.
        clauses: What may follow the subject.
        fronts: What may stand before it, with a comma.
        others: Whole sentences with the name (``{s}``) further back.
        surfaces: How a value is spelled, where not as in the record.
        kinds: What goes together: the values that an attribute can have in each kind of record,
            where not all of them. A kind is drawn for each record, so that none contradicts itself.
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
    """Each line with each choice of the tails, in their order."""
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
    """A kind of weather: temperatures from one number to another, and the values of the rest."""
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


def claiming(text: str, attribute: str, value: str) -> str:
    """Words of a grammar, the last of which claims a value."""
    return f"{text}|{attribute}={value.replace(' ', '_')}"


@cache
def grammar(domain: str) -> State:
    """The automaton of all sentences about one domain."""
    this, more = DOMAINS[domain], MORE[domain]
    rules: dict[str, list[str]] = {}
    for attribute, values in this.values.items():
        spelled = [(this.surfaces.get(value, value), value) for value in values]
        for number, ending in enumerate(("", *ENDINGS)):
            rules[_ruled(attribute, number)] = [
                claiming(text + ending, attribute, value) for text, value in spelled
            ]
            rules[_ruled(f"a_{attribute}", number)] = [
                claiming(article(text) + ending, attribute, value) for text, value in spelled
            ]
    called = [(named.format(one), one) for named in (this.named, *more.named)
              for one in this.subjects]  # fmt: skip
    names = [claiming(name, "about", one) for name, one in called]
    rules["s"] = names
    rules["S"] = [name[0].upper() + name[1:] for name in names] + [
        claiming(text, "pronoun", pronoun) for text, pronoun in this.pronouns.items()
    ]
    pronouns = sorted(set(this.pronouns.values()))
    rules["and"] = ["[,] and", *(f"[,] and {claiming(one, 'pronoun', one)}" for one in pronouns)]
    rules["does"] = _rules(this.clauses + more.clauses)
    rules["deed"] = ["[also] <does>"]
    rules["deeds"] = ["<deed>", "<deed> <and> <deed>", "<deed> , <deed> <and> <deed>"]
    which = "which" if pronouns == ["it"] else "who"
    rules["sentence"] = [
        "<S> <deeds> .",
        f"<S> , {which} <does> , <deeds> .",
        *(f"{other} ." for other in _rules(this.others + more.others)),
    ]
    if this.fronts:
        rules["front"] = _rules(this.fronts)
        rules["sentence"].append("<front> [,] <s> <deeds> .")
    if more.owned:
        rules["whose"] = [
            claiming(f"{name[0].upper()}{name[1:]}'s", "about", one) for name, one in called
        ] + [claiming(POSSESSIVES[one], "pronoun", one) for one in pronouns]
        rules["owned"] = _rules(more.owned)
        rules["sentence"].append("<whose> <owned> .")
    return translate(compile_grammar(rules, "sentence"))


_SLOT = re.compile(rf"\{{(\w+)\}}({'|'.join(ENDINGS)})?")

_LOOSE = {"the {loser}": "[the] {loser}", " degrees": " [degrees]"}
"""What the reader does not insist on."""


def _ruled(name: str, ending: int) -> str:
    return f"{name}_{ending}" if ending else name


def _rules(phrases: tuple[str, ...]) -> list[str]:
    """The phrases in the notation of the automaton, without what may be missing."""

    def rule(match: re.Match[str]) -> str:
        name, ending = match.groups()
        return f"<{_ruled(name, ENDINGS.index(ending) + 1 if ending else 0)}>"

    rules = []
    for phrase in phrases:
        for strict, loose in _LOOSE.items():
            phrase = phrase.replace(strict, loose)
        rules.append(_SLOT.sub(rule, phrase))
    return rules


def translate(plain: Plain) -> State:
    """Turn an automaton over words marked by `claiming` into one that says what they claim.

    Raises:
        ValueError: If the words read so far allow one word to claim two things.
    """
    known: dict[int, State] = {}

    def visit(state: Plain) -> State:
        if id(state) in known:
            return known[id(state)]
        made: State = {}
        known[id(state)] = made
        for symbol, following in state.items():
            word, _, meaning = symbol.partition("|")
            attribute, _, value = meaning.partition("=")
            if word in made:
                raise ValueError(f"the word {word!r} can mean two things: {symbol!r} is one")
            claim = (attribute, value.replace("_", " ")) if meaning else None
            made[word] = visit(following), claim
        return made

    return visit(plain)
