"""DNS clients: raw sockets, dnspython for building and for reading, dig and kdig.

Every reply goes through `parse`, which refuses trailing octets and everything else that
dnspython refuses.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.kit.ports import Endpoint

T = TypeVar("T")


class NoReplyError(AssertionError):
    """Nothing came back in time, or the server closed the connection."""


@dataclass(frozen=True)
class Reply:
    """A reply: its octets, what dnspython reads in them, and how long it took in seconds."""

    wire: bytes
    message: dns.message.Message
    seconds: float

    @property
    def rcode(self) -> str:
        """The RCODE as text."""
        return dns.rcode.to_text(self.message.rcode())

    @property
    def addresses(self) -> list[str]:
        """Every A and AAAA of the answer section, in the order received."""
        return addresses(self.message)

    @property
    def ttl(self) -> int:
        """The lowest TTL of the answer section."""
        return min(rrset.ttl for rrset in self.message.answer)

    @property
    def types(self) -> list[str]:
        """The types of the answer section's RRsets, in order."""
        return [dns.rdatatype.to_text(rrset.rdtype) for rrset in self.message.answer]

    def flag(self, name: Literal["QR", "AA", "TC", "RD", "RA", "AD", "CD"]) -> bool:
        """Whether this header flag is set."""
        return bool(self.message.flags & dns.flags.from_text(name))

    def authority(self, rdtype: str) -> dns.rrset.RRset | None:
        """The RRset of this type in the authority section."""
        for rrset in self.message.authority:
            if rrset.rdtype == dns.rdatatype.from_text(rdtype):
                return rrset
        return None


def parse(wire: bytes) -> dns.message.Message:
    """Read a whole message strictly: any defect, trailing octets included, is an error."""
    return dns.message.from_wire(wire)


def addresses(message: dns.message.Message) -> list[str]:
    """Every A and AAAA of the answer section, in the order received."""
    wanted = (dns.rdatatype.A, dns.rdatatype.AAAA)
    return [
        rdata.to_text() for rrset in message.answer if rrset.rdtype in wanted for rdata in rrset
    ]


def question(
    name: str,
    rdtype: str = "A",
    *,
    rdclass: str = "IN",
    rd: bool = True,
    cd: bool = False,
    ad: bool = False,
    do: bool = False,
    payload: int | None = None,
    options: Iterable[dns.edns.Option] | None = None,
) -> dns.message.QueryMessage:
    """Build a query. It carries an OPT record when ``do``, ``payload`` or ``options`` is given."""
    edns = do or payload is not None or options is not None
    message = dns.message.make_query(
        name,
        rdtype,
        rdclass,
        use_edns=0 if edns else False,
        want_dnssec=do,
        payload=payload if payload is not None else 1232,
        options=list(options) if options is not None else None,
    )
    message.flags = dns.flags.Flag(0)
    for wanted, flag in ((rd, dns.flags.RD), (cd, dns.flags.CD), (ad, dns.flags.AD)):
        if wanted:
            message.flags |= flag
    return message


def _family(server: Endpoint) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server.host else socket.AF_INET


