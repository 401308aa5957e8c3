"""When a UDP socket to an upstream is given up for a new one: faults, age, liars, timeouts."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock

from staggerdns.upstream import datagram
from staggerdns.upstream.datagram import LIFETIME, MAX_REJECTED
from staggerdns.upstream.reason import Reason
from staggerdns.wire.verdict import Verdict
from tests.kit import behaviours as b
from tests.kit.loopback import addresses, loopback_upstream, no_connections, until
from tests.kit.scripted import ScriptedUpstream, Send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kit.scripted import Action, Behaviour, Query

GOOD = b.answers("203.0.113.1")
DEAD = [errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN]
OUR_OWN = [errno.EPERM, errno.ENOBUFS, errno.ENOMEM]


@pytest.fixture(autouse=True)
def one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every query take the same socket, so that a new port means a new socket."""
    monkeypatch.setattr(datagram, "SOCKETS", 1)


@pytest.fixture
def server() -> Iterator[ScriptedUpstream]:
    """A server that answers; tests change its behaviour."""
    with ScriptedUpstream(GOOD) as running:
        yield running


class Faults:
    """The `socket` module for `datagram`: its sockets send, unless a fault is due."""

    def __init__(self) -> None:
        self.due: list[int] = []
        """Numbers of the errors that the next sends raise."""
        self.opening: list[int] = []
        """Numbers of the errors that the next sockets to be made raise."""
        self.sends: list[Any] = []
        """The socket of every send, whether it worked or not."""

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socket(self, family: int, kind: int) -> socket.socket:
        """Make a socket."""
        if self.opening:
            number = self.opening.pop(0)
            raise OSError(number, os.strerror(number))
        faults = self

        class Faulty(socket.socket):
            def send(self, data: Any, flags: int = 0) -> int:
                faults.sends.append(self)
                if faults.due:
                    number = faults.due.pop(0)
                    raise OSError(number, os.strerror(number))
                return super().send(data, flags)

        return Faulty(family, kind)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Put faulty sockets under the transport."""
    made = Faults()
    monkeypatch.setattr(datagram, "socket", made)
    return made


def ports(server: ScriptedUpstream) -> list[int]:
    """The source port of each query that arrived."""
    return [query.source.port for query in server.queries]


@pytest.mark.parametrize("number", DEAD + OUR_OWN)
@pytest_twisted.ensureDeferred
async def test_a_socket_that_does_not_send_is_replaced(
    server: ScriptedUpstream, faults: Faults, number: int
) -> None:
    """An address that changed under us costs nobody an answer: the query goes out anew, once."""
    with loopback_upstream(server.endpoint) as asked:
        await asked.ask()
        faults.due = [number]
        assert (await asked.ask()).verdict == Verdict.POSITIVE
        assert asked.marks == 0
        assert asked.readers == 1
        old, failed, new = faults.sends
        assert old is failed
        assert old.fileno() == -1, "the dead socket is closed"
        await asked.ask()
        assert faults.sends[3] is new
    first, second, third = ports(server)
    assert first != second == third


@pytest.mark.parametrize(
    ("number", "reason", "marks"),
    [(number, Reason.UNREACHABLE, 1) for number in DEAD]
    + [(number, Reason.LOCAL, 0) for number in OUR_OWN],
)
@pytest_twisted.ensureDeferred
async def test_two_sockets_that_do_not_send(
    server: ScriptedUpstream, faults: Faults, number: int, reason: Reason, marks: int
) -> None:
    """When the new socket does not send either the query has failed, before `ask` returns."""
    with loopback_upstream(server.endpoint) as asked:
        faults.due = [number] * 2
        exchange = asked.start()
        assert exchange.over
        outcome = await exchange.deferred()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, reason)
        assert asked.marks == marks
        assert len(faults.sends) == 2
        assert faults.sends[0] is not faults.sends[1]
        assert asked.readers <= 1
        assert (await asked.ask()).verdict == Verdict.POSITIVE
        assert asked.upstream.inflight == 0


@pytest_twisted.ensureDeferred
async def test_a_full_buffer_is_not_the_socket_s_fault(
    server: ScriptedUpstream, faults: Faults
) -> None:
    """EAGAIN fails the query without a mark; the socket is kept and not tried twice."""
    with loopback_upstream(server.endpoint) as asked:
        await asked.ask()
        faults.due = [errno.EAGAIN]
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.LOCAL)
        assert asked.marks == 0
        await asked.ask()
        assert len(faults.sends) == 3
        assert len(set(map(id, faults.sends))) == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@pytest_twisted.ensureDeferred
async def test_no_socket_to_be_had(server: ScriptedUpstream, faults: Faults, number: int) -> None:
    """Without a file descriptor for it a query fails, without a mark; the next one works."""
    with loopback_upstream(server.endpoint) as asked:
        faults.opening = [number] * 2
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.LOCAL)
        assert asked.marks == 0
        assert asked.readers == 0
        assert asked.metrics.upstream_local_errors.cell(asked.upstream.name).value == 1
        assert (await asked.ask()).verdict == Verdict.POSITIVE
        assert asked.metrics.upstream_local_errors.cell(asked.upstream.name).value == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENETUNREACH])
@pytest_twisted.ensureDeferred
async def test_the_sockets_that_are_open_must_do(
    server: ScriptedUpstream, faults: Faults, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where no more sockets can be opened for lack of descriptors those that are open are used."""
    monkeypatch.setattr(datagram, "SOCKETS", 8)
    with loopback_upstream(server.endpoint) as asked:
        await asked.ask()
        faults.opening = [number] * 1000
        verdicts = [(await asked.ask()).verdict for _ in range(40)]
        faults.opening = []
        await gatherResults([asked.start().deferred() for _ in range(40)])
        assert asked.readers > 1, "it goes on as before"
    good = verdicts.count(Verdict.POSITIVE)
    assert good < 40 if number == errno.ENETUNREACH else good == 40


