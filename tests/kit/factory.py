"""A server on a clock, with a forwarder that does what a test says."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any, cast

import dns.message
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.resolver.adapter import CacheAdapter, ForwarderAdapter
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.server.access import Access
from staggerdns.server.answered import AnswerHub
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.cookies import Cookies
from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.listenercontext import CurrentGroups, ListenerContext
from staggerdns.server.local import LocalNames
from staggerdns.server.ratelimit import RateLimiter
from staggerdns.server.serving import Serving
from staggerdns.settings.networks import Network
from staggerdns.settings.sections import (
    CacheSettings,
    ClientSettings,
    LocalSettings,
    RateLimitSettings,
    ServerSettings,
)
from staggerdns.standstill import LATE
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.question import Question
from tests.kit.clients import parse

FRIEND = "192.0.2.77"
"""A client that may ask; the test servers allow 192.0.2.0/24 and 2001:db8::/32."""
STRANGER = "198.51.100.7"
EPOCH = 1_800_000_000
"""Seconds since 1970 when a server's clock stands at 0."""
NO_LISTENER = ListenerContext(None, CurrentGroups(None), {})
"""The context of requests that came in nowhere."""
ALL_SPECIAL = LocalNames(LocalSettings(), None)
"""What a factory has if nothing is said of local names; for those who make many servers."""


def pool(count: int = 1, *, ttl: int = 300, ad: bool = False) -> AddressPool:
    """Return a pool of this many IPv4 addresses, 198.18.0.0 and the following."""
    first = ip_address("198.18.0.0")
    return AddressPool((), tuple((first + number).packed for number in range(count)), ttl, ad)


class FakeForwarder:
    """Notes what it is asked; ``instant`` answers at once, else the test answers ``waiting``."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.waiting: list[Deferred[Entry]] = []
        self.cancelled: list[Deferred[Entry]] = []
        self.refreshed: list[Question] = []
        self.instant: Entry | None = None

    def find(self, question: Question, now: float) -> Deferred[Entry]:
        """Stand in for `Forwarder.find`."""
        self.asked.append(question)
        if self.instant is not None:
            return succeed(self.instant)
        found: Deferred[Entry] = Deferred(self.cancelled.append)
        self.waiting.append(found)
        return found

    def refresh(self, question: Question, now: float) -> None:
        """Stand in for `Forwarder.refresh`."""
        self.refreshed.append(question)


def make_factory(
    cache: AnswerCache, forwarder: Forwarder, clock: Clock, metrics: Metrics, **changes: Any
) -> StaggerServerFactory:
    """Return a factory in front of these, which clients on loopback may ask, with the default
    limits; ``changes``: other rules than these, or another ``journal``.
    """
    journal = changes.pop("journal", Journal())
    rules = Serving(
        settings=ServerSettings(),
        access=Access([Network("127.0.0.0/8")]),
        local=ALL_SPECIAL,
        client_groups=ClientGroups(ClientSettings()),
    )
    caching = CacheAdapter(cache, clock)
    return StaggerServerFactory(
        caches=[caching],
        clients=[ForwarderAdapter(forwarder, caching, clock)],
        rules=replace(rules, **changes),
        clock=clock,
        metrics=metrics,
        journal=journal,
        answers=AnswerHub(lambda: EPOCH + clock.seconds(), journal, clock),
    )


class MemoryServer:
    """A factory and all that it stands on."""

    def __init__(
        self,
        settings: ServerSettings | None = None,
        *,
        rate: RateLimitSettings | None = None,
        cookies: bool = True,
        local: LocalNames | None = None,
        cache: CacheSettings | None = None,
        most_given: int = 0,
    ) -> None:
        self.clock = Clock()
        self.client_groups = ClientGroups(ClientSettings())
        self.limiter = None if rate is None else RateLimiter(rate, self.client_groups)
        self.cookies = (
            Cookies(self.clock.seconds(), lambda: EPOCH + self.clock.seconds(), bytes)
            if cookies
            else None
        )
        self.metrics = Metrics()
        self.forwarder = FakeForwarder()
        self.cache = AnswerCache(cache or CacheSettings(), self.metrics, most_given=most_given)
        self.cache.refresh_with(self.forwarder.refresh)
        self.access = Access([Network("192.0.2.0/24"), Network("2001:db8::/32")])
        self.factory = make_factory(
            self.cache,
            cast("Forwarder", self.forwarder),
            self.clock,
            self.metrics,
            access=self.access,
            local=ALL_SPECIAL if local is None else local,
            settings=settings or ServerSettings(),
            client_groups=self.client_groups,
            cookies=self.cookies,
            limiter=self.limiter,
        )
        self.generation = 0
        """That of the answer that was committed last."""

    def commit(self, question: Question, answer: Answer) -> Entry:
        """Store an answer as a new collection would."""
        self.generation += 1
        return self.cache.commit(question.key, self.generation, answer, self.clock.seconds())

    def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps: one large step would count as a standstill."""
        self.clock.pump([LATE] * int(seconds / LATE) + [seconds % LATE])

    def entry(self, answer: Answer) -> Entry:
        """Return an entry that is not in the cache."""
        return Entry(answer, 1, self.clock.seconds())

    def now(
        self, message: bytes, host: str = FRIEND, transport: str = "udp"
    ) -> dns.message.Message | None:
        """Return the reply that is given at once, as dnspython reads it."""
        reply = self.factory.serve(message, host, transport, self.clock.seconds())
        assert not isinstance(reply, Deferred)
        return None if reply is None else parse(reply)

    def reply(
        self, message: bytes, host: str = FRIEND, transport: str = "udp"
    ) -> dns.message.Message:
        """Return the reply that must be given at once."""
        found = self.now(message, host, transport)
        assert found is not None
        return found

    def later(self, message: bytes, host: str = FRIEND, transport: str = "udp") -> list[bytes]:
        """Return a list that the reply will be put into when it comes."""
        replies: list[bytes] = []
        reply = self.factory.serve(message, host, transport, self.clock.seconds())
        assert isinstance(reply, Deferred)
        reply.addCallback(replies.append)
        return replies
