"""The soak: what it calls flat, what its upstreams and clients say, and one round of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.name
import dns.rcode
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

import bench
from bench.soak import wire
from bench.soak.clients import SoakClients
from bench.soak.readings import SLACK, Reading, read, verdicts
from bench.soak.upstreams import KINDS

ROOT = Path(bench.__path__[0]).parent
REST = Reading(memory=60_000_000, descriptors=60, delayed_calls=1, deferreds=1)


def growing(what: str, step: int) -> list[Reading]:
    """Twelve readings of which one quantity grows by ``step`` from each to the next."""
    return [replace(REST, **{what: getattr(REST, what) + step * n}) for n in range(12)]


def flat(readings: list[Reading]) -> dict[str, bool]:
    """Which quantities are flat."""
    return {what: good for what, _, _, good in verdicts(readings)}


@pytest.mark.parametrize(
    ("what", "step"),
    [("memory", 1_000_000), ("descriptors", 3), ("delayed_calls", 1), ("deferreds", 3)],
)
def test_what_grows_is_seen(what: str, step: int) -> None:
    """A leak in every round is called so, whatever leaks, and nothing else is."""
    found = flat(growing(what, step))
    assert [name for name, good in found.items() if not good] == [what]


def test_the_limits_of_flat() -> None:
    """What grows by no more than its slack from one third to the next is flat."""
    for what, (share, more) in SLACK.items():
        most = int(getattr(REST, what) * share + more)
        for extra, good in ((0, True), (1, False)):
            last = replace(REST, **{what: getattr(REST, what) + most + extra})
            assert flat([REST] * 8 + [last] * 4)[what] is good


def test_the_warm_up_does_not_count() -> None:
    """What comes into being in the first third and stays is no leak."""
    cold = Reading(memory=1, descriptors=1, delayed_calls=0, deferreds=0)
    assert all(flat([cold] * 4 + [REST] * 8).values())


def test_a_reading_sees_what_is_there() -> None:
    """Delayed calls and Deferreds that nobody has forgotten are counted."""
    clock = Clock()
    before = read(clock)
    held = [Deferred[None]() for _ in range(5)]
    clock.callLater(1, held[0].callback, None)
    with Path(__file__).open(encoding="utf-8"):
        after = read(clock)
    assert after.deferreds == before.deferreds + 5
    assert after.delayed_calls == 1
    assert after.descriptors == before.descriptors + 1
    assert before.memory > 1_000_000
    clock.advance(1)


@pytest.mark.parametrize("name", ["www1.soak.test", "nx22.soak.test", "ali333.soak.test"])
@pytest.mark.parametrize("rtype", [wire.A, wire.AAAA, wire.TXT, 15])
@pytest.mark.parametrize("edns", [False, True])
def test_messages(name: str, rtype: int, edns: bool) -> None:
    """Queries and replies are what dnspython takes for DNS, and belong together."""
    query = dns.message.from_wire(raw := wire.query(name, rtype, 7, edns=edns))
    assert query.edns == (0 if edns else -1)
    reply = dns.message.from_wire(wire.reply(raw, 2))
    assert query.is_response(reply)
    positive = rtype != 15 and not name.startswith("nx")
    assert bool(reply.answer) == positive
    assert bool(reply.authority) != positive
    assert (reply.rcode() == dns.rcode.NXDOMAIN) == name.startswith("nx")
    if positive and name.startswith("ali"):
        assert str(reply.answer[0][0].target) == "end.soak.test."
        assert str(reply.answer[1].name) == "end.soak.test."
    assert wire.rcode(wire.reply(raw, 2, wire.SERVFAIL)) == wire.SERVFAIL
    assert dns.message.from_wire(wire.reply(raw, 2, truncated=True)).flags & 0x0200


def test_upstreams_come_and_go() -> None:
    """Each kind of upstream that flaps has good and bad times, and different words for them."""
    now = [0.0]
    query = wire.query("www1.soak.test", wire.A, 256, edns=True)
    for number, (kind, delay) in enumerate(KINDS):
        upstream = kind(number, delay, lambda: now[0])
        seen, times = set(), set()
        for second in range(60):
            now[0] = second
            times.add(upstream.good())
            seen.add((str(upstream.over_udp(query)), upstream.over_tcp(query)))
        assert times == {True, False}
        assert len(seen) == (2 if kind.__name__ in ("Silent", "Failing", "Truncating") else 1)


def test_clients_count_what_is_lost() -> None:
    """A reply counts once, by its code; what nobody answers is lost after a while."""

    async def scene() -> dict[str, int]:
        clients = SoakClients(("127.0.0.1", 9))
        clients._waiting = {1: 10.0, 2: 10.0, 3: 11.0, 4: 11.0}
        query = wire.query("www1.soak.test", wire.A, 1, edns=True)
        for _ in range(2):
            clients.received(wire.reply(query, 1))
        clients.received(b"\0\2" + wire.reply(query, 1, wire.SERVFAIL)[2:])
        clients._give_up(10.9)
        assert clients.counts.lost == 0
        clients._give_up(11.5)
        return clients.counts.as_dict()

    assert asyncio.run(scene()) == {"asked": 0, "good": 1, "errors": 1, "lost": 2}


@pytest.mark.live
def test_the_world_obeys() -> None:
    """The other process answers each order with what its clients have seen."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.soak.world", "127.0.0.1:9"]
        + [f"127.0.0.{41 + number}:0" for number in range(len(KINDS))],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate("rest\nend\n", timeout=20)
    assert [json.loads(line) for line in out.splitlines()] == [
        {"asked": 0, "good": 0, "errors": 0, "lost": 0}
    ] * 2
    assert process.returncode == 0


@pytest.mark.long
@pytest.mark.live
@pytest.mark.slow
def test_a_soak_of_seconds() -> None:
    """It runs, reads, judges and ends; seconds are too few for a verdict on memory."""
    done = subprocess.run(
        [sys.executable, "-c", "from bench.soak import __main__ as m; m.ROUNDS = 3; m.main()", "6"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 1)
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 3 + len(SLACK) + 1, done.stdout
    verdict = {line.split()[0]: line.split()[-1] for line in lines[4:]}
    assert {what: said for what, said in verdict.items() if what != "memory"} == {
        "descriptors": "flat",
        "delayed_calls": "flat",
        "deferreds": "flat",
        "clients:": "served",
    }
