"""The event loop of asynchronous reward functions, which runs in its own thread.

As in TRL, the loop lives as long as the process, so that a client or a semaphore that a function
keeps belongs to the same loop in every call. Functions that are started together wait concurrently.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYetError
from typing import Any

POLL_SECONDS = 0.1
"""Interval at which waiting is interrupted: some systems do not deliver Ctrl-C to a lock."""

_lock = threading.Lock()
_running: tuple[int, asyncio.AbstractEventLoop, threading.Thread] | None = None


class Awaited:
    """An awaitable that runs on the event loop.

    Args:
        awaitable: The return value of an asynchronous function.
    """

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        loop, thread = _loop()
        nested = threading.current_thread() is thread
        if nested:
            # An asynchronous reward that waits for another one blocks the shared loop.
            loop = asyncio.new_event_loop()
            threading.Thread(target=_run_one, args=(loop,), daemon=True).start()
        self._future: Future[Any] = asyncio.run_coroutine_threadsafe(_wait(awaitable), loop)
        if nested:
            self._future.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))

    def result(self) -> Any:
        """Wait for the result.

        Raises:
            BaseException: Any exception of the awaitable. If the wait is interrupted
                (``KeyboardInterrupt``), the awaitable is cancelled first.
        """
        while True:
            try:
                return self._future.result(POLL_SECONDS)
            except NotYetError:
                if self._future.done():  # the awaitable itself raised TimeoutError
                    raise
            except CancelledError:
                raise RuntimeError("an asynchronous reward function was cancelled") from None
            except BaseException:
                self.cancel()
                raise

    def cancel(self) -> None:
        """Cancel the awaitable; no effect once it is done."""
        self._future.cancel()


async def _wait(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _loop() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    """Return the loop of this process; a forked process makes a new one."""
    global _running
    with _lock:
        if _running is None or _running[0] != os.getpid() or not _running[2].is_alive():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="textgym-rewards", daemon=True)
            thread.start()
            _running = os.getpid(), loop, thread
        return _running[1], _running[2]


def _run_one(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
