"""Rows of answers for browsers that watch, on a clock."""

from __future__ import annotations

from typing import Any

import pytest

from staggerdns.page.live import LIMITS, MAX_ADDRESSES, QUIET, ROWS, SEND_EVERY
from staggerdns.server.answered import Answered
from staggerdns.server.status import BURST, MAX_VIEWERS
from staggerdns.server.status import LIMITS as PAGE_LIMITS
from tests.kit.acts import says
from tests.kit.routed import CLIENT, PUBLIC
from tests.kit.website import Browser, Website, events

LIVE = "/api/live"


class WatchedSite(Website):
    """A program that browsers watch."""

    def watch(self, number: int = 0, **more: Any) -> Browser:
        """Have a browser watch; the clock gives the site time for it."""
        browser = Browser(self, client=f"127.0.0.{number + 1}", **more)
        browser.send(LIVE)
        assert b"200 OK" in browser.transport.value()
        self.clock.advance(0.5)
        browser.taken()
        return browser

    def sent(self) -> None:
        """Let a sending pass."""
        self.clock.advance(SEND_EVERY)

    def publish(self, count: int = 1) -> None:
        """Have so many answers leave."""
        for number in range(count):
            query = bytes((0, number & 255)) + bytes(10)
            told = Answered(1e9, CLIENT, "udp", None, query, query, "refused", 0.001)
            self.service.factory.answers.publish(told)

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self.service.site.viewers.open)


@pytest.fixture
def site() -> WatchedSite:
    """A program with its page where it is by default."""
    return WatchedSite()


def rows(browser: Browser) -> list[dict[str, Any]]:
    """Return the rows that have come since the last look."""
    return [row for kind, data in events(browser.taken()) if kind == "rows" for row in data]


def test_rows_appear(site: WatchedSite) -> None:
    """All that is said of an answer, soon after it has left."""
    browser = site.watch()
    site.script(PUBLIC, says(5, *(f"203.0.113.{host + 1}" for host in range(MAX_ADDRESSES + 2))))
    assert len(site.answer("WWW.example")) == MAX_ADDRESSES + 2
    site.sent()
    (row,) = rows(browser)
    assert row.pop("time") > 0
    assert 5 <= row.pop("ms") < 100
    assert row == {
        "client": CLIENT,
        "transport": "udp",
        "name": "www.example.",
        "type": "A",
        "source": "upstream",
        "rcode": "NOERROR",
        "addresses": [f"203.0.113.{host + 1}" for host in range(MAX_ADDRESSES)],
        "more": 2,
        "list": "",
    }
    site.answer("www.example")
    site.sent()
    assert [row["source"] for row in rows(browser)] == ["cache"]
    browser.leave()
    assert not site.viewers
    assert not site.service.factory.answers.active


def test_the_stream(site: WatchedSite) -> None:
    """It is a stream of events that no cache keeps, and begins at once."""
    browser = Browser(site)
    browser.send(LIVE)
    head = browser.transport.value()
    assert b"content-type: text/event-stream" in head.lower()
    assert b"cache-control: no-store" in head.lower()
    assert b"content-security-policy" in head.lower()
    assert head.endswith(b":\n\n\r\n")
    browser.leave()


def test_what_is_not_shown() -> None:
    """Neither names with their addresses nor clients, where the page does not show them."""
    site = WatchedSite(listen="0.0.0.0:9153")
    browser = site.watch(own_address="192.0.2.1", host="localhost")
    site.answer("secret.example")
    site.sent()
    data = browser.taken()
    ((_, (row,)),) = events(data)
    assert (row["name"], row["client"], row["addresses"], row["more"]) == (None, None, [], 0)
    assert (row["type"], row["rcode"]) == ("A", "NOERROR")
    assert b"secret" not in data
    browser.leave()


def test_viewers_of_different_kinds() -> None:
    """Each gets what he is shown, whoever else watches."""
    site = WatchedSite("{names: true}")
    inside = site.watch()
    outside = site.watch(1, own_address="192.0.2.1", host="localhost")
    site.answer("www.example")
    site.sent()
    assert [row["client"] for row in rows(inside)] == [CLIENT]
    assert [(row["client"], row["name"]) for row in rows(outside)] == [(None, "www.example.")]
    inside.leave()
    outside.leave()


@pytest.mark.parametrize(("count", "missed"), [(ROWS, 0), (ROWS + 1, 1), (3 * ROWS, 2 * ROWS)])
def test_more_than_can_be_sent(site: WatchedSite, count: int, missed: int) -> None:
    """The latest are sent, and how many there were besides is said."""
    browser = site.watch()
    for _ in range(2):
        site.publish(count)
        site.sent()
    told = events(browser.taken())
    assert [len(data) for kind, data in told if kind == "rows"] == [ROWS, ROWS]
    lost = [data["lost"] for kind, data in told if kind == "lost"]
    assert lost == ([missed, 2 * missed] if missed else [])
    browser.leave()


