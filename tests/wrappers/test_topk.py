"""TopKActions, compared with the uncached model and the bare environment."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_for_sb3
from transformers import AutoModelForCausalLM

from tests.lm.checkpoints import EOS, WORDS
from tests.wrappers.conftest import same
from textgym.errors import ActionError, ModelError, ResetNeededError, SettingsError
from textgym.wrappers import ActionMasks, TopKActions, TopKEnv, TopKVectorEnv
from textgym.wrappers.proposals import likeliest

MODES = tuple(AutoresetMode)
K = 6


class Truth:
    """Plain transformers on the whole text, and a sort."""

    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()

    @torch.no_grad()
    def check(self, obs, text, k=K):
        ids = torch.from_numpy(text[text >= 0].astype(np.int64))[None]
        output = self.model(ids, output_hidden_states=True)
        log_probs = torch.log_softmax(output.logits[0, -1, : len(WORDS)], -1).numpy()
        order = np.lexsort((np.arange(len(WORDS)), -log_probs))[:k]
        assert {key: (a.dtype, a.shape) for key, a in obs.items()} == {
            "hidden": (np.float32, (32,)),
            "candidates": (np.int32, (k,)),
            "logprobs": (np.float32, (k,)),
        }
        np.testing.assert_allclose(obs["hidden"], output.hidden_states[-1][0, -1], atol=2e-4)
        np.testing.assert_allclose(obs["logprobs"], log_probs[order], atol=2e-4)
        np.testing.assert_allclose(log_probs[obs["candidates"]], log_probs[order], atol=2e-4)
        # Near ties may change places; nothing else may.
        gaps = np.abs(np.diff(np.sort(log_probs)[::-1]))
        clear = (np.append(np.inf, gaps)[:k] > 2e-4) & (np.append(gaps, np.inf)[:k] > 2e-4)
        assert np.array_equal(obs["candidates"][clear], order[clear])


@pytest.mark.parametrize("mode", MODES)
def test_every_observation_is_that_of_the_uncached_model(mode, make_vec, lm):
    """The bare environment runs with the chosen tokens."""
    truth, rng = Truth(lm), np.random.default_rng(1)
    envs, bare = TopKActions(make_vec(4, mode), lm=lm, k=K), make_vec(4, mode)
    obs, infos = envs.reset(seed=3)
    texts, told = bare.reset(seed=3)
    same(infos, told)
    ends = 0
    for _ in range(40):
        for row in range(4):
            truth.check({key: array[row] for key, array in obs.items()}, texts[row])
        choices = rng.integers(K, size=4)
        tokens = obs["candidates"][np.arange(4), choices]
        obs, *ours, infos = envs.step(choices)
        texts, *theirs, told = bare.step(tokens)
        same(ours, theirs)
        finals, plain = infos.pop("final_obs", None), told.pop("final_obs", None)
        same(infos, told)
        over = ours[1] | ours[2]
        for row in np.flatnonzero(over):
            ends += 1
            if mode is AutoresetMode.SAME_STEP:
                truth.check(finals[row], plain[row])
        if mode is AutoresetMode.SAME_STEP and over.any():
            assert [final is not None for final in finals] == over.tolist()
        if mode is AutoresetMode.DISABLED and over.any():
            options = {"reset_mask": over}
            (obs, _), (texts, _) = envs.reset(options=options), bare.reset(options=options)
    assert ends > 15


@pytest.mark.parametrize("mode", MODES)
def test_the_batch_is_a_loop_over_single_ones(mode, make, make_vec, lm):
    batch = TopKActions(make_vec(3, mode), lm=lm, k=K)
    loop = SyncVectorEnv([lambda: TopKActions(make(), lm=lm, k=K)] * 3, autoreset_mode=mode)
    for name in ("observation_space", "action_space", "single_observation_space"):
        assert getattr(batch, name) == getattr(loop, name)
    assert batch.single_action_space == gym.spaces.Discrete(K)
    same(batch.reset(seed=5), loop.reset(seed=5))
    rng = np.random.default_rng(0)
    for _ in range(30):
        choices = rng.integers(K, size=3)
        ours, theirs = batch.step(choices), loop.step(choices)
        same(ours, theirs)
        over = ours[2] | ours[3]
        if mode is AutoresetMode.DISABLED and over.any():
            mask = {"reset_mask": over}
            same(batch.reset(options=dict(mask)), loop.reset(options=dict(mask)))


def test_one_name_two_kinds(make, make_vec, lm):
    single, batch = TopKActions(make(), lm=lm), TopKActions(make_vec(2), lm=lm)
    assert type(single) is TopKEnv
    assert isinstance(single, gym.Wrapper)
    assert isinstance(single, TopKActions)
    assert type(batch) is TopKVectorEnv
    assert isinstance(batch, VectorWrapper)
    assert isinstance(batch, TopKActions)
    assert single.action_space == batch.single_action_space == gym.spaces.Discrete(8)
    assert single.lm_name == batch.lm_name == lm


@given(st.lists(st.lists(st.integers(-3, 0), min_size=7, max_size=7), min_size=1, max_size=5))
def test_ties_go_to_the_lower_id(rows):
    logits = np.array(rows, dtype=np.float32)
    for k in (1, 3, 7):
        tokens, values = likeliest(torch.from_numpy(logits), k)
        expected = np.stack([np.lexsort((np.arange(7), -row))[:k] for row in logits])
        assert np.array_equal(tokens, expected)
        assert np.array_equal(values, np.take_along_axis(logits, expected, 1))


def test_padding_of_the_vocabulary_is_never_proposed(make, padded_lm):
    env = TopKActions(make(), lm=padded_lm, k=len(WORDS))
    obs, _ = env.reset(seed=0)
    assert sorted(obs["candidates"]) == list(range(len(WORDS)))
    assert np.exp(obs["logprobs"]).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_masked_tokens_are_never_proposed(mode, make_vec, lm):
    """Of four allowed tokens, the likeliest is also the filler."""
    allowed = [2, 5, 11, EOS]
    masked = ActionMasks(make_vec(4, mode), allowed=allowed)
    envs, plain = TopKActions(masked, lm=lm, k=K), TopKActions(make_vec(4, mode), lm=lm, k=23)
    (obs, _), (every, _) = envs.reset(seed=0), plain.reset(seed=0)
    over = np.zeros(4, bool)
    rng = np.random.default_rng(0)
    for _ in range(25):
        for row in np.flatnonzero(~over):
            kept = np.isin(every["candidates"][row], allowed)
            expected = every["candidates"][row][kept]
            assert obs["candidates"][row].tolist() == [*expected, expected[0], expected[0]]
            known = every["logprobs"][row][kept]
            np.testing.assert_allclose(
                obs["logprobs"][row], [*known, known[-1] - 20, known[-1] - 20], atol=1e-4
            )
            assert envs.action_masks()[row].tolist() == [True] * 4 + [False] * 2
        choices = rng.integers(K, size=4)
        tokens = obs["candidates"][np.arange(4), choices]
        places = (every["candidates"] == tokens[:, None]).argmax(1)
        obs, _, terminated, _, _ = envs.step(choices)
        every = plain.step(places)[0]
        over = terminated & (mode is not AutoresetMode.SAME_STEP)
        if mode is AutoresetMode.DISABLED and over.any():
            options = {"reset_mask": over.copy()}
            (obs, _), (every, _) = envs.reset(options=options), plain.reset(options=options)
            over[:] = False


def test_masks_tell_what_only_fills_up(make, make_vec, lm):
    """Masks are for choices, not tokens; the other proposals are distinct."""
    env = TopKActions(ActionMasks(make(), allowed=[2, 5, 11, EOS]), lm=lm, k=K)
    envs = TopKActions(make_vec(3, "SameStep"), lm=lm, k=K)
    for unready in (env, envs):
        with pytest.raises(ResetNeededError):
            unready.action_masks()
        unready.reset(seed=0)
    assert env.action_masks().tolist() == [True] * 4 + [False] * 2
    assert env.get_wrapper_attr("action_masks")().shape == (K,)
    assert envs.action_masks().dtype == bool
    assert np.array_equal(envs.action_masks(), np.ones((3, K), bool))
    # A filler writes what it repeats.
    twin = TopKActions(ActionMasks(make(), allowed=[2, 5, 11, EOS]), lm=lm, k=K)
    twin.reset(seed=0)
    same(env.step(K - 1), twin.step(0))


def passes_of(envs):
    """The number of input tokens of every forward pass of the model."""
    passes = []
    envs.frozen.lm.body.register_forward_pre_hook(
        lambda _, args, kwargs: passes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return passes


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_step_decodes_one_token_a_row(mode, make_vec, lm):
    """Only new prompts need more than one token."""
    envs = TopKActions(make_vec(6, mode, stop_at_eos=False), lm=lm, k=3)
    envs.reset(seed=0)
    passes = passes_of(envs)
    envs.reset(seed=0)  # Counting clears the cache, so texts are read again.
    rng = np.random.default_rng(0)
    started, before = 0, np.zeros(6, bool)
    for _ in range(30):
        passes.clear()
        _, _, terminated, _, _ = envs.step(rng.integers(3, size=6))
        starting = terminated if mode is AutoresetMode.SAME_STEP else before
        before = terminated
        started += starting.sum()
        if not starting.any():
            assert passes == [(6, 1)]
        else:
            # One more for the prompts, and one for those that begin as the last text did.
            assert len(passes) <= 3
            assert sum(rows * width for rows, width in passes) <= 6 + 4 * starting.sum()
    assert started > 10


def test_observations_are_fresh_arrays(make, make_vec, lm):
    for env in (TopKActions(make(), lm=lm, k=3), TopKActions(make_vec(2), lm=lm, k=3)):
        kept = env.reset(seed=1)[0]
        copied = copy.deepcopy(kept)
        after = env.step(env.action_space.sample())[0]
        same(kept, copied)
        for key in kept:
            assert not np.shares_memory(kept[key], after[key])


def test_whatever_a_caller_does_to_an_observation(make_vec, lm):
    """Changing an observation does not change the proposals."""
    envs, bare = TopKActions(make_vec(2), lm=lm, k=3), make_vec(2)
    obs, _ = envs.reset(seed=2)
    bare.reset(seed=2)
    tokens = obs["candidates"][:, 1].copy()
    obs["candidates"][:] = EOS
    same(envs.step(np.array([1, 1]))[1:], bare.step(tokens)[1:])
    tokens, expected = (each.unwrapped.get_state()["tokens"] for each in (envs, bare))
    assert np.array_equal(tokens, expected)


def test_equal_seeds_give_equal_numbers_to_the_last_bit(make_vec, lm):
    envs = TopKActions(make_vec(3, "SameStep"), lm=lm, k=3)
    runs = []
    for _ in range(2):
        runs.append([envs.reset(seed=6)[0]])
        runs[-1] += [envs.step(np.array([at % 3, 0, 2]))[0] for at in range(12)]
    for one, other in zip(*runs, strict=True):
        for key in one:
            assert np.array_equal(one[key], other[key])


def test_wrong_arguments(make, make_vec, lm):
    for k in (0, -1, 2.5, True, len(WORDS) + 1):
        with pytest.raises(SettingsError, match="k="):
            TopKActions(make(), lm=lm, k=k)
    with pytest.raises(ModelError, match="vocabular"):
        TopKActions(make(tokenizer=WORDS[::-1]), lm=lm)
    with pytest.raises(ModelError, match="actions"):
        TopKActions(make(tokenizer=["w1", *WORDS[:1], "<eos>", "w3"], prompts=["w1"]), lm=lm)
    with pytest.raises(ModelError, match="32 tokens"):
        TopKActions(make_vec(2, max_new_tokens=40), lm=lm)
    with pytest.raises(ModelError, match="name_or_path"):
        TopKActions(make(), lm=3)
    with pytest.raises(SettingsError, match="text environments"):
        TopKActions(gym.make("CartPole-v1"))
    with pytest.raises(SettingsError, match="before any other wrapper"):
        TopKActions(TopKActions(make_vec(2), lm=lm), lm=lm)


def test_wrong_actions_change_nothing(make, make_vec, lm):
    env, envs = TopKActions(make(), lm=lm, k=3), TopKActions(make_vec(2), lm=lm, k=3)
    for unready, action in ((env, 0), (envs, [0, 0])):
        with pytest.raises(ResetNeededError):
            unready.step(action)
        unready.reset(seed=0)
    for action in (3, -1, 0.5, [0, 1]):
        with pytest.raises(ActionError):
            env.step(action)
    for actions in ([0, 3], [-1, 0], [0.5, 0], [0], 0, [[0], [0, 1]]):
        with pytest.raises(ActionError):
            envs.step(actions)
    twin = TopKActions(make(), lm=lm, k=3)
    twin.reset(seed=0)
    same(env.step(2), twin.step(2))


def test_actions_of_rows_that_start_anew_are_ignored(make_vec, lm):
    envs = TopKActions(make_vec(2, "NextStep", stop_at_eos=False), lm=lm, k=3)
    envs.reset(seed=0)
    for _ in range(6):
        _, _, terminated, _, _ = envs.step(np.zeros(2, int))
    assert terminated.all()
    _, rewards, terminated, _, infos = envs.step(np.array([99, -5]))
    assert not rewards.any()
    assert not terminated.any()
    assert infos["_prompt"].all()


def test_pickling_is_by_name_and_goes_on_where_it_stood(make, make_vec, lm):
    for env in (TopKActions(make(), lm=lm, k=3), TopKActions(make_vec(2), lm=lm, k=3)):
        env.reset(seed=4)
        action = env.action_space.sample()
        env.step(action)
        data = pickle.dumps(env)
        assert len(data) < 40_000  # The model is twice as large.
        other = pickle.loads(data)
        assert type(other) is type(env)
        assert copy.deepcopy(env).frozen is env.frozen
        for _ in range(3):
            same(env.step(action), other.step(action))


def test_a_spec_makes_the_same_environment(lm):
    env = TopKActions(gym.make("TextGen/Sentiment-v0"), k=5)
    other = gym.make(env.spec)
    assert isinstance(other, TopKEnv)
    same(env.reset(seed=9), other.reset(seed=9))


@pytest.mark.parametrize("check", [check_env, check_for_sb3])
def test_env_checkers_pass(check, lm, make):
    env = TopKActions(make(costs=None), lm=lm, k=4)
    with warnings.catch_warnings():
        # Hidden states have no bounds, and a wrapper is not the bare environment.
        warnings.filterwarnings("ignore", message=".*infinity.*")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped.*")
        check(env)


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, textgym.wrappers as w; print('torch' in sys.modules, 'TopKActions' in dir(w))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
