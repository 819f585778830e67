"""collect: what it returns is what happened in the environment, of every kind."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import BaseBuffer

import textgym.rollouts
from tests.rollouts.recorded import KINDS, actions_of, make_env, make_policy, write_lm
from textgym.errors import SettingsError
from textgym.rollouts import Episodes, Rollout, Step, collect
from textgym.sb3 import LMRolloutBuffer, make_vec_env


@pytest.fixture(scope="session")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    root: Path = tmp_path_factory.mktemp("models")

    def get(kind: str) -> str:
        name = kind if kind in ("turns", "pictures") else "plain"
        folder = root / name
        return str(folder) if folder.exists() else write_lm(name, folder)

    return get


class Predicts:
    """An agent with nothing but `predict`, whose state counts the steps of each row's episode."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic=False
    ) -> tuple[Any, Any]:
        rows = len(episode_start)
        state = np.where(episode_start, 0, np.zeros(rows) if state is None else state + 1)
        self.state = state
        return self.policy.predict(observation, deterministic=deterministic)[0], state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per_row", [1, 3])
@pytest.mark.parametrize("how", ["rest", "write on", "predict"])
def test_episodes_are_those_that_happened(kind: str, per_row: int, how: str, lm: Any) -> None:
    venv = make_env(kind)
    policy = make_policy(venv, kind, lm(kind))
    agent = Predicts(policy) if how == "predict" else policy
    for _ in range(2):
        found = collect(venv, agent, episodes_per_row=per_row, rest=how == "rest")
        expected, ends = venv.episodes(per_row)
        assert actions_of(found) == expected
        assert len(found) == per_row * 6
        assert found.lengths.tolist() == [len(actions) for actions in expected]
        assert list(found.responses) == [end["response"] for end in ends]
        assert list(found.prompts) == [end["prompt"] for end in ends]
        assert [info["finish_reason"] for info in found.infos] == [
            end["finish_reason"] for end in ends
        ]
        returns = [sum(action.reward for action in actions) for actions in expected]
        assert found.returns.tolist() == pytest.approx(returns)
        steps = max(
            sum(len(expected[at]) for at in range(row, len(expected), 6)) for row in range(6)
        )
        assert len(venv.steps) == steps, "it is over with the last row"
        if how == "predict":
            assert found.log_probs.isnan().all()
            assert found.values.isnan().all()
            continue
        values, log_probs, _ = policy.evaluate_actions(found.sequences, found.actions)
        torch.testing.assert_close(log_probs, found.log_probs, atol=1e-5, rtol=0)
        torch.testing.assert_close(values[:, 0], found.values, atol=1e-5, rtol=0)
        assert found.values.abs().min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_buffer_stores_the_same_episodes(kind: str, lm: Any) -> None:
    """The same seed, once by `collect` and once by steps that are added to `LMRolloutBuffer`."""
    venv = make_env(kind)
    policy = make_policy(venv, kind, lm(kind))
    venv.seed(7)
    torch.manual_seed(11)
    episodes = collect(venv, policy, rest=False)
    steps = len(venv.steps)

    policy = make_policy(venv, kind, lm(kind))  # Nothing decoded yet, so all bits are the same.
    venv.seed(7)
    torch.manual_seed(11)
    buffer = LMRolloutBuffer(
        steps, venv.observation_space, venv.action_space, "cpu", n_envs=6, gamma=1.0
    )
    obs, starts = venv.reset(), np.ones(6, bool)
    for _ in range(steps):
        with torch.no_grad():
            tensors = policy.obs_to_tensor(obs)[0]
            actions, values, log_probs = policy(tensors)
        new, rewards, dones, _ = venv.step(actions.numpy())
        buffer.add(obs, actions.numpy(), rewards, starts, values, log_probs)
        obs, starts = new, dones
    buffer.compute_returns_and_advantage(torch.zeros(6, 1), dones)
    (sample,) = buffer.get(None)

    def decisions(batch: Any, actions: Any, log_probs: Any) -> list[Any]:
        texts = batch.observations(0, len(actions)).tolist()
        images = [b"" if batch.images is None else batch.images[row].numpy().tobytes()
                  for row in batch.rows.tolist()]  # fmt: skip
        kept = [()] * len(texts) if batch.kept is None else map(tuple, batch.kept.mask().tolist())
        written = [tuple(token for token in text if token >= 0) for text in texts]
        numbers = zip(actions.flatten().tolist(), log_probs.tolist(), strict=True)
        return sorted(zip(written, images, kept, numbers, strict=True))

    ours = decisions(episodes.sequences, episodes.actions, episodes.log_probs)
    first = np.cumsum(buffer.episode_starts, 0) == 1  # Each row's first episode.
    assert first.sum() == len(ours)
    everything = decisions(sample.observations, sample.actions, sample.old_log_prob)
    # As many times as ours, at least: later episodes may repeat a text.
    for decision in ours:
        everything.remove(decision)
    assert len(everything) == first.size - first.sum()
    assert isinstance(buffer, BaseBuffer)


