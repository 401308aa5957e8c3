"""The server: every query, whatever brought it, passes `StaggerServerFactory.serve`.

A query is scanned, checked against access control, answered locally if it never goes upstream,
else looked up in the caches of the chain and at last handed to its client, the forwarder. What
comes back is reply bytes. The factory is a `twisted.names.server.DNSServerFactory`: it is
given ``caches`` and ``clients``, builds the stream protocols, and its ``resolver`` is the chain as
Twisted knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.names import dns
from twisted.names.server import DNSServerFactory
from twisted.python.failure import Failure

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.server.access import Access
from staggerdns.server.clients import Clients
from staggerdns.server.connections import Connections, StreamLimits
from staggerdns.server.cookies import Cookies
from staggerdns.server.local import LocalNames, LocalRules
from staggerdns.server.pending import Pending, PendingLimits, Waiter
from staggerdns.server.ratelimit import RateLimiter
from staggerdns.server.ready import MAX_READY_OF_STREAMS, ReadyReplies
from staggerdns.server.stream import StreamProtocol
from staggerdns.wire.answer import Failed
from staggerdns.wire.constants import AD, EDNS_UDP_SIZE, MAX_MESSAGE, RCODE, RD, Ede, Rcode
from staggerdns.wire.edns import padded_reply
from staggerdns.wire.query import Query, Rejected, Unanswerable, parse_query
from staggerdns.wire.render import cookie_option, render, render_error

__all__ = ["HTTPS", "TCP", "TLS", "UDP", "StaggerServerFactory", "StreamLimits"]

UDP = "udp"
TCP = "tcp"
TLS = "tls"
HTTPS = "https"
_STREAMS = (TCP, TLS, HTTPS)
_ENCRYPTED = frozenset((TLS, HTTPS))


class StaggerServerFactory(DNSServerFactory):
    """Answers queries from the chain ``caches`` + ``clients`` for those whom ``access`` allows.

    The chain has one cache and one client: an `AnswerCache` and the `Forwarder` behind it.
    ``local`` answers in front of it; if not given, all special names and no hosts file.
    """

    noisy = False
    protocol = StreamProtocol  # type: ignore[assignment]  # any stream protocol will do

    def __init__(
        self,
        caches: Sequence[AnswerCache],
        clients: Sequence[Forwarder],
        *,
        access: Access,
        local: LocalNames | None = None,
        clock: IReactorTime,
        metrics: Metrics,
        journal: Journal,
        stream_limits: StreamLimits,
        identities: Clients,
        pending_limits: PendingLimits,
        max_udp_size: int = EDNS_UDP_SIZE,
        cookies: Cookies | None = None,
        limiter: RateLimiter | None = None,
    ) -> None:
        super().__init__(caches=list(caches), clients=list(clients))
        (self._cache,) = caches
        (self._forwarder,) = clients
        self.clock = clock
        self.metrics = metrics
        self.journal = journal
        self.client_connections = Connections(
            stream_limits,
            clock,
            identities,
            refused=metrics.tcp_refused.cell(),
            dropped=metrics.unread_dropped.cell(),
        )
        self.limiter = limiter
        self.identities = identities
        self._max_udp_size = max_udp_size
        self._cookies = cookies
        self.ready = ReadyReplies(access)
        self._ready = {UDP: self.ready}
        self._ready |= {name: ReadyReplies(access, MAX_READY_OF_STREAMS) for name in _STREAMS}
        self.access = access
        self._local = local if local is not None else LocalNames(LocalRules(), None)
        self._answered = {
            source: metrics.answer_seconds.distribution(source)
            for source in ("cache", "stale", "upstream")
        }
        self._pending = Pending(pending_limits, metrics)
        self._drained: Deferred[None] | None = None
        metrics.tcp_connections.read_from(lambda: len(self.client_connections.open))
        metrics.unread_octets.read_from(lambda: self.client_connections.unread)

    def serve(self, message: bytes, host: str, transport: str) -> Deferred[bytes] | bytes | None:
        """Answer one message from the client at ``host`` over ``transport`` (UDP or TCP).

        Returns the reply, a Deferred of it, or `None` when the message deserves none.
        """
        try:
            query = parse_query(message)
        except Unanswerable:
            self.metrics.dropped.cell(transport, "unanswerable").value += 1
            return None
        except Rejected as rejected:
            if rejected.query.cookie:
                self._attach_cookie(rejected.query, host)
            if not self.access.allows(host):
                return self._refuse(rejected.query, transport, Rcode.REFUSED, Ede.PROHIBITED)
            ede = Ede.NOT_SUPPORTED if rejected.rcode == Rcode.NOTIMP else None
            return self._refuse(rejected.query, transport, rejected.rcode, ede)
        self.metrics.query(transport, query.qtype).value += 1
        if query.cookie:
            self._attach_cookie(query, host)
        if not self.access.allows(host):
            return self._refuse(query, transport, Rcode.REFUSED, Ede.PROHIBITED)
        local = self._local.answer(query)
        if local is not None:
            if isinstance(local, Rcode):
                ede = Ede.NOT_SUPPORTED if local == Rcode.REFUSED else None
                return self._refuse(query, transport, local, ede)
            reply = render(query, local, local.ttl, self._limit(query, transport))
            return self._count(_padded(query, reply, transport), transport)
        if not query.flags & RD:  # what the cache holds is nobody else's business (RFC 8914 4.21)
            return self._refuse(query, transport, Rcode.REFUSED, Ede.NOT_AUTHORITATIVE)
        now = self.clock.seconds()
        entry = self._cache.lookup(query.key, now)
        if entry is not None:
            return self._reply_from_cache(query, entry, transport, now)
        return self._ask(query, host, transport, now)

    def serve_stream(
        self, message: bytes, host: str, transport: str
    ) -> Deferred[bytes] | bytes | None:
        """Answer one message as `serve` does, over TCP, TLS or HTTPS: ready replies come first."""
        started = self.clock.seconds()
        reply = self._ready[transport].reply(message, host, started)
        if reply is None:
            return self.serve(message, host, transport)
        self.observe_ready(self.clock.seconds() - started, 1)
        return reply

    def serve_beyond_limit(
        self, message: bytes, host: str, transport: str
    ) -> Deferred[bytes] | bytes | None:
        """Answer one message from a client that is beyond its rate limit.

        A good cookie excuses it. Of the others some get a small reply by which a real client
        knows how to come back: with the cookie in it, or over TCP.
        """
        assert self.limiter is not None
        actions = self.metrics.rate_limited
        try:
            query: Query | None = parse_query(message)
        except (Unanswerable, Rejected):
            query = None
        if query is not None and query.cookie and self._cookies is not None:
            if self._cookies.proves(query.cookie, host):
                actions.cell("excused").value += 1
                return self.serve(message, host, transport)
            self._attach_cookie(query, host)
        if query is None or not self.limiter.slips():
            actions.cell("dropped").value += 1
            self.metrics.dropped.cell(transport, "rate_limited").value += 1
            return None
        self.metrics.query(transport, query.qtype).value += 1
        if query.options:  # RFC 7873 section 5.2.3
            actions.cell("bad_cookie").value += 1
            return self._refuse(query, transport, Rcode.BADCOOKIE)
        actions.cell("truncated").value += 1
        self.metrics.response(transport, Rcode.NOERROR).value += 1
        return render_error(query, Rcode.NOERROR, truncated=True)

    def drain(self) -> Deferred[None]:
        """Return a Deferred that fires when nobody waits for an answer any more."""
        if not self._pending:
            return succeed(None)
        self._drained = Deferred()
        return self._drained

    def observe_ready(self, seconds: float, times: int) -> None:
        """Count ``times`` replies that were ready and took ``seconds`` each."""
        self._answered["cache"].observe(seconds, times)

    def messageReceived(
        self,
        message: dns.Message,
        proto: dns.DNSDatagramProtocol | dns.DNSProtocol,
        address: tuple[str, int] | None = None,
    ) -> None:
        """Answer a decoded message, for programs that put Twisted's own protocols in front."""
        transport: Any = proto.transport

        def send(reply: bytes | None) -> None:
            if reply is None:
                return
            if address is not None:
                transport.write(reply, address)
            else:
                transport.write(len(reply).to_bytes(2, "big") + reply)

        host = address[0] if address is not None else transport.getPeer().host
        reply = self.serve(message.toStr(), host, UDP if address is not None else TCP)
        if isinstance(reply, Deferred):
            reply.addCallback(send)
        else:
            send(reply)

    def _attach_cookie(self, query: Query, host: str) -> None:
        if self._cookies is not None:
            query.options = cookie_option(self._cookies.answer(query.cookie, host))

    def _reply_from_cache(self, query: Query, entry: Entry, transport: str, now: float) -> bytes:
        stale = self._cache.is_stale(entry, now)
        reply = self._render(query, entry, transport, now)
        rcode = reply[3] & RCODE
        if query.plain and not stale and rcode != Rcode.SERVFAIL:
            self._ready[transport].keep(
                query.message,
                reply,
                self._cache.true_until(entry, now),
                entry,
                self.metrics.hit(transport, query.qtype, rcode),
            )
        source = "stale" if stale else "cache"
        self._answered[source].observe(self.clock.seconds() - now)
        return self._count(reply, transport)

    def _ask(self, query: Query, host: str, transport: str, now: float) -> Deferred[bytes]:
        found = self._forwarder.find(query.question(), now)
        waiter = Waiter(query, transport, now, found, self.identities.find(host))
        if not found.called:
            self._pending.add(waiter)
        return found.addCallbacks(
            self._got_entry, self._got_failure, callbackArgs=(waiter,), errbackArgs=(waiter,)
        )

    def _got_entry(self, entry: Entry, waiter: Waiter) -> bytes:
        self._one_answered(waiter)
        now = self.clock.seconds()
        reply = self._render(waiter.query, entry, waiter.transport, now)
        source = "stale" if self._cache.is_stale(entry, now) else "upstream"
        self._answered[source].observe(now - waiter.started)
        return self._count(reply, waiter.transport)

    def _got_failure(self, failure: Failure, waiter: Waiter) -> bytes:
        self._one_answered(waiter)
        if not waiter.shed:
            if failure.check(CancelledError):
                failure.raiseException()
            self.journal.failure("a query could not be answered", failure)
        return self._refuse(waiter.query, waiter.transport, Rcode.SERVFAIL, Ede.OTHER)

    def _one_answered(self, waiter: Waiter) -> None:
        self._pending.remove(waiter)
        if not self._pending and self._drained is not None:
            drained, self._drained = self._drained, None
            self.clock.callLater(0, drained.callback, None)  # behind the reply itself

    def _render(self, query: Query, entry: Entry, transport: str, now: float) -> bytes:
        answer = self._cache.living(entry, now)
        ede: int | None = None
        text = b""
        if isinstance(answer, Failed):
            ede, text = answer.ede, answer.text
        elif self._cache.is_stale(entry, now):
            ede = Ede.STALE_NXDOMAIN if answer.rcode == Rcode.NXDOMAIN else Ede.STALE_ANSWER
        ttl = self._cache.reply_ttl(entry, now)
        reply = render(query, answer, ttl, self._limit(query, transport), ede, text)
        if answer.rcode == Rcode.NXDOMAIN and self._local.exists(query):
            reply = _deny_data_only(reply)
        return _padded(query, reply, transport)

    def _refuse(self, query: Query, transport: str, rcode: Rcode, ede: Ede | None = None) -> bytes:
        self.metrics.response(transport, rcode).value += 1
        return _padded(query, render_error(query, rcode, ede), transport)

    def _count(self, reply: bytes, transport: str) -> bytes:
        self.metrics.response(transport, reply[3] & RCODE).value += 1
        return reply

    def _limit(self, query: Query, transport: str) -> int:
        """Return the bytes that a reply may have."""
        return min(query.payload, self._max_udp_size) if transport == UDP else MAX_MESSAGE


def _deny_data_only(reply: bytes) -> bytes:
    """Turn NXDOMAIN into NODATA: upstreams do not know of a name that is here (RFC 8020)."""
    return reply[:3] + bytes((reply[3] & ~(RCODE | AD),)) + reply[4:]


def _padded(query: Query, reply: bytes, transport: str) -> bytes:
    """Pad ``reply`` as ``query`` is, where that hides something (RFC 7830 section 6)."""
    return padded_reply(query.message, reply) if transport in _ENCRYPTED else reply
