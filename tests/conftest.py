"""Settings and fixtures of all tests: no network, no deadlines, and temporary registrations."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

# Set before huggingface_hub is imported, so that no test waits for the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gymnasium
import hypothesis
import pytest
import torch

from textgym.registry import TASKS

# Timings vary on a shared machine, so there are no deadlines.
# With CI set examples are the same in every run, so that a change is judged and not luck; without
# it each run looks at others.
hypothesis.settings.register_profile(
    "textgym",
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.filter_too_much,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("textgym")


@pytest.fixture(scope="session", autouse=True)
def _one_kind_of_processor() -> Iterator[None]:
    """Let agents compute in float32 by default, as most tests compare with exact numbers.

    Processes that a test starts are not covered.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", dict)
        yield


@pytest.fixture(scope="module", autouse=True)
def _tasks_leave_no_trace() -> Iterator[None]:
    """Restore the registries after each test, since tests run in any order."""
    with TASKS.restored():
        yield


@pytest.fixture
def register() -> Iterator[Callable[..., str]]:
    """Register environments during one test; returns the id."""
    before = dict(gymnasium.registry)

    def add(id: str, **arguments: Any) -> str:
        gymnasium.register(id=id, **arguments)
        return id

    yield add
    gymnasium.registry.clear()
    gymnasium.registry.update(before)
