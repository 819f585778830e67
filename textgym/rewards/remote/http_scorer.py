"""A reward computed by a server, over HTTP."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from textgym.data.messages import reads_texts
from textgym.errors import RewardError
from textgym.rewards.references import column_of
from textgym.rewards.remote.background import Pending
from textgym.rewards.remote.requests import Job, RemoteError, UnusableError
from textgym.rewards.remote.server import Remote, RemoteReward, checked_columns, finite
from textgym.rewards.values import is_missing, is_whole


@dataclass(frozen=True, eq=False)
class HttpScorer(RemoteReward):
    """Scores of an HTTP server: any scorer, in any language, on any machine.

    It POSTs ``{"prompts": [...], "completions": [...], NAME: [...]}``, with one list for each of
    ``columns``; other columns stay private. The response must be ``{"scores": [...]}``: one finite
    number per text, in the same order. ``null`` is rejected, because many programs write it for
    NaN. Redirects are not followed.

    Timeouts, dropped connections, unusable responses and the status codes 429 and 5xx are retried,
    after the server's ``Retry-After`` or with exponential backoff. A request that still fails is an
    error and never a 0. With ``on_failure="none"``, its texts get None and are counted in
    ``failures``. Redirects, 401, 403, 404 and 405 are always errors, because no request could
    succeed.

    Range: the range of the server's scores.
    Needs: a server; the columns ``columns`` (a row where one of them is None gets None and is not
    sent); the package httpx2 (``textgym[remote]``).
    Cost: the cost of the server, and 2 to 4 ms per request. The requests of a batch run
    concurrently with each other and, by ``start_scoring``, with other rewards.
    Gaming: like the server's scorer.

    Args:
        url: The URL to POST to, ``http://`` or ``https://``. It is stored with the reward, so
            secrets belong in ``headers_env``.
        columns: The columns to send.
        batch_size: Number of texts per request; None sends the whole batch at once.
        headers_env: The environment variable that holds the value of each header, e.g.
            ``{"Authorization": "SCORER_AUTH"}``. It is read for each batch, never stored, and only
            sent encrypted or to this machine.
        timeout: Seconds for one attempt, from connecting to the last byte of the response.
        limit: Seconds for the whole batch.
        retries: Maximum number of retries of a request.
        backoff: Seconds before the first retry, doubled for each further one, at most 30.
        in_flight: Maximum number of concurrent requests of a batch.
        on_failure: ``"error"`` or ``"none"``, see above.

    Raises:
        RewardError: If an option is invalid, a column is missing or cannot be written as JSON, or a
            text gets no score.
        MissingDependencyError: If httpx2 is not installed.
    """

    url: str = field(repr=False)
    columns: Sequence[str] = ()
    batch_size: int | None = None
    headers_env: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 10.0
    limit: float = 300.0
    retries: int = 3
    backoff: float = 0.5
    in_flight: int = 8
    on_failure: str = "error"
    name: ClassVar[str] = "http"
    _remote: Remote = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", checked_columns(self.name, self.columns))
        size = self.batch_size
        if size is not None and not is_whole(size, 1):
            raise RewardError(
                f"{self.name}: batch_size must be an integer >= 1 or None, not {size!r}"
            )
        remote = Remote(
            self.name, self.url, self.timeout, self.limit, self.retries, self.backoff,
            self.in_flight, self.on_failure,
        )  # fmt: skip
        object.__setattr__(self, "_remote", remote)

    @reads_texts
    def start_scoring(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Pending[list[float | None]]:
        """Send a batch without waiting for the scores."""
        named = {name: column_of(columns, name) for name in self.columns}
        count = len(completions)
        rows = [i for i in range(count) if not any(is_missing(named[name][i]) for name in named)]
        size = self.batch_size or max(len(rows), 1)
        parts = [rows[first : first + size] for first in range(0, len(rows), size)]
        inputs = {"prompts": prompts, "completions": completions, **named}

        def merge(answers: list[list[float] | None]) -> list[float | None]:
            values: list[float | None] = [None] * count
            for part, scores in zip(parts, answers, strict=True):
                for row, score in zip(part, scores or [], strict=scores is not None):
                    values[row] = score
            return values

        jobs = [Job(part, _request(to_json(inputs, part), len(part))) for part in parts]
        return self._remote.start(jobs, self._headers(), merge)

    def _headers(self) -> dict[str, str]:
        for header, variable in self.headers_env.items():
            if not os.environ.get(variable):
                raise RewardError(
                    f"needs the environment variable {variable!r} for the header {header!r}"
                )
        return {header: os.environ[name] for header, name in self.headers_env.items()}


def to_json(inputs: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> bytes:
    """Write some rows of a batch as a JSON object of lists.

    Raises:
        RemoteError: If a value cannot be written; the message names its column.
    """
    texts = []
    for name, values in inputs.items():
        items: list[str] = []
        for row in rows:
            try:
                items.append(json.dumps(values[row], allow_nan=False, default=_plain))
            except (TypeError, ValueError, RecursionError) as error:
                raise RemoteError(
                    f"its {name!r} cannot be written as JSON ({error}); remove it from columns=, "
                    "or convert it to strings and numbers",
                    [row],
                ) from None
        texts.append(f"{json.dumps(name)}: [{', '.join(items)}]")
    return f"{{{', '.join(texts)}}}".encode("ascii")


def _plain(value: Any) -> Any:
    tolist: Callable[[], Any] | None = getattr(value, "tolist", None)
    if tolist is not None:  # NumPy scalars and arrays, torch tensors
        return tolist()
    raise TypeError(f"{type(value).__name__} is not a string, a number, or a list of them")


def _request(body: bytes, count: int) -> Callable[[], tuple[bytes, Callable[[Any], list[float]]]]:
    return lambda: (body, partial(_scores, count=count))


def _scores(answer: Any, count: int) -> list[float]:
    scores = answer.get("scores") if isinstance(answer, dict) else None
    if not isinstance(scores, list):
        raise UnusableError('JSON other than {"scores": [...]}')
    if len(scores) != count:
        raise UnusableError(f"{len(scores)} scores for {count} texts")
    return [finite(score) for score in scores]
