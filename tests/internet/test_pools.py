"""Pools in the test internet: complete, nearest first, and probed once."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import dig, eventually, stays
from tests.kit.internet.hosts import (
    Kind,
    by_distance,
    milliseconds,
    near,
    near6,
    special,
    special6,
)
from tests.kit.internet.testbed import SHORT, UPSTREAM_TTL, check_order, listed, owners
from tests.kit.testbed import SOON, all_sets, own_set

if TYPE_CHECKING:
    from tests.kit.clients import Reply
    from tests.kit.internet.testbed import InternetTestbed
    from tests.kit.internet.world import World


def _fifteen(host: int) -> list[str]:
    """Fifteen addresses, 16 ms apart, in an order that means nothing."""
    return [near(12 + 16 * (index * 7 % 15), host) for index in range(15)]


def test_hundred_names(testbed: InternetTestbed, host: int) -> None:
    """A hundred names, five upstreams with three addresses each: all 15, sorted, soon."""
    pool = _fifteen(host)
    shares = [set(pool[index::5]) for index in range(5)]
    names = [testbed.spread("hundred", pool, after=0.02) for _ in range(100)]
    first = testbed.at_once(names)
    for reply in first:
        assert set(reply.addresses) in shares  # of one upstream
        assert 0 < reply.ttl <= SHORT
    time.sleep(2)

    def all_there(replies: list[Reply]) -> bool:
        return all(reply.ttl > SHORT and len(reply.addresses) == 15 for reply in replies)

    second = eventually(lambda: testbed.at_once(names), all_there, timeout=8)
    regret = []
    for reply in second:
        check_order(reply.addresses, pool)
        assert reply.ttl > SHORT
        regret.append(milliseconds(reply.addresses[0]) - min(map(milliseconds, pool)))
    assert sum(regret) / len(regret) < 1
    for name in names:  # where a machine is so busy that replies come late, some are asked again
        assert all(1 <= count <= 2 for count in testbed.counts(name))
    # The names share their addresses: they are measured once.
    testbed.probed_once(pool)


def test_only_two_upstreams_before_the_first_answer(testbed: InternetTestbed, host: int) -> None:
    """Ranking changes nothing in how the first answer comes: from the active tier."""
    pool = _fifteen(host)
    name = testbed.spread("first", pool, after=0.05)
    first = testbed.ask(name)
    assert len(first.addresses) == 3
    assert first.ttl <= SHORT
    assert first.seconds < SOON
    assert testbed.complete(name) == [1] * 5
    assert testbed.times(name)[2] > 0.03  # 50 ms, but for a moment in which the machine was busy
    testbed.settled(name, pool)


def test_dig_sees_the_order(testbed: InternetTestbed, host: int) -> None:
    """Dig prints the nearest address first, over UDP and TCP."""
    pool = _fifteen(host)
    name = testbed.spread("dig", pool)
    testbed.ask(name)
    order = testbed.settled(name, pool).addresses
    for arguments in (("+short",), ("+short", "+tcp")):
        # BIND's own clients do not turn the order round.
        assert dig(testbed.program.endpoint, name, *arguments).split() == order


def test_fifty_names_are_probed_once(testbed: InternetTestbed, world: World, host: int) -> None:
    """The same 15 addresses under 50 names are probed once, not 50 times."""
    pool = _fifteen(host)
    names = [testbed.spread("fifty", pool) for _ in range(50)]
    testbed.at_once(names)
    for name in names:
        testbed.settled(name, pool)
    testbed.idle()
    testbed.probed_once(pool)
    for address in pool:
        times = [probe.at for probe in world.log() if probe.address == address]
        # One probe in flight: the next one leaves when the answer has come.
        distance = milliseconds(address) / 1000
        assert all(later - one >= distance for one, later in itertools.pairwise(times))


def test_silent_addresses_come_last(testbed: InternetTestbed, host: int) -> None:
    """Addresses that never answer are last, and they are there."""
    heard = [near(90, host), near(30, host), near(60, host)]
    silent = [special(Kind.SILENT, index, host % 16) for index in range(1, 4)]
    name = testbed.spread("silent", [silent[0], heard[0], silent[1], *heard[1:], silent[2]])
    testbed.ask(name)
    reply = eventually(
        lambda: testbed.ask(name),
        lambda reply: len(reply.addresses) == 6 and reply.ttl > SHORT,
        timeout=8,
    )
    assert reply.addresses[:3] == by_distance(heard)
    assert set(reply.addresses[3:]) == set(silent)


def test_lossy_address_loses(testbed: InternetTestbed, host: int) -> None:
    """A near address that loses every second packet comes after a clean one farther away."""
    lossy = special(Kind.LOSSY, 10, host % 16)
    clean = [near(60, host), near(200, host)]
    name = testbed.spread("lossy", [lossy, *clean])
    testbed.ask(name)
    testbed.ranked(name, [*clean, lossy])


def test_unreachable_addresses_come_last(testbed: InternetTestbed, host: int) -> None:
    """Addresses to which nothing can be sent are known at once, come last and are there."""
    for rdtype, pool in (
        ("A", [f"203.0.113.{host}", near(60, host), near(30, host)]),
        ("AAAA", [f"2001:db8::{host:x}", near6(60, host), near6(30, host)]),
    ):
        testbed.ask(name := testbed.everywhere("unreachable", b.answers(*pool)), rdtype)
        testbed.ranked(name, pool[::-1], rdtype, timeout=2)
        nowhere = testbed.everywhere("nowhere", b.answers(pool[0], pool[0].replace("1", "2")))
        assert len(testbed.ask(nowhere, rdtype).addresses) == 2
    testbed.idle(1)


def test_all_silent(testbed: InternetTestbed, world: World, host: int) -> None:
    """When no address answers, all stay, in the order received, and that for a minute at most."""
    silent = [special(Kind.SILENT, 10 + index, host % 16) for index in range(3)]
    name = testbed.everywhere("mute", listed(*silent))
    earlier = world.probes(silent)  # there are few such addresses: other tests use them, too
    assert testbed.ask(name).addresses == silent
    testbed.idle(10)
    before = world.probes(silent)
    seen = before - earlier
    for method in ("icmp", "tcp:443", "tcp:80"):
        assert all(0 < seen[method, address] <= 3 for address in silent), seen
    for _ in range(5):
        reply = testbed.ask(name)
        assert reply.addresses == silent
        assert reply.ttl <= 60
    assert world.probes(silent) == before


def test_both_families(testbed: InternetTestbed, host: int) -> None:
    """A and AAAA of one name are two pools, each complete and nearest first."""
    pool = _fifteen(host)
    pool_6 = [near6(12 + 8 * (index * 4 % 15), host) for index in range(15)]
    shares = [
        b.answers(*pool[index::5], *pool_6[index::5], after=0.01, ttl=UPSTREAM_TTL)
        for index in range(5)
    ]
    name = testbed.route("families", *shares)
    assert len(testbed.ask(name).addresses) == 3
    first = testbed.ask(name, "AAAA")
    assert len(first.addresses) == 3
    assert first.ttl <= SHORT
    testbed.settled(name, pool)
    testbed.settled(name, pool_6, "AAAA")
    testbed.probed_once(pool_6)
    testbed.probed_once(pool)


def test_odd_places_over_ipv6(testbed: InternetTestbed, host: int) -> None:
    """Over IPv6, too: no echo is made up by TCP, forgeries do not count, silence is last."""
    wanted = [
        near6(20, host),
        special6(Kind.FORGED, 50, host),
        special6(Kind.TCP_ONLY, 80, host),
        special6(Kind.REFUSING, 110, host),
        near6(140, host),
        special6(Kind.FORGED_ONLY, 1, host),
    ]
    name = testbed.spread("odd6", wanted[::-1])
    testbed.ask(name, "AAAA")
    testbed.ranked(name, wanted, "AAAA", timeout=8)


def test_odd_places(testbed: InternetTestbed, host: int) -> None:
    """Without echoes TCP takes over, a refusal is a round trip, forgeries do not count."""
    wanted = [
        near(20, host),
        special(Kind.FORGED, 50, host % 16),
        special(Kind.TCP_ONLY, 80, host % 16),
        special(Kind.REFUSING, 110, host % 16),
        near(140, host),
        special(Kind.FORGED_ONLY, 1, host % 16),
    ]
    name = testbed.spread("odd", wanted[::-1])
    testbed.ask(name)
    testbed.ranked(name, wanted, timeout=8)


def test_known_addresses_are_in_order_at_once(
    testbed: InternetTestbed, world: World, host: int
) -> None:
    """A first answer is ordered by what is known already, and complete it is ranked at once."""
    pool = _fifteen(host)
    testbed.ask(old := testbed.spread("old", pool))
    order = testbed.settled(old, pool).addresses
    before = len(world.log())
    new = testbed.everywhere("new", b.answers(*pool, after=0.02))
    first = testbed.ask(new)
    assert first.addresses == order
    testbed.settled(new, pool)
    assert [probe for probe in world.log(before) if probe.address in pool] == []


def test_strangers_go_between_far_and_silent(testbed: InternetTestbed, host: int) -> None:
    """A first answer puts addresses not measured yet behind the far and before the silent ones."""
    silent = special(Kind.SILENT, 20, host % 16)
    far, stranger = near(120, host), near(10, host)
    testbed.ask(name := testbed.everywhere("old", listed(silent, far)))
    testbed.ranked(name, [far, silent], timeout=8)
    new = testbed.everywhere("new", listed(silent, stranger, far))
    assert testbed.ask(new).addresses == [far, stranger, silent]
    testbed.ranked(new, [stranger, far, silent])


def test_one_address_is_not_probed(testbed: InternetTestbed, world: World, host: int) -> None:
    """A single address is never sorted: no probe, and its real TTL as soon as it is all."""
    address = near(30, host)
    name = testbed.everywhere("single", b.answers(address, ttl=UPSTREAM_TTL))
    testbed.ask(name)
    testbed.complete(name)
    testbed.idle()
    assert UPSTREAM_TTL - 5 < testbed.ask(name).ttl <= UPSTREAM_TTL
    assert not world.probes([address])


def test_private_addresses_are_not_probed(
    testbed: InternetTestbed, world: World, host: int
) -> None:
    """Loopback, private and link-local addresses are served, not probed."""
    hidden = ["127.0.0.9", f"10.1.20.{host}", "192.168.1.7", "172.16.3.3", "169.254.1.1"]
    hidden_6 = ["::1", f"fd00::{host:x}", "fe80::7"]
    only = testbed.everywhere("private", listed(*hidden, *hidden_6))
    outside = [near(80, host), near(20, host)]
    mixed = testbed.everywhere("mixed", listed(*hidden, *outside))
    before = testbed.program.metrics()
    for name, rdtype in ((only, "A"), (only, "AAAA"), (mixed, "A")):
        testbed.ask(name, rdtype)
    testbed.complete(only)
    seen = testbed.idle()
    assert testbed.ask(only).addresses == hidden
    assert testbed.ask(only).ttl > SHORT  # there is nothing to rank
    assert testbed.ask(only, "AAAA").addresses == hidden_6
    testbed.ranked(mixed, [*by_distance(outside), *hidden])
    assert not world.probes([*hidden, *hidden_6])
    sent = seen.value("staggerdns_probes_total") - before.value("staggerdns_probes_total")
    assert 4 <= sent <= 6


# Chains.


def test_each_link_of_a_chain_has_its_rank(testbed: InternetTestbed, host: int) -> None:
    """Each name of a CNAME chain has an entry once it was asked for: right owners, whole pool,
    nearest first. No address is probed again for that.
    """
    pool = _fifteen(host)
    middle, end = f"Middle{host}.cdn.example.", f"end{host}.cdn.example."
    shares = [pool[index::5] for index in range(5)]
    name = testbed.route(
        "chain", *(b.cname_chain([middle, end], *share, after=0.01) for share in shares)
    )
    testbed.route("", *(b.cname_chain([end], *share) for share in shares), name=middle.lower())
    testbed.route("", *(b.answers(*share) for share in shares), name=end)
    first = testbed.ask(name)
    assert owners(first) == [name, middle, end]
    testbed.settled(name, pool)
    testbed.idle()
    for question, want in (
        (name, [name, middle, end]),
        (middle.lower(), [middle.lower(), end]),
        (end.upper(), [end.upper()]),
    ):
        reply = testbed.settled(question, pool)
        assert [text.lower() for text in owners(reply)] == [text.lower() for text in want]
        assert reply.types == ["CNAME"] * (len(want) - 1) + ["A"]
    assert testbed.counts(middle) == testbed.counts(end) == [1] * 5
    testbed.probed_once(pool)


def test_link_with_an_answer_of_its_own(testbed: InternetTestbed, host: int) -> None:
    """A name that has been asked for itself keeps its own answer when a chain leads to it."""
    own, other = [near(40, host), near(20, host)], [near(70, host), near(60, host)]
    end = testbed.everywhere("own", b.answers(*own))
    testbed.ask(end)
    testbed.settled(end, own)
    name = testbed.everywhere("leads", b.cname_chain([end], *other))
    testbed.ask(name)
    testbed.settled(name, other)
    assert testbed.ask(end).addresses == by_distance(own)


def test_what_a_chain_said_is_not_given(testbed: InternetTestbed, host: int) -> None:
    """What a chain said of a name is given with that chain alone: the name itself is asked for."""
    chained, own = [near(40, host), near(20, host)], [near(70, host), near(60, host)]
    end = testbed.everywhere("later", b.answers(*own))
    name = testbed.everywhere("leads", b.cname_chain([end], *chained))
    testbed.settled(name, chained)
    assert set(testbed.ask(end).addresses) == set(own)
    testbed.settled(end, own)
    testbed.settled(name, chained)


# Signed and big answers.


def test_signed_answer_is_ranked_and_not_merged(testbed: InternetTestbed, host: int) -> None:
    """With DO: one upstream's addresses with its signature, nearest first."""
    pool = _fifteen(host)
    signature = ("A 13 2 300 20400101000000 20200101000000 1 example. " + "QUJD" * 20,)
    shares = [pool[index::5] for index in range(5)]
    name = testbed.route(
        "signed",
        *(
            b.records(
                *((None, UPSTREAM_TTL, "A", text) for text in share),
                (None, UPSTREAM_TTL, "RRSIG", signature[0]),
                after=0.01,
            )
            for share in shares
        ),
    )
    testbed.ask(name, do=True)
    reply = eventually(lambda: testbed.ask(name, do=True), lambda reply: reply.ttl > SHORT)
    assert reply.types == ["A", "RRSIG"]
    assert reply.addresses in [by_distance(share) for share in shares]


