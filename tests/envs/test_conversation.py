"""Episodes of several turns, compared with a reference implementation in plain Python."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

import textgym
from tests.conversations import Parley
from textgym.envs import TextGenEnv, TextGenVectorEnv
from textgym.errors import DataError, SettingsError, TaskError
from textgym.registry import TASKS
from textgym.tasks import Reply, Task
from textgym.testing import check_vector_env
from textgym.testing.vector import assert_same

WORDS = [*Parley.tokenizer, "<eos>"]
EOS = WORDS.index("<eos>")
ID = "TextGen-v0"
BUDGET = Parley.max_new_tokens


class Transcript:
    """One episode, played in plain Python."""

    def __init__(self, prompt: str) -> None:
        self.text = prompt.split()
        self.prompt = len(self.text)
        self.turns: list[list[str]] = [[]]
        self.replies: list[str] = []
        self.paid: list[float] = []

    def step(self, word: str) -> tuple[float, str, dict[str, Any]]:
        """The reward, the finish reason ("" within an episode), and the info of a turn."""
        self.text.append(word)
        if word != "<eos>":
            self.turns[-1].append(word)
            return self.end("length") if len(self.text) == self.prompt + BUDGET else (0.0, "", {})
        said = self.turns[-1]
        if "bye" in said:
            self.paid.append(-0.25)
            return self.end("task", -0.25)
        self.paid.append(0.5 * len(self.turns))
        if len(self.turns) == Parley.max_turns:
            return self.end("task", self.paid[-1])
        reply = ["said", *said[:2], ":"]
        if len(self.text) + len(reply) >= self.prompt + BUDGET:
            return self.end("context", self.paid[-1])
        self.text += reply
        self.replies.append(" ".join(reply))
        self.turns.append([])
        return self.paid[-1], "", {"turn": len(self.turns) - 1, "turn_reward": self.paid[-1]}

    def end(self, reason: str, paid: float = 0.0) -> tuple[float, str, dict[str, Any]]:
        said = [" ".join(turn) for turn in self.turns]
        over = said if reason != "length" else said[:-1]
        written = said if said[-1] or reason != "length" else said[:-1]
        response = "\n".join(written)
        score = min(1.0, response.count("a") / 4)
        report = {
            "response": response,
            "turns": over,
            "replies": self.replies,
            "finish_reason": reason,
            "turn": len(over),
            "reward_terms": {"score": score, "turn_reward": sum(self.paid)},
        }
        if reason != "length":
            report["turn_reward"] = paid
        return score + paid, reason, report


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), eos=st.sampled_from([0.05, 0.3, 0.6]), bye=st.booleans())
def test_an_episode_is_its_transcript(seed: int, eos: float, bye: bool) -> None:
    env = TextGenEnv(prompts=Parley())
    rng = np.random.default_rng(seed)
    obs, info = env.reset(seed=seed)
    assert info["turn"] == 0
    transcript = Transcript(info["prompt"])
    for _ in range(BUDGET):
        word = "<eos>" if rng.random() < eos else WORDS[int(rng.integers(2 + bye))]
        before = obs
        obs, reward, over, truncated, info = env.step(WORDS.index(word))
        expected, reason, report = transcript.step(word)
        assert [WORDS[index] for index in obs[obs >= 0]] == transcript.text
        assert (obs[: (before >= 0).sum()] == before[before >= 0]).all(), "not append-only"
        assert reward == pytest.approx(expected)
        assert over == bool(reason)
        assert not truncated
        found = {name: info[name] for name in report} if over else info
        assert found == report
        if over:
            return
    raise AssertionError("the episode never ends")


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("costs", [False, True])
def test_the_batch_equals_the_loop(mode: AutoresetMode, costs: bool) -> None:
    kwargs: dict[str, Any] = {}
    if costs:
        kwargs["costs"] = {"bye": lambda completions: [float("bye" in c) for c in completions]}
    check_vector_env(ID, prompts=Parley(), num_steps=150, seed=5, autoreset_modes=[mode], **kwargs)
    check_vector_env(
        ID,
        prompts=Parley(),
        num_steps=80,
        autoreset_modes=[mode],
        max_episode_steps=7,
        max_new_tokens=12,
    )


@pytest.mark.filterwarnings("error")
def test_gymnasium_checks_it() -> None:
    check_env(gym.make(ID, prompts=Parley()).unwrapped)


def test_a_step_limit_counts_the_agents_tokens() -> None:
    envs = TextGenVectorEnv(1, prompts=Parley(), max_episode_steps=5)
    envs.reset(seed=0)
    for number in range(5):
        _, _, over, truncated, _ = envs.step(np.array([EOS if number == 1 else 0]))
        assert not over[0]
        assert truncated[0] == (number == 4)


def test_it_goes_on_from_a_saved_state() -> None:
    envs, others = (TextGenVectorEnv(4, prompts=Parley()) for _ in range(2))
    envs.reset(seed=1)
    rng = np.random.default_rng(0)

    def actions() -> Any:
        return np.where(rng.random(4) < 0.4, EOS, rng.integers(0, 2, 4))

    for _ in range(9):
        envs.step(actions())
    state = envs.get_state()
    kept = copy.deepcopy(state)
    others.set_state(state)
    for _ in range(40):
        action = actions()
        assert_same(envs.step(action), others.step(action), "after the state was set")
    assert_same(state, kept, "a state that was taken")


def test_stop_strings_end_turns() -> None:
    env = TextGenEnv(prompts=Parley(), stop=["b b"])
    env.reset(seed=0)
    for word in ("a", "b", "b"):
        obs, reward, over, _, info = env.step(WORDS.index(word))
    assert (reward, over, info["turn"]) == (0.5, False, 1)
    # The agent's "b b" is not found again in the next turn, where the other side says "a".
    assert [WORDS[i] for i in obs[obs >= 0]][3:] == ["a", "b", "b", "said", "a", ":"]
    _, _, over, _, info = env.step(WORDS.index("b"))
    assert not info
    _, reward, over, _, info = env.step(WORDS.index("b"))
    assert (reward, over, info["turn"]) == (1.0, False, 2)


def test_rewards_hear_both_sides() -> None:
    heard = []

    def reward(prompts, completions, turns, replies, completion_ids, **columns):
        heard.extend(zip(completions, turns, replies, completion_ids, strict=True))
        return [1.0] * len(prompts)

    env = TextGenEnv(prompts=Parley(), reward=reward)
    env.reset(seed=0)
    for word in ("a", "b", "<eos>", "bye", "<eos>"):
        *_, info = env.step(WORDS.index(word))
    ids = [WORDS.index(word) for word in ("a", "b", "<eos>", "bye", "<eos>")]
    assert heard == [("a b\nbye", ["a b", "bye"], ["said a b :"], ids)]
    assert info["reward_terms"] == {"reward": 1.0, "turn_reward": 0.25}


def test_what_is_shown_has_both_sides() -> None:
    env = TextGenEnv(prompts=Parley(), render_mode="ansi")
    env.reset(options={"prompt": "go a :"})
    for word in ("b", "<eos>", "a"):
        env.step(WORDS.index(word))
    assert env.render() == "go a : b said b : a"


class Broken(Parley):
    def reply(self, row, turns):
        return {1: Reply("said a :"), 2: Reply("no such word"), 3: Reply("a", reward=np.nan)}[
            len(turns)
        ]


def test_a_broken_reply_changes_nothing() -> None:
    env = TextGenEnv(prompts=Broken())
    env.reset(seed=0)
    env.step(EOS)
    before = env.get_state()
    for _ in range(2):
        with pytest.raises(TaskError, match=r"row 0 .*after turn 2"):
            env.step(EOS)
        assert_same(env.get_state(), before, "a failed step")
    obs, *_ = env.step(0)
    assert [WORDS[i] for i in obs[obs >= 0]][-2:] == [":", "a"]


def test_a_conversation_without_the_other_side() -> None:
    class Mute(Parley):
        reply = Task.reply

    env = TextGenEnv(prompts=Mute())
    env.reset(seed=0)
    with pytest.raises(TaskError, match="defines no reply"):
        env.step(EOS)


def test_names_of_turns_are_reserved() -> None:
    with pytest.raises(DataError, match="'turns'"):
        TextGenEnv(prompts=[{"prompt": "a", "turns": []}])


def test_turns_that_cannot_end_are_refused() -> None:
    with pytest.raises(SettingsError, match="stop_at_eos=False"):
        TextGenEnv(prompts=Parley(), stop_at_eos=False)
    assert TextGenEnv(prompts=Parley(), stop_at_eos=False, stop=["b"]).settings.stops


def test_potentials_read_what_rewards_read() -> None:
    read = []

    def longer(prompts, completions, turns, replies, **columns):
        read.append((completions[0], turns[0], replies[0]))
        return [len(completions[0]) / 10]

    env = TextGenEnv(prompts=Parley(), step_reward=longer)
    env.reset(seed=0)
    total = 0.0
    for word in ("a", "b", "<eos>", "b", "bye", "<eos>"):
        _, reward, _, _, info = env.step(WORDS.index(word))
        total += reward
    assert read == [
        ("", [], []),
        ("a", [], []),
        ("a b", [], []),
        ("a b", ["a b"], []),
        ("a b\nb", ["a b"], ["said a b :"]),
        ("a b\nb bye", ["a b"], ["said a b :"]),
    ]
    # What shaping pays sums up to minus the first potential, which is 0 here.
    assert info["reward_terms"]["step_reward"] == pytest.approx(0.0)
    assert total == pytest.approx(info["reward_terms"]["score"] + 0.25)


class Reader(Parley):
    """Its reply and its score need a column that it adds to rows."""

    id = "TextGen/Reader-v0"

    def complete_row(self, row):
        return {"first": row["prompt"][:1], **row}

    def reply(self, row, turns):
        return Reply(f"said {row['first']} :")

    def score(self, completion, row):
        return float(len(row["turns"]) == 2)


@pytest.mark.parametrize("reward", [None, "distinct"])
def test_the_other_side_reads_the_users_prompts(reward: Any) -> None:
    textgym.register_task(Reader.id, Reader)
    try:
        env = gym.make(Reader.id, prompts=["a go :"], reward=reward)
        env.reset(seed=0)
        obs, _, over, *_ = env.step(EOS)
        assert not over
        assert [WORDS[i] for i in obs[obs >= 0]] == ["a", "go", ":", "<eos>", "said", "a", ":"]
    finally:
        gym.registry.pop(Reader.id)
        TASKS.remove(Reader.id)


def test_a_segment_ends_with_its_turn() -> None:
    """Tokens after the end of a turn are not written into the next one."""
    tokens = np.array([[0, EOS, 1, 1], [0, 1, -1, -1], [EOS, 0, 0, 0]])
    envs = TextGenVectorEnv(3, prompts=Parley(), autoreset_mode="Disabled")
    envs.reset(seed=0)
    result = envs.step_rows(tokens, np.ones(3, dtype=bool))
    written = [[WORDS[i] for i in text[text >= 0]][3:] for text in result.texts]
    assert written == [["a", "<eos>", "said", "a", ":"], ["a", "b"], ["<eos>", "said", ":"]]
    assert result.rewards.tolist() == [0.5, 0.0, 0.5]
