from __future__ import annotations

import datetime
import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

import textgym  # noqa: F401
from tests.conversations import Parley
from tests.lm.checkpoints import EOS, WORDS
from tests.wrappers.conftest import long_texts, number_of_low_words
from textgym.errors import DataError, SettingsError, StorageError
from textgym.sb3 import make_vec_env
from textgym.sb3.checkpoints.env_state import get_env_state, set_env_state
from textgym.wrappers import SegmentActions, TopKActions
from textgym.wrappers.episodes import (
    RecordEpisodes,
    RecordEpisodesEnv,
    RecordEpisodesVectorEnv,
)

ROWS = [
    {"prompt": "w1 w2", "reference": "w3", "size": 3, "tags": ["a", "b"], "half": 0.5},
    {"prompt": "w4", "reference": None, "nested": {"x": 1, "y": {"z": [1, 2]}}, "flag": True},
    {"prompt": "w5 w6 w7", "reference": ["w1", "w2"], "size": 10**12, "nested": {"x": None}},
    {"prompt": "w8", "nested": {1: "a", 2: 3}},
]
SETTINGS = {
    "prompts": ROWS,
    "tokenizer": WORDS,
    "reward": {number_of_low_words: 1.0, "distinct": 0.5},
    "costs": {"long": long_texts},
    "max_prompt_tokens": 4,
    "max_new_tokens": 5,
    "stop": ["w9"],
}
MODES = ["NextStep", "SameStep", "Disabled"]


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def singles(path, actions, seed, **kwargs):
    """The lines of single environments for the actions ``[T, N]`` of a batch."""
    told = []
    for row in range(actions.shape[1]):
        env = RecordEpisodes(gym.make("TextGen-v0", **SETTINGS, **kwargs), path / f"{row}.jsonl")
        env.reset(seed=seed + row)
        over = False
        for action in actions[:, row]:
            if over:
                env.reset()
            *_, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
        told.append(read(path / f"{row}.jsonl"))
    return told


def by_row(lines):
    rows = {}
    for line in lines:
        number, row = line.pop("episode"), line.pop("row")
        rows.setdefault(row, []).append((number, line))
    return {row: [line for _, line in sorted(told, key=lambda x: x[0])]
            for row, told in rows.items()}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [None, 3])
def test_a_batch_writes_what_single_environments_write(tmp_path, mode, limit):
    count, rng = 4, np.random.default_rng(0)
    tokens = rng.choice([1, 2, 9, EOS, 15], (60, count), p=[0.3, 0.3, 0.1, 0.1, 0.2])
    path = tmp_path / "deep" / "batch.jsonl"
    envs = RecordEpisodes(
        gym.make_vec("TextGen-v0", num_envs=count, autoreset_mode=mode, **SETTINGS,
                     **({} if limit is None else {"max_episode_steps": limit})),
        path,
    )  # fmt: skip
    envs.reset(seed=7)
    used = [[] for _ in range(count)]
    at, over = [0] * count, np.zeros(count, dtype=bool)
    for _ in range(40):
        if mode == "Disabled" and over.any():
            envs.reset(options={"reset_mask": over})
            over[:] = False
        skips = over if mode == "NextStep" else np.zeros(count, dtype=bool)
        actions = np.array([tokens[at[row], row] for row in range(count)])
        for row in np.flatnonzero(~skips):
            used[row].append(int(actions[row]))
            at[row] += 1
        *_, terminated, truncated, _ = envs.step(actions)
        over = terminated | truncated
    shortest = min(map(len, used))
    assert shortest >= 25
    found = read(path)
    assert [line["episode"] for line in found] == list(range(len(found)))
    found = by_row(found)
    kwargs = {} if limit is None else {"max_episode_steps": limit}
    reasons = set()
    for row in range(count):
        (expected,) = singles(tmp_path, np.array(used[row])[:, None], 7 + row, **kwargs)
        (tmp_path / "0.jsonl").unlink()
        expected = by_row(expected)[0]
        assert found[row] == expected
        reasons |= {line["finish_reason"] for line in expected}
    assert reasons == ({"eos", "stop", "length"} if limit is None else {"eos", "stop", "truncated"})