def test_cut_answer_loses_the_farthest(testbed: InternetTestbed, host: int) -> None:
    """A pool too big for the client's size is cut at its far end, without TC."""
    pool = [near(5 + 6 * (index * 5 % 32), host) for index in range(32)]
    name = testbed.spread("big", pool)
    testbed.ask(name)
    order = testbed.settled(name, pool).addresses
    reply = testbed.ask(name)
    assert not reply.flag("TC")
    assert 25 <= len(reply.addresses) < 32
    assert reply.addresses == order[: len(reply.addresses)]


# Races.


def test_cancelled_sort_changes_nothing(testbed: InternetTestbed, host: int) -> None:
    """A sort that ends after the pool has grown takes nothing away again."""
    early = [near(150, host), near(140, host), near(130, host)]
    late = [near(30, host), near(60, host)]
    behaviours = [b.answers(*early, after=0.01)] * 2 + [b.answers(*late, after=0.35)] * 3
    before = testbed.idle().value("staggerdns_sorts_cancelled_total")
    name = testbed.route("grows", *behaviours)
    testbed.ask(name)
    whole = {*early, *late}
    # The sort of the first three takes three round trips, 450 ms; the pool grows before.
    eventually(lambda: set(testbed.ask(name).addresses), lambda got: got == whole, timeout=2)
    assert testbed.program.metrics().value("staggerdns_sorts_cancelled_total") == before + 1
    stays(lambda: set(testbed.ask(name).addresses), lambda got: got == whole, seconds=0.8)
    assert testbed.settled(name, whole).addresses[:2] == late


