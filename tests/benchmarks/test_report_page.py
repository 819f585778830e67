"""The report of a runs folder: reading cells, the page in HTML and Markdown, and its plots."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.report import diagnostics, report
from benchmarks.report.cells import Cell, read_cells
from benchmarks.report.inlining import inlined
from benchmarks.report.page import commands
from benchmarks.report.plots import PALETTE, plots, style
from benchmarks.report.summary import Summary, smoothed
from benchmarks.report.tables import in_markdown
from textgym.errors import DataError

EVIL = '</pre><script>document.title = "hacked"</script><img src=x onerror=alert(1)> & "\x00\ud800'
TASKS = {
    "TextGen/GoodBad-v0": ("basic", "exact"),
    "TextGen/QA-v0 level=1": ("reading", "exact"),
    "TextGen/Story-v0 level=2": ("free writing", "graded"),
}
SKILL = {"ppo": 0.7, "grpo": 0.45, "my_agent": 0.2}
PLOTS = ["aggregates", "profile", "tags", "tasks", "curves"]


def cell(task: str, agent: str, seed: int, **changes: Any) -> dict[str, Any]:
    """A record in the runner's format; the scores depend on the key alone."""
    env, _, level = task.partition(" level=")
    rng = np.random.default_rng([len(task), len(agent), seed])
    floor, ceiling = (-1.0, 1.0) if "GoodBad" in task else (0.0, 1.0)
    after = floor + (ceiling - floor) * float(np.clip(SKILL[agent] + rng.normal(0, 0.06), 0, 1))
    curve = [[k * 4096, floor + (after - floor) * k / 5] for k in range(1, 6)]
    return {
        "version": 1,
        "suite": "quick",
        "experiment": task,
        "env": env,
        "kwargs": {"level": int(level)} if level else {},
        "timesteps": 20_480,
        "tags": list(TASKS[task]),
        "floor": floor,
        "ceiling": ceiling,
        "agent": agent,
        "seed": seed,
        "status": "done",
        "error": None,
        "settings": {"lr": 1e-3, "seed": seed, "env": env},
        "versions": {"textgym": "0.1.0", "torch": "2.13.0"},
        "task_hash": f"{len(task):08x}",
        "lm_hash": "abcd1234",
        "before": {"mean": floor + 0.05, "ci95": 0.02, "returns": [floor, floor + 0.1]},
        "after": {"mean": after, "ci95": 0.03, "returns": [after, after]},
        "curve": curve,
        "samples": [{"prompt": f"Prompt of {task}", "before": "noise", "after": "A fine text."}],
        "wall_seconds": 30.0,
        "cpu_seconds": 24.0,
        "tokens_per_second": 700.0,
        **changes,
    }


def failed(task: str, agent: str, seed: int, error: str) -> dict[str, Any]:
    nothing = {"before": None, "after": None, "curve": [], "samples": []}
    return cell(task, agent, seed, status="failed", error=error, **nothing)


def write(folder: Path, records: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "cells.jsonl").write_text(lines, "utf-8")
    return folder


def grid(seeds: int = 3) -> list[dict[str, Any]]:
    return [cell(task, agent, seed) for task in TASKS for agent in SKILL for seed in range(seeds)]


class Page(HTMLParser):
    """A page as a browser sees it: elements, whether they are closed, and the text."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.scripts += tag == "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it: a failure, a gap, and texts that attack the page."""
    folder = tmp_path_factory.mktemp("report")
    records = grid()
    records[0]["samples"] = [{"prompt": EVIL, "before": EVIL, "after": "see http://example.org/"}]
    records[1]["samples"] = [{"prompt": "```\n# no title", "before": "", "after": "\r\x1b[31m"}]
    at = {(r["experiment"], r["agent"], r["seed"]): k for k, r in enumerate(records)}
    gone = at["TextGen/QA-v0 level=1", "my_agent", 1]
    records[gone] = failed("TextGen/QA-v0 level=1", "my_agent", 1, "ValueError: <b>no</b> $x$ | y")
    del records[at["TextGen/Story-v0 level=2", "grpo", 2]]
    write(folder / "runs", records)
    assert report(folder / "runs", folder / "out") == folder / "out" / "report.html"
    return folder / "out"


# -- reading ---------------------------------------------------------------------------------------


