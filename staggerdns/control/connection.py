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
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
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

from staggerdns.control.protocol import (
    BUSY,
    FAILED,
    MAX_LINE,
    NOT_ALLOWED,
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
IDLE_TIMEOUT = 30.0
"""Seconds without a whole request, or with an unread reply, after which a connection is aborted."""
READ_SIZE = 8_192
"""Octets that are read at one look."""
_CREDENTIALS = struct.Struct("3i")  # process, user, group


class Peer(NamedTuple):
    """Whose request it is: ``pid`` of the process, ``uid`` of its user; ``may_change``: whether it
    may do more than read.
    """

    pid: int
    uid: int
    may_change: bool


Perform = Callable[[Request, Peer], "Deferred[Result]"]
"""Does what a request asks for; the Deferred fails with `Refused` where that is not done."""


def peer_of(connected: socket.socket, own_uid: Callable[[], int] = os.geteuid) -> Peer:
    """Return who is at the other end of a UNIX socket; user ``own_uid`` runs the program."""
    octets = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(octets)
    return Peer(pid, uid, uid in (0, own_uid()))


def allowed(request: Request, peer: Peer) -> Request:
    """Return a request that its sender may have done. Raises `Refused`."""
    if request.changes and not peer.may_change:
        raise Refused(
            NOT_ALLOWED,
            f"{request.command} is for root and the user that runs the program",
            request_id=request.id,
        )
    return request


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

    def remove(self, connection: ControlConnection) -> None:
        """Give the place of a connection to others."""
        peers = self.open[connection.peer.may_change]
        if connection in peers:
            peers.remove(connection)

    @property
    def busy(self) -> bool:
        """Whether anybody is connected."""
        return any(self.open.values())

    def drain(self) -> None:
        """Abort the connections that wait for no reply; close the others when they have it."""
        for peers in self.open.values():
            for connection in list(peers):
                connection.drain()

    def close(self) -> None:
        """Abort all connections."""
        for peers in self.open.values():
            for connection in list(peers):
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
        self._buffer += data
        self._proceed()

    def readConnectionLost(self) -> None:
        """Answer what has come, and close: there will be no more."""
        self._no_more = True
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
        self._read_if_free()
        self._expect()

    def resumeProducing(self) -> None:
        """Go on: the client has read."""
        self._unread = False
        self._expect()
        self._proceed()

    def stopProducing(self) -> None:
        """Give up, since the connection is lost."""

    # From a request to its reply.

    @property
    def _free(self) -> bool:
        """Whether the next request may begin."""
        occupied = self._busy or self._next is not None
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
        except Refused as refused:
            self._reply(encode_error(refused))
            return
        self._busy = self._beginning = True
        result = self._factory.perform(request, self.peer)
        reply = result.addCallback(partial(encode_result, request.id))
        reply.addErrback(self._explain, request.id).addCallback(self._answer)
        self._beginning = False

    def _explain(self, failure: Failure, request_id: RequestId) -> bytes:
        """Return the reply to a request that was not done."""
        refused = failure.value
        if not isinstance(refused, Refused):
            self._factory.journal.failure("a request of the control socket has failed", failure)
            refused = Refused(FAILED, "this has failed: see the log of the program")
        refused.request_id = request_id
        return encode_error(refused)

    def _answer(self, reply: bytes) -> None:
        """Reply to the request that was under way, and go on."""
        self._busy = False
        if self._closing:  # nobody waits any more
            return
        self._reply(reply)
        if not self._beginning:
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
        if self._closing or self._no_more:
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
        if self._next is not None:
            self._next = None
            self._factory.turns[self.peer.may_change].give_up(self._wake)
