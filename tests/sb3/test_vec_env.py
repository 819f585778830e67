from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor

from tests.lm.checkpoints import EOS, WORDS
from textgym.errors import SettingsError
from textgym.sb3 import TextVecEnv, make_vec_env
from textgym.sb3.vec_env import row_seeds
from textgym.tokenization import load_tokenizer
from textgym.wrappers import ActionMasks, SegmentActions, TopKActions

PROMPTS = ["w1 w2", "w3", "w4 w5 w6"]


def reward(prompts, completions, **columns):
    return [float(len(text.split())) for text in completions]


def make(n_envs=4, seed=0, **kwargs):
    settings = {"prompts": PROMPTS, "tokenizer": WORDS, "reward": reward} | kwargs
    return make_vec_env(
        "TextGen-v0", n_envs, seed, max_prompt_tokens=4, max_new_tokens=5, **settings
    )


def test_it_agrees_with_single_environments():
    """Row by row against gymnasium.make, seeds, ends and new starts included."""
    n_envs = 3
    venv = make(n_envs, seed=7)
    envs = [
        gym.make(
            "TextGen-v0", prompts=PROMPTS, tokenizer=WORDS, reward=reward,
            max_prompt_tokens=4, max_new_tokens=5,
        )
        for _ in range(n_envs)
    ]  # fmt: skip
    texts = venv.reset()
    starts = [env.reset(seed=seed) for seed, env in zip(row_seeds(7, n_envs), envs, strict=True)]
    assert np.array_equal(texts, [obs for obs, _ in starts])
    assert venv.unwrapped.reset_infos == [info for _, info in starts]
    rng = np.random.default_rng(0)
    totals, ends = np.zeros(n_envs), 0
    prompt_tokens = [info["prompt_tokens"] for _, info in starts]
    for _ in range(40):
        actions = rng.choice([1, 2, 3, EOS], n_envs, p=[0.3, 0.3, 0.2, 0.2])
        texts, rewards, dones, infos = venv.step(actions)
        assert (rewards.dtype, dones.dtype, texts.dtype) == (np.float32, bool, np.int32)
        for row, env in enumerate(envs):
            obs, expected, terminated, truncated, info = env.step(actions[row])
            totals[row] += expected
            assert rewards[row] == np.float32(expected)
            assert dones[row] == (terminated or truncated)
            if not dones[row]:
                assert np.array_equal(texts[row], obs)
                assert infos[row] == {}
                continue
            ends += 1
            told = dict(infos[row])
            assert np.array_equal(told.pop("terminal_observation"), obs)
            assert told.pop("TimeLimit.truncated") is False
            episode = told.pop("episode")
            assert episode["r"] == pytest.approx(totals[row])
            assert told.pop("prompt_tokens") == prompt_tokens[row]
            assert told == info
            assert set(told) >= {"response", "finish_reason", "reward_terms"}
            totals[row] = 0
            obs, info = env.reset()
            assert np.array_equal(texts[row], obs)
            assert venv.unwrapped.reset_infos[row] == info
            prompt_tokens[row] = info["prompt_tokens"]
    assert ends > 20


def test_observations_are_fresh_arrays():
    venv = make()
    first = venv.reset()
    kept = first.copy()
    venv.step(np.ones(4, dtype=np.int64))
    assert np.array_equal(first, kept)


def test_truncations_are_not_terminations():
    venv = make(2, max_episode_steps=2)
    venv.reset()
    venv.step(np.array([1, 1]))
    _, _, dones, infos = venv.step(np.array([1, EOS]))
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [True, False]
    assert [info["terminal_observation"].shape for info in infos] == [(9,), (9,)]


def test_costs_reach_every_row():
    venv = make(2, costs={"long": lambda prompts, completions, **columns: [3.0 for _ in prompts]})
    venv.reset()
    assert [info["cost"] for info in venv.step(np.array([1, 1]))[3]] == [0.0, 0.0]
    infos = venv.step(np.array([1, EOS]))[3]
    assert [info["cost"] for info in infos] == [0.0, 3.0]


def test_seeds_fix_the_prompts():
    many = [str(WORDS[at % 22]) for at in range(200)]

    def starts(venv):
        return np.concatenate([venv.reset() for _ in range(4)])

    first = starts(make(seed=3, prompts=many))
    assert np.array_equal(first, starts(make(seed=3, prompts=many)))
    assert not np.array_equal(first, starts(make(seed=4, prompts=many)))
    venv = make(seed=None, prompts=many)
    assert venv.seed(3) == row_seeds(3, 4)
    assert np.array_equal(first, starts(venv))


