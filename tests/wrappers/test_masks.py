from __future__ import annotations

import functools
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import tokenizers
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.vec_env import VecMonitor
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from textgym.errors import ActionError, SettingsError
from textgym.sb3 import make_vec_env
from textgym.tokenization import load_tokenizer
from textgym.wrappers.masks import ActionMasks, ActionMasksEnv, ActionMasksVectorEnv

WORDS = ["a", "b", "c", "d", "<eos>"]
A, B, C, D, EOS = range(5)


def no_repeats(texts):
    """The last word may not be written again."""
    masks = np.ones((len(texts), len(WORDS)), dtype=bool)
    lengths = (texts >= 0).sum(1)
    rows = np.flatnonzero(lengths > 0)
    masks[rows, texts[rows, lengths[rows] - 1]] = False
    return masks


def distinct_words(prompts, completions, **_):
    return [len(set(text.split())) / 4 for text in completions]


ARGUMENTS = {
    "prompts": ["a", "b", "c d"],
    "tokenizer": WORDS,
    "reward": distinct_words,
    "max_prompt_tokens": 2,
    "max_new_tokens": 4,
}


def make(**wrapping) -> ActionMasksEnv:
    return ActionMasks(gym.make("TextGen-v0", **ARGUMENTS), **wrapping)


def make_batch(num_envs=3, mode="NextStep", **wrapping) -> ActionMasksVectorEnv:
    envs = gym.make_vec("TextGen-v0", num_envs=num_envs, autoreset_mode=mode, **ARGUMENTS)
    return ActionMasks(envs, **wrapping)


