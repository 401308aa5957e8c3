"""Where the connections of clients and the factory that answers their queries meet.

TCP, TLS and HTTPS share one `Connections`; the pages of metrics have another one. It admits new
connections and drains and closes all of them when the server stops. When there are too many, in all
or of one client, the one that has been idle for the longest is aborted to make room (RFC 7766
section 6.2.3). Replies that clients have not read yet are limited in octets; beyond the limit the
connection with most of them is aborted.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.server.access import Access
from staggerdns.server.clientgroups import ClientGroup, ClientGroups
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.server.request import Reply
from staggerdns.settings.sections import ServerSettings
from staggerdns.standstill import StandstillClock

MAX_DISALLOWED = 16
"""Connections of clients that may not ask: each stays open until it has got one refusal."""
MAX_UNREAD = 1024 * 1024
"""Octets that one connection may leave unread: 16 replies of the largest size."""
MAX_UNREAD_IN_ALL = 4 * 1024 * 1024
"""Octets that all connections together may leave unread, as in unbound's stream-wait-size."""


class OpenConnection(Protocol):
    """What `Connections` knows of a connection."""

    client_group: ClientGroup | None
    """The group of the client; `None` has no limit per client."""
    disallowed: bool
    """Whether its client may not ask."""

    @property
    def idle_since(self) -> float | None:
        """The time since which no query waits there, `None` when one does."""

    @property
    def tcp_transport(self) -> Any:
        """The TCP connection, which may be below one of TLS."""

    def abort(self) -> None:
        """Abort the connection, with all that has not been sent."""

    def drain(self) -> None:
        """Accept no more queries, and close when those that wait are answered."""

    def close(self) -> None:
        """Close the connection when what is written has been sent."""


class StreamServer(Protocol):
    """What a connection knows of the factory behind it."""

    client_connections: Connections
    access: Access
    journal: Journal
    clock: IReactorTime
    no_listener: ListenerContext
    """The context of what comes in by none of the listeners."""

    def observe_ready(self, seconds: float, times: int) -> None:
        """Count ``times`` ready replies that took ``seconds`` each."""

    def serve(
        self,
        message: bytes,
        host: str,
        transport: str,
        now: float,
        listener: ListenerContext | None = None,
    ) -> Reply:
        """Return the reply to a message, a Deferred of it, or `None` when it deserves none."""

    def serve_stream(
        self, message: bytes, host: str, transport: str, listener: ListenerContext | None = None
    ) -> Reply:
        """Answer a message as `serve` does: ready replies come first."""


class Connections:
    """The ``open`` connections, as many as ``settings`` allow.

    Idle times do not count the time for which the whole program stood still (`StandstillClock`).
    ``refused`` counts connections for which there was no room, ``dropped`` those that were aborted
    because their clients did not read.
    """

    def __init__(
        self,
        settings: ServerSettings,
        clock: IReactorTime,
        client_groups: ClientGroups,
        *,
        refused: Cell,
        dropped: Cell,
    ) -> None:
        self.use(settings, client_groups)
        self.clock = StandstillClock(clock)
        self.refused = refused
        self.dropped = dropped
        self.open: list[OpenConnection] = []
        self._unread: dict[OpenConnection, int] = {}
        self._unread_in_all = 0

    def use(self, settings: ServerSettings, client_groups: ClientGroups) -> None:
        """Go by these limits from now on; what is open stays open."""
        self.idle_timeout = settings.tcp_idle_timeout
        self.max_connections = settings.tcp_max_connections
        self._max_per_client = settings.tcp_max_per_client
        self.client_groups = client_groups

    @property
    def unread(self) -> int:
        """Octets that all clients together have yet to read."""
        return self._unread_in_all

    def admit(self, connection: OpenConnection) -> bool:
        """Admit ``connection`` if there is room or another can make room; return whether it is in.

        For a client that has as many as it may, one of its own has to make room.
        """
        if not self._has_room(connection):
            self.refused.value += 1
            return False
        self.open.append(connection)
        return True

    def remove(self, connection: OpenConnection) -> None:
        """Give the place of ``connection`` to others."""
        self.note_unread(connection, 0)
        if connection in self.open:
            self.open.remove(connection)

    def tcp_transports(self) -> set[Any]:
        """Return the TCP connections below those that are open."""
        return {connection.tcp_transport for connection in self.open}

    def drain(self) -> None:
        """Accept no more queries on any of them, and close each when it has no answers to send."""
        for connection in list(self.open):
            connection.drain()

    def close(self) -> None:
        """Close each of them when what is written has been sent."""
        for connection in list(self.open):
            connection.close()

    def abort(self) -> None:
        """Abort all of them."""
        for connection in list(self.open):
            connection.abort()

    def note_unread(self, connection: OpenConnection, octets: int) -> None:
        """Note how many octets the client of ``connection`` has yet to read.

        Aborts the connection if these are too many, and, while all connections together have too
        many, the one that has most.
        """
        known = self._unread.pop(connection, 0)
        if not octets and not known:
            return
        self._unread_in_all += octets - known
        if not octets:
            return
        self._unread[connection] = octets
        if octets > MAX_UNREAD:
            self._drop(connection)
        while self._unread_in_all > MAX_UNREAD_IN_ALL:
            self._drop(max(self._unread.items(), key=itemgetter(1))[0])

    def _drop(self, connection: OpenConnection) -> None:
        self.dropped.value += 1
        self.note_unread(connection, 0)
        connection.abort()

    def _has_room(self, newcomer: OpenConnection) -> bool:
        if newcomer.disallowed:
            return sum(peer.disallowed for peer in self.open) < MAX_DISALLOWED
        peers = [peer for peer in self.open if not peer.disallowed]
        if newcomer.client_group is not None:
            own = [peer for peer in peers if peer.client_group == newcomer.client_group]
            if len(own) >= self._max_per_client:
                return _make_room(own)
        return len(peers) < self.max_connections or _make_room(peers)


def _make_room(peers: list[OpenConnection]) -> bool:
    """Abort the connection that has been idle for the longest; return whether one was idle."""
    idle = [(peer.idle_since, peer) for peer in peers if peer.idle_since is not None]
    if not idle:
        return False
    min(idle, key=itemgetter(0))[1].abort()
    return True
