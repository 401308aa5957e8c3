"""What stands in front of the links of our chain for Twisted: `IResolver` on top of wire answers.

Inside the program answers travel as `Entry` objects. For other Twisted programs the adapters
provide `twisted.internet.interfaces.IResolver`: records decoded by `twisted.names.dns`, errors
from `twisted.names.error`. Whoever composes the chain may give the adapters another cache and the
forwarder that belongs to it at any time: the server asks for both on every message, and what is
under way keeps its own until it ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IReactorTime, IResolver
from twisted.names import common, dns, error
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.families import Families
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import MAX_MESSAGE, Rcode, WireError
from staggerdns.wire.key import DEFAULT_SCOPE, in_scope
from staggerdns.wire.names import from_text
from staggerdns.wire.query import parse_query
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.render import render

Route = Callable[[bytes, int], int | None]
"""Returns the number of the scope in which a name and type are asked, `None` if there are no such
names.
"""


def _default_scope(*_: object) -> int | None:
    """Return that all names are asked in the default scope."""
    return DEFAULT_SCOPE


Records = tuple[list[dns.RRHeader], list[dns.RRHeader], list[dns.RRHeader]]


class _Lookup(Protocol):
    """What all of Twisted's ``lookup...`` methods are, which have no annotations there."""

    def __call__(
        self, name: str | bytes, timeout: Sequence[int] | None = None
    ) -> Deferred[Records]: ...


@implementer(IResolver)
class _Adapter(common.ResolverBase, ABC):
    """What all adapters have in common; a subclass says where its entries come from."""

    if TYPE_CHECKING:
        lookupAFSDatabase: _Lookup
        lookupAddress: _Lookup
        lookupAddress6: _Lookup
        lookupAllRecords: _Lookup
        lookupAuthority: _Lookup
        lookupCanonicalName: _Lookup
        lookupHostInfo: _Lookup
        lookupIPV6Address: _Lookup
        lookupMailBox: _Lookup
        lookupMailExchange: _Lookup
        lookupMailGroup: _Lookup
        lookupMailRename: _Lookup
        lookupMailboxInfo: _Lookup
        lookupNameservers: _Lookup
        lookupNamingAuthorityPointer: _Lookup
        lookupNull: _Lookup
        lookupPointer: _Lookup
        lookupResponsibility: _Lookup
        lookupSenderPolicy: _Lookup
        lookupService: _Lookup
        lookupText: _Lookup
        lookupWellKnownServices: _Lookup

    def __init__(self, clock: IReactorTime, route: Route) -> None:
        super().__init__()
        self._clock = clock
        self.route = route

    @abstractmethod
    def find(self, question: Question, now: float) -> Deferred[Entry] | Entry | None:
        """Return the entry for ``question``, at once or later, or `None` when there is none."""

    @abstractmethod
    def given(self, entry: Entry, question: Question, now: float) -> tuple[Answer, int]:
        """Return what of the entry for ``question`` a client may be given at ``now``, and with
        which TTL.
        """

    def query(  # type: ignore[override]  # the interface says tuples of records where it means lists
        self, query: dns.Query, timeout: Sequence[int] | None = None
    ) -> Deferred[Records]:
        """Answer a `dns.Query` of any type and class.

        The Deferred fires with (answers, authority, additional) or fails with a
        `twisted.names.error` exception: `DomainError` tells a chain to ask the next resolver.
        ``timeout`` is not needed: collections have their own limits.
        """
        return self._lookup(query.name.name, query.cls, query.type, timeout)

    def getHostByName(  # type: ignore[override]  # as Twisted's own resolvers have it
        self, name: str | bytes, timeout: Sequence[int] | None = None, effort: int = 10
    ) -> Deferred[str | None]:
        """Return the first IPv4 address of ``name``, or else its first IPv6 address."""

        def extract(records: Records) -> str | None:
            found: str | None = common.extractRecord(self, dns.Name(name), records[0], effort)
            if found is None:
                raise DNSLookupError(str(name))
            return found

        def try_ipv6(failure: Failure) -> Deferred[str | None]:
            failure.trap(error.DomainError, DNSLookupError)
            return self.lookupIPV6Address(name).addCallback(extract)

        found: Deferred[str | None] = self.lookupAddress(name).addCallback(extract)
        return found.addErrback(try_ipv6)

    def _lookup(
        self, name: bytes, cls: int, type: int, timeout: Sequence[int] | None
    ) -> Deferred[Records]:
        try:
            question = make_question(from_text(name), type, cls)
        except WireError as problem:
            return fail(error.DNSFormatError(str(problem)))
        now = self._clock.seconds()
        number = self.route(question.name, type)
        if number is None:
            return fail(error.AuthoritativeDomainError(question.name))
        if number != DEFAULT_SCOPE:
            question = Question(in_scope(question.key, number))
        found = self.find(question, now)
        entry = found if isinstance(found, Deferred) else succeed(found)
        return entry.addCallback(self._records, question)

    def _records(self, entry: Entry | None, question: Question) -> Records:
        if entry is None:
            raise error.DomainError(question.name)
        if entry.answer.rcode != Rcode.NOERROR:
            raise self.exceptionForCode(entry.answer.rcode)(question.name)
        query = parse_query(b"\0\0" + question.client_query())
        message = dns.Message()
        answer, ttl = self.given(entry, question, self._clock.seconds())
        message.fromStr(render(query, answer, ttl, MAX_MESSAGE))
        additional = [record for record in message.additional if record.type != dns.OPT]
        return message.answers, message.authority, additional