def tokenizer_with_specials() -> tokenizers.Tokenizer:
    words = ["<pad>", "<s>", "</s>", "<unk>", "a", "b", "kept"]
    backend = tokenizers.Tokenizer(
        WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = WhitespaceSplit()
    backend.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    backend.add_tokens(["kept"])  # Added, but text.
    return backend


def test_special_tokens_other_than_eos_are_masked():
    env = gym.make("TextGen-v0", tokenizer=tokenizer_with_specials(), prompts=["a"])
    mask = env.unwrapped.action_masks()
    assert (mask.dtype, mask.tolist()) == (bool, [False, False, True, False, True, True, True])
    mask[:] = False
    assert env.unwrapped.action_masks().any()  # A fresh array each time.
    envs = gym.make_vec("TextGen-v0", 3, tokenizer=tokenizer_with_specials(), prompts=["a"])
    assert np.array_equal(envs.action_masks(), np.tile(env.unwrapped.action_masks(), (3, 1)))


def test_ids_that_no_token_has_are_masked(tmp_path):
    state = json.loads(tokenizer_with_specials().to_str())
    state["model"]["vocab"]["far"] = 9
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    env = gym.make("TextGen-v0", tokenizer=str(tmp_path / "tokenizer.json"), prompts=["a"])
    assert np.flatnonzero(env.unwrapped.action_masks()).tolist() == [2, 4, 5, 6, 9]


def test_the_built_in_tokenizer_loses_nothing():
    assert gym.make("TextGen-v0").unwrapped.action_masks().all()


def test_names_and_functions_narrow_the_mask():
    env = make(banned=["d"], allowed=["a", "b", 3, "<eos>"], mask=no_repeats)
    assert isinstance(env, ActionMasksEnv)
    assert env.action_masks().tolist() == [True, True, False, False, True]
    env.reset(options={"prompt": "a"})
    assert env.action_masks().tolist() == [False, True, False, False, True]
    env.step(B)
    assert env.action_masks().tolist() == [True, False, False, False, True]
    outer = ActionMasks(env, banned=["<eos>"])
    assert outer.action_masks().tolist() == [True, False, False, False, False]


def test_batches_have_one_mask_a_row():
    envs = make_batch(mask=no_repeats)
    assert isinstance(envs, ActionMasksVectorEnv)
    envs.reset(options={"prompt": ["a", "b", "c"]})
    expected = ~np.eye(5, dtype=bool)
    assert np.array_equal(envs.action_masks(), expected[[A, B, C]])
    envs.step(np.array([B, EOS, D]))
    masks = envs.action_masks()
    assert np.array_equal(masks[[0, 2]], expected[[B, D]])
    assert masks[1].all()  # Its action is ignored, because the row is reset.
    envs.step(np.array([C, EOS, A]))
    assert np.array_equal(envs.action_masks()[[0, 2]], expected[[C, A]])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_batches_are_single_environments_side_by_side(mode):
    envs = make_batch(mode=mode, mask=no_repeats, banned=["c"])
    singles = SyncVectorEnv(
        [lambda: make(mask=no_repeats, banned=["c"])] * 3,
        autoreset_mode=envs.unwrapped.autoreset_mode,
    )
    rng = np.random.default_rng(0)
    texts, _ = envs.reset(seed=5)
    assert np.array_equal(texts, singles.reset(seed=5)[0])
    for _ in range(60):
        masks = envs.action_masks()
        for row, env in enumerate(singles.envs):
            if not envs.get_state()["over"][row]:
                assert np.array_equal(masks[row], env.action_masks())
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        found, expected = envs.step(actions), singles.step(actions)
        for ours, theirs in zip(found[:4], expected[:4], strict=True):
            assert np.array_equal(ours, theirs)


def test_masked_actions_are_refused_and_nothing_changes():
    env = make(mask=no_repeats)
    env.reset(options={"prompt": "a"})
    with pytest.raises(ActionError, match=r"row 0: action 0 \('a'\) is masked.*such as 'b', 'c'"):
        env.step(A)
    text, *_ = env.step(B)
    assert text[:3].tolist() == [A, B, -1]

    envs = make_batch(mask=no_repeats)
    before, _ = envs.reset(options={"prompt": ["a", "b", "c"]})
    with pytest.raises(ActionError, match=r"row 2: action 2 \('c'\)"):
        envs.step(np.array([B, A, C]))
    texts, *_ = envs.step(np.array([B, A, A]))
    assert np.array_equal(texts[:, 0], before[:, 0])
    assert texts[:, 1].tolist() == [B, A, A]


def test_actions_that_are_none_are_the_environments_matter():
    env = make(banned=["d"])
    env.reset()
    for action in (5, -1, 1.5):
        with pytest.raises(ActionError) as error:
            env.step(action)
        assert "masked" not in str(error.value)
    envs = make_batch(banned=["d"])
    envs.reset()
    with pytest.raises(ActionError, match="shape"):
        envs.step(np.array([A, B]))


def test_rows_that_start_anew_ignore_their_action():
    envs = make_batch(num_envs=2, mask=no_repeats)
    envs.reset(options={"prompt": "a"})
    envs.step(np.array([EOS, B]))
    envs.step(np.array([EOS, C]))  # Row 0 wrote eos last, but this action is ignored.


def test_disabled_autoreset():
    envs = make_batch(num_envs=2, mode="Disabled", mask=no_repeats)
    envs.reset(options={"prompt": "a"})
    envs.step(np.array([EOS, B]))
    envs.reset(options={"reset_mask": np.array([True, False]), "prompt": "b"})
    assert np.array_equal(envs.action_masks(), ~np.eye(5, dtype=bool)[[B, B]])


def test_wrappers_in_between_change_nothing():
    between = gym.wrappers.vector.RecordEpisodeStatistics(make_batch(banned=["a"]))
    envs = ActionMasks(between, banned=["b"])
    assert envs.action_masks().tolist() == [[False, False, True, True, True]] * 3
    single = ActionMasks(gym.wrappers.TimeLimit(make(banned=["a"]), 3), banned=["b"])
    assert single.action_masks().tolist() == [False, False, True, True, True]


def test_something_must_stay():
    for wrapping in ({"allowed": []}, {"banned": WORDS}, {"banned": ["a"], "allowed": ["a"]}):
        for build in (make, make_batch):
            with pytest.raises(SettingsError, match="no token is left"):
                build(**wrapping)
    env = make(mask=lambda texts: np.zeros((len(texts), 5), dtype=bool))
    env.reset(options={"prompt": "c d"})
    with pytest.raises(SettingsError, match="row 0 may write no token after 'c d'"):
        env.action_masks()


def test_masks_that_are_none_are_told():
    for result in (np.ones(5, dtype=bool), np.ones((1, 5)), None):
        env = make(mask=lambda texts, result=result: result)
        env.reset()
        with pytest.raises(SettingsError, match=r"return one bool .* \(1, 5\)"):
            env.step(A)


def test_other_environments_and_names_are_refused():
    with pytest.raises(SettingsError, match="text environments"):
        ActionMasks(gym.make("CartPole-v1"))
    with pytest.raises(SettingsError, match=r"banned has 'e'"):
        make(banned=["e"])
    with pytest.raises(SettingsError, match="allowed='a'"):
        make(allowed="a")


def test_it_is_an_environment():
    env = gym.make("TextGen-v0", **ARGUMENTS)
    check_env(ActionMasks(env, banned=[]).unwrapped, skip_render_check=True)
    again = pickle.loads(pickle.dumps(make(banned=["a"], mask=no_repeats)))
    assert again.action_masks().tolist() == [False, True, True, True, True]
    assert make(banned=["a"]).spec.additional_wrappers[-1].kwargs["banned"] == ["a"]


def test_stable_baselines_gets_one_mask_a_row():
    venv = make_vec_env(
        "TextGen-v0", 3, wrapper=functools.partial(ActionMasks, mask=no_repeats), **ARGUMENTS
    )
    assert isinstance(venv, VecMonitor)
    venv.set_options({"prompt": "b"})
    venv.reset()
    masks = venv.env_method("action_masks")
    assert [mask.tolist() for mask in masks] == [[True, False, True, True, True]] * 3
    assert len(venv.env_method("action_masks", indices=[1])) == 1
    plain = make_vec_env("TextGen-v0", 5, **ARGUMENTS)  # As many rows as tokens.
    assert np.stack(plain.env_method("action_masks")).shape == (5, 5)


def test_maskable_ppo_learns_and_never_takes_a_masked_action():
    contrib = pytest.importorskip("sb3_contrib")
    from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
    from stable_baselines3.common.callbacks import BaseCallback

    class Watch(BaseCallback):
        steps = broken = 0

        def _on_step(self):
            masks, actions = self.locals["action_masks"], self.locals["actions"]
            self.steps += len(actions)
            self.broken += int((~masks[np.arange(len(actions)), actions.flatten()]).sum())
            return True

    # Reward for "d": forbidden right after itself, so "d x d x" is the best there is.
    arguments = {
        **ARGUMENTS,
        "reward": lambda prompts, completions, **_: [text.count("d") / 2 for text in completions],
    }
    venv = make_vec_env(
        "TextGen-v0", 16, seed=0, wrapper=functools.partial(ActionMasks, mask=no_repeats),
        **arguments,
    )  # fmt: skip
    assert is_masking_supported(venv)
    model = contrib.MaskablePPO(
        "MlpPolicy", venv, n_steps=16, batch_size=64, n_epochs=8, learning_rate=3e-3, gamma=1.0,
        gae_lambda=1.0, seed=0, device="cpu", policy_kwargs={"net_arch": [32]},
    )  # fmt: skip
    watch = Watch()
    model.learn(16 * 16, callback=watch)
    first = np.mean([episode["r"] for episode in model.ep_info_buffer])
    model.learn(16 * 16 * 10, callback=watch)
    last = np.mean([episode["r"] for episode in list(model.ep_info_buffer)[-64:]])
    assert watch.steps == 16 * 16 * 11
    assert watch.broken == 0
    assert first < 0.6
    assert last > 0.85
    texts = venv.reset()
    actions, _ = model.predict(texts, action_masks=get_action_masks(venv))
    assert get_action_masks(venv)[np.arange(16), actions].all()


def test_closed_vocabularies_declare_no_special_tokens():
    assert load_tokenizer(WORDS).eos_id == EOS
    assert gym.make("TextGen-v0", **ARGUMENTS).unwrapped.action_masks().all()
