"""The grammar of sentences about a record: an automaton whose words claim facts.

It is compiled from the writer's phrases (`textgym.tasks.data_to_text.world`) and from further ones
(`textgym.tasks.data_to_text.phrases`). The word that completes a value carries the claim, a pair of
attribute and value.
"""

from __future__ import annotations

import re
from functools import cache

from textgym.tasks.automaton import State as Plain
from textgym.tasks.automaton import compile_grammar
from textgym.tasks.data_to_text.phrases import ENDINGS, EXTRA_PHRASES, POSSESSIVES
from textgym.tasks.data_to_text.world import DOMAINS, article

Claim = tuple[str, str]
"""An attribute and its value; ``("about", ...)`` and ``("pronoun", ...)`` name the subject."""

State = dict[str, tuple["State", Claim | None]]
"""Next word -> the next state, and the claim that the word completes."""


def claiming(text: str, attribute: str, value: str) -> str:
    """Words for a grammar; the last one completes a claim."""
    return f"{text}|{attribute}={value.replace(' ', '_')}"


@cache
def grammar(domain: str) -> State:
    """The automaton of all sentences about one domain."""
    this, more = DOMAINS[domain], EXTRA_PHRASES[domain]
    rules: dict[str, list[str]] = {}
    for attribute, values in this.values.items():
        spelled = [(this.surfaces.get(value, value), value) for value in values]
        for number, ending in enumerate(("", *ENDINGS)):
            rules[_rule_name(attribute, number)] = [
                claiming(text + ending, attribute, value) for text, value in spelled
            ]
            rules[_rule_name(f"a_{attribute}", number)] = [
                claiming(article(text) + ending, attribute, value) for text, value in spelled
            ]
    named = [(form.format(one), one) for form in (this.named, *more.named)
             for one in this.subjects]  # fmt: skip
    names = [claiming(name, "about", one) for name, one in named]
    rules["s"] = names
    rules["S"] = [name[0].upper() + name[1:] for name in names] + [
        claiming(text, "pronoun", pronoun) for text, pronoun in this.pronouns.items()
    ]
    pronouns = sorted(set(this.pronouns.values()))
    rules["and"] = ["[,] and", *(f"[,] and {claiming(one, 'pronoun', one)}" for one in pronouns)]
    rules["does"] = _rules(this.clauses + more.clauses)
    rules["clause"] = ["[also] <does>"]
    rules["clauses"] = [
        "<clause>", "<clause> <and> <clause>", "<clause> , <clause> <and> <clause>"
    ]  # fmt: skip
    which = "which" if pronouns == ["it"] else "who"
    rules["sentence"] = [
        "<S> <clauses> .",
        f"<S> , {which} <does> , <clauses> .",
        *(f"{other} ." for other in _rules(this.others + more.others)),
    ]
    if this.fronts:
        rules["front"] = _rules(this.fronts)
        rules["sentence"].append("<front> [,] <s> <clauses> .")
    if more.owned:
        rules["whose"] = [
            claiming(f"{name[0].upper()}{name[1:]}'s", "about", one) for name, one in named
        ] + [claiming(POSSESSIVES[one], "pronoun", one) for one in pronouns]
        rules["owned"] = _rules(more.owned)
        rules["sentence"].append("<whose> <owned> .")
    return translate(compile_grammar(rules, "sentence"))


_SLOT = re.compile(rf"\{{(\w+)\}}({'|'.join(ENDINGS)})?")

_OPTIONAL = {"the {loser}": "[the] {loser}", " degrees": " [degrees]"}
"""Words of the writer's phrases that the reader does not require."""


def _rule_name(name: str, ending: int) -> str:
    return f"{name}_{ending}" if ending else name


def _rules(phrases: tuple[str, ...]) -> list[str]:
    """The phrases in the notation of the automaton."""

    def rule(match: re.Match[str]) -> str:
        name, ending = match.groups()
        return f"<{_rule_name(name, ENDINGS.index(ending) + 1 if ending else 0)}>"

    rules = []
    for phrase in phrases:
        for required, optional in _OPTIONAL.items():
            phrase = phrase.replace(required, optional)
        rules.append(_SLOT.sub(rule, phrase))
    return rules


def translate(plain: Plain) -> State:
    """Turn an automaton over words marked by `claiming` into one with claims on its arcs.

    Raises:
        ValueError: If a word has two claims in the same state.
    """
    visited: dict[int, State] = {}

    def visit(state: Plain) -> State:
        if id(state) in visited:
            return visited[id(state)]
        made: State = {}
        visited[id(state)] = made
        for symbol, following in state.items():
            word, _, meaning = symbol.partition("|")
            attribute, _, value = meaning.partition("=")
            if word in made:
                raise ValueError(f"word {word!r} has two claims in one state; one is {symbol!r}")
            claim = (attribute, value.replace("_", " ")) if meaning else None
            made[word] = visit(following), claim
        return made

    return visit(plain)
