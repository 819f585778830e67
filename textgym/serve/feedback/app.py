"""The addresses of the page, and their answers.

``GET /`` shows the form that is open; ``POST /judge`` and ``POST /undo`` store, and lead to ``/``.
``/enter?token=...`` exchanges the printed token for a cookie, ``/as/SIGNED`` a personal link, and
``POST /name`` takes a new name. ``/quality`` shows the quality. The script of the page uses the
same addresses as a browser without scripts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from textgym.errors import FeedbackError, StorageError, TextGymError
from textgym.feedback.agreement import quality
from textgym.feedback.items import SCALE, AnsweredError, Item, Kind
from textgym.feedback.store import REPEATS, Store
from textgym.serve.feedback.forms import fields_of, seconds_of, value_of
from textgym.serve.feedback.guard import Guard, is_loopback
from textgym.serve.feedback.languages import LANGUAGES, preferred, words
from textgym.serve.feedback.names import Signer
from textgym.serve.feedback.pieces import Piece, compared, pieces, trimmed, visible

_FOLDER = Path(__file__).parent
_STATIC = {
    "feedback.js": "text/javascript; charset=utf-8",
    "feedback.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_YEAR = 365 * 24 * 3600

Answer = Callable[[Request], Response]


@dataclass(frozen=True)
class PageSettings:
    """The settings of a page.

    Attributes:
        host: The address to listen at. Others than the loopback require the printed token.
        port: The port to listen at.
        mode: The kind of items that are shown; None shows all kinds.
        aspects: The names of the aspects that are rated.
        names: The annotators; empty lets anybody with access choose a name.
        repeats: Share of forms that show a judged item again.
        seed: Seed of the order of texts, and of repetitions; None draws without one.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    mode: Kind | None = None
    aspects: tuple[str, ...] = ("quality",)
    names: tuple[str, ...] = ()
    repeats: float = REPEATS
    seed: int | None = None


def make_app(store: Store, settings: PageSettings) -> Guard:
    """Make the application.

    Args:
        store: The store, which other processes may use at the same time.
        settings: The settings.

    Raises:
        StorageError: If the key next to the store cannot be read or written.
    """
    return Guard(_Page(store, settings).application(), settings.host)


