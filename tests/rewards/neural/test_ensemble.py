"""A reward from preferences: what it predicts, its versions, its scale, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import textgym  # noqa: F401
from textgym.errors import DataError, RewardError
from textgym.rewards.preferences.ensemble import PreferenceEnsemble
from textgym.rewards.preferences.features import TextFeatures
from textgym.rewards.preferences.pairs import Pair


class Numbers:
    """Texts are lists of numbers, which are their features."""

    name, size = "numbers", 6

    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> np.ndarray:
        return np.array([list(map(float, text.split())) for text in completions])


def texts(count: int, seed: int) -> list[str]:
    rows = np.random.default_rng(seed).standard_normal((count, 6))
    return [" ".join(map(str, row)) for row in rows]


TASTE = np.array([2.0, -1.0, 0.5, 0.0, 0.0, 0.0])


def judged(
    one: list[str], other: list[str], sharpness: float = np.inf, seed: int = 0
) -> list[Pair]:
    gap = (Numbers()([], one) - Numbers()([], other)) @ TASTE
    if np.isinf(sharpness):
        wins = gap > 0
    else:
        wins = np.random.default_rng(seed).random(len(gap)) < 1 / (1 + np.exp(-sharpness * gap))
    return [
        Pair("", a, b) if first else Pair("", b, a)
        for a, b, first in zip(one, other, wins, strict=True)
    ]


def test_it_predicts_other_preferences_with_the_right_confidence() -> None:
    ensemble = PreferenceEnsemble(Numbers())  # type: ignore[arg-type]
    report = ensemble.fit(judged(texts(300, 0), texts(300, 1), 1.0))
    assert (report.version, report.pairs) == (1, 300)
    other = judged(texts(2000, 2), texts(2000, 3), 1.0, seed=1)
    scores = ensemble.scores(other)
    # The judge's own score reaches 0.80 and a log-loss of 0.43.
    assert scores["accuracy"] > 0.77
    assert scores["log_loss"] < 0.48
    assert scores["ece"] < scores["ece_by_chance"] + 0.03
    exact = ensemble.scores(judged(texts(2000, 2), texts(2000, 3)))
    assert exact["accuracy"] > 0.93


def test_heads_disagree_about_what_was_never_compared() -> None:
    ensemble = PreferenceEnsemble(Numbers(), heads=20)  # type: ignore[arg-type]
    one, other = (Numbers()([], texts(200, seed)) for seed in (0, 1))
    # The last number differs between pairs, but not between the two texts of a pair.
    other[:, 5] = one[:, 5]
    first, second = ([" ".join(map(str, row)) for row in rows] for rows in (one, other))
    ensemble.fit(judged(first, second, 1.0))
    known, unknown = (
        ensemble.std_of_differences([""], [text], ["0 0 0 0 0 0"])[0]
        for text in ("0 0 0 0 2 0", "0 0 0 0 0 2")
    )
    assert unknown > 2 * known


def test_the_reward_is_measured_in_deviations_of_the_reference() -> None:
    ensemble = PreferenceEnsemble(Numbers())  # type: ignore[arg-type]
    assert ensemble(["", ""], ["1 0 0 0 0 0", "2 0 0 0 0 0"]) == [0.0, 0.0]
    base = texts(50, 5)
    pairs = judged(texts(100, 0), texts(100, 1))
    for version in (1, 2):
        assert ensemble.fit(pairs, ([""] * 50, base)).version == version
        rewards = np.array(ensemble([""] * 50, base))
        assert (rewards.mean(), rewards.std()) == pytest.approx((0, 1))
        assert ensemble.reward_version(completions=base[:2]) == [version, version]
    # The same pairs give the same heads, and log-odds do not depend on the reference.
    logits = ensemble.logits([""], [base[0]], [base[1]])
    ensemble.fit(pairs)
    np.testing.assert_allclose(ensemble.logits([""], [base[0]], [base[1]]), logits)


def test_nothing_to_fit() -> None:
    with pytest.raises(DataError, match="judge some"):
        PreferenceEnsemble(Numbers()).fit([])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def features() -> TextFeatures:
    return TextFeatures(device="cpu")


def test_files_and_versions_in_infos(features: TextFeatures, tmp_path: Path) -> None:
    prompt = "The room was"
    ensemble = PreferenceEnsemble(features, heads=3, seed=1)
    pairs = [Pair(prompt, " very clean.", " dirty."), Pair(prompt, " nice.", " bad and dirty.")]
    # Two judgements alone weigh less than the random anchors of the heads.
    ensemble.fit(20 * pairs)
    ensemble.save(tmp_path / "reward.safetensors")
    loaded = PreferenceEnsemble.load(tmp_path / "reward.safetensors", "cpu")
    assert loaded.version == 1
    for pair in pairs:
        text = [[prompt] * 2, [pair.chosen, pair.rejected]]
        assert loaded(*text) == ensemble(*text)
        assert ensemble(*text)[0] > ensemble(*text)[1]
    with pytest.raises(RewardError, match="shapes"):
        PreferenceEnsemble(features, heads=2).load_state_dict(ensemble.state_dict())
    (tmp_path / "other").write_text("{}")
    with pytest.raises(RewardError, match="not a saved preference ensemble"):
        PreferenceEnsemble.load(tmp_path / "other")

    reward = {ensemble: 1.0, ensemble.reward_version: 0.0}
    env = gymnasium.make("TextGen-v0", prompts=[prompt], reward=reward, max_new_tokens=1)
    env.reset(seed=0)
    _, total, _, _, info = env.step(7)
    assert info["reward_terms"] == {"preferences": total, "reward_version": 1.0}
    assert total == pytest.approx(ensemble([prompt], [info["response"]])[0])


def test_features_do_not_depend_on_the_batch(features: TextFeatures) -> None:
    prompts, completions = ["The room was", "", "It"], [" clean and very nice.", " is a film", ""]
    together, apart = features(prompts, completions), features.one_by_one(prompts, completions)
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert together.shape == (3, features.size)
    assert not together[2].any()
    texts, states = features.states(prompts, completions)
    np.testing.assert_allclose(states[0][-1], together[0, features.width : -1], atol=1e-6)
    np.testing.assert_allclose(states[0].mean(0), together[0, : features.width], atol=1e-6)
    assert together[0, -1] == pytest.approx(np.log1p(len(states[0])))
    assert features.ends(texts[0])[-1] == len(completions[0])
    # States of a beginning do not depend on what follows.
    _, (begin,) = features.states(prompts[:1], [" clean and"])
    np.testing.assert_allclose(begin, states[0][: len(begin)], atol=1e-5)
