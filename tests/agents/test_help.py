"""What `python -m agents` and every agent's --help say, and that they need no torch for it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agents import dpo, grpo, ppo
from agents.__main__ import agents, main
from agents.running import command_line as cli

ROOT = Path(__file__).parents[2]
NAMES = sorted(agents())
HEAVY = {"torch", "transformers", "stable_baselines3", "matplotlib"}


def answers(*commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit codes, output and errors of agents' command lines, which may not import torch."""
    code = (
        "import contextlib, io, json, runpy, sys\n"
        f"for name, *args in {list(commands)!r}:\n"
        "    sys.modules.pop('agents.' + name, None)\n"
        "    sys.argv, out, err = ['', *args], io.StringIO(), io.StringIO()\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
        "        try:\n"
        "            runpy.run_module('agents.' + name, run_name='__main__', alter_sys=True)\n"
        "        except SystemExit as error:\n"
        "            code = error.code\n"
        f"    assert not {HEAVY!r} & set(sys.modules), name\n"
        "    print(json.dumps([code, out.getvalue(), err.getvalue()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_help_does_not_wait_for_torch() -> None:
    found = answers(*([name, "--help"] for name in NAMES))
    for name, (code, output, errors) in zip(NAMES, found, strict=True):
        assert (code or 0, errors) == (0, "")
        assert f"usage: python -m agents.{name}" in output
        assert "--total-timesteps (--steps)" in " ".join(output.split())


def test_errors_of_flags_do_not_wait_for_torch() -> None:
    wrong = [["--stepps", "5"], ["--n-envs", "many"], ["--n-envs", "0"]]
    words = ["--steps INT", "--n-envs", "--n-envs 0: it has to be at least 1"]
    for (code, _, errors), word in zip(answers(*(["nlpo", *a] for a in wrong)), words, strict=True):
        assert code == 2
        assert word in errors


def test_the_list_has_every_agent_and_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] == ["ppo"] and ppo.__doc__.split("\n")[0] in line for line in lines)
    listed = {line.split()[0] for line in lines if line[:1].isalpha()}
    files = {file.stem for file in (ROOT / "agents").glob("*.py")} - {"__init__", "__main__"}
    assert files <= listed
    assert main(["ppo", "--lr", "1"]) == 2
    assert "python -m agents.ppo" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_hyperparameters_are_in_the_agent_s_own_file(name: str) -> None:
    """A file imports no other agent but for the demo, and its settings derive from a run's."""
    tree = ast.parse((ROOT / "agents" / f"{name}.py").read_text("utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = {module for module in modules if module.split(".")[0] == "agents"}
    allowed = ("agents.running.", "agents.ppo") if name == "demo" else ("agents.running.",)
    assert all(module.startswith(allowed) for module in ours)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Settings":
            bases = set(map(ast.unparse, node.bases))
            assert bases
            assert bases <= {
                "RunSettings",
                "StepSettings",
                "ModelSettings",
                "LMSettings",
                "CriticSettings",
            }


# ---------------------------------------------------------------------- names of other libraries


def test_flags_may_be_written_as_in_other_libraries() -> None:
    words = "--learning-rate 0.25 --total_timesteps=7 --num-envs 3 --max_completion_length 5"
    s = cli.parse("agents.ppo", ppo.Settings(), None, words.split())
    assert (s.lr, s.steps, s.n_envs, s.max_new_tokens) == (0.25, 7, 3, 5)
    s = cli.parse("agents.grpo", grpo.Settings(), None, ["--num-generations", "4", "--beta=0.5"])
    assert (s.group_size, s.kl_coef) == (4, 0.5)
    words = "--beta 0.5 --loss-type ipo --rpo-alpha 1 --num-train-epochs 3"
    d = cli.parse("agents.dpo", dpo.Settings(), None, words.split())
    assert (d.beta, d.loss, d.sft_coef, d.n_epochs) == (0.5, "ipo", 1.0, 3)


def test_an_alias_is_for_agents_with_the_setting_alone() -> None:
    with pytest.raises(SystemExit):
        cli.parse("agents.ppo", ppo.Settings(), None, ["--num-generations", "4"])


def test_underscores_are_hyphens() -> None:
    s = cli.parse("agents.ppo", ppo.Settings(), None, ["--clip_range", "0.3", "--n_envs=2"])
    assert (s.clip_range, s.n_envs) == (0.3, 2)