def test_who_does_not_read(site: WatchedSite) -> None:
    """He misses rows, is told how many, and keeps nobody from his own; in the end he is dropped."""
    slow, other = site.watch(), site.watch(1)
    slow.stop_taking()
    for _ in range(10):
        site.publish(ROWS)
        site.sent()
    assert slow.taken() == b""
    assert len(rows(other)) == 10 * ROWS
    slow.take()
    site.sent()
    told = dict(events(slow.taken()))
    assert len(told["rows"]) == ROWS
    assert told["lost"] == {"lost": 9 * ROWS}
    slow.stop_taking()
    site.clock.pump([1.0] * round(2 * LIMITS.tcp_idle_timeout + 1))
    assert slow.transport.aborted()
    assert not other.transport.over()
    slow.leave()
    assert site.viewers == 1
    other.leave()


def test_who_does_not_read_for_a_moment(site: WatchedSite) -> None:
    """He has the whole idle time for it, however long he has watched before."""
    browser = site.watch()
    for _ in range(round(1.9 * LIMITS.tcp_idle_timeout / SEND_EVERY)):
        site.publish()
        site.sent()
    browser.stop_taking()
    site.clock.pump([SEND_EVERY] * round(0.8 * LIMITS.tcp_idle_timeout / SEND_EVERY))
    assert not browser.transport.over()
    browser.leave()


def test_who_has_nothing_to_read(site: WatchedSite) -> None:
    """His connection lasts, since now and then there is a comment."""
    browser = site.watch()
    site.clock.pump([SEND_EVERY] * round((QUIET + 1) / SEND_EVERY))
    assert browser.taken() == b":\n\n\r\n"
    site.clock.pump([SEND_EVERY] * round(4 * LIMITS.tcp_idle_timeout / SEND_EVERY))
    assert not browser.transport.over()
    browser.leave()
    calls = [call for call in site.clock.getDelayedCalls() if "LoopingCall" in str(call)]
    assert calls == []


def test_as_many_as_there_may_be(site: WatchedSite) -> None:
    """One more is told so; those who go make room. They take no connection from the pages."""
    watching = [site.watch(number) for number in range(MAX_VIEWERS)]
    refused = Browser(site, client="127.0.0.99")
    response = refused.get(LIVE)
    assert response.status == 503
    assert str(MAX_VIEWERS) in response.json["error"]["message"]
    assert len(site.pages.client_connections.open) == 1
    for number in range(PAGE_LIMITS.tcp_max_connections):
        assert Browser(site, client=f"127.0.1.{number}").get("/readyz").status == 200
    watching.pop().leave()
    watching.append(site.watch(50))
    assert site.viewers == MAX_VIEWERS
    for browser in watching:
        browser.leave()
    assert site.viewers == 0


def test_all_of_one_client(site: WatchedSite) -> None:
    """Viewers behind one address, as by a tunnel, are not fewer; nor has it fewer pages."""
    watching = []
    for _ in range(MAX_VIEWERS):
        browser = Browser(site)
        browser.send(LIVE)
        site.clock.advance(BURST)
        watching.append(browser)
    assert site.viewers == MAX_VIEWERS
    assert site.get("/readyz").status == 200
    for browser in watching:
        browser.leave()


def test_a_reload(site: WatchedSite) -> None:
    """Where the page says something else afterwards, those who watch come again, and see what they
    are shown then; otherwise they stay.
    """
    site.service.site.start()
    browser = site.watch()
    site.use(more="log: {level: debug}")
    assert site.viewers == 1
    browser.taken()
    site.use("{names: false}")
    assert site.viewers == 0
    assert browser.transport.value().endswith(b"0\r\n\r\n"), "the stream has ended in order"
    browser.transport.clear()
    browser.send(LIVE)
    site.answer("www.example")
    site.sent()
    assert [row["name"] for row in rows(browser)] == [None]
    site.use("{enabled: false}")
    assert site.viewers == 0
    browser.leave()
    site.service.site.stop()


def test_the_end(site: WatchedSite) -> None:
    """When the program stops nobody is waited for."""
    site.service.site.start()
    browser = site.watch()
    site.service.site.stop()
    assert browser.transport.aborted()
    assert site.viewers == 0
    assert not site.service.factory.answers.active
    browser.leave()


def test_hostile_names(site: WatchedSite) -> None:
    """They are text that is escaped as names are, in JSON, on one line."""
    browser = site.watch()
    hostile = b"\0\1\x81\x80\0\1\0\0\0\0\0\0\x08<script>\x04\x1b[1m\0\0\1\0\1"
    site.service.factory.answers.publish(
        Answered(1e9, CLIENT, "udp", None, hostile, hostile, "cache", 0.001)
    )
    site.sent()
    data = browser.taken()
    assert [row["name"] for kind, found in events(data) for row in found] == ["<script>.\\027[1m."]
    assert b"\x1b" not in data
    browser.leave()
