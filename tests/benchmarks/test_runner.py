"""Suites are run: kills, workers, failures and changes; and a real cell of a real agent.

Most cells here are a script's that needs a few milliseconds, in place of
``benchmarks.suites.cell_process``: what is under test is the runner, its processes and its file.
"""

from __future__ import annotations

import importlib.util
import io
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agents import ppo
from benchmarks import __main__ as command_line
from benchmarks.suites import candidates, engines, runner
from benchmarks.suites.cell import DIAGNOSED_POINTS, Cell, Heard, describe, learning_curve, run_cell
from benchmarks.suites.cell_process import error_of
from benchmarks.suites.definitions import Experiment
from benchmarks.suites.engines import LocalEngine, attempt
from benchmarks.suites.runner import Options, Plan, differences, make_plans, run, work
from benchmarks.suites.store import Store, read
from textgym.errors import SettingsError
from textgym.tasks.good_bad.task import GoodBad

ROOT = Path(__file__).parents[2]

STUB = """
import json, os, random, sys, time
job = json.loads(sys.stdin.readline())
record = job["record"]
with open(os.environ["STUB_LOG"], "a") as log:
    log.write(f"{record['agent']} {record['seed']} {os.getpid()}\\n")
time.sleep(float(os.environ.get("STUB_SECONDS", "0.02")))
if record["agent"] == os.environ.get("STUB_FAILS"):
    print("half", end="", flush=True)
    print("Traceback: what went wrong", file=sys.stderr, flush=True)
    os.kill(os.getpid(), 9)
rng = random.Random(f"{record['agent']} {record['seed']}")
before, after = ({"mean": rng.random(), "ci95": 0.1, "returns": []} for _ in range(2))
result = {"status": "done", "before": before, "after": after, "wall_seconds": time.time()}
print(json.dumps({**record, **result}), flush=True)
sys.stdin.read()
"""

DRIVER = """
import json, signal, sys
from pathlib import Path
from benchmarks.suites.engines import LocalEngine
from benchmarks.suites.runner import Plan, work
from benchmarks.suites.store import Store
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
out, stub, workers, cells = sys.argv[1:]
plans = [Plan(**plan) for plan in json.loads(cells)]
with Store(Path(out)) as store:
    print("ready", flush=True)
    work(plans, store, LocalEngine(int(workers), [sys.executable, "-I", "-S", stub]))
"""

AGENT = """
import numpy as np


class Bandit:
    def __init__(self, venv, seed):
        self.venv, self.rng, self.best = venv, np.random.default_rng(seed), None

    def learn(self, total_timesteps, callback=None):
        self.venv.reset()
        for _ in range(total_timesteps // self.venv.num_envs):
            actions = self.rng.integers(2, size=self.venv.num_envs)
            _, rewards, _, _ = self.venv.step(actions)
            self.best = actions[rewards.argmax()]

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        size = len(observation)
        return self.rng.integers(2, size=size) if self.best is None else np.full(size, self.best), 0


make_agent = Bandit
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script in place of a cell; what was started with it is in `log`."""
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "log"))
    (tmp_path / "stub.py").write_text(STUB)
    return tmp_path / "stub.py"


