"""A real browser in front of a program with five upstreams: ``make browser``.

All of it is in the test internet where there can be one, so that addresses have distances. After
each test the browser must have nothing to complain of: no error of a script, no violation of the
policy, no request to anybody else.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import behaviours as b
from tests.kit.checkout import ROOT
from tests.kit.daemons import find_program
from tests.kit.internet.possible import possible_world
from tests.kit.testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

WANTED = os.environ.get("STAGGERDNS_TEST_BROWSER", "0") not in ("", "0")
collect_ignore_glob = [] if WANTED else ["test_*.py"]  # `make test` needs no browser

if WANTED:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.remote.webelement import WebElement

PICTURES = ROOT / "build" / "browser"
WIDE, NARROW = (1280, 900), (390, 844)
"""Sizes of screens, in CSS pixels: a desktop's and a phone's."""
POOL = ("198.18.80.1", "198.18.120.1", "198.18.55.1", "198.18.9.1", "198.18.30.1")
"""How many milliseconds away an address is stands in its third octet."""
KNOWN = (POOL[:2], (POOL[0], POOL[2]), (), (POOL[3],), (POOL[4], POOL[1]))
"""Which addresses each upstream knows; the third one says that there are none."""
DELAYS = (0.018, 0.031, 0.08, 0.044, 0.07)
"""Seconds after which they answer."""
LONG_TASK = 100
"""Milliseconds for which the page may be busy at once."""
_PATIENCE = 10.0
_NAMES = "MAP *.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
_WATCH = """
window.complaints = [];
window.longTasks = [];
const note = (what) => window.complaints.push(what);
addEventListener("error", (event) => note(`error: ${event.message}`));
addEventListener("unhandledrejection", (event) => note(`rejected: ${event.reason}`));
addEventListener("securitypolicyviolation", (event) =>
  note(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longTasks.push(Math.round(entry.duration));
}).observe({ type: "longtask", buffered: true });
"""
"""What runs in each page before anything of its own."""


@pytest.fixture(scope="session")
def ranked() -> Iterator[bool]:
    """Everything is in the test internet from here on; whether there is one."""
    with possible_world() as world:
        if isinstance(world, str):
            yield False
        else:
            with world.inside():
                yield True


@pytest.fixture(scope="session")
def testbed(ranked: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A program, and five upstreams that know addresses of one pool."""
    behaviours = [
        b.answers(*known, after=delay) for known, delay in zip(KNOWN, DELAYS, strict=True)
    ]
    settings: dict[str, Any] = {
        "upstream": {"parallel": {"fallback_timeout": "1s"}},
        "ranking": {"enabled": ranked, "probes": ["icmp", "tcp:443"]},
        "log": {"level": "debug"},
    }
    with Testbed(tmp_path_factory.mktemp("program"), behaviours, settings) as found:
        yield found


@pytest.fixture(scope="session")
def driver(ranked: bool) -> Iterator[webdriver.Chrome]:
    """Debian's chromium, without a screen."""
    options = webdriver.ChromeOptions()
    options.binary_location = find_program("chromium")
    for argument in (
        "--headless=new",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        # Names of strangers lead to the program, and nowhere else.
        f"--host-resolver-rules={_NAMES}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, Service(find_program("chromedriver"))) as found:
        found.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
        yield found


class Page:
    """The page of a program in a browser."""

    def __init__(self, driver: webdriver.Chrome, testbed: Testbed) -> None:
        self.driver = driver
        self.testbed = testbed
        self.port = testbed.program.web.port
        self.base = f"http://{testbed.program.web}"
        PICTURES.mkdir(parents=True, exist_ok=True)

    def screen(self, size: tuple[int, int] = WIDE, scheme: str = "light") -> None:
        """Have a screen of this size, and somebody who likes it light or dark."""
        width, height = size
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == NARROW},
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, view: str = "", title: str = "") -> None:
        """Go to a view, and wait until its title stands there."""
        self.driver.get(f"{self.base}/#/{view}")
        if title:
            self.wait_text("h1", title)

    def all(self, selector: str) -> list[WebElement]:
        """What there is under a selector."""
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def texts(self, selector: str) -> list[str]:
        """The texts of these, as they are shown."""
        return [one.text for one in self.all(selector)]

    def wait(self, script: str, *arguments: Any) -> Any:
        """Return what an expression is as soon as it is something."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = self.driver.execute_script(f"return {script}", *arguments)
            if found:
                return found
            assert time.monotonic() < deadline, (script, self.driver.page_source[-3_000:])
            time.sleep(0.03)

    def wait_text(self, selector: str, text: str) -> None:
        """Wait until something under a selector has a text in it."""
        self.wait(
            "[...document.querySelectorAll(arguments[0])]"
            ".some((one) => one.textContent.includes(arguments[1]))",
            selector,
            text,
        )

    def click(self, selector: str, text: str = "") -> None:
        """Click what is under a selector and has a text in it."""
        self.wait_text(selector, text)
        next(one for one in self.all(selector) if text in one.text).click()

    def picture(self, name: str) -> None:
        """Keep a picture of the screen."""
        self.driver.save_screenshot(str(PICTURES / f"{name}.png"))

    def complaints(self) -> list[str]:
        """What the browser complains of, and requests to others, since the last look."""
        found = self.driver.execute_script("return window.complaints.splice(0)")
        found += [entry["message"] for entry in self.driver.get_log("browser")]
        return [*found, *(url for url in self.requested() if not url.startswith(self.base))]

    def requested(self) -> list[str]:
        """Return the URLs that were asked for since the last look."""
        messages = [json.loads(one["message"]) for one in self.driver.get_log("performance")]
        sent = [one["message"] for one in messages]
        urls = [
            one["params"]["request"]["url"]
            for one in sent
            if one["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("about:", "data:"))]


@pytest.fixture
def page(driver: webdriver.Chrome, testbed: Testbed) -> Iterator[Page]:
    """The page on a wide, light screen; nothing is to be complained of in the end."""
    found = Page(driver, testbed)
    driver.get("about:blank")
    found.screen()
    with contextlib.suppress(KeyError):
        found.complaints()
    yield found
    assert found.complaints() == []
    driver.get("about:blank")
