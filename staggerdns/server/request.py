"""A client's request: a query, who sent it, over what and when.

It is made once, where the message comes in, and handed through the pipeline.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from staggerdns.policy.blocking import Block
from staggerdns.policy.rules import Rules
from staggerdns.server.clientgroups import ClientGroup
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.wire.alias import Alias
from staggerdns.wire.constants import MAX_MESSAGE
from staggerdns.wire.edns import padded_reply
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

    ``started``: the time at which it came, by the server's clock. ``client_group``: whose limits
    count it, `None` if there are none. ``listener``: what it came in by. ``rules``: those of its
    client, once it may ask. ``alias``: where its name leads, if that is another name, and ``key``:
    under which its answer is looked for, that name's then, in its scope. ``block``: why it gets no
    data, if a list is the reason. ``decided``: its reply hangs on what may change while the entry
    of the cache does not. ``evicted``: it waited, and gave way.
    """

    __slots__ = (
        "query",
        "host",
        "transport",
        "started",
        "client_group",
        "listener",
        "rules",
        "alias",
        "key",
        "block",
        "decided",
        "evicted",
    )

    def __init__(
        self,
        query: Query,
        host: str,
        transport: str,
        started: float,
        client_group: ClientGroup | None,
        listener: ListenerContext,
    ) -> None:
        self.query = query
        self.host = host
        self.transport = transport
        self.started = started
        self.client_group = client_group
        self.listener = listener
        self.rules: Rules | None = None
        self.alias: Alias | None = None
        self.key = query.key
        self.block: Block | None = None
        self.decided = False
        self.evicted = False

    def limit(self, max_udp_size: int) -> int:
        """Return the octets that the reply may have, of which so many over UDP at most."""
        return min(self.query.payload, max_udp_size) if self.transport == UDP else MAX_MESSAGE

    def padded(self, reply: bytes) -> bytes:
        """Pad ``reply`` if the query is padded and the transport encrypted (RFC 7830 section 6)."""
        if self.transport in ENCRYPTED:
            return padded_reply(self.query.message, reply)
        return reply
