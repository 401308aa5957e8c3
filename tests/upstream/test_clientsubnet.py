"""What upstreams are told of where clients are (RFC 7871), and which of their replies count."""

from __future__ import annotations

from ipaddress import ip_network
from random import Random
from typing import TYPE_CHECKING

import dns.message
import pytest
import pytest_twisted
from twisted.internet.testing import MemoryReactorClock

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.settings.addresses import parse_upstream
from staggerdns.settings.upstreams import BudgetSettings, UpstreamSettings
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.concurrentretries import TCP_PATIENCE
from staggerdns.upstream.dialect import Dialect
from staggerdns.upstream.edns import BARE, DESCENTS, FULL, PLAIN
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.members import Members
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.tls import Authorities
from staggerdns.wire.clientsubnet import ClientSubnet
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import make_question
from staggerdns.wire.verdict import Verdict
from tests.kit import behaviours as b
from tests.kit.acts import A
from tests.kit.compiled import PURE_ONLY
from tests.kit.loopback import addresses, loopback_upstream, no_connections, reactor
from tests.kit.memory import WWW, TcpUpstream
from tests.kit.memoryhttp import HttpsUpstream
from tests.kit.scripted import ScriptedUpstream
from tests.kit.subnets import NOTHING, OFF, by_subnet, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staggerdns.upstream.upstream import Upstream
    from tests.kit.scripted import Action, Behaviour, Query

HERE, THERE, SIX = "192.0.2.0/24", "198.51.100.0/24", "2001:db8:5:6700::/56"
TABLE = {
    HERE: "203.0.113.1",
    THERE: "203.0.113.2",
    SIX: "203.0.113.3",
    OFF: "203.0.113.4",
    NOTHING: "203.0.113.5",
}


@pytest.mark.parametrize("scheme", ["", "tcp://"])
@pytest_twisted.ensureDeferred
async def test_answers_by_subnet(scheme: str) -> None:
    """Each upstream of one resolver gets the answer for its own subnet."""
    with ScriptedUpstream(by_subnet(TABLE)) as server:
        for option, subnet in (
            (f";ecs={HERE}", HERE),
            (f";ecs={THERE}", THERE),
            (f";ecs={SIX}", SIX),
            (";ecs=off", OFF),
            ("", NOTHING),
        ):
            with loopback_upstream(f"{server.endpoint}{option}", scheme) as one:
                for _ in range(3):  # as well when the upstream is known
                    assert addresses(await one.ask()) == [TABLE[subnet]]
        await no_connections()
        assert {query.transport for query in server.queries} == {"tcp" if scheme else "udp"}
        assert len(server.queries) == 15


def test_beside_what_connections_add() -> None:
    """Over TCP it stands before keepalive, over HTTPS before the padding, which fills the block."""
    tcp = TcpUpstream(ecs=f";ecs={HERE}")
    tcp.ask()
    (query,) = tcp.connect().queries()
    assert told(dns.message.from_wire(query)) == HERE
    assert [option.otype for option in dns.message.from_wire(query).options] == [8, 11]
    tcp.upstream.close()
    https = HttpsUpstream(f"https://192.0.2.1/dns-query#dns.example;ecs={HERE}")
    https.ask()
    body = https.connect().bodies[1]
    assert told(dns.message.from_wire(body)) == HERE
    assert [option.otype for option in dns.message.from_wire(body).options] == [8, 12]
    assert len(body) == 128
    https.upstream.close()


def test_the_family_is_that_of_the_transport() -> None:
    """For the subnet of no bits (section 7.1.2)."""
    assert parse_upstream("192.0.2.1;ecs=off").subnet == ip_network("0.0.0.0/0")
    assert parse_upstream("tls://dns.example;ecs=off").subnet == ip_network("0.0.0.0/0")
    assert parse_upstream("[2001:db8::1]:53;ecs=off").subnet == ip_network("::/0")


