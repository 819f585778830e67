"""Which requests are answered at all: hosts, origins and sizes; and the headers of every answer.

* The ``Host`` must be a name of this server, so that a foreign domain that resolves to this machine
  (DNS rebinding) reaches nothing. Addresses of the form 192.0.2.1 cannot be rebound.
* A POST must come from a page of this server: its ``Origin``, or without it ``Sec-Fetch-Site``.
* A body has at most `MAX_BODY` bytes.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 1 << 20
"""Maximum size of a request's body, in bytes."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With "no-referrer", browsers would hide the origin of forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether an address to listen at can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """An ASGI application in front of another one, which refuses requests that are not for it.

    Args:
        app: The other application.
        host: The address that the server listens at.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._any_address = False
        self._hosts = {host.lower()}
        if is_loopback(host):
            self._hosts |= _LOOPBACK
        elif host in ("0.0.0.0", "::"):
            self._any_address = True
            name = socket.gethostname().lower()
            self._hosts = {*_LOOPBACK, name, f"{name}.local", socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # A websocket, which no page of this server opens.
            return
        respond = _with_headers(send)
        headers = Headers(scope=scope)
        refused = self._refusal(scope["method"], headers)
        body = None if refused else await _body(headers, receive)
        if refused or body is None:
            status, reason = refused or (413, f"a request may have {MAX_BODY:,} bytes at most")
            await PlainTextResponse(reason, status)(scope, receive, respond)
            return
        await self._app(scope, _replayed(body, receive), respond)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Return status and reason if a request is refused."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, "this server has another name; use the address that it printed"
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get("origin")
        if origin is None:
            own = headers.get("sec-fetch-site") == "same-origin"
        else:
            own = origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
        return None if own else (403, "the request comes from a page of another site")

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._hosts:
                return True
            if self._any_address:
                ipaddress.ip_address(name)
                return True
        except ValueError:  # Not a host, or not an address.
            pass
        return False


def _with_headers(send: Send) -> Send:
    async def respond(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return respond


async def _body(headers: Headers, receive: Receive) -> bytes | None:
    """Read a body, or return None if it is too large."""
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > MAX_BODY:
        return None
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Callable[[], Awaitable[Any]]:
    """Return a channel that has a body that was read before."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