@pytest.fixture
def stubbed(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line runs it."""
    command = [sys.executable, "-I", "-S", str(stub)]
    monkeypatch.setattr(runner, "LocalEngine", lambda workers: LocalEngine(workers, command))


@pytest.fixture
def agent_file(tmp_path: Path) -> Path:
    """An agent that owes nothing to anyone, outside the repository."""
    file = tmp_path / "elsewhere" / "my_bandit.py"
    file.parent.mkdir()
    file.write_text(AGENT)
    return file


def made_up(count: int, agent: str = "a") -> list[Plan]:
    what = {"suite": "s", "experiment": "e", "agent": agent, "status": "failed", "error": None}
    return [Plan({}, {**what, "seed": seed}) for seed in range(count)]


def driver(out: Path, stub: Path, workers: int, plans: list[Plan]) -> subprocess.Popen[str]:
    cells = json.dumps([plan._asdict() for plan in plans])
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(out), str(stub), str(workers), cells],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def local(plans: list[Plan], out: Path, stub: Path, workers: int = 2, **others: Any) -> None:
    with Store(out) as store:
        work(plans, store, LocalEngine(workers, [sys.executable, "-I", "-S", str(stub)]), **others)


def outcomes(out: Path) -> list[dict[str, Any]]:
    """The cells, without their times and in an order of their own."""
    timed = ("wall_seconds", "cpu_seconds", "tokens_per_second")
    records = [{k: v for k, v in each.items() if k not in timed} for each in read(out)]
    return sorted(records, key=lambda each: (each["experiment"], each["agent"], each["seed"]))


def started(stub: Path) -> Counter[str]:
    """How often each cell was started."""
    lines = stub.with_name("log").read_text().splitlines()
    return Counter(line.rpartition(" ")[0] for line in lines)


def said_by(options: Options) -> tuple[int, str]:
    text = io.StringIO()
    return run(options, Console(file=text, width=200)), text.getvalue()


# -- kills and workers -----------------------------------------------------------------------------


def test_ten_kills_at_random_moments_change_nothing(
    stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_SECONDS", "0.03")
    plans = made_up(60)
    local(plans, tmp_path / "whole", stub)
    stub.with_name("log").unlink()
    rng, kept, kills = random.Random(0), 0, 0
    for _ in range(10):
        process = driver(tmp_path / "killed", stub, 2, plans)
        time.sleep(rng.uniform(0.0, 0.4))
        kills += process.poll() is None
        process.kill()
        process.communicate()
        file = tmp_path / "killed" / "cells.jsonl"
        if rng.random() < 0.5 and process.returncode != 0:
            with file.open("ab") as half:  # A kill between two halves of a write is seldom met.
                half.write(b'{"suite": "s", "experiment"')
        lines = file.read_bytes().count(b"\n")
        assert lines >= kept, "what is done stays done"
        kept = lines
    final = driver(tmp_path / "killed", stub, 2, plans)
    assert final.communicate()[1] == ""
    assert outcomes(tmp_path / "killed") == outcomes(tmp_path / "whole")
    assert len(outcomes(tmp_path / "whole")) == 60
    again = started(stub)
    assert sum(again.values()) <= 60 + 2 * 10, "a kill costs the cells under way and no others"
    assert kills >= 2, "they take 0.9 s at least, and the first two kills come within 0.8 s"


def test_one_worker_or_three_the_cells_are_the_same(stub: Path, tmp_path: Path) -> None:
    plans = made_up(9)
    local(plans, tmp_path / "one", stub, workers=1)
    local(plans[::-1], tmp_path / "three", stub, workers=3)
    assert outcomes(tmp_path / "one") == outcomes(tmp_path / "three")


def test_two_runners_on_one_folder_share_the_cells(
    stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_SECONDS", "0.1")
    plans = made_up(20)
    both = [driver(tmp_path / "out", stub, 2, plans) for _ in range(2)]
    for process in both:
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    assert started(stub) == {f"a {seed}": 1 for seed in range(20)}
    assert len(outcomes(tmp_path / "out")) == 20


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_when_the_runner_goes_its_cells_go(
    how: signal.Signals, stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C they are killed, after a kill their input ends."""
    stub.write_text(
        STUB.replace("\nif ", "\nif record['seed']: sys.stdin.read(), sys.exit()\nif ", 1)
    )
    process = driver(tmp_path / "out", stub, 2, made_up(3))
    log = stub.with_name("log")
    while not (log.exists() and len(log.read_text().splitlines()) == 3):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate()
    assert process.returncode != 0
    pids = [int(line.split()[-1]) for line in log.read_text().splitlines()]
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [each["seed"] for each in outcomes(tmp_path / "out")] == [0]


def test_a_cell_goes_with_its_runner_while_it_still_imports() -> None:
    """The real process; the end of its input is the end of it, whatever it is doing."""
    process = subprocess.Popen(
        engines.CELL, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.communicate('{"cell": null, "record": {}}\n')[0] == ""
    assert process.returncode == 1


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# -- failures --------------------------------------------------------------------------------------


def test_a_cell_that_fails_is_written_down_and_the_rest_goes_on(
    stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_FAILS", "b")
    plans = [*made_up(2, "b"), *made_up(2, "a")]
    out, over = tmp_path / "out", []
    local(plans, out, stub, workers=1, over=over.append)
    status = {(each["agent"], each["seed"]): each["status"] for each in over}
    assert status == {("b", 0): "failed", ("b", 1): "failed", ("a", 0): "done", ("a", 1): "done"}
    (error,) = {each["error"] for each in outcomes(out) if each["agent"] == "b"}
    assert error == "Traceback: what went wrong\nThe cell's process ended with signal SIGKILL."
    monkeypatch.delenv("STUB_FAILS")
    local(plans, out, stub)
    assert {each["status"] for each in outcomes(out)} == {"done", "failed"}
    assert set(started(stub).values()) == {1}, "neither done nor failed cells are run again"
    local(plans, out, stub, retry_failed=True)
    assert [each["status"] for each in outcomes(out)] == ["done"] * 4
    assert started(stub) == {"a 0": 1, "a 1": 1, "b 0": 2, "b 1": 2}


def test_a_process_that_cannot_even_start_python_code_says_so() -> None:
    job = {"record": {"agent": "a"}}
    record = attempt([sys.executable, "-c", "import no_such_module"], job)
    assert record["status"] == "failed"
    assert "No module named 'no_such_module'" in record["error"]
    assert record["error"].endswith("The cell's process ended with exit code 1.")
    assert error_of("x" * 5000) == "..." + "x" * 2000


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("stubbed")
def test_results_of_other_things_are_not_mixed(
    agent_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: Path
) -> None:
    options = Options("smoke", (str(agent_file),), 2, 1, tmp_path / "out")
    assert said_by(options)[0] == 0
    first = outcomes(options.out)
    code, text = said_by(options)
    assert (code, "2 of 2 cells are done" in text) == (0, True)
    assert set(started(stub).values()) == {1}

    agent_file.write_text(AGENT + "\n# Another version.\n")
    candidates.load_candidate.cache_clear()
    with pytest.raises(SettingsError, match=r"agent_hash.*--out.*--redo"):
        said_by(options)
    assert outcomes(options.out) == first
    # Cells of other seeds are no obstacle for those that are done.
    agent_file.write_text(AGENT)
    candidates.load_candidate.cache_clear()
    assert said_by(Options("smoke", (str(agent_file),), 3, 1, tmp_path / "out"))[0] == 0

    score = GoodBad.score
    monkeypatch.setattr(GoodBad, "score", lambda self, text, row: score(self, text, row) / 2)
    monkeypatch.setattr("benchmarks.suites.cell._HASHES", {})
    with pytest.raises(SettingsError, match=r"my_bandit.*seed 0.*task_hash"):
        said_by(options)
    options.redo = True
    assert said_by(options)[0] == 0
    assert {each["seed"]: n for n, each in enumerate(outcomes(options.out))} == {0: 0, 1: 1, 2: 2}
    hashes = [each["task_hash"] for each in outcomes(options.out)]
    assert hashes[0] == hashes[1] != hashes[2] == first[0]["task_hash"]
    assert said_by(options)[0] == 0
    assert started(stub) == {"my_bandit 0": 2, "my_bandit 1": 2, "my_bandit 2": 1}


def test_differences_are_listed_by_setting() -> None:
    one = {"timesteps": 5, "settings": {"lr": 0.1, "k": 8}, "task_hash": "a", "wall_seconds": 3.0}
    other = {**one, "settings": {"lr": 0.2, "k": 8, "n": 1}, "wall_seconds": 4.0}
    assert differences(one, one) == []
    assert differences(one, other) == ["settings.lr 0.1 (now 0.2)", "settings.n None (now 1)"]


@pytest.mark.usefixtures("stubbed")
def test_a_change_while_it_runs_is_a_failure(agent_file: Path, tmp_path: Path, stub: Path) -> None:
    stub.write_text(STUB.replace('"status": "done"', '"status": "done", "agent_hash": "other"'))
    code, text = said_by(Options("smoke", (str(agent_file),), 1, 1, tmp_path / "out"))
    assert code == 1
    assert "my_bandit, seed 0: FAILED: the code changed during the run" in text
    assert "--retry-failed runs" in text


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"suite": "smok"}, "--suite smok: .*did you mean 'smoke'"),
        ({"agent": ("pppo",)}, "--agent pppo: .*did you mean 'ppo'"),
        ({"agent": ("common",)}, "--agent common: there is no such agent"),
        ({"agent": ()}, "name at least one agent"),
        ({"agent": ("my_bandits.py",)}, "--agent .*my_bandits.py: .*did you mean 'my_bandit.py'"),
        ({"agent": ("my_bandit.py", "my_bandit.py")}, "two agents are named 'my_bandit'"),
        ({"agent": ("",)}, "--agent '': it has to be a name .*it is empty"),
        ({"agent": ("ppo --lr 'x",)}, "--agent .*No closing quotation"),
        ({"agent": ("lm --seed 3",)}, "--agent lm --seed 3: --seed is determined by the suite"),
        ({"agent": ("lm --reward length",)}, "--reward is determined by the suite"),
        ({"agent": ("lm --max-new-tokens 1",)}, "--max-new-tokens is determined by the suite"),
        (
            {"agent": (f"ppo{40 * ' --lr 1e-3'} --prompts x",)},
            "--prompts is determined by",
        ),
        ({"agent": ("my_bandit.py --lr 1",)}, "takes no settings"),
        ({"agent": ("ppo --lr 1", "ppo  --lr 1")}, "two agents are named 'ppo --lr 1'"),
        (
            {"only": ("TextGen/GodBad-v0",)},
            "--only TextGen/GodBad-v0: .*did you mean 'TextGen/Good",
        ),
        ({"seeds": 0}, "--seeds 0"),
        ({"workers": 0}, "--workers 0"),
    ],
)
def test_mistakes_are_answered_with_what_was_meant(
    others: dict[str, Any], message: str, agent_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(agent_file.parent)
    with pytest.raises(SettingsError, match=message):
        make_plans(Options(**{"suite": "smoke", "agent": ("ppo",), **others}))


def test_some_experiments_of_a_suite() -> None:
    ids = ("TextGen/QA-v0", "TextGen/Sentiment-v0")
    plans = make_plans(Options("quick", ("ppo",), 2, only=ids))
    every = make_plans(Options("quick", ("ppo",), 2))
    assert plans == [plan for plan in every if plan.record["env"] in ids]
    assert len(plans) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no make_agent"),
        ("def make_agent(venv, seed, settings): ...", "define their class, Settings"),
        ("import nothing_of_that_name", "cannot be imported .ModuleNotFoundError"),
    ],
)
def test_files_that_are_no_agents_are_told_apart(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        candidates.load_candidate(str(file))


def test_the_command_line_takes_several_agents(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Options] = []
    monkeypatch.setattr(command_line, "run", lambda options: seen.append(options) or 7)
    words = "run --suite smoke --agent ppo --agent a.py --seeds 2 --workers 3 --out x --redo"
    assert command_line.main(words.split()) == 7
    assert seen == [Options("smoke", ("ppo", "a.py"), 2, 3, Path("x"), redo=True)]
    monkeypatch.undo()
    assert command_line.main(["run", "--suite", "cor", "--agent", "ppo"]) == 2
    assert "python -m benchmarks: --suite cor: " in capsys.readouterr().err


# -- cells -----------------------------------------------------------------------------------------


def goodbad(agent: str, out: Path, **others: Any) -> Cell:
    one = Experiment("TextGen/GoodBad-v0", {"level": 1}, 256, ("basic",))
    values: dict[str, Any] = {"seed": 0, "eval_episodes": 8, "n_envs": 8, "device": "cpu"}
    return Cell(
        **{"suite": "s", "experiment": one, "agent": agent, **values, **others}, out=str(out)
    )


def plain(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if "second" not in key}


def test_a_cell_is_the_same_whenever_it_is_run(tmp_path: Path) -> None:
    cells = [goodbad("ppo", tmp_path, seed=seed) for seed in (0, 1)]
    first, other, again = run_cell(cells[0]), run_cell(cells[1]), run_cell(cells[0])
    assert plain(first) == plain(again) != plain(other)
    assert first["curve"] != other["curve"]
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert first["settings"]["lr"] == ppo.Settings().lr
    assert (first["settings"]["n_envs"], first["settings"]["steps"]) == (8, 256)
    assert not {"out", "resume"} & set(first["settings"])
    assert len(first["before"]["returns"]) == len(first["after"]["returns"]) == 8
    assert first["curve"][-1][0] == 256
    assert len(first["curve"]) > 2
    diagnosed = first["diagnostics"]["courses"]
    assert diagnosed.keys() >= {"diagnostics/entropy", "train/explained_variance", "episode/reward"}
    assert all(len(points) <= DIAGNOSED_POINTS for points in diagnosed.values())
    assert diagnosed["episode/reward"][-1][0] == 256
    assert first["tokens_per_second"] > 0
    assert Cell.from_json(json.loads(json.dumps(cells[0].to_json()))) == cells[0]


@pytest.mark.parametrize("agent", ["grpo", "q_learning", "random_tokens"])
def test_agents_get_the_environments_that_they_need(agent: str, tmp_path: Path) -> None:
    """Groups of rows, proposals, or nothing."""
    record = run_cell(goodbad(agent, tmp_path))
    assert record["status"] == "done"
    assert len(record["curve"]) > 2 or agent == "random_tokens"
    assert bool(record["diagnostics"]["courses"]) == (agent != "random_tokens")


def test_an_agent_s_own_settings_are_recorded(tmp_path: Path) -> None:
    file = tmp_path / "slow_ppo.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom agents import ppo\n\n\n@dataclass\n"
        "class Settings(ppo.Settings):\n    lr: float = 1e-5\n\n\nmake_agent = ppo.make_agent\n"
    )
    record = describe(goodbad(str(file), tmp_path))
    assert (record["agent"], record["settings"]["lr"]) == ("slow_ppo", 1e-5)
    assert record["status"] == "failed", "until it is run"


