"""Random arguments, options, seeds and actions: success, or an error of textgym's.

Afterwards the environment can be reset, and starts as it did before the error. More of them:
``TEXTGYM_FUZZ=20000 pytest tests/envs/test_fuzz.py``.
"""

from __future__ import annotations

import os
import sys
from collections import Counter

import gymnasium as gym
import pytest

from tests.envs.fuzzing import Construction, time_limit

COUNT = int(os.environ.get("TEXTGYM_FUZZ", "240"))
PARTS = 8


@pytest.mark.skipif(sys.platform == "win32", reason="time limits need SIGALRM")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(PARTS))
def test_success_or_an_error_of_textgym(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(gym.logger, "min_level", 50)
    outcomes: Counter[str] = Counter()
    for number in range(part, COUNT, PARTS):
        construction = Construction(number)
        try:
            with time_limit(20):
                outcomes[construction.run()] += 1
        except Exception as error:
            pytest.fail(f"construction {number}: {type(error).__name__}: {error}\n{construction}")
    assert min(outcomes["used"], outcomes["refused"]) > COUNT / PARTS / 5, "one-sided pools"
