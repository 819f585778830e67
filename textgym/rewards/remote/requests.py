"""The concurrent requests of a batch, with retries.

Each batch has its own event loop. httpx limits the time of each read; the loop limits the time of
the whole request, so that a server that sends one byte per second also times out. Nothing is kept
between batches, so nothing has to be closed, and forked processes work.

Retries are not left to a library, because the pause depends on the server's Retry-After, on the
other requests and on the time left for the batch.
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
"""The longest response that is read, in bytes."""

_LONGEST_PAUSE = 30.0
_JITTER = random.SystemRandom()  # independent of all seeds

# Status codes that every text would get: errors even with on_failure="none".
_FATAL_STATUSES = {
    401: "the key is unknown; set the environment variable of the key",
    403: "the key lacks permission; check the account and the URL",
    404: "check the URL and the name of the model",
    405: "check the URL: it does not accept POST",
}


class UnusableError(Exception):
    """A response with the wrong content; its message completes "answered with "."""


class RemoteError(RewardError):
    """A remote reward has no value for some texts.

    Args:
        reason: The host, the cause and the fix.
        positions: The positions of the texts in the batch.
    """

    def __init__(self, reason: str, positions: Sequence[int]) -> None:
        super().__init__(reason, positions)
        self.reason = reason
        self.positions = positions

    def at(self, rows: Rows) -> str:
        """Return the message with row numbers; with None, positions in the batch."""
        numbers = [str(row_number(position, rows)) for position in self.positions]
        some = ", ".join(numbers[:8]) + (", ..." if len(numbers) > 8 else "")
        return f"failed on {'rows' if len(numbers) > 1 else 'row'} {some}: {self.reason}"

    def __str__(self) -> str:
        return self.at(None)


@dataclass(frozen=True)
class Job(Generic[T]):
    """A request for one or more texts.

    Args:
        positions: The positions of the texts in the batch.
        ask: Called before each attempt. Returns the body, and a function from the JSON of the
            response to the value, which may raise :class:`UnusableError`.
    """

    positions: Sequence[int]
    ask: Callable[[], tuple[bytes, Callable[[Any], T]]]


class _AttemptError(Exception):
    """A failed attempt: the cause, the fix, and whether and when to retry."""

    def __init__(
        self, cause: str, fix: str, again: bool = True, pause: float = 0.0, fatal: bool = False
    ) -> None:
        super().__init__(cause)
        self.cause, self.fix, self.again, self.pause, self.fatal = cause, fix, again, pause, fatal


class Endpoint(Protocol):
    """The part of :class:`textgym.rewards.remote.server.Remote` that requests need."""

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
        """Count texts whose requests failed."""


class Batch(Generic[T]):
    """The requests of a batch."""

    def __init__(self, remote: Endpoint, jobs: Sequence[Job[T]], headers: dict[str, str]) -> None:
        self._remote = remote
        self._jobs = jobs
        self._headers = headers
        self._httpx = require("httpx2", "remote")
        self._resume = 0.0  # time at which the server allows the next request
        self._loop = asyncio.new_event_loop()
        self._deadline = self._loop.time() + remote.limit
        self._task = self._loop.create_task(self._all())

    def run(self) -> list[T | None]:
        """Return the values of the jobs in order."""
        try:
            return self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            raise RewardError("was cancelled") from None
        except BaseExceptionGroup as errors:
            # The frames below hold the headers, which must not end up in an error report.
            raise errors.exceptions[0].with_traceback(None) from None
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def cancel(self) -> None:
        """Cancel all requests; callable from any thread."""
        with suppress(RuntimeError):  # the loop is closed, the batch is done
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
            except _AttemptError as failure:
                if failure.fatal or self._remote.on_failure == "error":
                    # The group cancels the other requests, which may cost money.
                    reason = f"{self._remote.host} {failure.cause}; {failure.fix}"
                    raise RemoteError(self._redacted(reason), job.positions) from None
                failed.update(job.positions)

    async def _one(self, client: Any, job: Job[T]) -> T:
        attempts = self._remote.retries + 1
        begin, last = 0.0, "got no request"
        for attempt in range(1, attempts + 1):
            begin = max(begin, self._resume)
            if max(begin, self._loop.time()) >= self._deadline:
                raise _AttemptError(
                    f"{last}, and limit={self._remote.limit:g} s leaves no time",
                    "raise limit= or in_flight=",
                )
            await asyncio.sleep(begin - self._loop.time())
            try:
                return await self._attempt(client, job)
            except _AttemptError as failure:
                last = failure.cause
                if not failure.again or attempt == attempts:
                    failure.cause += f" (attempt {attempt} of {attempts})"
                    raise
                pause = min(self._remote.backoff * 2.0 ** (attempt - 1), _LONGEST_PAUSE)
                now = self._loop.time()
                begin = now + failure.pause + pause * _JITTER.uniform(0.5, 1.0)
                if failure.pause:
                    self._resume = max(self._resume, now + failure.pause)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, client: Any, job: Job[T]) -> T:
        body, read = job.ask()
        httpx = self._httpx
        seconds = min(self._remote.timeout, self._deadline - self._loop.time())
        try:
            async with asyncio.timeout(seconds):
                status, headers, answer = await self._post(client, body)
        except TimeoutError:
            raise _AttemptError(
                f"did not answer within {seconds:.3g} s", "raise timeout= or lower in_flight="
            ) from None
        except (httpx.HTTPError, OSError) as error:
            # Messages of httpx's other errors may quote a header, which may be secret.
            safe = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | OSError)
            detail = f": {error}" if safe and str(error) else ""
            raise _AttemptError(
                f"could not be reached, or closed the connection ({type(error).__name__}{detail})",
                "check that the server is running and that the URL is correct",
            ) from None
        if not 200 <= status < 300:
            raise self._status_error(status, headers, answer)
        try:
            return read(_json(answer))
        except UnusableError as error:
            raise _AttemptError(
                f"answered with {error}", "check that the server implements this protocol"
            ) from None

    async def _post(self, client: Any, body: bytes) -> tuple[int, Any, str]:
        async with client.stream("POST", self._remote.url, content=body) as response:
            parts, size = [], 0
            async for part in response.aiter_raw():
                size += len(part)
                if size > MAX_ANSWER:
                    raise _AttemptError(
                        f"answered with more than {MAX_ANSWER} bytes", "check the server"
                    )
                parts.append(part)
            # A server may echo the request, and errors quote parts of responses.
            answer = self._redacted(b"".join(parts).decode("utf-8", "replace"))
            return response.status_code, response.headers, answer

    def _status_error(self, status: int, headers: Any, answer: str) -> _AttemptError:
        """Return the error for an HTTP status other than 2xx."""
        if 300 <= status < 400:
            try:
                target = self._httpx.URL(self._remote.url).join(headers.get("Location", ""))
                place = f"{target.scheme}://{target.host}"
            except self._httpx.InvalidURL:
                place = "an invalid URL"
            return _AttemptError(
                f"redirects ({status}) to {place}",
                "redirects are not followed, to protect texts and keys; if the target is correct, "
                "use its URL",
                again=False,
                fatal=True,
            )
        cause = f"answered with status {status}"
        if status in _FATAL_STATUSES:
            return _AttemptError(cause, _FATAL_STATUSES[status], again=False, fatal=True)
        cause += f" {answer.strip()[:200]!r}" if answer.strip() else ""
        again = status == 429 or status >= 500
        pause = _retry_after(headers.get("Retry-After")) if again else 0.0
        cause += f" and Retry-After {pause:.3g} s" if pause else ""
        fix = (
            "lower in_flight=, or raise retries= and limit="
            if status == 429
            else "check the log of the server"
            if again
            else "the request is invalid: check the options, and the length of the text"
        )
        return _AttemptError(cause, fix, again, pause)

    def _redacted(self, text: str) -> str:
        for value in self._headers.values():
            for secret in (value, value.rpartition(" ")[2]):  # the second is without "Bearer"
                if len(secret) >= 6:  # shorter values may be ordinary numbers
                    text = text.replace(secret, "***")
        return text


def _retry_after(value: str | None) -> float:
    """Return the seconds in a Retry-After header; 0 if it is missing or invalid."""
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
        return json.loads(answer, parse_constant=_reject)
    except (ValueError, RecursionError):
        raise UnusableError(f"invalid JSON, {answer[:80]!r}") from None


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")


@cache
def _tls() -> Any:
    """Return the trusted certificates; reading them takes longer than a local request."""
    return require("httpx2", "remote").create_ssl_context()
