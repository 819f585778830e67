"""TRPO: its gradients, and the region that it stays in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TRPO
from stable_baselines3.common.distributions import CategoricalDistribution, kl_divergence
from stable_baselines3.common.logger import Logger
from torch.nn.attention import SDPBackend, sdpa_kernel

from agents import trpo
from tests.lm.checkpoints import WORDS, write_checkpoint
from tests.sb3.rollouts import collect
from textgym.errors import SettingsError
from textgym.sb3 import LMPolicy, make_vec_env

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["gpt2", "grouped"])
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / request.param, request.param)


def low_words(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [sum(word[1:] < "2" for word in text.split()) / 6 for text in completions]


def make(lm: str, **changes: Any) -> trpo.LanguageTRPO:
    venv = make_vec_env(
        "TextGen-v0", 8, seed=0, prompts=["w1", "w2 w3", "w4 w5 w6", ""], tokenizer=WORDS,
        reward=low_words, max_prompt_tokens=4, max_new_tokens=6,
    )  # fmt: skip
    settings = trpo.Settings(lm=lm, n_steps=8, device="cpu", **changes)
    agent = trpo.make_agent(venv, 0, settings)
    agent.set_logger(Logger(None, []))
    return agent


def collected(agent: trpo.LanguageTRPO) -> Any:
    """A batch of a rollout, all at once."""
    return next(collect(agent).get(None))


def actor_gradients(kind: type[TRPO], agent: trpo.LanguageTRPO, *of: torch.Tensor) -> Any:
    """Weights, gradients of the gain and of the KL, and shapes, as an algorithm computes them."""
    return kind._compute_actor_grad(agent, *of)


def test_gradients_are_those_of_one_pass_for_each_weight(lm: str) -> None:
    agent = make(lm, fisher_parts=1)
    batch = collected(agent)
    with sdpa_kernel(SDPBackend.MATH):
        old = agent.policy.get_distribution(batch.observations)
        logits = old.distribution.logits.detach()
        logits = logits + 0.1 * torch.randn_like(logits)
        old = CategoricalDistribution(len(WORDS)).proba_distribution(logits)
        new = agent.policy.get_distribution(batch.observations)
        kl = kl_divergence(new, old).mean()
        gain = (batch.advantages * new.log_prob(batch.actions.flatten())).mean()
        theirs = actor_gradients(TRPO, agent, kl, gain)
        ours = actor_gradients(trpo.LanguageTRPO, agent, kl, gain)
    # Where output and input share a matrix, the policy has two names for it, and TRPO takes both.
    known = {id(weight): at for at, weight in enumerate(theirs[0])}
    assert set(known) == {id(weight) for weight in ours[0]}

    def parts(found: Any, flat: torch.Tensor) -> dict[int, torch.Tensor]:
        pieces = flat.detach().split([int(np.prod(shape)) for shape in found[3]])
        return {id(weight): piece for weight, piece in zip(found[0], pieces, strict=True)}

    for which in (1, 2):
        mine, expected = parts(ours, ours[which]), parts(theirs, theirs[which])
        assert max(float(piece.abs().max()) for piece in mine.values()) > 1e-4
        for weight, piece in mine.items():
            torch.testing.assert_close(piece, expected[weight], rtol=1e-4, atol=1e-7)


def test_a_step_improves_within_the_region_and_the_critic_has_no_part_in_it(lm: str) -> None:
    after = {}
    for updates in (1, 4):
        agent = make(lm, fisher_parts=1, target_kl=0.005, n_critic_updates=updates, lr=1e-2)
        batch = collected(agent)
        with torch.no_grad():
            old = agent.policy.get_distribution(batch.observations).distribution.logits.clone()
        agent.train()
        with torch.no_grad():
            new = agent.policy.get_distribution(batch.observations).distribution.logits
        divergence = float((new.exp() * (new - old)).sum(-1).mean())
        assert 1e-4 < divergence < 0.005
        which = batch.actions.flatten()[:, None]
        ratio = (new.gather(1, which) - old.gather(1, which)).exp().flatten()
        advantages = batch.advantages - batch.advantages.mean()
        assert float((advantages * ratio).mean()) > float(advantages.mean())
        head = [weight.detach().clone() for weight in agent.policy.value_net.parameters()]
        after[updates] = ([w.detach().clone() for w in agent.policy.lm.parameters()], head)
    for one, four in zip(after[1][0], after[4][0], strict=True):
        assert torch.equal(one, four)
    assert not all(map(torch.equal, after[1][1], after[4][1]))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_curvature_is_the_fisher_matrix_of_a_part_of_the_texts(lm: str, parts: int) -> None:
    agent = make(lm, fisher_parts=parts, cg_damping=0.0)
    batch = collected(agent)
    drawn, get = [], agent.rollout_buffer.get

    def noted(size: int | None) -> Any:
        for some in get(size):
            drawn.append(some)
            yield some

    agent.rollout_buffer.get = noted  # type: ignore[method-assign, assignment]
    with sdpa_kernel(SDPBackend.MATH):
        new = agent.policy.get_distribution(batch.observations)
        old = CategoricalDistribution(len(WORDS)).proba_distribution(
            new.distribution.logits.detach()
        )
        gain = (batch.advantages * new.log_prob(batch.actions.flatten())).mean()
        kl = kl_divergence(new, old).mean()
        weights, _, slope, _ = actor_gradients(trpo.LanguageTRPO, agent, kl, gain)
        some = drawn[-1] if drawn else batch
        # The longest text has six tokens.
        assert abs(len(some.actions) - len(batch.actions) / parts) <= 6
        torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-6)
        vector = torch.randn_like(slope)
        found = agent.hessian_vector_product(weights, slope, vector)
        # The mean of g g^T over the words that may be drawn, g the gradient of log pi.
        expected = torch.zeros_like(vector)
        for logits in agent.policy.get_distribution(some.observations).distribution.logits:
            for log_prob in logits:
                pieces = torch.autograd.grad(log_prob, weights, retain_graph=True)
                gradient = torch.cat([piece.reshape(-1) for piece in pieces])
                expected += log_prob.exp().detach() * (gradient @ vector) * gradient
    torch.testing.assert_close(found, expected / len(some.actions), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("parts", [0, -1])
def test_an_impossible_number_of_parts_is_refused(lm: str, parts: int) -> None:
    with pytest.raises(SettingsError, match=f"--fisher-parts {parts}"):
        make(lm, fisher_parts=parts)
    with pytest.raises(SettingsError, match=f"fisher_parts={parts}"):
        trpo.LanguageTRPO(LMPolicy, make(lm).env, fisher_parts=parts)


@pytest.mark.parametrize("sampling", [{"top_k": 3}, {"banned_tokens": ["w2"]}])
def test_excluded_tokens_are_refused(lm: str, sampling: dict[str, Any]) -> None:
    venv = make(lm).env
    with pytest.raises(SettingsError, match="top_k, top_p, banned_tokens"):
        trpo.LanguageTRPO(
            LMPolicy, venv, n_steps=8, batch_size=64, device="cpu",
            policy_kwargs={"lm": lm, "sampling": sampling},
        )  # type: ignore[arg-type]  # fmt: skip
