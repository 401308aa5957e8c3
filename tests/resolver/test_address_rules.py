"""What rules about addresses do to answers and pools (docs/specification.rst, Verdicts)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from staggerdns.upstream.health import State
from staggerdns.upstream.reason import Reason
from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from tests.kit.acts import NOERROR, NXDOMAIN, SILENT, Act, gives, negative, own, says, says_own
from tests.kit.simulated import HEALTH, SimulatedResolver

HIJACK, POISON = "198.51.100.66", "198.51.100.7"
SERVFAIL = 2
HTTPS = 65
STRATEGIES = ("parallel", "racing", "sequential", "random", "auto")


def resolving(*acts: Act, strategy: str = "parallel") -> SimulatedResolver:
    """Upstreams behind rules: the poison is ignored, the hijacker's address stands for NXDOMAIN."""
    rules = AddressFilter([ip_network(POISON)], [ip_network(HIJACK)])
    return SimulatedResolver(*acts, strategy=strategy, address_filter=rules)


@pytest.mark.parametrize("after", [1, 15, 30])
def test_ignored_addresses_join_nothing(after: float) -> None:
    """Neither a first answer nor a pool has one, whoever says it and when."""
    resolver = resolving(says_own(0, 10), says_own(1, 20), says(after, POISON, own(2)))
    client = resolver.ask()
    resolver.run()
    assert set(client.addresses) <= {own(0), own(2)}
    assert sorted(resolver.pool()) == [own(0), own(1), own(2)]
    assert resolver.metrics.addresses_ignored.cell().value == 1
    resolver.assert_nothing_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_answer_with_nothing_left_counts_as_none(strategy: str) -> None:
    """The client gets what another one says, and nobody is to blame, however often that happens."""
    resolver = resolving(says(1, POISON), says_own(1, 20), strategy=strategy)
    for number in range(60):
        asked = resolver.question(f"n{number}.example")
        client = resolver.ask(asked)
        resolver.run()
        assert client.addresses == [own(1)]
        assert resolver.pool(asked) == [own(1)]
    first = resolver.upstreams[0]
    assert (first.marks, first.health.state) == (0, State.HEALTHY)
    assert not first.negative_trust.doubtful
    failures = resolver.metrics.upstream_failures.values()
    assert {labels[-1] for labels in failures} <= {Reason.IGNORED.label}
    resolver.assert_nothing_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_others_are_asked_at_once(strategy: str) -> None:
    """Nobody waits for one whose answer counts as none: it has come, and there is no other."""
    resolver = resolving(*[says(5, POISON)] * 2, *[says_own(2, 10)] * 2, strategy=strategy)
    client = resolver.ask()
    resolver.run()
    assert client.addresses == [own(2)]
    assert client.at < 100


@pytest.mark.parametrize("count", [1, 2, 5])
def test_nothing_else_from_anybody(count: int) -> None:
    """SERVFAIL says why, at once; no circuit opens."""
    resolver = resolving(*[says(5, POISON)] * count)
    for number in range(2 * HEALTH.unhealthy_after):
        client = resolver.ask(resolver.question(f"n{number}.example"))
        began = resolver.now
        resolver.run()
        assert client.rcode == SERVFAIL
        assert client.at - began < 500
        answer = client.entry.answer
        assert isinstance(answer, FailureAnswer)
        assert (answer.ede, answer.text) == (Ede.OTHER, b"ignored addresses")
    assert [upstream.marks for upstream in resolver.upstreams] == [0] * count
    resolver.assert_nothing_left()


def test_an_older_answer_is_given_stale() -> None:
    """It is a failed refresh: what is known stays."""
    resolver = resolving(says_own(0, 5, ttl=60))
    resolver.ask()
    resolver.run()
    resolver.script(says(5, POISON))
    resolver.run_to(70_000)
    assert resolver.ask().addresses == [own(0)]
    resolver.run()
    assert resolver.ask().addresses == [own(0)]


def test_a_denial_counts_more_than_nothing() -> None:
    """Where others deny the name, that is the answer."""
    resolver = resolving(says(5, POISON), negative(10))
    client = resolver.ask()
    resolver.run()
    assert client.rcode == NXDOMAIN


def test_a_bogus_answer_is_a_negative() -> None:
    """It waits for a positive one like any NXDOMAIN, and yields to that."""
    resolver = resolving(says(5, HIJACK, own(7)), says_own(1, 20))
    client = resolver.ask()
    resolver.run()
    assert (client.rcode, client.addresses) == (NOERROR, [own(1)])
    assert resolver.pool() == [own(1)]
    assert resolver.metrics.bogus_nxdomain.cell().value == 1
    resolver.assert_nothing_left()


def test_all_hijacked() -> None:
    """Then there is no such name, and that is kept: nobody is asked again."""
    resolver = resolving(says(5, HIJACK, ttl=60), says(6, HIJACK, ttl=50))
    client = resolver.ask()
    resolver.run()
    assert (client.rcode, client.entry.answer.ttl) == (NXDOMAIN, 60)
    asked = len(resolver.launches)
    assert resolver.ask().rcode == NXDOMAIN
    assert len(resolver.launches) == asked
    assert resolver.metrics.bogus_nxdomain.cell().value == 2


def test_a_bogus_hint() -> None:
    """A hint of an address counts as the address; one that cannot be read says nothing."""
    hints = b"\0\1\0" + b"\0\4\0\4" + ip_address(HIJACK).packed
    for data, rcode in ((hints, NXDOMAIN), (hints[:-1], NOERROR)):
        resolver = resolving(gives(5, HTTPS, data))
        client = resolver.ask(resolver.question("www.example", HTTPS))
        resolver.run()
        assert client.rcode == rcode
        assert resolver.metrics.bogus_nxdomain.cell().value == (rcode == NXDOMAIN)


def test_a_long_bogus_answer_is_not_kept_for_long() -> None:
    """``max_negative_ttl`` bounds it."""
    resolver = resolving(says(5, HIJACK, ttl=86_400))
    client = resolver.ask()
    resolver.run()
    assert client.entry.answer.ttl == 300


def test_a_cname_chain_hides_nothing() -> None:
    """The rules hold behind CNAMEs."""
    cname_chain = ["www.cdn.example"]
    resolver = resolving(says(5, POISON, own(0), cname_chain=cname_chain))
    resolver.ask()
    resolver.run()
    entry = resolver.cache.entries[resolver.question().key]
    assert isinstance(entry.answer, AddressPool)
    assert resolver.pool() == [own(0)]
    resolver = resolving(says(5, HIJACK, cname_chain=cname_chain))
    client = resolver.ask()
    resolver.run()
    assert client.rcode == NXDOMAIN


def test_hints_of_a_service() -> None:
    """An HTTPS record with an ignored hint does not come; the client may ask for the address."""
    data = b"\0\1\0\0\4\0\4" + bytes(map(int, POISON.split(".")))
    resolver = resolving(gives(5, HTTPS, data))
    client = resolver.ask(resolver.question("www.example", HTTPS))
    resolver.run()
    assert client.rcode == NOERROR
    assert client.entry.answer.negative


def test_a_silent_one_beside() -> None:
    """One that has nothing to say but poison does not end the wait for the other."""
    resolver = resolving(says(5, POISON), SILENT, says_own(2, 10))
    client = resolver.ask()
    resolver.run()
    assert client.addresses == [own(2)]
