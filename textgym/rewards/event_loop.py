"""Where asynchronous reward functions run: one event loop, in a thread of its own.

The loop lives as long as the process, as TRL's does, so that a client or a semaphore that a
function keeps belongs to the same loop in every call. Calls that are started together wait at the
same time.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYetError
from typing import Any

_GLANCE = 0.1
"""Seconds between two looks at Ctrl-C: on some systems a thread that waits does not hear it."""

_lock = threading.Lock()
_running: tuple[int, asyncio.AbstractEventLoop, threading.Thread] | None = None


class Awaited:
    """An awaitable that runs on the loop.

    Args:
        awaitable: What an asynchronous function returned.
    """

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        loop, thread = _loop()
        nested = threading.current_thread() is thread
        if nested:
            # An asynchronous reward that asks another one, and waits: the loop waits with it.
            loop = asyncio.new_event_loop()
            threading.Thread(target=_run_one, args=(loop,), daemon=True).start()
        self._future: Future[Any] = asyncio.run_coroutine_threadsafe(_wait(awaitable), loop)
        if nested:
            self._future.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))

    def result(self) -> Any:
        """Wait for it, and return what it returns.

        Raises:
            BaseException: What it raises. If the wait itself is interrupted
                (``KeyboardInterrupt``), it is cancelled first.
        """
        while True:
            try:
                return self._future.result(_GLANCE)
            except NotYetError:
                if self._future.done():  # its own, not that of this look
                    raise
            except CancelledError:
                raise RuntimeError("an asynchronous reward function was cancelled") from None
            except BaseException:
                self.cancel()
                raise

    def cancel(self) -> None:
        """End it if that is possible; one that is over already stays as it is."""
        self._future.cancel()


async def _wait(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _loop() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    """The process's loop; a forked process makes its own."""
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