def test_a_line_says_everything(tmp_path):
    path = tmp_path / "runs.jsonl"
    env = RecordEpisodes(gym.make("TextGen-v0", **SETTINGS), path)
    assert isinstance(env, RecordEpisodesEnv)
    for index in range(3):
        env.reset(seed=3, options={"index": index})
        for action in (1, 1, EOS):
            env.step(action)
    env.reset()  # An episode that is cut off.
    env.step(1)
    env.reset()
    lines = read(path)
    assert len(lines) == 3
    assert lines[1] == {
        "episode": 1, "row": 0, "seed": 3, "prompt": "w4", "response": "w1 w1",
        "finish_reason": "eos", "reward_terms": {"number_of_low_words": 2.0, "distinct": 0.5},
        "cost_terms": {"long": 5.0}, "reward": 2.25, "cost": 5.0, "length": 3,
        "columns": {"reference": None, "nested": {"x": 1, "y": {"z": [1, 2]}}, "flag": True},
    }  # fmt: skip
    assert lines[2]["columns"] == {key: ROWS[2][key] for key in ("reference", "size", "nested")}


def test_a_truncated_text_is_told_but_not_judged(tmp_path):
    path = tmp_path / "runs.jsonl"
    env = RecordEpisodes(gym.make("TextGen-v0", **SETTINGS, max_episode_steps=2), path)
    env.reset(seed=0, options={"index": 0})
    env.step(1)
    env.step(5)
    assert read(path) == [
        {"episode": 0, "row": 0, "seed": 0, "prompt": "w1 w2", "response": "w1 w5",
         "finish_reason": "truncated", "reward": 0.0, "cost": 0.0, "length": 2}
    ]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_conversations(tmp_path, mode):
    path = tmp_path / "runs.jsonl"
    single = RecordEpisodes(gym.make("TextGen-v0", prompts=Parley()), tmp_path / "single.jsonl")
    envs = RecordEpisodes(
        gym.make_vec("TextGen-v0", num_envs=2, prompts=Parley(), autoreset_mode=mode), path
    )
    eos = envs.unwrapped.tokenizer.eos_id
    envs.reset(seed=0, options={"prompt": "go a :"})
    single.reset(seed=0, options={"prompt": "go a :"})
    for action in (0, eos, 1, 2, eos):
        envs.step(np.full(2, action))
        single.step(action)
    (expected,) = read(tmp_path / "single.jsonl")
    assert expected["turns"] == ["a", "b bye"]
    assert expected["replies"] == ["said a :"]
    assert expected["response"] == "a\nb bye"
    assert expected["reward"] == pytest.approx(sum(expected["reward_terms"].values()))
    assert read(path) == [expected, {**expected, "episode": 1, "row": 1, "seed": 1}]


def test_environments_of_other_makers(tmp_path):
    path = tmp_path / "runs.jsonl"
    make = partial(gym.make, "TextGen-v0", **SETTINGS)
    found = {}
    for name, envs in {
        "ours": gym.make_vec("TextGen-v0", num_envs=3, **SETTINGS),
        "theirs": SyncVectorEnv([make] * 3),
    }.items():
        envs = RecordEpisodes(envs, path.with_name(name))
        assert isinstance(envs, RecordEpisodesVectorEnv)
        rng = np.random.default_rng(1)
        envs.reset(seed=[3, 1, 4])
        for _ in range(30):
            envs.step(rng.choice([1, 2, 9, EOS], 3))
        found[name] = read(path.with_name(name))
    assert len(found["ours"]) > 10
    assert found["ours"] == found["theirs"]


# -- the file ------------------------------------------------------------------------------------


def play(path, episodes, seed=0, **kwargs):
    env = RecordEpisodes(gym.make("TextGen-v0", **SETTINGS), path, **kwargs)
    env.reset(seed=seed)
    for _ in range(episodes):
        env.step(1)
        env.step(EOS)
        env.reset()
    return env


