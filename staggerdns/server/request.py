"""A request: one query, who sent it and when. It is made once, where the message comes in."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from staggerdns.server.clientgroups import ClientGroup
from staggerdns.wire.query import Query

UDP = "udp"
TCP = "tcp"
TLS = "tls"
HTTPS = "https"
"""Transports, as metrics call them."""
STREAMS = (TCP, TLS, HTTPS)
ENCRYPTED = frozenset((TLS, HTTPS))

Reply = Deferred[bytes] | bytes | None
"""A reply, a Deferred of it, or `None` for a message that deserves none."""


class Request:
    """A query from the client at ``host`` (text) over ``transport``.

    ``started``: seconds of the server's clock at which it came. ``client``: whom limits per client
    count it for, `None` if they do not apply. ``shed``: it had to make room for others that wait.
    """

    __slots__ = ("query", "host", "transport", "started", "client", "shed")

    def __init__(
        self, query: Query, host: str, transport: str, started: float, client: ClientGroup | None
    ) -> None:
        self.query = query
        self.host = host
        self.transport = transport
        self.started = started
        self.client = client
        self.shed = False