def test_at_which_levels_of_edns() -> None:
    """It is an option: it goes with the others, and not to an upstream that takes none."""
    subnet = parse_upstream(f"192.0.2.1;ecs={HERE}").subnet
    dialect = Dialect(Entropy(Random(1).randbytes), case=False, cookies=True, subnet=subnet)
    for do in (False, True):
        question = make_question(WWW.name, A, do=do)
        found = [
            dns.message.from_wire(b"\0\0" + dialect.compose(question, 0.0, level))
            for level in (PLAIN, BARE, FULL)
        ]
        assert [message.edns for message in found] == [-1, 0, 0]
        assert [bool(message.ednsflags & 0x8000) for message in found] == [False, do, do]
        assert [told(message) for message in found] == [NOTHING, NOTHING, HERE]
        assert [option.otype for option in found[FULL].options] == [10, 8]
    dialect.moved("127.0.0.1")
    dialect.moved("127.0.0.2")  # there is a new cookie
    assert told(dns.message.from_wire(b"\0\0" + dialect.compose(WWW, 0.0))) == HERE


@pytest_twisted.ensureDeferred
async def test_an_upstream_that_takes_no_options() -> None:
    """FORMERR: it is asked without the subnet, and answers as it does to all."""

    def behave(query: Query) -> Sequence[Action]:
        good = not query.parsed.options
        return (by_subnet(TABLE) if good else b.rcode_without_edns("FORMERR"))(query)

    with (
        ScriptedUpstream(behave) as server,
        loopback_upstream(f"{server.endpoint};ecs={HERE}") as one,
    ):
        for _ in range(DESCENTS + 2):
            assert addresses(await one.ask()) == [TABLE[NOTHING]]
        assert [told(query.parsed) for query in server.queries[-2:]] == [NOTHING] * 2
        assert one.marks == 0


@pytest_twisted.ensureDeferred
async def test_a_reply_for_another_subnet_is_dropped() -> None:
    """Whether the upstream is known or new: the answer is the one that TCP gives."""
    wrong, right = by_subnet(TABLE, echo=THERE), by_subnet(TABLE)
    with (
        ScriptedUpstream(right) as server,
        loopback_upstream(f"{server.endpoint};ecs={HERE}") as one,
    ):
        repeated = one.metrics.upstream_repeated.cell(one.upstream.name, "subnet")
        for round_, known in enumerate((False, True), 1):
            if known:
                server.behaviour = right
                assert addresses(await one.ask()) == [TABLE[HERE]]
            server.behaviour = b.by_transport(wrong, right)
            asked = len(server.queries)
            assert addresses(await one.ask()) == [TABLE[HERE]]
            assert [query.transport for query in server.queries[asked:]] == ["udp", "tcp"]
            assert repeated.value == round_
        assert one.marks == 0
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_the_right_reply_behind_a_wrong_one() -> None:
    """Somebody guessed: the upstream's own reply counts, TCP or not."""
    forged = by_subnet({HERE: "203.0.113.66"}, echo=THERE)
    with (
        ScriptedUpstream(
            b.by_transport(b.preceded_by(forged, by_subnet(TABLE)), b.silent)
        ) as server,
        loopback_upstream(f"{server.endpoint};ecs={HERE}") as one,
    ):
        assert addresses(await one.ask()) == [TABLE[HERE]]
        assert one.marks == 0
    await no_connections()


@pytest.mark.parametrize("tcp", [by_subnet(TABLE, echo=THERE), b.silent])
@pytest_twisted.ensureDeferred
async def test_an_upstream_that_never_says_ours(tcp: Behaviour) -> None:
    """Its replies count as none, however many of them come, and whether its TCP works or not."""
    wrong = by_subnet(TABLE, echo=THERE)
    with (
        ScriptedUpstream(b.by_transport(wrong, tcp)) as server,
        loopback_upstream(f"{server.endpoint};ecs={HERE}") as one,
    ):
        exchange = one.start()
        late = reactor.callLater(2 * TCP_PATIENCE, exchange.expire)
        outcome = await exchange.deferred()
        if late.active():
            late.cancel()
        expected = Reason.TIMEOUT if tcp is b.silent else Reason.CLIENT_SUBNET
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, expected)
        assert outcome.answer is None
        assert one.marks == 1
    await no_connections()


