"""Two people judge in Chromium, with keys and with a finger, while the server dies and comes back.

Needs Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feedback.browser import Person, Server, chromium, wait
from textgym.feedback import NewItem, Store

pytestmark = pytest.mark.full

LEFT, RIGHT, ENTER = "\ue012", "\ue014", "\ue007"  # WebDriver's codes of keys.

EVIL = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "judgements.sqlite")


@pytest.fixture
def server(store: Store) -> Iterator[Server]:
    server = Server(store.path, "--seed", "0")
    yield server
    server.kill()


@pytest.fixture
def ann(server: Server) -> Iterator[Person]:
    browser = chromium()
    yield Person(browser, server.root)
    browser.quit()


@pytest.fixture
def ben(server: Server) -> Iterator[Person]:
    browser = chromium(phone=True)
    yield Person(browser, server.root)
    browser.quit()


def test_thirty_pairs_by_two_people(store: Store, server: Server, ann: Person, ben: Person) -> None:
    store.add_items(
        [NewItem("pair", f"Prompt {n}:", (f" a {n} {EVIL}", f" b {n}")) for n in range(60)]
    )
    server.start()
    ann.start("Ann")
    ben.start("本")

    def by_key(person: Person, key: str) -> str:
        token = person.form()
        sides = {"1": 0, "2": 1, LEFT: 0, RIGHT: 1}
        choice = (
            person.value(sides[key]) if key in sides else {"0": "tie", "t": "tie"}.get(key, "skip")
        )
        person.answers[token] = {"choice": choice}
        person.press(key)
        return token

    def by_touch(person: Person, place: int) -> str:
        token = person.form()
        person.answers[token] = {"choice": person.value(place)}
        person.tap(person.find(f".actions button[data-key^='{place + 1}']"))
        return token

    # Eighteen by keys and twelve by touch, in turns, with a reload in the middle of each.
    keys = ["1", "2", "0", LEFT, RIGHT, "t", "s", "1", "2"] * 2
    for number, key in enumerate(keys):
        token = by_key(ann, key)
        ann.form(after=token)
        if number % 3 < 2:
            token = by_touch(ben, number % 2)
            ben.form(after=token)
        if number == 7:
            for person in (ann, ben):
                token = person.form()
                person.browser.refresh()
                assert person.form() == token

    # Undo, and judge the same texts again, in the same order.
    token, last = ann.form(), list(ann.answers)[-1]
    text = ann.find(".card .text").text
    ann.press("u")
    again = ann.form(after=token)
    assert ann.find(".card .text").text != text
    del ann.answers[last]
    by_key(ann, "2")
    assert ann.form(after=again) == token

    # Edit: the better version is a judgement too, and its keys judge nothing.
    ann.press("e")
    ann.press(" 1 2 0 s, better")
    edited = ann.find(".card[data-side='0'] textarea")
    side = ann.value(0)
    original = store.shown_item(token, "Ann").texts[side == "second"]
    ann.answers[token] = {"choice": side, "text": f"{original} 1 2 0 s, better"}
    assert edited.get_attribute("value").endswith("1 2 0 s, better")
    ann.press_with_control(ENTER)
    token = ann.form(after=token)

    # Differences are shown on demand.
    ann.press("d")
    assert "differences" in ann.find("body").get_attribute("class")

    # The server dies. Both answer, one reloads into nothing, and it comes back.
    server.kill()
    first = by_key(ann, "1")
    second = by_touch(ben, 1)
    wait(lambda: "kept" in ann.notice() and "kept" in ben.notice())
    ben.browser.refresh()
    server.start()
    ben.browser.get(ben.root)
    ann.form(after=first)
    ben.form(after=second)
    by_key(ann, "2")
    wait(lambda: len(store.judgements(skips=True)) == len(ann.answers) + len(ben.answers))

    stored = {one.token: (one.annotator, one.value) for one in store.judgements(skips=True)}
    expected = {token: ("Ann", value) for token, value in ann.answers.items()}
    expected |= {token: ("本", value) for token, value in ben.answers.items()}
    assert stored == expected
    assert len(stored) >= 30
    assert {person.browser.title for person in (ann, ben)} == {"Feedback"}
    assert all(0 < one.seconds < 60 for one in store.judgements())


def test_spans_ratings_and_edits(store: Store, server: Server, ann: Person, ben: Person) -> None:
    """Ann uses keys and the mouse, Ben a finger; \U0001f600 is one character, not two."""
    text = " Good words \U0001f600 and bad ones."
    store.add_items(
        [
            NewItem("spans", "", (text,), key="spans", priority=3),
            NewItem("rating", "", ("x",), {"aspects": ["true", "kind"]}, key="rating", priority=2),
            NewItem("edit", "", (" old",), key="edit", priority=1),
        ]
    )
    server.start()
    ann.start("Ann")
    ann.browser.execute_script(
        "const words = document.querySelectorAll('.words span');"
        "getSelection().setBaseAndExtent(words[0].firstChild, 0, words[2].firstChild, 5);"
    )
    ann.press("g")
    ann.browser.execute_script(
        "const words = [...document.querySelectorAll('.words span')];"
        "const bad = words.find((word) => word.textContent === 'bad');"
        "getSelection().setBaseAndExtent(bad.firstChild, 0, bad.firstChild, 2);"
    )
    ann.press("b")
    token = ann.form()
    ann.press(ENTER)
    token = ann.form(after=token)
    ann.press("4", "2", ENTER)
    token = ann.form(after=token)
    area = ann.find("textarea")
    area.clear()
    area.send_keys("new")
    ann.find(".actions button").click()
    wait(lambda: ann.find("[data-wait]"))

    ben.start("Ben")
    words = {word.text: word for word in ben.browser.find_elements("css selector", ".words span")}
    ben.tap(words["Good"])
    ben.tap(words["words"])
    ben.tap(words["words"])  # A second tap takes the mark away.
    ben.tap(ben.find("[data-brush='-1']"))
    ben.tap(words["bad"])
    ben.tap(words["ones"])
    token = ben.form()
    ben.tap(ben.find(".actions button"))
    ben.form(after=token)
    values = [(one.annotator, one.value) for one in store.judgements()]
    good, bad = text.index("Good"), text.index("bad")
    assert values == [
        ("Ann", {"spans": [[good, good + 10, 1], [bad, bad + 3, -1]]}),
        ("Ann", {"aspects": {"true": 4, "kind": 2}}),
        ("Ann", {"text": " new"}),
        ("Ben", {"spans": [[good, good + 4, 1], [bad, bad + 8, -1]]}),
    ]


def test_the_page_works_without_scripts(store: Store, server: Server) -> None:
    store.add_items([NewItem("pair", "p", ("a", "b")), NewItem("spans", "p", ("good bad",))])
    server.start()
    browser = chromium()
    try:
        person = Person(browser, server.root)
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        browser.get(server.root)
        person.find("input[name=name]").send_keys("Ann")
        person.find("form button").click()
        choice = person.value(0)
        person.find(".actions button").click()
        area = person.find("textarea[name=marked]")
        area.clear()
        area.send_keys("[+good+] bad")
        person.find(".actions button").click()
        wait(lambda: len(store.judgements()) == 2)
        values = [one.value for one in store.judgements()]
        assert values == [{"choice": choice}, {"spans": [[0, 4, 1]]}]
    finally:
        browser.quit()
