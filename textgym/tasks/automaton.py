"""Small grammars as deterministic automata: a fast recogniser for sentences of a closed language.

A grammar is a dictionary from names to alternatives. An alternative is a string of words, in which
``<name>`` stands for any alternative of another rule and ``[...]`` for something that may be left
out::

    compile_grammar({"S": ["the <noun> was [very] <adj>"], "noun": ["room"], "adj": ["clean"]}, "S")

Rules must not refer to themselves, so every language here is finite, and its automaton has one
state per set of possible rests of the sentence. A state is a plain dictionary from the next word to
the next state, so that reading a word is one dictionary look-up; the end of a sentence is an
ordinary word, usually ``"."``. A word without an entry is where a text leaves the grammar.

This is a recogniser only. Meaning is the business of the tasks, which read the words themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

State = dict[str, Any]
"""Next word -> next `State`. The end of the sentence leads to a state without entries."""

_SYMBOL = re.compile(r"<\w+>|\[|\]|[^\s\[\]<>]+")

_Rest = tuple[str, ...]


def compile_grammar(rules: Mapping[str, Sequence[str]], start: str) -> State:
    """Build the automaton of a grammar without recursion.

    Args:
        rules: Alternatives by name, in the notation of the module.
        start: The rule of a whole sentence.

    Returns:
        The first state. Equal states are one object, so the automaton is a graph, not a tree.

    Raises:
        ValueError: On a rule that is missing or refers to itself, or on unbalanced brackets.
    """
    table = {
        name: [rest for alternative in alternatives for rest in _options(alternative)]
        for name, alternatives in rules.items()
    }
    _check(table)
    known: dict[frozenset[_Rest], State] = {}

    def build(rests: frozenset[_Rest]) -> State:
        if rests in known:
            return known[rests]
        state = known[rests] = {}
        following: dict[str, set[_Rest]] = {}
        seen: set[_Rest] = set()
        agenda = list(rests)
        while agenda:
            rest = agenda.pop()
            if not rest or rest in seen:
                continue
            seen.add(rest)
            first, tail = rest[0], rest[1:]
            if first.startswith("<"):
                agenda.extend(option + tail for option in table[first[1:-1]])
            else:
                following.setdefault(first, set()).add(tail)
        for word, tails in following.items():
            state[word] = build(frozenset(tails))
        return state

    return build(frozenset({(f"<{start}>",)}))


NOWHERE: State = {}
"""The state of a text that has left the grammar."""


def walk(state: State, words: Sequence[str]) -> State:
    """The state after some words, or `NOWHERE` as soon as one does not fit."""
    for word in words:
        if word not in state:
            return NOWHERE
        state = state[word]
    return state


def _options(alternative: str) -> list[_Rest]:
    """All readings of one alternative, its optional parts taken and left out."""
    readings: list[list[_Rest]] = [[()]]  # a stack: the readings so far, by depth of brackets
    for symbol in _SYMBOL.findall(alternative):
        if symbol == "[":
            readings.append([()])
        elif symbol == "]":
            if len(readings) == 1:
                raise ValueError(f"']' without '[' in {alternative!r}")
            inner = readings.pop()
            readings[-1] = [a + b for a in readings[-1] for b in [(), *inner]]
        else:
            readings[-1] = [(*reading, symbol) for reading in readings[-1]]
    if len(readings) != 1:
        raise ValueError(f"'[' without ']' in {alternative!r}")
    return readings[0]


def _check(table: Mapping[str, list[_Rest]]) -> None:
    """Refuse rules that are missing or, directly or not, contain themselves."""
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name not in table:
            raise ValueError(f"rule <{name}> is used in <{above[-1]}> and defined nowhere")
        if name in above:
            raise ValueError(f"rule <{name}> refers to itself: {' > '.join([*above, name])}")
        if name in done:
            return
        for option in table[name]:
            for symbol in option:
                if symbol.startswith("<"):
                    visit(symbol[1:-1], (*above, name))
        done.add(name)

    for name in table:
        visit(name, ())