@pytest.mark.parametrize("cut", [1, 2, 7, 40, 10**6])
def test_the_end_is_repaired(tmp_path, cut):
    path = tmp_path / "runs.jsonl"
    play(path, 3)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    path.write_bytes(whole[: -min(cut, last - 1)])
    play(path, 2)
    lines = read(path)
    assert [line["episode"] for line in lines] == [0, 1, 2, 3]
    assert path.read_bytes().startswith(b"".join(whole.splitlines(keepends=True)[:2]))


def test_a_single_half_line_and_long_lines_are_repaired(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b'{"epi')
    long = {**SETTINGS, "prompts": [{"prompt": "w1", "note": "x" * 200_000}]}
    for _ in range(2):
        env = RecordEpisodes(gym.make("TextGen-v0", **long), path)
        env.reset(seed=0)
        env.step(EOS)
        with path.open("ab") as file:
            file.write(b'{"episode": 1, "prompt": "' + b"y" * 100_000)
    env = RecordEpisodes(gym.make("TextGen-v0", **long), path)
    assert [line["episode"] for line in read(path)] == [0, 1]


@pytest.mark.parametrize("vector", [False, True])
def test_a_full_disk_leaves_whole_lines_and_an_environment_that_goes_on(tmp_path, vector):
    """The system refuses a longer file in the middle of a line."""
    path = tmp_path / "runs.jsonl"
    play(path, 2)
    whole = path.read_bytes()
    make = partial(gym.make_vec, num_envs=1) if vector else gym.make
    env = RecordEpisodes(make("TextGen-v0", **SETTINGS), path)
    end = [EOS] if vector else EOS
    env.reset(seed=0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
    try:
        with pytest.raises(StorageError, match=os.strerror(errno.EFBIG)) as caught:
            env.step(end)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == whole
    env.reset(seed=0)
    env.step(end)
    assert [line["episode"] for line in read(path)] == [0, 1, 2]


@pytest.mark.parametrize(
    "content", [b"import os\n", b"import os", b'{"prompt": "x"}\n', b'{"episode": 1}\nx', b"[]\n"]
)
def test_other_files_are_left_alone(tmp_path, content):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"runs\.jsonl"):
        play(path, 1)
    assert path.read_bytes() == content
    with pytest.raises(SettingsError, match="cannot write"):
        play(tmp_path, 1)


