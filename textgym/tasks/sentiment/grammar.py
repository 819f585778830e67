"""The sentences of a review: one small grammar per subject."""

from __future__ import annotations

from functools import cache

from textgym.tasks.automaton import State, compile_grammar
from textgym.tasks.sentiment import lexicon

OPENERS = ("Overall", "In short", "In the end", "All things considered")
"""The words that introduce a verdict."""


def starts_with_vowel(word: str) -> bool:
    """Whether a word of the lexicon takes ``an``."""
    return word[0] in "aeiou"


def adjectives(sort: str) -> tuple[list[str], list[str], list[str], list[str]]:
    """The good, great, bad and awful adjectives that suit a sort, including the general ones."""
    good, great, bad, awful = (
        list(general + own)
        for general, own in zip(lexicon.GENERAL, lexicon.SORTS[sort], strict=True)
    )
    return good, great, bad, awful


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


@cache
def grammar_of(subject: str) -> State:
    """The automaton of all sentences of a review of a subject."""
    about = lexicon.SUBJECTS[subject]
    rules: dict[str, list[str]] = {
        "any": list(about.aspects),
        "who": ["I", "we"],
        "degree": ["very", "really", "truly", "quite", "rather"],
        "liking": list(lexicon.LIKE | lexicon.DISLIKE),
        "like": list(lexicon.LIKE_BASE),
        "pleasing": list(lexicon.PLEASE | lexicon.ANNOY),
        "please": list(lexicon.PLEASE_BASE | lexicon.ANNOY_BASE),
        "compare": list(lexicon.COMPARE),
        "mood": list(lexicon.MOOD),
        "opener": list(OPENERS),
        "deed": list(about.deed),
    }
    clauses = [
        "<who> [really] <liking> the <any>",
        "<who> did not <like> the <any>",
        "<who> never <liking> the <any>",
        "the <any> [really] <pleasing> us",
        "the <any> did not <please> us",
        "the <any> never <pleasing> us",
    ]
    plain_clauses: list[str] = []
    for sort in sorted(set(about.aspects.values())):
        good, great, bad, awful = adjectives(sort)
        plain, strong = good + bad, great + awful
        rules |= {
            f"plain_{sort}": plain,
            f"bad_{sort}": bad,
            f"strong_{sort}": strong,
            f"adj_{sort}": [f"[<degree>] <plain_{sort}>", f"<strong_{sort}>"],
            f"pred_{sort}": [
                f"<adj_{sort}> [and <adj_{sort}>]",
                f"<adj_{sort}> but <adj_{sort}>",
                f"a bit <bad_{sort}>",
                f"not [very] <plain_{sort}>",
                f"not at all <plain_{sort}>",
                f"not <strong_{sort}>",
                f"never <plain_{sort}>",
                f"never <strong_{sort}>",
                f"hardly <plain_{sort}>",
                f"neither <plain_{sort}> nor <plain_{sort}>",
                "[even] <compare> than expected",
                "[even] <compare> than the <any>",
            ],
            f"a_{sort}": [
                *(f"{'an' if starts_with_vowel(word) else 'a'} {word}" for word in plain + strong),
                f"a <degree> <plain_{sort}>",
            ],
        }
        nouns = [noun for noun, own in about.aspects.items() if own == sort]
        for number, verb in (("one", "was"), ("many", "were")):
            chosen = [noun for noun in nouns if (noun in about.plurals) == (number == "many")]
            if not chosen:
                continue
            name = f"{number}_{sort}"
            rules[name] = chosen
            clauses.append(f"the <{name}> {verb} <pred_{sort}>")
            for noun in chosen:
                bare = noun in about.plurals or noun in lexicon.MASS
                clauses.append(f"it had <{'adj' if bare else 'a'}_{sort}> {noun}")
            plain_clauses.append(f"the <{name}> {verb} <adj_{sort}>")
    rules |= {
        "clause": clauses,
        "simple": plain_clauses,
        "first": [
            _capital(clause.replace("<who>", who)) for clause in clauses for who in ("I", "We")
        ],
        "general": [
            *(
                f"{'an' if starts_with_vowel(word) else 'a'} {word}"
                for words in lexicon.GENERAL
                for word in words
            ),
            *(f"a <degree> {word}" for word in lexicon.GENERAL.good + lexicon.GENERAL.bad),
        ],
        "conclusion": [
            "<who> would recommend it",
            "<who> would gladly recommend it",
            "<who> would not recommend it",
            "<who> would never recommend it",
            "<who> would [gladly] <deed>",
            "<who> would not <deed>",
            "<who> would never <deed>",
            "I was [<degree>] <mood>",
            "we were [<degree>] <mood>",
            f"it was [not] <general> {about.noun}",
            "it was [not] [well] worth the money",
        ],
        "sentence": [
            "<first> .",
            "<first> and <clause> .",
            "<first> , <clause> and <clause> .",
            "<first> , but <clause> .",
            "Although <clause> , <clause> .",
            "Nobody could say that <simple> .",
            "<opener> , <conclusion> .",
        ],
    }
    return compile_grammar(rules, "sentence")
