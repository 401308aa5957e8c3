"""The page over HTTP: who is answered, and what each response says of itself."""

from __future__ import annotations

import re
from math import ceil
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred

from staggerdns.control.operations import Operations
from staggerdns.page.site import API_COST, FILE_COST, LIVE, SEARCH_COST
from staggerdns.server.status import BURST, METRICS_COST
from tests.kit.website import Browser, Response, Website

if TYPE_CHECKING:
    from tests.conftest import CriticalEvents

API = ("/api/overview", "/api/upstreams", "/api/names", "/api/why?name=www.example")
WATCHED = {
    "content-security-policy": None,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@pytest.fixture
def site() -> Website:
    """A program with its page where it is by default."""
    return Website()


def test_what_a_browser_loads(site: Website) -> None:
    """One page, with what it names: style, script and all that the script imports, from here."""
    page = site.get("/")
    assert page.status == 200
    assert page.fields["content-type"] == "text/html; charset=utf-8"
    waiting = [path.decode() for path in re.findall(rb'(?:src|href)="(/[^"]+)"', page.body)]
    seen: dict[str, str] = {}
    while waiting:
        path = waiting.pop()
        if path not in seen:
            loaded = site.get(path)
            assert loaded.status == 200, path
            seen[path] = loaded.fields["content-type"]
            imported = re.findall(rb'from "\./([a-z]+\.js)"', loaded.body)
            waiting += [f"/static/{name.decode()}" for name in imported]
    assert len(seen) <= 9, "a page load makes few requests"
    assert seen["/static/page.css"] == "text/css; charset=utf-8"
    assert seen["/static/app.js"] == "text/javascript; charset=utf-8"
    assert seen["/static/icon.svg"] == "image/svg+xml"


@pytest.mark.parametrize(
    "path", ["/", "/static/app.js", "/api/overview", LIVE.decode(), "/nothing"]
)
def test_fields_of_every_response(site: Website, path: str) -> None:
    """Nothing from elsewhere, nothing inline, no frames, no guesses at types."""
    fields = site.get(path).fields
    for name, value in WATCHED.items():
        assert value is None or fields[name] == value
    policy = dict(part.split(" ", 1) for part in fields["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in fields["content-security-policy"]
    assert "access-control-allow-origin" not in fields
    assert not path.startswith("/api/") or fields["cache-control"] == "no-store"


def test_no_markup_of_strings() -> None:
    """No file of the page has what the policy forbids, nor a place elsewhere."""
    site = Website()
    for name in ("app", "base", "live", "names", "overview", "waterfall"):
        script = site.get(f"/static/{name}.js").body.decode()
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            "document.write",
            "cssText",
        ):
            assert word not in script, name
        assert set(re.findall(r"https?://[^\"' ]+", script)) <= {"http://www.w3.org/2000/svg"}
    page = site.get("/").body.decode()
    assert not re.search(r"style=|<style|\son\w+=|<script[^>]*>[^<]", page)


@pytest.mark.parametrize("path", ["/", "/api/overview", "/static/page.css", "/nothing"])
@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:9153", 200), ("127.0.0.1:9153", 200), ("LocalHost", 200),
     ("evil.example", 403), ("evil.example:9153", 403), ("127.0.0.2:9153", 403), (None, 403)],
)  # fmt: skip
def test_the_name_it_was_found_by(site: Website, path: str, host: str | None, status: int) -> None:
    """A stranger's name that leads here reads nothing; there is no telling what there would be."""
    response = site.get(path, host=host)
    assert response.status == (404 if path == "/nothing" and status == 200 else status)
    if status == 403:
        assert "page.hosts" in response.json["error"]["message"]


def test_names_by_configuration() -> None:
    """``page.hosts`` has the names that count; the address of the connection does by itself."""
    site = Website("{hosts: [dns.lan.example, 192.0.2.200]}")
    for host, status in (
        ("dns.lan.example", 200), ("192.0.2.200:80", 200), ("127.0.0.1", 200), ("localhost", 403),
    ):  # fmt: skip
        assert site.get("/", host=host).status == status, host
    assert Browser(site, "::1", host="[::1]:9153").get("/").status == 200
    site.use("{hosts: []}")
    assert site.get("/", host="dns.lan.example").status == 403
    assert site.get("/", host="127.0.0.1").status == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_the_other_pages_answer_by_any_name(site: Website, path: str) -> None:
    """Prometheus and supervisors come by whatever name they like."""
    assert site.get(path, host="evil.example").status == site.get(path).status != 403
    assert "content-security-policy" not in site.get(path).fields


