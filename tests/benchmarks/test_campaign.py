"""All figures are measured by one command: kills, sharing, other models; and its pages.

Most jobs here are a script's that needs a few milliseconds, in place of
``benchmarks.campaign.job_process``.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agents import ppo
from agents.running.report import TrainingLog
from benchmarks import __main__ as command_line
from benchmarks.campaign import command, job_process, provenance, registry, study
from benchmarks.campaign.agent_runs import run_in
from benchmarks.campaign.command import Options, run, state_of
from benchmarks.campaign.staleness import stale
from benchmarks.campaign.study import Findings, Scale, Study, job
from benchmarks.studies import improvement, topk, trl, warm_start
from benchmarks.studies.trl_side import Snapshots
from benchmarks.suites.runner import Plan
from textgym.errors import SettingsError
from textgym.tokenization import TINY_DIR

ROOT = Path(__file__).parents[2]

STUB = """
import json, os, sys, time
work = json.loads(sys.stdin.readline())
record, spec = work["record"], work["cell"]["spec"]
with open(os.environ["STUB_LOG"], "a") as log:
    log.write(f"{record['experiment']} {record['seed']}\\n")
time.sleep(float(os.environ.get("STUB_SECONDS", "0.01")))
if record["experiment"] == os.environ.get("STUB_FAILS"):
    sys.exit("what went wrong")
record["lm_hash"] = os.environ.get("STUB_MODEL") or record["lm_hash"]
more = {"status": "done", "result": {"x": spec["x"]}, "cpu_seconds": 90.0}
print(json.dumps({**record, **more}), flush=True)
sys.stdin.read()
"""

DRIVER = """
import sys
from pathlib import Path
from benchmarks.campaign import command
from benchmarks.campaign.study import Study, job

def study(name):
    def write(findings):
        total = sum(record["result"]["x"] for record in findings.records)
        findings.write(f"docs/{name}.md", f"# Sums\\n\\nThe sum is {total}.\\n")
    def plans(scale):
        return [job(name, f"{name}-{k}", "a", 0, {"x": 1}) for k in range(6)]
    return Study(name, name, plans, write, lambda plan: 1.0, lambda spec, scratch: {}, ())

