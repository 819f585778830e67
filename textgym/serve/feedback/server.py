"""The server of the page."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from urllib.parse import quote

import uvicorn

from textgym.errors import SettingsError
from textgym.feedback.store import Store
from textgym.serve.feedback.app import PageSettings, make_app
from textgym.serve.feedback.guard import is_loopback
from textgym.serve.feedback.names import Signer


def serve(store: Store, settings: PageSettings, announce: Callable[[list[str]], None]) -> None:
    """Serve the page until the process is interrupted.

    Args:
        store: The store.
        settings: The settings.
        announce: Receives the addresses to open, when the server listens.

    Raises:
        SettingsError: If the address cannot be listened at.
        StorageError: If the key next to the store cannot be read or written.
    """
    app = make_app(store, settings)
    with _listen(settings.host, settings.port) as listening:
        announce(addresses(store, settings, listening.getsockname()[1]))
        # Without a log of requests: addresses have tokens in them.
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=3,
        )
        uvicorn.Server(config).run(sockets=[listening])


def addresses(store: Store, settings: PageSettings, port: int) -> list[str]:
    """Return the addresses to open: of each annotator, or the one for all.

    Args:
        store: The store.
        settings: The settings.
        port: The port that the server listens at.

    Raises:
        StorageError: If the key next to the store cannot be read or written.
    """
    host = settings.host
    if host in ("0.0.0.0", "::"):
        host = _own_address()
    root = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    signer = Signer(store.path)
    if settings.names:
        return [f"{root}/as/{signer.sign('link', name)}" for name in settings.names]
    if is_loopback(settings.host):
        return [f"{root}/"]
    return [f"{root}/enter?token={quote(signer.access)}"]


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        advice = "give another --host"
        if error.errno == errno.EADDRINUSE:
            advice = "give another --port, or end the program that uses it"
        elif error.errno == errno.EACCES:
            advice = "give a --port above 1023"
        reason = error.strerror or str(error)
        raise SettingsError(f"cannot listen at {host} port {port}: {reason}; {advice}") from error


def _own_address() -> str:
    """Return the address of this machine in its network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # Sends nothing; an address for documentation.
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
