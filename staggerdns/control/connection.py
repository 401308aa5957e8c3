"""The connections of the control socket: who may do what, and how much of it.

A connection reads a request, has it performed, writes the reply, and only then goes on with the
next one. While a request is performed, or its client does not read, nothing is read from it: what
waits there is what one look at the socket has brought. One that leaves its replies unread, or sends
no whole request for `IDLE_TIMEOUT`, is aborted.

The kernel says whose the process is at the other end (SO_PEERCRED, unix(7)). Root and the user that
runs the program may change things; everybody else whom the mode of the socket lets in may read.
Each of the two kinds has connections and a pace of its own, so that readers keep nobody from
stopping what has to be stopped.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.control.peers import Peer, Perform, Stream, Streamed, allowed, peer_of
from staggerdns.control.protocol import (
    BUSY,
    FAILED,
    MAX_LINE,
    TOO_LONG,
    Refused,
    Request,
    RequestId,
    Result,
    encode_error,
    encode_result,
    parse_request,
)
from staggerdns.control.turns import Turns
from staggerdns.journal import Journal

MAX_CONNECTIONS = 16
"""Connections of readers, and as many of those who may change things. For one more the one that has
been idle for the longest makes room; when none is idle, the new one is refused.
"""
MAX_STREAMS = 8
"""Connections of each of the two kinds that more lines follow on; they are not among those above.
"""
IDLE_TIMEOUT = 30.0
"""Seconds without a whole request, or with an unread reply, after which a connection is aborted."""
READ_SIZE = 8_192
"""Octets that are read at one look."""


class ControlFactory(ServerFactory):
    """Has the requests of all connections done by ``perform``."""

    noisy = False

    def __init__(
        self,
        perform: Perform,
        clock: IReactorTime,
        journal: Journal,
        find_peer: Callable[[socket.socket], Peer] = peer_of,
    ) -> None:
        self.perform = perform
        self.clock = clock
        self.journal = journal
        self.find_peer = find_peer
        self.open: dict[bool, list[ControlConnection]] = {False: [], True: []}
        """The connections, by whether they may change things."""
        self.streaming: dict[bool, list[ControlConnection]] = {False: [], True: []}
        """The same of those that more lines follow on."""
        self.turns = {False: Turns(clock), True: Turns(clock)}

    def buildProtocol(self, addr: IAddress | None) -> ControlConnection:
        """Return the protocol of a new connection."""
        return ControlConnection(self)

    def admit(self, connection: ControlConnection) -> bool:
        """Return whether there is room for a connection, or another can make room."""
        peers = self.open[connection.peer.may_change]
        if len(peers) >= MAX_CONNECTIONS:
            idle = [peer for peer in peers if peer.idle_since is not None]
            if not idle:
                return False
            min(idle, key=lambda peer: peer.idle_since or 0.0).abort()
        peers.append(connection)
        return True

    def check_room(self, request: Request, peer: Peer) -> None:
        """Check that there is room for what is to come. Raises `Refused`."""
        if request.streams and len(self.streaming[peer.may_change]) >= MAX_STREAMS:
            raise Refused(BUSY, "too many are watching: try again", request_id=request.id)

    def stream(self, connection: ControlConnection) -> None:
        """Count a connection that more lines follow on from now on with those alone."""
        self.remove(connection)
        self.streaming[connection.peer.may_change].append(connection)

    def remove(self, connection: ControlConnection) -> None:
        """Give the place of a connection to others."""
        for peers in (self.open, self.streaming):
            if connection in peers[connection.peer.may_change]:
                peers[connection.peer.may_change].remove(connection)

    @property
    def busy(self) -> bool:
        """Whether anybody is connected."""
        return any(self._connections)

    @property
    def _connections(self) -> list[ControlConnection]:
        return [
            one for peers in (self.open, self.streaming) for kind in peers.values() for one in kind
        ]

    def drain(self) -> None:
        """Abort the connections that wait for no reply; close the others when they have it."""
        for connection in self._connections:
            connection.drain()

    def close(self) -> None:
        """Abort all connections."""
        for connection in self._connections:
            connection.abort()


@implementer(IPushProducer, IHalfCloseableProtocol, IFileDescriptorReceiver)
class ControlConnection(Protocol):
    """One connection. ``peer``: who is at the other end."""

    transport: Any  # a UNIX transport, which has more than ITransport says

    def __init__(self, factory: ControlFactory) -> None:
        self._factory = factory
        self.peer = Peer(0, -1, may_change=False)
        self._buffer = b""
        self._busy = False  # a request is being performed
        self._next: bytes | None = None  # a request that waits for its turn
        self._timeout: IDelayedCall | None = None
        self._idle_since = 0.0
        self._unread = False  # the client leaves replies unread
        self._no_more = False  # the client has sent all that it will
        self._closing = False
        self._beginning = False  # a request; it may be done at once
        self._stream: Stream | None = None

    @property
    def idle_since(self) -> float | None:
        """When the last request ended, `None` while one is under way."""
        return None if self._busy or self._next is not None else self._idle_since

    def abort(self) -> None:
        """Abort the connection; what it has asked for goes on."""
        self._end()
        self._factory.remove(self)
        self.transport.abortConnection()

    def drain(self) -> None:
        """Close the connection when the request that is under way has its reply."""
        if self._busy:
            self._buffer = b""
            self._no_more = True
        else:
            self.abort()

    # What the transport reports.

    def connectionMade(self) -> None:
        """Accept the connection, or refuse it when there are too many."""
        factory = self._factory
        self.transport.bufferSize = READ_SIZE
        self.peer = factory.find_peer(self.transport.socket)
        self._idle_since = factory.clock.seconds()
        if not factory.admit(self):
            self._refuse(Refused(BUSY, "there are too many connections: try again"))
            return
        self.transport.registerProducer(self, True)
        self._expect()

    def dataReceived(self, data: bytes) -> None:
        """Answer what has come."""
        if self._stream is not None:  # there is nothing that could be answered any more
            self.abort()
            return
        self._buffer += data
        self._proceed()

    def readConnectionLost(self) -> None:
        """Answer what has come, and close: there will be no more."""
        self._no_more = True
        if self._stream is None:
            self._proceed()

    def writeConnectionLost(self) -> None:
        """Close: nobody reads."""
        self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave what has been asked for to itself, and let others in."""
        self._end()
        self._factory.remove(self)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Close what the client has sent beside its octets."""
        os.close(descriptor)

    def pauseProducing(self) -> None:
        """Read no more: the client does not read its replies."""
        self._unread = True
        if self._stream is None:
            self._read_if_free()
        else:
            self._stream.pause()
        self._expect()

    def resumeProducing(self) -> None:
        """Go on: the client has read."""
        self._unread = False
        if self._stream is None:
            self._expect()
            self._proceed()
        else:
            self._forget_timeout()
            self._stream.resume()

    def stopProducing(self) -> None:
        """Give up, since the connection is lost."""

    # From a request to its reply.

    @property
    def _free(self) -> bool:
        """Whether the next request may begin."""
        occupied = self._busy or self._next is not None or self._stream is not None
        return not (occupied or self._unread or self._closing)

    def _proceed(self) -> None:
        """Begin with the next request if it is there; read on if it is not."""
        while self._free:
            octets, found, rest = self._buffer.partition(b"\n")
            if len(octets) > MAX_LINE:
                self._refuse(Refused(TOO_LONG, f"a request has at most {MAX_LINE} octets"))
            elif found:
                self._buffer = rest
                self._take(octets)
            elif self._no_more:
                self._close()
            else:
                break
        self._read_if_free()

    def _take(self, octets: bytes) -> None:
        """Perform the request in a line, when its turn has come."""
        self._forget_timeout()
        self._next = octets
        if self._factory.turns[self.peer.may_change].begin(self._wake):
            self._begin()

    def _wake(self) -> None:
        self._begin()
        self._proceed()

    def _begin(self) -> None:
        octets, self._next = self._next, None
        assert octets is not None
        self._perform(octets)

    def _perform(self, octets: bytes) -> None:
        try:
            request = allowed(parse_request(octets), self.peer)
            self._factory.check_room(request, self.peer)
        except Refused as refused:
            self._reply(encode_error(refused))
            return
        self._busy = self._beginning = True
        result = self._factory.perform(request, self.peer)
        reply = result.addCallback(partial(self._encode, request.id))
        reply.addErrback(self._explain, request.id).addCallback(self._answer, request.id)
        self._beginning = False

    def _explain(self, failure: Failure, request_id: RequestId) -> bytes:
        """Return the reply to a request that was not done."""
        refused = failure.value
        if not isinstance(refused, Refused):
            self._factory.journal.failure("a request of the control socket has failed", failure)
            refused = Refused(FAILED, "this has failed: see the log of the program")
        refused.request_id = request_id
        return encode_error(refused)

    def _encode(self, request_id: RequestId, result: Result) -> bytes:
        if isinstance(result, Streamed):
            self._stream = result.stream
        return encode_result(request_id, result)

    def _answer(self, reply: bytes, request_id: RequestId) -> None:
        """Reply to the request that was under way, and go on."""
        self._busy = False
        if self._closing:  # nobody waits any more
            return
        self._reply(reply)
        if self._stream is not None:
            self._buffer = b""
            self._factory.stream(self)
            self._stream.start(request_id, self.transport.write)
            if not self._unread:
                self._forget_timeout()  # it may be long until something happens
            self.transport.startReading()  # so that the end of the client is noticed
        elif not self._beginning:
            self._proceed()

    def _reply(self, reply: bytes) -> None:
        self._idle_since = self._factory.clock.seconds()
        self._expect()
        self.transport.write(reply)

    def _refuse(self, refused: Refused) -> None:
        """Give the reason and close."""
        self.transport.write(encode_error(refused))
        self._close()

    def _read_if_free(self) -> None:
        """Read when the next request may come, and only then."""
        if self._closing or self._no_more or self._stream is not None:
            return
        if self._free:
            self.transport.startReading()
        else:
            self.transport.stopReading()

    # Its end.

    def _expect(self) -> None:
        """Wait for the client's next step, for some time."""
        self._forget_timeout()
        if not self._closing:
            self._timeout = self._factory.clock.callLater(IDLE_TIMEOUT, self._timed_out)

    def _timed_out(self) -> None:
        self._timeout = None
        self.abort()

    def _forget_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _close(self) -> None:
        """Close the connection when what is written has been sent, or soon."""
        self._end()
        self._timeout = self._factory.clock.callLater(IDLE_TIMEOUT, self._timed_out)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _end(self) -> None:
        """Cancel all timers; nothing is begun any more."""
        self._closing = True
        self._buffer = b""
        self._forget_timeout()
        if self._stream is not None:
            self._stream.stop()
        if self._next is not None:
            self._next = None
            self._factory.turns[self.peer.may_change].give_up(self._wake)
