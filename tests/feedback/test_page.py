"""The page without a browser: forms, and what is refused."""

from __future__ import annotations

import re
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from textgym.errors import FeedbackError
from textgym.feedback import NewItem, Store
from textgym.serve.feedback.app import PageSettings, make_app
from textgym.serve.feedback.forms import parse_marks, restored
from textgym.serve.feedback.guard import MAX_BODY
from textgym.serve.feedback.languages import preferred
from textgym.serve.feedback.pieces import compared, pieces
from textgym.serve.feedback.server import addresses

ROOT = "http://127.0.0.1:8000"
SCRIPT = "</p><script>alert('x')</script><img src=x onerror=alert(1)>"


def client(store: Store, root: str = ROOT, **settings: Any) -> TestClient:
    """A browser with its own cookies, whose forms come from pages of the server."""
    app = make_app(store, PageSettings(repeats=0, **settings))
    return TestClient(app, base_url=root, headers={"origin": root})


def enter(browser: TestClient, name: str) -> str:
    page = browser.post("/name", data={"name": name})
    assert page.status_code == 200
    return page.text


def token_of(page: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found, page
    return found[1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store.sqlite")
    store.add_items([NewItem("pair", f"prompt {n}", (f"a{n}", f"b{n}")) for n in range(5)])
    return store


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("kind", ["pair", "rating", "spans", "edit"])
def test_what_a_policy_writes_is_text(tmp_path: Path, kind) -> None:
    store = Store(tmp_path / "store.sqlite")
    texts = (SCRIPT, f"{{{{ 7 * 77777 }}}} \ud800\x00\u202e</textarea>{SCRIPT}")[
        : 1 + (kind == "pair")
    ]
    store.add_items([NewItem(kind, SCRIPT, texts, {"aspects": ['"><script>x</script>']})])
    browser = client(store)
    page = enter(browser, "<b>Ann</b>")
    elements = Elements(page).found
    assert [attributes for tag, attributes in elements if tag == "script"] == [
        {"src": "/static/feedback.js", "defer": None}
    ]
    assert not [tag for tag, _ in elements if tag in ("img", "b")]
    names = {name for _, attributes in elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert "alert" in page
    assert "544439" not in page
    policy = browser.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy


def test_a_person_judges_undoes_and_sees_their_progress(store: Store) -> None:
    browser = client(store)
    page = enter(browser, "Ann")
    assert browser.get("/").text.count(token_of(page)) == 1  # Loaded again: the same form.
    for choice in ("first", "tie", "second"):
        answer = {"token": token_of(page), "choice": choice, "seconds": "2.5"}
        page = browser.post("/judge", data=answer).text
        assert browser.post("/judge", data=answer).status_code == 200  # Sent again.
    assert [one.value["choice"] for one in store.judgements()] == ["first", "tie", "second"]
    assert {one.seconds for one in store.judgements()} == {2.5}
    assert "3 judged · 2 left" in page
    changed = browser.post("/judge", data={**answer, "choice": "tie"})
    assert changed.status_code == 409
    assert "answered before" in changed.text
    last = store.judgements()[-1]
    again = browser.post("/undo", data={"judgement": str(last.id)}).text
    assert f"prompt {last.item - 1}<" in again
    assert "2 judged · 3 left" in again
    assert "reward" not in again
    browser.post("/judge", data={"token": token_of(again), "edit": "0", "text0": "better\r\ntext"})
    assert store.judgements()[-1].value == {"choice": "first", "text": "better\ntext"}


def test_skips_and_the_other_kinds(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    for kind in ("rating", "spans", "edit"):
        store.add_items([NewItem(kind, "", (" good \U0001f600 and bad.",)) for _ in range(2)])
    browser = client(store, aspects=("true", "fluent"))
    page = enter(browser, "Ann")
    answers = [
        {"aspect:true": "1", "aspect:fluent": "5"},
        {"spans": "[[1, 5, 1]]"},
        {"marked": " [+good+] \U0001f600 and [-bad.-]"},
        {"text0": "better"},
        {"skip": "1", "text0": "x"},
    ]
    assert 'name="aspect:true"' in page
    wrong = browser.post("/judge", data={"token": token_of(page), "aspect:true": "six"})
    assert wrong.status_code == 400
    values = []
    while 'name="token"' in page:
        kind = re.search(r'data-kind="(\w+)"', page)
        assert kind
        usable = [one for one in answers if kind[1] in {
            "aspect:true": "rating", "spans": "spans", "marked": "spans",
        }.get(next(iter(one)), "edit")]  # fmt: skip
        answer = usable[0] if len(usable) == 1 else usable[len(values) % 2]
        page = browser.post("/judge", data={"token": token_of(page), **answer}).text
    values = [one.value for one in store.judgements(skips=True)]
    assert values[:2] == [{"aspects": {"true": 1, "fluent": 5}}] * 2
    assert {"spans": [[1, 5, 1]]} in values or {"spans": [[1, 5, 1], [12, 16, -1]]} in values
    assert {"text": " better"} in values or {"skip": True} in values
    assert "Nothing to judge" in page


def test_one_annotator_is_not_another(store: Store) -> None:
    ann, ben = client(store), client(store)
    page = enter(ann, "Ann")
    taken = ben.post("/name", data={"name": " Ann "})
    assert taken.status_code == 409
    assert "taken" in taken.text
    own = token_of(enter(ben, "Ben"))
    refused = ben.post("/judge", data={"token": token_of(page), "choice": "first"})
    assert refused.status_code == 400
    ann.post("/judge", data={"token": token_of(page), "choice": "first"})
    (given,) = store.judgements()
    assert ben.post("/undo", data={"judgement": str(given.id)}).status_code == 400
    assert store.judgements() == [given]
    assert given.annotator == "Ann"
    ben.post("/judge", data={"token": own, "choice": "tie"})
    assert "Ann" not in ben.get("/quality").text


def test_forged_cookies_and_links_are_refused(store: Store) -> None:
    ann = client(store)
    enter(ann, "Ann")
    (name, cookie), *_ = [(one.name, one.value) for one in ann.cookies.jar]
    assert name.startswith("textgym_annotator_")
    text, _, code = cookie.partition(".")
    other = make_app(Store(store.path.with_name("other.sqlite")), PageSettings())
    signed = TestClient(other, base_url=ROOT, headers={"origin": ROOT})
    enter(signed, "Ann")
    foreign = next(one.value for one in signed.cookies.jar)
    changed = ("x" if code[0] != "x" else "y") + code[1:]
    forgeries = (f"QmVu.{code}", text, f"{text}.", f"{text}.{changed}", foreign, "!.x", "")
    for forged in forgeries:
        browser = client(store)
        browser.cookies.set(name, forged)
        assert 'name="token"' not in browser.get("/").text
        # The signature of a cookie is not one of a link.
        assert browser.get(f"/as/{forged or 'x'}").status_code in (403, 404)
    assert ann.get(f"/as/{cookie}").status_code == 403
    link = re.search(r'href="(/as/[^"]+)"', ann.get("/").text)
    assert link
    phone = client(store)
    assert phone.get(link[1]).status_code == 200
    assert token_of(phone.get("/").text) == token_of(ann.get("/").text)


def test_other_sites_and_hosts_are_refused(store: Store) -> None:
    browser = client(store)
    token = token_of(enter(browser, "Ann"))
    answer = {"token": token, "choice": "first"}
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:8001",
        "https://127.0.0.1.evil",
    ):
        refused = browser.post("/judge", data=answer, headers={"origin": origin})
        assert refused.status_code == 403
    plain = TestClient(browser.app, base_url=ROOT, cookies=browser.cookies)
    assert plain.post("/judge", data=answer).status_code == 403
    cross = plain.post("/judge", data=answer, headers={"sec-fetch-site": "cross-site"})
    assert cross.status_code == 403
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "192.0.2.7"):
        assert browser.get("/", headers={"host": host}).status_code == 421
    assert store.judgements() == []
    for cookie in browser.get("/", params={"lang": "zh"}).headers.get_list("set-cookie"):
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
    own = plain.post("/judge", data=answer, headers={"sec-fetch-site": "same-origin"})
    assert own.status_code == 200
    assert len(store.judgements()) == 1


def test_a_server_for_other_machines_asks_for_its_token(store: Store) -> None:
    root = "http://192.0.2.7:8000"
    settings = {"host": "0.0.0.0"}
    browser = client(store, root, **settings)
    assert browser.get("/").status_code == 403
    assert browser.post("/name", data={"name": "Ann"}).status_code == 403
    assert browser.get("/enter", params={"token": "guess"}).status_code == 403
    assert browser.get("/quality").status_code == 400
    (address,) = addresses(store, PageSettings(host="0.0.0.0"), 8000)
    assert browser.get(address.partition(":8000")[2]).status_code == 200
    assert 'name="token"' in enter(browser, "Ann")
    assert browser.get("/", headers={"host": "evil.example"}).status_code == 421
    key = store.path.with_name(store.path.name + ".key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_only_invited_people(store: Store) -> None:
    names = ("Ann", "Ben")
    browser = client(store, names=names)
    assert browser.get("/").status_code == 403
    assert browser.post("/name", data={"name": "Ann"}).status_code == 403
    link = addresses(store, PageSettings(names=names), 8000)[1]
    assert browser.get(link).status_code == 200
    browser.post("/judge", data={"token": token_of(browser.get("/").text), "choice": "tie"})
    assert [one.annotator for one in store.judgements()] == ["Ben"]
    assert client(store, names=("Ann",)).get(link).status_code == 403


def test_sizes_methods_and_paths(store: Store) -> None:
    browser = client(store)
    token = token_of(enter(browser, "Ann"))
    large = {"token": token, "edit": "0", "text0": "x" * MAX_BODY}
    assert browser.post("/judge", data=large).status_code == 413

    def stream():
        for _ in range(20):
            yield b"x" * (MAX_BODY // 10)

    assert browser.post("/judge", content=stream()).status_code == 413
    assert browser.post("/judge", content=b"\xff\xfe=1").status_code == 400
    assert (
        browser.post("/judge", content="&".join(f"a{n}=1" for n in range(200))).status_code == 400
    )
    assert browser.post("/judge", data={"token": token, "spans": "[" * 9999}).status_code == 400
    assert browser.post("/undo", data={"judgement": "9" * 30}).status_code == 400
    assert browser.get("/judge").status_code == 405
    assert browser.put("/judge").status_code == 405
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/app.py"):
        assert browser.get(path).status_code == 404
    assert browser.get("/static/feedback.js").status_code == 200
    assert store.judgements() == []


def test_a_store_that_fails_is_an_answer_to_try_again(store: Store, monkeypatch) -> None:
    browser = client(store)
    token = token_of(enter(browser, "Ann"))
    from textgym.errors import StorageError

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Store, "judge", full)
        answer = {"token": token, "choice": "first"}
        failed = browser.post("/judge", data=answer)
        assert failed.status_code == 503
        assert "the disk is full" in failed.text
    assert browser.post("/judge", data=answer).status_code == 200
    assert len(store.judgements()) == 1


def test_languages(store: Store) -> None:
    browser = client(store)
    assert "哪段文字更好" in browser.get("/", headers={"accept-language": "zh-CN,en;q=0.5"}).text
    assert "better?" in browser.get("/", headers={"accept-language": "de,fr;q=0.5"}).text
    assert '<html lang="zh">' in browser.get("/?lang=zh").text
    assert '<html lang="zh">' in browser.get("/").text  # It is remembered.
    assert preferred("en;q=0.1, zh;q=0.2") == "zh"
    assert preferred("zh;q=0, en;q=nonsense") == "en"


def test_pieces_cover_texts_and_mark_differences() -> None:
    text = " It's 第一 \U0001f600 naïve, ไทย\n"
    found = pieces(text)
    assert "".join(text[piece.start : piece.end] for piece in found) == text
    assert [piece.text for piece in found if not piece.is_space][:6] == [
        "It", "'", "s", "第", "一", "\U0001f600"
    ]  # fmt: skip
    first, second = compared("the old red house is here", "the new house is here now")
    assert [piece.text for piece in first if piece.differs] == ["old red"]
    assert [piece.text for piece in second if piece.differs] == ["new", "now"]
    assert "".join(piece.text for piece in first) == "the old red house is here"


def test_marks_in_plain_text_and_spaces_of_edits() -> None:
    assert parse_marks("a [+b+] [-c d-]", "a b c d") == [[2, 3, 1], [4, 7, -1]]
    assert parse_marks("a [b] +c", "a [b] +c") == []
    with pytest.raises(FeedbackError, match="only add marks"):
        parse_marks("a [+x+]", "a b")
    assert restored("new\n", " old \n") == " new \n"
    assert restored(" ", " old") == ""
    assert restored("new", "  ") == "new"
