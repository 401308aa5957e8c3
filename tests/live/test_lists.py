"""Lists in a real program: a file, and a server over TLS that is away at first."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.kit import behaviours as b
from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import dig, eventually
from tests.kit.listserver import HOST, ListServer, tagged
from tests.kit.ports import free_endpoint
from tests.kit.program import Program, run_to_end
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAB = "127.0.0.2"
"""A client that gets everything."""
REAL = "203.0.113.7"
NULL = ["0.0.0.0"]
BEHAVIOUR = b.by_name(
    {
        f"{HOST}.": b.answers("127.0.0.1"),
        "stats.example.": b.cname_chain(["cdn.example.", "www.tracker.example."], REAL),
    },
    b.answers(REAL),
)
PATIENCE = 40.0
"""Seconds: a list that could not be had is fetched again after 5, and machines are shared."""
ours = pytest_twisted.ensureDeferred


class Site:
    """A program with lists, and what it needs of the world; steps run in a thread of their own."""

    def __init__(self, directory: Path, upstream: ScriptedUpstream) -> None:
        self.authority = CertificateAuthority(directory / "authority")
        self.file = directory / "own.txt"
        self.file.write_text("||own.example^\n@@||good.own.example^\n")
        self.state = directory / "state"
        self.port = free_endpoint().port
        self.server = ListServer(self.authority.issue(HOST))
        self.server.acts["/ads"] = tagged(b"0.0.0.0 www.tracker.example\n", '"1"')
        lists = {
            "own": {"files": [str(self.file)], "answer": "nxdomain"},
            "ads": {"urls": [f"https://{HOST}:{self.port}/ads"]},
        }
        settings = {
            "upstream": {"bootstrap": [str(upstream.endpoint)]},
            "lists": lists,
            "groups": {
                "default": {"block": ["own", "ads"]},
                "lab": {"clients": [LAB], "block": []},
            },
            "state": {"directory": str(self.state)},
        }
        self.program = Program(
            directory / "program",
            [upstream.endpoint],
            settings,
            environ={"SSL_CERT_FILE": str(self.authority.ca)},
        )

    def gets(self, name: str, wanted: list[str]) -> None:
        """Ask until the addresses of a name are these."""
        eventually(
            lambda: self.program.ask(name).addresses,
            lambda found: list(found) == wanted,
            PATIENCE,
        )

    def says(self, name: str) -> str:
        """Return what dig shows of a name."""
        return dig(self.program.endpoint, name)


async def step(call: Callable[[], Any]) -> Any:
    """Do something that waits, while the server of lists goes on."""
    return await deferToThread(call)


@ours
async def test_lists_of_a_program(tmp_path: Path) -> None:
    """The program serves at once, with the list that is here; the other one blocks when its server
    is there, what is cached included, and from the next start on without it.
    """
    with ScriptedUpstream(BEHAVIOUR) as upstream:
        site = Site(tmp_path, upstream)
        try:
            with site.program as program:
                await step(lambda: before_the_server(site))
                await site.server.start(site.port)
                await step(lambda: with_the_server(site))
                await site.server.stop()
                program.terminate()
                requests = len(site.server.requests)
                program.start()
                await step(lambda: without_the_server(site))
            assert requests == len(site.server.requests) == 1
        finally:
            await site.server.stop()


def before_the_server(site: Site) -> None:
    """What is here counts; nothing waits for the server."""
    program = site.program
    for name in ("www.tracker.example.", "stats.example.", "good.own.example."):
        assert list(program.ask(name).addresses) == [REAL]
    site.gets("x.own.example.", [])
    shown = site.says("x.own.example.")
    assert "status: NXDOMAIN" in shown
    assert "EDE: 15 (Blocked): (own)" in shown
    failures = "staggerdns_list_refresh_failures_total"
    eventually(lambda: program.metrics().value(failures, list="ads"), bool, PATIENCE)
    assert program.metrics().value("staggerdns_list_names", list="own") == 2
    assert "cannot be had" in program.log


def with_the_server(site: Site) -> None:
    """Its list counts for what is asked and for what is cached."""
    program = site.program
    site.gets("www.tracker.example.", NULL)
    for _ in range(3):
        assert list(program.ask("stats.example.").addresses) == NULL
        for name in ("stats.example.", "www.tracker.example.", "x.own.example."):
            assert list(program.ask(name, source=LAB).addresses) == [REAL]
    assert "EDE: 15 (Blocked): (ads)" in site.says("stats.example.")
    for rdtype in ("HTTPS", "TXT", "ANY"):
        reply = program.ask("www.tracker.example.", rdtype).message
        assert (reply.rcode(), reply.answer) == (0, [])
    assert program.metrics().value("staggerdns_blocked_total", list="ads", group="default") >= 5
    assert program.metrics().value("staggerdns_list_refresh_timestamp_seconds", list="ads") > 1e9
    assert list(program.ask("good.own.example.").addresses) == [REAL]
    site.file.write_text("good.own.example\n")
    program.process.send_signal(signal.SIGHUP)
    site.gets("good.own.example.", [])
    site.gets("own.example.", [REAL])


def without_the_server(site: Site) -> None:
    """The copy counts from the start."""
    site.gets("www.tracker.example.", NULL)
    site.gets("good.own.example.", [])
    assert "lists as they were at the last stop" in site.program.log


def test_wrong_lists(tmp_path: Path) -> None:
    """The program does not start, and says in one line what is wrong where."""
    told = {
        "lists: {ads: {answer: null}}": "lists.ads.answer: expected text, got nothing",
        "lists: {ads: {answer: zero}}": "lists.ads.answer: expected null_address or nxdomain",
        "lists: {ads: {urls: ['http://a.example']}}": "lists.ads.urls[0]: expected a URL",
        "lists: {ads: {url: a}}": "lists.ads.url: unknown key: did you mean urls",
        "groups: {default: {block: [ads]}}": "groups.default.block[0]: there is no list ads",
    }
    for text, problem in told.items():
        configuration = tmp_path / "staggerdns.yaml"
        configuration.write_text(f"upstream: {{servers: [127.0.0.1]}}\n{text}\n")
        done = run_to_end(configuration, tmp_path)
        assert done.returncode == os.EX_CONFIG
        assert problem in done.stdout + done.stderr