def test_the_likeliest_action(lm: Any) -> None:
    venv = make_env("plain")
    policy = make_policy(venv, "plain", lm("plain"))
    for agent in (policy, Predicts(policy)):
        found = collect(venv, agent, deterministic=True)
        batch = found.sequences
        texts = batch.observations(0, len(found.actions))
        best = policy.get_distribution(texts).distribution.probs.argmax(-1)
        assert torch.equal(found.actions, best)


def test_an_agent_sees_every_step(lm: Any) -> None:
    """Its state is handed on, and episode starts too: also in rows that are done."""
    venv = make_env("plain")
    agent = Predicts(make_policy(venv, "plain", lm("plain")))
    seen = []
    predict = agent.predict

    def spy(observation: Any, state: Any = None, episode_start: Any = None, **more: Any) -> Any:
        seen.append((observation.copy(), state, episode_start.copy()))
        return predict(observation, state, episode_start, **more)

    agent.predict = spy  # type: ignore[method-assign]
    collect(venv, agent)
    assert seen[0][1] is None
    assert seen[0][2].all()
    for (obs, *_), (_, state, starts), (shown, _, _, dones, _) in zip(
        seen, seen[1:], venv.steps, strict=False
    ):
        assert (obs == shown).all()
        assert state is not None
        assert (starts == dones).all()


def test_rows_that_rest_show_what_was_read(lm: Any) -> None:
    """The policy is asked for them again, and the environment gets a filler."""
    venv = make_env("plain", 16)
    policy = make_policy(venv, "plain", lm("plain"))
    rollout = Rollout(venv, policy, episodes_per_row=1)
    rollout.reset()
    judged = 0
    while rollout.active.any():
        before, active = rollout.observations.copy(), rollout.active.copy()
        step = rollout.step()
        _, actions, _, dones, _ = venv.steps[-1]
        assert (actions[~active] == 0).all()
        assert (rollout.observations[~rollout.active] == before[~rollout.active]).all()
        assert (step.dones == (dones & active)).all()
        assert all(not info for info, writes in zip(step.infos, active, strict=True) if not writes)
        assert (step.rewards[~active] == 0).all()
        judged += int((dones & ~active).sum())
    assert judged == 0, "with one episode per row, no filler is judged"


def test_a_filler_ends_no_text(lm: Any, tmp_path: Path) -> None:
    words = ["<eos>", "a", "b"]
    venv = make_env("plain", 8, tokenizer=["<eos>", "a", "b"])
    assert venv.get_attr("tokenizer")[0].eos_id == 0
    write_lm("plain", tmp_path / "lm")
    from tests.lm.checkpoints import write_tokenizer

    write_tokenizer(tmp_path / "lm", words)
    policy = make_policy(venv, "plain", str(tmp_path / "lm"))
    collect(venv, policy)
    assert any((actions == 1).any() for _, actions, *_ in venv.steps)


def test_callbacks_hear_of_every_step_and_can_stop(lm: Any) -> None:
    venv = make_env("plain")
    policy = make_policy(venv, "plain", lm("plain"))
    heard: list[Step] = []

    def listen(step: Step) -> bool:
        heard.append(step)
        return len(heard) != 3

    assert collect(venv, policy, on_step=listen) is None
    assert len(venv.steps) == 3
    episodes = collect(venv, policy, episodes_per_row=2, on_step=listen)
    assert episodes is not None
    assert len(heard) == 3 + len(venv.steps)
    assert sum(int(step.dones.sum()) for step in heard[3:]) == 12
    ends = [step.infos[row]["response"] for step in heard[3:] for row in np.flatnonzero(step.dones)]
    assert sorted(ends) == sorted(episodes.responses)


