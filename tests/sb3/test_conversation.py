"""Training in conversations: only the agent's tokens are decisions, whoever wrote the others."""

from __future__ import annotations

import numpy as np
import pytest
import tokenizers
import torch
from stable_baselines3 import PPO
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedTokenizerFast

from tests.conversations import Parley
from tests.sb3.rollouts import after_rollout, begin, collect, make_model, stock_twin
from tests.sb3.test_buffer import gradients
from textgym.sb3 import make_vec_env

WORDS = [*Parley.tokenizer, "<eos>"]
EOS = len(WORDS) - 1


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speaker")
    config = GPT2Config(
        vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=2, n_positions=32,
        bos_token_id=EOS, eos_token_id=EOS, initializer_range=0.1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    backend = tokenizers.Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}))
    backend.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def model(speaker):
    env = make_vec_env("textgym:TextGen-v0", prompts=Parley(), n_envs=6, seed=0, tokenizer=speaker)
    return make_model(PPO, env, speaker, n_steps=30, batch_size=180, n_epochs=1, gamma=0.97)


def test_a_dialogue_equals_its_transcript(model, speaker):
    """Tokens, log-probabilities and advantages, from observations alone, text by text."""
    buffer = collect(model, rollouts=3)
    plain = AutoModelForCausalLM.from_pretrained(speaker).eval()
    steps, rows = buffer.buffer_size, buffer.n_envs
    observations = buffer.observations
    values = np.zeros((steps, rows))
    heard = 0
    for row in range(rows):
        for step in range(steps):
            text = observations[step, row]
            text = torch.from_numpy(text[text >= 0]).long()[None]
            with torch.no_grad():
                output = plain(input_ids=text, output_hidden_states=True)
                hidden = output.hidden_states[-1][:, -1]
                values[step, row] = model.policy.value_net(hidden).item()
            log_probs = output.logits[0, -1].log_softmax(-1)
            action = int(buffer.actions[step, row, 0])
            assert buffer.log_probs[step, row] == pytest.approx(float(log_probs[action]), abs=1e-5)
            if step + 1 < steps and not buffer.episode_starts[step + 1, row]:
                then = observations[step + 1, row]
                grown = then[(then >= 0).nonzero()[0][len(text[0])] :]
                grown = grown[grown >= 0]
                assert grown[0] == action
                # What else was appended is the other side's, after the agent's eos alone.
                assert (len(grown) > 1) == (action == EOS)
                heard += len(grown) - 1
    assert heard > 15
    np.testing.assert_allclose(buffer.values, values, atol=1e-5)
    following, dones = after_rollout(model)
    last = following.flatten().numpy()
    for row in range(rows):
        advantage, following, goes_on = 0.0, last[row], 1.0 - dones[row]
        for step in reversed(range(steps)):
            delta = buffer.rewards[step, row] + 0.97 * goes_on * following - values[step, row]
            advantage = delta + 0.97 * buffer.gae_lambda * goes_on * advantage
            assert buffer.advantages[step, row] == pytest.approx(advantage, abs=1e-4)
            following, goes_on = values[step, row], 1.0 - buffer.episode_starts[step, row]


def test_only_the_agents_tokens_are_in_the_loss(model):
    """The gradient is that of SB3's buffer, which has one row per decision."""
    buffer = collect(model, rollouts=2)
    loss, gradient = gradients(model, buffer)
    expected_loss, expected = gradients(model, stock_twin(buffer))
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for ours, theirs in zip(gradient, expected, strict=True):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * scale + 1e-8)
    decisions = sum(len(sample.actions) for sample in buffer.get(None))
    assert decisions == buffer.buffer_size * buffer.n_envs


def test_it_learns_to_say_what_pays(speaker):
    env = make_vec_env("textgym:TextGen-v0", prompts=Parley(), n_envs=16, seed=0, tokenizer=speaker)
    model = make_model(
        PPO, env, speaker, n_steps=20, batch_size=160, n_epochs=4, learning_rate=1e-3
    )

    def mean_return():
        episodes = []
        begin(model)
        obs, total = env.reset(), np.zeros(16)
        torch.manual_seed(0)
        while len(episodes) < 100:
            actions, _ = model.predict(obs)
            obs, rewards, dones, _ = env.step(actions)
            total += rewards
            episodes += total[dones].tolist()
            total[dones] = 0
        return np.mean(episodes)

    before = mean_return()
    model.learn(16 * 20 * 12)
    # Four turns pay 0.5 + 1 + 1.5 + 2, and the letter a 1 more.
    assert mean_return() > max(before + 1, 4.5)
