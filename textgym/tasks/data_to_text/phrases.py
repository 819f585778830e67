"""Phrases that the reader accepts in addition to those of the writer.

The notation is that of `textgym.tasks.data_to_text.world`, with two additions: ``[...]`` is
optional, and ``word|name=value`` claims a value. An ending may follow a value: ``{closed}s`` reads
"Tuesdays".
"""

from __future__ import annotations

from typing import NamedTuple


class Phrases(NamedTuple):
    """The additional phrases of a domain.

    Attributes:
        clauses: Clauses that follow the subject.
        others: Whole sentences; those without ``{s}`` need a subject that was named before.
        owned: Phrases that follow "Sam's", "His" or "Its".
        named: Other names for the subject, with ``{}`` for its value in the record.
    """

    clauses: tuple[str, ...]
    others: tuple[str, ...] = ()
    owned: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


POSSESSIVES = {"it": "Its", "he": "His", "she": "Her", "they": "Their"}

ENDINGS = ("s", "%")
"""Endings of a value."""

EXTRA_PHRASES: dict[str, Phrases] = {
    "restaurant": Phrases(
        _lines("""
            has [{price}] {food} food
            has {price} food
            has {price} prices
            sells [{price}] {food} food
            is [a restaurant] located in the {area} [near the {near}]
            is [a restaurant] located [in the {area}] near the {near}
            is located close to the {near}
            is located next to the {near}
            is situated in the {area} [near the {near}]
            is situated near the {near}
            can be found in the {area}
            can be found near the {near}
            is a restaurant [in the {area}] near the {near}
            is a restaurant in the {area}
            is {a_food} restaurant located in the {area}
            is {a_food} restaurant located near the {near}
            is {a_price} [{food}] restaurant located in the {area}
            is {a_price} [{food}] restaurant located near the {near}
            is {a_food} restaurant with {a_rating} rating
            is {a_price} [{food}] restaurant with {a_rating} rating
            is {a_rating} [{food}] restaurant
            has been rated {rating}
            is rated as {rating}
            allows children|children=yes
            does not allow children|children=no
            is child friendly|children=yes
            is family friendly|children=yes
            is not child friendly|children=no
            is not family friendly|children=no
            is closed on {closed}s
            closes on {closed}s
            does not open on {closed}s
            is not open on {closed}
            is not open on {closed}s
            is closed every {closed}
            closes every {closed}
        """),
        _lines("""
            The food is {price}
            The food is {food}
            The rating is {rating}
            Children are welcome|children=yes
            Children are not welcome|children=no
        """),
        _lines("""
            rating is {rating}
            food is {price}
            prices are {price}
        """),
        ("{}",),
    ),
    "person": Phrases(
        _lines("""
            is living in {home} [with a {pet}]
            has a home in {home}
            is {a_job} who lives in {home}
            is {a_job} living in {home}
            was born in the year {born}
            is fond of {hobby}
            has a pet {pet}
            has a {pet} as a pet
            lives with a {pet} [in {home}]
            plays {plays}
            knows how to play the {plays}
            plays chess|hobby=chess
            plays tennis|hobby=tennis
            plays football|hobby=football
        """),
        (),
        _lines("""
            job is {job}
            home is [in] {home}
            hobby is {hobby}
            birthplace is {birthplace}
            pet is a {pet}
        """),
    ),
    "match": Phrases(
        _lines("""
            are a {sport} team
            won a {sport} game
            won the {sport} game [{score}]
            won the game [{score}]
            won the {sport} match
            won {score} against the {loser}
            won by {score}
            won with a score of {score}
            beat the {loser} by {score}
            beat the {loser} with a score of {score}
            beat the {loser} {score} in {city} on {day}
            beat the {loser} in {city} on {day}
            won with a goal from {scorer}
            won thanks to a goal by {scorer}
            played in front of a {crowd} crowd
            won in front of a {crowd} crowd
            had a {crowd} crowd
        """),
        _lines("""
            {scorer} scored [a goal]
            {scorer} scored the goal
            The score was {score}
            The crowd was {crowd}
            The match was in {city} [on {day}]
            The match was on {day}
            The match took place in {city} [on {day}]
            The match took place on {day}
        """),
        (),
        ("{}",),
    ),
    "flight": Phrases(
        _lines("""
            leaves from {from} [at {leaves}]
            leaves from {from} on {day}
            departs from {from} for {to}
            takes off from {from} [at {leaves}]
            takes off at {leaves}
            departs on {day} [at {leaves}]
            departs from gate {gate}
            leaves from gate {gate} at {leaves}
            leaves at {leaves} from gate {gate}
            is from {from} to {to}
            flies from {from}
            is going to {to}
            arrives in {to}
            lands in {to}
            is running late|status=late
            is delayed|status=late
            is running on time|status=on_time
            is fully booked|status=full
        """),
        _lines("""
            The gate is {gate}
            Boarding is at gate {gate}
        """),
        (),
        ("flight number {}",),
    ),
    "weather": Phrases(
        _lines("""
            has {sky} weather [today]
            has a {wind} wind blowing from the {direction}
            has {wind} winds [from the {direction}]
            has {a_rain}% chance of rain
            has {a_rain}% risk of rain
            will have {tomorrow} weather tomorrow
        """),
        _lines("""
            It|pronoun=it is {sky} in {s} [today]
            It|pronoun=it will be {tomorrow} in {s} tomorrow
            Tomorrow [it] will be {tomorrow}
            The weather in {s} is {sky}
            The weather is {sky}
            The high is {high} degrees
            The low is {low} degrees
            The wind is {wind}
            The wind comes from the {direction}
            The wind blows from the {direction}
            The chance of rain is {rain} percent
            The chance of rain is {rain}%
        """),
        _lines("""
            high is {high} degrees
            low is {low} degrees
        """),
    ),
}
