from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conversations import Parley
from textgym.cli import main
from textgym.cli.rescore import parse_reward, spearman
from textgym.errors import RewardError
from textgym.rewards import make_reward, register_reward
from textgym.wrappers.episodes import RecordEpisodes


@register_reward("test_rescore_turns")
class Turns:
    def __call__(self, completions, turns, replies, finish_reason):
        return [10.0 * len(t) + len(r) for t, r in zip(turns, replies, strict=True)]


@register_reward("test_rescore_nan")
class Nan:
    def __call__(self, completions):
        return [float("nan") if text == "bad" else 1.0 for text in completions]


SEEN: list[int] = []


@register_reward("test_rescore_batches")
class Batches:
    def __call__(self, completions):
        SEEN.append(len(completions))
        return [None if text == "" else float(len(text)) for text in completions]


@pytest.fixture
def runs(tmp_path):
    """The episodes of a batch, recorded."""
    words = ["the", "cat", "sat", "ran", "<eos>"]
    rows = [{"prompt": "the cat", "reference": "sat"}, {"prompt": "the", "reference": "cat sat"}]
    envs = RecordEpisodes(
        gym.make_vec("textgym:TextGen-v0", num_envs=8, prompts=rows, tokenizer=words,
                     reward={"distinct": 1.0, "edit_similarity": 2.0}, max_new_tokens=5),
        tmp_path / "runs.jsonl",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    envs.reset(seed=0)
    for _ in range(40):
        envs.step(rng.integers(5, size=8))
    return tmp_path / "runs.jsonl"


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(capsys, *arguments):
    status = main(["rescore", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def table(out):
    """The rows of the table: kind and reward, then mean, half a width, correlation, count."""
    found = {}
    for line in out.splitlines():
        if "±" in line and "mean" not in line:
            kind, *name, mean, _, error, rank, count = line.split()
            found[kind, " ".join(name)] = (float(mean), float(error), rank, int(count))
    return found


def brute(one, other):
    """Spearman's correlation from its definition, pair by pair."""

    def ranks(values):
        return [
            sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2
            for value in values
        ]

    return np.corrcoef(ranks(one), ranks(other))[0, 1]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_spearman(pairs):
    one, other = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert spearman(one, other) is None
    else:
        assert spearman(one, other) == pytest.approx(brute(one, other), abs=1e-9)


def test_the_whole(capsys, tmp_path, runs):
    before, out = read(runs), tmp_path / "scored.jsonl"
    text = runs.read_bytes()
    status, printed, err = run(
        capsys, runs, "--reward", "exact_match", "--reward", "rouge=0.5:variant=rouge1",
        "--out", out, "--batch", "7",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert runs.read_bytes() == text
    texts = [line["response"] for line in before]
    references = [line["columns"]["reference"] for line in before]
    expected = {
        name: reward([""] * len(texts), texts, reference=references)
        for name, reward in {
            "exact_match": make_reward("exact_match"),
            "rouge1": make_reward("rouge", variant="rouge1"),
        }.items()
    }
    after = read(out)
    assert len(after) == len(before) > 40
    assert {*after[0]["reward_terms"]} == {*expected}
    for name, values in expected.items():
        assert [line["reward_terms"][name] for line in after] == values
    for old, new, exact, rouge in zip(before, after, *expected.values(), strict=True):
        assert new["before"] == {key: old[key] for key in ("reward", "reward_terms")}
        assert new["reward"] == pytest.approx(exact + 0.5 * rouge)
        changed = ("reward", "reward_terms", "before")
        assert {key: new[key] for key in new if key not in changed} == {
            key: old[key] for key in old if key not in changed
        }
    rows = table(printed)
    returns = [line["reward"] for line in before]
    columns = {("new", name): values for name, values in expected.items()}
    columns["new", "(weighted sum)"] = [line["reward"] for line in after]
    columns["stored", "(reward)"] = returns
    for name in ("distinct", "edit_similarity"):
        columns["stored", name] = [line["reward_terms"][name] for line in before]
    assert {*rows} == {*columns}
    for key, values in columns.items():
        mean, error, rank, count = rows[key]
        assert mean == pytest.approx(np.mean(values), abs=1e-4)
        assert error == pytest.approx(1.96 * np.std(values, ddof=1) / len(values) ** 0.5, abs=1e-4)
        assert float(rank) == pytest.approx(brute(values, returns), abs=1e-3)
        assert count == len(before)
    # Judged once more: the last ones are before.
    status, _, _ = run(capsys, out, "--reward", "distinct", "--out", tmp_path / "twice.jsonl")
    assert status == 0
    assert read(tmp_path / "twice.jsonl")[5]["before"]["reward"] == after[5]["reward"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "runs.jsonl", "scored.jsonl", "twice.jsonl"
    ]  # fmt: skip


def test_conversations(capsys, tmp_path):
    path, out = tmp_path / "runs.jsonl", tmp_path / "out.jsonl"
    env = RecordEpisodes(gym.make("textgym:TextGen-v0", prompts=Parley()), path)
    env.reset(seed=0)
    for action in (0, env.unwrapped.tokenizer.eos_id, 1, 2, env.unwrapped.tokenizer.eos_id):
        env.step(action)
    assert run(capsys, path, "--reward", "test_rescore_turns", "--out", out)[0] == 0
    assert read(out)[0]["reward"] == 21.0


def write(path, *episodes):
    path.write_text("".join(json.dumps(one) + "\n" for one in episodes))
    return path


def test_other_peoples_files_and_missing_things(capsys, tmp_path):
    path = write(
        tmp_path / "runs.jsonl",
        {"prompt": "a", "response": "x y", "reference": "x y", "reward": 2},
        {"prompt": "b", "response": None, "finish_reason": "truncated"},
        {"prompt": "c", "response": "z", "reward": None},
        {"prompt": "c", "response": "", "reward": 1, "reward_terms": {"one": 1.0}},
    )
    SEEN.clear()
    status, printed, _ = run(
        capsys, path, "--reward", "test_rescore_batches", "--reward", "exact_match", "--batch", "2",
        "--out", tmp_path / "out.jsonl",
    )  # fmt: skip
    assert status == 0
    assert SEEN == [1, 2]
    assert "1 truncated episodes have no response" in printed
    rows = table(printed)
    assert rows["new", "test_rescore_batches"] == (2.0, 1.96, "-", 2)
    assert rows["stored", "(reward)"][3] == 2
    assert rows["stored", "one"] == (1.0, 0.0, "-", 1)
    assert read(tmp_path / "out.jsonl")[1] == read(path)[1]


def test_half_a_line_at_the_end_is_left_out(capsys, tmp_path):
    path = write(tmp_path / "runs.jsonl", {"prompt": "a", "response": "x"})
    with path.open("a") as file:
        file.write('{"episode": 3, "prom')
    status, printed, err = run(capsys, path, "--reward", "distinct")
    assert status == 0
    assert "1 episodes" in printed
    assert "line 2 is incomplete" in err


GOOD = {"prompt": "a", "response": "x"}


@pytest.mark.parametrize(
    ("lines", "rewards", "message"),
    [
        (["{", ""], ["distinct"], "line 3 is not JSON"),
        (["[1]"], ["distinct"], "line 2 is a list"),
        (['{"prompt": "x"}'], ["distinct"], "line 2 has no 'response' (it has: prompt)"),
        (['{"prompt": 1, "response": ""}'], ["distinct"], "line 2: 'prompt' is a int"),
        (['{"prompt": "", "response": "", "columns": 1}'], ["distinct"], "'columns' has to be"),
        ([json.dumps({**GOOD, "response": "bad"})], ["test_rescore_nan"], "nan for row 2"),
        ([], ["exact_match"], "'exact_match' needs the column 'reference'"),
        ([], ["length:target=5,unit=tokens"], "needs the column 'completion_ids'"),
        ([], ["bluu"], "did you mean 'bleu'"),
        ([], ["bleu=x"], "the weight 'x'"),
        ([], ["bleu=nan"], "the weight 'nan'"),
        ([], ["rouge:variant"], "'variant' is not OPTION=VALUE"),
        ([], ["rouge:{"], "'rouge:{'"),
        ([], ["rouge:variant=rouge9"], "rouge9"),
        ([], ["rouge:color=3"], "takes the options"),
    ],
)  # fmt: skip
def test_errors_are_one_line(capsys, tmp_path, lines, rewards, message):
    path = tmp_path / "runs.jsonl"
    blank = ["", *lines] if "line 3" in message else lines
    path.write_text("\n".join([json.dumps(GOOD), *blank]) + "\n")
    arguments = [part for reward in rewards for part in ("--reward", reward)]
    status, _, err = run(capsys, path, *arguments, "--out", tmp_path / "out.jsonl", "--batch", "1")
    assert status == 1
    assert message in err
    assert err.startswith("textgym: ")
    assert len(err.splitlines()) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["runs.jsonl"]


def test_the_same_reward_twice(capsys, tmp_path):
    path = write(tmp_path / "runs.jsonl", {"prompt": "a", "response": "x y z"})
    weights = ("distinct=2:n=1", "distinct", "distinct=-1:n=3")
    arguments = [part for reward in weights for part in ("--reward", reward)]
    assert run(capsys, path, *arguments, "--out", tmp_path / "out.jsonl")[0] == 0
    (line,) = read(tmp_path / "out.jsonl")
    expected = {"distinct": 1.0, "distinct_2": 2 / 3, "distinct_3": 1 / 3}
    assert line["reward_terms"] == pytest.approx(expected)
    assert line["reward"] == pytest.approx(2 + 2 / 3 - 1 / 3)


def test_files(capsys, tmp_path):
    path = write(tmp_path / "runs.jsonl", GOOD)
    for arguments, message in (
        ((tmp_path / "none.jsonl",), "No such file"),
        ((path, "--out", path), "is {} itself"),
        ((path, "--out", tmp_path / "none" / "out"), "No such file"),
        ((write(tmp_path / "empty.jsonl"),), "no episode"),
    ):
        status, _, err = run(capsys, *arguments, "--reward", "distinct")
        assert status == 1
        assert message.format(path) in err
    path.write_bytes(b'{"prompt": "\xff"}\n')
    assert "not UTF-8" in run(capsys, path, "--reward", "distinct")[2]
    with pytest.raises(SystemExit):
        main(["rescore", str(path)])


def test_the_syntax():
    name, reward, weight = parse_reward("length=-0.5:target=20,unit=characters,width=null")
    assert (name, weight, reward.target, reward.unit, reward.width) == (
        "length",
        -0.5,
        20,
        "characters",
        20,
    )
    assert parse_reward('regex:{"pattern": "a,b=:"}')[1].pattern == "a,b=:"
    assert parse_reward("regex:pattern=a:b=c")[1].pattern == "a:b=c"
    assert parse_reward("bleu")[::2] == ("bleu", 1.0)
    assert parse_reward("rouge=2:variant=rouge2")[::2] == ("rouge2", 2.0)
    with pytest.raises(RewardError, match=r"^'wre': there is no reward 'wre'"):
        parse_reward("wre")


def test_rewards_of_ones_own(capsys, tmp_path, monkeypatch):
    (tmp_path / "my_rescore_rewards.py").write_text(
        "import textgym\n"
        "@textgym.register_reward('my_rescore_reward')\n"
        "class Mine:\n"
        "    def __call__(self, completions):\n"
        "        return [7.0 for _ in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path / "runs.jsonl", GOOD)
    arguments = (path, "--reward", "my_rescore_reward", "--import")
    status, printed, _ = run(capsys, *arguments, "my_rescore_rewards")
    assert status == 0
    assert table(printed)["new", "my_rescore_reward"] == (7.0, 0.0, "-", 1)
    status, _, err = run(capsys, *arguments, "no_such_module")
    assert status == 1
    assert "cannot be imported" in err


def test_texts_are_not_kept(capsys, tmp_path):
    path = tmp_path / "runs.jsonl"
    line = json.dumps({"prompt": "p" * 20_000, "response": "x y z", "reward": 1.0}) + "\n"
    with path.open("w") as file:
        file.writelines(line for _ in range(1000))
    tracemalloc.start()
    status, *_ = run(capsys, path, "--reward", "distinct", "--batch", "8",
                     "--out", tmp_path / "out.jsonl")  # fmt: skip
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert status == 0
    assert path.stat().st_size > 20e6
    assert peak < 4e6


def test_it_works_in_a_pipe(runs):
    command = f"{sys.executable} -m textgym rescore {runs} --reward distinct | cat"
    found = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert found.stderr == ""
    assert "\x1b" not in found.stdout
    assert table(found.stdout)["new", "distinct"] == table(found.stdout)["stored", "distinct"]