def test_every_and_without(tmp_path):
    path = tmp_path / "runs.jsonl"
    play(path, 7, every=3, without=["reference", "nested"])
    lines = read(path)
    assert [line["episode"] for line in lines] == [0, 3, 6]
    assert not {"reference", "nested"} & {key for line in lines for key in line["columns"]}
    for wrong in ({"every": 0}, {"every": True}, {"without": "reference"}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            play(path, 0, **wrong)


def test_values_that_json_lacks(tmp_path):
    path = tmp_path / "runs.jsonl"
    row = {
        "prompt": "w1", "numbers": np.arange(3), "one": np.float32(0.5), "pair": (1, (2,)),
        "missing": float("nan"), "keys": {1: np.int8(2)}, "half": "\ud800 ü", "yes": np.True_,
    }  # fmt: skip
    env = RecordEpisodes(gym.make("TextGen-v0", **{**SETTINGS, "prompts": lambda rng: row}), path)
    env.reset(seed=0)
    env.step(EOS)
    assert read(path)[0]["columns"] == {
        "numbers": [0, 1, 2], "one": 0.5, "pair": [1, [2]], "missing": None, "keys": {"1": 2},
        "half": "\ud800 ü", "yes": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", [datetime.date(2020, 1, 1), [b"x"], {"a": {1, 2}}, {(1, 2): 3}, object()]
)
def test_values_that_cannot_be_written(tmp_path, value):
    path = tmp_path / "runs.jsonl"
    prompts = {"prompts": lambda rng: {"prompt": "w1", "when": value}}
    envs = RecordEpisodes(gym.make_vec("TextGen-v0", num_envs=2, **{**SETTINGS, **prompts}), path)
    envs.reset(seed=0)
    with pytest.raises(DataError, match=r"the column 'when' holds a .*without=\['when'\]"):
        envs.step(np.array([EOS, EOS]))
    assert path.read_bytes() == b""
    env = RecordEpisodes(gym.make("TextGen-v0", **{**SETTINGS, **prompts}), path, without=["when"])
    env.reset(seed=0)
    env.step(EOS)
    assert len(read(path)) == 1


def test_a_killed_run_loses_nothing_that_was_over(tmp_path):
    path = tmp_path / "runs.jsonl"
    script = (
        "import gymnasium, textgym, sys\n"
        "from textgym.wrappers.episodes import RecordEpisodes\n"
        "env = RecordEpisodes(gymnasium.make('TextGen-v0', prompts=['a'], tokenizer=['a', 'b',"
        f"'<eos>'], reward='distinct'), {str(path)!r})\n"
        "for number in range(10**9):\n"
        "    env.reset(seed=number)\n    env.step(2)\n    print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "20\n":
            break
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    numbers = [line["episode"] for line in read(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > int(rest[-1] if rest else 20)


# -- with other things ---------------------------------------------------------------------------


def test_in_sb3_and_after_a_checkpoint(tmp_path):
    def make(name):
        return make_vec_env(
            "TextGen-v0", 3, seed=5, wrapper=partial(RecordEpisodes, path=tmp_path / name),
            **{**SETTINGS, "prompts": ROWS[:3]},
        )  # fmt: skip

    def steps(venv, actions):
        for action in actions:
            venv.step(action)

    actions = np.random.default_rng(2).choice([1, 2, 9, EOS], (60, 3))
    whole = make("whole")
    whole.reset()
    steps(whole, actions)
    assert len(read(tmp_path / "whole")) > 20
    parts = make("parts")
    parts.reset()
    steps(parts, actions[:31])
    state = get_env_state(parts)
    steps(parts, actions[31:50])  # These are lost with the run, but for their lines.
    before = read(tmp_path / "parts")
    parts.close()
    again = make("parts")
    again.reset()
    set_env_state(again, state)
    assert read(tmp_path / "parts") == before
    steps(again, actions[31:])
    assert read(tmp_path / "parts") == read(tmp_path / "whole")
    # The state of another file does not cut this one.
    other = make("other")
    other.reset()
    steps(other, actions)
    size = len(read(tmp_path / "other"))
    set_env_state(other, state)
    steps(other, actions[31:])
    assert len(read(tmp_path / "other")) > size


@pytest.mark.parametrize("mode", MODES)
def test_around_and_within_other_wrappers(tmp_path, lm, make, make_vec, mode):
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    envs = TopKActions(RecordEpisodes(make_vec(3, mode), inner), lm=lm, k=4)
    envs = RecordEpisodes(envs, outer)
    segments = RecordEpisodes(SegmentActions(make_vec(3, mode), lm=lm, k=2, segment=3), inner)
    for batch, size in ((envs, 4), (segments, 2)):
        rng, over = np.random.default_rng(0), np.zeros(3, dtype=bool)
        batch.reset(seed=0)
        for _ in range(14):
            if mode == "Disabled" and over.any():
                batch.reset(options={"reset_mask": over})
            *_, terminated, truncated, _ = batch.step(rng.integers(size, size=3))
            over = terminated | truncated
        if batch is envs:
            assert len(read(outer)) >= 3
            assert read(outer) == read(inner)
    lines = read(inner)[len(read(outer)) :]
    assert lines
    # A step writes up to three tokens: five and more never take one step only.
    assert all(line["cost"] == len(line["response"]) for line in lines)
    assert all(line["length"] <= 6 for line in lines)


def test_it_pickles(tmp_path):
    env = play(tmp_path / "runs.jsonl", 2)
    twin = pickle.loads(pickle.dumps(env))
    twin.reset(seed=1)
    twin.step(EOS)
    assert len(read(tmp_path / "runs.jsonl")) == 3
