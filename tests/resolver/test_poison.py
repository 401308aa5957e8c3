"""What somebody who controls one of the upstreams can do to a pool, and what he cannot
(docs/specification.rst, Merging): with every test the attacker is the last upstream, and answers
whatever he likes.

He can: be the first, and so give the first clients whatever public address he likes; add public
addresses behind those of the others; have known ones live longer, though not unrefreshed. He
cannot: remove or reorder what others said, or shorten its life; bring private addresses into a pool
that another one began, make it grow without bound, name records of other names, claim that it was
validated, or overturn a denial.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.names import from_labels
from staggerdns.wire.question import Question
from staggerdns.wire.rebinding import Rebinding
from staggerdns.wire.reply import STRAYS
from tests.kit.acts import (
    AAAA,
    CNAME,
    NOERROR,
    NXDOMAIN,
    A,
    Act,
    fails,
    gives,
    name,
    negative,
    own,
    record,
    reply,
    says,
    says_own,
)
from tests.kit.simulated import Client, SimulatedResolver

HONEST = (says_own(0, 10), says_own(1, 20))
POOL = [own(0), own(1)]
PRIVATE = ["10.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.1.1", "192.168.1.1", "224.0.0.1"]
EVIL = [f"198.51.100.{number}" for number in range(100)]


def attacked(
    attack: Act, honest: Sequence[Act] = HONEST, rebinding: Rebinding | None = None
) -> tuple[SimulatedResolver, Client]:
    """Collect once from the honest ones and the attacker."""
    resolver = SimulatedResolver(*honest, attack, rebinding=rebinding)
    client = resolver.ask()
    resolver.run()
    resolver.assert_nothing_left()
    return resolver, client


@pytest.mark.parametrize(
    "attack",
    [
        *[says(30, address) for address in PRIVATE],
        negative(30),
        negative(30, NOERROR),
        fails(30),
        gives(30, CNAME, name("evil.example")),
        says(30, own(0)),
        says(30, "198.51.100.1", ttl=0),
        Act(30, lambda question: reply(question, [record(name("x.example"), A, 9, b"evil")])),
        Act(30, lambda question: b"\0" * 40),
    ],
)
def test_a_late_attacker_changes_nothing(attack: Act) -> None:
    """Denials, failures, private addresses, other names' records and nonsense leave the pool."""
    resolver, client = attacked(attack)
    assert (client.rcode, client.addresses) == (NOERROR, [own(0)])
    assert resolver.pool() == POOL


def test_he_can_add_public_addresses_up_to_the_cap() -> None:
    """Public addresses join, behind those of the others, and no more than ``max_pool_size``."""
    resolver, client = attacked(says(30, *EVIL))
    assert client.addresses == [own(0)]
    assert resolver.pool() == POOL + EVIL[: ParallelSettings().max_pool_size - 2]


@pytest.mark.parametrize("ttl", [1, 86_400])
def test_his_ttl_is_his_own(ttl: int) -> None:
    """What he adds lives as he says, the others' addresses as they say."""
    resolver, _ = attacked(says(30, EVIL[0], ttl=ttl))
    answer = resolver.cache.entries[resolver.question().key].answer
    assert isinstance(answer, AddressPool)
    assert list(answer.lives) == [300, 300, ttl]


def test_he_cannot_claim_validation() -> None:
    """AD of his is worth nothing where another one did not validate."""
    resolver, _ = attacked(says(30, EVIL[0], flags=0x81A0))
    assert not resolver.cache.entries[resolver.question().key].answer.ad


def test_he_cannot_change_the_chain() -> None:
    """His chain is not followed: only his addresses join the chain that was there first."""
    honest = [says(10, own(0), cname_chain=["www.cdn.example"]), says(20, own(1))]
    resolver, _ = attacked(says(30, EVIL[0], cname_chain=["evil.example"]), honest)
    answer = resolver.cache.entries[resolver.question().key].answer
    assert getattr(answer, "cname_chain", None) == (from_labels([b"www", b"cdn", b"example"]),)
    assert resolver.pool() == [*POOL, EVIL[0]]


def test_he_cannot_bring_other_names() -> None:
    """Records of names that nobody asked for are counted, and go nowhere."""

    def answer(question: Question) -> bytes:
        stranger = record(name("bank.example"), A, 9, b"evil")
        mine = record(b"\xc0\x0c", A, 300, b"\xc6\x33\x64\1")
        return reply(question, [stranger, mine, stranger]) + b"more"

    resolver, _ = attacked(Act(30, answer))
    assert resolver.pool() == [*POOL, "198.51.100.1"]
    for kind in STRAYS:
        counted = {"unrelated": 2, "octets": 1}.get(kind, 0)
        assert resolver.metrics.stray_records.cell(kind).value == counted


def test_he_cannot_overturn_a_denial() -> None:
    """Where the whole active tier says that there is no such name, there is none."""
    resolver, client = attacked(says(12, *EVIL), [negative(10), negative(11)])
    assert client.rcode == NXDOMAIN
    assert resolver.pool() == []


def test_who_is_first_gives_the_first_answer() -> None:
    """He can: be faster than all others. Their addresses join his all the same."""
    resolver, client = attacked(says(5, "192.168.1.1", EVIL[0]), (says_own(0, 10),))
    assert client.addresses == ["192.168.1.1", EVIL[0]]
    assert resolver.pool() == ["192.168.1.1", EVIL[0], own(0)]


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.parametrize("after", [5, 30])
def test_protected_from_rebinding(address: str, after: int) -> None:
    """With ``rebinding.strip`` private addresses come in from nobody, first or not: the client
    gets what the others say.
    """
    resolver, client = attacked(says(after, address), rebinding=Rebinding([]))
    assert set(client.addresses) <= set(POOL)
    assert resolver.pool() == POOL
    assert resolver.metrics.rebinding_stripped.cell().value == 1


def test_protected_while_all_lie() -> None:
    """With private addresses from everybody there is no data, which is kept."""
    resolver, client = attacked(says(5, "10.0.0.1"), [says(5, "10.0.0.2")], Rebinding([]))
    assert (client.rcode, client.addresses) == (NOERROR, [])
    assert resolver.ask().rcode == NOERROR
    assert len(resolver.launches) == 2
    assert resolver.metrics.rebinding_stripped.cell().value == 2


def test_protected_in_part() -> None:
    """What is public of an answer stays an answer."""
    resolver, client = attacked(says(5, "10.0.0.1", EVIL[0]), [says_own(0, 10)], Rebinding([]))
    assert client.addresses == [EVIL[0]]
    assert resolver.pool() == [EVIL[0], own(0)]


def test_domains_of_our_own() -> None:
    """Names in an excepted domain have the addresses that they have."""
    resolver, client = attacked(says(5, "10.0.0.1"), (), Rebinding([name("example")]))
    assert client.addresses == ["10.0.0.1"]
    assert resolver.metrics.rebinding_stripped.cell().value == 0


def test_an_ipv6_name_is_protected() -> None:
    """Private IPv4 in the clothes of IPv6 is found."""
    resolver = SimulatedResolver(
        says(5, "64:ff9b::10.0.0.1", "::ffff:127.0.0.1", "2001:db8:9::1"), rebinding=Rebinding([])
    )
    client = resolver.ask(resolver.question(qtype=AAAA))
    resolver.run()
    assert client.addresses == ["2001:db8:9::1"]