def raw_udp(server: Endpoint, wire: bytes, timeout: float = 5.0) -> bytes | None:
    """Send a datagram, return the first one that comes back; None after ``timeout`` seconds."""
    with socket.socket(_family(server), socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect(server)
        sock.send(wire)
        try:
            return sock.recv(65535)
        except TimeoutError:
            return None


class _Client:
    """What clients with a socket of their own have in common."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class UdpClient(_Client):
    """A UDP socket of its own port, for several queries in flight."""

    def __init__(self, server: Endpoint, source: str | None = None) -> None:
        super().__init__(socket.socket(_family(server), socket.SOCK_DGRAM))
        if source is not None:
            self._sock.bind((source, 0))
        self._sock.connect(server)

    def send(self, query: dns.message.Message | bytes) -> None:
        """Send one query."""
        self._sock.send(query if isinstance(query, bytes) else query.to_wire())

    def receive_raw(self, timeout: float = 5.0) -> bytes | None:
        """The next datagram; None after ``timeout`` seconds."""
        self._sock.settimeout(timeout)
        try:
            return self._sock.recv(65535)
        except TimeoutError:
            return None

    def receive(self, timeout: float = 5.0) -> Reply:
        """The next reply, parsed; NoReplyError after ``timeout`` seconds."""
        start = time.monotonic()
        wire = self.receive_raw(timeout)
        if wire is None:
            raise NoReplyError(f"no datagram within {timeout} s")
        return Reply(wire, parse(wire), time.monotonic() - start)


class TcpClient(_Client):
    """A TCP connection, for several queries in flight."""

    def __init__(self, server: Endpoint, source: str | None = None) -> None:
        here = None if source is None else (source, 0)
        super().__init__(socket.create_connection(server, timeout=5, source_address=here))
        self._buffer = bytearray()

    def finish(self) -> None:
        """Close our sending half."""
        self._sock.shutdown(socket.SHUT_WR)

    def send_raw(self, data: bytes) -> None:
        """Write octets as they are."""
        self._sock.sendall(data)

    def flood(self, data: bytes) -> None:
        """Write as much of this as the connection takes at once."""
        self._sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while data:
                data = data[self._sock.send(data) :]

    def send(self, *queries: dns.message.Message | bytes) -> None:
        """Write these queries, with their length prefixes, in one segment."""
        wires = [query if isinstance(query, bytes) else query.to_wire() for query in queries]
        self.send_raw(b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires))

    def _fill(self, size: int, deadline: float) -> None:
        while len(self._buffer) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoReplyError("no reply over TCP in time")
            self._sock.settimeout(left)
            try:
                data = self._sock.recv(65535)
            except TimeoutError:
                continue
            except ConnectionError as error:
                raise NoReplyError("the connection was reset") from error
            if not data:
                raise NoReplyError("the connection was closed")
            self._buffer += data

    def receive(self, timeout: float = 5.0) -> Reply:
        """The next reply, parsed; NoReplyError when the server closes or ``timeout`` passes."""
        start = time.monotonic()
        self._fill(2, start + timeout)
        end = 2 + int.from_bytes(self._buffer[:2], "big")
        self._fill(end, start + timeout)
        wire = bytes(self._buffer[2:end])
        del self._buffer[:end]
        return Reply(wire, parse(wire), time.monotonic() - start)

    def seconds_until_closed(self, timeout: float = 5.0) -> float | None:
        """How long until the server closes the connection; None: still open after ``timeout``.

        AssertionError when it sends anything instead.
        """
        start = time.monotonic()
        self._sock.settimeout(timeout)
        try:
            data = self._sock.recv(65535)
        except TimeoutError:
            return None
        except ConnectionError:
            data = b""
        assert data == b"", f"unexpected octets: {data!r}"
        return time.monotonic() - start


def exchange(
    server: Endpoint,
    query: dns.message.Message,
    *,
    tcp: bool = False,
    timeout: float = 5.0,
    source: str | None = None,
) -> Reply:
    """Send ``query``, return the reply after checking that it belongs to the query.

    ID, QR, opcode, question and its case are compared. NoReplyError after ``timeout`` seconds.
    """
    start = time.monotonic()
    wire = query.to_wire()
    with (TcpClient if tcp else UdpClient)(server, source) as client:
        client.send(wire)
        got = client.receive(timeout)
    reply = Reply(got.wire, got.message, time.monotonic() - start)
    check_belongs(query, reply)
    return reply


def check_belongs(query: dns.message.Message, reply: Reply) -> None:
    """Assert what holds for every reply to a well-formed query."""
    message = reply.message
    assert message.id == query.id, "another ID"
    assert reply.flag("QR"), "QR is not set"
    assert message.opcode() == query.opcode(), "another opcode"
    assert [rrset.to_text() for rrset in message.question] == [
        rrset.to_text() for rrset in query.question
    ], "another question, or another case"
    assert (message.edns >= 0) == (query.edns >= 0), "OPT exactly when the query has one"
    assert reply.flag("RD") == bool(query.flags & dns.flags.RD), "RD is not copied"
    assert reply.flag("CD") == bool(query.flags & dns.flags.CD), "CD is not copied"
    assert not reply.wire[3] & 0x40, "the Z bit is set"


def ask(
    server: Endpoint,
    name: str,
    rdtype: str = "A",
    *,
    tcp: bool = False,
    timeout: float = 5.0,
    source: str | None = None,
    rdclass: str = "IN",
    rd: bool = True,
    cd: bool = False,
    ad: bool = False,
    do: bool = False,
    payload: int | None = None,
) -> Reply:
    """Ask one question, with the checks of `exchange`."""
    query = question(name, rdtype, rdclass=rdclass, rd=rd, cd=cd, ad=ad, do=do, payload=payload)
    return exchange(server, query, tcp=tcp, timeout=timeout, source=source)


def ask_many(server: Endpoint, name: str, count: int, timeout: float = 5.0) -> list[Reply]:
    """Ask the same question from ``count`` sockets at once; the replies, checked."""
    selector = selectors.DefaultSelector()
    replies: list[Reply] = []
    clients: list[tuple[UdpClient, dns.message.QueryMessage]] = []
    start = time.monotonic()
    try:
        for _ in range(count):
            client, query = UdpClient(server), question(name)
            clients.append((client, query))
            selector.register(client._sock, selectors.EVENT_READ, (client, query))
            client.send(query)
        while len(replies) < count:
            ready = selector.select(max(start + timeout - time.monotonic(), 0))
            if not ready:
                raise NoReplyError(f"{len(replies)} of {count} clients were answered")
            for key, _ in ready:
                client, query = key.data
                got = client.receive(0.1)
                reply = Reply(got.wire, got.message, time.monotonic() - start)
                check_belongs(query, reply)
                replies.append(reply)
                selector.unregister(key.fileobj)
        return replies
    finally:
        selector.close()
        for client, _ in clients:
            client.close()


def eventually(look: Callable[[], T], good: Callable[[T], bool] = bool, timeout: float = 5.0) -> T:
    """Call ``look`` until its value is ``good``; AssertionError with the last value if never."""
    deadline = time.monotonic() + timeout
    while True:
        value = look()
        if good(value):
            return value
        assert time.monotonic() < deadline, f"not within {timeout} s; last seen: {value!r}"
        time.sleep(0.02)


def stays(look: Callable[[], T], good: Callable[[T], bool] = bool, seconds: float = 1.0) -> None:
    """Call ``look`` for so many seconds; AssertionError as soon as its value is not ``good``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = look()
        assert good(value), f"did not stay so: {value!r}"
        time.sleep(0.05)


def dig(server: Endpoint, *arguments: str, timeout: float = 10.0) -> str:
    """Run dig with these arguments; its output. AssertionError when it fails."""
    return _run("dig", server, ("+tries=1", "+time=5", *arguments), timeout)


def kdig(server: Endpoint, *arguments: str, timeout: float = 10.0) -> str:
    """Run kdig with these arguments; its output. AssertionError when it fails."""
    return _run("kdig", server, ("+retry=0", "+timeout=5", *arguments), timeout)


def _run(program: str, server: Endpoint, arguments: tuple[str, ...], timeout: float) -> str:
    done = subprocess.run(
        [program, f"@{server.host}", "-p", str(server.port), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{program} failed: {done.stdout}{done.stderr}"
    assert "WARNING" not in done.stdout, f"{program} complains: {done.stdout}"
    return done.stdout