def test_cells_are_read_in_one_order_and_the_last_line_of_a_cell_counts(tmp_path: Path) -> None:
    records = grid(2)
    again = cell("TextGen/GoodBad-v0", "ppo", 0, task_hash="new")
    write(tmp_path, [*records[::-1], again])
    with (tmp_path / "cells.jsonl").open("a") as file:
        file.write(json.dumps(records[0])[:50])
    cells, remarks = read_cells(tmp_path)
    assert [c.key for c in cells] == sorted(c.key for c in cells)
    assert len(cells) == len(records)
    found = next(c for c in cells if c.key == ("TextGen/GoodBad-v0", "ppo", 0))
    assert found.record["task_hash"] == "new"
    assert len(remarks) == 2
    assert "more than once" in remarks[0]
    assert "cut short" in remarks[1]


def test_a_score_is_on_the_scale_of_floor_and_ceiling(tmp_path: Path) -> None:
    after = {"mean": 0.5, "ci95": 0.1, "returns": [0.5]}
    write(tmp_path, [cell("TextGen/GoodBad-v0", "ppo", 0, after=after)])
    (found,), _ = read_cells(tmp_path)
    assert found.score == 0.75
    assert found.error is None


def test_suites_in_one_folder_have_different_names(tmp_path: Path) -> None:
    records = [cell("TextGen/GoodBad-v0", "ppo", 0, suite=name) for name in ("quick", "full")]
    write(tmp_path, records)
    cells, remarks = read_cells(tmp_path)
    assert [c.task for c in cells] == ["TextGen/GoodBad-v0 (full)", "TextGen/GoodBad-v0 (quick)"]
    assert not remarks


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{]", "line 2"),
        ("[]", "TypeError"),
        ('{"version": 2}', "version is 2"),
        (json.dumps(cell("TextGen/GoodBad-v0", "ppo", 0, status="running")), "running"),
        (json.dumps(cell("TextGen/GoodBad-v0", "ppo", 0, floor=1.0)), "floor"),
    ],
)
def test_lines_that_are_no_cells_are_named(tmp_path: Path, line: str, said: str) -> None:
    first = json.dumps(cell("TextGen/GoodBad-v0", "ppo", 0))
    (tmp_path / "cells.jsonl").write_text(f"{first}\n{line}\n")
    with pytest.raises(DataError, match=re.escape(said)):
        read_cells(tmp_path)


def test_folders_without_cells_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{re.escape(str(tmp_path))}: .*FileNotFoundError"):
        read_cells(tmp_path)
    (tmp_path / "cells.jsonl").write_text("")
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "cells.jsonl"))):
        read_cells(tmp_path)


