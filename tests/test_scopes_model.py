"""No answer of one scope is ever seen in another: a program with routes against a model.

The model knows which upstreams a name has at each moment, and nothing else. Files of domains move
names between scopes while queries wait, entries grow stale, refreshes, sorts and pools are under
way. Every upstream answers with addresses of its own, so that each address in a reply tells who
said it.
"""

from __future__ import annotations

import tempfile
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from staggerdns.policy.routes import CHECK_EVERY
from tests.kit.acts import (
    CNAME,
    NOERROR,
    REFUSED,
    SILENT,
    A,
    Act,
    fails,
    name,
    negative,
    record,
    reply,
    says,
    unreachable,
)
from tests.kit.probing import established
from tests.kit.routed import Asked, RoutedProgram

PUBLIC = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
SITES = {"red": ("10.0.1.1", "10.0.1.2"), "blue": ("10.0.2.1",), "both": ("10.0.1.1", "10.0.2.1")}
"""Upstreams by route; that of ``both`` shares each of its own with another."""
FALLBACK = "blue"
"""The route whose names are asked of the default upstreams when its own have failed."""
HOSTS = sorted({*PUBLIC, *(host for hosts in SITES.values() for host in hosts)})
NAMES = ("www.a.example", "www.b.example", "ftp.a.example", "c.example")
DOMAINS = ("a.example", "b.example", "c.example")
TARGET = "target.example"


def network(host: str) -> str:
    """The addresses that the upstream at ``host`` answers with."""
    return f"203.{HOSTS.index(host)}.0.0/16"


def gives(host: str, after: float, ttl: int, count: int, first: int) -> Act:
    """Answer with some of its own addresses."""
    base = network(host).removesuffix("0.0/16")
    return says(after, *[f"{base}{first}.{number + 1}" for number in range(count)], ttl=ttl)


def aliases(host: str, after: float) -> Act:
    """Answer with an alias alone, but for its target, which has an address."""

    def answer(question: Any) -> bytes:
        if question.name == name(TARGET):
            data = ip_address(network(host).replace("0.0/16", "7.7")).packed
            return reply(question, [record(b"\xc0\x0c", A, 30, data)])
        return reply(question, [record(b"\xc0\x0c", CNAME, 30, name(TARGET))])

    return Act(after, answer)


AFTER = st.sampled_from([1, 5, 20, 45, 90, 400])


@st.composite
def acts(draw: st.DrawFn, host: str) -> Act:
    """What an upstream may do."""
    after = draw(AFTER)
    kind = draw(st.sampled_from(["gives"] * 6 + ["alias", "fails", "silent", "negative", "gone"]))
    if kind == "gives":
        ttl, count = draw(st.sampled_from([0, 1, 10, 300])), draw(st.integers(1, 3))
        return gives(host, after, ttl, count, draw(st.integers(0, 3)))
    others = {
        "alias": aliases(host, after),
        "fails": fails(after, REFUSED),
        "silent": SILENT,
        "negative": negative(after, draw(st.sampled_from([NOERROR, 3])), ttl=5),
        "gone": unreachable(after),
    }
    return others[kind]


