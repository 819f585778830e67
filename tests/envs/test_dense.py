"""``dense=True``: a task's own potentials, against potentials that are computed at every token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from tests.envs.test_chat import tokenizer as chat_tokenizer
from textgym.envs import TextGenEnv, TextGenVectorEnv
from textgym.errors import RewardError, SettingsError
from textgym.tasks import Task, make_task
from textgym.tasks.registry import built_in_tasks
from textgym.testing import check_vector_env
from textgym.tokenization import MarkedTokens, load_tokenizer

DENSE = [id for id in built_in_tasks() if type(make_task(id)).potential is not Task.potential]


# ------------------------------------------------------------------ built-in tasks


def tokens_of(env: TextGenEnv, turns: Sequence[str], share: float, seed: int) -> list[int]:
    """The tokens of a text's turns, with eos; this share of them is replaced by others."""
    tokenizer, rng = env.tokenizer, np.random.default_rng(seed)
    ids: list[int] = []
    for turn in turns:
        own = tokenizer.encode if tokenizer.separator else tokenizer.encode_continuation
        ids += [*own(turn), *([] if tokenizer.eos_id is None else [tokenizer.eos_id])]
    return [int(rng.integers(tokenizer.vocab_size)) if rng.random() < share else id for id in ids]


class Text:
    """The text of an episode so far, and the task's potential of it, without the environment's."""

    def __init__(self, env: TextGenEnv, task: Task, row: Mapping[str, Any], obs: Any) -> None:
        self.env, self.task, self.row = env, task, row
        self.turns: list[str] = []
        self.replies: list[str] = []
        self.start(obs)

    def start(self, obs: Any) -> None:
        """Start a turn behind an observation."""
        tokens = obs["tokens"] if isinstance(obs, dict) else obs
        self.before, self.ids = tokens[tokens >= 0].tolist(), []

    def add(self, token: int, obs: Any) -> None:
        """Add a token, and the reply to a turn that it ends."""
        self.ids.append(token)
        if self.task.max_turns > 1 and token == self.env.tokenizer.eos_id:
            self.turns.append(self.env.tokenizer.continuation(self.ids[:-1], self.before))
            self.replies.append(self.task.reply(self.row, self.turns).text)
            self.start(obs)

    def phi(self) -> float:
        text, row = self.env.tokenizer.continuation(self.ids, self.before), dict(self.row)
        if self.task.max_turns > 1:
            text = "\n".join([*self.turns, text])
            row |= {"turns": self.turns, "replies": self.replies}
        (value,) = self.task.potential([text], [row])
        return value


@pytest.mark.parametrize(
    ("id", "gamma"),
    [
        *[(id, 1.0) for id in DENSE],
        *[(f"TextGen/{name}-v0", 0.9) for name in ("Story", "Dialogue")],
    ],
)
def test_every_step_is_the_closed_form_and_the_sum_telescopes(id: str, gamma: float) -> None:
    """It makes no difference that the environment computes potentials after some tokens only."""
    task, rng = make_task(id), np.random.default_rng(1)
    plain = TextGenEnv(task=id)
    dense = TextGenEnv(task=id, dense=True, step_reward_gamma=gamma)
    paid_early = 0
    for episode in range(8):
        row = task.sample(rng)
        plain.reset(options={"row": row})
        obs, _ = dense.reset(options={"row": row})
        oracle = task.oracle(row)
        turns = oracle.split("\n") if task.max_turns > 1 else [oracle]
        written = tokens_of(dense, turns, 0.1 * (episode % 2), episode)
        text = Text(dense, task, row, obs)
        start = before = text.phi()
        discounted, step, over = 0.0, 0, False
        while not over:
            token = written[step] if step < len(written) else int(rng.integers(3))
            _, reward, over, _, last = plain.step(token)
            obs, shaped, ended, _, info = dense.step(token)
            assert ended == over
            text.add(token, obs)
            after = 0.0 if over else text.phi()
            assert shaped - reward == pytest.approx(gamma * after - before, abs=1e-9)
            paid_early += after != before and not over
            discounted += gamma**step * (shaped - reward)
            before, step = after, step + 1
        assert discounted == pytest.approx(-start, abs=1e-9)
        total = info["reward_terms"].pop("step_reward")
        assert info["reward_terms"] == pytest.approx(last["reward_terms"], nan_ok=True)
        assert gamma < 1 or total == pytest.approx(-start, abs=1e-9)
    assert paid_early


@pytest.mark.parametrize("name", ["Story", "Dialogue", "Probe-LongHorizon"])
def test_the_batch_equals_the_loop(name: str) -> None:
    arguments = {"dense": True, "step_reward_gamma": 0.9}
    check_vector_env(f"TextGen/{name}-v0", num_envs=3, num_steps=20, **arguments)  # type: ignore[arg-type]


