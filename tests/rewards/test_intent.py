import copy
import pickle

import pytest

from textgym.errors import RewardError
from textgym.rewards import make_reward, register_reward
from textgym.rewards.metrics.intent import Intent
from textgym.rewards.metrics.meteor import Meteor

KEYWORDS = {"question": ["what", "could you"], "inform": ["is", "here"], 3: ["please"]}


def last_character(texts: list[str]) -> list[str]:
    return [text[-1:] for text in texts]


def test_the_classifiers_label_is_compared() -> None:
    reward = Intent(last_character, meteor=0)
    assert reward([""] * 3, ["yes!", "no?", ""], intent=["!", "!", "?"]) == [1, 0, 0]
    reward = Intent(last_character, meteor=0, accuracy=2.5, column="act")
    assert reward([""] * 2, ["yes!", "yes!"], act=["!", None]) == [2.5, None]
    # DailyDialog's column holds a list of one; labels may be numbers.
    reward = Intent(lambda texts: [len(text) for text in texts], meteor=0)
    assert reward([""] * 4, ["a", "bb", "a", "a"], intent=[[1], [1], [], 1.0]) == [1, 0, None, 1]
    with pytest.raises(TypeError, match=r"one intent.*\[1, 2\]"):
        reward([""], ["a"], intent=[[1, 2]])


def test_meteor_is_added() -> None:
    said, meant = ["the dog sat!", "the dog!", "a!"], ["the dog sat!", "a cat!", None]
    overlap = Meteor()([""] * 3, said, reference=meant)
    reward = Intent(last_character, accuracy=0.5, meteor=2.0)
    rewards = reward([""] * 3, said, intent=["!", "?", "!"], reference=meant)
    assert rewards == pytest.approx([0.5 + 2 * overlap[0], 2 * overlap[1], 0.5])
    assert overlap[0] > 0.9
    other = Intent(last_character, reference="reply")
    assert other([""], ["a b?"], intent=["!"], reply=["a b?"]) == pytest.approx(
        Meteor()([""], ["a b?"], reference=["a b?"])
    )
    with pytest.raises(RewardError, match="needs the column 'reference'"):
        reward([""], ["a"], intent=["!"])
    with pytest.raises(RewardError, match="needs the column 'intent'"):
        reward([""], ["a"], reference=["a"])


def test_what_the_classifier_reads() -> None:
    seen: list[str] = []

    def read(texts: list[str]) -> list[int]:
        seen.extend(texts)
        return [0] * len(texts)

    prompt = "A: Hi.<EOU>B: Who is it?<EOU> "
    for context in ("none", "last", "all"):
        reward = Intent(read, meteor=0, context=context, separator="<EOU>")
        reward([prompt, ""], ["It is I.", "x"], intent=[0, 0])
    assert seen[::2] == ["It is I.", "B: Who is it?It is I.", prompt + "It is I."]
    assert seen[1::2] == ["x"] * 3


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("What is that?", "question"),  # as many of "inform": the first label
        ("Here it is.", "inform"),
        ("Could you, please?", "question"),
        ("PLEASE!", 3),
        ("Whatever, this could be you", None),  # whole words and phrases
        ("", None),
    ],
)
def test_keywords(said: str, label: object) -> None:
    reward = Intent(KEYWORDS, meteor=0)
    for intent in KEYWORDS:
        assert reward([""], [said], intent=[intent]) == [float(intent == label)]


def test_a_classifier_that_returns_too_few_labels() -> None:
    reward = Intent(lambda texts: ["!"], meteor=0)
    with pytest.raises(RewardError, match="which returned 1 for 2 texts"):
        reward([""] * 2, ["a", "b"], intent=["!", "!"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier": "roberta"}, "classifier .*not 'roberta'"),
        ({"classifier": dict}, "classifier .*not <class"),
        ({"classifier": {}}, "classifier={} has no labels"),
        ({"classifier": {"a": "word"}}, "the words of the label 'a' must be a list"),
        ({"classifier": {"a": ["?"]}}, "the words of the label 'a' must be a list"),
        ({"classifier": KEYWORDS, "accuracy": -1}, "accuracy .*not -1"),
        ({"classifier": KEYWORDS, "context": "first"}, "context .*not 'first'"),
        ({"classifier": KEYWORDS, "separator": ""}, "separator must not be empty"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^intent: {message}"):
        Intent(**options)


def test_by_name_and_copies() -> None:
    register_reward("intent", Intent)
    reward = make_reward("intent", classifier=KEYWORDS, accuracy=2.0, context="last")
    row = {"intent": ["question"], "reference": ["What is it?"]}
    expected = reward(["What?"], ["is it here"], **row)
    assert pickle.loads(pickle.dumps(reward))(["What?"], ["is it here"], **row) == expected
    assert copy.deepcopy(reward) is reward
