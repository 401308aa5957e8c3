"""Probing as the system and the configuration allow it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.internet.hosts import Kind, near, near6, special
from tests.kit.internet.testbed import SHORT, UPSTREAM_TTL, check_order, listed
from tests.kit.program import CLEAN
from tests.kit.testbed import most_in_window

if TYPE_CHECKING:
    from tests.internet.conftest import BuildTestbed
    from tests.kit.internet.testbed import InternetTestbed
    from tests.kit.internet.world import World

_PING_GROUPS = Path("/proc/sys/net/ipv4/ping_group_range")
_NO_RAW_SOCKETS = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")


def _ranks_both_families(testbed: InternetTestbed, host: int) -> tuple[list[str], list[str]]:
    """Have a name of both families ranked; its addresses."""
    pool = [near(50, host), near(20, host), near(80, host)]
    pool_6 = [near6(70, host), near6(30, host), near6(100, host)]
    testbed.ask(name := testbed.everywhere("both", b.answers(*pool, *pool_6)))
    testbed.ask(name, "AAAA")
    testbed.settled(name, pool)
    testbed.settled(name, pool_6, "AAAA")
    return pool, pool_6


def _complaints(testbed: InternetTestbed) -> list[str]:
    return [line for line in testbed.program.log.splitlines() if re.search(r"no ICMP|ICMPv6", line)]


def test_icmp_alone(build: BuildTestbed, world: World, host: int) -> None:
    """With icmp alone, nothing is probed over TCP, and who answers no echo is last."""
    testbed = build({"ranking": {"probes": ["icmp"]}}, upstreams=1)
    start = len(world.log())
    _ranks_both_families(testbed, host)
    pool = [near(120, host), near(90, host), special(Kind.TCP_ONLY, 10, host % 16)]
    testbed.ask(name := testbed.everywhere("mixed", b.answers(*pool)))
    testbed.ranked(name, [pool[1], pool[0], pool[2]])
    assert {probe.method for probe in world.log(start)} == {"icmp"}


def test_tcp_alone(build: BuildTestbed, world: World, host: int) -> None:
    """With one TCP port alone, no echo is sent; open and refused both count."""
    testbed = build({"ranking": {"probes": ["tcp:80"]}}, upstreams=1)
    start = len(world.log())
    _ranks_both_families(testbed, host)
    pool = [
        near(90, host),
        special(Kind.REFUSING, 60, host % 16),
        special(Kind.ICMP_ONLY, 10, host % 16),
    ]
    testbed.ask(name := testbed.everywhere("mixed", b.answers(*pool)))
    testbed.ranked(name, [pool[1], pool[0], pool[2]])
    assert {probe.method.removesuffix(" again") for probe in world.log(start)} == {"tcp:80"}
    assert testbed.program.metrics().value("staggerdns_probes_total", method="icmp") == 0
    assert not _complaints(testbed)


def test_dropped_privileges(build: BuildTestbed, host: int) -> None:
    """Under `twistd --uid nobody` echoes work: the sockets are opened before."""
    testbed = build(upstreams=1, options=("--uid", "nobody", "--gid", "nogroup"))
    status = Path(f"/proc/{testbed.program.process.pid}/status").read_text()
    uids = re.findall(r"^Uid:\s+(.*)$", status, re.MULTILINE)[0].split()
    assert "0" not in uids
    pools = _ranks_both_families(testbed, host)
    for pool in pools:
        testbed.probed_once(pool)
    assert not _complaints(testbed)


def test_without_raw_sockets(build: BuildTestbed, world: World, host: int) -> None:
    """Without CAP_NET_RAW and ping sockets, TCP takes over, and one line of the log says so."""
    assert _PING_GROUPS.read_text().split() == ["1", "0"]
    testbed = build(upstreams=1, prefix=_NO_RAW_SOCKETS)
    pools = _ranks_both_families(testbed, host)
    for pool in pools:
        assert {method for method, _ in world.probes(pool)} == {"tcp:443"}
    assert len(_complaints(testbed)) == 1
    assert testbed.program.metrics().value("staggerdns_probes_total", method="icmp") == 0


def test_ping_sockets(build: BuildTestbed, host: int) -> None:
    """Without CAP_NET_RAW, ping sockets send the echoes where the system allows them."""
    _PING_GROUPS.write_text("0 2147483647")
    try:
        testbed = build(upstreams=1, prefix=_NO_RAW_SOCKETS)
        pools = _ranks_both_families(testbed, host)
        for pool in pools:
            testbed.probed_once(pool)
        forged, plain = special(Kind.FORGED, 60, host % 16), near(40, host)
        last = special(Kind.FORGED_ONLY, 10, host % 16)
        testbed.ask(name := testbed.everywhere("forged", b.answers(forged, plain, last)))
        testbed.ranked(name, [plain, forged, last])
        assert not _complaints(testbed)
    finally:
        _PING_GROUPS.write_text("1 0")


def test_probe_private(build: BuildTestbed, world: World, host: int) -> None:
    """With probe_private, private addresses are ranked like others."""
    testbed = build({"ranking": {"probe_private": True}}, upstreams=1)
    start = len(world.log())
    hidden = ["10.1.80.3", "192.168.20.4", "172.16.50.5"]
    testbed.ask(name := testbed.everywhere("private", listed(*hidden)))
    testbed.ranked(name, ["192.168.20.4", "172.16.50.5", "10.1.80.3"])
    testbed.probed_once(hidden)
    hidden_6 = ["fe80:0:0:78::7", f"fd00:0:0:50::{host:x}", f"fd00:0:0:14::{host:x}"]
    testbed.ask(name := testbed.everywhere("private6", listed(*hidden_6)), "AAAA")
    testbed.ranked(name, hidden_6[::-1], "AAAA")
    # These are nobody's address.
    nobody = ["0.0.0.0", "224.0.0.1", "255.255.255.255"]
    testbed.ask(name := testbed.everywhere("nobody", listed(*nobody)))
    testbed.idle()
    assert testbed.ask(name).addresses == nobody
    probed = {probe.address for probe in world.log(start)}
    assert probed == {*hidden, *hidden_6}


def test_ranking_off(build: BuildTestbed, world: World, host: int) -> None:
    """Without ranking: not one probe, real TTLs, and no refresh for a hit."""
    start = len(world.log())
    testbed = build({"ranking": {"enabled": False}})
    pool = [near(10 + index, host) for index in range(15)]
    testbed.ask(name := testbed.spread("off", pool))
    reply = testbed.program.pool(name, set(pool))
    testbed.idle()
    for _ in range(30):
        reply = testbed.ask(name, payload=1232)
        assert UPSTREAM_TTL - 5 < reply.ttl <= UPSTREAM_TTL
        assert set(reply.addresses) == set(pool)
    assert testbed.counts(name) == [1] * 5
    assert len(world.log()) == start
    assert not testbed.program.metrics().value("staggerdns_sorts_total")


def test_budget(build: BuildTestbed, world: World, host: int) -> None:
    """No second sees more probes than the rate and its burst, silent addresses included.

    The burst is half a second's worth; a third more is what a busy machine makes of it.
    """
    rate = 40
    testbed = build({"ranking": {"max_probes_per_second": rate, "timeout": "1s"}}, upstreams=1)
    names = []
    pool = []
    for number in range(9):
        own = [near(20 + 15 * number, host), near(100 + 10 * number, host)]
        own.append(special(Kind.SILENT, number, host % 16))
        pool += own
        names.append(testbed.everywhere("budget", b.answers(*own)))
    start = len(world.log())
    testbed.at_once(names)
    testbed.idle(20)
    probes = [probe for probe in world.log(start) if not probe.method.endswith("again")]
    assert len(probes) > 2 * rate
    assert most_in_window([probe.at for probe in probes], 1) <= 1.33 * (rate + rate / 2)


def test_small_budget_ends_in_order(build: BuildTestbed, host: int) -> None:
    """With few probes a second a pool takes longer, and is in the right order in the end."""
    testbed = build({"ranking": {"max_probes_per_second": 20}})
    pool = [near(12 + 8 * (index * 7 % 15), host) for index in range(15)]
    testbed.ask(name := testbed.spread("poor", pool))
    reply = eventually(
        lambda: testbed.ask(name, payload=1232),
        lambda reply: len(reply.addresses) == 15 and reply.ttl > SHORT,
        timeout=10,
    )
    check_order(reply.addresses, pool)


def test_stop_in_mid_sort(build: BuildTestbed, host: int) -> None:
    """A stop with sorts and probes under way is quick and clean."""
    testbed = build(upstreams=1)
    pool = [special(Kind.SILENT, 100 + index, host % 16) for index in range(20)]
    testbed.ask(testbed.everywhere("stop", b.answers(*pool)))
    assert testbed.program.metrics().value("staggerdns_sorts_running") == 1
    status, seconds = testbed.program.terminate()
    assert status in CLEAN
    assert seconds < 5


def test_metrics_of_probes(testbed: InternetTestbed, host: int) -> None:
    """Probes, losses and round-trip times are counted by method; nothing is left measuring."""
    before = testbed.idle()
    pool = [near(50, host), special(Kind.TCP_ONLY, 30, host % 16)]
    pool.append(special(Kind.SILENT, 200, host % 16))
    testbed.ask(name := testbed.everywhere("metrics", b.answers(*pool)))
    testbed.ranked(name, [pool[1], pool[0], pool[2]])
    after = testbed.idle()

    def gain(name: str, method: str) -> float:
        name = f"staggerdns_{name}"
        return after.value(name, method=method) - before.value(name, method=method)

    # Three addresses, two of which answer no echo; one of these answers over TCP, and is nearest.
    assert 5 <= gain("probes_total", "icmp") <= 9
    assert 1 <= gain("probe_rtt_seconds_count", "icmp") <= 3
    assert gain("probe_losses_total", "icmp") >= 3
    assert gain("probe_rtt_seconds_count", "tcp:443") == 3
    assert gain("probes_total", "tcp:443") == 4
    echoes = gain("probe_rtt_seconds_count", "icmp")
    assert 0.05 <= gain("probe_rtt_seconds_sum", "icmp") / echoes < 0.3
    assert gain("probe_rtt_seconds_count", "tcp:80") == 0
    assert after.value("staggerdns_rtt_addresses") >= before.value("staggerdns_rtt_addresses") + 3
