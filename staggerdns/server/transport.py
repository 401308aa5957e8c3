"""TCP connections of clients, which are written to at once.

Twisted keeps what is written until the reactor says that the socket takes more. For a reply that
means two changes of what is watched and one more event. Sockets of clients that read take a reply
nearly always, so it is sent first, and only what they do not take is left to the reactor. What is
written while input is being processed is sent in one piece behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure


class ClientTransport(tcp.Server):
    """One connection that a port has accepted."""

    _reading = False
    _waiting = False  # for the reactor: to send what was written before, or to close
    _held = b""  # written in this turn; never more than ``bufferSize``
    _client: IAddress | None = None  # for whom a proxy at the other end speaks

    def speak_for(self, client: IAddress) -> None:
        """Have ``client`` be the peer: what is at the other end is a proxy."""
        self._client = client

    def getPeer(self) -> Any:
        """Return the address of the client."""
        return self._client or super().getPeer()

    def doRead(self) -> Any:
        """Process input, and send what it has led to; called by the reactor."""
        self._reading = True
        result = super().doRead()
        self._reading = False
        if self._held:
            self._send_held()
        return result

    def write(self, data: bytes) -> None:
        """Send ``data``, or what the socket does not take of it as soon as it does."""
        if not self.connected or self._waiting:
            super().write(data)
        elif data:
            self._held += data
            if not self._reading or len(self._held) > self.bufferSize:
                self._send_held()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send these one behind the other."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close the connection when everything has been sent."""
        self._send_held()
        super().loseConnection()

    def abortConnection(self) -> None:
        """Drop the connection with all that has not been sent."""
        super().abortConnection()
        self._held = b""
        self._waiting = True  # nothing is sent in what is left of this turn

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Drop what has not been sent."""
        self._held = b""
        super().connectionLost(reason)

    def startWriting(self) -> None:
        """Have the reactor say when the socket takes more."""
        self._waiting = True
        super().startWriting()

    def stopWriting(self) -> None:
        """Have the reactor say no more, since nothing is left."""
        self._waiting = False
        super().stopWriting()

    def _send_held(self) -> None:
        """Send what the socket takes; the reactor sends the rest, and finds out about errors."""
        data, self._held = self._held, b""
        sent = self.writeSomeData(data) if data else 0
        if isinstance(sent, int) and sent > 0:
            data = data[sent:]
        if data:
            super().write(data)
