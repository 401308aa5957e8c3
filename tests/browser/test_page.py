"""The page in a real browser: what it shows, and that it is fit to be used."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.edns
import dns.message
import dns.rcode
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import DELAYS, KNOWN, LONG_TASK, NARROW, PICTURES, POOL, WIDE
from tests.kit import behaviours as b
from tests.kit.checkout import ROOT
from tests.kit.clients import UdpClient, dig, question
from tests.kit.scripted import Send
from tests.kit.testbed import unique_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.browser.conftest import Page
    from tests.kit.scripted import Action, Query

VIEWS = {"": "Overview", "upstreams": "Upstreams", "names": "Names", "live": "Live"}
MANY = 1_000
MOST_OCTETS = 150_000
"""Of the picture in the documentation."""
SILENCE = 3.2
"""Seconds until an upstream that does not answer is given up."""
HOSTILE = (
    "\\<script\\>window.ran=1\\</script\\>.example.",
    "\\<img\\ src=x\\ onerror=window.ran=1\\>.example.",
    "\\027[31mred\\007\\>\\<svg\\ onload=window.ran=1\\>.example.",
)
_LOOKS = (Path(__file__).parent / "looks.js").read_text(encoding="utf-8")


@pytest.fixture
def shop(page: Page) -> str:
    """A name that has been asked for, and whose pool is complete."""
    name = unique_name("www.shop")
    page.testbed.ask(name)
    page.testbed.pool(name, set(POOL))
    time.sleep(0.4)  # the last sort
    return name.removesuffix(".")


def test_a_load(page: Page) -> None:
    """It needs few requests, all of them here, and says how the program is."""
    page.open(title="Overview")
    page.wait_text("#phase", "serving")
    page.wait_text(".tile", "Queries a second")
    requested = page.requested()
    assert all(url.startswith(page.base) for url in requested)
    assert len(requested) <= 12
    assert "StaggerDNS" in page.driver.title
    assert page.texts("h1") == ["Overview"]


def test_by_its_name(page: Page) -> None:
    """``localhost`` leads there as well; a stranger's name that leads there reads nothing."""
    here = page.base
    page.base = f"http://localhost:{page.port}"
    page.open(title="Overview")
    page.wait_text("#phase", "serving")
    assert page.complaints() == []
    page.driver.get(f"http://evil.example:{page.port}/")
    assert "page.hosts" in page.driver.page_source
    assert page.all("nav") == []
    for path in ("overview", "names", "live"):
        status = page.driver.execute_async_script(
            "fetch(arguments[0]).then((got) => arguments[1](got.status), () => arguments[1](0))",
            f"/api/{path}",
        )
        assert status == 403
    page.driver.get(here)
    page.base = here
    page.driver.get_log("browser")
    page.requested()


def test_live_rows(page: Page) -> None:
    """They appear when dig asks, the newest above, and are filtered."""
    page.open("live", "Live")
    page.wait_text("main [role=status]", "Live.")
    names = [unique_name("dug") for _ in range(3)]
    for name in [*names, names[0]]:
        dig(page.testbed.program.endpoint, name, "A")
    page.wait("document.querySelectorAll('tbody tr').length === 4")
    cells = [row.find_elements("css selector", "th, td") for row in page.all("tbody tr")]
    shown = [[cell.text for cell in row] for row in cells]
    assert [row[2] + "." for row in shown] == [names[0], *reversed(names)]
    assert [row[4] for row in shown] == ["cache", "upstream", "upstream", "upstream"]
    assert shown[0][1] == "127.0.0.1"
    assert set(re.findall(r"[\d.]{7,}", shown[1][6])) <= set(POOL)
    page.picture("live")
    page.driver.find_element("id", "filter").send_keys(names[1].removesuffix("."))
    for name in names:
        dig(page.testbed.program.endpoint, name, "A")
    page.wait("document.querySelectorAll('tbody tr').length === 5")
    assert (
        page.texts("tbody tr td.name")[1] + "." == names[1]
        or names[1][:-1] in page.texts("tbody tr")[0]
    )
    page.click("button", "Pause")
    page.wait_text("main [role=status]", "Paused.")
    page.click("button", "Clear")
    assert page.all("tbody tr") == []


