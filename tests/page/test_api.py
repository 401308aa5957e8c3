"""What the page shows: the JSON below ``/api/``."""

from __future__ import annotations

import pytest

from staggerdns import __version__
from staggerdns.page import shares as page_shares
from staggerdns.page.api import DEFAULT_TYPE, MAX_SEARCHES, PAGE_SIZE
from staggerdns.page.names import MAX_NAMES, MAX_QUERY
from staggerdns.server.status import BURST
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.question import make_question
from tests.kit.acts import A, name, says
from tests.kit.routed import PUBLIC
from tests.kit.website import Browser, Website

HOSTILE = b"\x19<script>alert(1)</script>\x05\x1b[31m\x07example\0"
HOSTILE_TEXT = "<script>alert\\(1\\)</script>.\\027[31m.example."


@pytest.fixture
def site() -> Website:
    """A program with its page where it is by default."""
    return Website()


def keep(site: Website, wire: bytes) -> None:
    """Put an answer into the cache."""
    key = make_question(wire, A).key
    pool = AddressPool((), (bytes(4),), 300, ad=False)
    site.chain.cache.commit(key, 1, pool, site.clock.seconds())


def names(site: Website, query: str = "") -> list[str]:
    """Return the names of one page."""
    return [one["name"] for one in site.get(f"/api/names{query}").json["names"]]


def test_overview(site: Website) -> None:
    """How the program is, without paths or texts of files."""
    site.service.site.start()
    site.answer("www.example")
    site.answer("www.example")
    site.wait(4_000)
    overview = site.get("/api/overview").json
    assert overview["version"] == __version__
    assert (overview["phase"], overview["ready"], overview["answering"]) == ("serving", True, True)
    assert overview["traffic"]["answered"] == 2
    assert overview["traffic"]["cache_share"] == 0.5
    assert overview["traffic"]["sources"] == {
        "cache": 1,
        "stale": 0,
        "upstream": 1,
        "shared": 0,
    }
    assert overview["latency"]["upstream"] == {"p50_ms": 3.0, "p95_ms": 4.8}
    assert overview["cache"]["entries"] == 1
    assert overview["shows"] == {"names": True, "clients": True}
    assert overview["reload"] is None
    assert "configuration" not in overview
    site.service.site.stop()


def test_upstreams(site: Website) -> None:
    """As the control socket has them."""
    site.answer("www.example")
    (upstream,) = site.get("/api/upstreams").json["upstreams"]
    assert (upstream["name"], upstream["state"], upstream["answered"]) == (
        f"{PUBLIC}:53",
        "healthy",
        1,
    )


def test_names(site: Website) -> None:
    """In alphabetical order, a page at a time, by any part of them."""
    for number in range(12):
        site.answer(f"n{number:02}.example")
    site.answer("n01.example", "AAAA")
    site.answer("other.test.example")
    first = site.get("/api/names?q=example&limit=5").json
    assert [one["name"] for one in first["names"]] == [f"n{n:02}.example." for n in range(5)]
    assert first["names"][1]["types"] == ["A", "AAAA"]
    assert (first["next"], first["complete"]) == ("n04.example.", True)
    assert names(site, "?limit=5&after=n09.example.") == [
        "n10.example.", "n11.example.", "other.test.example.",
    ]  # fmt: skip
    assert site.get("/api/names?limit=3&after=n09.example.").json["next"] is None
    assert names(site, "?q=R.tEst") == names(site, "?q=%20r.test.%20") == ["other.test.example."]
    assert names(site, "?q=nowhere") == []


@pytest.mark.parametrize(
    ("query", "status"),
    [("?limit=1", 200), (f"?limit={MAX_NAMES}", 200), ("?limit=0", 400),
     (f"?limit={MAX_NAMES + 1}", 400), ("?limit=-1", 400), ("?limit=x", 400), ("?limit=1.0", 400),
     ("?limit=%D9%A3", 400), ("?limit=", 400),
     (f"?q={'a' * MAX_QUERY}", 200), (f"?q={'a' * (MAX_QUERY + 1)}", 400), ("?q=%FF%00%0A", 200)],
)  # fmt: skip
def test_limits_of_a_search(site: Website, query: str, status: int) -> None:
    """How many, and what is looked for."""
    assert site.get(f"/api/names{query}").status == status


def test_a_page_of_names(site: Website) -> None:
    """As many as there are by default, and no more."""
    for number in range(PAGE_SIZE + 1):
        keep(site, name(f"n{number:03}.example"))
    found = site.get("/api/names").json
    assert len(found["names"]) == PAGE_SIZE
    assert found["next"] == f"n{PAGE_SIZE - 1:03}.example."


def test_searches_at_once(site: Website) -> None:
    """One past `MAX_SEARCHES` is refused; those who go make room."""
    for number in range(3_000):
        keep(site, name(f"n{number}.example"))
    browsers = [Browser(site, client=f"127.0.0.{number + 1}") for number in range(MAX_SEARCHES)]
    for browser in browsers:
        browser.send("/api/names")
        assert not browser.transport.value(), "it takes more than one turn"
    assert site.get("/api/names").json["error"]["code"] == "busy"
    browsers[0].leave()
    assert site.get("/api/names").status == 200
    for browser in browsers[1:]:
        browser.leave()


@pytest.mark.parametrize("part", ["<script>", "SCRIPT", "\\027", "alert\\(1"])
def test_hostile_names(site: Website, part: str) -> None:
    """They are found, and are text that is escaped as names are, in JSON that no browser runs."""
    keep(site, HOSTILE)
    browser = Browser(site)
    quoted = "".join(f"%{octet:02X}" for octet in part.encode())
    response = browser.get(f"/api/names?q={quoted}")
    assert [one["name"] for one in response.json["names"]] == [HOSTILE_TEXT]
    assert b"\x1b" not in response.body
    assert response.fields["x-content-type-options"] == "nosniff"


