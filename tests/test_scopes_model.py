"""No answer of one scope is ever seen in another: a program with routes against a model.

The model knows which upstreams a name has at each moment for a client, and which names are blocked,
and nothing else. Clients of two groups ask the same names: those of one have routes of their own
before the common ones, and a list. Files of domains move names between scopes, and lists are
swapped, while queries wait, entries grow stale, refreshes, sorts and pools are under way; sometimes
a file is wrong or half written, and then nothing moves. Every upstream answers with addresses of
its own, so that each address in a reply tells who said it.
"""

from __future__ import annotations

import tempfile
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from staggerdns.policy.domainfiles import CHECK_EVERY
from staggerdns.wire.constants import Ede
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
from tests.kit.effort import amount
from tests.kit.listed import ListedProgram
from tests.kit.messages import edes
from tests.kit.routed import Asked

if TYPE_CHECKING:
    from collections.abc import Iterable

PUBLIC = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
SITES = {"red": ("10.0.1.1", "10.0.1.2"), "blue": ("10.0.2.1",), "both": ("10.0.1.1", "10.0.2.1")}
"""Upstreams by route; that of ``both`` shares each of its own with another."""
OWN_SITES = {"green": ("10.0.3.1", "10.0.3.2"), "red too": ("10.0.1.1", "10.0.1.2")}
"""The same of the group's own routes; one asks as a common one does, and so shares its scope."""
CLIENTS = {"": ("10.8.0.1", "10.8.0.2"), "kids": ("10.9.0.1", "10.9.0.2")}
"""Clients by group."""
LISTENER = "127.0.0.2:5300"
"""Where all but those of another network are of the group with routes of its own."""
FALLBACK = "blue"
"""The route whose names are asked of the default upstreams when its own have failed."""
ALL_SITES = SITES | OWN_SITES
HOSTS = sorted({*PUBLIC, *(host for hosts in ALL_SITES.values() for host in hosts)})
TARGET = "target.example"
"""Where aliases lead."""
NAMES = ("www.a.example", "www.b.example", "ftp.a.example", "c.example", TARGET)
UNRELATED = "unrelated.example"
DOMAINS = ("www.a.example", "a.example", "b.example", "c.example", TARGET)
"""The longer ones first."""


def network(host: str) -> str:
    """The addresses that the upstream at ``host`` answers with."""
    return f"203.{HOSTS.index(host)}.0.0/16"


def gives(host: str, after: float, ttl: int, count: int, first: int) -> Act:
    """Answer with some of its own addresses."""
    base = network(host).removesuffix("0.0/16")
    return says(after, *[f"{base}{first}.{number + 1}" for number in range(count)], ttl=ttl)


def aliases(host: str, after: float, *, whole: bool) -> Act:
    """Answer with an alias, alone or with the address of its target; the target has an address, and
    so has the name that is asked for without looking at what comes.
    """

    def answer(question: Any) -> bytes:
        data = ip_address(network(host).replace("0.0/16", "7.7")).packed
        if question.name in (name(TARGET), name(UNRELATED)):
            return reply(question, [record(b"\xc0\x0c", A, 30, data)])
        found = [record(b"\xc0\x0c", CNAME, 30, name(TARGET))]
        return reply(question, found + [record(name(TARGET), A, 30, data)] * whole)

    return Act(after, answer)


AFTER = st.sampled_from([1, 5, 20, 45, 90, 400])


@st.composite
def acts(draw: st.DrawFn, host: str) -> Act:
    """What an upstream may do."""
    after = draw(AFTER)
    kind = draw(
        st.sampled_from(
            ["gives"] * 5 + ["alias"] + ["chain"] * 3 + ["fails", "silent", "negative", "gone"]
        )
    )
    if kind == "gives":
        ttl, count = draw(st.sampled_from([0, 1, 10, 300])), draw(st.integers(1, 3))
        return gives(host, after, ttl, count, draw(st.integers(0, 3)))
    others = {
        "alias": aliases(host, after, whole=False),
        "chain": aliases(host, after, whole=True),
        "fails": fails(after, REFUSED),
        "silent": SILENT,
        "negative": negative(after, draw(st.sampled_from([NOERROR, 3])), ttl=5),
        "gone": unreachable(after),
    }
    return others[kind]


