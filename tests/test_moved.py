"""Names of modules from version 0.1.0 can still be imported."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from textgym import moved

OLD = {
    "agents.cli": "command_line",
    "agents.common": "run",
    "agents.evaluation": "evaluate",
    "agents.word_model": "starting_model",
    "textgym.tasks.loading": "make_source",
    "textgym.tasks.rows": "as_row",
    "textgym.tasks.files": "read_file",
    "textgym.tasks.sources": "Source",
    "textgym.tasks.python_sandbox": "run_tests",
    "textgym.words": "split_words",
    "textgym.rewards.chat": "text_of_messages",
    "textgym.rewards.metrics": "evaluate",
    "textgym.rewards.neural.preference_pairs": "pairs_of",
    "textgym.rewards.unit_tests": "UnitTests",
    "textgym.lm.decision": "Decision",
    "textgym.lm.decoding": "MemoDecoder",
    "textgym.lm.kept": "KeptSets",
    "textgym.lm.loading": "resolve",
    "textgym.lm.sampling": "Sampling",
    "textgym.sb3.checkpoints": "resume",
    "textgym.sb3.replay": "LMReplayBuffer",
    "textgym.sb3.topk_policy": "TopKPolicy",
    "textgym.storage.plain": "to_plain",
}


@pytest.mark.parametrize("module", OLD)
def test_an_old_name_is_the_object_of_today(module: str) -> None:
    found = getattr(importlib.import_module(module), OLD[module])
    assert found is getattr(importlib.import_module(moved.current_name(module)), OLD[module])


def test_every_entry_leads_to_a_module() -> None:
    """In a process that has imported nothing else, so that the order of imports does not matter."""
    code = (
        "import importlib, textgym.moved as moved\n"
        "for name in [*moved._MOVED, *moved._BECAME_PACKAGES]:\n"
        "    if name.startswith('textgym'):\n"
        "        importlib.import_module(name), importlib.import_module(moved.current_name(name))\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