stub, folder = Path(sys.argv[1]), Path(sys.argv[2])
command.JOB = [sys.executable, "-I", "-S", str(stub)]
command.studies = lambda names: [study("sums"), study("more")]
print("ready", flush=True)
command.run(command.Options(runs=folder / "runs", out=folder, workers=2))
"""


def sums(name: str = "sums", x: int = 1, count: int = 6) -> Study:
    """A study whose page has the sum of the results."""

    def plans(scale: Scale) -> list[Plan]:
        return [job(name, f"{name}-{k % 3}", "a", k // 3, {"x": x, "k": k}) for k in range(count)]

    def write(findings: Findings) -> None:
        total = sum(record["result"]["x"] for record in findings.records)
        findings.write(f"docs/{name}.md", f"# Sums\n\nThe sum is {total}.\n")

    return Study(name, "sums", plans, write, lambda plan: 3600.0, _measure, (f"docs/{name}.md",))


def _measure(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    (scratch / "file").write_text("x")
    if spec["x"] < 0:
        raise ValueError("negative")
    return {"x": spec["x"]}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jobs are those of the stub, which logs them here."""
    stub = tmp_path / "stub.py"
    stub.write_text(STUB)
    monkeypatch.setattr(command, "JOB", [sys.executable, "-I", "-S", str(stub)])
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "log"))
    (tmp_path / "log").touch()
    return tmp_path / "log"


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command for a study; returns its exit code and what it printed."""

    def call(one: Study, **options: Any) -> tuple[int, str]:
        monkeypatch.setattr(command, "studies", lambda names: [one])
        out = io.StringIO()
        given = {"runs": tmp_path / "runs", "out": tmp_path, "workers": 2, **options}
        code = run(Options(**given), Console(file=out, width=200))
        return code, out.getvalue()

    return call


def another_model(monkeypatch: pytest.MonkeyPatch, digit: str = "a") -> None:
    for module in (provenance, study, command):
        monkeypatch.setattr(module, "model_hash", lambda: digit * 64)


# -- the command -----------------------------------------------------------------------------------


def test_what_is_missing_is_measured_once(log: Path, measure: Any, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "sums.md"
    code, _ = measure(sums(), pages=True)
    assert code == 0
    assert log.read_text() == ""
    assert "Not measured with the present `textgym/tiny` yet" in page.read_text()

    code, output = measure(sums(count=4))
    assert code == 0
    assert "The sum is 4." in page.read_text()
    measure(sums(), pages=True)
    assert "**Incomplete: 4 of 6 runs are there;" in page.read_text()
    assert "--only sums" in page.read_text()

    code, output = measure(sums())
    assert code == 0
    assert Counter(log.read_text().splitlines()) == Counter(
        f"sums-{k % 3} {k // 3}" for k in range(6)
    )
    text = page.read_text()
    assert "The sum is 6." in text
    assert "Incomplete" not in text
    assert text.startswith(f"# Sums\n\n{provenance.mark()}\n")
    assert "sums-1, a, seed 1: 90 CPU s" in output


def test_the_list_changes_nothing(log: Path, measure: Any, tmp_path: Path) -> None:
    measure(sums(count=4))
    (tmp_path / "docs" / "sums.md").unlink()
    code, output = measure(sums(), list=True)
    assert code == 0
    # Three seeds of 90 CPU seconds each are done; two are left, of which the like costs as much.
    row = re.search(r"sums .*", output)
    assert row
    assert row[0].replace("│", " ").split()[-6:-1] == ["sums", "4", "0", "2", "0.1"]
    assert len(log.read_text().splitlines()) == 4
    assert not (tmp_path / "docs" / "sums.md").exists()
    state = state_of(sums(), Options(runs=tmp_path / "runs", out=tmp_path))
    assert state.seconds_left() == 180.0
    untouched = state_of(sums("other"), Options(runs=tmp_path / "runs", out=tmp_path))
    assert untouched.seconds_left() == 6 * 3600.0
    assert not untouched.folder.exists()


def test_killed_at_any_moment_and_shared_by_two(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_SECONDS", "0.15")
    driver = [sys.executable, "-c", DRIVER, str(log.with_name("stub.py")), str(tmp_path)]

    def started() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(driver, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    process = started()
    while len(log.read_text().splitlines()) < 3:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    time.sleep(0.3)  # Its jobs end when it has.
    before = len(log.read_text().splitlines())
    assert before < 12
    both = [started(), started()]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    for one in both:
        assert one.stdout is not None
        one.stdout.close()
    text = log.read_text().splitlines()
    assert {line.split()[0].split("-")[0] for line in text} == {"sums", "more"}
    assert len(set(text)) == 12
    assert len(text) <= 12 + 2, "only the jobs of the killed process are done twice"
    for name in ("sums", "more"):
        assert "The sum is 6." in (tmp_path / "docs" / f"{name}.md").read_text()


def test_figures_of_another_model_are_omitted(
    log: Path, measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(sums())
    page = tmp_path / "docs" / "sums.md"
    with monkeypatch.context() as patch:
        another_model(patch)
        assert measure(sums(), pages=True)[0] == 0
        assert "sum is 6" not in page.read_text()
        assert "Not measured" in page.read_text()
        measure(sums(x=2))
        assert "The sum is 12." in page.read_text()
        assert "a" * 64 in page.read_text()
    # The results of the first one are still there.
    assert measure(sums(), pages=True)[0] == 0
    assert "The sum is 6." in page.read_text()
    assert len(log.read_text().splitlines()) == 12


def test_results_with_other_settings_are_not_shown(log: Path, measure: Any, tmp_path: Path) -> None:
    measure(sums(count=3))
    page = tmp_path / "docs" / "sums.md"
    code, output = measure(sums(x=5))
    assert code == 1, "three are left"
    assert "3 results were made differently" in output
    assert "kwargs.x 1 (now 5)" in output
    assert "The sum is 15." in page.read_text()
    assert "**Incomplete: 3 of 6" in page.read_text()
    code, _ = measure(sums(x=5), redo=True)
    assert code == 0
    assert "The sum is 30." in page.read_text()


def test_failures_are_reported_and_tried_again(
    log: Path, measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("STUB_FAILS", "sums-1")
        code, output = measure(sums())
        assert code == 1
        assert "FAILED: sums: sums-1, a, seed 0: " in output
        assert "exit code 1" in output
        assert "**Incomplete: 4 of 6" in (tmp_path / "docs" / "sums.md").read_text()
    assert measure(sums())[0] == 0
    assert "The sum is 6." in (tmp_path / "docs" / "sums.md").read_text()
    with monkeypatch.context() as patch:  # With other settings than when it failed.
        patch.setenv("STUB_FAILS", "later-1")
        measure(sums("later"))
    output = measure(sums("later", x=3))[1]
    assert "4 results were made differently" in output
    assert "The sum is 6." in (tmp_path / "docs" / "later.md").read_text(), "2 jobs, 3 each"
    with monkeypatch.context() as patch:  # The weights are replaced during a job.
        patch.setenv("STUB_MODEL", "b" * 64)
        code, output = measure(sums("changed"))
        assert code == 1
        assert "the code changed during the run: lm_hash" in output


def test_impossible_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="--workers 0"):
        run(Options(workers=0, runs=tmp_path))
    with pytest.raises(SettingsError, match="--smoke"):
        run(Options(smoke=True, runs=tmp_path))
    assert command_line.main(["results", "--only", "improvment"]) == 2
    assert "--only improvment" in (message := capsys.readouterr().err)
    assert "'improvement'" in message


# -- one job ---------------------------------------------------------------------------------------


def test_a_record_says_what_it_was_measured_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "study", lambda name: sums(name))
    (plan, *_) = sums().plans(Scale())
    work = {"cell": plan.cell | {"scratch": str(tmp_path)}, "record": plan.record}
    record = job_process.measured(work)
    assert (record["status"], record["result"]) == ("done", {"x": 1})
    weights = hashlib.sha256()
    for file in sorted(TINY_DIR.glob("*.safetensors")):
        weights.update(file.read_bytes())
    assert record["lm_hash"] == record["provenance"]["model"] == weights.hexdigest()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if head.returncode == 0:
        assert head.stdout.startswith(record["provenance"]["commit"].rstrip("+"))
    assert record["provenance"]["machine"]["cores"] > 0
    assert record["cpu_seconds"] > 0
    assert list(tmp_path.iterdir()) == [], "the job's files are removed"
    json.dumps(record, allow_nan=False)

    (plan, *_) = sums(x=-1).plans(Scale())
    with pytest.raises(ValueError, match="negative"):
        job_process.measured(
            {"cell": plan.cell | {"scratch": str(tmp_path)}, "record": plan.record}
        )
    (left,) = tmp_path.iterdir()
    assert (left / "file").exists(), "a job that is started again finds its files"


def test_a_run_that_was_killed_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ppo.Settings(
        env="TextGen/GoodBad-v0", n_envs=8, n_steps=4, steps=160, eval_episodes=8, threads=1,
        device="cpu", checkpoint_every=32,
    )  # fmt: skip
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    whole = run_in(folders[0], "ppo", settings, ppo.make_agent)
    on_step = TrainingLog.on_step

    def crash(self: TrainingLog) -> bool:
        if self.num_timesteps > 100:
            raise RuntimeError("the machine goes down")
        return on_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "on_step", crash)
        with pytest.raises(RuntimeError, match="goes down"):
            run_in(folders[1], "ppo", settings, ppo.make_agent)
    killed = run_in(folders[1], "ppo", settings, ppo.make_agent)
    assert killed.parent == folders[1]
    assert len(list(folders[1].glob("*/run.json"))) == 1
    assert (killed / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    assert (killed / "lm" / "model.safetensors").read_bytes() == (
        whole / "lm" / "model.safetensors"
    ).read_bytes()
    # One that is over is not done again.
    stamp = (killed / "run.json").stat().st_mtime_ns
    assert run_in(folders[1], "ppo", settings, ppo.make_agent) == killed
    assert (killed / "run.json").stat().st_mtime_ns == stamp


# -- pages -----------------------------------------------------------------------------------------


def pages_of(tmp_path: Path) -> Path:
    """A copy of the pages, without the records that they are made of."""
    tmp_path.mkdir(exist_ok=True)
    shutil.copy(ROOT / "README.md", tmp_path)
    for folder in ("docs", "benchmarks/results"):
        ignored = shutil.ignore_patterns("records")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    return tmp_path


def test_no_page_quotes_figures_of_another_model() -> None:
    """If this fails: `python -m benchmarks results --pages` leaves these figures out."""
    assert stale() == []


def test_every_page_of_a_study_names_its_model() -> None:
    for one in registry.studies():
        for page in one.pages:
            if not page.endswith(".png") and (ROOT / page).exists():
                assert provenance.models_named((ROOT / page).read_text("utf-8")), page
            assert page.endswith((".png", ".json")) or (ROOT / page).exists(), page


def test_stale_pages_are_found(tmp_path: Path) -> None:
    root = pages_of(tmp_path)
    assert stale(root) == []
    page = root / "docs" / "improvement.md"
    text = page.read_text()
    page.write_text(re.sub("sha256:.{4}", "sha256:0000", text, count=1))
    cell = {"env": "TextGen/QA-v0", "kwargs": {}, "settings": {"lm": None}, "lm_hash": "0" * 16}
    folder = root / "benchmarks" / "results" / "quick"
    folder.mkdir(exist_ok=True)
    (folder / "cells.jsonl").write_text(json.dumps(cell) + "\n")
    found = stale(root)
    assert len(found) == 2
    assert "docs/improvement.md was measured with textgym/tiny sha256:0000" in found[0]
    assert "benchmarks/results/quick/cells.jsonl" in found[1]


def test_without_results_all_pages_are_written_without_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pages_of(tmp_path / "pages")
    another_model(monkeypatch)
    options = Options(pages=True, runs=tmp_path / "runs", out=root)
    assert run(options, Console(file=io.StringIO())) == 0
    for one in registry.studies():
        for page in one.pages:
            file = root / page
            if page.endswith(".md"):
                assert provenance.models_named(file.read_text()) == {"a" * 64}, page
                assert f"results --only {one.name}`" in file.read_text(), page
            else:
                assert not file.exists(), page
    assert not list((root / "benchmarks" / "results").rglob("cells.jsonl"))


# -- studies, in their smallest size ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["improvement", "warm_start", "topk", "long_run", "tasks", "demo"])
def test_a_study_from_its_jobs_to_its_pages(name: str, tmp_path: Path) -> None:
    root = pages_of(tmp_path / "pages")
    one = registry.study(name)
    assert one.measure is not None
    plans = one.plans(Scale(smoke=True))
    if name == "demo":  # The README's agent is a process of some seconds.
        plans = plans[:1]
    records = []
    for number, plan in enumerate(plans):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        result = one.measure(plan.cell["spec"], scratch)
        result = json.loads(json.dumps(result, allow_nan=False))
        records.append({**plan.record, "status": "done", "result": result, "cpu_seconds": 60.0})
    one.write(Findings(name, plans, records, root))
    expected = {
        "improvement": ("docs/improvement.md", f"| {records[0]['result'].get('mean', 0):.3f} |"),
        "warm_start": ("docs/warm_start.md", "| `TextGen/QA-v0` | 1 |"),
        "topk": ("README.md", "| the likeliest proposal |"),
        "long_run": ("README.md", "Trained ten times as long"),
        "tasks": ("docs/tasks.md", "| `TextGen/Caption-v0` | 1 |"),
        "demo": ("README.md", "grammatical to the last word: "),
    }
    page, text = expected[name]
    assert text in (root / page).read_text("utf-8")
    assert stale(root) == []


def run_of(before: list[float], after: list[float], **more: Any) -> dict[str, Any]:
    return {
        "before": before, "after": after, "steps": 1000, "cpu_seconds": 120.0,
        "greedy_after": {"mean": 0.5}, "eval_before": {"mean": 0.0, "reward_terms/answered": 0.2},
        "eval_after": {"mean": 0.0, "reward_terms/answered": 0.6}, **more,
    }  # fmt: skip


def test_changes_are_paired_over_prompts() -> None:
    runs = [run_of([0.0, 0.2], [0.4, 0.6]), run_of([0.2, 0.4], [0.6, 1.0])]
    found = improvement.Change.of(runs)
    assert found.before == pytest.approx(0.2)
    assert found.after == pytest.approx(0.65)
    # By prompt: from 0.1 to 0.5, and from 0.3 to 0.8.
    assert found.change == pytest.approx(0.45)
    assert found.error == pytest.approx(1.96 * 0.1 / 2**0.5 / 2**0.5)
    assert found.seeds == pytest.approx([0.5, 0.8])
    assert found.minutes == 2.0
    assert found.verdict == "better"
    assert found.learned, "it is more than doubled"
    assert found.terms == {"answered": (pytest.approx(0.2), pytest.approx(0.6))}
    worse = improvement.Change.of([run_of([0.8, 0.8], [0.7, 0.71])])
    assert worse.verdict == "**worse**"
    assert worse.learned, "it is above 0.7"
    even = improvement.Change.of([run_of([0.5, 0.5], [0.4, 0.61])])
    assert even.verdict == "no significant change"
    assert not even.learned
    changes = {"A": {"ppo": found, "grpo": even}, "B": {"ppo": even}}
    assert "on 1 of 2 tasks, and rises by at least 0.15 on 1." in improvement.verdicts(changes)[0]


def test_warm_start_costs_are_of_each_stage() -> None:
    returns = {"before": [0.0, 0.2], "warm_started": [0.4, 0.4], "after": [0.5, 0.9]}
    greedy = {"warm_started": {"mean": 0.45}, "after": {"mean": 0.75}}
    one = {"returns": returns, "greedy": greedy, "cpu_seconds": 300.0,
           "warm_start": {"cpu_seconds": 60.0}}  # fmt: skip
    plans = [job("warm_start", "T", "ppo", 0, {"warm_start": 5, "steps": 6, "cpu_minutes": 1.0,
                                               "episodes": 2})]  # fmt: skip
    written: dict[str, str] = {}

    class Kept(Findings):
        def write(self, path: str, text: str) -> None:
            written[path] = text

    warm_start.write(Kept("warm_start", plans, [{**plans[0].record, "result": one}]))
    line = next(
        row for row in written["docs/warm_start.md"].splitlines() if row.startswith("| `T`")
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:7] == ["1", "0.100", "0.400", "0.450", "1.0", "0.700"]
    assert cells[7].startswith("+0.300 ± 0.392")
    assert cells[8:] == ["0.750", "5.0"]


def test_the_best_of_those_who_choose_is_first(tmp_path: Path) -> None:
    root = pages_of(tmp_path / "pages")
    plans = topk.plans(Scale())
    records = [
        {**plan.record, "cpu_seconds": 120.0,
         "result": {"returns": [0.8 if plan.key.agent == "dqn" else 0.2] * 4, "learns": True}}
        for plan in plans if plan.key.agent in ("dqn", "random")
    ]  # fmt: skip
    topk.write(Findings("topk", plans, records, root))
    text = (root / "README.md").read_text()
    part = text[text.index("<!-- topk:begin -->") : text.index("<!-- topk:end -->")]
    assert re.search(r"DQN .* 0\.800 ± 0\.000 \| 2\.0 \|\n\| a random proposal \| 0\.200", part)
    assert f"**Incomplete: 6 of {len(plans)}" in part


# -- beside TRL ------------------------------------------------------------------------------------


def test_sides_are_compared_at_equal_tokens_and_equal_cpu_time() -> None:
    curve = [
        {"tokens": 0, "cpu": 0.0, "mean": 0.2, "ci95": 0.0},
        {"tokens": 100, "cpu": 10.0, "mean": 0.4, "ci95": 0.0},
        {"tokens": 200, "cpu": 30.0, "mean": 0.8, "ci95": 0.0},
    ]
    assert trl.at(curve, "tokens", 150) == pytest.approx(0.6)
    assert trl.at(curve, "cpu", 20.0) == pytest.approx(0.6)
    assert trl.at(curve, "cpu", 99.0) == 0.8
    fast = [{**point, "cpu": point["cpu"] / 3} for point in curve]
    plans = [job("trl", "T", side, 0, {}) for side in trl.SIDES]
    curves = dict(zip(trl.SIDES, (fast, fast, curve), strict=True))
    records = [{**plan.record, "result": {"curve": curves[plan.key.agent]}} for plan in plans]
    rows = trl.rows_of(Findings("trl", plans, records), "T")
    assert rows[0].endswith("| 0.800 [0.800, 0.800] | 10 | 20 | 0.800 at 10 s |")
    assert rows[2].endswith("| 0.800 [0.800, 0.800] | 30 | 7 | 0.400 at 10 s |")
    assert trl.plot(Findings("trl", plans, records), ["T"])[:4] == b"\x89PNG"


def test_snapshots_are_at_equal_distances_and_the_clock_stands_still(tmp_path: Path) -> None:
    found = Snapshots(tmp_path, 100, 4)

    def save(path: str) -> None:
        Path(path).mkdir()
        began = time.process_time()
        while time.process_time() - began < 0.2:
            pass

    for tokens in (10, 24, 25, 26, 70, 80, 100):
        found.tokens = tokens
        found.take(save)
        assert found.done == (tokens == 100)
    assert [point["tokens"] for point in found.points] == [25, 70, 80, 100]
    assert [path.name for path in sorted(tmp_path.iterdir())] == sorted(
        point["folder"] for point in found.points
    )
    assert found.points[-1]["cpu"] < 0.2
    assert found.points[-1]["wall"] < 0.2