class Waiting(NamedTuple):
    """A query, where it goes, and what was listed for its client when it came, `None` for those of
    whom nothing is blocked.
    """

    asked: Asked
    hosts: frozenset[str]
    qname: str
    listed: frozenset[str] | None


class Scopes(RuleBasedStateMachine):
    """Clients ask, upstreams change, time passes, domains move, lists are swapped, and another
    configuration counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.files = {site: Path(self.folder.name) / site for site in ALL_SITES}
        self.places: dict[str, str] = {}  # by domain: its route; the default one if it has none
        self.own_places: dict[str, str] = {}  # the same of the group's own routes
        self.wanted: tuple[dict[str, str], dict[str, str]] | None = None  # of wrong files
        self.waiting: list[Waiting] = []
        self.listed: frozenset[str] = frozenset()  # what the list of the group has
        self.allowed: set[tuple[str, str]] = set()  # which upstream may have seen which name
        self.number = 0
        self.public: tuple[str, ...] = PUBLIC
        self.sites = ALL_SITES

    @initialize(
        places=st.dictionaries(st.sampled_from(DOMAINS), st.sampled_from([*SITES])),
        own_places=st.dictionaries(st.sampled_from(DOMAINS), st.sampled_from([*OWN_SITES])),
    )
    def start(self, places: dict[str, str], own_places: dict[str, str]) -> None:
        """Begin with some domains in some routes."""
        self.places, self.own_places = places, own_places
        self._write()
        self.program = ListedProgram(**self._configuration(), ads="{answer: nodata}")
        for host in HOSTS:
            self.program.script(host, gives(host, 5, 10, 2, 0))

    def _configuration(self) -> dict[str, str]:
        return {
            "routes": self._routes(SITES),
            "servers": ", ".join(self.public),
            "more": "ranking: {probes: ['tcp:443']}\nlocal: {hosts: null}\ncache: {max_stale: 60}\n"
            f"server: {{listen: ['127.0.0.1:5300', '{LISTENER}']}}\n",
            "groups": f"{{kids: {{clients: [10.9.0.0/16], listeners: ['{LISTENER}'], block: [ads],"
            f" routes: [{self._routes(OWN_SITES)}]}}, others: {{clients: [10.8.0.2]}}}}",
        }

    def _routes(self, names: Iterable[str]) -> str:
        return ", ".join(
            f"{{domain_files: ['{self.files[site]}'], servers: [{', '.join(self.sites[site])}]"
            + (", fallback: true}" if site == FALLBACK else ", strategy: racing}")
            for site in self.sites
            if site in names
        )

    def _upstreams_of(self, site: str) -> frozenset[str]:
        """Who may be asked for the names of a route."""
        public = self.public if site in ("", FALLBACK) else ()
        return frozenset([*self.sites.get(site, ()), *public])

    def _site(self, group: str, qname: str) -> str:
        """Where a name is asked for clients of a group; the longest domain of its own counts."""
        for places in (self.own_places, self.places) if group else (self.places,):
            for domain in DOMAINS:
                if domain in places and (qname == domain or qname.endswith(f".{domain}")):
                    return places[domain]
        return ""

    @rule(
        qname=st.sampled_from(NAMES),
        group=st.sampled_from(sorted(CLIENTS)),
        which=st.integers(0, 1),
        by_listener=st.booleans(),
        do=st.booleans(),
    )
    def ask(self, qname: str, group: str, which: int, by_listener: bool, do: bool) -> None:
        """A client asks."""
        self._ask(qname, group, which, by_listener=by_listener, do=do)

    @rule(qname=st.sampled_from(NAMES), duration=st.sampled_from([1, 6, 100]))
    def ask_in_turns(self, qname: str, duration: float) -> None:
        """Clients of both groups ask the same, again and again."""
        for _ in range(3):
            for group, by_listener in (("", False), ("kids", False), ("", True)):
                self._ask(qname, group, 0, by_listener=by_listener, do=False)
            self.program.wait(duration)

    def _ask(self, qname: str, group: str, which: int, *, by_listener: bool, do: bool) -> None:
        """The first client of no group is of one where it comes in by that one's listener."""
        group_of_client = "kids" if not group and not which and by_listener else group
        site = self._site(group_of_client, qname)
        listed = self.listed if group_of_client else None
        hosts = self._upstreams_of(site)
        for host in hosts:
            self.allowed |= {(host, qname), (host, TARGET)}
        asked = self.program.ask(
            qname,
            client=CLIENTS[group][which],
            listener=LISTENER if by_listener else "",
            transport="tcp" if do else "udp",
            do=do,
            payload=1232,
        )
        self.waiting.append(Waiting(asked, hosts, qname, listed))

    @rule(data=st.data(), host=st.sampled_from(HOSTS))
    def change(self, data: st.DataObject, host: str) -> None:
        """An upstream does something else from now on."""
        self.program.script(host, data.draw(acts(host)))

    @rule(names=st.sampled_from([{}, {TARGET}, {"www.a.example"}, {"c.example", TARGET}]))
    def swap(self, names: set[str]) -> None:
        """Another list comes."""
        self.listed = frozenset(names)
        self.program.lists.put(ads=names)

    @rule(duration=st.sampled_from([1, 6, 30, 60, 250, 1_000, 4_000, 11_000, 70_000, 400_000]))
    def wait(self, duration: float) -> None:
        """Time passes."""
        self.program.wait(duration)

    @rule()
    def probe(self) -> None:
        """Connections that were opened to probe addresses succeed."""
        self.program.establish()

    @precondition(lambda self: self.wanted is None)
    @rule(
        domain=st.sampled_from(DOMAINS),
        site=st.sampled_from(["", *ALL_SITES]),
        own=st.booleans(),
    )
    def move(self, domain: str, site: str, own: bool) -> None:
        """A domain moves to another route, or out of all; within a second that counts."""
        places = self.own_places if site in OWN_SITES or (own and not site) else self.places
        places.pop(domain, None)
        self._write()  # nowhere first, so that no two routes claim it
        self._let_it_count()
        if site:
            places[domain] = site
            self._write()
            self._let_it_count()

    @precondition(lambda self: self.wanted is None)
    @rule(
        domain=st.sampled_from(DOMAINS),
        site=st.sampled_from(["", *ALL_SITES]),
        own=st.booleans(),
        spoiled=st.sampled_from([*ALL_SITES]),
        text=st.sampled_from(["no domain\n", ""]),
        demanded=st.booleans(),
    )
    def move_with_a_wrong_file(
        self, domain: str, site: str, own: bool, spoiled: str, text: str, demanded: bool
    ) -> None:
        """A domain moves, and a file, maybe the one where it goes, is wrong or empty: nothing
        changes until `mend`.
        """
        before = {**self.places}, {**self.own_places}
        self._place(domain, site, own)
        had_domains = spoiled in (*before[0].values(), *before[1].values())
        self._write()
        # Without domains before, an empty file is a good one.
        with self.files[spoiled].open("a" if text or not had_domains else "w") as writer:
            writer.write(text if had_domains else "no domain\n")
        self.wanted = self.places, self.own_places
        self.places, self.own_places = before
        if demanded:
            self.program.service.reread()
        self._let_it_count()
        self._ask_all()

    @precondition(lambda self: self.wanted is not None)
    @rule()
    def mend(self) -> None:
        """All files are good again, and count."""
        assert self.wanted is not None
        self.places, self.own_places = self.wanted
        self.wanted = None
        self._write()
        self._let_it_count()

    @precondition(lambda self: self.wanted is None)
    @rule(
        domain=st.sampled_from(DOMAINS),
        site=st.sampled_from(["", *ALL_SITES]),
        own=st.booleans(),
        half=st.sampled_from([*ALL_SITES]),
        duration=st.sampled_from([1, 500, 950]),
        demanded=st.booleans(),
    )
    def move_with_a_half_file(
        self, domain: str, site: str, own: bool, half: str, duration: float, demanded: bool
    ) -> None:
        """A domain moves, and a file, maybe the one where it goes, is half written for a while:
        nothing changes until it is whole.
        """
        before = {**self.places}, {**self.own_places}
        self._place(domain, site, own)
        wanted = self.places, self.own_places
        self._write()
        content = self.files[half].read_text()
        lines = content.splitlines(keepends=True)
        self.files[half].write_text("".join(lines[: (len(lines) + 1) // 2]))
        self.places, self.own_places = before
        if demanded:
            self.program.service.reread()
        self.program.wait(duration)
        self._ask_all()
        self.program.wait(1)
        self.files[half].write_text(content)
        self.places, self.own_places = wanted
        self._let_it_count()

    @precondition(lambda self: self.wanted is None)
    @rule(
        public=st.sampled_from([PUBLIC, PUBLIC[::-1], PUBLIC[:1], PUBLIC[1:]]),
        red=st.sampled_from([SITES["red"], SITES["red"][1:], OWN_SITES["green"]]),
        backwards=st.booleans(),
    )
    def reload(self, public: tuple[str, ...], red: tuple[str, ...], backwards: bool) -> None:
        """Another configuration counts: other upstreams, and routes in another order."""
        self.public = public
        sites = {**ALL_SITES, "red": red}
        self.sites = dict(reversed(sites.items())) if backwards else sites
        self.program.change_all(**self._configuration())
        self._ask_all()

    def _place(self, domain: str, site: str, own: bool) -> None:
        places = self.own_places if site in OWN_SITES or (own and not site) else self.places
        places.pop(domain, None)
        if site:
            places[domain] = site

    def _ask_all(self) -> None:
        for qname in NAMES:
            for group in sorted(CLIENTS):
                self._ask(qname, group, 1, by_listener=False, do=False)

    def _let_it_count(self) -> None:
        self.program.wait(2000 * CHECK_EVERY)
        for group in sorted(CLIENTS):
            self.program.ask(UNRELATED, client=CLIENTS[group][1])

    def _write(self) -> None:
        self.number += 1
        for site, path in self.files.items():
            places = self.own_places if site in OWN_SITES else self.places
            lines = [domain for domain in DOMAINS if places.get(domain) == site]
            path.write_text("\n".join([f"# {self.number}" + " " * self.number, *lines, ""]))

    @invariant()
    @precondition(lambda self: bool(self.waiting))
    def answers_come_from_their_scope(self) -> None:
        """Each address in a reply was said by an upstream of the scope in which it was asked."""
        for one in self.waiting:
            if one.asked.answered:
                self._check_addresses(one)
                self._check_block(one)
        self.waiting = [one for one in self.waiting if not one.asked.answered]

    def _check_addresses(self, one: Waiting) -> None:
        for text in one.asked.result:
            if text[0].isdigit():
                said = {host for host in HOSTS if ip_address(text) in ip_network(network(host))}
                assert said <= one.hosts, (one.qname, one.hosts, text)

    def _check_block(self, one: Waiting) -> None:
        """What is listed when the client asks is blocked; so is an answer that leads to what is
        listed when it is given, and nothing else.
        """
        message = one.asked.reply
        is_blocked = Ede.BLOCKED in edes(message)
        if one.listed is None or one.qname in one.listed:
            assert is_blocked == (one.listed is not None)
        elif is_blocked:
            assert TARGET in self.listed
            assert not message.answer
        else:
            leads = any(rrset.rdtype == CNAME for rrset in message.answer)
            assert not leads or TARGET not in self.listed

    @invariant()
    def names_are_seen_where_they_may(self) -> None:
        """No upstream was asked for a name that it never had, by whatever work behind."""
        if not hasattr(self, "program"):
            return
        for host in HOSTS:
            for qname in self.program.names(host) - {UNRELATED, ""}:
                assert (host, qname) in self.allowed, (host, qname)

    def teardown(self) -> None:
        """Nobody waits for ever, and nothing is left."""
        if hasattr(self, "program"):
            self.program.close()
            assert all(one.asked.answered for one in self.waiting)
            assert self.program.clock.getDelayedCalls() == []
        self.folder.cleanup()


TestScopes = Scopes.TestCase
TestScopes.settings = settings(
    max_examples=amount(12, 200),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
