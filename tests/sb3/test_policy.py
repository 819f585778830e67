from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import tokenizers
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from tests.lm.checkpoints import CONTEXT, EOS, WORDS
from textgym.errors import ModelError, SettingsError
from textgym.lm import LanguageModel
from textgym.sb3 import LMPolicy, LMRolloutBuffer
from textgym.tokenization import load_tokenizer

WIDTH = 13
TEXTS = spaces.Box(-1, len(WORDS) - 1, (WIDTH,), np.int32)
TOKENS = spaces.Discrete(len(WORDS))


def policy_of(lm: str, **kwargs) -> LMPolicy:
    torch.manual_seed(0)
    policy = LMPolicy(TEXTS, TOKENS, lambda _: 1e-3, lm=lm, **kwargs)
    policy.set_training_mode(False)
    return policy


def with_values(policy: LMPolicy) -> LMPolicy:
    """Give the value head, which starts at zero, something to say."""
    torch.manual_seed(1)
    for parameter in policy.value_net.parameters():
        torch.nn.init.normal_(parameter)
    return policy


def texts_of(*lengths: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    texts = rng.integers(0, len(WORDS), (len(lengths), WIDTH)).astype(np.int32)
    texts[np.arange(WIDTH) >= np.array(lengths)[:, None]] = -1
    return torch.from_numpy(texts)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "grouped"])
def test_logits_are_the_language_models(checkpoint, kind):
    policy = policy_of(checkpoint(kind))
    model = AutoModelForCausalLM.from_pretrained(checkpoint(kind)).eval()
    texts = texts_of(3, 0, 13, 1)
    with torch.no_grad():
        found = policy.get_distribution(texts).distribution.logits
        for row, length in enumerate((3, 0, 13, 1)):
            tokens = texts[row : row + 1, :length].long() if length else torch.tensor([[EOS]])
            expected = torch.log_softmax(model(tokens).logits[0, -1], 0)
            torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "grouped", "sliding"])
def test_all_ways_to_ask_agree(checkpoint, kind):
    cache = kind != "sliding"
    policy = with_values(policy_of(checkpoint(kind), cache=cache, net_arch=[8]))
    texts = texts_of(3, 0, 13, 1, 6)
    with torch.no_grad():
        actions, values, log_probs = policy(texts)
        assert (actions.shape, values.shape, log_probs.shape) == ((5,), (5, 1), (5,))
        again = policy.evaluate_actions(texts, actions)
        torch.testing.assert_close(policy.predict_values(texts), values)
        distribution = policy.get_distribution(texts)
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(again[0], values, **close)
    torch.testing.assert_close(again[1], log_probs, **close)
    torch.testing.assert_close(again[2], distribution.entropy(), **close)
    torch.testing.assert_close(distribution.log_prob(actions), log_probs, **close)
    # With gradients on, nothing comes from the cache: the way back reaches the weights.
    _, values, log_probs = policy(texts)
    (values.sum() + log_probs.sum() + policy.predict_values(texts).sum()).backward()
    assert all(parameter.grad is not None for parameter in policy.lm.parameters())


def test_cached_and_uncached_policies_act_alike(checkpoint):
    cached = with_values(policy_of(checkpoint()))
    uncached = with_values(policy_of(checkpoint(), cache=False))
    assert uncached.decoder is None
    texts = texts_of(3, 0, 5, 1)
    for at in range(6):
        torch.manual_seed(at)
        with torch.no_grad():
            ours = cached(texts)
            torch.manual_seed(at)
            theirs = uncached(texts)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        lengths = (texts >= 0).sum(1)
        texts[torch.arange(4), lengths] = ours[0].int()


def test_values_start_at_zero_and_leave_the_model_alone(checkpoint):
    policy = policy_of(checkpoint(), net_arch={"vf": [16]})
    texts = texts_of(3, 4)
    values = policy.predict_values(texts)
    assert torch.equal(values, torch.zeros(2, 1))
    (values - 1).square().sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in policy.lm.parameters())
    assert policy.value_net[-1].weight.grad.any()


def test_dropout_stays_off(checkpoint):
    policy = policy_of(checkpoint())
    policy.set_training_mode(True)
    texts = texts_of(3, 4)
    actions = torch.tensor([1, 2])
    first = policy.evaluate_actions(texts, actions)
    assert torch.equal(first[1], policy.evaluate_actions(texts, actions)[1])