class _Page:
    """The answers to requests."""

    def __init__(self, store: Store, settings: PageSettings) -> None:
        self.store = store
        self.settings = settings
        self.signer = Signer(store.path)
        self.needs_token = not is_loopback(settings.host)
        self.rng = np.random.default_rng(settings.seed)
        self.static = {name: (_FOLDER / "static" / name).read_bytes() for name in _STATIC}
        self.templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.annotator_cookie = f"textgym_annotator_{self.signer.suffix}"
        self.access_cookie = f"textgym_access_{self.signer.suffix}"

    def application(self) -> Starlette:
        """Return the application without its guard."""
        get, post = ["GET"], ["POST"]
        return Starlette(
            routes=[
                Route("/", self._answer(self.show), methods=get),
                Route("/judge", self._answer(self.judge), methods=post),
                Route("/undo", self._answer(self.undo), methods=post),
                Route("/name", self._answer(self.name), methods=post),
                Route("/quality", self._answer(self.quality), methods=get),
                Route("/enter", self._answer(self.enter), methods=get),
                Route("/as/{signed}", self._answer(self.enter_as), methods=get),
                Route("/static/{name}", self._answer(self.file), methods=get),
            ]
        )

    def _answer(self, answer: Answer) -> Any:
        """Run an answer in a thread, since SQLite waits for the disk; errors become pages."""

        def with_errors(request: Request) -> Response:
            try:
                response = answer(request)
            except AnsweredError:
                text = words(self._language(request)).answered
                return self._message(request, text, 409)
            except StorageError as error:
                return self._message(request, str(error), 503)
            except TextGymError as error:
                return self._message(request, str(error), 400)
            if request.query_params.get("lang") in LANGUAGES:
                self._set_cookie(response, "textgym_lang", request.query_params["lang"])
            return response

        async def endpoint(request: Request) -> Response:
            request.state.body = await request.body()  # The guard has limited its size.
            return await run_in_threadpool(with_errors, request)

        return endpoint

    def show(self, request: Request) -> Response:
        """Show the open form, or the start."""
        if not self._has_access(request):
            return self._render(request, "no_access.html", status=403)
        annotator = self._annotator(request)
        if annotator is None:
            return self._start(request)
        settings = self.settings
        shown = self.store.next_item(annotator, settings.mode, self.rng, settings.repeats)
        if shown is None:
            return self._render(request, "wait.html", annotator)
        item = shown.item
        sides: list[list[Piece]]
        if item.kind == "pair":
            first, second = compared(*item.texts)
            sides = [first, second]
        else:
            sides = [pieces(item.texts[0])]
        cards = [
            {"index": index, "letter": "AB"[place], "pieces": trimmed(sides[index]),
             "text": visible(item.texts[index])}
            for place, index in enumerate(shown.order)
        ]  # fmt: skip
        return self._render(
            request,
            "judge.html",
            annotator,
            kind=item.kind,
            prompt=visible(item.prompt).strip(),
            cards=cards,
            token=shown.token,
            now=time.time(),
            aspects=_aspects(item) or settings.aspects,
            scale=SCALE,
        )

    def judge(self, request: Request) -> Response:
        """Store a judgement."""
        annotator = self._require_annotator(request)
        fields = fields_of(request.state.body)
        token = fields.get("token", "")
        item = self.store.shown_item(token, annotator)
        value = value_of(item.kind, item.texts, fields)
        self.store.judge(token, annotator, value, seconds_of(fields))
        return RedirectResponse("/", 303)

    def undo(self, request: Request) -> Response:
        """Undo a judgement."""
        annotator = self._require_annotator(request)
        number = fields_of(request.state.body).get("judgement", "")
        if not number.isdecimal() or len(number) > 18:
            raise FeedbackError("the form does not name a judgement to undo; load the page again")
        self.store.undo(annotator, int(number))
        return RedirectResponse("/", 303)

    def name(self, request: Request) -> Response:
        """Take a name."""
        if not self._has_access(request) or self.settings.names:
            return self._render(request, "no_access.html", status=403)
        name = " ".join(fields_of(request.state.body).get("name", "").split())
        if not self.store.claim(name):
            return self._start(request, taken=True, status=409)
        response = RedirectResponse("/", 303)
        self._set_cookie(response, self.annotator_cookie, self.signer.sign("annotator", name))
        return response

    def quality(self, request: Request) -> Response:
        """Show the quality of all judgements, and of the annotator's own."""
        annotator = self._require_annotator(request)
        found = quality(self.store)
        return self._render(
            request, "quality.html", annotator, found=found, own=found.of(annotator)
        )

    def enter(self, request: Request) -> Response:
        """Exchange the printed token for a cookie."""
        if not self.signer.grants_access(request.query_params.get("token", "")):
            return self._render(request, "no_access.html", status=403)
        # Not a redirection: after a link on another site, browsers would send it without cookies.
        response = self._render(request, "entering.html")
        self._set_cookie(response, self.access_cookie, self.signer.sign("access", "all"))
        return response

    def enter_as(self, request: Request) -> Response:
        """Exchange a personal link for a cookie."""
        name = self.signer.verify("link", request.path_params["signed"])
        if name is None or (self.settings.names and name not in self.settings.names):
            return self._render(request, "no_access.html", status=403)
        response = self._render(request, "entering.html")
        self._set_cookie(response, self.annotator_cookie, self.signer.sign("annotator", name))
        return response

    def file(self, request: Request) -> Response:
        """Send the script, the style, or the icon."""
        name = request.path_params["name"]
        if name not in self.static:
            return Response("no such file", 404, media_type="text/plain")
        return Response(
            self.static[name], media_type=_STATIC[name], headers={"Cache-Control": "no-cache"}
        )

    def _start(self, request: Request, taken: bool = False, status: int = 200) -> Response:
        if self.settings.names:
            return self._render(request, "invited.html", status=403)
        return self._render(request, "start.html", status=status, taken=taken)

    def _has_access(self, request: Request) -> bool:
        if not self.needs_token or self._annotator(request) is not None:
            return True
        cookie = request.cookies.get(self.access_cookie)
        return self.signer.verify("access", cookie) is not None

    def _annotator(self, request: Request) -> str | None:
        name = self.signer.verify("annotator", request.cookies.get(self.annotator_cookie))
        return None if self.settings.names and name not in self.settings.names else name

    def _require_annotator(self, request: Request) -> str:
        name = self._annotator(request)
        if name is None:
            raise FeedbackError("this browser has no name yet; open the first page")
        return name

    def _language(self, request: Request) -> str:
        wanted = request.query_params.get("lang") or request.cookies.get("textgym_lang")
        if wanted in LANGUAGES:
            return str(wanted)
        return preferred(request.headers.get("accept-language", ""))

    def _message(self, request: Request, text: str, status: int) -> Response:
        return self._render(request, "message.html", status=status, text=text)

    def _render(
        self,
        request: Request,
        template: str,
        annotator: str | None = None,
        status: int = 200,
        **values: Any,
    ) -> Response:
        language = self._language(request)
        header: dict[str, Any] = {"annotator": annotator, "last": None}
        if annotator is not None:
            counts = self.store.counts(annotator, self.settings.mode)
            header |= {
                "counts": counts,
                "last": self.store.last(annotator, self.settings.mode),
                "link": f"/as/{self.signer.sign('link', annotator)}",
            }
        page = self.templates.get_template(template).render(
            w=words(language), language=language, languages=LANGUAGES, store=self.signer.suffix,
            path=request.url.path if request.method == "GET" else "/", **header, **values,
        )  # fmt: skip
        return HTMLResponse(page, status)

    def _set_cookie(self, response: Response, name: str, value: str) -> None:
        response.set_cookie(name, value, max_age=_YEAR, httponly=True, samesite="strict")


def _aspects(item: Item) -> list[str]:
    """Return the aspects that an item asks for itself."""
    names = item.columns.get("aspects")
    return [str(name) for name in names] if isinstance(names, list) else []