def test_search_and_waterfall(page: Page, shop: str) -> None:
    """Two clicks from the start to why an address is the first one: by a search for the name."""
    page.open(title="Overview")
    page.click("nav a", "Names")
    page.wait("document.activeElement.matches('h1')")
    page.driver.find_element("id", "q").send_keys(shop.upper())
    page.wait_text("#found", f"1 name with “{shop.upper()}”")
    page.click(".names li > a", shop)
    page.wait_text("h1", shop)
    page.wait("document.querySelectorAll('svg.bars .asked').length === 5")
    bars = page.all("svg.bars .asked")
    tiers = [str(bar.get_attribute("data-tier")) for bar in bars]
    assert sorted(tiers) == ["active"] * 2 + ["staggered"] * 3
    assert len({bar.get_attribute("data-upstream") for bar in bars}) == 5
    page.click("summary", "The same as a table")
    rows = {row.text.split()[0]: row.text for row in page.all("details[open] tbody tr")}
    for endpoint, known in zip(page.testbed.endpoints, KNOWN, strict=True):
        row = rows[str(endpoint)]
        assert set(re.findall(r"198\.18\.\d+\.\d+", row)) == set(known)
        assert ("positive" in row) == bool(known)
        assert ("NODATA" in row) == (not known)
    page.wait_text("#answer", "The answer as it stands")
    order = re.findall(
        r"198\.18\.\d+\.\d+", " ".join(page.texts("[aria-labelledby=answer] td code"))
    )
    assert sorted(order) == sorted(POOL)
    assert order[0] == page.testbed.ask(shop + ".").addresses[0]
    bar_ends = page.driver.execute_script(
        "return [...document.querySelectorAll('svg.bars rect')].map((bar) => bar.x.baseVal.value"
        " + bar.width.baseVal.value - bar.ownerSVGElement.width.baseVal.value)"
    )
    assert max(bar_ends) <= 0, "nothing is drawn outside"


def test_negative_answers(page: Page) -> None:
    """They are called what ``staggerdns why`` calls them, the one that the client got as well."""
    quick, slow = b.nodata(), b.nxdomain(after=0.1)
    nodata = page.testbed.route("nodata", quick, quick, slow, slow, slow)
    nxdomain = page.testbed.route("nxdomain", b.nxdomain())
    for name, called in ((nodata, "NODATA"), (nxdomain, "NXDOMAIN")):
        page.testbed.ask(name)
        page.testbed.complete(name)
        page.open(f"name/{name[:-1]}/A", name[:-1])
        page.wait("document.querySelectorAll('svg.bars .asked').length === 5")
        said = page.texts("svg.bars .said")
        assert sum(one.endswith(f"{called}, first") for one in said) == 1
        assert not any("NOERROR" in one for one in said)
        assert page.texts("[aria-labelledby=answer] dd")[0] == called
    assert f"{called}, first." in str(page.all("svg.bars")[0].get_attribute("aria-label"))


def test_first_on_a_phone(page: Page, shop: str) -> None:
    """There is room to say which answer was the first."""
    page.screen(NARROW)
    page.open(f"name/{shop}/A", shop)
    page.wait("document.querySelectorAll('svg.bars .asked').length === 5")
    said = page.texts("svg.bars .said")
    assert sum(one.endswith("2 addresses, first") for one in said) == 1


def test_nothing_is_kept(page: Page) -> None:
    """Of a name that nobody asked for no waterfall is missed, and nobody is told that it would be
    asked for: a list or the program itself may answer.
    """
    name = unique_name("unheard")[:-1]
    for title, told in (("localhost", "It is answered here"), (name, "No answer is kept.")):
        page.open(f"name/{title}/A", title)
        page.wait_text("#answer", "The answer as it stands")
        (text,) = page.texts("main section p")
        assert text.startswith(told)
        assert not page.all("#waterfall")


def test_without_the_types(page: Page, shop: str) -> None:
    """When names cannot be looked for, as while too many do, the waterfall is there nonetheless."""
    page.open(title="Overview")
    page.driver.execute_script(
        "const real = fetch; window.fetch = (url, more) => String(url).includes('/api/names')"
        " ? Promise.resolve(Response.json({error: {code: 'busy', message: 'busy'}}, {status: 503}))"
        " : real(url, more)"
    )
    page.driver.execute_script("location.hash = arguments[0]", f"#/name/{shop}/A")
    page.wait("document.querySelectorAll('svg.bars .asked').length === 5")
    assert page.texts("nav.types a") == ["A"]