@pytest.mark.parametrize("path", ["/", "/static/app.js", *API, LIVE.decode()])
def test_methods(site: Website, path: str) -> None:
    """Nothing but to be shown something; HEAD has no body."""
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        refused = site.get(path, method)
        assert (refused.status, refused.fields["allow"]) == (405, "GET, HEAD")
    assert site.get(path, body="x").status == 413
    head = site.get(path, "HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/static/", "/static/../site.py", "/static/%2e%2e/site.py", "//", "/api", "/static/app.js/",
     "http://localhost/", "*", "/index.html"],
)  # fmt: skip
def test_nothing_else(site: Website, path: str) -> None:
    """Only what is known by its whole path is served; where the page is, is said."""
    response = site.get(path)
    assert response.status == 404
    assert response.body == b"expected /, /metrics, /healthz or /readyz\n"


@pytest.mark.parametrize("path", [*API, LIVE.decode()])
def test_who_asks(site: Website, path: str) -> None:
    """What another site's script asks for is refused, though it may not read it anyway."""
    for sent_by, status in (
        ("same-origin", 200), ("none", 200), ("cross-site", 403), ("same-site", 403),
    ):  # fmt: skip
        assert site.get(path, sec_fetch_site=sent_by).status == status
    assert site.get("/", sec_fetch_site="cross-site").status == 200, "a link leads here"


def test_unknown_api(site: Website) -> None:
    """It says what there is."""
    response = site.get("/api/everything")
    assert response.status == 404
    assert response.json["error"]["code"] == "unknown_command"
    assert "/api/live, /api/names" in response.json["error"]["message"]


@pytest.mark.parametrize("page", ["{enabled: false}"])
def test_off(page: str) -> None:
    """Then it is as if there were none, and the others are there."""
    site = Website(page)
    for path in ("/", "/static/app.js", "/api/overview"):
        response = site.get(path, host="evil.example")
        assert response.status == 404
        assert response.body == b"expected /metrics, /healthz or /readyz\n"
    assert site.get("/", "POST").status == 405
    assert site.get("/metrics").status == 200
    site.use()
    assert site.get("/").status == 200
    site.use(page)
    assert site.get("/").status == 404


def test_its_pace(site: Website) -> None:
    """Beyond it a request is refused at once, and says when to come again; nobody waits."""
    browser = Browser(site)
    burst = round(BURST / API_COST)
    statuses = [browser.get("/api/overview").status for _ in range(burst + 1)]
    assert statuses == [200] * burst + [503]
    refused = browser.get("/api/overview")
    assert refused.json["error"]["code"] == "busy"
    assert refused.fields["retry-after"] == "1"
    assert browser.get("/").status == 503, "files are of the same time"
    site.clock.advance(FILE_COST)
    assert browser.get("/").status == 200
    assert not browser.connection.pending
    searched = ceil(BURST / SEARCH_COST)
    site.clock.advance(2 * BURST)
    statuses = [browser.get("/api/names").status for _ in range(searched + 1)]
    assert statuses == [200] * searched + [503]


def test_neither_takes_from_the_other(site: Website) -> None:
    """A page that is asked for too often keeps no scrape waiting, nor do scrapes the page."""
    while Browser(site).get("/api/names").status == 200:
        pass
    assert site.get("/metrics").status == 200
    site.clock.advance(BURST)
    for _ in range(round(BURST / METRICS_COST)):
        assert site.get("/metrics").status == 200
    scraper = Browser(site)
    scraper.send("/metrics")
    assert not scraper.transport.value()
    assert site.get("/").status == 200
    scraper.leave()


def test_what_is_asked_for_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes meanwhile has nothing done for him any more; a defect ends in a response."""
    cancelled: list[Deferred[object]] = []
    waiting: list[Deferred[object]] = []

    def perform(*arguments: object) -> Deferred[object]:
        waiting.append(Deferred(cancelled.append))
        return waiting[-1]

    monkeypatch.setattr(Operations, "perform", perform)
    site = Website()
    browser = Browser(site)
    browser.send("/api/upstreams")
    browser.leave()
    assert cancelled == waiting
    browser = Browser(site)
    browser.send("/api/upstreams")
    hostile = '<script>\x1b[31m\u2028"</script>'
    waiting[-1].callback({"upstreams": [{"name": hostile, "because": hostile}]})
    response = Response(browser.transport.value())
    assert response.json["upstreams"][0]["because"] == hostile
    assert b"\x1b" not in response.body


def test_a_defect(monkeypatch: pytest.MonkeyPatch, critical_events: CriticalEvents) -> None:
    """It is logged, and the client is told that there was one, and no more."""

    def perform(*arguments: object) -> Deferred[object]:
        raise ZeroDivisionError

    monkeypatch.setattr(Operations, "perform", perform)
    response = Website().get("/api/upstreams")
    assert response.status == 500
    assert response.json["error"]["message"] == "that went wrong: the log has more"
    logged = [event for event in critical_events.flush() if "log_failure" in event]
    assert [event["log_failure"].type for event in logged] == [ZeroDivisionError]
