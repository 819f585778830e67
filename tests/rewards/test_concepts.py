import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.errors import RewardError
from textgym.rewards.metrics.concepts import Concepts

DOG = ["dog", "frisbee", "catch", "throw"]
PROMPT = "generate a sentence with: dog frisbee catch throw."


def score(said: str, concepts=DOG, prompt: str = PROMPT, **options) -> float:
    [value] = Concepts(**options)([prompt], [said], concepts=[concepts])
    return value


@pytest.mark.parametrize(
    ("said", "value"),
    [
        # The sentence of the CommonGen paper.
        ("A dog leaps to catch a thrown frisbee.", 0.75),  # "thrown" is not of the stem "throw"
        ("A dog catches what is throwing frisbees", 1.0),  # stems
        ("The DOG-catcher throws a frisbee", 0.75),  # "catcher" does not use "catch"
        ("A dog is a dog is a dog", 0.25),  # once
        ("dogma", 0.0),
        ("", 0.0),
        # Lists: full coverage, minus the penalty.
        ("dog frisbee catch throw", 0.0),
        ("dog, throw, catch and frisbee", 0.0),
        ("I say: catch / throw / dog / frisbee!", 0.0),
        ("the dog throw and catch the frisbee", 1.0),  # as broken as it is, no list
        # Copies of four words of the prompt.
        ("I generate a sentence with care", -1.0),
        ("generate a sentence", 0.0),
        ("generate a sentence with dog, catch", -0.5),
    ],
)
def test_by_hand(said: str, value: float) -> None:
    assert score(said) == pytest.approx(value)


def test_concepts_next_to_each_other_in_a_sentence_are_no_list() -> None:
    three = ["dog", "catch", "frisbee"]
    for said in ("The dog catches the frisbee.", "Dogs catch frisbees", "The dogs catch a frisbee"):
        assert score(said, three) == 1
    assert score("People laugh", ["people", "laugh"]) == 1
    assert score("dog catch frisbee", three, prompt="") == 0


def test_the_shaping_alone() -> None:
    """RL4LMs' penalty: -1 for the list or the words of the instruction, else 0."""
    options = {"coverage": 0.0, "forbidden": ("generate", "Sentence")}
    assert score("The dog catches the thrown frisbee", **options) == 0
    assert score("dog frisbee catch throw", **options) == -1
    assert score("One sentence.", **options) == -1
    assert score("Two sentences", **options) == 0


def test_options() -> None:
    said = "generate a sentence with dog"
    assert score(said, penalty=0.5) == pytest.approx(0.25 - 0.5)
    assert score(said, copied=0) == score(said, copied=6) == pytest.approx(0.25)
    assert score(said, copied=5) == pytest.approx(0.25 - 1)
    assert score("an old ice cream", ["Ice creams", "old"], coverage=2) == 2
    assert score("cream of ice", ["ice cream", "old"]) == 0


def test_rows() -> None:
    reward = Concepts()
    rewards = reward([""] * 4, ["a dog"] * 4, concepts=[None, [], "dog", ["dog", "cat"]])
    assert rewards == [None, None, 1.0, 0.5]
    assert Concepts("words")([""], ["a dog"], words=[["dog"]]) == [1.0]
    with pytest.raises(RewardError, match="needs the column 'concepts'"):
        reward([""], ["a dog"])
    for value in (["dog", "!"], [3]):
        with pytest.raises(TypeError):
            score("a dog", value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": -1}, "penalty .*not -1"),
        ({"coverage": float("nan")}, "coverage .*not nan"),
        ({"copied": -1}, "copied .*not -1"),
        ({"forbidden": "sentence"}, "forbidden .*not 'sentence'"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^concepts: {message}"):
        Concepts(**options)


def test_copies() -> None:
    reward = Concepts(penalty=2.0, forbidden=("cat",))
    for twin in (pickle.loads(pickle.dumps(reward)), copy.deepcopy(reward)):
        assert twin([""], ["a dog and a cat"], concepts=[["dog"]]) == [-1.0]


@settings(max_examples=50)
@given(st.text(), st.text())
def test_range_on_any_text(said: str, prompt: str) -> None:
    assert -1 <= score(said, prompt=prompt) <= 1
