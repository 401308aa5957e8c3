"""What is made for a query is freed with its last reference: nothing is left for the cyclic
collector, which looks rarely (`staggerdns.process`) and would take its time from every name.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from staggerdns.upstream.reason import Reason
from staggerdns.wire.question import Question
from tests.kit.acts import (
    NOERROR,
    SILENT,
    TXT,
    Act,
    fails,
    garbles,
    gives,
    negative,
    reply,
    says,
    says_own,
    unreachable,
)
from tests.kit.factory import make_factory
from tests.kit.messages import client_query
from tests.kit.simulated import SimulatedResolver

NAMES = 8
STRATEGIES = ("parallel", "racing", "sequential", "random", "auto")
UPSTREAMS: dict[str, Sequence[Act]] = {
    "answers": [says_own(index, 20 + 40 * index) for index in range(5)],
    "the same answer": [says(20, "203.0.113.1")] * 5,
    "aliases": [says(20, "203.0.113.1", cname_chain=("a.example", "b.example"))] * 5,
    "answers of any type": [gives(20, TXT, b"\5hello")] * 5,
    "NXDOMAIN": [negative(20)] * 5,
    "NODATA": [negative(20, NOERROR)] * 5,
    "SERVFAIL": [fails(20)] * 5,
    "refusals": [fails(20, 5)] * 5,
    "errors": [unreachable(1)] * 5,
    "no route": [unreachable(None, Reason.UNREACHABLE)] * 5,
    "rubbish": [garbles(20)] * 5,
    "silence": [SILENT] * 5,
    "some of all": [SILENT, fails(5), unreachable(1), negative(30), says_own(4, 50)],
}


def left_by(resolver: SimulatedResolver, wires: Sequence[bytes], transport: str) -> Counter[str]:
    """Ask all this at once, and again when it is known: what the collector finds, by type."""
    factory = make_factory(resolver.cache, resolver.forwarder, resolver.clock, resolver.metrics)
    replies: list[bytes | None] = []

    def serve() -> None:
        for wire in wires:
            found = factory.serve(wire, "127.0.0.1", transport, 0.0)
            if isinstance(found, Deferred):
                found.addCallback(replies.append)
            else:
                replies.append(found)
        resolver.run()

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        serve()
        serve()
        gc.collect()
        left = Counter(type(one).__qualname__ for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert len(replies) == 2 * len(wires)
    return left


def queries(label: str) -> list[bytes]:
    """Queries for names that nobody has asked for: plain, with EDNS, with DO, of another type."""
    kinds: list[dict[str, Any]] = [{}, {"payload": 1232}, {"do": True}, {"rdtype": "TXT"}]
    return [
        client_query(f"{label}{number}.example.", **kind)
        for number in range(NAMES)
        for kind in kinds
    ]


@pytest.mark.parametrize(
    ("strategy", "transport"), [("parallel", "tcp"), *((name, "udp") for name in STRATEGIES)]
)
@pytest.mark.parametrize("acts", UPSTREAMS.values(), ids=UPSTREAMS)
def test_nothing_is_left(acts: Sequence[Act], strategy: str, transport: str) -> None:
    """Names that are found, or are not, and those that are known leave nothing behind."""
    resolver = SimulatedResolver(*acts, strategy=strategy)
    left_by(resolver, queries("warm"), transport)  # what is made once may stay
    assert left_by(resolver, queries("n"), transport) == {}


class Cycle:
    """A cycle, as it comes about when two that hold each other are let go."""

    def __init__(self) -> None:
        self.self = self


def test_what_is_left_is_seen() -> None:
    """A cycle for each name is found."""

    def ties(asked: Question) -> bytes:
        Cycle()
        return reply(asked)

    assert left_by(SimulatedResolver(Act(20, ties)), queries("n"), "udp")["Cycle"] >= NAMES
