"""Listeners that come and go while clients ask, on the real reactor."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from errno import EACCES
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent

from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.lifecycle import Lifecycle
from staggerdns.listeners import Listeners
from staggerdns.server import openlistener
from staggerdns.server.access import Access
from staggerdns.server.cannotbind import CannotBind
from staggerdns.server.passedsockets import PassedSocket, PassedSockets
from staggerdns.server.status import StatusFactory
from staggerdns.server.tls import Certificate
from staggerdns.settings.addresses import Endpoint as Place
from staggerdns.settings.addresses import parse_listener
from staggerdns.settings.networks import Network
from tests.kit.asking import QUERY, Asking
from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import parse
from tests.kit.factory import MemoryServer, pool
from tests.kit.loopback import reactor, until
from tests.kit.messages import client_query
from tests.kit.ports import Endpoint, free_endpoint, free_port
from tests.kit.supervisor import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

CHANGES = 40
"""Changes under load."""
ENOUGH = 200
"""Replies that each client has to have got at least for a run to count."""


def new_page() -> StatusFactory:
    """The page of the metrics, which is always well."""
    return StatusFactory(
        [],
        lambda: succeed(True),
        Lifecycle(Journal()),
        reactor,
        refused=Cell(),
        dropped=Cell(),
    )


class Changing:
    """Listeners of a server that answers for itself."""

    def __init__(
        self, certificate: Certificate | None = None, passed: PassedSockets | None = None
    ) -> None:
        self.server = MemoryServer()
        self.server.factory.clock = reactor
        self.server.factory.access = Access([Network("127.0.0.0/8")])
        self.certificate = certificate
        self.listeners = Listeners(self.server.factory, reactor, Journal(), passed)
        self.page: StatusFactory | None = None
        self.page_at: Place | None = None

    def prepare(self, *listen: object) -> Any:
        """Prepare a change to these listeners."""
        places = tuple(parse_listener(str(text)) for text in listen)
        return self.listeners.prepare(places, self.certificate, self.page, self.page_at)

    def change(self, *listen: object) -> None:
        """Have these listeners, and no others."""
        self.prepare(*listen).commit()

    @property
    def bound(self) -> list[str]:
        """What is open."""
        return [str(listener) for listener in self.listeners.bound]


@contextlib.asynccontextmanager
async def changing(
    certificate: Certificate | None = None, passed: PassedSockets | None = None
) -> AsyncIterator[Changing]:
    """Close everything in the end."""
    made = Changing(certificate, passed)
    try:
        yield made
    finally:
        made.server.factory.client_connections.abort()
        for closed in [*made.listeners.stop_reading(), *made.listeners.close()]:
            await closed
        await turns()


def reading(made: Changing) -> list[Any]:
    """The ports that are being read."""
    return [port for port in made.listeners.ports if port in reactor.getReaders()]


async def turns(count: int = 5) -> None:
    """Let the reactor turn."""
    for _ in range(count):
        await deferLater(reactor, 0, lambda: None)


def ask(place: Endpoint, wire: bytes = QUERY, timeout: float = 5) -> Deferred[bytes]:
    """Ask once over UDP."""

    def wait() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(timeout)
            client.connect(place)
            client.send(wire)
            return client.recv(4096)

    asked: Deferred[bytes] = deferToThread(wait)
    return asked


def is_free(place: Endpoint) -> bool:
    """Whether both kinds of sockets can be bound there."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
            try:
                other.bind(place)
            except OSError:
                return False
    return True


async def under_load(
    made: Changing, asked: Sequence[tuple[Endpoint, str]], sets: Sequence[Sequence[object]]
) -> None:
    """Go through ``sets`` of listeners again and again while clients ask."""
    made.change(*sets[0])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Asking(*each)) for each in asked]
        for done, listen in enumerate(cycle(sets)):
            made.change(*listen)
            assert made.bound == [str(each) for each in listen]
            await turns()
            least = min(client.answered for client in clients)
            if (done >= CHANGES and least >= ENOUGH) or any(client.lost for client in clients):
                break
    await until(lambda: all(client.ended for client in clients))
    assert [text for client in clients for text in client.lost] == []


@pytest_twisted.ensureDeferred
async def test_those_that_stay_lose_nothing() -> None:
    """Beside them others come and go: over UDP, new connections and old ones."""
    stays, first, second = free_endpoint(), free_endpoint(), free_endpoint()
    async with changing() as made:
        sets = [[stays], [first, stays], [stays, second], [second, first, stays]]
        await under_load(made, [(stays, how) for how in ("udp", "tcp", "kept")], sets)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["udp", "kept"])
