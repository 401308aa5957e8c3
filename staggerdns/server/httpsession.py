"""What connections of clients over HTTP have in common, whatever its version."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from staggerdns.server.clientconnection import ClientConnection
from staggerdns.server.connections import Connections


class HttpSession(Protocol):
    """HTTP on one connection; ``flow_blocked``: octets that flow control does not let us send."""

    flow_blocked: int

    @property
    def pending(self) -> int:
        """Requests that wait for their responses."""

    @property
    def unfinished(self) -> bool:
        """Whether there is a request that is not complete."""

    def dataReceived(self, data: bytes) -> None:
        """Process what the client sends."""

    def resume(self) -> None:
        """Continue after the client has read its responses."""

    def announce_end(self) -> None:
        """Tell the client to send no more requests here."""

    def connectionLost(self, reason: Failure) -> None:
        """Cancel what the client no longer waits for."""


class HttpClientConnection(ClientConnection):
    """A connection whose ``session``, opened at the first octet, speaks HTTP."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections)
        self.session: HttpSession | None = None

    @abstractmethod
    def open_session(self) -> HttpSession:
        """Return a new session; called when the first octet has come."""

    @property
    def pending(self) -> int:
        """Requests that wait for their responses."""
        return self.session.pending if self.session is not None else 0

    @property
    def flow_blocked(self) -> int:
        """Octets of responses that flow control does not let us send yet."""
        return self.session.flow_blocked if self.session is not None else 0

    def dataReceived(self, data: bytes) -> None:
        """Hand what the client sends to the session."""
        if self.closing:
            return
        if self.session is None:
            self.session = self.open_session()
        self.session.dataReceived(data)

    def drain(self) -> None:
        """Accept no more requests, since the server stops."""
        self._announce_end()
        super().drain()

    def _idle_too_long(self) -> None:
        """Close an idle connection; abort it if a handshake or request was never completed."""
        if not self.pending and (self.session is None or self.session.unfinished):
            self.abort()
        else:
            super()._idle_too_long()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel what the client no longer waits for."""
        super().connectionLost(reason)
        if self.session is not None:
            self.session.connectionLost(reason)

    def _resume(self) -> None:
        if self.session is not None:
            self.session.resume()

    def _announce_end(self) -> None:
        if self.session is not None:
            self.session.announce_end()
