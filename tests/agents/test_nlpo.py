"""NLPO: what the mask keeps, when it changes, and that the rest is PPO."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from agents import nlpo, ppo
from agents.nlpo import NLPO, NLPOPolicy, Settings
from agents.running import experiment
from agents.running import run as common
from tests.lm.checkpoints import EOS, WORDS, write_checkpoint
from tests.sb3.rollouts import collect
from textgym.errors import SettingsError
from textgym.lm import scoring
from textgym.sb3 import Checkpoints, LMRolloutBuffer, make_vec_env, resume

torch.set_num_threads(1)

WIDTH = 10


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "gpt2")


def low_words(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [sum(word[1:] < "2" for word in text.split()) / 6 for text in completions]


def make_env(n_envs: int = 6) -> Any:
    return make_vec_env(
        "TextGen-v0", n_envs, seed=0, prompts=["w1", "w2 w3", "w4 w5 w6", ""], tokenizer=WORDS,
        reward=low_words, max_prompt_tokens=4, max_new_tokens=6,
    )  # fmt: skip


def make(lm: str, sampling: Any = None, **kwargs: Any) -> Any:
    options = {key: kwargs.pop(key) for key in ("min_tokens", "target_update") if key in kwargs}
    sampling = {"top_p": 0.6} if sampling is None else sampling
    settings = {"learning_rate": 2e-3, "n_epochs": 2, "batch_size": 24, "n_steps": 8, **kwargs}
    return NLPO(
        NLPOPolicy, make_env(), gamma=1.0, seed=0, device="cpu",
        rollout_buffer_class=LMRolloutBuffer,
        policy_kwargs={"lm": lm, "sampling": sampling, **options}, **settings,
    )  # fmt: skip


def change(model: torch.nn.Module, scale: float = 0.1) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))


def some_texts(rows: int = 40, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    texts = np.full((rows, WIDTH), -1, np.int32)
    for row in range(rows):
        size = rng.integers(1, WIDTH)
        texts[row, :size] = rng.integers(0, EOS, size)
    return torch.from_numpy(texts)


def nucleus(model: Any, texts: Tensor, top_p: float, least: int, temperature: float) -> Tensor:
    """The smallest set of likeliest tokens that reaches the probability, by plain Python."""
    masks = []
    for text in texts:
        ids = text[text >= 0].long()[None]
        with torch.no_grad():
            logits = model(ids).logits[0, -1].double() / temperature
        probs = logits.softmax(-1).tolist()
        kept: set[int] = set()
        for token in sorted(range(len(probs)), key=lambda at: -probs[at]):
            if sum(probs[other] for other in kept) >= top_p and len(kept) >= least:
                break
            kept.add(token)
        masks.append([token in kept or token == EOS for token in range(len(probs))])
    return torch.tensor(masks)


@pytest.mark.parametrize("least", [1, 6])
@pytest.mark.parametrize("top_p", [0.2, 0.6, 0.95])
def test_mask_is_the_nucleus_of_the_mask_model(
    lm: str, top_p: float, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few logits at once that batches are cut.
    monkeypatch.setattr(nlpo, "MAX_LOGITS", 7 * len(WORDS))
    policy = make(lm, {"top_p": top_p, "temperature": 1.3}, min_tokens=least).policy
    change(policy.lm)
    texts = some_texts()
    truth = nucleus(policy.mask_model.model, texts, top_p, least, 1.3)
    own = nucleus(policy.lm.model, texts, top_p, least, 1.3)
    assert not torch.equal(truth, own), "it is a matter of which model is asked"
    assert torch.equal(policy.mask(texts).mask(), truth)
    # All ways to act or ask stay within it, with the policy's own probabilities renormalised.
    with torch.no_grad():
        actions, _, log_probs = policy(texts)
        likeliest, _, _ = policy(texts, deterministic=True)
        found = policy.get_distribution(texts).distribution.probs
        ids = [text[text >= 0].long()[None] for text in texts]
        logits = torch.stack([policy.lm.model(each).logits[0, -1] for each in ids]) / 1.3
    expected = logits.masked_fill(~truth, -torch.inf).softmax(-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(log_probs.exp(), expected.gather(1, actions[:, None])[:, 0])
    assert torch.equal(likeliest, expected.argmax(-1))
    assert np.array_equal(policy.predict(texts.numpy(), deterministic=True)[0], likeliest)


def test_draws_are_of_the_masked_distribution(lm: str) -> None:
    policy = make(lm, {"top_p": 0.7}).policy
    change(policy.lm)
    text = some_texts(1, seed=4)
    probs = policy.get_distribution(text).distribution.probs[0].detach().numpy()
    with torch.no_grad():
        actions, _, _ = policy(text.repeat(4_000, 1))
    found = np.bincount(actions, minlength=len(WORDS)) / 4_000
    assert (np.abs(found - probs) <= 5 * np.sqrt(probs * (1 - probs) / 4_000)).all()
    assert 2 < (probs > 0).sum() < len(WORDS)


def test_ties_are_cut_as_by_sampling(lm: str) -> None:
    """Of tokens that are equally likely, as many as it takes, whichever."""
    policy = make(lm, {"top_p": 0.48, "banned_tokens": [0, 1, 2]}).policy
    with torch.no_grad():
        policy.mask_model.model.transformer.ln_f.weight.zero_()
        policy.mask_model.model.transformer.ln_f.bias.zero_()
    masks = policy.mask(some_texts()).mask()
    others = masks[:, :EOS].sum(1)
    # 20 are left, 0.05 each: ten of them reach 0.48; eos is one of these, or comes on top.
    assert set(others.tolist()) <= {9, 10}
    assert masks[:, EOS].all()
    assert not masks[:, :3].any()


def test_eos_is_never_masked_away(lm: str) -> None:
    policy = make(lm, {"top_p": 0.05}).policy
    texts = some_texts()
    masks = policy.mask(texts).mask()
    assert masks[:, EOS].all()
    assert (masks.sum(1) <= 2).any()
    # Where sampling itself forbids it, it stays forbidden.
    held = make(lm, {"top_p": 0.05, "required_tokens": [4]}).policy.mask(texts).mask()
    assert torch.equal(held[:, EOS], (texts == 4).any(1))
    assert held.any(1).all()


class Watch(BaseCallback):
    """Records the masks, and the weights of mask and policy, at the start of each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Tensor] = []
        self.weights: list[tuple[Tensor, Tensor]] = []

    def _on_rollout_start(self) -> None:
        policy = self.model.policy
        self.masks.append(policy.mask(some_texts()).mask())
        self.weights.append((flat(policy.mask_model), flat(policy.lm)))

    def _on_step(self) -> bool:
        return True