def test_costs_are_summed(lm: Any) -> None:
    costs = {"a": lambda prompts, completions, **_: [float(c.count("a")) for c in completions]}
    venv = make_env("plain", costs=costs)
    episodes = collect(venv, make_policy(venv, "plain", lm("plain")))
    expected = [response.count("a") for response in episodes.responses]
    assert episodes.sums(episodes.costs).tolist() == expected
    assert sum(expected) > 0


def test_groups(lm: Any) -> None:
    venv = make_env("plain", 8, group_size=4)
    policy = make_policy(venv, "plain", lm("plain"))
    episodes = collect(venv, policy, group_size=4, episodes_per_row=2)
    for first in range(0, 16, 4):
        assert len(set(episodes.prompts[first : first + 4])) == 1
    for size, words in ((8, "group_size=8"), (3, "group_size=3"), (0, "group_size=0")):
        with pytest.raises(SettingsError, match=words):
            collect(venv, policy, group_size=size)
    with pytest.raises(SettingsError, match="episodes_per_row=0"):
        collect(venv, policy, episodes_per_row=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_without_an_end(kind: str, lm: Any) -> None:
    """Episodes are taken when they are complete, each once, and the others are continued."""
    venv = make_env(kind)
    policy = make_policy(venv, kind, lm(kind))
    rollout = Rollout(venv, policy)
    rollout.reset()
    with pytest.raises(ValueError, match="no episode is complete"):
        rollout.take()
    parts: list[Episodes] = []
    numbers: list[int] = []
    while len(numbers) < 40:
        rollout.step()
        assert rollout.active.all()
        if len(parts) == 3:
            state, rollout = copy.deepcopy(rollout.get_state()), Rollout(venv, policy)
            rollout.set_state(state)
        if len(rollout.complete) >= 4:
            some = list(rollout.complete)[:3]
            numbers += some
            parts.append(rollout.take(some))
    assert len(set(numbers)) == len(numbers)
    joined = Episodes.concatenate(parts)
    expected, ends = venv.episodes(1 + min(numbers) // 6)
    found = dict(zip(numbers, zip(actions_of(joined), joined.infos, strict=True), strict=True))
    compared = 0
    for number, (actions, end) in enumerate(zip(expected, ends, strict=True)):
        if number in found:
            assert found[number][0] == actions
            info = found[number][1]  # Empty if it was complete when the state was taken.
            assert not info or info["response"] == end["response"]
            compared += 1
    assert compared > 0


def test_observations_that_are_not_texts(lm: Any) -> None:
    from textgym.wrappers import TopKActions

    venv = make_vec_env(
        "TextGen-v0", 4, 0, prompts=["a", "b"], tokenizer=["a", "b", "<eos>"], max_prompt_tokens=2,
        max_new_tokens=4, wrapper=lambda envs: TopKActions(envs, lm=lm("plain"), k=2, device="cpu"),
    )  # fmt: skip

    class First:
        def predict(self, observation: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            assert observation["candidates"].shape == (4, 2)
            return np.zeros(4, np.int64), None

    episodes = collect(venv, First())
    assert episodes.sequences is None
    assert len(episodes.responses) == 4
    assert episodes.actions.tolist() == [0] * int(episodes.lengths.sum())


def test_the_example_runs() -> None:
    code = textwrap.dedent((textgym.rollouts.__doc__ or "").split("::\n", 1)[1])
    assert "collect(venv, policy)" in code
    exec(compile(code, "example", "exec"), {})


def test_what_is_not_a_vec_env_or_a_policy_is_refused(lm: Any) -> None:
    venv = make_vec_env("TextGen/GoodBad-v0", 2, seed=0)
    envs = gymnasium.make_vec("TextGen/GoodBad-v0", num_envs=2)
    for wrong in (envs, "TextGen/GoodBad-v0"):
        with pytest.raises(SettingsError, match="make_vec_env"):
            collect(wrong, lambda obs, deterministic: None)
    with pytest.raises(SettingsError, match="LMPolicy"):
        collect(venv, "textgym/tiny")