def test_over_a_connection_it_is_an_error() -> None:
    """Nobody forges there: the upstream does not do what it was asked."""
    tcp = TcpUpstream(ecs=f";ecs={HERE}")
    tcp.ask()
    connection = tcp.connect()
    (query,) = connection.queries()
    connection.answer(query, ClientSubnet(ip_network(THERE)).option)
    assert tcp.reasons() == [Reason.CLIENT_SUBNET]
    assert tcp.upstream.health.failures == 1
    tcp.upstream.close()


# Several upstreams that are one resolver.


class Found:
    """The upstreams of a program, as its configuration says."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.metrics = Metrics()
        self.members = Members(
            self.reactor, StandstillClock(self.reactor), bytes, self.metrics, Journal("error")
        )
        self.authorities = Authorities(None)

    def use(self, *servers: str, queries_per_second: int = 0) -> list[Upstream]:
        """Have these servers, and return their upstreams."""
        addresses = tuple(map(parse_upstream, servers))
        budget = BudgetSettings(max_inflight=4, queries_per_second=queries_per_second, burst=4)
        settings = UpstreamSettings(servers=addresses, budget=budget)
        self.members.close_left(self.members.use(settings, self.authorities, addresses))
        return self.members.of(addresses)


SERVERS = (f"192.0.2.1;ecs={HERE}", f"192.0.2.1;ecs={THERE}", "192.0.2.1;ecs=off", "192.0.2.1")
OTHERS = ("tcp://192.0.2.1", "192.0.2.1:54", "192.0.2.2")


@PURE_ONLY
def test_one_budget() -> None:
    """What one of them spends the others do not have; those of other resolvers do."""
    found = Found()
    *same, tcp, port, host = found.use(*SERVERS, *OTHERS)
    assert len({one.name for one in same}) == len(same)
    same[0].budget.inflight += 3
    assert [one.has_room(0.0, first=True) for one in same] == [True] * 4
    same[1].budget.inflight += 1
    assert [one.has_room(0.0, first=True) for one in same] == [False] * 4
    assert [one.unhindered for one in same] == [False] * 4
    for other in (tcp, port, host):
        assert other.unhindered
    assert len({id(one.budget) for one in (*same, tcp, port, host)}) == 4
    found.members.close()


@PURE_ONLY
def test_queries_under_way_are_counted_for_all() -> None:
    """Until they end, each for the upstream that was asked."""
    found = Found()
    first, second = found.use(f"tcp://192.0.2.1;ecs={HERE}", f"tcp://192.0.2.1;ecs={THERE}")
    exchanges = [one.ask(Judge(WWW), "active", 0.0) for one in (first, second, second)]
    assert (first.inflight, second.inflight, first.budget.inflight) == (1, 2, 3)
    values = found.metrics.upstream_inflight.values()
    assert (values[(first.name,)], values[(second.name,)]) == (1, 2)
    exchanges[0].expire()
    exchanges[1].cancel()
    assert (first.inflight, second.inflight, first.budget.inflight) == (0, 1, 1)
    exchanges[2].cancel()
    assert first.budget.inflight == 0
    found.members.close()


def test_a_budget_outlives_a_reload() -> None:
    """An upstream that comes to one that stays gets its budget; other rules make new ones."""
    found = Found()
    (first,) = found.use(SERVERS[1])
    kept, new = found.use(SERVERS[1], SERVERS[0])
    assert kept is first
    assert new.budget is first.budget
    (alone,) = found.use(SERVERS[0])
    assert alone is new
    changed, beside = found.use(SERVERS[0], SERVERS[1], queries_per_second=7)
    assert changed.budget is beside.budget is not first.budget
    assert changed.budget.rate == 7
    found.members.close()