@pytest_twisted.ensureDeferred
async def test_what_waits_on_a_dead_socket_may_still_come(
    server: ScriptedUpstream, faults: Faults
) -> None:
    """A replaced socket is kept while a query waits on it, and takes that one's reply."""
    server.behaviour = b.in_turn(b.answers("203.0.113.9", after=0.1), GOOD)
    with loopback_upstream(server.endpoint) as asked:
        waiting = asked.start()
        faults.due = [errno.EINVAL]
        assert (await asked.ask()).verdict == Verdict.POSITIVE
        assert asked.readers == 2
        assert (await waiting.deferred()).verdict == Verdict.POSITIVE
        await until(lambda: asked.readers == 1)


@pytest.mark.parametrize("idle", [0.0, LIFETIME - 0.001])
@pytest_twisted.ensureDeferred
async def test_a_socket_up_to_its_age(server: ScriptedUpstream, idle: float) -> None:
    """Up to `LIFETIME` after it was opened a socket is used, however seldom."""
    clock = Clock()
    clock.advance(1000)
    with loopback_upstream(server.endpoint, clock=clock) as asked:
        await asked.ask()
        clock.advance(idle)
        await asked.ask()
    assert len(set(ports(server))) == 1


@pytest.mark.parametrize("idle", [LIFETIME, 3600.0])
@pytest_twisted.ensureDeferred
async def test_a_socket_past_its_age(server: ScriptedUpstream, idle: float) -> None:
    """From `LIFETIME` on the next query goes out from another port, and the old one is closed."""
    assert LIFETIME == 60
    clock = Clock()
    clock.advance(1000)
    with loopback_upstream(server.endpoint, clock=clock) as asked:
        await asked.ask()
        clock.advance(idle / 2)
        await asked.ask()  # use does not make it younger
        clock.advance(idle / 2)
        await asked.ask()
        assert asked.readers == 1
        clock.advance(LIFETIME - 0.001)  # the new one has its own age
        await asked.ask()
    first, second, third, fourth = ports(server)
    if idle == LIFETIME:
        assert first == second
    assert second != third == fourth


def lied_to(lie: Callable[[Behaviour], Behaviour], count: int) -> Behaviour:
    """Answer well behind ``count`` replies that are none."""
    poison = lie(b.answers("203.0.113.66"))

    def behave(query: Query) -> list[Action]:
        return [action for _ in range(count) for action in poison(query)] + list(GOOD(query))

    return behave


@pytest.mark.parametrize("count", [1, MAX_REJECTED - 1])
@pytest_twisted.ensureDeferred
async def test_a_few_guesses_at_the_id(server: ScriptedUpstream, count: int) -> None:
    """Fewer than `MAX_REJECTED` wrong IDs on a socket change nothing."""
    server.behaviour = lied_to(b.wrong_id, count)
    with loopback_upstream(server.endpoint) as asked:
        await asked.ask()
        server.behaviour = GOOD
        await asked.ask()
        assert asked.rejected() == {"id": count}
        assert asked.readers == 1
    first, second = ports(server)
    assert first == second