def test_flags_make_another_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    greedy, plainly = (run_cell(goodbad(spec, tmp_path)) for spec in ("lm --sampling greedy", "lm"))
    assert (greedy["agent"], plainly["agent"]) == ("lm --sampling greedy", "lm")
    assert greedy["settings"] == {**plainly["settings"], "sampling": "greedy"}
    assert greedy["after"]["mean"] == 1.0 > plainly["after"]["mean"]

    # A file's path may have spaces in it, is the same from anywhere, and takes flags as well.
    folder = tmp_path / "my agents"
    folder.mkdir()
    (folder / "mine.py").write_text("from agents.ppo import Settings, make_agent\n")
    monkeypatch.chdir(folder)
    for spec in ("./mine.py", str(folder / "mine.py")):
        assert candidates.resolved(spec) == f"'{folder / 'mine.py'}'"
        assert candidates.load_candidate(candidates.resolved(spec)).name == "mine"
    made = describe(goodbad(candidates.resolved("./mine.py --lr 0.25"), tmp_path))
    assert (made["agent"], made["settings"]["lr"]) == ("mine --lr 0.25", 0.25)

    with pytest.raises(SystemExit, match="2"):
        describe(goodbad("lm --samplng greedy", tmp_path))
    assert "--sampling" in capsys.readouterr().err


