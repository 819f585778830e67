"""Everything that textgym promises, with a model that was trained by others: make check-real."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from transformers import AutoModelForCausalLM, AutoTokenizer

import textgym
from agents.running.oracle import Oracle
from tests.real.conftest import Reference
from textgym.errors import TextGymError
from textgym.lm import LanguageModel, MemoDecoder, last_hidden
from textgym.lm.engine import prepare_training
from textgym.sb3 import LMPolicy, LMRolloutBuffer, make_vec_env
from textgym.tasks import make_task
from textgym.tokenization import load_tokenizer

pytestmark = pytest.mark.real

OPEN_TASKS = [name for name in textgym.registered_tasks() if make_task(name).tokenizer is None]
# What Gemma 3 270M makes of "The movie was".
KNOWN = " released in 1999 and was directed by John Carpenter"
PROMPTS = ["The movie was", "The film", "Halloween is a 1978 film", "def add(a, b):\n    return"]
TEXTS = [
    *PROMPTS,
    "", " ", "\n", "  two spaces  ", "\tindented\n\tcode", "naïve café", "日本語のテキスト", "สวัสดี",
    "👩‍🚀 and 🇳🇿", "\u200b", "ㄱㆍ𝔘", "<bos>The movie was", "a<eos>b", "▁x", "<0x0A>",
]  # fmt: skip


@pytest.fixture(scope="session")
def policy(file: str) -> LMPolicy:
    """A policy for texts of 14 new tokens."""
    env = make_vec_env("TextGen-v0", 1, prompts=PROMPTS, tokenizer=file, max_new_tokens=14)
    return LMPolicy(env.observation_space, env.action_space, lambda _: 0.0, lm=file)


def logits_of(lm: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return lm.logits(lm.hidden(ids))


@pytest.mark.parametrize("text", TEXTS)
def test_prompt_ids_are_the_tokenizer_s(file: str, reference: Reference, text: str) -> None:
    env = gym.make("TextGen-v0", prompts=[text], tokenizer=file)
    obs, _ = env.reset(seed=0)
    expected = reference.tokenizer(text).input_ids
    bos = reference.tokenizer.bos_token_id
    if expected[:2] == [bos, bos]:  # The text spells it.
        expected = expected[1:]
    assert obs[obs >= 0].tolist() == expected


@pytest.mark.parametrize("name", OPEN_TASKS)
def test_prompt_ids_of_tasks(file: str, reference: Reference, name: str) -> None:
    envs = gym.make_vec(name, num_envs=16, tokenizer=file)
    obs, infos = envs.reset(seed=0)
    obs = obs["tokens"] if isinstance(obs, dict) else obs
    for row, prompt in zip(obs, infos["prompt"], strict=True):
        assert row[row >= 0].tolist() == reference.tokenizer(prompt).input_ids


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_transformers_own(
    file: str, gemma: bool, policy: LMPolicy, reference: Reference, prompt: str
) -> None:
    env = gym.make("TextGen-v0", prompts=[prompt], tokenizer=file, max_new_tokens=14)
    obs, _ = env.reset(seed=0)
    end = False
    while not end:
        action, _ = policy.predict(obs, deterministic=True)
        obs, _, end, _, info = env.step(action)
    inputs = reference.tokenizer(prompt, return_tensors="pt")
    ids = reference.model.generate(**inputs, do_sample=False, max_new_tokens=14)[0]
    assert obs[obs >= 0].tolist() == ids.tolist()
    whole = reference.tokenizer.decode(ids, skip_special_tokens=True)
    assert info["response"] == whole.removeprefix(prompt)
    if gemma and prompt == "The movie was":
        assert info["response"].startswith(KNOWN)


def test_log_probs_are_transformers_own(policy: LMPolicy, reference: Reference) -> None:
    generator = torch.Generator().manual_seed(0)
    width = policy.observation_space.shape[0]
    for prompt in PROMPTS:
        ids = torch.tensor([reference.tokenizer(prompt).input_ids])
        written = torch.randint(5, policy.lm.vocab_size, (1, 5), generator=generator)
        ids = torch.cat([ids, written], 1)
        with torch.no_grad():
            expected = reference.model(ids).logits[0].float().log_softmax(-1)
            for at in range(1, ids.shape[1]):
                obs = torch.full((1, width), -1)
                obs[0, :at] = ids[0, :at]
                _, log_prob, entropy = policy.evaluate_actions(obs, ids[:, at])
                torch.testing.assert_close(
                    log_prob[0], expected[at - 1, ids[0, at]], atol=2e-3, rtol=1e-4
                )
                full = -(expected[at - 1].exp() * expected[at - 1]).sum()
                torch.testing.assert_close(entropy[0], full, atol=5e-3, rtol=1e-3)


@torch.no_grad()
def test_cached_is_uncached(lm: LanguageModel) -> None:
    # Beyond the window of the layers with sliding attention.
    config = lm.model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 64
    length = window + 40
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(5, lm.vocab_size, (3, length), generator=generator)
    decoder = MemoDecoder(lm, length)
    lengths = torch.tensor([window - 3, 7, window + 20])
    places = torch.arange(length)
    for step in range(6):
        obs = texts.masked_fill(places >= (lengths + step)[:, None], -1)
        hidden, expected = decoder(obs), last_hidden(lm, obs)
        torch.testing.assert_close(lm.logits(hidden), lm.logits(expected), atol=5e-3, rtol=1e-3)
    # A slot that is filled again.
    lengths[1] = 4
    texts[1] = texts[1].flip(0)
    obs = texts.masked_fill(places >= lengths[:, None], -1)
    torch.testing.assert_close(
        lm.logits(decoder(obs)), lm.logits(last_hidden(lm, obs)), atol=5e-3, rtol=1e-3
    )


def test_chat(file: str, reference: Reference) -> None:
    messages = [{"role": "user", "content": "Who directed Halloween?"}]
    rows = [{"messages": messages}]
    if reference.tokenizer.chat_template is None:
        with pytest.raises(TextGymError, match="chat template"):
            gym.make("TextGen-v0", prompts=rows, tokenizer=file).reset(seed=0)
        return
    env = gym.make("TextGen-v0", prompts=rows, tokenizer=file)
    obs, _ = env.reset(seed=0)
    expected = reference.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert obs[obs >= 0].tolist() == expected


def test_chat_with_a_template(reference: Reference) -> None:
    tokenizer = copy.deepcopy(reference.tokenizer)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m.role + '\\n' }}"
        "{{ m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    )
    messages = [{"role": "user", "content": text} for text in ("Who directed Halloween?", "日本")]
    expected = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    env = gym.make("TextGen-v0", prompts=[{"messages": messages}], tokenizer=tokenizer)
    obs, _ = env.reset(seed=0)
    assert obs[obs >= 0].tolist() == expected
    # The end of a turn ends a text, as eos does.
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    _, _, ended, _, info = env.step(end)
    assert ended
    assert (info["finish_reason"], info["response"]) == ("eos", "")


@pytest.mark.parametrize("name", OPEN_TASKS)
def test_the_oracle_is_right(file: str, name: str) -> None:
    venv = make_vec_env(name, 16, seed=0, tokenizer=file)
    oracle = Oracle(venv)
    obs = venv.reset()
    state, starts, ended = None, np.ones(16, bool), 0
    while ended < 32:
        actions, state = oracle.predict(obs, state, starts)
        obs, _, starts, infos = venv.step(actions)
        for row in np.flatnonzero(starts):
            # Dialogues also pay for turns.
            assert infos[row]["reward_terms"]["score"] == 1.0, infos[row]["response"]
            ended += 1


def test_what_is_saved_loads_again(lm: LanguageModel, tmp_path: Path) -> None:
    lm.save_pretrained(tmp_path)
    again = LanguageModel.load(str(tmp_path), device="cpu")
    assert again.tokenizer.content_hash() == lm.tokenizer.content_hash()
    ids = torch.tensor([lm.tokenizer.prompt_ids(PROMPTS[0])])
    assert ids[0].tolist() == load_tokenizer(str(tmp_path)).prompt_ids(PROMPTS[0])
    expected = logits_of(lm, ids)
    torch.testing.assert_close(logits_of(again, ids), expected, atol=1e-4, rtol=1e-4)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, expected, atol=1e-3, rtol=1e-3)
    assert AutoTokenizer.from_pretrained(tmp_path)(PROMPTS[0]).input_ids == ids[0].tolist()


def test_an_adapter_alone(file: str, tmp_path: Path) -> None:
    lm = LanguageModel.load(file, device="cpu")
    prepare_training(lm, lora={"r": 4})
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    lm.save_pretrained(tmp_path, merge=False)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 20e6
    again = LanguageModel.load(str(tmp_path), device="cpu")
    ids = torch.tensor([lm.tokenizer.prompt_ids(PROMPTS[0])])
    assert torch.equal(logits_of(again, ids), logits_of(lm, ids))


class Progress(BaseCallback):
    """Keeps the loss of each update and the mean reward of each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.rewards: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer: Any = self.model.rollout_buffer
        self.rewards.append(float(buffer.rewards.sum() / buffer.episode_starts.sum()))
        if (loss := self.logger.name_to_value.get("train/loss")) is not None:
            self.losses.append(float(loss))


