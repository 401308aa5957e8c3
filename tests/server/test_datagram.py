"""The UDP listener: what it reads at a wake-up, and in which order it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from twisted.internet.testing import MemoryReactor

from staggerdns.server.datagram import BATCH, DatagramPort
from staggerdns.settings.sections import RateLimitSettings
from tests.kit.clients import parse
from tests.kit.factory import FRIEND, MemoryServer, pool
from tests.kit.messages import ask, client_query

OTHER = "192.0.2.78"


class Wire:
    """A socket with datagrams to read, that keeps what is sent."""

    def __init__(self, datagrams: Sequence[tuple[bytes, str]]) -> None:
        self.waiting = [(message, (host, 53)) for message, host in datagrams]
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.error: OSError | None = None

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """Give the next datagram, as a socket that does not block."""
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.pop(0)

    def sendto(self, message: bytes, address: tuple[str, int]) -> None:
        """Note a datagram, or fail."""
        if self.error is not None:
            raise self.error
        self.sent.append((message, address))

    @property
    def ids(self) -> list[int]:
        """The IDs of what was sent, in its order."""
        return [parse(message).id for message, _ in self.sent]


class Listener:
    """A port of a server; ``reads`` is one wake-up."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.port = DatagramPort(0, "127.0.0.1", cast("Any", MemoryReactor()), server.factory)

    def reads(self, *datagrams: tuple[bytes, str]) -> Wire:
        """Read these datagrams at one wake-up; what has come of it."""
        wire = Wire(datagrams)
        self.port.socket = cast("Any", wire)
        self.port.doRead()
        return wire


@pytest.fixture
def listener() -> Listener:
    """A listener whose first answer is ready."""
    made = Listener(MemoryServer())
    made.server.commit(ask(), pool())
    made.reads((client_query(id=1), FRIEND))
    assert len(made.server.factory.ready["udp"]) == 1
    return made


def test_ready_replies_leave_first(listener: Listener) -> None:
    """What is ready waits for nothing that came before it; the others keep their order."""
    listener.server.commit(ask("new.example."), pool())
    new = client_query("new.example.", id=2), FRIEND
    known = client_query(id=3), FRIEND
    broken = client_query(id=4)[:-1], FRIEND
    wire = listener.reads(new, broken, known, new, known)
    assert wire.ids == [3, 3, 2, 4, 2]


def test_a_batch(listener: Listener) -> None:
    """So many datagrams are read at one wake-up, the next one at the next."""
    wire = listener.reads(*[(client_query(id=5), FRIEND)] * (BATCH + 1))
    assert len(wire.sent) == BATCH
    assert len(wire.waiting) == 1


def test_the_long_way(listener: Listener) -> None:
    """What has no answer yet is sent to who asked for it when it has."""
    wire = listener.reads((client_query("later.example.", id=6), OTHER))
    assert wire.sent == []
    listener.server.forwarder.waiting[0].callback(listener.server.entry(pool()))
    ((message, address),) = wire.sent
    assert parse(message).id == 6
    assert address == (OTHER, 53)


def test_nobody_takes_the_reply(listener: Listener) -> None:
    """A reply that the system does not take is counted, ready or not, and the next ones go on."""
    wire = Wire([(client_query(id=7), FRIEND), (client_query("AnY.example.", "ANY"), FRIEND)])
    wire.error = OSError("no buffers")
    listener.port.socket = cast("Any", wire)
    listener.port.doRead()
    assert listener.server.metrics.send_errors.cell("udp").value == 2
    assert listener.reads((client_query(id=8), FRIEND)).ids == [8]


def test_beyond_the_limit() -> None:
    """Of a client's queries in one batch those beyond its limit are sent to TCP, ready or not."""
    made = Listener(MemoryServer(rate=RateLimitSettings(queries_per_second=1, burst=3)))
    made.server.commit(ask(), pool())
    queries = [(client_query(id=number), FRIEND) for number in range(5)]
    wire = made.reads(*queries, (client_query(id=9), OTHER))
    answers = {parse(message).id: len(parse(message).answer) for message, _ in wire.sent}
    assert answers == {0: 1, 1: 1, 2: 1, 3: 0, 4: 0, 9: 1}
    made.server.clock.advance(10)
    assert [len(parse(message).answer) for message, _ in made.reads(*queries[:3]).sent] == [1] * 3


@pytest.mark.parametrize("slip", [0, 1, 2])
def test_what_a_victim_gets(slip: int) -> None:
    """A flood in somebody's name, for the largest reply, brings upon him no more octets than it
    costs, a burst and the rate aside.
    """
    made = Listener(
        MemoryServer(rate=RateLimitSettings(queries_per_second=10, burst=10, slip=slip))
    )
    made.server.commit(ask(), pool(500))
    query = client_query(payload=4096)
    sent = received = 0
    for _ in range(100):
        wire = made.reads(*[(query, OTHER)] * 100)
        sent += 100 * len(query)
        received += sum(len(message) for message, _ in wire.sent)
        made.server.clock.advance(0.1)
    assert received <= sent * (1 / slip if slip else 0) + (10 + 100) * 1232
