"""A remote server that computes rewards: its address, and limits on time and concurrency."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from math import isfinite
from typing import Any, Self, TypeVar

from textgym.data.messages import reads_texts
from textgym.errors import RewardError, require
from textgym.rewards.remote.background import Pending
from textgym.rewards.remote.requests import Batch, Job, UnusableError
from textgym.rewards.values import is_number, is_whole

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class Remote:
    """The address of a server, with limits.

    Args:
        name: The name of the reward, for errors.
        url: The URL to POST to; http or https.
        timeout: Seconds for one attempt, from connecting to the last byte of the response.
        limit: Seconds for all requests of a batch.
        retries: Maximum number of retries of a request.
        backoff: Seconds before the first retry, doubled for each further one, at most 30, and
            reduced by a random part of up to a half.
        in_flight: Maximum number of concurrent requests of a batch.
        on_failure: ``"error"``, or ``"none"``: a failed text gets None.

    Attributes:
        failures: Number of texts that got None because their request failed.

    Raises:
        RewardError: If an option is invalid.
        MissingDependencyError: If httpx2 is not installed.
    """

    name: str
    url: str
    timeout: float
    limit: float
    retries: int
    backoff: float
    in_flight: int
    on_failure: str
    failures: int = field(default=0, init=False)
    host: str = field(default="", init=False)
    encrypted: bool = field(default=True, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        httpx = require("httpx2", "remote")
        try:
            url = httpx.URL(self.url)
        except (httpx.InvalidURL, TypeError) as error:
            raise RewardError(f"{self.name}: the URL cannot be parsed: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise RewardError(f"{self.name}: the URL must begin with http://HOST or https://HOST")
        if url.userinfo:
            raise RewardError(
                f"{self.name}: the URL contains a user or a password, which would be stored with "
                "the reward; put it into an environment variable"
            )
        self.host = f"{url.scheme}://{url.netloc.decode()}"
        loopback = url.host in ("localhost", "::1") or url.host.startswith("127.")
        self.encrypted = url.scheme == "https" or loopback
        for option, least in (("retries", 0), ("in_flight", 1)):
            value = getattr(self, option)
            if not is_whole(value, least):
                raise RewardError(
                    f"{self.name}: {option} must be an integer >= {least}, not {value!r}"
                )
        for option in ("timeout", "limit", "backoff"):
            value = getattr(self, option)
            if not is_number(value) or value <= 0:
                raise RewardError(f"{self.name}: {option} must be a number > 0, not {value!r}")
        if self.on_failure not in ("error", "none"):
            raise RewardError(
                f"{self.name}: on_failure must be 'error' or 'none', not {self.on_failure!r}"
            )

    def count(self, failures: int) -> None:
        """Count texts that got None; may be called from several threads."""
        with self._lock:
            self.failures += failures

    def start(
        self,
        jobs: Sequence[Job[T]],
        headers: dict[str, str],
        finish: Callable[[list[T | None]], R],
    ) -> Pending[R]:
        """Send the requests of a batch without waiting for them.

        Args:
            jobs: The requests.
            headers: Secret headers, read from the environment for this batch and not stored.
            finish: Converts the values of the jobs, in order, to the result of the batch; called in
                the batch's thread. With ``on_failure="none"``, values of failed requests are None.

        Returns:
            The pending result; it may raise :class:`RemoteError`.

        Raises:
            RewardError: If a secret cannot be sent safely.
        """
        for name, value in headers.items():
            if not (value.isascii() and value.isprintable()):
                raise RewardError(
                    f"cannot send the header {name!r}: the value of the environment variable "
                    "contains line breaks or non-ASCII characters; set it again"
                )
        if headers and not self.encrypted:
            raise RewardError(
                f"would send a key to {self.host} unencrypted; use https://, or remove the "
                "environment variable from the options if the server needs no key"
            )
        batch = Batch(self, jobs, headers)
        return Pending(lambda: finish(batch.run()), batch.cancel)


class RemoteReward(ABC):
    """Base class of rewards that a server computes; subclasses are dataclasses."""

    _remote: Remote

    @property
    def failures(self) -> int:
        """Number of texts that got None because their request failed."""
        return self._remote.failures

    @abstractmethod
    def start_scoring(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Pending[list[float | None]]:
        """Send a batch without waiting for the rewards."""

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row that lacks a column."""
        return self.start_scoring(prompts, completions, **columns).result()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the options, without keys, cache and counts."""
        options = {one.name: getattr(self, one.name) for one in fields(self) if one.init}  # type: ignore[arg-type]
        return partial(type(self), **options), ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the same object, so that copies share the cache and the count of failures."""
        return self


def checked_columns(name: str, columns: Any) -> tuple[str, ...]:
    """Check the option ``columns``, and return it as a tuple.

    Raises:
        RewardError: If it is not a sequence of names, or contains "prompts" or "completions".
    """
    given = None if isinstance(columns, str) else tuple(columns)
    if given is None or not all(isinstance(column, str) for column in given):
        raise RewardError(f"{name}: columns must be a tuple of names, not {columns!r}")
    for column in given:
        if column in ("prompts", "completions"):
            raise RewardError(f"{name}: columns must not contain {column!r}, which is always sent")
    return given


def finite(value: Any) -> float:
    """Return a number in a JSON response as a float.

    Raises:
        UnusableError: If it is not a finite number.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if isfinite(number):
            return number
    raise UnusableError(f"{value!r:.40} instead of a finite number")
