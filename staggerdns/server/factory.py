"""The pipeline from a client's message to its reply: `StaggerServerFactory.serve`.

A message is parsed into a `Request`. If its client may ask, it is answered locally, which concerns
names and types that never go upstream; else from the cache; else the forwarder collects answers
for it. The answer is rendered as the bytes of a reply.

The factory is a `twisted.names.server.DNSServerFactory`: it is given ``caches`` and ``clients``,
builds the protocols of TCP connections, and its ``resolver`` is the chain as Twisted knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.names import dns
from twisted.names.server import DNSServerFactory
from twisted.python.failure import Failure

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.resolver.adapter import CacheAdapter, ForwarderAdapter
from staggerdns.resolver.entry import Entry
from staggerdns.server.answered import AnswerHub
from staggerdns.server.connections import Connections
from staggerdns.server.listenercontext import CurrentGroups, ListenerContext
from staggerdns.server.pending import Pending
from staggerdns.server.ready import MAX_READY_OF_STREAMS, ReadyReplies, ReadyTables
from staggerdns.server.rendering import Renderer
from staggerdns.server.request import STREAMS, TCP, UDP, Reply, Request
from staggerdns.server.serving import Serving
from staggerdns.server.sources import CACHE, LOCAL, REFUSED, SHARED, STALE, UPSTREAM
from staggerdns.server.stream import StreamProtocol
from staggerdns.settings.addresses import Listener
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import COOKIE, RCODE, RD, Ede, Rcode
from staggerdns.wire.edns import option
from staggerdns.wire.query import Query, Rejected, Unanswerable, parse_query
from staggerdns.wire.question import Question
from staggerdns.wire.render import render_error


class StaggerServerFactory(DNSServerFactory):
    """Answers queries from the chain ``caches`` + ``clients`` by ``rules``.

    The chain has one cache and one client, each behind its adapter: an `AnswerCache` and a
    `Forwarder`. Which these are is asked anew for every message.
    """

    noisy = False
    protocol = StreamProtocol  # type: ignore[assignment]  # any stream protocol will do

    def __init__(
        self,
        caches: Sequence[CacheAdapter],
        clients: Sequence[ForwarderAdapter],
        rules: Serving,
        *,
        clock: IReactorTime,
        metrics: Metrics,
        journal: Journal,
        answers: AnswerHub,
    ) -> None:
        super().__init__(caches=list(caches), clients=list(clients))
        (self._caching,) = caches
        (self._forwarding,) = clients
        self.clock = clock
        self.metrics = metrics
        self.journal = journal
        self.answers = answers
        self.client_connections = Connections(
            rules.settings,
            clock,
            rules.client_groups,
            refused=metrics.tcp_refused.cell(),
            dropped=metrics.unread_dropped.cell(),
        )
        self._pending = Pending(rules.settings, metrics)
        self._groups = CurrentGroups(rules.groups)
        self._ready = {UDP: ReadyTables()}
        self._ready |= {name: ReadyTables(MAX_READY_OF_STREAMS) for name in STREAMS}
        answers.on_switch(self._report_all)
        self.no_listener = self.listener_context(None)
        self.use(rules)
        self._answered = {
            source: metrics.answer_seconds.distribution(source)
            for source in (CACHE, STALE, UPSTREAM, SHARED)
        }
        self._drained: Deferred[None] | None = None
        metrics.tcp_connections.read_from(lambda: len(self.client_connections.open))
        metrics.unread_octets.read_from(lambda: self.client_connections.unread)

    def use(self, rules: Serving) -> None:
        """Serve clients by these rules from now on; connections stay, and queries that wait."""
        self.access = rules.access
        self.limiter, self.proxies = rules.limiter, rules.proxies
        self.client_groups = rules.client_groups
        self._local = rules.local
        self._cookies = rules.cookies
        self._renderer = Renderer(self._caching, rules.local, rules.settings.max_udp_size)
        self._groups.replace(rules.groups)
        self._pending.use(rules.settings)
        self.client_connections.use(rules.settings, rules.client_groups)
        for tables in self._ready.values():
            tables.begin_anew()

    def listener_context(self, listener: Listener | None) -> ListenerContext:
        """Return what the sockets of a listener share; each listener has a context of its own."""
        return ListenerContext(listener, self._groups, self._ready)

    @property
    def ready(self) -> dict[str, ReadyReplies]:
        """By transport, what is ready for clients who came in by none of the listeners."""
        return self.no_listener.ready

    def forget_ready(self) -> None:
        """Forget all replies that are ready: what they were made by has changed."""
        for tables in self._ready.values():
            tables.clear()

    def _report_all(self, wanted: bool) -> None:
        for tables in self._ready.values():
            tables.report(wanted)

    def serve(
        self,
        message: bytes,
        host: str,
        transport: str,
        now: float,
        listener: ListenerContext | None = None,
    ) -> Reply:
        """Answer one message from the client at ``host``, which came over ``transport`` at ``now``,
        by ``listener``, `None` if by none of the configuration.

        Returns the reply, a Deferred of it, or `None` when the message deserves none.
        """
        self._local.look(now)
        context = listener or self.no_listener
        ready = context.ready[transport]
        reported = self.answers.active
        reply = ready.reported_reply(message, host, now) if reported else None
        if reply is None:
            reply = ready.renew(message, host, now, self._caching.cache)
        if reply is not None:
            seconds = self.clock.seconds() - now
            self.observe_ready(seconds, 1)
            if reported:
                self.answers.report_ready(message, reply, host, transport, context, seconds)
            return reply
        try:
            query = parse_query(message)
        except Unanswerable as error:
            self.metrics.dropped.cell(transport, error.reason).value += 1
            return None
        except Rejected as rejected:
            request = self._request(rejected.query, host, transport, now, context)
            return self._reject(request, rejected.rcode)
        return self._answer(self._request(query, host, transport, now, context))

    def serve_stream(
        self, message: bytes, host: str, transport: str, listener: ListenerContext | None = None
    ) -> Reply:
        """Answer one message as `serve` does, over TCP, TLS or HTTPS: ready replies come first."""
        now = self.clock.seconds()
        context = listener or self.no_listener
        reply = context.ready[transport].reply(message, host, now)
        if reply is None:
            return self.serve(message, host, transport, now, context)
        self.observe_ready(self.clock.seconds() - now, 1)
        return reply

    def serve_beyond_limit(
        self,
        message: bytes,
        host: str,
        transport: str,
        now: float,
        listener: ListenerContext | None = None,
    ) -> Reply:
        """Answer one message from a client that is beyond its rate limit.

        One with a valid cookie is answered as usual. Some of the others get a small reply, which
        tells a real client to ask again with the cookie in it, or over TCP; the rest get none.
        """
        assert self.limiter is not None
        actions = self.metrics.rate_limited
        request: Request | None = None
        with suppress(Unanswerable, Rejected):
            context = listener or self.no_listener
            request = self._request(parse_query(message), host, transport, now, context)
        if request is not None and request.query.cookie and self._cookies is not None:
            if self._cookies.is_valid(request.query.cookie, host, now):
                actions.cell("excused").value += 1
                return self._answer(request)
            self._attach_cookie(request)
        if request is None or not self.limiter.slips():
            actions.cell("dropped").value += 1
            self.metrics.dropped.cell(transport, "rate_limited").value += 1
            return None
        query = request.query
        self.metrics.query(transport, query.qtype).value += 1
        if query.options:  # RFC 7873 section 5.2.3
            actions.cell("bad_cookie").value += 1
            return self._refuse(request, Rcode.BADCOOKIE)
        actions.cell("truncated").value += 1
        return self._count(request, render_error(query, Rcode.NOERROR, truncated=True), REFUSED)

    def drain(self) -> Deferred[None]:
        """Return a Deferred that fires when no request waits for an answer any more."""
        if not self._pending:
            return succeed(None)
        self._drained = Deferred()
        return self._drained

    def observe_ready(self, seconds: float, times: int) -> None:
        """Count ``times`` ready replies that took ``seconds`` each."""
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
        transport_name = UDP if address is not None else TCP
        reply = self.serve(message.toStr(), host, transport_name, self.clock.seconds())
        if isinstance(reply, Deferred):
            reply.addCallback(send)
        else:
            send(reply)

    # From a query to its reply.

    def _request(
        self,
        query: Query,
        host: str,
        transport: str,
        now: float,
        context: ListenerContext,
    ) -> Request:
        return Request(query, host, transport, now, self.client_groups.find(host), context)

    def _answer(self, request: Request) -> Deferred[bytes] | bytes:
        """Answer a query: here, from the cache, or with what the forwarder finds."""
        query = request.query
        self.metrics.query(request.transport, query.qtype).value += 1
        if query.cookie:
            self._attach_cookie(request)
        if not self.access.allows(request.host):
            return self._refuse(request, Rcode.REFUSED, Ede.PROHIBITED)
        request.rules = request.listener.rules(request.host)
        local = self._local.answer(request, request.rules)
        if local is not None:
            render_answer = self._renderer.of_answer
            if isinstance(local, Rcode):
                ede = Ede.NOT_SUPPORTED if local == Rcode.REFUSED else None
                return self._refuse(request, local, ede)
            if isinstance(local, FailureAnswer):
                why, text = local.ede, local.text
                reply = render_answer(request, local, local.ttl, why, text)
            else:
                reply = render_answer(request, local, local.ttl)
            return self._count(request, reply, LOCAL)
        if not query.flags & RD:  # no snooping in the cache (RFC 8914 4.21)
            return self._refuse(request, Rcode.REFUSED, Ede.NOT_AUTHORITATIVE)
        entry = self._caching.cache.lookup(request.key, request.started)
        if entry is not None:
            return self._answer_from_cache(request, entry)
        return self._forward(request)

    def _reject(self, request: Request, rcode: Rcode) -> bytes:
        """Refuse a query that `parse_query` has rejected."""
        if request.query.cookie:
            self._attach_cookie(request)
        if not self.access.allows(request.host):
            return self._refuse(request, Rcode.REFUSED, Ede.PROHIBITED)
        return self._refuse(request, rcode, Ede.NOT_SUPPORTED if rcode == Rcode.NOTIMP else None)

    def _attach_cookie(self, request: Request) -> None:
        if self._cookies is not None:
            query = request.query
            made = self._cookies.reply_cookie(query.cookie, request.host, request.started)
            query.options = option(COOKIE, made)

    def _answer_from_cache(self, request: Request, entry: Entry) -> bytes:
        query, transport, now = request.query, request.transport, request.started
        cache = self._caching.cache
        stale = cache.freshness.is_stale(entry, now)
        reply = self._renderer.of_entry(request, entry, now, stale=stale)
        rcode = reply[3] & RCODE
        if query.plain and not stale and rcode != Rcode.SERVFAIL and request.block is None:
            request.listener.ready[transport].keep(
                query.message,
                reply,
                cache.freshness.true_until(entry, now),
                entry,
                self.metrics.hit(transport, query.qtype, rcode),
                request.key if request.alias is None and not request.decided else b"",
                request.host,
                request.rules,
            )
        source = STALE if stale else CACHE
        self._answered[source].observe(self.clock.seconds() - now)
        return self._count(request, reply, source)

    def _forward(self, request: Request) -> Deferred[bytes]:
        found = self._forwarding.forwarder.find(Question(request.key), request.started)
        if not found.called:
            self._pending.add(request, found)
        return found.addCallbacks(
            self._got_entry, self._got_failure, callbackArgs=(request,), errbackArgs=(request,)
        )

    def _got_entry(self, entry: Entry, request: Request) -> bytes:
        self._request_done(request)
        now = self.clock.seconds()
        stale = self._caching.cache.freshness.is_stale(entry, now)
        reply = self._renderer.of_entry(request, entry, now, stale=stale)
        source = STALE if stale else SHARED if entry.hearsay else UPSTREAM
        self._answered[source].observe(now - request.started)
        return self._count(request, reply, source)

    def _got_failure(self, failure: Failure, request: Request) -> bytes:
        self._request_done(request)
        if not request.evicted:
            if failure.check(CancelledError):
                failure.raiseException()
            self.journal.failure("a query could not be answered", failure)
        return self._refuse(request, Rcode.SERVFAIL, Ede.OTHER)

    def _request_done(self, request: Request) -> None:
        self._pending.remove(request)
        if not self._pending and self._drained is not None:
            drained, self._drained = self._drained, None
            self.clock.callLater(0, drained.callback, None)  # after the reply itself

    def _refuse(self, request: Request, rcode: Rcode, ede: Ede | None = None) -> bytes:
        reply = request.padded(render_error(request.query, rcode, ede))
        return self._count(request, reply, REFUSED, rcode)

    def _count(
        self, request: Request, reply: bytes, source: str, rcode: int | None = None
    ) -> bytes:
        """Count and report a reply that leaves; ``rcode``: where the header has a part of it."""
        code = reply[3] & RCODE if rcode is None else rcode
        self.metrics.response(request.transport, code).value += 1
        if self.answers.active:
            self.answers.report(request, reply, source, self.clock.seconds())
        return reply
