"""The automaton accepts exactly the sentences of the expanded grammar."""

import itertools
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from textgym.tasks.automaton import NOWHERE, compile_grammar, walk


def expand(rules, text):
    """All sentences of an alternative, by string substitution."""
    if match := re.search(r"\[([^\[\]]*)\]", text):
        for inner in ("", match[1]):
            yield from expand(rules, text[: match.start()] + inner + text[match.end() :])
    elif match := re.search(r"<(\w+)>", text):
        for option in rules[match[1]]:
            yield from expand(rules, text[: match.start()] + option + text[match.end() :])
    else:
        yield tuple(text.split())


def count(rules, text):
    """The number of sentences of `expand`, by multiplication.

    Inner brackets are expanded first, even if the outer ones are then omitted.
    """
    kept, left_out = [1], [1]
    for symbol in re.findall(r"<\w+>|[\[\]]", text):
        if symbol == "[":
            kept.append(1)
            left_out.append(1)
        elif symbol == "]":
            inside, without = kept.pop(), left_out.pop()
            kept[-1] *= inside + without
            left_out[-1] *= 2 * without
        else:
            kept[-1] *= sum(count(rules, option) for option in rules[symbol[1:-1]])
    return kept[0]


WORDS = ("a", "b", "c")
# Rules only refer to later ones, so no grammar is recursive.
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
    # Nested brackets can make 10^12 sentences.
    assume(sum(count(rules, text) for text in rules["X"]) <= 2000)
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


def test_sentences_are_counted():
    rules = {"X": ["a [<Y> b] <Z>", "[c [<Z>]]"], "Y": ["[b] c", "a"], "Z": ["b", "c [a]"]}
    for text in rules["X"]:
        assert len(list(expand(rules, text))) == count(rules, text)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"S": ["a <T>"]}, "<T> is used in <S>"),
        ({"S": ["a <T>"], "T": ["b", "[<S>] c"]}, "S > T > S"),
        ({"S": ["a [b"]}, r"'\[' without"),
        ({"S": ["a ] b"]}, r"'\]' without"),
    ],
)
def test_invalid_grammars(rules, message):
    with pytest.raises(ValueError, match=message):
        compile_grammar(rules, "S")
