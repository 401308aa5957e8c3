"""Routes with real servers: nsd inside, unbound outside, whose query log tells what it has seen."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Self

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import UdpClient, dig, eventually, question
from tests.kit.daemons import nsd, signal_all, unbound
from tests.kit.ports import Endpoint, free_endpoint, free_endpoints
from tests.kit.program import Program, run_to_end
from tests.kit.scripted import Close, ScriptedUpstream, Send

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.kit.scripted import Action, Behaviour, Query

SOA = "@ 5 SOA ns admin 1 3600 600 86400 5\n@ 5 NS ns\nns 5 A 127.0.0.1\n"
CORP = SOA + "www 1 A 10.1.0.1\nwww 1 A 10.1.0.2\nlong 300 A 10.1.0.3\nmail 300 MX 10 www\n"
CORP += "alias 300 CNAME host.lab.example.\n*.long 300 A 10.1.0.3\n*.short 1 A 10.1.0.1\n"
LAB = SOA + "host 300 A 10.2.0.1\n"
RESOLVER_INSIDE = ('local-zone: "10.in-addr.arpa." nodefault',)
REVERSE = SOA + "1.0.1 300 PTR www.corp.example.\n"
WORLD = SOA + "www 1 A 203.0.113.1\n*.many 300 A 203.0.113.2\n"
pytestmark = pytest.mark.usefixtures("own_network")
FORBIDDEN = re.compile(r"(corp|lab|target)\.example|10\.in-addr", re.IGNORECASE)


class Site:
    """A server and a resolver inside, a resolver outside with a query log, and the program."""

    def __init__(self, directory: Path, *, fallback: bool = False) -> None:
        self.directory = directory
        self.corp, self.lab = free_endpoints(2)
        self.outside = free_endpoint()
        self._stack = contextlib.ExitStack()
        self._fallback = fallback
        self.log = directory / "outside" / "unbound.log"

    def __enter__(self) -> Self:
        with self._stack as stack:
            directory, world = self.directory, free_endpoint()
            behind = free_endpoint()
            zones = {"corp.example": CORP, "10.in-addr.arpa": REVERSE}
            self.inside = [
                stack.enter_context(nsd(directory / "corp", zones, [self.corp])),
                stack.enter_context(
                    nsd(directory / "behind", zones | {"lab.example": LAB}, [behind])
                ),
                stack.enter_context(
                    unbound(directory / "lab", self.lab, [behind], *RESOLVER_INSIDE)
                ),
            ]
            stack.enter_context(nsd(directory / "world", {"example": WORLD}, [world]))
            stack.enter_context(
                unbound(directory / "outside", self.outside, [world], "log-queries: yes")
            )
            route = {
                "domains": ["corp.example", "10.in-addr.arpa"],
                "servers": [str(self.corp), str(self.lab)],
                "fallback": self._fallback,
            }
            self.program = stack.enter_context(
                Program(
                    directory / "program",
                    [self.outside],
                    {
                        "routes": [route],
                        "upstream": {
                            "timeout": "500ms",
                            "parallel": {"total_collect_timeout": "1s"},
                        },
                    },
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def short(self, *arguments: str) -> list[str]:
        """What dig shows of an answer, line by line."""
        return sorted(dig(self.program.endpoint, "+short", *arguments).splitlines())

    def seen(self) -> list[str]:
        """The queries that the server outside has logged."""
        lines = self.log.read_text().lower().splitlines()  # the case of letters is random
        return [line for line in lines if " in" in line]


def test_split_dns(tmp_path: Path) -> None:
    """Names and reverse names inside come from inside, an alias with what it leads to there."""
    with Site(tmp_path) as site:
        for _ in range(2):
            assert site.short("www.corp.example.") == ["10.1.0.1", "10.1.0.2"]
            assert site.short("mail.corp.example.", "MX") == ["10 www.corp.example."]
            assert site.short("-x", "10.1.0.1") == ["www.corp.example."]
            assert site.short("alias.corp.example.") == ["10.2.0.1", "host.lab.example."]
            assert site.short("www.example.") == ["203.0.113.1"]
            assert "NXDOMAIN" in dig(site.program.endpoint, "no.corp.example.")
        dig(site.program.endpoint, "corp.example.", "DS")
        seen = site.seen()
    assert any("www.example" in line for line in seen)
    assert [line for line in seen if FORBIDDEN.search(line)] == []


def hidden_behind(target: str) -> Behaviour:
    """Answer with a CNAME alone, and with SERVFAIL for what it leads to."""
    return b.by_name({target: b.rcode("SERVFAIL")}, b.records((None, 300, "CNAME", target)))


def truncated_without_tcp(query: Query) -> Sequence[Action]:
    """Answer with TC over UDP, and close what comes over TCP."""
    return b.by_transport(lambda one: [Send(b.truncated(one))], lambda _: [Close()])(query)


FAILURES: dict[str, Behaviour | None] = {
    "closed": None,
    "silent": b.silent,
    "servfail": b.rcode("SERVFAIL"),
    "refused": b.rcode("REFUSED"),
    "garbage": b.garbage(),
    "wrong-id": b.wrong_id(b.answers("10.9.9.9")),
    "no-tcp": truncated_without_tcp,
    "alias-inside": hidden_behind("target.corp.example."),
    "alias-outside": hidden_behind("target.example."),
    "nxdomain": b.nxdomain(),
}
"""What becomes of the servers inside; `None`: nobody is there, and the system refuses."""
STOPPED = "stopped"
"""The servers inside are there and do nothing."""
KINDS = (STOPPED, *FAILURES)
KNOWN = [f"{kind}.{zone}.corp.example." for zone in ("long", "short") for kind in KINDS]
"""Names that have been asked for before: those of one zone are cached then, of the other stale."""


def ask_together(server: Endpoint, asked: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Ask all of these names and types at once; the addresses of each, or its code."""
    with UdpClient(server) as client:
        queries = [question(name, rdtype) for name, rdtype in asked]
        for query in queries:
            client.send(query)
        replies = [client.receive(10) for _ in queries]
    found = {reply.message.id: sorted(reply.addresses) or [reply.rcode] for reply in replies}
    return [found[query.id] for query in queries]


