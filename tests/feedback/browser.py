"""A server in a process, and people with Chromium in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


class Server:
    """``textgym feedback`` in a process, which can be killed and started again."""

    def __init__(self, store: Path, *arguments: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.root = f"http://127.0.0.1:{port}"
        self._command = [
            sys.executable, "-m", "textgym", "feedback", "--store", str(store), "--port", str(port),
            *arguments,
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process = subprocess.Popen(
            self._command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(self.root):
                return
        raise AssertionError("the server ended before it printed its address")

    def kill(self) -> None:
        """End it without a warning."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def chromium(*, phone: bool = False, arguments: tuple[str, ...] = ()) -> Any:
    """A Chromium without a window; tests are skipped where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra dev)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", *arguments):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with it.
    if phone:
        metrics = {"width": 390, "height": 780, "pixelRatio": 2, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    else:
        options.add_argument("--window-size=1200,800")
    service = webdriver.ChromeService(executable_path=driver)
    return webdriver.Chrome(options=options, service=service)


def wait(condition: Callable[[], Any]) -> Any:
    """Wait until something is true, and return it."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + PATIENCE
    while True:
        try:
            if found := condition():
                return found
        except WebDriverException:  # The page changed while it was looked at.
            pass
        assert time.monotonic() < end, "the page did not change as expected"
        time.sleep(0.05)


class Person:
    """Somebody who judges, and remembers what they answered to which form."""

    def __init__(self, browser: Any, root: str) -> None:
        self.browser = browser
        self.root = root
        self.answers: dict[str, dict[str, Any]] = {}

    def start(self, name: str) -> None:
        """Enter a name."""
        self.browser.get(self.root)
        self.find("input[name=name]").send_keys(name)
        self.find("form button").click()
        self.form()

    def find(self, selector: str) -> Any:
        """Return an element."""
        from selenium.webdriver.common.by import By

        return wait(lambda: self.browser.find_element(By.CSS_SELECTOR, selector))

    def form(self, after: str = "") -> str:
        """Wait for a form other than `after`, and return its token."""
        script = "return document.querySelector('input[name=token]')?.value"
        token = wait(lambda: (t := self.browser.execute_script(script)) and t != after and t)
        time.sleep(0.3)  # Keys are ignored for a moment, so that nobody judges by accident.
        return str(token)

    def value(self, place: int) -> str:
        """The choice of the left (0) or the right (1) text."""
        return str(self.find(f".actions button[data-key^='{place + 1}']").get_attribute("value"))

    def press(self, *keys: str) -> None:
        """Press keys, on the page or in the field that has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def press_with_control(self, key: str) -> None:
        """Press a key while Control is down."""
        from selenium.webdriver import ActionChains, Keys

        control = Keys.CONTROL
        ActionChains(self.browser).key_down(control).send_keys(key).key_up(control).perform()

    def tap(self, element: Any) -> None:
        """Tap an element with a finger."""
        from selenium.webdriver.common.action_chains import ActionBuilder
        from selenium.webdriver.common.actions import interaction
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        finger = PointerInput(interaction.POINTER_TOUCH, "finger")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        actions = ActionBuilder(self.browser, mouse=finger)
        actions.pointer_action.move_to(element).pointer_down().pointer_up()
        actions.perform()

    def notice(self) -> str:
        """The text of the notice."""
        return str(self.find("#notice").text)
