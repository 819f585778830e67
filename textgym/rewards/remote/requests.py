"""One batch's requests, sent together, each until it has an answer or an error that says why.

They run on an event loop of their own. httpx's time limits are for each read; the loop's are for
the whole request, so that a server that sends a byte a second is given up too, and what is given up
is closed at once. Nothing is kept from one batch to the next, so that nothing needs closing, and a
forked process can go on.

The loop for trying again is written here, not taken from a library: how long to wait depends on
the server's Retry-After, on the other requests' and on the time left for the batch, which leaves
a library nothing but the ``for``.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from math import isfinite
from typing import Any, Generic, Protocol, TypeVar

from textgym.errors import RewardError, require
from textgym.rewards.validation import Rows, row_number

T = TypeVar("T")

MAX_ANSWER = 4 << 20
"""Bytes that are read of one answer."""

_LONGEST_PAUSE = 30.0
_JITTER = random.SystemRandom()  # has no state, so that no seed of an experiment is touched

# What is as wrong for every other text: these are errors even where failures are let through.
_NEVER_BETTER = {
    401: "it does not know the key: set the environment variable that the reward names",
    403: "the key may not use this: look at the account, or at the address",
    404: "look at the address, and at the model's name",
    405: "look at the address: nothing is to be sent to this one by POST",
}


class UnusableError(Exception):
    """An answer that came but is not what was asked for; its message completes "answered "."""


class RemoteError(RewardError):
    """A remote reward has no value for some texts.

    Args:
        reason: Who failed, why, and the fix.
        positions: The texts' positions in the batch.
    """

    def __init__(self, reason: str, positions: Sequence[int]) -> None:
        super().__init__(reason, positions)
        self.reason = reason
        self.positions = positions

    def at(self, rows: Rows) -> str:
        """Return the message with the texts' row numbers; their positions if None."""
        numbers = [str(row_number(position, rows)) for position in self.positions]
        some = ", ".join(numbers[:8]) + (", ..." if len(numbers) > 8 else "")
        return f"failed on {'rows' if len(numbers) > 1 else 'row'} {some}: {self.reason}"

    def __str__(self) -> str:
        return self.at(None)


@dataclass(frozen=True)
class Job(Generic[T]):
    """One request, for one text or several.

    Args:
        positions: The texts' positions in the batch.
        ask: Called before each attempt: returns the body, and what makes a value of the answer's
            JSON or raises :class:`UnusableError`.
    """

    positions: Sequence[int]
    ask: Callable[[], tuple[bytes, Callable[[Any], T]]]


class _TroubleError(Exception):
    """An attempt that failed: the cause, the fix, and whether and when to try again."""

    def __init__(
        self, cause: str, fix: str, again: bool = True, pause: float = 0.0, fatal: bool = False
    ) -> None:
        super().__init__(cause)
        self.cause, self.fix, self.again, self.pause, self.fatal = cause, fix, again, pause, fatal


class Endpoint(Protocol):
    """Where requests go, and within which bounds: :class:`textgym.rewards.remote.server.Remote`."""

    url: str
    timeout: float
    limit: float
    retries: int
    backoff: float
    in_flight: int
    on_failure: str

    @property
    def host(self) -> str:
        """The host, for errors."""

    def count(self, failed: int) -> None:
        """Note that the requests of some texts failed."""


