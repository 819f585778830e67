"""The other machine that a reward asks: its address, and the bounds within which it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from math import isfinite
from typing import Any, TypeVar

from textgym.errors import RewardError, require
from textgym.rewards.remote.background import Pending
from textgym.rewards.remote.requests import Batch, Job, UnusableError
from textgym.rewards.values import is_number, is_whole

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class Remote:
    """An address to POST to, and the bounds of doing so.

    Args:
        name: The reward's name, for errors of its options.
        url: Where to POST; http or https.
        timeout: Seconds for one attempt, from the connection to the answer's last byte.
        limit: Seconds for all requests of one batch.
        retries: How often a failed request is sent again.
        backoff: Seconds before the first retry, doubled for each further one, at most 30; a random
            part of up to a half is taken off.
        in_flight: How many requests of one batch may be under way at the same time.
        on_failure: ``"error"``, or ``"none"``: a failed text gets None.

    Attributes:
        failures: How many texts got None because their request failed.

    Raises:
        RewardError: If an option has an impossible value.
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
            raise RewardError(f"{self.name}: the address cannot be read: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise RewardError(
                f"{self.name}: the address must begin with http://HOST or https://HOST"
            )
        if url.userinfo:
            raise RewardError(
                f"{self.name}: the address holds a user or a password, which would be stored with "
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
        """Count texts that got None; batches of several threads may end at the same time."""
        with self._lock:
            self.failures += failures

    def start(
        self,
        jobs: Sequence[Job[T]],
        headers: dict[str, str],
        finish: Callable[[list[T | None]], R],
    ) -> Pending[R]:
        """Send a batch's requests, and return at once.

        Args:
            jobs: The requests.
            headers: Secret headers, read from the environment for this batch and then forgotten.
            finish: Makes the batch's result of the jobs' values, in their order; the value is None
                where a request failed and that is let through. It runs in the batch's thread.

        Returns:
            What the result will be, or a :class:`RemoteError`.

        Raises:
            RewardError: If a secret cannot be sent safely.
        """
        for name, value in headers.items():
            if not (value.isascii() and value.isprintable()):
                raise RewardError(
                    f"cannot send the header {name!r}: the environment variable's value holds "
                    "line breaks or characters beyond ASCII; set it again"
                )
        if headers and not self.encrypted:
            raise RewardError(
                f"would send a key to {self.host} unencrypted; use https://, or name no "
                "environment variable if that server needs no key"
            )
        batch = Batch(self, jobs, headers)
        return Pending(lambda: finish(batch.run()), batch.cancel)


def checked_columns(name: str, columns: Any) -> tuple[str, ...]:
    """Return the columns to send.

    Raises:
        RewardError: If they are no sequence of names, or one is a name of the texts.
    """
    given = None if isinstance(columns, str) else tuple(columns)
    if given is None or not all(isinstance(column, str) for column in given):
        raise RewardError(f"{name}: columns must be a tuple of names, not {columns!r}")
    for column in given:
        if column in ("prompts", "completions"):
            raise RewardError(f"{name}: {column!r} is always sent; leave it out of columns")
    return given


def by_options(reward: Any) -> tuple[Any, ...]:
    """What ``__reduce__`` returns for a reward that is made again from its options."""
    options = {one.name: getattr(reward, one.name) for one in fields(reward) if one.init}
    kind: Callable[..., Any] = type(reward)
    return partial(kind, **options), ()


def finite(value: Any) -> float:
    """Return a number of an answer's JSON.

    Raises:
        UnusableError: If it is none, or infinite.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if isfinite(number):
            return number
    raise UnusableError(f"{value!r:.40} where a finite number was due")