@pytest.mark.parametrize("count", [MAX_REJECTED, MAX_REJECTED + 1, 40])
@pytest_twisted.ensureDeferred
async def test_guesses_at_the_id(server: ScriptedUpstream, count: int) -> None:
    """From `MAX_REJECTED` wrong IDs on the query goes over TCP, and later ones by another port."""
    server.behaviour = b.by_transport(lied_to(b.wrong_id, count), GOOD)
    with loopback_upstream(server.endpoint) as asked:
        assert addresses(await asked.ask()) == ["203.0.113.1"]
        await until(lambda: asked.rejected() == {"id": count, "late": 1})
        assert asked.metrics.upstream_repeated.cell(asked.upstream.name, "flood").value == 1
        server.behaviour = GOOD
        await asked.ask()
        assert asked.readers == 1
    await no_connections()
    assert [query.transport for query in server.queries] == ["udp", "tcp", "udp"]
    udp = [query.source.port for query in server.queries if query.transport == "udp"]
    assert len(set(udp)) == 2


@pytest_twisted.ensureDeferred
async def test_late_replies_are_no_guesses(server: ScriptedUpstream) -> None:
    """What comes after we have given up is late, however much of it: nothing changes."""
    server.behaviour = b.answers("203.0.113.1", after=0.05)
    with loopback_upstream(server.endpoint) as asked:
        for _ in range(3 * MAX_REJECTED):
            asked.start().cancel()
        server.behaviour = b.answers("203.0.113.1", after=0.2)
        assert addresses(await asked.ask()) == ["203.0.113.1"]
        assert asked.rejected() == {"late": 3 * MAX_REJECTED}
    assert {query.transport for query in server.queries} == {"udp"}


@pytest_twisted.ensureDeferred
async def test_guesses_add_up(server: ScriptedUpstream) -> None:
    """Wrong IDs count over the socket's life, not per query; a new socket begins at nothing."""
    server.behaviour = b.by_transport(lied_to(b.wrong_id, MAX_REJECTED // 2), GOOD)
    with loopback_upstream(server.endpoint) as asked:
        for _ in range(6):
            await asked.ask()
    await no_connections()
    assert [query.transport for query in server.queries] == ["udp", "udp", "tcp"] * 3
    seen = [query.source.port for query in server.queries if query.transport == "udp"]
    assert [len(set(seen[start : start + 2])) for start in (0, 2, 4)] == [1, 1, 1]
    assert len(set(seen)) == 3


@pytest_twisted.ensureDeferred
async def test_a_timeout_costs_the_socket(server: ScriptedUpstream) -> None:
    """After a query timed out the next one leaves from another port: the path may be gone."""
    server.behaviour = b.in_turn(GOOD, b.silent, GOOD)
    with loopback_upstream(server.endpoint) as asked:
        await asked.ask()
        lost = asked.start()
        await until(lambda: len(server.queries) == 2)
        lost.expire()
        assert asked.readers == 1, "nothing new is opened before it is needed"
        assert (await asked.ask()).verdict == Verdict.POSITIVE
        assert asked.readers == 1
    first, second, third = ports(server)
    assert first == second != third


@pytest_twisted.ensureDeferred
async def test_a_timeout_takes_nobody_else_along(server: ScriptedUpstream) -> None:
    """What else waits on the socket of a timed-out query still gets its reply there."""
    server.behaviour = b.in_turn(b.silent, b.answers("203.0.113.9", after=0.15), GOOD)
    with loopback_upstream(server.endpoint) as asked:
        lost, waiting = asked.start(), asked.start()
        await until(lambda: len(server.queries) == 2)
        lost.expire()
        await asked.ask()
        assert asked.readers == 2
        assert (await waiting.deferred()).verdict == Verdict.POSITIVE
        await until(lambda: asked.readers == 1)
    first, second, third = ports(server)
    assert first == second != third


@pytest_twisted.ensureDeferred
async def test_a_cancelled_query_costs_nothing(server: ScriptedUpstream) -> None:
    """Cancelling says nothing about the path: the socket stays."""
    server.behaviour = b.in_turn(b.silent, GOOD)
    with loopback_upstream(server.endpoint) as asked:
        given_up = asked.start()
        await until(lambda: len(server.queries) == 1)
        given_up.cancel()
        await asked.ask()
    assert len(set(ports(server))) == 1


@pytest.mark.parametrize("transport", ["", "tcp://"])
@pytest_twisted.ensureDeferred
async def test_truncated_over_tcp(server: ScriptedUpstream, transport: str) -> None:
    """TC over TCP leaves nowhere to go: a failure with that name, on either way there."""
    server.behaviour = lambda query: [Send(b.truncated(query))]
    with loopback_upstream(server.endpoint, transport) as asked:
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.FAILURE, Reason.TRUNCATED)
    await no_connections()
