"""The automaton accepts exactly what expanding the grammar by hand gives."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.tasks.grammar import NOWHERE, compile_grammar, walk


def expand(rules, text):
    """All sentences of an alternative, by substitution in the string: the slow, obvious way."""
    if match := re.search(r"\[([^\[\]]*)\]", text):
        for inner in ("", match[1]):
            yield from expand(rules, text[: match.start()] + inner + text[match.end() :])
    elif match := re.search(r"<(\w+)>", text):
        for option in rules[match[1]]:
            yield from expand(rules, text[: match.start()] + option + text[match.end() :])
    else:
        yield tuple(text.split())


WORDS = ("a", "b", "c")
# Rules may use later ones only, so no grammar refers to itself.
piece = st.sampled_from([*WORDS, "<Y>", "<Z>", "[a]", "[<Y> b]", "[<Z> [c]]"])
low = st.lists(st.sampled_from([*WORDS, "[b]"]), max_size=3).map(" ".join)
middle = st.lists(st.sampled_from([*WORDS, "<Z>", "[c <Z>]"]), max_size=3).map(" ".join)
top = st.lists(piece, min_size=1, max_size=3).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(top, min_size=1, max_size=3),
    st.lists(middle, min_size=1, max_size=2),
    st.lists(low, min_size=1, max_size=2),
)
def test_language_is_the_expanded_one(tops, middles, lows):
    rules = {"X": [f"{text} ." for text in tops], "Y": middles, "Z": lows}
    start = compile_grammar(rules, "X")
    language = {sentence for text in rules["X"] for sentence in expand(rules, text)}
    found = set()
    agenda = [((), start)]
    while agenda:
        words, state = agenda.pop()
        if words[-1:] == (".",):
            assert state == {}
            found.add(words)
        agenda += [((*words, word), following) for word, following in state.items()]
    assert found == language
    prefixes = {sentence[:size] for sentence in language for size in range(len(sentence))}
    for size in range(4):
        for words in itertools.product(WORDS, repeat=size):
            assert (walk(start, words) != NOWHERE) == (words in prefixes)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"S": ["a <T>"]}, "<T> is used in <S>"),
        ({"S": ["a <T>"], "T": ["b", "[<S>] c"]}, "S > T > S"),
        ({"S": ["a [b"]}, r"'\[' without"),
        ({"S": ["a ] b"]}, r"'\]' without"),
    ],
)
def test_bad_grammars_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        compile_grammar(rules, "S")