def test_two_seeds_share_no_stream():
    """The seeds of rows, and the prompts that are drawn, of 20 neighbouring seeds."""
    seeds = [seed for base in range(20) for seed in row_seeds(base, 64)]
    assert len(set(seeds)) == len(seeds)
    drawn = [
        {tuple(row) for row in make_vec_env("TextGen/Story-v0", 16, seed).reset().tolist()}
        for seed in range(3)
    ]
    assert len(drawn[0] | drawn[1] | drawn[2]) == sum(map(len, drawn))
    # A row's stream does not depend on the number of rows.
    assert row_seeds(5, 3) == row_seeds(5, 64)[:3]


def test_seeds_of_single_rows():
    venv = make(3, prompts=[str(word) for word in WORDS[:22]])
    assert venv.seed([5, 6, 2**70]) == [5, 6, 2**70]
    given = venv.reset()
    envs = gym.make_vec(
        "TextGen-v0", 3, prompts=[str(word) for word in WORDS[:22]], tokenizer=WORDS,
        reward=reward, max_prompt_tokens=4, max_new_tokens=5,
    )  # fmt: skip
    assert np.array_equal(given, envs.reset(seed=[5, 6, 2**70])[0])
    for wrong in (-1, True, 1.5, "1", [1, 2], [1, 2, -3]):
        with pytest.raises(SettingsError, match="seed="):
            venv.seed(wrong)
    assert len(set(venv.seed())) == 3


def test_reset_infos_are_visible_through_the_monitor():
    venv = make(3)
    venv.set_options([{"prompt": "w9"}, {"prompt": "w8 w8"}, {"prompt": "w7"}])
    venv.reset()
    assert [info["prompt"] for info in venv.reset_infos] == ["w9", "w8 w8", "w7"]
    venv.step(np.array([1, EOS, 1]))  # The second row is reset.
    assert venv.reset_infos[0]["prompt"] == "w9"
    assert venv.reset_infos[1]["prompt"] in PROMPTS


def test_options_are_used_once():
    venv = make(3)
    venv.set_options({"prompt": "w9"})
    assert venv.reset()[:, :2].tolist() == [[9, -1]] * 3
    venv.set_options([{"prompt": "w9"}, {"prompt": "w8 w8"}, {"prompt": "w7"}])
    assert venv.reset()[:, 0].tolist() == [9, 8, 7]
    assert [info["prompt"] for info in venv.unwrapped.reset_infos] == ["w9", "w8 w8", "w7"]
    assert venv.reset()[0, 0] != 9


def test_options_for_some_rows():
    venv = make(4, seed=5)
    plain = venv.reset()
    venv.seed(5)
    venv.set_options([{}, {"prompt": "w9"}, {"index": 1}, {}])
    mixed = venv.reset()
    assert np.array_equal(mixed[[0, 3]], plain[[0, 3]])
    assert mixed[1:3, 0].tolist() == [9, 3]
    assert venv.unwrapped.reset_infos[1]["prompt"] == "w9"


def test_attributes_are_shared_by_the_rows():
    venv = make()
    assert isinstance(venv, VecMonitor)
    assert isinstance(venv.unwrapped, TextVecEnv)
    assert venv.get_attr("tokenizer", [0, 2]) == [venv.tokenizer] * 2
    assert venv.tokenizer.content_hash() == load_tokenizer(WORDS).content_hash()
    venv.set_attr("mark", 3)
    assert venv.get_attr("mark") == [3, 3, 3, 3]
    with pytest.raises(SettingsError, match="attribute 'mark'"):
        venv.set_attr("mark", 4, indices=[1])
    with pytest.raises(AttributeError):
        venv.get_attr("nothing")
    assert not venv.has_attr("nothing")
    assert venv.env_is_wrapped(Monitor) == [False] * 4
    assert venv.env_is_wrapped(Monitor, indices=0) == [False]


def test_what_is_per_row_is_split():
    venv = make()
    venv.reset()
    generators = venv.get_attr("np_random")
    assert len({id(generator) for generator in generators}) == 4
    assert venv.get_attr("np_random_seed", [1, 3]) == row_seeds(0, 4)[1::2]
    envs = venv.unwrapped.envs
    envs.double = lambda value: np.array([value * row for row in range(4)])
    assert venv.env_method("double", 2, indices=[1, 3]) == [2, 6]
    envs.total = lambda: 5
    assert venv.env_method("total") == [5, 5, 5, 5]


def test_the_action_space_says_which_tokenizer_it_is():
    venv = make()
    for space in (venv.action_space, copy.deepcopy(venv.action_space)):
        assert space.tokenizer_hash == load_tokenizer(WORDS).content_hash()
    again = pickle.loads(pickle.dumps(venv.action_space))
    assert again.tokenizer_hash == load_tokenizer(WORDS).content_hash()
    assert venv.action_space == gym.spaces.Discrete(len(WORDS))