class Scopes(RuleBasedStateMachine):
    """Clients ask, upstreams change, time passes, domains move."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.files = {site: Path(self.folder.name) / site for site in SITES}
        self.places: dict[str, str] = {}  # by domain: its route; the default one if it has none
        self.waiting: list[tuple[Asked, str, str]] = []
        self.allowed: set[tuple[str, str]] = set()  # which upstream may have seen which name
        self.number = 0
        self.probed = 0

    @initialize(places=st.dictionaries(st.sampled_from(DOMAINS), st.sampled_from([*SITES])))
    def start(self, places: dict[str, str]) -> None:
        """Begin with some domains in some routes."""
        self.places = places
        self._write()
        routes = ", ".join(
            f"{{domain_files: ['{self.files[site]}'], servers: [{', '.join(hosts)}]"
            + (", fallback: true}" if site == FALLBACK else ", strategy: racing}")
            for site, hosts in SITES.items()
        )
        self.program = RoutedProgram(
            routes,
            servers=", ".join(PUBLIC),
            more="ranking: {probes: ['tcp:443']}\nlocal: {hosts: null}\ncache: {max_stale: 60}\n",
        )
        for host in HOSTS:
            self.program.script(host, gives(host, 5, 10, 2, 0))

    @rule(qname=st.sampled_from(NAMES), do=st.booleans())
    def ask(self, qname: str, do: bool) -> None:
        """A client asks."""
        domain = next(domain for domain in DOMAINS if qname.endswith(domain))
        site = self.places.get(domain, "")
        hosts = set(SITES.get(site, PUBLIC)) | (set(PUBLIC) if site == FALLBACK else set())
        for host in hosts:
            self.allowed |= {(host, qname), (host, TARGET)}
        self.waiting.append((self.program.ask(qname, do=do), site, qname))

    @rule(data=st.data(), host=st.sampled_from(HOSTS))
    def change(self, data: st.DataObject, host: str) -> None:
        """An upstream does something else from now on."""
        self.program.script(host, data.draw(acts(host)))

    @rule(duration=st.sampled_from([1, 6, 30, 60, 250, 1_000, 4_000, 11_000, 70_000, 400_000]))
    def wait(self, duration: float) -> None:
        """Time passes."""
        self.program.wait(duration)

    @rule()
    def probe(self) -> None:
        """Connections that were opened to probe addresses succeed."""
        clients = self.program.clock.tcpClients
        while self.probed < len(clients):
            factory = clients[self.probed][2]
            self.probed += 1
            established(factory)
        self.program.wait(1)

    @rule(domain=st.sampled_from(DOMAINS), site=st.sampled_from(["", *SITES]))
    def move(self, domain: str, site: str) -> None:
        """A domain moves to another route; within a second that counts."""
        self.places.pop(domain, None)
        self._write()  # nowhere first, so that no two routes claim it
        self._let_it_count()
        if site:
            self.places[domain] = site
            self._write()
            self._let_it_count()

    def _let_it_count(self) -> None:
        self.program.wait(1000 * CHECK_EVERY)
        self.program.ask("unrelated.example")

    def _write(self) -> None:
        self.number += 1
        for site, path in self.files.items():
            lines = [domain for domain in DOMAINS if self.places.get(domain) == site]
            path.write_text("\n".join([f"# {self.number}" + " " * self.number, *lines, ""]))

    @invariant()
    @precondition(lambda self: bool(self.waiting))
    def answers_come_from_their_scope(self) -> None:
        """Each address in a reply was said by an upstream of the scope in which it was asked."""
        for asked, site, qname in self.waiting:
            if not asked.answered:
                continue
            hosts = set(SITES.get(site, PUBLIC)) | (set(PUBLIC) if site == FALLBACK else set())
            for text in asked.result:
                if text[0].isdigit():
                    said = {one for one in HOSTS if ip_address(text) in ip_network(network(one))}
                    assert said <= hosts, (qname, site, text)
        self.waiting = [one for one in self.waiting if not one[0].answered]

    @invariant()
    def names_are_seen_where_they_may(self) -> None:
        """No upstream was asked for a name that it never had, by whatever work behind."""
        if not hasattr(self, "program"):
            return
        for host in HOSTS:
            for qname in self.program.names(host) - {"unrelated.example", ""}:
                assert (host, qname) in self.allowed, (host, qname)

    def teardown(self) -> None:
        """Nobody waits for ever, and nothing is left."""
        if hasattr(self, "program"):
            self.program.close()
            assert all(asked.answered for asked, _, _ in self.waiting)
            assert self.program.clock.getDelayedCalls() == []
        self.folder.cleanup()


TestScopes = Scopes.TestCase
TestScopes.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