@pytest.mark.parametrize("is_so", [False, True])
def test_what_is_not_asked_and_not_given(page: Page, shop: str, *, is_so: bool) -> None:
    """Upstreams that are left out are counted, and IPv6 that is not given is said."""
    page.open(title="Overview")
    page.driver.execute_script(
        "const real = fetch; const [spared, suppressed] = arguments;"
        " window.fetch = async (url, more) => {"
        "   const response = await real(url, more);"
        "   if (!String(url).includes('/api/why')) return response;"
        "   const found = await response.json();"
        "   Object.assign(found.trace, {spared});"
        "   Object.assign(found.answer, {suppressed});"
        "   return Response.json(found);"
        " }",
        3 * is_so,
        is_so,
    )
    page.driver.execute_script("location.hash = arguments[0]", f"#/name/{shop}/A")
    page.wait_text("#answer", "The answer as it stands")
    text = " ".join(page.texts("main section"))
    assert ("3 upstreams left out" in text) == is_so
    assert ("IPv6 is not given" in text) == is_so


def test_nearest_first(page: Page, shop: str, ranked: bool) -> None:
    """With distances the nearest is the first, and it says why."""
    if not ranked:
        pytest.skip("no test internet: nothing is measured")
    page.open(f"name/{shop}/A", shop)
    page.wait_text("[aria-labelledby=answer] tbody td", "nearest")
    first = page.texts("[aria-labelledby=answer] tbody tr")[0]
    assert POOL[3] in first
    assert "nearest" in first
    sorts = len(page.all("svg.bars .sort"))
    assert sorts
    page.click("summary", f"{sorts} sort")
    assert len(page.all("details[open] tbody tr")) == sorts, "those without an order as well"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_screens(page: Page, shop: str, size: tuple[int, int], scheme: str) -> None:
    """Everything can be read in light and dark, on a desktop and on a phone, without scrolling
    sideways; each control has a name, each view one title.
    """
    page.screen(size, scheme)
    views = {**VIEWS, f"name/{shop}/A": shop}
    for view, title in views.items():
        page.open(view, title)
        page.wait_text("#phase", "serving")
        if view == "upstreams":
            page.wait("document.querySelector('tbody tr')")
        if view == "live":
            page.wait_text("main [role=status]", "Live.")
            page.testbed.ask(shop + ".")
            page.wait("document.querySelector('tbody tr')")
        if view.startswith("name/"):
            page.wait("document.querySelector('svg.bars')")
        width = page.driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= size[0], view
        assert page.driver.execute_script(f"{_LOOKS} return illegible()") == [], view
        assert page.driver.execute_script(f"{_LOOKS} return nameless()") == [], view
        assert len(page.all("h1")) == 1
        for landmark in ("header", "nav", "main", "footer"):
            assert len(page.all(f"body > {landmark}, body > header > {landmark}")) == 1
        assert len(page.all("[role=status], [aria-live]")) <= 2, "little is read out by itself"
        back = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (int(re.findall(r"\d+", back)[0]) < 64) == (scheme == "dark")
        label = "name" if view.startswith("name/") else view or "overview"
        page.picture(f"{label}-{scheme}-{'wide' if size == WIDE else 'narrow'}")


def test_the_picture_of_the_documentation(page: Page) -> None:
    """A waterfall, small enough for a README."""
    # Addresses that nobody has measured, and one upstream that never answers.
    known = [[address[:-1] + "7" for address in addresses] for addresses in KNOWN]
    behaviours = [
        b.answers(*addresses, after=delay) if addresses else b.silent
        for addresses, delay in zip(known, DELAYS, strict=True)
    ]
    name = page.testbed.route("shop", *behaviours, name="www.shop.example.")
    page.testbed.ask(name)
    page.testbed.pool(name, {address for addresses in known for address in addresses})
    time.sleep(SILENCE)
    page.screen((1000, 1180))
    page.open("name/www.shop.example/A", "www.shop.example")
    page.wait("document.querySelectorAll('svg.bars .asked').length === 5")
    page.wait_text("#phase", "serving")
    page.picture("waterfall")
    path = PICTURES / "waterfall.png"
    assert path.stat().st_size < MOST_OCTETS
    if os.environ.get("STAGGERDNS_PICTURES"):
        shutil.copy(path, ROOT / "docs" / "waterfall.png")