def test_refresh_is_visible_at_the_next_hit(testbed: InternetTestbed, host: int) -> None:
    """New addresses that a refresh brings are there at the next hit, though not yet sorted."""
    old = [near(150, host), near(140, host)]
    new = [near(250, host), near(210, host), near(230, host)]
    name = testbed.everywhere("moves", b.answers(*old, ttl=2))
    testbed.ask(name)
    testbed.idle()
    testbed.route("moves", b.answers(*new, after=0.02), name=name)
    time.sleep(2)
    stale = testbed.ask(name)
    assert set(stale.addresses) == set(old)
    assert stale.ttl <= SHORT
    asked = time.monotonic()
    eventually(lambda: set(testbed.ask(name).addresses), lambda got: got == set(new), timeout=2)
    assert time.monotonic() < asked + 0.7  # a sort takes 750 ms
    stays(lambda: set(testbed.ask(name).addresses), lambda got: got == set(new), seconds=0.5)
    testbed.settled(name, new)
    assert testbed.counts(name) == [2] * 5


def test_public_pool_of_documentation_addresses(testbed: InternetTestbed, world: World) -> None:
    """Pools that nobody routes here are probed like all others, through the default route."""
    name = testbed.route("plain", *(b.answers(*own_set(index)) for index in range(5)))
    testbed.ask(name)
    eventually(
        lambda: testbed.ask(name),
        lambda reply: set(reply.addresses) == all_sets(range(5)) and reply.ttl > SHORT,
    )
    assert set(world.probes(all_sets(range(5)))) == {
        ("icmp", address) for address in all_sets(range(5))
    }