class Batch(Generic[T]):
    """The requests of one batch."""

    def __init__(self, remote: Endpoint, jobs: Sequence[Job[T]], headers: dict[str, str]) -> None:
        self._remote = remote
        self._jobs = jobs
        self._headers = headers
        self._httpx = require("httpx2", "remote")
        self._resume = 0.0  # when the server allows the next request
        self._loop = asyncio.new_event_loop()
        self._deadline = self._loop.time() + remote.limit
        self._task = self._loop.create_task(self._all())

    def run(self) -> list[T | None]:
        """Return the jobs' values in their order."""
        try:
            return self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            raise RewardError("was cancelled") from None
        except BaseExceptionGroup as errors:
            # The frames below hold the headers, which no report of an error should come across.
            raise errors.exceptions[0].with_traceback(None) from None
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def cancel(self) -> None:
        """Give up all requests; callable from any thread."""
        with suppress(RuntimeError):  # the loop is closed: it is over
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _all(self) -> list[T | None]:
        results: list[T | None] = [None] * len(self._jobs)
        failed: set[int] = set()
        queue = enumerate(self._jobs)
        count = min(self._remote.in_flight, len(self._jobs))
        client = self._httpx.AsyncClient(
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # a small answer could unpack to a huge one
                **self._headers,
            },
            verify=_tls(),
            timeout=None,
            follow_redirects=False,
            limits=self._httpx.Limits(max_connections=count, max_keepalive_connections=count),
        )
        async with client, asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._work(client, queue, results, failed))
        self._remote.count(len(failed))
        return results

    async def _work(
        self,
        client: Any,
        queue: Iterator[tuple[int, Job[T]]],
        results: list[T | None],
        failed: set[int],
    ) -> None:
        for index, job in queue:
            try:
                results[index] = await self._one(client, job)
            except _TroubleError as trouble:
                if trouble.fatal or self._remote.on_failure == "error":
                    # The group cancels the other requests: they are paid for by the piece.
                    reason = f"{self._remote.host} {trouble.cause}; {trouble.fix}"
                    raise RemoteError(self._redacted(reason), job.positions) from None
                failed.update(job.positions)

    async def _one(self, client: Any, job: Job[T]) -> T:
        attempts = self._remote.retries + 1
        begin, last = 0.0, "was not asked at all"
        for attempt in range(1, attempts + 1):
            begin = max(begin, self._resume)
            if max(begin, self._loop.time()) >= self._deadline:
                raise _TroubleError(
                    f"{last}, and the {self._remote.limit:g} s for the whole batch leave no time",
                    "raise limit= or in_flight=",
                )
            await asyncio.sleep(begin - self._loop.time())
            try:
                return await self._attempt(client, job)
            except _TroubleError as trouble:
                last = trouble.cause
                if not trouble.again or attempt == attempts:
                    trouble.cause += f" (attempt {attempt} of {attempts})"
                    raise
                pause = min(self._remote.backoff * 2.0 ** (attempt - 1), _LONGEST_PAUSE)
                now = self._loop.time()
                begin = now + trouble.pause + pause * _JITTER.uniform(0.5, 1.0)
                if trouble.pause:
                    self._resume = max(self._resume, now + trouble.pause)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, client: Any, job: Job[T]) -> T:
        body, read = job.ask()
        httpx = self._httpx
        seconds = min(self._remote.timeout, self._deadline - self._loop.time())
        try:
            async with asyncio.timeout(seconds):
                status, headers, answer = await self._post(client, body)
        except TimeoutError:
            raise _TroubleError(
                f"did not answer within {seconds:.3g} s", "raise timeout= or lower in_flight="
            ) from None
        except (httpx.HTTPError, OSError) as error:
            # What else httpx says may quote a header, which may be secret.
            told = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | OSError)
            detail = f": {error}" if told and str(error) else ""
            raise _TroubleError(
                f"could not be reached, or hung up ({type(error).__name__}{detail})",
                "see that the server runs and that the address is right",
            ) from None
        if not 200 <= status < 300:
            raise self._refusal(status, headers, answer)
        try:
            return read(_json(answer))
        except UnusableError as error:
            raise _TroubleError(
                f"answered {error}", "see that the server speaks this protocol"
            ) from None

    async def _post(self, client: Any, body: bytes) -> tuple[int, Any, str]:
        async with client.stream("POST", self._remote.url, content=body) as response:
            parts, size = [], 0
            async for part in response.aiter_raw():
                size += len(part)
                if size > MAX_ANSWER:
                    raise _TroubleError(
                        f"answered more than {MAX_ANSWER} bytes", "look at the server"
                    )
                parts.append(part)
            # A server may send back what it was sent, and parts of answers are shown in errors.
            answer = self._redacted(b"".join(parts).decode("utf-8", "replace"))
            return response.status_code, response.headers, answer

    def _refusal(self, status: int, headers: Any, answer: str) -> _TroubleError:
        """What to do about an HTTP status that is not a success."""
        if 300 <= status < 400:
            try:
                target = self._httpx.URL(self._remote.url).join(headers.get("Location", ""))
                place = f"{target.scheme}://{target.host}"
            except self._httpx.InvalidURL:
                place = "nowhere"
            return _TroubleError(
                f"redirects ({status}) to {place}",
                "texts and keys are not sent to where a server points: if it is right, write that "
                "address yourself",
                again=False,
                fatal=True,
            )
        cause = f"answered with status {status}"
        if status in _NEVER_BETTER:
            return _TroubleError(cause, _NEVER_BETTER[status], again=False, fatal=True)
        cause += f" {answer.strip()[:200]!r}" if answer.strip() else ""
        again = status == 429 or status >= 500
        pause = _retry_after(headers.get("Retry-After")) if again else 0.0
        cause += f" and asked for a pause of {pause:.3g} s" if pause else ""
        fix = (
            "lower in_flight=, or raise retries= and limit="
            if status == 429
            else "look at the server's log"
            if again
            else "the request itself is refused: look at the options, and at the text's length"
        )
        return _TroubleError(cause, fix, again, pause)

    def _redacted(self, text: str) -> str:
        for value in self._headers.values():
            for secret in (value, value.rpartition(" ")[2]):  # the second is without "Bearer"
                if len(secret) >= 6:  # a shorter one is no secret, but may be a number
                    text = text.replace(secret, "***")
        return text


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for; 0 if it says nothing that can be read."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if isfinite(seconds) else 0.0


def _json(answer: str) -> Any:
    try:
        return json.loads(answer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise UnusableError(f"something that is no JSON, {answer[:80]!r}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


@cache
def _tls() -> Any:
    """The certificates to trust: reading them takes longer than a local request."""
    return require("httpx2", "remote").create_ssl_context()