def test_the_longest_text(site: Website) -> None:
    """A name that is written with as many characters as there can be is found by all of them."""
    sizes = (63, 63, 63, 61)
    text = ".".join(size * "\\001" for size in sizes) + "."
    keep(site, b"".join(bytes([size]) + size * b"\1" for size in sizes) + b"\0")
    quoted = text.replace("\\", "%5C")
    assert names(site, f"?q={quoted}") == [text]
    assert site.get(f"/api/why?name={quoted}").json["question"]["name"] == text


def shown(browser: Browser) -> dict[str, bool]:
    """Return what a connection is shown."""
    browser.site.clock.advance(BURST)
    overview: dict[str, dict[str, bool]] = browser.get("/api/overview").json
    return overview["shows"]


def test_what_is_shown_by_default() -> None:
    """All on loopback, and nothing elsewhere, neither names nor clients; both have to be there, the
    listener and where a connection came in.
    """
    everything, nothing = {"names": True, "clients": True}, {"names": False, "clients": False}
    site = Website()
    inside, outside = Browser(site), Browser(site, "192.0.2.1", host="localhost")
    inside_6 = Browser(site, "::1", host="localhost")
    assert (shown(inside), shown(inside_6), shown(outside)) == (everything, everything, nothing)
    for listen in ("0.0.0.0:9153", "192.0.2.1:9153", "[::]:9153"):
        site.use(listen=listen)
        assert (shown(inside), shown(outside)) == (nothing, nothing), listen
    refused = inside.get("/api/names")
    assert refused.status == 403
    assert "page.names" in refused.json["error"]["message"]
    site.use("{names: true}", "0.0.0.0:9153")
    assert shown(outside) == {"names": True, "clients": False}
    assert outside.get("/api/names").status == 200
    site.use("{clients: true}", "0.0.0.0:9153")
    assert shown(outside) == {"names": False, "clients": True}
    site.use("{names: false, clients: false}")
    assert shown(inside) == nothing


def test_why(site: Website) -> None:
    """As the control socket has it: how the answer was found, and how it stands."""
    site.answer("www.example")
    found = site.get("/api/why?name=WWW.example&type=a").json
    assert found["question"]["name"] == "www.example."
    assert [one["upstream"] for one in found["trace"]["asked"]] == [f"{PUBLIC}:53"]
    (address,) = found["answer"]["addresses"]
    assert address["from"] == [f"{PUBLIC}:53"]
    assert site.get("/api/why?name=www.example").json["question"]["type"] == DEFAULT_TYPE
    unknown = site.get("/api/why?name=other.example").json
    assert unknown["trace"] is unknown["answer"] is None
    assert site.asked() == [PUBLIC], "nothing is asked for the page"


@pytest.mark.parametrize("query", ["", "?name=", "?name=a..b", "?name=a&type=x", "?name=%ff"])
def test_why_what(site: Website, query: str) -> None:
    """It needs a name, and a type if there is one; strangers' letters come back as text alone."""
    response = site.get(f"/api/why{query}")
    assert (response.status, response.json["error"]["code"]) == (400, "bad_request")


def test_why_is_about_names() -> None:
    """Where names are not shown it is not told."""
    assert Website("{names: false}").get("/api/why?name=www.example").status == 403


def test_why_asks_for_nothing(site: Website) -> None:
    """No argument has it ask: that would change something."""
    for more in ("&ask=true", "&ask=1", "&ask"):
        assert site.get(f"/api/why?name=www.example{more}").json["answer"] is None
    site.wait(100)
    assert site.asked() == []


def test_shares(site: Website) -> None:
    """Whose the first answers are, and which addresses nobody else brings."""
    site.use(servers="192.0.2.1, 192.0.2.2, 192.0.2.3")
    site.script("192.0.2.1", says(5, "203.0.113.1", "203.0.113.2"))
    site.script("192.0.2.2", says(9, "203.0.113.2"))
    # The private one is given to nobody, since others came before.
    site.script("192.0.2.3", says(9, "203.0.113.3", "203.0.113.4", "10.0.0.1"))
    assert set(shares(site).values()) == {(None, None)}
    for number in range(4):
        site.ask(f"n{number}.example")
    site.wait(1_000)
    assert shares(site) == {"192.0.2.1": (1, 4), "192.0.2.2": (0, 0), "192.0.2.3": (0, 8)}
    assert site.get("/api/upstreams").json["collections"] == 4


def shares(site: Website) -> dict[str, tuple[float | None, int | None]]:
    """Return the share of first answers and the addresses of its own of each upstream."""
    return {
        one["name"].removesuffix(":53"): (one["first_share"], one["only_here"])
        for one in site.get("/api/upstreams").json["upstreams"]
    }


def test_shares_of_the_latest(site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more are looked at than `MAX_TRACES`, and those that go on are not counted."""
    for number in range(3):
        site.answer(f"n{number}.example")
    site.wait(4_000)
    site.ask("under-way.example")
    assert site.get("/api/upstreams").json["collections"] == 3
    site.wait(4_000)
    assert site.get("/api/upstreams").json["collections"] == 4
    for most, counted in ((4, 4), (3, 3)):
        monkeypatch.setattr(page_shares, "MAX_TRACES", most)
        assert site.get("/api/upstreams").json["collections"] == counted