def test_parts_of_an_oracle_are_paid_as_they_are_written() -> None:
    """Story, level 1: four events of which the first sentence has two, by the documented score."""
    row = {
        "prompt": "Words: weep, barn, shell.\n"
        "Last winter, Adam and Alice were in the orchard. There was a shell in the orchard."
    }
    env = TextGenEnv(task="TextGen/Story-v0", dense=True)
    env.reset(options={"prompt": row["prompt"]})
    found = []
    for sentence in (
        " Alice grabbed the shell and gave it to Adam.",
        " Adam walked to the barn.",
        " Alice wept.",
    ):
        rewards = [env.step(token)[1] for token in env.tokenizer.encode_continuation(sentence)]
        assert rewards[:-1] == [0.0] * len(rewards[:-1])
        found.append(rewards[-1])
    score = [0.0, (0.2 + 0.8 / 3) * 2 / 4 * 2 / 3, (0.2 + 0.8 * 2 / 3) * 3 / 4, 1.0]
    assert found == pytest.approx(np.diff(score))
    assert env.step(env.tokenizer.eos_id)[1] == 0.0, "it is paid already"


# ------------------------------------------------------------------ a task of a user


class Spell(Task):
    """Write words; the potential is an arbitrary function of the complete sentences."""

    id = "TextGen/Spell-v0"
    max_prompt_tokens = 2
    max_new_tokens = 4
    cheat_ceiling = 1.0
    disjoint_splits = False
    tokenizer = ("a", "b", ".")

    def generate(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"prompt": "ab"[int(rng.integers(2))], "reference": "a", "bonus": 0.5}

    def judge(self, text: str, row: Mapping[str, Any]) -> float:
        return (text.count(row["prompt"]) + text.count("a . b")) / 6

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        sentences = [text.rpartition(".")[0] for text in texts]
        return [
            row["bonus"] + 2 * text.count("b") - 0.7 * len(text) * (row["prompt"] == "a")
            for text, row in zip(sentences, rows, strict=True)
        ]


def make(num_envs: int = 3, **options: Any) -> TextGenVectorEnv:
    return TextGenVectorEnv(num_envs, prompts=Spell(), dense=True, **options)


@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_the_best_policy_stays_the_best(gamma: float) -> None:
    """Values of all texts by backward induction: the potential shifts them and nothing else."""

    @cache
    def value(written: tuple[int, ...], prompt: str, dense: bool) -> tuple[float, frozenset[int]]:
        """The value of a text under the best policy, and the best tokens."""
        env = TextGenEnv(prompts=Spell(), dense=dense, step_reward_gamma=gamma)
        values = {}
        for token in range(int(env.action_space.n)):  # type: ignore[attr-defined]
            env.reset(options={"row": {"prompt": prompt, "bonus": 0.5}})
            for earlier in written:
                env.step(earlier)
            _, reward, over, _, _ = env.step(token)
            values[token] = float(reward)
            if not over:
                values[token] += gamma * value((*written, token), prompt, dense)[0]
        best = max(values.values())
        return best, frozenset(token for token in values if values[token] > best - 1e-9)

    task = Spell()
    for prompt in "ab":
        for written in [(), (0,), (0, 2), (0, 2, 1), (1, 1, 2), (2,)]:
            plain, best = value(written, prompt, False)
            shaped, tokens = value(written, prompt, True)
            text = " ".join("ab."[token] for token in written)
            (potential,) = task.potential([text], [{"prompt": prompt, "bonus": 0.5}])
            assert tokens == best
            assert shaped == pytest.approx(plain - potential)


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_a_restored_environment_continues_bit_for_bit(mode: AutoresetMode) -> None:
    def play(env: TextGenVectorEnv, seed: int) -> list[Any]:
        rng, found = np.random.default_rng(seed), []
        for _ in range(9):
            over = env.get_state()["over"]
            if mode is AutoresetMode.DISABLED and over.any():
                env.reset(options={"reset_mask": over})
            found.append(env.step(rng.integers(0, 4, 3))[1].tolist())
        return found

    env, other = make(autoreset_mode=mode), make(autoreset_mode=mode)
    env.reset(seed=5)
    play(env, 0)
    other.reset(seed=9)
    other.set_state(env.get_state())
    assert play(env, 1) == play(other, 1)
    sparse = TextGenVectorEnv(3, prompts=Spell(), autoreset_mode=mode)
    sparse.reset(seed=5)
    with pytest.raises(SettingsError, match="step_reward was"):
        sparse.set_state(env.get_state())


def test_potentials_are_computed_where_they_can_change_in_one_call() -> None:
    calls: list[list[str]] = []

    class Counted(Spell):
        def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
            calls.append(list(texts))
            return super().potential(texts, rows)

    envs = TextGenVectorEnv(3, prompts=Counted(), dense=True)
    envs.reset(seed=0)
    assert calls == [["", "", ""]]
    for actions in ([0, 1, 2], [2, 2, 0], [0, 1, 3]):
        envs.step(actions)
    assert calls[1:] == [["."], ["a .", "b ."]]


