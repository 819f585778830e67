"""Importing textgym and running an episode needs neither torch nor transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import textgym

ROOT = Path(__file__).parents[1]
IDS = ["TextGen-v0", *textgym.registered_tasks()]
HEAVY = ("torch", "transformers", "stable_baselines3", "datasets", "pandas", "pyarrow", "PIL")


def run(code: str) -> Any:
    """The value of ``answer`` after running code in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\nimport json\nprint(json.dumps(answer))"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_is_light(record_property: Any) -> None:
    code = (
        "import time; start = time.process_time()\n"
        "import textgym; seconds = time.process_time() - start\n"
        "import textgym.tasks, textgym.rewards, textgym.envs, textgym.testing\n"
        f"import sys; answer = [seconds, [name for name in {HEAVY} if name in sys.modules]]"
    )
    seconds, loaded = run(code)
    # Reported, not asserted: a clock is no property of the code. (pytest --junitxml shows it.)
    record_property("import_cpu_seconds", seconds)
    assert loaded == []


def test_playing_is_light() -> None:
    code = f"""
import sys, gymnasium, textgym
for env_id in {IDS}:
    env = gymnasium.make(env_id)
    env.reset(seed=1)
    while not env.step(1)[2]:
        pass
    envs = gymnasium.make_vec(env_id, num_envs=2)
    envs.reset(seed=1)
    for _ in range(3):
        envs.step([0, 1])
answer = [name for name in {HEAVY} if name in sys.modules]
"""
    assert run(code) == []


def test_a_base_install_is_enough_for_rows_with_references() -> None:
    """The default reward needs no extra, and is loaded on first use."""
    extras = ("sacrebleu", "rouge_score", "reasoning_gym", "sb3_contrib", *HEAVY)
    code = f"""
import sys
sys.modules.update(dict.fromkeys({extras}))
import gymnasium, textgym
light = "rapidfuzz" not in sys.modules
env = gymnasium.make("TextGen-v0", prompts=[{{"prompt": "a", "reference": ""}}])
env.reset(seed=1)
answer = [light, env.step(env.unwrapped.tokenizer.eos_id)[1]]
"""
    assert run(code) == [True, 1.0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert any(name.startswith("rapidfuzz") for name in project["dependencies"])


def test_ids_exist_after_the_import_and_by_their_module() -> None:
    code = """
import gymnasium
try:
    gymnasium.make("TextGen-v0")
    answer = ["known before the import"]
except gymnasium.error.NameNotFound:
    answer = [gymnasium.make("textgym:TextGen-v0").spec.id]
"""
    assert run(code) == ["TextGen-v0"]


@pytest.mark.parametrize(
    "module", ["tasks", "rewards", "feedback", "envs", "testing", "errors", "tokenization"]
)
def test_each_room_can_be_imported_alone(module: str) -> None:
    code = f"import textgym.{module}\nimport sys\nanswer = 'torch' in sys.modules"
    assert run(code) is False


def test_what_is_public_exists() -> None:
    for name in textgym.__all__:
        assert getattr(textgym, name) is not None