def test_keyboard_alone(page: Page, shop: str) -> None:
    """From the first key to the waterfall of a name; where the focus is can be seen."""
    page.open(title="Overview")
    page.wait_text("#phase", "serving")

    def press(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    def focused(script: str) -> Any:
        return page.driver.execute_script(f"return document.activeElement.{script}")

    press(Keys.TAB)
    assert focused("id") == "skip"
    assert focused("getBoundingClientRect().top") >= 0, "it is seen when it is reached"
    seen = []
    for _ in range(4):
        press(Keys.TAB)
        seen.append(focused("textContent"))
        style = page.driver.execute_script(
            "return getComputedStyle(document.activeElement).outline"
        )
        assert "3px" in style
        assert "none" not in style
    assert seen == list(VIEWS.values())
    ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    press(Keys.ENTER)
    page.wait_text("h1", "Names")
    page.wait("document.activeElement.matches('h1')")
    press(Keys.TAB)
    assert focused("id") == "q"
    press(shop, Keys.ENTER)
    page.wait_text("#found", f"1 name with “{shop}”")
    press(Keys.TAB)
    assert focused("textContent") == "Search"
    press(Keys.TAB)
    assert focused("textContent") == shop
    press(Keys.ENTER)
    page.wait_text("h1", shop)
    page.wait("document.querySelectorAll('svg.bars .asked').length === 5")
    for _ in range(12):
        press(Keys.TAB)
        if focused("tagName") == "SUMMARY":
            break
    press(Keys.SPACE)
    assert page.all("details[open] tbody tr")
    page.driver.back()
    page.wait_text("h1", "Names")
    page.wait_text("#found", "1 name")


def test_many_names(page: Page) -> None:
    """A thousand names are listed, and scrolled through, while the page is never busy for long."""
    program = page.testbed.program
    with UdpClient(program.endpoint) as client:
        for start in range(0, MANY, 50):
            for number in range(start, start + 50):
                client.send(question(f"n{number:04}.many.example."))
            for _ in range(50):
                client.receive()
    longest = []
    for _ in range(3):  # other programs have their share of the machine
        page.open("names?q=.many.", "Names")
        page.driver.refresh()
        page.wait("document.querySelectorAll('.names li').length === 250")
        page.driver.execute_script("window.longTasks.length = 0")
        for shown in (500, 750, 1_000):
            page.click("main > button", "More names")
            page.wait(f"document.querySelectorAll('.names li').length === {shown}")
        page.wait_text("#found", "1,000 names")
        assert not page.all("main > button")[0].is_displayed()
        for _ in range(10):
            page.driver.execute_script("scrollBy(0, 3000)")
            time.sleep(0.05)
        longest.append(max(page.driver.execute_script("return window.longTasks"), default=0))
        if longest[-1] < LONG_TASK:
            break
    assert min(longest) < LONG_TASK, longest
    assert page.texts(".names li:last-child > a") == ["n0999.many.example"]


def _hostile_error(query: Query) -> Sequence[Action]:
    message = dns.message.make_response(query.parsed, recursion_available=True, our_payload=1232)
    message.set_rcode(dns.rcode.SERVFAIL)
    text = "</script><script>window.ran=1</script>\x1b[31m"
    message.use_edns(
        0, 0, 1232, options=[dns.edns.EDEOption(dns.edns.EDECode.NO_REACHABLE_AUTHORITY, text)]
    )
    return [Send(message.to_wire())]


def test_hostile_texts(page: Page) -> None:
    """Names that are markup and control characters, and texts of upstreams, are text: in lists, in
    titles, in waterfalls, in live rows. Nothing of them runs.
    """
    page.open("live", "Live")
    page.wait_text("main [role=status]", "Live.")
    broken = page.testbed.route("broken", _hostile_error)
    target = b.cname_chain([HOSTILE[0]], "198.18.9.1")
    chained = page.testbed.route("chained", target)
    for name in (*HOSTILE, broken, chained):
        page.testbed.ask(name)
    page.wait("document.querySelectorAll('tbody tr').length === 5")
    assert "window.ran=1" in " ".join(page.texts("tbody tr"))
    assert (
        page.driver.execute_script("return document.querySelectorAll('main svg, main img').length")
        == 0
    )
    page.open("names?q=window.ran", "Names")
    page.driver.refresh()
    page.wait("document.querySelectorAll('.names li').length === 3")
    links = [str(link.get_attribute("href")) for link in page.all(".names li > a")]
    for link in links:
        page.driver.get(link)
        page.wait_text("h1", "window.ran=1")
        page.wait("document.querySelector('svg.bars')")
        assert "window.ran=1" in page.driver.title or "red" in page.driver.title
        assert (
            page.driver.execute_script(
                "return document.querySelectorAll('main script, main img').length"
            )
            == 0
        )
    for name in (broken, chained):
        page.open(f"name/{name[:-1]}/A", name[:-1])
        page.wait_text("#answer", "The answer")
    page.open("name/%3Cscript%3Ewindow.ran=1%3C%2Fscript%3E/%3Cimg%3E")
    page.wait_text("main .notice", "Expected")
    page.driver.get_log("browser")  # the refused type
    assert page.driver.execute_script("return window.ran") is None
