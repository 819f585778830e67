"""Domains: the things that can be booked, and the phrases of both speakers about them."""

from __future__ import annotations

from typing import NamedTuple

from textgym.tasks.words import WOMEN

NAMES = WOMEN
"""Hotels, restaurants and boats are named after women."""

DAYS = ("Monday", "Tuesday", "Friday", "Saturday", "Sunday")
NUMBERS = ("two", "three", "four", "five")
PRICES = tuple(str(price) for price in range(15, 100, 5))

KIND, SPOT, PRICE = "kind", "spot", "price"
NUMBER, DAY = "number", "day"
COLUMN = {KIND: 1, SPOT: 2, PRICE: 3}
"""The index of an attribute in a line of a table, after the name."""


class Domain(NamedTuple):
    """A domain of things to book.

    Attributes:
        header: The header of its table.
        noun: The thing that is booked.
        kinds: Values of the first attribute.
        spots: Values of the second attribute, each with its phrase.
        wanted: The user's request for each kind.
        answers: The user's answers to a question for the kind.
        ask_kind: The clerk's questions for the kind, as parts of a sentence.
        ask_spot: The clerk's questions for the second attribute.
        asked: The user's question for the second attribute.
        state_kind: The clerk's statements of the kind; ``N`` is the name or "it", ``A`` the kind.
        state_spot: The clerk's statements of the second attribute, ``B``.
    """

    header: str
    noun: str
    kinds: tuple[str, ...]
    spots: dict[str, str]
    wanted: dict[str, str]
    answers: tuple[str, ...]
    ask_kind: tuple[str, ...]
    ask_spot: tuple[str, ...]
    asked: str
    state_kind: tuple[str, ...]
    state_spot: tuple[str, ...]


_BUILDINGS = ("harbour", "museum", "chapel", "school", "library", "tower")
_NEAR = {place: f"near the {place}" for place in _BUILDINGS}
_STYLES = ("small", "large", "modern", "old", "cosy")
_DISHES = ("fish", "soup", "cake", "vegetables", "sandwiches")
_CITIES = ("Lisbon", "Oslo", "Porto", "Naples", "Athens", "Dublin")
_TIMES = {
    "morning": "in the morning",
    "noon": "at noon",
    "evening": "in the evening",
    "night": "at night",
}
_NEAR_WHAT = ("near what", "where", "in which place", "which place", "near which place")
_IS_NEAR = ("N (is|stands|lies) (near|close to|next to) the B", "the {noun} is near the B")

DOMAINS = {
    domain.header: domain
    for domain in (
        Domain(
            "Hotels",
            "room",
            _STYLES,
            _NEAR,
            {style: f"{'an' if style == 'old' else 'a'} {style} room" for style in _STYLES},
            ("{Kind}.", "{A} {kind} one."),
            ("what kind", "what kind of room", "which kind", "which room", "what room"),
            _NEAR_WHAT,
            "Where is it?",
            ("N is A", "N has (|a |an )A (room|rooms)", "(it|the room) is A"),
            _IS_NEAR,
        ),
        Domain(
            "Restaurants",
            "table",
            _DISHES,
            _NEAR,
            {dish: dish for dish in _DISHES},
            ("{Kind}.", "I want {kind}."),
            ("what food", "what dish", "which food", "which dish", "what kind of food"),
            _NEAR_WHAT,
            "Where is it?",
            ("N (has|serves|offers) A", "there is A at N"),
            _IS_NEAR,
        ),
        Domain(
            "Boats",
            "boat",
            _CITIES,
            _TIMES,
            {city: f"a boat to {city}" for city in _CITIES},
            ("To {kind}.", "{Kind}."),
            ("where to", "to which city", "which city", "what city"),
            ("what time", "at what time", "which time", "at which time"),
            "What time is it?",
            ("N (goes|sails) to A", "(it|the boat) goes to A"),
            ("(N|the boat) (is|goes|leaves|sails) (at|in the) B", "the time is B"),
        ),
    )
}
HEADERS = tuple(DOMAINS)

ASK_NUMBER = (
    "for how many",
    "how many",
    "how many people",
    "for how many people",
    "how many seats",
)
ASK_DAY = ("on which day", "which day", "on what day", "what day", "for which day", "when")


def wish(domain: Domain, kind: str, spot: str) -> str:
    """A noun phrase for a thing of a kind at a spot; an empty string leaves either open."""
    thing = domain.wanted[kind] if kind else f"a {domain.noun}"
    return f"{thing} {domain.spots[spot]}" if spot else thing


def write_table(domain: Domain, table: list[list[str]]) -> str:
    """The table, the first line of a prompt."""
    return f"{domain.header}: {' '.join([', '.join(line) + '.' for line in table])}"


def write_bookings(bookings: list[list[str]]) -> str:
    """The bookings, the second line of a prompt."""
    return f"Bookings: {' '.join([f'{name} for {n} on {day}.' for name, n, day in bookings])}"