def test_shaping_is_added_to_any_reward() -> None:
    arguments: dict[str, Any] = {"prompts": Spell(), "reward": {"distinct": 3.0}}
    envs = [TextGenEnv(**arguments, dense=dense) for dense in (False, True)]
    for env in envs:
        env.reset(seed=0)
    found = [[env.step(token)[1] for token in (1, 2, 0, 2)] for env in envs]
    assert sum(found[1]) == pytest.approx(sum(found[0]) - 0.5)
    assert found[1] != found[0]


def test_prompts_of_a_user_are_completed() -> None:
    """The reward needs no columns, the potential does."""
    prompt = make_task("TextGen/Story-v0").item(0)["prompt"]
    env = TextGenEnv(task="TextGen/Story-v0", prompts=[prompt], reward="distinct", dense=True)
    env.reset(seed=0)
    oracle = make_task("TextGen/Story-v0").item(0)["reference"].split(".")[0] + "."
    rewards = [env.step(token)[1] for token in env.tokenizer.encode_continuation(oracle)]
    assert sum(rewards) > 0.1


def test_conversations_are_judged_at_the_end_of_a_turn() -> None:
    """A right booking at once: all of the score but the half for the final question."""
    task = make_task("TextGen/Dialogue-v0")
    row = next(row for row in map(task.item, range(20)) if row["stages"][-1]["ask"])
    env = TextGenEnv(task="TextGen/Dialogue-v0", dense=True)
    env.reset(options={"row": row})
    first, second = task.oracle(row).split("\n")
    rewards = [env.step(token)[1] for token in env.tokenizer.encode_continuation(first)]
    assert rewards == [0.0] * len(rewards)
    assert env.step(env.tokenizer.eos_id)[1] == pytest.approx(0.5 + 0.1)  # and the stage's 0.1
    rewards = [env.step(token)[1] for token in env.tokenizer.encode_continuation(second)]
    assert rewards == [0.0] * len(rewards)
    _, reward, over, _, info = env.step(env.tokenizer.eos_id)
    assert over
    assert reward == pytest.approx(0.5 + 0.1)
    assert info["reward_terms"]["score"] == 1.0


# ------------------------------------------------------------------ marks, and errors


def test_marked_tokens() -> None:
    tokenizer = load_tokenizer(["a", "b.", "c", ",", "<eos>"])
    marked = MarkedTokens(tokenizer, ".,")
    assert marked.among(np.array([0, 1, 1, 2, 3, 0])).tolist() == [
        False,
        True,
        True,
        False,
        True,
        False,
    ]
    tiny = load_tokenizer(None)
    ids = np.array(tiny.encode("It rains, he said.\nYes \u3002"))
    texts = [tiny.decode([id]) for id in ids.tolist()]
    expected = [any(mark in text for mark in ".,\n\u3002\ufffd") for text in texts]
    assert MarkedTokens(tiny, ".,\n\u3002").among(ids).tolist() == expected
    assert any(expected)
    assert not all(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": ["the cat"]}, r"TextGen-v0: dense=True, but there is no task.*step_reward="),
        ({"task": "TextGen/QA-v0"}, r"QA-v0.*dense=True.*cannot judge.*potential\(texts, rows\)"),
        ({"prompts": Spell(), "step_reward": "distinct"}, "dense=True and step_reward='distinct'"),
        ({"prompts": Spell(), "dense": "yes"}, "dense='yes' has to be True or False"),
    ],
)
def test_environments_that_cannot_be_dense(arguments: dict[str, Any], message: str) -> None:
    for kind in (TextGenEnv, TextGenVectorEnv):
        with pytest.raises(SettingsError, match=message):
            kind(**{"dense": True, **arguments})


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.0], "returned 1"), ([float("nan")] * 2, "nan"), (["x", "y"], "'x'")],
)
def test_potentials_that_cannot_be(values: list[Any], message: str) -> None:
    class Odd(Spell):
        def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
            return values if any("." in text for text in texts) else [0.0] * len(texts)

    envs = TextGenVectorEnv(2, prompts=Odd(), dense=True)
    envs.reset(seed=0)
    before = json.dumps(envs.get_state()["tokens"].tolist())
    with pytest.raises(RewardError, match=r"TextGen-v0, dense.*" + message):
        envs.step([2, 2])
    assert json.dumps(envs.get_state()["tokens"].tolist()) == before
    envs.step([0, 0])


def test_a_column_that_the_potential_lacks() -> None:
    env = TextGenEnv(prompts=Spell(), dense=True)
    with pytest.raises(RewardError, match="without the column 'bonus'"):
        env.reset(options={"row": {"prompt": "a"}})
    env.reset(seed=0)


def test_a_users_text_is_judged_without_the_chat_template() -> None:
    seen: list[str] = []

    class Seen(Spell):
        tokenizer = None

        def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
            seen.extend(row["prompt"] for row in rows)
            return [0.0] * len(texts)

    env = TextGenEnv(
        prompts=Seen(), dense=True, chat=True, tokenizer=chat_tokenizer(), max_prompt_tokens=64
    )
    _, info = env.reset(seed=0)
    assert seen in (["a"], ["b"])
    assert info["prompt"] not in seen
