"""Rewards that wait for something else, and how they wait at the same time.

A reward whose values come from another machine does nothing while it waits. So that several of them
wait together, and the others are computed meanwhile, such a reward has a second method beside its
call: ``start_scoring``, which takes the same arguments, returns at once, and gives a
:class:`Pending`. A batch of rewards then costs its slowest one, not their sum.
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

_FAREWELL = 2.0
"""Seconds that cancelled work gets to close its connections."""


class Pending(Generic[T]):
    """A call that is under way in a thread of its own.

    It needs nothing of its caller's thread, so that it works where an event loop runs already, as
    in a notebook. The thread does not keep the interpreter from ending.

    Args:
        function: What to call.
        stop: What ends the call early, from any thread. Without one it cannot be ended: it goes
            on by itself, and nobody reads what it returns.
    """

    def __init__(self, function: Callable[[], T], stop: Callable[[], None] | None = None) -> None:
        self._stop = stop
        self._value: list[T] = []
        self._error: BaseException | None = None
        # An event, not the thread itself: a join that Ctrl-C interrupts takes a thread that runs
        # for one that has ended (seen in Python 3.11).
        self._over = threading.Event()
        threading.Thread(
            target=self._run, args=(function,), name="textgym-reward", daemon=True
        ).start()

    def _run(self, function: Callable[[], T]) -> None:
        try:
            self._value.append(function())
        except BaseException as error:  # it is raised where the value is asked for
            self._error = error
        finally:
            self._over.set()

    def result(self) -> T:
        """Wait for the call, and return what it returns.

        Raises:
            BaseException: What the call raises. If the wait itself is interrupted
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
        """End the call if that is possible; one that is over already stays as it is."""
        if self._stop is not None and not self._over.is_set():
            self._stop()
            self._over.wait(_FAREWELL)


@dataclass(frozen=True, eq=False)
class Background:
    """Any reward function that mostly waits, called in a thread beside the other rewards.

    It is for functions of your own that ask a server, a database or another process. One that
    computes in Python gains nothing: threads of one process compute by turns.

    Range: the function's.
    Needs: what the function needs, and that it may be called from another thread.
    Cost: the function's, and 100 us a batch.
    Gaming: the function's.

    Args:
        function: The reward function, ``(prompts, completions, **columns)``.

    Raises:
        RewardError: If it is no reward function: a class, or asynchronous.
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
        """Begin, and return at once; the result is what the function returns."""
        return Pending(partial(self._call, prompts, completions, columns))

    def __call__(
        self, prompts: list[str], completions: list[str], **columns: Any
    ) -> Sequence[float | None]:
        """Return what the function returns."""
        values: Sequence[float | None] = self._call(prompts, completions, columns)
        return values

    def __deepcopy__(self, memo: dict[int, Any]) -> Background:
        """Return the same object: the function may hold a connection."""
        return self