class CacheAdapter(_Adapter):
    """Answers from ``cache`` alone: one of the ``caches`` of a `DNSServerFactory`.

    ``route`` says in which scope a name is asked, here and behind it. ``families``: what decides
    for a server which families of addresses clients get, `None` if all get both.
    """

    families: Families | None = None

    def __init__(
        self, cache: AnswerCache, clock: IReactorTime, route: Route = _default_scope
    ) -> None:
        super().__init__(clock, route)
        self.cache = cache

    def find(self, question: Question, now: float) -> Entry | None:
        """Return the entry for ``question``, fresh or stale, or `None`."""
        return self.cache.lookup(question.key, now)

    def given(self, entry: Entry, question: Question, now: float) -> tuple[Answer, int]:
        """Return what of the entry for ``question`` a client may be given at ``now``, and with
        which TTL.
        """
        cache, scope = self.cache, question.scope
        return cache.living(entry, now, scope), cache.reply_ttl(entry, now, scope)

    def cacheResult(self, query: dns.Query, payload: Records) -> None:
        """Do nothing: what the forwarder finds it has committed, with more than these records."""

    def exceptionForCode(self, responseCode: int) -> type[Exception]:
        """Return the error of a cached failure: one with which a Twisted chain ends."""
        return error.AuthoritativeDomainError


class ForwarderAdapter(_Adapter):
    """Answers through ``forwarder`` alone: one of the ``clients`` of a `DNSServerFactory`.

    ``caching`` has the cache that it fills.
    """

    def __init__(self, forwarder: Forwarder, caching: CacheAdapter, clock: IReactorTime) -> None:
        super().__init__(clock, caching.route)
        self.forwarder = forwarder
        self._caching = caching

    def find(self, question: Question, now: float) -> Deferred[Entry]:
        """Return a Deferred of the entry for ``question``."""
        return self.forwarder.find(question, now)

    def given(self, entry: Entry, question: Question, now: float) -> tuple[Answer, int]:
        """Return what of the entry for ``question`` a client may be given at ``now``, and with
        which TTL.
        """
        return self._caching.given(entry, question, now)


class ChainAdapter(_Adapter):
    """The whole chain as one resolver, for programs that want answers and no server."""

    def __init__(
        self, caching: CacheAdapter, forwarding: ForwarderAdapter, clock: IReactorTime
    ) -> None:
        super().__init__(clock, caching.route)
        self._caching = caching
        self._forwarding = forwarding

    def find(self, question: Question, now: float) -> Deferred[Entry] | Entry:
        """Return the entry for ``question`` from the cache, or else through the forwarder."""
        entry = self._caching.find(question, now)
        return entry if entry is not None else self._forwarding.find(question, now)

    def given(self, entry: Entry, question: Question, now: float) -> tuple[Answer, int]:
        """Return what of the entry for ``question`` a client may be given at ``now``, and with
        which TTL.
        """
        return self._caching.given(entry, question, now)