def test_weights_that_change_change_the_policy(checkpoint):
    policy = policy_of(checkpoint())
    texts = texts_of(3, 4)

    def logits():
        with torch.no_grad():
            return policy.get_distribution(texts).distribution.logits.clone()

    before = logits()
    for parameter in policy.lm.parameters():
        parameter.data.mul_(0.9)
    changed = logits()
    assert not torch.allclose(before, changed, atol=1e-3)
    policy.load_state_dict(policy_of(checkpoint()).state_dict())
    torch.testing.assert_close(logits(), before)


def test_training_mode_drops_the_cache(checkpoint):
    policy = policy_of(checkpoint())
    texts = texts_of(3, 4)
    passes = []
    policy.lm.body.register_forward_hook(lambda *_: passes.append(1))

    def ask():
        passes.clear()
        policy.predict(texts.numpy())
        return len(passes)

    assert [ask(), ask()] == [1, 0]
    policy.set_training_mode(False)
    assert ask() == 0
    policy.set_training_mode(True)
    policy.set_training_mode(False)
    assert ask() == 1


def test_predict_takes_one_text_or_many(checkpoint):
    policy = policy_of(checkpoint())
    texts = texts_of(3, 4).numpy()
    many, _ = policy.predict(texts, deterministic=True)
    one, _ = policy.predict(texts[0], deterministic=True)
    assert many.shape == (2,)
    assert one.shape == ()
    assert one == many[0]
    with torch.no_grad():
        logits = policy.get_distribution(torch.from_numpy(texts)).distribution.logits
    assert many.tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_policy_saves_and_loads(checkpoint, make_env, tmp_path, algorithm):
    model = algorithm(
        LMPolicy, make_env(4), n_steps=16, policy_kwargs={"lm": checkpoint(), "net_arch": [8]},
        rollout_buffer_class=LMRolloutBuffer, device="cpu", seed=0,
    )  # fmt: skip
    model.learn(100)
    texts = texts_of(3, 0, 13)

    def answers(policy):
        with torch.no_grad():
            return policy.get_distribution(texts).distribution.logits, policy.predict_values(texts)

    expected = answers(model.policy)
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", device="cpu")
    torch.testing.assert_close(answers(loaded.policy), expected, atol=0, rtol=0)
    loaded.set_env(make_env(4))
    loaded.learn(50)
    model.policy.save(tmp_path / "policy.pt")
    again = LMPolicy.load(tmp_path / "policy.pt", device="cpu")
    torch.testing.assert_close(answers(again), expected, atol=0, rtol=0)

    model.policy.lm.save_pretrained(tmp_path / "lm")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "lm").eval()
    with torch.no_grad():
        logits = torch.log_softmax(plain(texts[:1, :3].long()).logits[0, -1], 0)
    torch.testing.assert_close(logits, expected[0][0], atol=1e-5, rtol=1e-5)
    assert LanguageModel.load(str(tmp_path / "lm")).vocab_size == len(WORDS)


