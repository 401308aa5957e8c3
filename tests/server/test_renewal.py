"""Ready replies whose second is over: the TTLs change, and nothing else is done again."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from staggerdns.journal import Journal
from staggerdns.server import factory as factory_module
from staggerdns.server.hosts import Hosts
from staggerdns.server.local import LocalNames
from staggerdns.settings.sections import CacheSettings, LocalSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.query import parse_query
from tests.kit.compiled import PURE_ONLY
from tests.kit.factory import FRIEND, MemoryServer, pool
from tests.kit.messages import ask, client_query, sections_answer, upstream_reply, wire_name

if TYPE_CHECKING:
    from pathlib import Path

SHORT = 5
"""Seconds of life that addresses must have to be given."""
SOA = "example.com. 60 SOA ns.example.com. host.example.com. 1 2 3 4 30"
RRSIG = (
    "www.example.com. 9 RRSIG A 13 3 9 20300101000000 20200101000000 1 example.com. "
    "ABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDABCDAA=="
)


class Counted:
    """How often a query has been parsed, which is done for replies that are made anew only."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.parsed = 0
        patch.setattr(factory_module, "parse_query", self._parse)

    def _parse(self, message: bytes) -> Any:
        self.parsed += 1
        return parse_query(message)


def serve(server: MemoryServer, query: bytes, transport: str = "udp") -> bytes:
    """Return the reply as a listener finds it: ready, renewed, or made anew."""
    now = server.clock.seconds()
    ready = server.factory.ready[transport].reply(query, FRIEND, now)
    reply = ready or server.factory.serve(query, FRIEND, transport, now)
    assert isinstance(reply, bytes)
    return reply


def test_the_ttl_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second later the reply has another TTL, is ready again, and is counted as a hit."""
    counted = Counted(monkeypatch)
    server = MemoryServer()
    server.commit(ask(), pool(3))
    hit = server.metrics.hit("udp", 1, 0)
    for second in range(4):
        assert {found.ttl for found in server.reply(client_query()).answer} == {300 - second}
        assert server.factory.ready["udp"].reply(client_query(), FRIEND, second) is not None
        server.clock.advance(1)
    assert counted.parsed == 1
    assert hit.value == 3 + 4
    assert server.metrics.answer_seconds.distribution("cache").count == 4


def test_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has taken the place of an entry has its reply made anew."""
    counted = Counted(monkeypatch)
    server = MemoryServer()
    server.commit(ask(), pool(3))
    server.reply(client_query())
    server.clock.advance(1)
    server.commit(ask(), pool(1, ttl=20))
    (found,) = server.reply(client_query()).answer
    assert (found.ttl, len(found), counted.parsed) == (20, 1, 2)


def test_longer_lives() -> None:
    """An address that was left out as it had little left is there again when it lives longer."""
    server = MemoryServer(cache=CacheSettings(fast_response_ttl=SHORT))
    addresses = pool(2).addresses
    lives = array("I", (300, SHORT)).tobytes()
    server.commit(ask(), AddressPool((), addresses, 300, ad=False, lives=lives, least=SHORT))
    counts = []
    for second in range(4):
        if second == 2:
            longer = AddressPool((), addresses, 300, ad=False)
            server.cache.prolong(ask().key, server.generation, longer)
        counts.append(len(server.reply(client_query()).answer[0]))
        server.clock.advance(1)
    assert counts == [2, 1, 2, 2]


def test_the_last_seconds() -> None:
    """Where one address alone had enough left, and later none has, all that live are given."""
    server = MemoryServer(cache=CacheSettings(fast_response_ttl=SHORT))
    lives = array("I", (3, 3, SHORT + 1)).tobytes()
    answer = AddressPool((), pool(3).addresses, SHORT + 1, ad=False, lives=lives, least=3)
    server.commit(ask(), answer)
    counts = []
    for _ in range(4):
        counts.append(len(server.reply(client_query()).answer[0]))
        server.clock.advance(1)
    assert counts == [1, 1, 3, 1]