def test_rendering():
    texts = make(2, render_mode="ansi")
    texts.reset()
    assert len(texts.render()) == 2
    images = make(4, render_mode="rgb_array")
    images.reset()
    tiles = images.get_images()
    height, width, _ = tiles[0].shape
    assert images.render().shape == (2 * height, 2 * width, 3)
    assert make(2).get_images() == [None, None]


def test_other_autoreset_modes_are_refused():
    envs = gym.make_vec("TextGen-v0", num_envs=2)
    with pytest.raises(SettingsError, match="SAME_STEP"):
        TextVecEnv(envs)
    with pytest.raises(SettingsError, match="SAME_STEP"):
        make(autoreset_mode="Disabled")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1"])
def test_environments_that_are_not_of_text_are_sent_to_sb3(env_id):
    with pytest.raises(SettingsError, match=rf"env_id='{env_id}'"):
        make_vec_env(env_id, 2)


def test_other_wrong_arguments_raise_as_usual():
    with pytest.raises(TypeError, match="nonsense"):
        make(nonsense=1)


def test_ids_with_their_module_work_in_a_fresh_process():
    code = (
        "from textgym.sb3 import make_vec_env\n"
        "venv = make_vec_env('textgym:TextGen-v0', 2, prompts=['a'], tokenizer=['a', 'b'],\n"
        "                    reward=lambda prompts, completions, **c: [0.0 for _ in prompts])\n"
        "print(venv.reset()[0, :2].tolist()); venv.close()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[0, -1]"


def test_a_wrapped_batch_with_dict_observations(checkpoint):
    """Against the wrapped batch itself: observations, ends, starts and attributes."""
    wrap = partial(TopKActions, lm=checkpoint(), k=4, device="cpu")
    venv = make(3, seed=7, wrapper=wrap)
    envs = wrap(venv_batch(3))
    assert venv.observation_space == envs.single_observation_space
    assert venv.action_space == gym.spaces.Discrete(4)
    assert not hasattr(venv.action_space, "tokenizer_hash")  # These actions are not tokens.
    obs, (expected, _) = venv.reset(), envs.reset(seed=row_seeds(7, 3))
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(20):
        assert obs.keys() == expected.keys()
        for key in obs:
            assert obs[key].dtype == expected[key].dtype
            assert np.array_equal(obs[key], expected[key])
        actions = rng.integers(4, size=3)
        obs, _, dones, infos = venv.step(actions)
        expected, _, terminated, _, told = envs.step(actions)
        assert np.array_equal(dones, terminated)
        for row in np.flatnonzero(dones):
            ends += 1
            for key, array in infos[row]["terminal_observation"].items():
                assert np.array_equal(array, told["final_obs"][row][key])
            assert infos[row]["response"] == told["final_info"]["response"][row]
    assert ends > 5
    assert venv.get_attr("k", [0, 2]) == [4, 4]
    assert venv.get_attr("tokenizer")[0].content_hash() == load_tokenizer(WORDS).content_hash()
    assert venv.env_is_wrapped(TopKActions) == [True, True, True]
    assert venv.env_is_wrapped(Monitor) == [False, False, False]
    with pytest.raises(AttributeError):
        venv.get_attr("nothing")


def test_the_masks_are_those_of_the_outermost_layer(checkpoint):
    """Of a wrapper's choices, and not of the tokens that it writes."""
    lm = checkpoint()
    for wrapper, shape in (
        (partial(TopKActions, lm=lm, k=4, device="cpu"), (4,)),
        (partial(SegmentActions, lm=lm, k=3, segment=2, device="cpu"), (3,)),
        (partial(ActionMasks, banned=["w1"]), (len(WORDS),)),
    ):
        venv = make(2, wrapper=wrapper)
        venv.reset()
        masks = venv.env_method("action_masks")
        assert [mask.shape for mask in masks] == [shape] * 2
        assert shape == (int(venv.action_space.n),)


def venv_batch(n_envs):
    return gym.make_vec(
        "TextGen-v0", n_envs, prompts=PROMPTS, tokenizer=WORDS, reward=reward,
        max_prompt_tokens=4, max_new_tokens=5, autoreset_mode="SameStep",
    )  # fmt: skip


def test_the_rows_that_episodes_started_from_can_be_read():
    venv = make(
        2, prompts=[{"prompt": "w1 w2", "reference": "w3"}, {"prompt": "w3", "reference": "w4"}]
    )
    venv.reset()
    for _ in range(12):
        rows = venv.rows
        assert [row["prompt"] for row in rows] == [i["prompt"] for i in venv.unwrapped.reset_infos]
        assert venv.get_attr("rows") == rows
        assert [row["reference"] for row in rows] == [
            {"w1 w2": "w3", "w3": "w4"}[row["prompt"]] for row in rows
        ]
        rows[0]["prompt"] = "changed"
        venv.step(np.zeros(2, int))
