"""The replay buffer against brute force over whole recorded episodes."""

from __future__ import annotations

import copy
import pickle

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

from textgym.errors import SettingsError
from textgym.sb3 import LMReplayBuffer
from textgym.sb3.replay.sum_tree import SumTree
from textgym.storage.value_files import read_values, write_values

SPACE = spaces.Dict(
    {
        "hidden": spaces.Box(-np.inf, np.inf, (3,), np.float32),
        "candidates": spaces.Box(0, 1535, (2,), np.int32),
    }
)
ACTIONS = spaces.Discrete(5)
ROWS = 3


def observation(numbers):
    """Observations that say which they are; exact in float16."""
    numbers = np.asarray(numbers)
    hidden = np.stack([numbers % 2048, numbers // 2048, np.ones_like(numbers)], -1)
    candidates = np.stack([numbers % 1536, numbers // 1536], -1)
    return {"hidden": hidden.astype(np.float32), "candidates": candidates.astype(np.int32)}


def number_of(obs, row=0):
    hidden = obs["hidden"][row].numpy()
    candidates = obs["candidates"][row].numpy()
    number = int(hidden[0] + 2048 * hidden[1])
    assert number == candidates[0] + 1536 * candidates[1]
    return number


class World:
    """Rows of episodes with numbered observations, and a record of everything that happened."""

    def __init__(self, buffer, seed):
        self.buffer, self.rng = buffer, np.random.default_rng(seed)
        self.count = 0
        self.steps = [[] for _ in range(ROWS)]
        self.now = self.new(ROWS)

    def new(self, rows):
        self.count += rows
        return np.arange(self.count - rows, self.count)

    def step(self):
        rng = self.rng
        actions, rewards = rng.integers(5, size=ROWS), rng.integers(-3, 4, ROWS).astype(np.float32)
        dones = rng.random(ROWS) < 0.2
        truncated = dones & (rng.random(ROWS) < 0.4)
        following = self.new(ROWS)
        infos = [{"TimeLimit.truncated": bool(cut)} if done else {}
                 for done, cut in zip(dones, truncated, strict=True)]  # fmt: skip
        self.buffer.add(
            observation(self.now), observation(following), actions, rewards, dones, infos
        )
        for row in range(ROWS):
            self.steps[row].append(
                {
                    "obs": self.now[row],
                    "next": following[row],
                    "action": actions[row],
                    "reward": float(rewards[row]),
                    "end": "cut" if truncated[row] else "over" if dones[row] else None,
                }
            )
        self.now = np.where(dones, self.new(ROWS), following)

    def reset(self):
        """The environment resets all rows in the middle of their episodes."""
        for row in range(ROWS):
            if self.steps[row] and self.steps[row][-1]["end"] is None:
                self.steps[row][-1]["end"] = "cut"
        self.now = self.new(ROWS)

    def expected(self, n_steps, gamma):
        """Every transition in memory, by the number of its observation: walked step by step."""
        found = {}
        size = min(len(self.steps[0]), self.buffer.buffer_size)
        for steps in self.steps:
            for at in range(len(steps) - size, len(steps)):
                total, discount, last = 0.0, 1.0, at
                while True:
                    total += discount * steps[last]["reward"]
                    discount *= gamma
                    if steps[last]["end"] or last + 1 == len(steps):
                        break
                    if n_steps is not None and last - at + 1 == n_steps:
                        break
                    last += 1
                complete = any(step["end"] for step in steps[at:])
                found[steps[at]["obs"]] = (
                    steps[at]["action"], total, steps[last]["end"] == "over", discount,
                    steps[last]["next"], complete,
                )  # fmt: skip
        return found


def check_samples(world, n_steps, gamma):
    expected = world.expected(n_steps, gamma)
    drawn = set()
    for _ in range(12):
        batch = world.buffer.sample(64)
        assert batch.observations["hidden"].dtype == torch.float32
        assert batch.observations["candidates"].dtype == torch.int32
        assert batch.actions.dtype == torch.int64
        for name in ("actions", "rewards", "dones", "discounts"):
            assert getattr(batch, name).shape == (64, 1)
        for at in range(64):
            number = number_of(batch.observations, at)
            action, total, over, discount, following, _ = expected[number]
            drawn.add(number)
            assert batch.actions[at, 0] == action
            assert float(batch.rewards[at, 0]) == pytest.approx(total, abs=1e-4)
            assert float(batch.dones[at, 0]) == over
            assert float(batch.discounts[at, 0]) == pytest.approx(discount, rel=1e-5)
            if not over:
                assert number_of(batch.next_observations, at) == following
    return drawn, expected


@pytest.mark.parametrize("n_steps", [1, 2, 5, None])
@pytest.mark.parametrize("exponent", [0.0, 0.7])
@pytest.mark.parametrize("steps", [4, 29, 75])
def test_samples_are_those_of_brute_force(n_steps, exponent, steps):
    """Before and after the ring is full, across ends, cuts, resets and the newest step."""
    buffer = LMReplayBuffer(
        30 * ROWS, SPACE, ACTIONS, "cpu", ROWS, n_steps=n_steps, gamma=0.9,
        priority_exponent=exponent,
    )  # fmt: skip
    buffer.scorer = lambda samples: torch.ones(len(samples.dones))
    np.random.seed(steps)
    world = World(buffer, seed=steps)
    for step in range(steps):
        if step in (17, 53):
            world.reset()
        world.step()
    assert buffer.size() == min(steps, 30)
    drawn, expected = check_samples(world, n_steps, gamma=0.9)
    possible = {number for number, (*_, complete) in expected.items() if complete}
    if n_steps is None and possible:
        assert drawn <= possible
        assert len(drawn) > 0.95 * len(possible)
    else:
        assert len(drawn) > 0.95 * len(expected)


def test_a_terminal_reward_reaches_the_first_token_at_once():
    buffer = LMReplayBuffer(100, SPACE, ACTIONS, "cpu", 1, n_steps=None, gamma=1.0)
    for at in range(40):
        last = at == 39
        buffer.add(observation([at]), observation([at + 1]), np.array([0]),
                   np.array([0.75 * last]), np.array([last]), [{}])  # fmt: skip
    batch = buffer.sample(300)
    assert (batch.rewards == 0.75).all()
    assert (batch.dones == 1).all()
    assert len({number_of(batch.observations, at) for at in range(300)}) > 35


def test_episodes_longer_than_the_buffer():
    buffer = LMReplayBuffer(10, SPACE, ACTIONS, "cpu", 1, n_steps=None, gamma=1.0,
                            priority_exponent=0.5)  # fmt: skip
    buffer.scorer = lambda samples: torch.ones(len(samples.dones))
    for at in range(25):
        buffer.add(observation([at]), observation([at + 1]), np.array([0]), np.array([1.0]),
                   np.array([at == 24]), [{}])  # fmt: skip
    batch = buffer.sample(200)
    for at in range(200):
        assert batch.rewards[at, 0] == 25 - number_of(batch.observations, at)
    buffer.reset()
    assert buffer.size() == 0
    with pytest.raises(SettingsError, match="empty"):
        buffer.sample(1)


def test_uniform_draws_are_uniform():
    """Rows whose last episode is still open have fewer transitions; each of all is as likely."""
    buffer = LMReplayBuffer(60, SPACE, ACTIONS, "cpu", 3, n_steps=None, gamma=1.0)
    world = World(buffer, seed=5)
    for _ in range(18):
        world.step()
    np.random.seed(0)
    possible = [n for n, (*_, complete) in world.expected(None, 1.0).items() if complete]
    batch = buffer.sample(20_000)
    counts = np.bincount([number_of(batch.observations, at) for at in range(20_000)])
    share = 20_000 / len(possible)
    assert np.abs(counts[possible] - share).max() < 6 * np.sqrt(share)


def test_priorities_are_proportional_to_errors():
    """A scorer with known errors: after each was seen, draws follow |error|**alpha."""
    alpha, size = 0.6, 24
    buffer = LMReplayBuffer(size, SPACE, ACTIONS, "cpu", 1, priority_exponent=alpha)
    for at in range(size):
        buffer.add(observation([at]), observation([at + 1]), np.array([0]), np.array([0.0]),
                   np.array([False]), [{}])  # fmt: skip
    # Of either sign, and the first is 0: it is still drawn now and then.
    errors = np.linspace(0.0, 3.0, size) * np.where(np.arange(size) % 2, 1, -1)

    def scorer(samples):
        numbers = [number_of(samples.observations, at) for at in range(len(samples.actions))]
        return torch.tensor(errors[numbers])

    buffer.scorer = scorer
    np.random.seed(1)
    buffer.sample(2000)  # New ones come first: they have the largest priority.
    batch = buffer.sample(60_000)
    counts = np.bincount(
        [number_of(batch.observations, at) for at in range(60_000)], minlength=size
    )
    weights = (np.abs(errors) + 1e-3) ** alpha
    expected = 60_000 * weights / weights.sum()
    assert np.all(np.abs(counts - expected) < 6 * np.sqrt(expected) + 1)
    assert counts[0] > 0


def test_new_transitions_are_drawn_as_often_as_the_most_surprising():
    buffer = LMReplayBuffer(8, SPACE, ACTIONS, "cpu", 1, priority_exponent=1.0)
    step = (np.array([0]), np.array([0.0]), np.array([False]), [{}])
    for at in range(4):
        buffer.add(observation([at]), observation([at + 1]), *step)
    errors = torch.tensor([1.0, 2.0, 4.0, 9.0])
    buffer.scorer = lambda s: errors[[number_of(s.observations, at) for at in range(len(s.dones))]]
    buffer.sample(200)
    errors = torch.tensor([1.0, 2.0, 4.0, 9.0, 9.0])
    buffer.add(observation([4]), observation([5]), *step)
    np.random.seed(2)
    batch = buffer.sample(25_000)
    counts = np.bincount([number_of(batch.observations, at) for at in range(25_000)])
    np.testing.assert_allclose(counts, 1000 * np.array([1, 2, 4, 9, 9]), rtol=0.2)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.floats(0, 10)), min_size=1, max_size=40),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_the_sum_tree_is_a_running_sum(changes, shares):
    tree, weights = SumTree(13), np.zeros(13)
    for leaf, weight in changes:
        weights[leaf] = weight
        tree.set(np.array([leaf]), np.array([weight]))
    assert tree.total == pytest.approx(weights.sum())
    if tree.total > 0:
        targets = np.array(shares) * tree.total
        found = tree.find(targets)
        assert (weights[found] > 0).all()
        upto = np.concatenate([[0.0], weights.cumsum()])
        assert (upto[found] <= targets + 1e-9).all()
        assert (targets <= upto[found + 1] + 1e-9).all()


def test_a_transition_of_the_built_in_model_costs_a_few_hundred_bytes():
    d, k, size = 192, 8, 1000
    space = spaces.Dict(
        {
            "hidden": spaces.Box(-np.inf, np.inf, (d,), np.float32),
            "candidates": spaces.Box(0, 1535, (k,), np.int32),
            "logprobs": spaces.Box(-np.inf, 0.0, (k,), np.float32),
        }
    )
    buffer = LMReplayBuffer(size, space, spaces.Discrete(k), "cpu", 4)
    # float16 hidden states and log-probabilities, 16-bit ids; action, end, float32 reward.
    assert buffer.bytes_per_transition == 2 * d + 2 * k + 2 * k + 1 + 1 + 4 == 422
    assert len(pickle.dumps(buffer)) < 430 * size
    full = LMReplayBuffer(size, space, spaces.Discrete(k), "cpu", 4, half=False)
    assert full.bytes_per_transition == 422 + 2 * d + 2 * k


def test_rounding_is_that_of_float16():
    space = spaces.Dict({"x": spaces.Box(-np.inf, np.inf, (4,), np.float32)})
    values = np.array([[0.1, -np.inf, 3.14159, 1e-5]], np.float32)
    step = (np.array([0]), np.array([0.0]), np.array([False]), [{}])
    for half, rtol in ((True, 2**-11), (False, 0.0)):
        buffer = LMReplayBuffer(4, space, ACTIONS, "cpu", 1, half=half)
        buffer.add({"x": values}, {"x": values + 1}, *step)
        batch = buffer.sample(1)
        np.testing.assert_allclose(batch.observations["x"], values, rtol=rtol, atol=1e-7 * half)
        np.testing.assert_allclose(batch.next_observations["x"], values + 1, rtol=rtol)
    buffer = LMReplayBuffer(4, space, ACTIONS, "cpu", 1)
    with pytest.raises(SettingsError, match="half=False"):
        buffer.add({"x": values * 1e6}, {"x": values}, *step)


def test_what_is_stored_is_a_copy():
    buffer = LMReplayBuffer(4, SPACE, ACTIONS, "cpu", 1)
    now, following = observation([1]), observation([2])
    buffer.add(now, following, np.array([0]), np.array([0.0]), np.array([False]), [{}])
    now["hidden"][:] = following["hidden"][:] = 77
    batch = buffer.sample(1)
    assert (number_of(batch.observations), number_of(batch.next_observations)) == (1, 2)


def empty_agent():
    """A DQN with priorities, in an environment that is never used."""

    class Nothing(gymnasium.Env):
        observation_space, action_space = SPACE, ACTIONS

    return DQN(
        "MultiInputPolicy", DummyVecEnv([Nothing] * ROWS), buffer_size=30 * ROWS, gamma=0.9,
        replay_buffer_class=LMReplayBuffer, seed=0, device="cpu",
        replay_buffer_kwargs={"n_steps": None, "gamma": 0.9, "priority_exponent": 0.7},
    )  # fmt: skip


def by_number(samples):
    numbers = [number_of(samples.observations, at) for at in range(len(samples.dones))]
    return torch.tensor([float(number % 7) for number in numbers])


@pytest.mark.parametrize("way", ["pickled by SB3", "written in a checkpoint"])
@pytest.mark.parametrize("steps", [11, 43])
def test_saved_and_loaded_it_goes_on_as_it_was(steps, way, tmp_path):
    """The same draws, priorities and later steps."""
    agent, other = empty_agent(), empty_agent()
    agent.replay_buffer.scorer = by_number
    world = World(agent.replay_buffer, seed=1)
    for _ in range(steps):
        world.step()
    agent.replay_buffer.sample(50)
    if way == "pickled by SB3":
        agent.save_replay_buffer(tmp_path / "buffer")
        other.load_replay_buffer(tmp_path / "buffer")
    else:
        write_values(tmp_path / "buffer", agent.replay_buffer.get_state())
        other.replay_buffer.set_state(read_values(tmp_path / "buffer"))
    with pytest.raises(SettingsError, match="td_errors"):
        other.replay_buffer.sample(4)
    other.replay_buffer.scorer = by_number
    assert other.replay_buffer.size() == min(steps, 30)
    twin = copy.deepcopy(world)
    twin.buffer = other.replay_buffer
    for _ in range(25):
        drawn = []
        for each in (world, twin):
            each.step()
            np.random.seed(3)
            drawn.append(each.buffer.sample(40))
        for one, two in zip(*drawn, strict=True):
            for key in one if isinstance(one, dict) else [...]:
                assert torch.equal(one[key], two[key])
    check_samples(twin, None, 0.9)


def test_priorities_without_a_scorer_are_refused():
    buffer = LMReplayBuffer(10, SPACE, ACTIONS, "cpu", 1, priority_exponent=0.5)
    step = (np.array([0]), np.array([0.0]), np.array([False]), [{}])
    buffer.add(observation([1]), observation([2]), *step)
    with pytest.raises(SettingsError, match=r"priority_exponent=0\.5.*scorer"):
        buffer.sample(1)
    buffer.scorer = lambda samples: torch.ones(1)
    assert buffer.sample(1).rewards == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"observation_space": spaces.Box(-1, 9, (4,), np.int32)}, "TopKActions"),
        ({"action_space": spaces.Box(-1, 1, (1,))}, "Discrete"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"priority_exponent": -1.0}, "priority_exponent=-1"),
        ({"optimize_memory_usage": True}, "optimize_memory_usage"),
    ],
)
def test_wrong_arguments(wrong, message):
    arguments = {"observation_space": SPACE, "action_space": ACTIONS, "device": "cpu", **wrong}
    with pytest.raises(SettingsError, match=message):
        LMReplayBuffer(10, **arguments)