def test_the_hosts_file(tmp_path: Path) -> None:
    """A name that is written into it is answered from it within a second of the look at it."""
    path = tmp_path / "hosts"
    path.touch()
    clock = Clock()
    hosts = Hosts(str(path), clock, Journal())
    server = MemoryServer(local=LocalNames(LocalSettings(), hosts))
    hosts.on_change(server.factory.forget_ready)
    server.commit(ask(), pool())
    for _ in range(3):
        assert server.reply(client_query()).answer[0][0].to_text() == "198.18.0.0"
        server.clock.advance(0.9)
    path.write_text("192.0.2.9 www.example.com\n")
    server.clock.advance(0.1)
    assert server.reply(client_query()).answer[0][0].to_text() == "192.0.2.9"
    path.unlink()
    server.clock.advance(1)
    assert server.reply(client_query()).answer[0][0].to_text() == "198.18.0.0"


WHOLE = (
    sections_answer(upstream_reply(ask(rdtype="A"), authority=[SOA], rcode=3), ask()),
    sections_answer(upstream_reply(ask(rdtype="A"), authority=[SOA]), ask()),
    sections_answer(
        upstream_reply(ask(do=True), ["www.example.com. 9 A 198.18.0.1", RRSIG]), ask(do=True)
    ),
)
"""Answers of one upstream: no such name, no addresses, and one that is signed."""


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Pools whose addresses die one by one, with chains and without."""
    count = draw(st.integers(1, 5))
    lives = draw(st.lists(st.integers(1, 40), min_size=count, max_size=count))
    chain = draw(st.sampled_from([(), ("a.example",), ("b.example", "c.example.net")]))
    return AddressPool(
        tuple(map(wire_name, chain)),
        pool(count).addresses,
        max(lives),
        draw(st.booleans()),
        lives=b"" if len(set(lives)) == 1 else array("I", lives).tobytes(),
        least=min(lives),
        cname_life=draw(st.integers(1, 40)),
    )


@PURE_ONLY
@given(
    answers=st.lists(answers() | st.sampled_from(WHOLE), min_size=1, max_size=3),
    settings=st.builds(
        CacheSettings,
        user_return_ttl=st.sampled_from([0, 7, 60]),
        fast_response_ttl=st.sampled_from([1, SHORT]),
        max_stale=st.sampled_from([0, 3600]),
    ),
    most_given=st.sampled_from([0, 1, 3]),
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 0.3, 0.7, 1, 1.5, 4]),
            st.sampled_from(["udp", "tcp", "tls"]),
            st.booleans(),
            st.integers(0, 9),
        ),
        min_size=2,
        max_size=20,
    ),
)
def test_as_made_anew(
    answers: list[Answer],
    settings: CacheSettings,
    most_given: int,
    steps: list[tuple[float, str, bool, int]],
) -> None:
    """Renewed replies are those that a server gives that has none ready."""
    servers = [MemoryServer(cache=settings, most_given=most_given) for _ in range(2)]
    left = list(answers)
    answer = answers[0]
    for seconds, transport, do, number in steps:
        if number == 0 or len(left) == len(answers):
            answer = left.pop() if left else answers[0]
            for server in servers:
                server.commit(ask(), answer)
        elif number == 1 and isinstance(answer, AddressPool):
            ttl = answer.ttl + 9
            longer = AddressPool(answer.cname_chain, answer.addresses, ttl, answer.ad)
            for server in servers:
                server.cache.prolong(ask().key, server.generation, longer)
        replies = []
        for server in servers:
            query = client_query(do=do)
            if server is servers[1]:
                server.factory.forget_ready()
            reply = server.factory.serve(query, FRIEND, transport, server.clock.seconds())
            replies.append(None if isinstance(reply, Deferred) else reply)
        assert replies[0] == replies[1]
        refreshed = [[one.key for one in server.forwarder.refreshed] for server in servers]
        assert refreshed[0] == refreshed[1]
        for server in servers:
            server.clock.advance(seconds)


def test_the_demand() -> None:
    """A reply that is made anew is asked for; one that is ready and sent once more is not."""
    server = MemoryServer()
    entry = server.commit(ask(), pool(3))
    demands = []
    for _ in range(3):
        for _ in range(5):
            serve(server, client_query())
        demands.append(entry.demand)
        server.clock.advance(1)
    assert demands == [1, 2, 3]