def test_training_is_reproducible(checkpoint, make_env):
    def run(seed):
        model = PPO(
            LMPolicy, make_env(), n_steps=8, batch_size=16, policy_kwargs={"lm": checkpoint()},
            rollout_buffer_class=LMRolloutBuffer, device="cpu", seed=seed,
        )  # fmt: skip
        model.learn(48)
        return torch.cat([parameter.flatten() for parameter in model.policy.parameters()])

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_evaluation_in_the_middle_changes_nothing(checkpoint, make_env):
    """EvalCallback, predict and evaluate_policy share the policy with a running rollout."""

    def run(callback):
        model = PPO(
            LMPolicy, make_env(), n_steps=8, batch_size=16, policy_kwargs={"lm": checkpoint()},
            rollout_buffer_class=LMRolloutBuffer, device="cpu", seed=0,
        )  # fmt: skip
        model.learn(96, callback=callback)
        return model

    class Probe(EvalCallback):
        def _on_step(self):
            state = torch.get_rng_state()
            assert super()._on_step()
            self.model.predict(texts_of(*range(6)).numpy())
            evaluate_policy(self.model, self.eval_env, n_eval_episodes=3, deterministic=False)
            torch.set_rng_state(state)
            return True

    plain = run(None)
    probed = run(Probe(make_env(2), eval_freq=3, n_eval_episodes=3, verbose=0, warn=False))
    pairs = zip(plain.policy.parameters(), probed.policy.parameters(), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_stock_buffer_and_single_environments_work(checkpoint):
    env = gym.make(
        "TextGen-v0", prompts=["w1"], tokenizer=WORDS, max_prompt_tokens=4, max_new_tokens=4
    )
    kwargs = {"lm": checkpoint(), "optimizer_class": torch.optim.AdamW}
    model = PPO(LMPolicy, env, n_steps=8, batch_size=8, policy_kwargs=kwargs, device="cpu")
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(16)
    assert not all(map(torch.equal, before, model.policy.parameters()))


def test_refusals(checkpoint):
    live = AutoModelForCausalLM.from_pretrained(checkpoint())
    with pytest.raises(ModelError, match="GPT2LMHeadModel"):
        policy_of(live)
    with pytest.raises(SettingsError, match="use_sde"):
        policy_of(checkpoint(), use_sde=True)
    with pytest.raises(SettingsError, match="'pi'"):
        policy_of(checkpoint(), net_arch={"pi": [8], "vf": [8]})


def test_environments_that_do_not_fit_are_refused(checkpoint):
    def build(observations, actions):
        return LMPolicy(observations, actions, lambda _: 1e-3, lm=checkpoint())

    wide = spaces.Box(-1, len(WORDS) - 1, (CONTEXT + 1,), np.int32)
    with pytest.raises(ModelError, match="32 tokens"):
        build(wide, TOKENS)
    with pytest.raises(ModelError, match="24 actions"):
        build(TEXTS, spaces.Discrete(len(WORDS) + 1))
    with pytest.raises(SettingsError, match="LMPolicy needs a text environment"):
        build(spaces.Box(-1.0, 1.0, (4,)), TOKENS)
    with pytest.raises(SettingsError, match="LMPolicy needs a text environment"):
        build(TEXTS, spaces.Box(-1.0, 1.0, (4,)))
    foreign = spaces.Discrete(len(WORDS))
    foreign.tokenizer_hash = load_tokenizer([*WORDS[1:-1], "w0", "<eos>"]).content_hash()
    with pytest.raises(ModelError, match="tokenizer="):
        build(TEXTS, foreign)


def test_prompts_that_are_closed_with_eos_are_refused_by_a_decoder(checkpoint, make_env):
    """Whether a bare tokenizer that writes eos belongs to a decoder, nothing says."""
    backend = tokenizers.Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", len(WORDS) - 1)]
    )
    env = make_env(tokenizer=backend, max_prompt_tokens=8)
    with pytest.raises(ModelError, match="tokenizer="):
        PPO(LMPolicy, env, policy_kwargs={"lm": checkpoint()}, n_steps=8, batch_size=8)


def test_another_vocabulary_is_refused_by_way_of_the_environment(checkpoint, make_env):
    env = make_env(tokenizer=[*WORDS[1:-1], "w0", "<eos>"])
    with pytest.raises(ModelError, match="tokenizer="):
        PPO(LMPolicy, env, policy_kwargs={"lm": checkpoint()}, n_steps=8, batch_size=8)


def test_the_value_head_moves_ten_times_as_fast_as_adams_steps(checkpoint):
    policy = policy_of(checkpoint())
    observations = torch.tensor([[1, 2, 3, *[-1] * (WIDTH - 3)]])
    last = policy.value_net[-1]
    last.weight.requires_grad_(False)  # The bias alone, whose effect does not depend on the text.
    (policy.predict_values(observations) - 1).square().mean().backward()
    policy.optimizer.step()
    assert policy.predict_values(observations).item() == pytest.approx(10 * 1e-3, rel=1e-3)


def test_value_heads_that_were_saved_without_a_scale_keep_their_values(checkpoint):
    policy = with_values(policy_of(checkpoint()))
    observations = torch.tensor([[1, 2, 3, *[-1] * (WIDTH - 3)]])
    now = policy.predict_values(observations).item()
    old = {name: value for name, value in policy.state_dict().items() if "scale" not in name}
    policy.load_state_dict(old)
    assert policy.predict_values(observations).item() == pytest.approx(now / 10, rel=1e-5)