def flat(module: torch.nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


def test_mask_changes_with_each_refresh_and_not_between(lm: str) -> None:
    agent, watch = make(lm, target_update=3), Watch()
    agent.learn(7 * 48, callback=watch)
    same = [torch.equal(*pair) for pair in zip(watch.masks, watch.masks[1:], strict=False)]
    assert same == [True, True, False, True, True, False]
    for rollout, (mask, own) in enumerate(watch.weights):
        copied = rollout - rollout % 3
        assert torch.equal(mask, watch.weights[copied][1])
        assert torch.equal(mask, own) == (rollout == copied)


@pytest.mark.parametrize("top_p", [0.3, 0.9])
def test_ratio_is_one_at_first(lm: str, top_p: float) -> None:
    """In the last rollout before a refresh, when mask and policy are furthest apart."""
    agent = make(lm, {"top_p": top_p}, target_update=100)
    agent.learn(4 * 48)
    assert not torch.equal(flat(agent.policy.mask_model), flat(agent.policy.lm))
    (batch,) = collect(agent).get(None)
    texts = batch.observations.observations(0, len(batch.actions))
    assert len(texts) == agent.rollout_buffer.actions.size
    assert torch.equal(batch.observations.kept.mask(), agent.policy.mask(texts).mask())
    agent.policy.set_training_mode(True)
    for batch in agent.rollout_buffer.get(24):
        _, log_probs, entropy = agent.policy.evaluate_actions(batch.observations, batch.actions)
        torch.testing.assert_close(log_probs.exp(), batch.old_log_prob.exp(), atol=1e-5, rtol=1e-5)
        assert (entropy <= batch.observations.kept.mask().sum(1).log() + 1e-5).all()
        assert batch.observations.kept.mask().gather(1, batch.actions).all()
    # The recorded mask is replayed when weights and mask have changed.
    agent.train()
    agent.policy.refresh_mask()
    for batch in agent.rollout_buffer.get(None):
        _, log_probs, _ = agent.policy.evaluate_actions(batch.observations, batch.actions)
        assert torch.isfinite(log_probs).all()


def test_without_a_mask_it_is_ppo(lm: str) -> None:
    settings = {
        "lm": lm, "n_steps": 8, "lr": 3e-3, "kl_coef": 0.1, "kl_target": 0.05, "ent_coef": 0.01,
        "device": "cpu",
    }  # fmt: skip
    theirs = ppo.make_agent(make_env(), 3, ppo.Settings(**settings)).learn(3 * 48)
    ours = nlpo.make_agent(make_env(), 3, Settings(**settings, top_p=1.0)).learn(3 * 48)
    assert type(theirs) is PPO
    weights = dict(ours.policy.named_parameters())
    for name, weight in theirs.policy.named_parameters():
        assert torch.equal(weight, weights.pop(name)), name
    assert {name.partition(".")[0] for name in weights} == {"mask_model"}
    assert ours.rollout_buffer.kl.coef == theirs.rollout_buffer.kl.coef
    masked = nlpo.make_agent(make_env(), 3, Settings(**settings, top_p=0.9)).learn(48)
    assert not torch.equal(flat(masked.policy.lm), flat(theirs.policy.lm))


def test_settings_are_those_of_ppo_where_shared() -> None:
    theirs, ours = vars(ppo.Settings()), vars(Settings())
    assert {key: ours[key] for key in theirs} == theirs
    assert set(ours) - set(theirs) == {"top_p", "min_tokens", "target_update"}


def test_kl_of_the_reference_to_itself_is_zero(lm: str) -> None:
    """Masked, the policy is the reference masked."""
    kwargs = {"kl_coef": 0.3, "reference": lm}
    agent = make(lm, rollout_buffer_kwargs=kwargs, learning_rate=0.0)
    agent.learn(48)
    assert abs(agent.rollout_buffer.stats["kl"]) < 1e-5


def test_mask_is_no_parameter_that_is_trained(lm: str) -> None:
    agent = make(lm)
    trained = {id(p) for group in agent.policy.optimizer.param_groups for p in group["params"]}
    assert trained.isdisjoint(map(id, agent.policy.mask_model.parameters()))
    assert not any(p.requires_grad for p in agent.policy.mask_model.parameters())


def test_mask_is_saved(lm: str, tmp_path: Path) -> None:
    agent = make(lm, min_tokens=3, target_update=100)
    agent.learn(4 * 48)
    texts = some_texts()
    expected = agent.policy.mask(texts).mask()
    agent.save(tmp_path / "model")
    agent.policy.save(str(tmp_path / "policy.pt"))
    loaded = NLPO.load(tmp_path / "model", env=make_env(), device="cpu")
    for policy in (loaded.policy, NLPOPolicy.load(str(tmp_path / "policy.pt"), device="cpu")):
        assert torch.equal(policy.mask(texts).mask(), expected)
        assert torch.equal(flat(policy.mask_model), flat(agent.policy.mask_model))
        assert (policy.min_tokens, policy.target_update) == (3, 100)
    assert not torch.equal(flat(loaded.policy.mask_model), flat(loaded.policy.lm))
    loaded.learn(48)


@pytest.fixture(scope="module")
def whole(lm: str) -> Any:
    """A run that nothing happened to."""
    return make(lm, target_update=2).learn(4 * 48)


@pytest.mark.parametrize("cut", [48, 96], ids=["between refreshes", "at a refresh"])
def test_resumed_it_is_the_same_run(lm: str, whole: Any, cut: int, tmp_path: Path) -> None:
    make(lm, target_update=2).learn(cut, callback=Checkpoints(tmp_path, every=48))
    second = make(lm, target_update=2)
    left = resume(second, tmp_path, 4 * 48)
    assert left == 4 * 48 - cut
    second.learn(left, callback=Checkpoints(tmp_path), reset_num_timesteps=False)
    for part in ("lm", "mask_model", "value_net"):
        assert torch.equal(flat(getattr(second.policy, part)), flat(getattr(whole.policy, part)))
    with pytest.raises(SettingsError, match=r"target_update .*2.*4"):
        resume(make(lm, target_update=4), tmp_path, 4 * 48)


@pytest.mark.parametrize("kwargs", [{"cache": False}, {"lora": {"r": 2}}], ids=["uncached", "lora"])
def test_ways_to_compute(lm: str, kwargs: Any) -> None:
    agent = make(lm)
    other = NLPOPolicy(
        agent.observation_space, agent.action_space, lambda _: 1e-3, lm=lm,
        sampling={"top_p": 0.6}, **kwargs,
    )  # fmt: skip
    texts = some_texts()
    assert torch.equal(other.mask(texts).mask(), agent.policy.mask(texts).mask())
    change(other.lm, 0.3)
    assert torch.equal(other.mask(texts).mask(), agent.policy.mask(texts).mask())
    other.refresh_mask()
    assert not torch.equal(other.mask(texts).mask(), agent.policy.mask(texts).mask())


def test_losses_in_pieces(lm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agents = []
    for small in (False, True):
        if small:
            for module in (scoring, nlpo):
                monkeypatch.setattr(module, "MAX_LOGITS", 4 * len(WORDS))
        agents.append(make(lm).learn(48))
    torch.testing.assert_close(*(flat(agent.policy.lm) for agent in agents), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"min_tokens": 0}, "min_tokens is 0"),
        ({"target_update": 0}, "target_update is 0"),
        ({"min_tokens": 24}, "there are 23 tokens"),
        ({"sampling": {"top_p": 0.0}}, "top_p=0"),
    ],
    ids=str,
)
def test_impossible_settings(lm: str, kwargs: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make(lm, **kwargs)


@pytest.mark.parametrize("seed", range(3))
def test_learns_to_say_good(seed: int, tmp_path: Path) -> None:
    settings = Settings(
        env="TextGen/GoodBad-v0", seed=seed, steps=512, n_envs=16, n_steps=8, lr=5e-3,
        n_epochs=2, target_update=2, eval_episodes=100, threads=1, device="cpu", out=tmp_path,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "plot", lambda *_, **__: None)
        folder = common.run("nlpo", settings, partial(nlpo.make_agent, settings=settings))
    results = json.loads((folder / "run.json").read_text())["results"]
    assert abs(results["eval_before"]["mean"]) < 0.4
    assert results["eval_after"]["mean"] > 0.9
    assert NLPO.load(folder / "model.zip", device="cpu").num_timesteps == 512
