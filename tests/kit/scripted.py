"""A DNS server on loopback, over UDP and TCP, that does what a function tells it to do.

A behaviour is a function: it takes a `Query` and returns the actions to take, each after its
own delay. It runs on the server's thread. What a behaviour raises fails the test when the
server is stopped. The ready-made behaviours are in `harness.behaviours`.

Datagrams are stamped by the kernel when they arrive, so that the recorded times do not depend
on how busy this process is.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

import dns.exception
import dns.message
import dns.rdatatype

from tests.kit.ports import Endpoint, free_port

if TYPE_CHECKING:
    pass

_SO_TIMESTAMPNS = 35

Transport = Literal["udp", "tcp"]
Origin = Literal["same", "other port", "other host"]


@dataclass(frozen=True)
class Query:
    """One query as it arrived; ``at`` is on the scale of `time.monotonic`."""

    at: float
    transport: Transport
    wire: bytes
    source: Endpoint
    number: int
    message: dns.message.Message | None

    @property
    def parsed(self) -> dns.message.Message:
        """The message; AssertionError when the program sent something that is no DNS message."""
        assert self.message is not None, f"not a DNS message: {self.wire!r}"
        return self.message

    @property
    def name(self) -> str:
        """The name asked for, in lower case, with its final dot."""
        return self.parsed.question[0].name.to_text().lower()

    @property
    def rdtype(self) -> str:
        """The type asked for, as text."""
        return dns.rdatatype.to_text(self.parsed.question[0].rdtype)


@dataclass(frozen=True)
class Send:
    """Send ``data`` (one message, without a length prefix) ``after`` so many seconds.

    ``origin``: send it from another port or another address than the one that was asked (UDP).
    """

    data: bytes
    after: float = 0.0
    origin: Origin = "same"


@dataclass(frozen=True)
class Close:
    """Write ``prefix`` as it is, without a length prefix, then close the connection (TCP)."""

    after: float = 0.0
    prefix: bytes = b""


Action = Send | Close
Behaviour = Callable[[Query], Sequence[Action]]


@dataclass
class _Connection:
    sock: socket.socket
    source: Endpoint
    buffer: bytearray = field(default_factory=bytearray)
    closed: bool = False


class ScriptedUpstream:
    """The server: a context manager; change ``behaviour`` at any time."""

    def __init__(self, behaviour: Behaviour, endpoint: Endpoint | None = None) -> None:
        self.behaviour = behaviour
        self.endpoint = endpoint or Endpoint("127.0.0.1", free_port())
        self._queries: list[Query] = []
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._connections: list[_Connection] = []
        self._origins: dict[Origin, socket.socket] = {}
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.connections_accepted = 0

    # What the tests read.

    @property
    def queries(self) -> list[Query]:
        """Every query so far, in the order of arrival."""
        with self._lock:
            return list(self._queries)

    def asked(self, name: str, rdtype: str | None = None) -> list[Query]:
        """The queries for ``name`` (any case), of one type or of all types."""
        wanted = name.lower().rstrip(".") + "."
        return [
            query
            for query in self.queries
            if query.name == wanted and (rdtype is None or query.rdtype == rdtype)
        ]

    # Life.

    def start(self) -> None:
        """Bind the sockets and start the thread; OSError when the endpoint is taken."""
        family = socket.AF_INET6 if ":" in self.endpoint.host else socket.AF_INET
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._udp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._udp.bind(self.endpoint)
            self._tcp.bind(self.endpoint)
            self._tcp.listen(64)
        except OSError:
            self._udp.close()
            self._tcp.close()
            raise
        self._waker, self._wake = socket.socketpair()
        for sock in (self._udp, self._tcp, self._waker):
            sock.setblocking(False)
        self._selector.register(self._udp, selectors.EVENT_READ, self._read_udp)
        self._selector.register(self._tcp, selectors.EVENT_READ, self._accept)
        self._selector.register(self._waker, selectors.EVENT_READ, lambda: None)
        self._thread = threading.Thread(target=self._run, name=str(self.endpoint), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, close every socket, raise what a behaviour raised."""
        if self._thread is None:
            return
        self._stopping = True
        self._wake.send(b"x")
        self._thread.join(5)
        assert not self._thread.is_alive(), "the scripted upstream did not stop"
        self._thread = None
        for connection in self._connections:
            connection.sock.close()
        for sock in (self._udp, self._tcp, self._waker, self._wake, *self._origins.values()):
            sock.close()
        self._selector.close()
        if self._errors:
            raise self._errors[0]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # The thread.

    def _run(self) -> None:
        while not self._stopping:
            now = time.monotonic()
            while self._actions and self._actions[0][0] <= now:
                act = heapq.heappop(self._actions)[2]
                act()
            wait = self._actions[0][0] - time.monotonic() if self._actions else None
            for key, _ in self._selector.select(None if wait is None else max(wait, 0)):
                key.data()

    def _read_udp(self) -> None:
        while True:
            try:
                wire, ancillary, _, peer = self._udp.recvmsg(65535, 64)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier reply: the owner has gone
            source = Endpoint(peer[0], peer[1])
            at = time.monotonic()
            for _, kind, data in ancillary:
                if kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", data[:16])
                    at -= max(time.time() - seconds - nanoseconds / 1e9, 0)
            self._handle(wire, "udp", source, at, None)

    def _accept(self) -> None:
        try:
            sock, peer = self._tcp.accept()
        except OSError:
            return
        sock.setblocking(False)
        self.connections_accepted += 1
        connection = _Connection(sock, Endpoint(peer[0], peer[1]))
        self._connections.append(connection)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._read_tcp(connection))

    def _read_tcp(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        connection.buffer += data
        while len(connection.buffer) >= 2:
            end = 2 + int.from_bytes(connection.buffer[:2], "big")
            if len(connection.buffer) < end:
                return
            wire = bytes(connection.buffer[2:end])
            del connection.buffer[:end]
            self._handle(wire, "tcp", connection.source, time.monotonic(), connection)

    def _handle(
        self,
        wire: bytes,
        transport: Transport,
        source: Endpoint,
        at: float,
        connection: _Connection | None,
    ) -> None:
        message: dns.message.Message | None
        try:
            message = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            message = None
        with self._lock:
            query = Query(at, transport, wire, source, len(self._queries), message)
            self._queries.append(query)
        try:
            actions = self.behaviour(query)
        except Exception as error:  # noqa: BLE001 - `stop` raises it
            self._errors.append(error)
            return
        for action in actions:
            self._schedule(at + action.after, action, source, connection)

    def _schedule(
        self, when: float, action: Action, source: Endpoint, connection: _Connection | None
    ) -> None:
        def act() -> None:
            if connection is None:
                if isinstance(action, Send):
                    self._send_udp(action, source)
            elif not connection.closed:
                self._send_tcp(action, connection)

        heapq.heappush(self._actions, (when, next(self._order), act))

    def _send_udp(self, action: Send, source: Endpoint) -> None:
        sock = self._origin(action.origin)
        try:
            sock.sendto(action.data, source)
        except OSError:
            return  # the owner's port is closed already; its own tests look after that

    def _origin(self, origin: Origin) -> socket.socket:
        if origin == "same":
            return self._udp
        if origin not in self._origins:
            sock = self._origins[origin] = socket.socket(self._udp.family, socket.SOCK_DGRAM)
            # Several upstreams may send from one address; nobody reads there.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if origin == "other port":
                sock.bind((self.endpoint.host, 0))
            else:
                sock.bind(("127.0.0.250", self.endpoint.port))
        return self._origins[origin]

    def _send_tcp(self, action: Action, connection: _Connection) -> None:
        data = (
            len(action.data).to_bytes(2, "big") + action.data
            if isinstance(action, Send)
            else action.prefix
        )
        try:
            connection.sock.setblocking(True)
            connection.sock.settimeout(2)
            connection.sock.sendall(data)
            connection.sock.setblocking(False)
        except OSError:
            self._close(connection)
            return
        if isinstance(action, Close):
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        if not connection.closed:
            connection.closed = True
            self._selector.unregister(connection.sock)
            connection.sock.close()
            self._connections.remove(connection)