# -- the page --------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_asks_the_network_for_nothing(made: Path) -> None:
    text = (made / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.open == []
    for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
        for address in page.attributes(name):
            assert re.fullmatch(rf"#[\w-]+|data:,|(?:{'|'.join(PLOTS)})\.(svg|png)", address)
    assert not re.search(r"@import|url\((?!#)", text)
    # The only address in the page is the one that an agent wrote, and nobody follows a text.
    assert re.findall(r"https?://[^<\s]*", text) == ["http://example.org/"]
    policy = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in str(policy)


def test_texts_are_shown_and_never_run(made: Path) -> None:
    page = Page((made / "report.html").read_text("utf-8"))
    assert page.scripts == 1
    assert not any(tag in ("img", "b") for tag, _ in page.elements)
    shown = "".join(page.text)
    assert EVIL.replace("\x00", "␀").replace("\ud800", "\\ud800") in shown
    assert "ValueError: <b>no</b> $x$ | y" in shown
    assert "␍␛[31m" in shown


def test_ids_are_unique_and_references_lead_somewhere(made: Path) -> None:
    text = (made / "report.html").read_text("utf-8")
    page = Page(text)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    inner = [address[1:] for address in page.attributes("href") if address.startswith("#")]
    inner += re.findall(r"url\(#([^)]*)\)", text)
    assert inner
    assert set(inner) <= set(ids)


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_in_the_page_and_in_files(made: Path, name: str) -> None:
    page = (made / "report.html").read_text("utf-8")
    figure = page.partition(f'id="plot-{name}"')[2].partition("</figure>")[0]
    assert "<svg" in figure
    assert f"{name}.svg" in (made / "report.md").read_text("utf-8")
    assert (made / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    words = [e.text for e in ElementTree.parse(made / f"{name}.svg").iter() if "text" in e.tag]
    for agent in SKILL:  # As text, not as outlines.
        assert agent in words
        assert f">{agent}</text>" in figure


def test_tables_say_what_the_cells_say(made: Path) -> None:
    text = (made / "report.md").read_text("utf-8")
    means = [cell("TextGen/GoodBad-v0", "ppo", seed)["after"]["mean"] for seed in range(3)]
    row = next(r for r in text.splitlines() if r.startswith("| TextGen/GoodBad-v0 | -1 "))
    _, _, floor, ceiling, grpo, mine, ppo, _ = row.split("|")
    assert (floor.strip(), ceiling.strip()) == ("-1", "1")
    found = re.fullmatch(r" \*\*(\S+) \\\[(\S+), (\S+)\\\]\*\* ", ppo)
    assert found is not None
    mean, low, high = map(float, found.groups())
    assert mean == pytest.approx(np.mean(means), abs=5e-4)
    # Of three values a replicate holds one alone with a chance of 1/27, above 2.5%.
    assert (low, high) == pytest.approx((min(means), max(means)), abs=5e-4)
    assert "**" not in grpo + mine


def test_failures_and_gaps_are_said(made: Path) -> None:
    for text in ((made / name).read_text("utf-8") for name in ("report.md", "report.html")):
        assert "1 of 26 cells have no score" in text
        assert "Missing, so not run or not finished: 1 of the 3 agents" in text
        assert "The fewest seeds behind a number are 2" in text
        assert "(1 of 3 failed)" in text
        assert "(2 seeds)" in text
        assert "Failed cells" in text
        assert "its path has to be given: my_agent.py" in text.replace("\\", "")
        some = " ".join(f"--only {task.partition(' ')[0]}" for task in TASKS)
        command = f"--suite quick --agent grpo --agent my_agent.py --agent ppo {some} --seeds 3"
        assert command in text


def test_markdown_keeps_texts_in_their_places(made: Path) -> None:
    text = (made / "report.md").read_text("utf-8")
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)
    assert "script" not in outside
    assert "no title" not in outside
    for table in re.findall(r"(?m)(?:^\|.*\n)+", outside):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_of_a_name_is_plain() -> None:
    assert in_markdown("a|b *c* <d>\n`e`") == "a\\|b \\*c\\* \\<d\\> \\`e\\`"


def test_the_same_cells_give_the_same_files(made: Path, tmp_path: Path) -> None:
    runs = made.parent / "runs"
    lines = (runs / "cells.jsonl").read_text("utf-8").splitlines(keepends=True)
    (runs / "cells.jsonl").write_text("".join(lines[::-1]), "utf-8")  # Ended in another order.
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    report(runs, made)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert set(before) == {
        "report.html",
        "report.md",
        *(f"{name}.{ending}" for name in PLOTS for ending in ("svg", "png")),
    }


def test_a_folder_of_failures_alone_has_a_report(tmp_path: Path) -> None:
    write(tmp_path, [failed("TextGen/GoodBad-v0", "ppo", 0, "OutOfMemory")])
    text = report(tmp_path, tmp_path / "out").read_text("utf-8")
    assert "OutOfMemory" in text
    assert "<svg" not in text
    assert Page(text).open == []


def test_one_cell_has_no_interval_and_nothing_is_best(tmp_path: Path) -> None:
    write(tmp_path, [cell("TextGen/GoodBad-v0", "ppo", 0, curve=[])])
    report(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    row = next(r for r in text.splitlines() if r.startswith("| TextGen/GoodBad-v0 | -1 "))
    assert "[" not in row
    assert "**" not in row
    assert "a single seed has no interval" in text
    assert not (tmp_path / "out" / "curves.svg").exists()


def test_an_agent_that_failed_in_a_task_takes_it_out_of_the_aggregates(tmp_path: Path) -> None:
    records = [
        failed(r["experiment"], r["agent"], r["seed"], "no")
        if (r["experiment"], r["agent"]) == ("TextGen/GoodBad-v0", "grpo")
        else r
        for r in grid()
    ]
    cells, _ = read_cells(write(tmp_path, records))
    summary = Summary(cells)
    assert summary.common == ["TextGen/QA-v0 level=1", "TextGen/Story-v0 level=2"]
    assert "TextGen/GoodBad-v0 is left out of all aggregates over tasks: no score by grpo." in (
        summary.notes()
    )
    # Pairs are compared where both have scores.
    found = summary.improvement("my_agent", "ppo")
    assert found is not None
    assert found[1] == 3


def test_an_agent_that_was_rewritten_is_said(tmp_path: Path) -> None:
    records = grid()
    records[0]["agent_hash"] = "new"
    cells, _ = read_cells(write(tmp_path, records))
    assert 'ppo: its file changed between cells (hashes): "new", null.' in Summary(cells).notes()


def test_different_tasks_under_one_name_are_said(tmp_path: Path) -> None:
    records = grid()
    records[0]["task_hash"] = "other"
    cells, _ = read_cells(write(tmp_path, records))
    assert any("task hashes" in note and "other" in note for note in Summary(cells).notes())


# -- plots -----------------------------------------------------------------------------------------


def test_agents_look_the_same_in_every_plot_and_unlike_each_other() -> None:
    agents = [f"agent {k}" for k in range(20)]
    looks = [tuple(style(agents, agent).values()) for agent in agents]
    assert len(set(looks)) == len(agents)
    assert len({look[0] for look in looks[:8]}) == len(PALETTE) == 8


def test_learning_curves_are_smoothed() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 5, 12):
        values = rng.random(size)
        near = [min(at, size - 1 - at, 2) for at in range(size)]
        expected = [values[at - k : at + k + 1].mean() for at, k in enumerate(near)]
        np.testing.assert_allclose(smoothed(values), expected)


def test_learning_curves_of_other_steps_are_interpolated(tmp_path: Path) -> None:
    curves = [[[0, 0.0], [10, 1.0]], [[5, 0.5], [20, 2.0]]]
    task = "TextGen/QA-v0 level=1"
    write(tmp_path, [cell(task, "ppo", seed, curve=curve) for seed, curve in enumerate(curves)])
    x, (value, low, high) = Summary(read_cells(tmp_path)[0]).curve(task, "ppo")
    assert (x[0], x[-1]) == (5, 10)
    np.testing.assert_allclose(value, x / 10)
    np.testing.assert_allclose(low, x / 10)
    np.testing.assert_allclose(high, x / 10)


def test_names_with_mathematics_in_them_are_drawn_as_they_are(tmp_path: Path) -> None:
    records = [{**cell(t, "ppo", s), "agent": "$x_1$ <é> 中"} for t in TASKS for s in (0, 1)]
    cells, _ = read_cells(write(tmp_path, records))
    for plot in plots(Summary(cells)):
        words = [e.text for e in ElementTree.fromstring(plot.svg).iter() if "text" in e.tag]
        assert "$x_1$ <é> 中" in words
        assert "xmlns" not in inlined(plot)


# -- a browser -------------------------------------------------------------------------------------

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_page_without_an_error_and_sorts_its_tables(
    made: Path, tmp_path: Path
) -> None:
    assert BROWSER is not None
    text = (made / "report.html").read_text("utf-8")
    # A page of its own, which clicks; the report's policy would refuse a second script.
    click = (
        '<script>const t = document.querySelectorAll("table")[0], h = t.tHead.rows[0].cells[1];'
        "for (const way of [0, 1]) { h.firstChild.click(); document.body.dataset[`order${way}`] ="
        '[...t.tBodies[0].rows].map((r) => r.cells[0].textContent).join(" "); }</script></body>'
    )
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", text)
    (tmp_path / "clicked.html").write_text(unguarded.replace("</body>", click), "utf-8")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --disable-quic"
    flags += " --enable-logging=stderr --dump-dom"
    for file in (made / "report.html", tmp_path / "clicked.html"):
        done = subprocess.run(
            [BROWSER, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        assert said == []
        assert "<title>Benchmark: quick</title>" in done.stdout  # No text has changed it.
        assert done.stdout.count("<svg") == len(PLOTS)
    assert 'data-order0="my_agent grpo ppo"' in done.stdout
    assert 'data-order1="ppo grpo my_agent"' in done.stdout


def test_commands_make_all_the_cells_again_and_no_others() -> None:
    """More seeds of one task, an agent with flags in another one, and one cell that is missing."""
    good, qa, story = TASKS
    keys = [(task, agent, seed) for task in TASKS for agent in ("ppo", "grpo") for seed in (0, 1)]
    keys += [(qa, agent, 2) for agent in ("ppo", "grpo")]
    keys.remove((good, "grpo", 1))
    records = [cell(*key) for key in keys]
    records += [{**cell(story, "ppo", seed), "agent": "lm --sampling greedy"} for seed in (0, 1)]
    *runs, last = commands(Summary([Cell(each) for each in records]), "A B", "out").splitlines()
    start = "python -m benchmarks run --suite quick --agent grpo"
    assert runs == [
        f"{start} --agent ppo --only TextGen/GoodBad-v0 --seeds 2 --out 'A B'",
        f"{start} --agent ppo --only TextGen/QA-v0 --seeds 3 --out 'A B'",
        f"{start} --agent 'lm --sampling greedy' --agent ppo --only TextGen/Story-v0 --seeds 2 "
        "--out 'A B'",
    ]
    assert last == "python -m benchmarks report 'A B' --out out"

    mine = [{**cell(qa, "ppo", seed), "agent": "'my agent' --lr 1"} for seed in (0, 1)]
    assert commands(Summary([Cell(each) for each in mine]), "A", "out").splitlines()[0] == (
        """python -m benchmarks run --suite quick --agent ''"'"'my agent.py'"'"' --lr 1' """
        "--only TextGen/QA-v0 --seeds 2 --out A"
    )


# -- diagnostics -----------------------------------------------------------------------------------


def diagnosed(task: str, agent: str, seed: int, **courses: list[list[float]]) -> dict[str, Any]:
    names = {name.replace("__", "/"): points for name, points in courses.items()}
    warned = [[8192, f"9{seed}% of the groups of responses are <b>alike</b>"]] if seed else []
    return cell(task, agent, seed, diagnostics={"courses": names, "warnings": warned})


def test_diagnostics_are_means_over_the_seeds_of_both_ends(tmp_path: Path) -> None:
    qa, story = "TextGen/QA-v0 level=1", "TextGen/Story-v0 level=2"
    steps = [2048 * (at + 1) for at in range(10)]
    records = []
    for seed in range(3):
        falling = [[step, 2.0 - 0.1 * at - 0.3 * seed] for at, step in enumerate(steps)]
        share = {"reward_shares__a": [[4096, 0.9]], "reward_shares__b": [[4096, 0.1 * seed]]}
        information = {
            "diagnostics__mutual_information": [[4096, 1.5], [20480, 0.5]],
            "diagnostics__mutual_information_max": [[4096, 2.0], [20480, 2.0]],
        }
        records += [
            diagnosed(qa, "ppo", seed, diagnostics__entropy=falling, **information),
            diagnosed(story, "ppo", seed, train__explained_variance=[[4096, -0.5]], **share),
            cell(qa, "my_agent", seed),
        ]
    page = report(write(tmp_path / "runs", records), tmp_path / "out")
    cells = Summary(read_cells(tmp_path / "runs")[0])
    table = diagnostics.diagnostics(cells)
    assert table is not None
    rows = {(row[0].text, row[1].text): [each.text for each in row[2:]] for row in table.rows}
    assert table.head[2:] == [
        "explained variance", "entropy", "mutual information", "largest reward share",
    ]  # fmt: skip
    assert rows == {
        (qa, "ppo"): ["-", "1.70 → 0.80", "1.50 → 0.50", "-"],
        (story, "ppo"): ["-0.50 → -0.50", "-", "-", "a 90%"],
    }
    assert "at most 2.00 nats" in table.remark
    warned = diagnostics.warnings(cells)
    assert warned is not None
    assert [[each.text for each in row[:4]] for row in warned.rows] == [
        [task, "ppo", "1, 2", "8,192"] for task in (qa, story)
    ]
    text = page.read_text("utf-8")
    assert "&lt;b&gt;alike" in text
    assert "<b>alike" not in text
    shown = Page(text)
    assert "plot-diagnostics" in shown.attributes("id")
    assert "## Diagnostics" in (tmp_path / "out" / "report.md").read_text("utf-8")
    course = diagnostics.courses(cells, "ppo")
    grid = np.linspace(0, 1, diagnostics.GRID)
    information_ = course["mutual information, of its maximum"]
    assert np.isnan(information_[grid < 0.2 - 1e-9]).all()
    assert information_[-1] == pytest.approx(0.25)
    assert information_[grid == 0.6] == pytest.approx(0.5)
    assert course["entropy, nats per token"][-1] == pytest.approx(2 - 0.9 - 0.3)
    assert course["largest share of the reward's variance"][4] == pytest.approx(0.9)
    assert not diagnostics.courses(cells, "my_agent")


def test_cells_of_before_have_no_diagnostics(made: Path) -> None:
    assert not (made / "diagnostics.svg").exists()
    assert "Diagnostics" not in (made / "report.md").read_text("utf-8")