async def test_all_addresses_in_the_place_of_one(how: str) -> None:
    """An address that is served before and after loses nothing, whichever way it goes."""
    port = free_port("127.0.0.1", "0.0.0.0")
    named, every = Endpoint("127.0.0.1", port), Endpoint("0.0.0.0", port)
    async with changing() as made:
        await under_load(made, [(named, how)], [[named], [every]])


@pytest_twisted.ensureDeferred
async def test_connections_where_all_addresses_replace_one() -> None:
    """New connections find a listener after each change."""
    port = free_port("127.0.0.1", "0.0.0.0")
    named, every = Endpoint("127.0.0.1", port), Endpoint("0.0.0.0", port)
    async with changing() as made:
        for listen in [named, every] * 3:
            made.change(listen)
            await some_replies(named, "tcp")


async def some_replies(place: Endpoint, how: str) -> None:
    """Have a client get a few, and lose none."""
    with Asking(place, how) as client:
        await until(lambda: client.answered >= 10 or bool(client.lost))
    await until(lambda: client.ended)
    assert client.lost == []


@pytest_twisted.ensureDeferred
async def test_equal_ones_are_untouched() -> None:
    """The same ports with the same context, in another order; the page as well."""
    first, second, page = free_endpoint(), free_endpoint(), free_endpoint()
    async with changing() as made:
        made.page, made.page_at = new_page(), Place(*page)
        made.change(first, second)
        before = {one.endpoint: (one.context, one.ports) for one in made.listeners.open}
        made.change(second, first)
        assert {one.endpoint: (one.context, one.ports) for one in made.listeners.open} == before
        assert made.bound == [str(second), str(first)]


@pytest_twisted.ensureDeferred
async def test_an_abandoned_change() -> None:
    """What was bound is free again, what was there is there."""
    first, second = free_endpoint(), free_endpoint()
    async with changing() as made:
        made.change(first)
        change = made.prepare(second)
        assert not is_free(second)
        change.abandon()
        assert is_free(second)
        assert made.bound == [str(first)]
        assert (await ask(first))[:2] == QUERY[:2]


@pytest_twisted.ensureDeferred
async def test_one_that_cannot_be_had() -> None:
    """Nothing changes, whatever could be had besides; who has the port is said."""
    first, second, taken = free_endpoint(), free_endpoint(), free_endpoint()
    async with changing() as made:
        made.change(first)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(taken)
            with pytest.raises(CannotBind, match=f"server.listen\\[1\\]: cannot .* {taken}: .*use"):
                made.prepare(second, taken)
        assert made.bound == [str(first)]
        assert (await ask(first))[:2] == QUERY[:2]
        assert is_free(second)


@pytest_twisted.ensureDeferred
async def test_one_that_stays_is_in_the_way() -> None:
    """All addresses beside one of them cannot be had: that one is named."""
    port = free_port("127.0.0.1", "0.0.0.0")
    named, every = Endpoint("127.0.0.1", port), Endpoint("0.0.0.0", port)
    async with changing() as made:
        made.change(named)
        with pytest.raises(CannotBind, match=f"server.listen\\[1\\] has it, {named}"):
            made.prepare(every, named)
        assert made.bound == [str(named)]


@pytest_twisted.ensureDeferred
async def test_nobody_can_share_a_port_afterwards() -> None:
    """What lets our own sockets share one for a moment is on for no longer than that."""
    port = free_port("127.0.0.1", "0.0.0.0")
    named, every = Endpoint("127.0.0.1", port), Endpoint("0.0.0.0", port)
    async with changing() as made:
        for listen in (named, every, named):
            made.change(listen)
            assert not is_free(named)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    other.bind(named)


