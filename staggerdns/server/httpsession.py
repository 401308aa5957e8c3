"""A client's connection with HTTP on it, whatever its version."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from staggerdns.server.clientconnection import ClientConnection
from staggerdns.server.connections import Connections


class HttpSession(Protocol):
    """A version of HTTP on one connection; ``flow_blocked``: octets that wait for a window."""

    flow_blocked: int

    @property
    def pending(self) -> int:
        """Requests that wait for their responses."""

    @property
    def unfinished(self) -> bool:
        """Whether there is a request that is not whole."""

    def dataReceived(self, data: bytes) -> None:
        """Take what the client says."""

    def resume(self) -> None:
        """Go on after the client has caught up."""

    def announce_end(self) -> None:
        """Tell the client to ask no more here."""

    def connectionLost(self, reason: Failure) -> None:
        """Give up what the client no longer waits for."""


class HttpClientConnection(ClientConnection):
    """A connection with a ``session`` from the first octet on; subclasses open it."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections)
        self.session: HttpSession | None = None

    @abstractmethod
    def open_session(self) -> HttpSession:
        """Return the session; the client has said something."""

    @property
    def pending(self) -> int:
        """Requests that wait for their responses."""
        return self.session.pending if self.session is not None else 0

    @property
    def flow_blocked(self) -> int:
        """Octets of responses that wait for a window."""
        return self.session.flow_blocked if self.session is not None else 0

    def dataReceived(self, data: bytes) -> None:
        """Hand on what comes."""
        if self.closing:
            return
        if self.session is None:
            self.session = self.open_session()
        self.session.dataReceived(data)

    def drain(self) -> None:
        """Take no more requests: the server is going down."""
        self._announce_end()
        super().drain()

    def timeoutConnection(self) -> None:
        """Close an idle connection; a handshake or a request that is never finished, at once."""
        if not self.pending and (self.session is None or self.session.unfinished):
            self.abort()
        else:
            super().timeoutConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what the client no longer waits for."""
        super().connectionLost(reason)
        if self.session is not None:
            self.session.connectionLost(reason)

    def _resume(self) -> None:
        if self.session is not None:
            self.session.resume()

    def _announce_end(self) -> None:
        if self.session is not None:
            self.session.announce_end()
