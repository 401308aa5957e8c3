"""Clients at the other end of connections in memory: TCP, HTTP/2 and HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h2.events
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from staggerdns.server.https import HttpsFactory
from staggerdns.server.stream import StreamProtocol
from staggerdns.upstream.http2 import ClientState
from tests.kit.clients import parse
from tests.kit.factory import FRIEND, MemoryServer
from tests.kit.messages import client_query

if TYPE_CHECKING:
    import dns.message

TYPE = "application/dns-message"


class Transport(StringTransport):
    """A connection that keeps what is written, and says so when it is aborted."""

    bufferSize = 65536  # as a TCP transport has it

    def __init__(self, host: str) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 4711), lenient=True)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do as a TCP transport does."""

    def unregisterProducer(self) -> None:
        """Allow it twice, as a TCP transport does."""
        self.producer = None


class Connection:
    """A client's end of one connection to a server."""

    def __init__(self, server: MemoryServer, host: str = FRIEND) -> None:
        self.server = server
        self.transport = Transport(host)
        protocol = server.factory.buildProtocol(self.transport.getPeer())
        assert isinstance(protocol, StreamProtocol)
        self.protocol = protocol
        protocol.makeConnection(self.transport)

    def send(self, *messages: bytes) -> None:
        """Send messages with their lengths in front, in one piece."""
        self.protocol.dataReceived(framed(*messages))

    def lost(self) -> None:
        """Lose the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def stop_taking(self) -> None:
        """Leave the replies in the server's buffer until it is full."""
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()

    def take(self) -> None:
        """Read what is in the server's buffer."""
        assert self.transport.producer is not None
        self.transport.producer.resumeProducing()

    @property
    def replies(self) -> list[dns.message.Message]:
        """What has come so far."""
        data, found = self.transport.value(), []
        while data:
            size = int.from_bytes(data[:2], "big")
            found.append(parse(data[2 : 2 + size]))
            data = data[2 + size :]
        return found

    @property
    def ids(self) -> list[int]:
        """The IDs of the replies in their order."""
        return [reply.id for reply in self.replies]

    def reading(self) -> bool:
        """Whether the server reads."""
        return str(self.transport.producerState) == "producing"

    def closing(self) -> bool:
        """Whether the server has closed."""
        return bool(self.transport.disconnecting)

    def aborted(self) -> bool:
        """Whether the server has dropped the connection with all that is unsent."""
        return bool(self.transport.disconnected)


def framed(*messages: bytes) -> bytes:
    """Return messages with their lengths in front."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def numbered(first: int, count: int) -> list[bytes]:
    """Return queries for different names whose IDs count up."""
    return [
        client_query(f"n{number}.example.", id=number) for number in range(first, first + count)
    ]


class HttpTransport(StringTransport):
    """Memory where TLS would be; ``over``: it was closed or aborted."""

    def __init__(self, host: str, protocol: bytes) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 4711), lenient=True)
        self.negotiatedProtocol = protocol

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: there is no TCP."""

    def unregisterProducer(self) -> None:
        """Allow it twice, as a TLS transport does."""
        self.producer = None

    def over(self) -> bool:
        """Whether the server has closed the connection, in order or not."""
        return bool(self.disconnecting or self.disconnected)

    def aborted(self) -> bool:
        """Whether the server has broken the connection."""
        return bool(self.disconnected)


class HttpClient:
    """A connection to the site of ``server`` with HTTP/2, or with HTTP/1.1 in `Http1Client`."""

    protocol = b"h2"

    def __init__(self, server: MemoryServer, host: str = FRIEND) -> None:
        self._server = server
        self.transport = HttpTransport(host, self.protocol)
        self.connection: Any = HttpsFactory(server.factory, "/dns-query").buildProtocol(
            IPv4Address("TCP", host, 4711)
        )
        self.connection.makeConnection(self.transport)
        self.h2 = ClientState()  # which goes on behind a GOAWAY
        self.events: list[Any] = []
        self.start()

    def start(self) -> None:
        """Send the preface of HTTP/2."""
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what h2 has ready, and read what the server sends."""
        self.connection.dataReceived(self.h2.data_to_send())
        self.read()

    def read(self) -> None:
        """Read what the server sends."""
        for _ in range(4):  # turns in which it writes
            self._server.clock.advance(0)
        data = self.transport.value()
        self.transport.clear()
        if data:
            self.events += self.h2.receive_data(data)

    def head(self, length: int | None = None) -> int:
        """Begin a request with a body; the number of its stream."""
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "https"), (":authority", "x")]
        fields += [(":path", "/dns-query"), ("content-type", TYPE)]
        if length is not None:
            fields.append(("content-length", str(length)))
        self.h2.send_headers(stream, fields)
        self.flush()
        return stream

    def body(self, stream: int, data: bytes, *, last: bool = True) -> None:
        """Send a part of the body."""
        self.h2.send_data(stream, data, end_stream=last)
        self.flush()

    def ask(self, name: str = "www.example") -> None:
        """Send a query."""
        self.body(self.head(), client_query(name))

    def statuses(self) -> list[bytes]:
        """The statuses of all responses so far."""
        self.read()
        heads = [event for event in self.events if isinstance(event, h2.events.ResponseReceived)]
        return [value for event in heads for name, value in event.headers if name == b":status"]

    def replies(self) -> int:
        """How many replies are there."""
        self.read()
        return sum(isinstance(event, h2.events.StreamEnded) for event in self.events)

    def stop_taking(self) -> None:
        """Leave what the server says in its buffer until that is full."""
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()

    def take(self) -> None:
        """Read what is in the server's buffer."""
        assert self.transport.producer is not None
        self.transport.producer.resumeProducing()
        self.read()

    def lost(self) -> None:
        """The connection is gone."""
        why = ConnectionAborted() if self.transport.aborted() else ConnectionDone()
        self.connection.connectionLost(Failure(why))


class Http1Client(HttpClient):
    """The same with HTTP/1.1."""

    protocol = b"http/1.1"

    def start(self) -> None:
        """Send nothing: HTTP/1.1 has no preface."""
        self._got = b""

    def read(self) -> None:
        """Read what the server sends."""
        self._got += self.transport.value()
        self.transport.clear()

    def head(self, length: int | None = None) -> int:
        """Begin a request with a body."""
        size = f"content-length: {length}" if length is not None else "transfer-encoding: chunked"
        head = f"POST /dns-query HTTP/1.1\r\nhost: x\r\ncontent-type: {TYPE}\r\n{size}\r\n\r\n"
        self.connection.dataReceived(head.encode())
        return 1

    def body(self, stream: int, data: bytes, *, last: bool = True) -> None:
        """Send a part of the body."""
        self.connection.dataReceived(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if last:
            self.connection.dataReceived(b"0\r\n\r\n")

    def replies(self) -> int:
        """How many replies are there."""
        self.read()
        return self._got.count(b"HTTP/1.1 200")