def brevity(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """1 for an empty text, 0 for 32 characters and more."""
    return [1.0 - min(len(text) / 32, 1.0) for text in completions]


def test_ppo_with_an_adapter(file: str, tmp_path: Path) -> None:
    venv = make_vec_env(
        "TextGen-v0", 32, seed=0, prompts=PROMPTS[:2], reward=brevity, tokenizer=file,
        max_prompt_tokens=8, max_new_tokens=4,
    )  # fmt: skip
    model = PPO(
        LMPolicy, venv, n_steps=4, batch_size=64, n_epochs=2, learning_rate=5e-3, gamma=1.0,
        gae_lambda=1.0, device="cpu", seed=0, policy_kwargs={"lm": file, "lora": {"r": 8}},
        rollout_buffer_class=LMRolloutBuffer,
        rollout_buffer_kwargs={"kl_coef": 0.01, "reference": "base"},
    )  # fmt: skip
    callback = Progress()
    model.learn(10 * 4 * 32, callback=callback)
    assert len(callback.losses) >= 9
    assert np.isfinite(callback.losses).all()
    # From 0.40 to 0.85, without the penalty.
    assert np.mean(callback.rewards[-2:]) > np.mean(callback.rewards[:2]) + 0.15, callback.rewards
    model.policy.lm.save_pretrained(tmp_path / "adapter", merge=False)
    again = LanguageModel.load(str(tmp_path / "adapter"), device="cpu")
    ids = torch.tensor([again.tokenizer.prompt_ids(PROMPTS[0])])
    assert torch.equal(logits_of(again, ids), logits_of(model.policy.lm, ids))
