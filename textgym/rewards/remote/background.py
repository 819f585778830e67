"""Rewards that wait concurrently.

A reward that is computed elsewhere has a method ``start_scoring`` in addition to ``__call__``. It
takes the same arguments and returns a :class:`Pending` immediately, so that several rewards wait
concurrently while the others are computed: a batch takes the time of the slowest reward and not the
sum of all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from textgym.rewards.event_loop import POLL_SECONDS
from textgym.rewards.registry import RewardFunction, reward_name
from textgym.rewards.signature import Call

T = TypeVar("T")

_GRACE_SECONDS = 2.0
"""Time for cancelled work to close its connections."""


class Pending(Generic[T]):
    """A call that runs in its own thread.

    It works where an event loop is running already, as in a notebook. The thread is a daemon.

    Args:
        function: The function to call.
        stop: Stops the call early; called from any thread. Without it, a cancelled call continues
            and its result is discarded.
    """

    def __init__(self, function: Callable[[], T], stop: Callable[[], None] | None = None) -> None:
        self._stop = stop
        self._value: list[T] = []
        self._error: BaseException | None = None
        # An event instead of a join: after a join that Ctrl-C interrupts, Python 3.11 takes a
        # running thread for a finished one.
        self._over = threading.Event()
        threading.Thread(
            target=self._run, args=(function,), name="textgym-reward", daemon=True
        ).start()

    def _run(self, function: Callable[[], T]) -> None:
        try:
            self._value.append(function())
        except BaseException as error:  # raised again in result()
            self._error = error
        finally:
            self._over.set()

    def result(self) -> T:
        """Wait for the result of the call.

        Raises:
            BaseException: Any exception of the call. If the wait is interrupted
                (``KeyboardInterrupt``), the call is cancelled first.
        """
        try:
            while not self._over.wait(POLL_SECONDS):
                pass
        except BaseException:
            self.cancel()
            raise
        if self._error is not None:
            raise self._error
        return self._value[0]

    def cancel(self) -> None:
        """Stop the call if possible; no effect once it is done."""
        if self._stop is not None and not self._over.is_set():
            self._stop()
            self._over.wait(_GRACE_SECONDS)


@dataclass(frozen=True, eq=False)
class Background:
    """A reward function that is called in a thread, concurrently with the other rewards.

    Use it for functions that wait for a server, a database or another process. A function that
    computes in Python gains nothing, because of the global interpreter lock.

    Range: the range of the function.
    Needs: what the function needs; it must be callable from another thread.
    Cost: the cost of the function, and 100 us per batch.
    Gaming: like the function.

    Args:
        function: The reward function, ``(prompts, completions, **columns)``.

    Raises:
        RewardError: If its signature is not that of a reward function, or it is a class.

    Example:
        >>> from textgym.rewards import Background
        >>> reward = Background(lambda completions: [float(len(text)) for text in completions])
        >>> reward.start_scoring(["p"], ["abc"]).result()
        [3.0]
    """

    function: RewardFunction
    name: str = field(init=False)
    _call: Call = field(init=False, repr=False)

    def __post_init__(self) -> None:
        function: Any = self.function
        object.__setattr__(self, "_call", Call.of(function))
        object.__setattr__(self, "name", reward_name(function))

    def start_scoring(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> Pending[Sequence[float | None]]:
        """Start the function without waiting for it."""
        return Pending(partial(self._call, prompts, completions, columns))

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> Sequence[float | None]:
        """Call the function."""
        values: Sequence[float | None] = self._call(prompts, completions, columns)
        return values

    def __deepcopy__(self, memo: dict[int, Any]) -> Background:
        """Return the same object: the function may hold a connection."""
        return self
