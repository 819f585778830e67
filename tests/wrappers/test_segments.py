"""SegmentActions: continuations follow the model, and each row writes its own."""

from __future__ import annotations

import copy
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from stable_baselines3.common.env_checker import check_env as check_for_sb3

from tests.lm.checkpoints import EOS
from tests.wrappers.conftest import same
from textgym.errors import ActionError, ResetNeededError, RewardError, SettingsError
from textgym.lm import LanguageModel
from textgym.wrappers import ActionMasks, SegmentActions, SegmentEnv, SegmentVectorEnv, TopKActions
from textgym.wrappers.continuations import sample_continuations
from textgym.wrappers.lookahead_masks import masks_after
from textgym.wrappers.proposals import FrozenLM

MODES = tuple(AutoresetMode)
SMALL = {"k": 3, "segment": 4}


@torch.no_grad()
def check_proposals(lm, obs, text, room):
    """Log-probabilities, hidden states and lengths against the uncached model."""
    k, m = obs["candidates"].shape
    written = text[text >= 0]
    prefix = torch.from_numpy(written.astype(np.int64))[None]
    np.testing.assert_allclose(obs["hidden"], lm.hidden(prefix)[0, -1], atol=2e-4)
    assert (np.diff(obs["logprobs"]) <= 0).all()
    for choice in range(k):
        tokens = obs["candidates"][choice]
        length = int((tokens >= 0).sum())
        assert (tokens[:length] >= 0).all()  # Padding only follows the tokens.
        stopped = length and tokens[length - 1] == EOS
        assert stopped or length == min(m, room)
        assert EOS not in tokens[: max(length - 1, 0)]
        whole = torch.cat([prefix, torch.from_numpy(tokens[:length].astype(np.int64))[None]], 1)
        hidden = lm.hidden(whole)[0]
        log_probs = torch.log_softmax(lm.logits(hidden), -1)
        at = np.arange(len(written) - 1, len(written) + length - 1)
        total = log_probs[at, tokens[:length]].sum()
        np.testing.assert_allclose(obs["logprobs"][choice], total, atol=1e-3)
        np.testing.assert_allclose(obs["outcomes"][choice], hidden[-1], atol=2e-4)


def test_proposals_are_those_of_the_uncached_model(make_vec, lm):
    model = LanguageModel.load(lm, device="cpu")
    envs = SegmentActions(make_vec(3, "SameStep"), lm=lm, **SMALL)
    obs, _ = envs.reset(seed=0)
    rng = np.random.default_rng(0)
    starts = (envs.unwrapped.get_state()["tokens"] >= 0).sum(1)
    for _ in range(12):
        texts = envs.unwrapped.get_state()["tokens"]
        for row in range(3):
            room = starts[row] + 6 - (texts[row] >= 0).sum()
            check_proposals(model, {k: v[row] for k, v in obs.items()}, texts[row], room)
        obs, _, terminated, _, infos = envs.step(rng.integers(3, size=3))
        for row in np.flatnonzero(terminated):
            final = infos["final_obs"][row]
            assert (final["candidates"] == -1).all()
            assert not final["logprobs"].any()
            np.testing.assert_allclose(final["outcomes"], [final["hidden"]] * 3, atol=1e-4)
        starts[terminated] = (envs.unwrapped.get_state()["tokens"] >= 0).sum(1)[terminated]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_continuations_follow_the_models_distribution(lm, make, temperature):
    """Counts of token pairs match their probabilities within 5 standard deviations."""
    env = make(stop_at_eos=False)
    frozen = FrozenLM(lm, "cpu", env)
    draws = 6000
    text = np.full((1, 10), -1, np.int32)
    text[0, 0] = 3
    uniform = np.random.default_rng(0).random((1, draws, 2))
    obs = sample_continuations(frozen, text, np.array([9]), uniform, temperature, None)
    pairs = obs["candidates"][0]
    with torch.no_grad():
        first = torch.softmax(
            frozen.lm.logits(frozen.lm.hidden(torch.tensor([[3]]))[:, -1]) / temperature, -1
        )[0]
        both = torch.stack([torch.full((23,), 3), torch.arange(23)], 1)
        second = torch.softmax(frozen.lm.logits(frozen.lm.hidden(both)[:, -1]) / temperature, -1)
    expected = draws * (first[:, None] * second).numpy()
    counts = np.zeros((23, 23))
    np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected) + 2)


