"""Small grammars compiled to deterministic automata: fast recognizers of closed languages.

A grammar maps the name of each rule to its alternatives. An alternative is a string of words, in
which ``<name>`` refers to another rule and ``[...]`` is optional::

    compile_grammar({"S": ["the <noun> was [very] <adj>"], "noun": ["room"], "adj": ["clean"]}, "S")

Rules must not be recursive, so every language is finite. A state of the automaton is a dictionary
from the next word to the next state, and reading a word takes one lookup. The end of a sentence is
an ordinary word, usually ``"."``. A word without an entry is not in the language.

The automaton only recognizes sentences. The tasks interpret the words themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

State = dict[str, Any]
"""From the next word to the next `State`. The state after the end of a sentence is empty."""

_SYMBOL = re.compile(r"<\w+>|\[|\]|[^\s\[\]<>]+")

_Rest = tuple[str, ...]


def compile_grammar(rules: Mapping[str, Sequence[str]], start: str) -> State:
    """Compile a grammar without recursion.

    Args:
        rules: Alternatives by rule name, in the notation described above.
        start: The rule of a sentence.

    Returns:
        The initial state. Equal states share one object, so the automaton is a graph, not a tree.

    Raises:
        ValueError: If a rule is missing or recursive, or brackets are unbalanced.
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
"""The state after a word that is not in the language."""


def walk(state: State, words: Sequence[str]) -> State:
    """Return the state after some words, or `NOWHERE` if they do not fit."""
    for word in words:
        if word not in state:
            return NOWHERE
        state = state[word]
    return state


def _options(alternative: str) -> list[_Rest]:
    """Expand the optional parts of an alternative."""
    readings: list[list[_Rest]] = [[()]]  # a stack: the expansions by depth of brackets
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
    """Reject missing and (directly or indirectly) recursive rules."""
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name not in table:
            raise ValueError(f"rule <{name}> is used in <{above[-1]}> but not defined")
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