@pytest_twisted.ensureDeferred
async def test_privileges_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port for root is said to need a restart; nothing has changed by then."""

    def refuse(*_: object) -> socket.socket:
        raise OSError(EACCES, os.strerror(EACCES))

    first = free_endpoint()
    async with changing() as made:
        made.change(first)
        monkeypatch.setattr(openlistener, "open_socket", refuse)
        with pytest.raises(CannotBind) as caught:
            made.prepare(first, "127.0.0.1:53")
        assert str(caught.value) == (
            "server.listen[1]: cannot listen on 127.0.0.1:53: Permission denied: ports below 1024 "
            "need privileges that a running program has given up: restart it, or let it have "
            "CAP_NET_BIND_SERVICE (as in etc/systemd/staggerdns.service)"
        )
        assert made.bound == [str(first)]


@pytest_twisted.ensureDeferred
async def test_who_waits_at_one_that_leaves() -> None:
    """Its reply still comes, from the address that was asked; then the port is closed."""
    leaves, stays = free_endpoint(), free_endpoint()
    async with changing() as made:
        made.change(leaves, stays)
        asked = ask(leaves, client_query())
        waiting = made.server.forwarder.waiting
        await until(lambda: len(waiting) == 1)
        made.change(stays)
        await until(lambda: len(reading(made)) == 2)
        assert len(made.listeners.ports) == 3
        waiting[0].callback(made.server.entry(pool()))
        reply = await asked
        assert len(parse(reply).answer) == 1
        await until(lambda: is_free(leaves))
        assert len(made.listeners.ports) == 2


@pytest_twisted.ensureDeferred
async def test_a_stop_while_somebody_waits_at_one_that_has_left() -> None:
    """It is closed with the others."""
    leaves = free_endpoint()
    async with changing() as made:
        made.change(leaves)
        asked = ask(leaves, client_query(), 0.5)
        await until(lambda: len(made.server.forwarder.waiting) == 1)
        made.change()
        await turns()
        assert not is_free(leaves)
    await until(lambda: is_free(leaves))
    with pytest.raises(TimeoutError):
        await asked
    made.server.forwarder.waiting[0].callback(made.server.entry(pool()))


@pytest_twisted.ensureDeferred
async def test_what_has_come_before_is_read() -> None:
    """Datagrams and connections that wait at the moment at which their listener leaves."""
    leaves = free_endpoint()
    async with changing() as made:
        made.change(leaves)
        with contextlib.ExitStack() as stack:
            clients = []
            for kind in [socket.SOCK_DGRAM] * 600 + [socket.SOCK_STREAM] * 20:
                client = stack.enter_context(socket.socket(socket.AF_INET, kind))
                client.settimeout(5)
                client.connect(leaves)
                prefix = b"" if kind == socket.SOCK_DGRAM else len(QUERY).to_bytes(2, "big")
                client.send(prefix + QUERY)
                clients.append(client)
            made.change()
            await until(lambda: is_free(leaves))
            for client in clients:
                assert QUERY[:2] in (await deferToThread(client.recv, 4096))[:4]


@pytest_twisted.ensureDeferred
async def test_connections_of_one_that_has_left() -> None:
    """They are served as ever; new ones are refused."""
    leaves = free_endpoint()
    async with changing() as made:
        made.change(leaves)
        with Asking(leaves, "kept") as client:
            await until(lambda: client.answered > 10)
            made.change()
            await until(lambda: is_free(leaves))
            before = client.answered
            await until(lambda: client.answered > before + 10)
        await until(lambda: client.ended)
        assert client.lost == []
        with pytest.raises(ConnectionRefusedError):
            await deferToThread(socket.create_connection, leaves)


@pytest_twisted.ensureDeferred
async def test_other_content_in_the_same_place(tmp_path: Path) -> None:
    """Another certificate, or HTTPS in the place of TLS: old connections go on, and new ones find
    the new content; none is refused.
    """
    authority = CertificateAuthority(tmp_path)
    place = free_endpoint()
    pairs = [authority.issue("dns.example", "127.0.0.1") for _ in range(2)]
    certificates = [
        Certificate(str(chain), str(key), Journal(), lambda: 0.0) for chain, key in pairs
    ]
    trust = ssl.create_default_context(cafile=str(authority.ca))

    def connect() -> ssl.SSLSocket:
        plain = socket.create_connection(place, 5)
        return trust.wrap_socket(plain, server_hostname="dns.example")

    def query(client: ssl.SSLSocket) -> bytes:
        client.sendall(len(QUERY).to_bytes(2, "big") + QUERY)
        return client.recv(4096)[2:4]

    async with changing(certificates[0]) as made:
        made.change(f"tls://{place}")
        clients = [await deferToThread(connect)]
        waits = socket.create_connection(place, 5)  # accepted by whoever is there then
        made.certificate = certificates[1]
        made.change(f"tls://{place}")
        clients.append(await deferToThread(connect))
        shown = {client.getpeercert(binary_form=True) for client in clients}
        assert len(shown) == 2
        made.change(f"https://{place}/one")
        made.change(f"https://{place}/two")
        for client in clients:
            assert await deferToThread(query, client) == QUERY[:2]
            client.close()
        with await deferToThread(connect) as client:
            request = b"GET /two HTTP/1.0\r\n\r\n"
            await deferToThread(client.sendall, request)
            assert b" 400 " in await deferToThread(client.recv, 4096)
        waits.close()
        await turns()


@pytest_twisted.ensureDeferred
async def test_the_page_moves() -> None:
    """Who has a connection to the old place keeps it; the stop closes all of them."""
    places = [free_endpoint(), free_endpoint()]
    async with changing() as made:
        made.page = new_page()
        clients = []
        for place in places:
            made.page_at = Place(*place)
            made.change()
            clients.append(await deferToThread(socket.create_connection, place, 5))
            await turns()
        await until(lambda: is_free(places[0]))
        for client in clients:
            await deferToThread(client.sendall, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await deferToThread(client.recv, 65536)).startswith(b"HTTP/1.1 200")
        made.page = made.page_at = None
        made.change()
        await until(lambda: is_free(places[1]))
    await turns()
    for client in clients:
        client.settimeout(5)
        with client, pytest.raises(ConnectionResetError):
            client.recv(1)


def passed_in(
    name: str, place: Endpoint, *kinds: socket.SocketKind
) -> tuple[PassedSockets, list[socket.socket]]:
    """What is passed in, and the sockets that its owner keeps."""
    kept = [listening(place, kind) for kind in kinds]
    for each in kept:
        each.setblocking(False)
    return PassedSockets([PassedSocket(name, each.type, each.dup()) for each in kept]), kept


@pytest_twisted.ensureDeferred
async def test_a_passed_socket_leaves_and_comes_back() -> None:
    """Without a listener it is left unread, which is said; with one what has waited is answered."""
    place, other = free_endpoint(), free_endpoint()
    passed, kept = passed_in("dns", place, socket.SOCK_DGRAM, socket.SOCK_STREAM)
    async with changing(passed=passed) as made:
        made.change(place)
        assert (await ask(place))[:2] == QUERY[:2]
        with capturedLogs() as events:
            made.change(other)
        assert [formatEvent(event) for event in events if event["log_level"].name == "warn"] == [
            f"nobody reads the socket dns ({unit}{place}) that was passed in: no listener has its "
            "address"
            for unit in ("ListenDatagram=", "ListenStream=")
        ]
        asked = ask(place)
        connected = await deferToThread(socket.create_connection, place, 5)
        await until(lambda: bool(select.select([kept[0]], [], [], 0)[0]))
        await turns()
        assert not asked.called
        made.change(place, other)
        assert (await asked)[:2] == QUERY[:2]
        with connected:
            await deferToThread(connected.sendall, len(QUERY).to_bytes(2, "big") + QUERY)
            assert (await deferToThread(connected.recv, 4096))[2:4] == QUERY[:2]
    for each in kept:
        each.close()


@pytest_twisted.ensureDeferred
async def test_passed_sockets_are_left_unread_at_a_stop() -> None:
    """What comes then is for the next process; our own sockets are still read."""
    place, own = free_endpoint(), free_endpoint()
    passed, kept = passed_in("dns", place, socket.SOCK_DGRAM, socket.SOCK_STREAM)
    async with changing(passed=passed) as made:
        made.change(place, own)
        assert (await ask(place))[:2] == QUERY[:2]
        made.listeners.stop_reading_passed()
        assert len(reading(made)) == len(made.listeners.ports) == 2
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(place)
            client.send(QUERY)
            await until(lambda: bool(select.select([kept[0]], [], [], 0)[0]))
            assert (await ask(own))[:2] == QUERY[:2]
    assert kept[0].recv(4096) == QUERY
    assert kept[1].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    for each in kept:
        each.close()


@pytest_twisted.ensureDeferred
async def test_a_passed_socket_with_the_name_of_another_kind(tmp_path: Path) -> None:
    """The key and both names are told; where a half is missing it is opened."""
    files = CertificateAuthority(tmp_path).issue("dns.example")
    certificate = Certificate(str(files.chain), str(files.key), Journal(), lambda: 0.0)
    place = free_endpoint()
    passed, kept = passed_in("dns", place, socket.SOCK_STREAM)
    async with changing(certificate, passed) as made:
        with pytest.raises(CannotBind) as caught:
            made.prepare(f"tls://{place}")
        assert str(caught.value) == (
            f"server.listen[0]: cannot listen on tls://{place}: the socket dns "
            f"(ListenStream={place}) was passed in for it: expected FileDescriptorName=tls"
        )
        made.change(place)
        assert (await ask(place))[:2] == QUERY[:2]
    kept[0].close()


@pytest_twisted.ensureDeferred
async def test_a_passed_socket_that_takes_ipv4_as_well() -> None:
    """Where it is in the way, it is named, and what helps."""
    port = free_port("127.0.0.1", "0.0.0.0", "::")
    passed, kept = passed_in("dns", Endpoint("::", port), socket.SOCK_DGRAM, socket.SOCK_STREAM)
    async with changing(passed=passed) as made:
        with pytest.raises(CannotBind) as caught:
            made.prepare(f"[::]:{port}", f"0.0.0.0:{port}")
        assert str(caught.value).endswith(
            f"Address already in use: the socket dns (ListenDatagram=[::]:{port}) that was passed "
            "in takes IPv4 as well: BindIPv6Only=ipv6-only in its unit, or leave this one out"
        )
    for each in kept:
        each.close()