def test_a_learning_curve_has_the_mean_of_each_stretch() -> None:
    episodes = [(1, 0.0), (2, 1.0), (5, 0.5), (10, 1.0), (10, 0.0)]
    assert learning_curve(episodes, points=2) == [[5, 0.5], [10, 0.5]]
    assert learning_curve(episodes, points=10) == [[1, 0.0], [2, 1.0], [5, 0.5], [10, 0.5]]
    assert learning_curve([]) == []
    assert Heard().episodes == []


def test_a_file_of_fifteen_lines_runs_from_anywhere(
    agent_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing: the command, a process for the cell, an agent that calls nobody back."""
    monkeypatch.chdir(tmp_path)
    code, text = said_by(Options("smoke", ("elsewhere/my_bandit.py",), 1, 1, Path("out")))
    assert code == 0, text
    (record,) = read(tmp_path / "out")
    assert plain(record) == plain({**record, "agent": "my_bandit", "status": "done", "error": None})
    assert record["after"]["mean"] == 1.0
    assert record["before"]["mean"] < 1.0
    assert record["curve"][-1][0] == 2048
    assert record["samples"][0]["after"] == "good"
    assert "TextGen/GoodBad-v0 level=1, my_bandit, seed 0: " in text
    assert "1 of 1 cells are done" in text


# -- ray -------------------------------------------------------------------------------------------

RAY = DRIVER.replace("LocalEngine", "RayEngine")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_ray_runs_the_same_cells(
    stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = made_up(4)
    local(plans, tmp_path / "local", stub)
    monkeypatch.setattr(sys.modules[__name__], "DRIVER", RAY)
    process = driver(tmp_path / "ray", stub, 2, plans)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    assert outcomes(tmp_path / "ray") == outcomes(tmp_path / "local")


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"textgym\[ray\]"):
        engines.RayEngine(1)
