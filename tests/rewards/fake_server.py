"""A server of scores on this machine that fails in every way that real ones do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler", Any], None]
"""Answers the JSON of a request by calling methods of the handler."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    server: FakeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.seen_headers.append(dict(self.headers))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
            number = len(self.server.bodies) - 1
        try:
            answers = self.server.answers
            answers[min(number, len(answers) - 1)](self, body)
        finally:
            with self.server.lock:
                self.server.now -= 1

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client has gone
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


class FakeServer(ThreadingHTTPServer):
    """Answers its k-th request with its k-th answer, and all further ones with the last."""

    request_queue_size = 64  # connections that come at once; beyond it they wait a second
    daemon_threads = True
    block_on_close = False

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.lock = threading.Lock()
        self.bodies: list[Any] = []
        self.seen_headers: list[dict[str, str]] = []
        self.now = self.most = 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *args: Any) -> None:  # clients that hang up are what is tested
        pass

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


# -- answers -------------------------------------------------------------------------------------


def lengths(handler: Handler, body: Any) -> None:
    """Score each completion by its length."""
    handler.send(json.dumps({"scores": [len(text) for text in body["completions"]]}).encode())


def says(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda handler, _: handler.send(raw, status, **headers)


def slow(seconds: float, then: Answer = lengths) -> Answer:
    def answer(handler: Handler, body: Any) -> None:
        handler.server.over.wait(seconds)
        then(handler, body)

    return answer


def drops(handler: Handler, body: Any) -> None:
    """Hang up without a word."""
    handler.close_connection = True


def drips(handler: Handler, body: Any) -> None:
    """Send a byte now and then, never all: each read is quick, the answer never ends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        while not handler.server.over.wait(0.02):
            handler.wfile.write(b" ")
    except OSError:
        handler.close_connection = True


def floods(handler: Handler, body: Any) -> None:
    """Send without end, until the client hangs up."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    sent = 0
    try:
        while not handler.server.over.is_set():
            sent += handler.wfile.write(b"[" * 65536)
    except OSError:
        handler.close_connection = True
    handler.server.flooded = sent  # type: ignore[attr-defined]


def judges(reply: Callable[[str, str], str | dict[str, Any]]) -> Answer:
    """Answer as a chat server: ``reply(system, user)`` is what the model says, or the choice."""

    def answer(handler: Handler, body: Any) -> None:
        system, user = (message["content"] for message in body["messages"])
        said = reply(system, user)
        choice = said if isinstance(said, dict) else {"finish_reason": "stop"}
        choice.setdefault("message", {"role": "assistant", "content": said})
        handler.send(json.dumps({"choices": [choice]}).encode())

    return answer


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def attributes(value: Any) -> str:
    """Everything that an object holds, for a search for secrets."""
    return repr(getattr(value, "__dict__", None))