class Witness:
    """Asks by and by what a server outside must not see, while those inside fail."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._number = 0
        self.failures = 0
        found = ask_together(site.program.endpoint, [(name, "A") for name in KNOWN])
        self.known = dict(zip(KNOWN, found, strict=True))

    def ask(self, kind: str) -> None:
        """Ask for names that are new, cached and stale, and for one that belongs outside."""
        self._number += 1
        unique = f"{kind}-{self._number}"
        new = [
            (f"{unique}.corp.example.", "A"),
            (f"{unique}.corp.example.", "AAAA"),
            (f"a.b.{unique}.corp.example.", "TXT"),
            (f"{self._number}.{len(kind)}.9.10.in-addr.arpa.", "PTR"),
        ]
        old = [name for name in KNOWN if name.startswith(f"{kind}.")]
        public = f"{unique}.many.example."
        asked = [*new, *((name, "A") for name in old), (public, "A")]
        found = ask_together(self._site.program.endpoint, asked)
        wanted = "NXDOMAIN" if kind == "nxdomain" else "SERVFAIL"
        assert found[: len(new)] == [[wanted]] * len(new), kind
        assert found[len(new) : -1] == [self.known[name] for name in old], kind
        assert found[-1] == ["203.0.113.2"], kind
        self.failures += wanted == "SERVFAIL" and len(new)


def test_an_internal_name_is_never_seen_outside(tmp_path: Path) -> None:
    """However the servers inside fail: not when it is new, nor cached, nor stale while it is
    refreshed. The query log of the server outside is the oracle.
    """
    with Site(tmp_path) as site:
        witness = Witness(site)
        assert set(map(len, witness.known.values())) == {1}
        time.sleep(1.2)  # those of the zone ``short`` are stale from here on
        for server in site.inside:
            signal_all(server.pid, signal.SIGSTOP)
        witness.ask(STOPPED)
        for server in site.inside:
            signal_all(server.pid, signal.SIGCONT)
            server.terminate()
            server.wait(10)
        for kind, behaviour in FAILURES.items():
            with contextlib.ExitStack() as stack:
                for endpoint in (site.corp, site.lab):
                    if behaviour is not None:
                        stack.enter_context(ScriptedUpstream(behaviour, endpoint))
                witness.ask(kind)
                time.sleep(0.1)  # for what is refreshed behind a stale answer
        # Once more, with all that has been learned of the servers by now.
        for kind in ("closed", "closed"):
            witness.ask(kind)
        assert site.program.health() == 200
        samples = site.program.metrics()
        seen = site.seen()
    name = "staggerdns_route_collections_total"
    assert samples.value(name, route="corp.example", outcome="failed") >= witness.failures
    assert samples.value("staggerdns_refreshes_total") >= len(KINDS)
    for kind in KINDS:
        assert any(f"{kind}-" in line and "many.example" in line for line in seen), kind
    assert [line for line in seen if FORBIDDEN.search(line)] == []


def test_fallback(tmp_path: Path) -> None:
    """Where it is wanted, the server outside is asked, once the servers inside have failed."""
    with Site(tmp_path, fallback=True) as site:
        assert site.short("long.corp.example.") == ["10.1.0.3"]
        assert [line for line in site.seen() if FORBIDDEN.search(line)] == []
        for server in site.inside:
            server.terminate()
            server.wait(10)
        assert "NXDOMAIN" in dig(site.program.endpoint, "other.corp.example.")
        seen = eventually(
            site.seen, lambda lines: any("other.corp.example" in one for one in lines)
        )
    assert not any("long.corp.example" in line for line in seen)


@pytest.mark.parametrize("text", ["corp..example\n", "\0binary", "<html>\n"])
def test_a_bad_file_of_domains(tmp_path: Path, text: str) -> None:
    """The program does not start, and says in one line what is wrong with which file."""
    path = tmp_path / "domains"
    path.write_text(text)
    configuration = tmp_path / "staggerdns.yaml"
    configuration.write_text(
        "upstream: {servers: [127.0.0.1]}\n"
        f"routes: [{{domain_files: ['{path}'], servers: [127.0.0.1]}}]\n"
    )
    done = run_to_end(configuration, tmp_path)
    assert done.returncode == os.EX_CONFIG
    assert f"routes[0].domain_files[0]: {path} " in done.stdout + done.stderr
