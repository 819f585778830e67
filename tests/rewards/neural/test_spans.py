"""Marked parts as rewards of tokens: offsets by hand, the fit, and what an environment pays."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import textgym
from textgym.errors import DataError, RewardError
from textgym.rewards.preferences.features import TextFeatures, character_ends
from textgym.rewards.spans.edits import Edit, EditReward
from textgym.rewards.spans.marks import MarkedText, token_marks
from textgym.rewards.spans.reward import SpanReward
from textgym.rewards.spans.ridge import fit_ridge


@pytest.fixture(scope="module")
def features() -> TextFeatures:
    return TextFeatures(device="cpu")


def test_ends_of_words() -> None:
    tokenizer = textgym.load_tokenizer(["good", "bad", "room"])
    ids = tokenizer.encode("room good bad good")
    assert character_ends(tokenizer, ids, tokenizer.encode("bad")).tolist() == [4, 9, 13, 18]


def test_ends_of_byte_tokens() -> None:
    """Characters of 1 to 4 bytes, of which a token may have a part."""
    tokenizer = textgym.load_tokenizer(None)
    text = " a\u00e9\u4e2d\U0001f600b"
    ids = tokenizer.encode_continuation(text)
    ends = character_ends(tokenizer, ids, tokenizer.encode("The"))
    places = np.cumsum([len(tokenizer.token_bytes[index]) for index in ids])
    assert ends.tolist() == [len(text.encode()[:at].decode(errors="replace")) for at in places]
    assert ends[-1] == len(text)


def test_marks_of_tokens_by_hand() -> None:
    text = " The room was di-rty."
    ends = np.array([4, 9, 13, 16, 17, 20, 21])  # " The| room| was| di|-|rty|."
    assert token_marks(text, ends, [(14, 20, -1)]).tolist() == [0, 0, 0, -1, -1, -1, 0]
    # The space of " was" alone does not mark it, nor does a letter of four.
    assert token_marks(text, ends, [(0, 10, 1)]).tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert token_marks(text, ends, [(5, 6, 1)]).tolist() == [0, 0, 0, 0, 0, 0, 0]
    assert token_marks(text, ends, [(5, 7, 1), (20, 21, -1)]).tolist() == [0, 1, 0, 0, 0, 0, -1]
    # A token that is white space, and one that completes a character.
    assert token_marks("a \n\u00e9", np.array([1, 3, 4, 4]), [(1, 3, 1), (3, 4, -1)]).tolist() == [
        0, 1, -1, -1
    ]  # fmt: skip
    with pytest.raises(DataError, match="within the 21 characters"):
        token_marks(text, ends, [(14, 22, 1)])


def test_the_fit_is_the_best_ridge_regression_by_leaving_rows_out() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((30, 4)), rng.choice([0.1, 1.0], 30)
    y = x @ [1.0, -2.0, 0.0, 0.0] + 0.5 + rng.standard_normal(30)

    def solve(rows: np.ndarray, ridge: float) -> np.ndarray:
        a = np.c_[x, np.ones(30)][rows]
        penalty = ridge * np.diag([1.0] * 4 + [0.0])
        weighted = a.T * weight[rows]
        return np.linalg.solve(weighted @ a + penalty, weighted @ y[rows])

    coefficients, offset, ridge, error = fit_ridge(x, y, weight)
    np.testing.assert_allclose([*coefficients, offset], solve(np.arange(30), ridge))
    residuals = [
        y[row] - np.r_[x[row], 1] @ solve(np.delete(np.arange(30), row), ridge) for row in range(30)
    ]
    assert error == pytest.approx(np.average(np.square(residuals), weights=weight))


MARKED = [
    MarkedText(
        "The hotel:", " The room was clean. The staff was rude.", [(14, 19, 1), (35, 39, -1)]
    ),
    MarkedText("The hotel:", " The food was rude. The bed was clean.", [(14, 18, -1), (32, 37, 1)]),
]


def test_marks_are_learned_and_paid_word_by_word(features: TextFeatures) -> None:
    reward = SpanReward(features)
    assert reward(["a"], [" b"]) == [0.0]
    assert reward.fit(MARKED).tokens >= 4
    assert reward.accuracy(MARKED) == 1.0
    assert reward.accuracy([MarkedText("a", " b", [])]) is None
    prompt, text = "The hotel:", " The beds were clean. The waiter was rude"
    (each,) = reward.token_rewards([prompt], [text])
    ends = features.ends(features.tokens(prompt, text)).tolist()
    inside = {word: [at for at, end in enumerate(ends) if start < end <= start + len(word)]
              for word in (" clean", " rude") for start in [text.index(word)]}  # fmt: skip
    assert each[inside[" clean"]].sum() > each[inside[" rude"]].sum()

    env = gymnasium.make(
        "TextGen-v0", prompts=[prompt], reward=reward, step_reward=reward.potential,
        max_new_tokens=40,
    )  # fmt: skip
    env.reset(seed=0)
    tokenizer = env.unwrapped.tokenizer
    ids = [*tokenizer.encode_continuation(text), tokenizer.eos_id]
    rewards = [env.step(index)[1] for index in ids]
    assert sum(rewards) == pytest.approx(each.sum(), abs=1e-4)
    marked = reward.token_rewards(*zip(*((one.prompt, one.text) for one in MARKED), strict=True))
    assert np.mean([np.square(tokens).sum() for tokens in marked]) == pytest.approx(1)
    # The tokens are the model's own here; a word is paid with the first token of the next one.
    firsts = [at for at, index in enumerate(ids[:-1]) if tokenizer.decode([index])[0] == " "]
    start = 0
    for first, word in zip(firsts[1:], text.split(" ")[1:], strict=False):
        stop = start + 1 + len(word)
        own = [at for at, end in enumerate(ends) if start < end <= stop]
        assert rewards[first] == pytest.approx(each[own].sum(), abs=1e-4), word
        start = stop


def test_an_edit_is_a_preference_a_reference_and_marks(features: TextFeatures) -> None:
    edit = Edit("The hotel:", " The room was dirty.", " The room was very clean.")
    before, after = edit.marks
    assert [before.text[a:b] for a, b, _ in before.spans] == ["dirty"]
    assert "".join(after.text[a:b] for a, b, _ in after.spans) == "very clean"
    assert {sign for *_, sign in before.spans} == {-1}
    assert {sign for *_, sign in after.spans} == {1}
    reward = EditReward(features, [edit])
    (pair,) = reward.pairs
    assert (pair.chosen, pair.rejected) == (edit.edited, edit.original)
    assert reward.references == [{"prompt": edit.prompt, "reference": edit.edited}]
    good, bad = reward([edit.prompt] * 2, [edit.edited, edit.original])
    assert good > bad
    begun, complete = " The room was very cle", " The room was very"
    assert reward.potential([edit.prompt], [begun]) == reward([edit.prompt], [complete])
    # Removing a part marks nothing in the better version.
    shorter = Edit("", " a b c", " a c")
    assert [part.spans for part in shorter.marks] == [[(3, 5, -1)], []]


def test_files(features: TextFeatures, tmp_path: Path) -> None:
    reward = SpanReward(features, MARKED)
    reward.save(tmp_path / "spans.safetensors")
    loaded = SpanReward.load(tmp_path / "spans.safetensors", "cpu")
    text = [["The hotel:"], [" The bed was rude."]]
    assert loaded(*text) == reward(*text)
    assert loaded.reward_version(text[1]) == [1.0]
    with pytest.raises(RewardError, match="shape"):
        reward.load_state_dict({"weights": torch.zeros(3)})
    (tmp_path / "other").write_text("{}")
    with pytest.raises(RewardError, match="not a saved span reward"):
        SpanReward.load(tmp_path / "other")


def test_nothing_is_marked(features: TextFeatures) -> None:
    with pytest.raises(DataError, match="no token of 1 texts is marked"):
        SpanReward(features, [MarkedText("a", " b c", [])])
    with pytest.raises(DataError, match="edit some texts"):
        EditReward(features, [])