def no_repeats(texts):
    """The last word may not be written again: a mask that changes within a segment."""
    masks = np.ones((len(texts), 23), dtype=bool)
    masks[np.arange(len(texts)), texts[np.arange(len(texts)), (texts >= 0).sum(1) - 1]] = False
    return masks


@pytest.mark.parametrize("mask", [None, no_repeats])
def test_masked_tokens_are_never_proposed(make, make_vec, lm, mask):
    """Masks that are static and that depend on the text; the environment refuses masked tokens."""
    allowed = [2, 5, 11, EOS]
    batch = SegmentActions(
        ActionMasks(make_vec(3, "SameStep"), allowed=allowed, mask=mask), lm=lm, **SMALL
    )
    single = SegmentActions(ActionMasks(make(), allowed=allowed, mask=mask), lm=lm, **SMALL)
    loop = SyncVectorEnv(
        [lambda: SegmentActions(ActionMasks(make(), allowed=allowed, mask=mask), lm=lm, **SMALL)]
        * 3,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    ours, theirs = batch.reset(seed=2), loop.reset(seed=2)
    lengths = 0
    for _ in range(15):
        same(ours, theirs)
        tokens = ours[0]["candidates"]
        assert np.isin(tokens[tokens >= 0], allowed).all()
        lengths += (tokens >= 0).sum()
        if mask is not None:
            assert not ((tokens[..., 1:] == tokens[..., :-1]) & (tokens[..., 1:] >= 0)).any()
        ours, theirs = batch.step(np.ones(3, int)), loop.step(np.ones(3, int))
    assert lengths > 150
    obs, _ = single.reset(seed=0)
    assert np.isin(obs["candidates"], [*allowed, -1]).all()


def test_masked_continuations_follow_the_distribution_among_the_others(make, lm):
    env = ActionMasks(make(stop_at_eos=False), banned=[0, 1, 7, 20], mask=no_repeats)
    frozen = FrozenLM(lm, "cpu", env)
    draws = 6000
    text = np.full((1, 10), -1, np.int32)
    text[0, 0] = 3
    uniform = np.random.default_rng(0).random((1, draws, 1))
    obs = sample_continuations(frozen, text, np.array([9]), uniform, 0.7, None, masks_after(env))
    with torch.no_grad():
        logits = frozen.lm.logits(frozen.lm.hidden(torch.tensor([[3]]))[:, -1])[0] / 0.7
    weights = torch.exp(logits - logits.max()).double().numpy()
    weights[[0, 1, 7, 20, 3]] = 0
    expected = draws * weights / weights.sum()
    counts = np.bincount(obs["candidates"][0, :, 0], minlength=23)
    assert np.all(np.abs(counts - expected) <= 5 * np.sqrt(expected))


def test_special_tokens_are_never_proposed(make, make_vec, lm, monkeypatch):
    """The environment's mask: all tokens but special ones other than eos."""
    writable = np.isin(np.arange(23), [4, 8, EOS])
    monkeypatch.setattr("textgym.wrappers.lookahead_masks.writable_tokens", lambda _: writable)
    for env in (SegmentActions(make(), lm=lm), SegmentActions(make_vec(2), lm=lm)):
        tokens = env.reset(seed=0)[0]["candidates"]
        assert np.isin(tokens[tokens >= 0], [4, 8, EOS]).all()


def test_masks_of_the_present_text_alone_are_refused(make, lm):
    class Masked(gym.Wrapper):
        def action_masks(self):
            return np.ones(23, bool)

    with pytest.raises(SettingsError, match=r"Masked\.action_masks.*ActionMasks"):
        SegmentActions(Masked(make()), lm=lm)


@pytest.mark.parametrize("mode", MODES)
def test_action_masks_are_those_of_the_choices(mode, make, make_vec, lm):
    env, envs = SegmentActions(make(), lm=lm, **SMALL), SegmentActions(make_vec(3, mode), lm=lm)
    for unready in (env, envs):
        with pytest.raises(ResetNeededError):
            unready.action_masks()
        unready.reset(seed=0)
    assert env.action_masks().tolist() == [True] * 3
    over = False
    while not over:
        _, _, over, _, _ = env.step(0)
    assert env.action_masks().tolist() == [False] * 3
    for _ in range(2):
        _, _, terminated, _, _ = envs.step(np.zeros(3, int))
        expected = ~terminated | (mode is AutoresetMode.SAME_STEP)
        assert np.array_equal(envs.action_masks(), np.repeat(expected[:, None], 4, 1))
        if mode is AutoresetMode.DISABLED and terminated.any():
            envs.reset(options={"reset_mask": terminated})


def test_the_batch_steps_some_rows_by_several_tokens(make_vec):
    """Compared with the same tokens, one by one, in separate batches."""
    envs = make_vec(3, "Disabled", costs=None)
    texts, _ = envs.reset(seed=1)
    tokens = np.array([[3, 4, -1, -1], [5, EOS, 6, 6], [1, 1, 1, 1]])
    result = envs.step_rows(tokens, np.array([True, True, False]))
    lengths = (texts >= 0).sum(1)
    written = [
        row[row >= 0][length:].tolist() for row, length in zip(result.texts, lengths, strict=True)
    ]
    assert written == [[3, 4], [5, EOS], []]
    assert result.terminated.tolist() == [False, True, False]
    assert result.info_rows.tolist() == [1]
    assert result.infos[0]["response"] == "w5"
    with pytest.raises(ResetNeededError):
        envs.step_rows(tokens, np.array([False, True, False]))
    with pytest.raises(ActionError, match=r"\(3, m\)"):
        envs.step_rows(tokens[0], np.array([True, False, False]))


def test_every_wrapper_of_batches_tells_what_it_was_made_with(make_vec, lm):
    made = [
        (TopKActions(make_vec(2), lm=lm, k=3), {"k": 3, "lm": lm}),
        (SegmentActions(make_vec(2), lm=lm, k=3), {"k": 3, "segment": 8}),
        (ActionMasks(make_vec(2), banned=["w1"]), {"banned": ["w1"]}),
    ]
    for env, arguments in made:
        assert arguments.items() <= env._saved_kwargs.items()
    with pytest.raises(SettingsError, match="masks tokens"):
        ActionMasks(made[0][0], banned=["w1"])


@pytest.mark.parametrize("mode", MODES)
def test_the_batch_is_a_loop_over_single_ones(mode, make, make_vec, lm):
    """The rest of a segment is not written into the row's next episode."""
    batch = SegmentActions(make_vec(3, mode), lm=lm, **SMALL)
    loop = SyncVectorEnv([lambda: SegmentActions(make(), lm=lm, **SMALL)] * 3, autoreset_mode=mode)
    assert batch.observation_space == loop.observation_space
    same(batch.reset(seed=5), loop.reset(seed=5))
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(20):
        choices = rng.integers(3, size=3)
        ours, theirs = batch.step(choices), loop.step(choices)
        same(ours, theirs)
        over = ours[2] | ours[3]
        ends += over.sum()
        if mode is AutoresetMode.DISABLED and over.any():
            with pytest.raises(ResetNeededError):
                batch.step(choices)
            mask = {"reset_mask": over}
            same(batch.reset(options=dict(mask)), loop.reset(options=dict(mask)))
    assert ends > 8


def test_a_segment_is_its_tokens_one_by_one(make, lm):
    """The bare environment with the same tokens has the same text, reward, end and info."""
    shaped = {"step_reward": lambda prompts, completions, **_: [len(t) / 7 for t in completions]}
    env, bare = SegmentActions(make(**shaped), lm=lm, k=2, segment=3), make(**shaped)
    rng = np.random.default_rng(0)
    for episode in range(6):
        obs, _ = env.reset(seed=episode)
        bare.reset(seed=episode)
        over = False
        while not over:
            choice = int(rng.integers(2))
            tokens = [token for token in obs["candidates"][choice].tolist() if token >= 0]
            obs, reward, terminated, truncated, info = env.step(choice)
            total = 0.0
            for token in tokens:
                text, part, *flags, bare_info = bare.step(token)
                total += part
            assert reward == pytest.approx(total)
            assert [terminated, truncated] == flags
            assert info == bare_info
            assert np.array_equal(env.unwrapped.get_state()["tokens"][0], text)
            over = terminated


def test_a_stop_string_ends_the_segment_early(make_vec, lm):
    """Tokens after the stop string are dropped."""
    envs = SegmentActions(make_vec(4, "SameStep", stop=["w1"]), lm=lm, k=2, segment=6)
    envs.reset(seed=0)
    stopped = 0
    for _ in range(20):
        _, _, terminated, _, infos = envs.step(np.zeros(4, int))
        for row in np.flatnonzero(terminated):
            bare_info = infos["final_info"]
            stopped += bare_info["finish_reason"][row] == "stop"
            assert "w1 " not in bare_info["response"][row]
    assert stopped > 3


def test_seeds_fix_the_continuations(make_vec, lm):
    envs = SegmentActions(make_vec(2), lm=lm, **SMALL)
    first = envs.reset(seed=3)[0]["candidates"]
    again = envs.reset(seed=3)[0]["candidates"]
    other = envs.reset(seed=4)[0]["candidates"]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    envs.step(np.zeros(2, int))
    assert np.array_equal(np.random.get_state()[1], state[0])
    assert torch.equal(torch.get_rng_state(), state[1])


def test_one_name_two_kinds_and_pickling(make, make_vec, lm):
    single, batch = SegmentActions(make(), lm=lm, **SMALL), SegmentActions(make_vec(2), lm=lm)
    assert type(single) is SegmentEnv
    assert isinstance(single, gym.Wrapper)
    assert type(batch) is SegmentVectorEnv
    assert isinstance(batch, VectorWrapper)
    for env in (single, batch):
        env.reset(seed=1)
        other = pickle.loads(pickle.dumps(env))
        action = env.action_space.sample()
        same(env.step(action), other.step(action))
        assert copy.deepcopy(env).frozen is env.frozen


def test_wrong_arguments_and_actions(make, make_vec, lm):
    for wrong in ({"k": 0}, {"segment": 0}, {"temperature": 0.0}, {"temperature": float("nan")}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            SegmentActions(make(), lm=lm, **wrong)
    with pytest.raises(SettingsError, match="other wrappers around"):
        SegmentActions(gym.wrappers.vector.RecordEpisodeStatistics(make_vec(2)), lm=lm)
    env, envs = SegmentActions(make(), lm=lm, k=2), SegmentActions(make_vec(2), lm=lm, k=2)
    for unready, action, wrong in ((env, 0, 2), (envs, [0, 0], [0, 2])):
        with pytest.raises(ResetNeededError):
            unready.step(action)
        unready.reset(seed=0)
        with pytest.raises(ActionError):
            unready.step(wrong)
        unready.step(action)


def test_after_an_error_reset_is_due_and_works(make_vec, lm):
    broken = True

    def reward(prompts, completions, **_):
        return [float("nan") if broken else 1.0 for _ in prompts]

    envs = SegmentActions(make_vec(2, "SameStep", reward=reward), lm=lm, k=2, segment=6)
    envs.reset(seed=0)
    with pytest.raises(RewardError):
        envs.step(np.zeros(2, int))
    with pytest.raises(ResetNeededError):
        envs.step(np.zeros(2, int))
    broken = False
    envs.reset(seed=0)
    assert envs.step(np.zeros(2, int))[1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("check", [check_env, check_for_sb3])
def test_env_checkers_pass(check, lm, make):
    env = SegmentActions(make(costs=None), lm=lm, k=2, segment=2)
    with warnings.catch_warnings():
        # Hidden states have no bounds, and a wrapper is not the bare environment.
        warnings.filterwarnings("ignore", message=".*infinity.*")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped.*")
        warnings.filterwarnings("ignore", message=".*unconventional shape.*")
        check(env)
