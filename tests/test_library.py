"""The resolvers as a library: `IResolver` for any Twisted program, and Twisted's own protocols."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IResolver
from twisted.internet.testing import StringTransport
from twisted.names import dns, error
from twisted.names.resolve import ResolverChain
from twisted.names.server import DNSServerFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from staggerdns.resolver.adapter import CacheAdapter, ChainAdapter, ForwarderAdapter, Records
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.forwarder import Forwarder
from tests.kit.acts import (
    AAAA,
    MX,
    SILENT,
    TXT,
    Act,
    fails,
    gives,
    name,
    negative,
    own,
    record,
    reply,
    says,
    says_own,
)
from tests.kit.clients import parse, question
from tests.kit.factory import make_factory
from tests.kit.simulated import SimulatedResolver


class Library(SimulatedResolver):
    """A resolver that asks its cache and its forwarder as `IResolver` providers: each
    alone, and both as one.
    """

    def __init__(self, *acts: Act) -> None:
        super().__init__(*acts)
        self.caching = CacheAdapter(self.cache, self.clock)
        self.forwarding = ForwarderAdapter(self.forwarder, self.caching, self.clock)
        self.resolver = ChainAdapter(self.caching, self.forwarding, self.clock)


def data(header: dns.RRHeader) -> Any:
    """The record behind a header."""
    return header.payload


def texts(headers: list[dns.RRHeader]) -> list[str]:
    """The addresses in some A or AAAA records."""
    return [data(header).dottedQuad() for header in headers]


class Lookups(SynchronousTestCase):
    """What a program gets that asks a resolver of ours."""

    def records(self, library: Library, found: Deferred[Records]) -> Records:
        """Let the collection run and return what came of it."""
        library.run()
        result: Records = self.successResultOf(found)
        return result

    def error(self, library: Library, found: Deferred[Any]) -> Failure:
        """Let the collection run and return how it failed."""
        library.run()
        failed: Failure = self.failureResultOf(found)
        return failed

    def test_interface(self) -> None:
        """All three resolvers provide IResolver as zope sees it."""
        library = Library(SILENT)
        for resolver in (library.caching, library.forwarding, library.resolver):
            assert verifyObject(IResolver, resolver)

    def test_await(self) -> None:
        """`await resolver.lookupAddress("example.com")` is all that it takes."""
        library = Library(says(20, own(0), own(1), ttl=120))

        async def program() -> list[str]:
            answers, authority, additional = await library.resolver.lookupAddress("example.com")
            assert (authority, additional) == ([], [])
            assert {header.ttl for header in answers} == {120}
            assert {header.name.name for header in answers} == {b"example.com"}
            return texts(answers)

        found = Deferred.fromCoroutine(program())
        self.assertNoResult(found)
        library.run()
        assert self.successResultOf(found) == [own(0), own(1)]
        assert [question.name for question in library.upstreams[0].script.questions] == [
            name("example.com")
        ]

    def test_name_forms(self) -> None:
        """Text or bytes, with or without the final dot, any case: one question."""
        library = Library(says_own(0, 20))
        found = [
            library.resolver.lookupAddress(form)
            for form in ("example.com", b"example.com", "example.com.", "EXAMPLE.com")
        ]
        library.run()
        assert len(library.launches) == 1
        for one in found:
            assert texts(self.successResultOf(one)[0]) == [own(0)]

    def test_root(self) -> None:
        """The root is a name like any other (trap 12)."""
        library = Library(gives(5, 2, name("a.root.example")))
        answers, _, _ = self.records(library, library.resolver.lookupNameservers(b"."))
        assert data(answers[0]).name.name == b"a.root.example"
        assert library.upstreams[0].script.questions[0].name == b"\0"

    def test_ipv6(self) -> None:
        """AAAA through lookupIPV6Address."""
        library = Library(says(5, "2001:db8::1"))
        answers, _, _ = self.records(library, library.resolver.lookupIPV6Address("example.com"))
        assert answers[0].type == AAAA
        assert data(answers[0]).address == bytes.fromhex("20010db8") + bytes(11) + b"\1"

    def test_mail_exchange(self) -> None:
        """MX through lookupMailExchange."""
        library = Library(gives(5, MX, b"\0\x0a" + name("mail.example")))
        answers, _, _ = self.records(library, library.resolver.lookupMailExchange("example.com"))
        (header,) = answers
        assert (header.type, data(header).preference) == (MX, 10)
        assert data(header).name.name == b"mail.example"

    def test_text(self) -> None:
        """TXT through lookupText."""
        library = Library(gives(5, TXT, b"\5hello"))
        answers, _, _ = self.records(library, library.resolver.lookupText("example.com"))
        assert data(answers[0]).data == [b"hello"]

    def test_unknown_type(self) -> None:
        """A type that nobody knows goes through `query`, its data untouched."""
        library = Library(gives(5, 65280, b"\1\2\3\xff"))
        asked = dns.Query("example.com", 65280, dns.IN)
        answers, _, _ = self.records(library, library.resolver.query(asked))
        assert (answers[0].type, data(answers[0]).data) == (65280, b"\1\2\3\xff")
        assert library.upstreams[0].script.questions[0].qtype == 65280

    def test_chain_of_aliases(self) -> None:
        """The CNAMEs come before the addresses, each under its own name."""
        library = Library(says(5, own(0), cname_chain=["a.example", "b.example"]))
        answers, _, _ = self.records(library, library.resolver.lookupAddress("www.example"))
        assert [(header.name.name, header.type) for header in answers] == [
            (b"www.example", dns.CNAME),
            (b"a.example", dns.CNAME),
            (b"b.example", dns.A),
        ]

    def test_authority(self) -> None:
        """NODATA is an answer without records, with the upstream's SOA."""
        library = Library(negative(5, 0))
        answers, authority, _ = self.records(library, library.resolver.lookupText("example.com"))
        assert answers == []
        assert authority[0].type == dns.SOA
        assert data(authority[0]).minimum == 60

    def test_nxdomain(self) -> None:
        """NXDOMAIN is `DNSNameError` the first time, and an error from the cache too."""
        library = Library(negative(5))
        failed = self.error(library, library.resolver.lookupAddress("example.com"))
        assert failed.check(error.DNSNameError)
        again = self.error(library, library.resolver.lookupAddress("example.com"))
        assert again.check(error.DNSNameError, error.AuthoritativeDomainError)
        assert len(library.launches) == 1

    def test_servfail(self) -> None:
        """When every upstream fails it is `DNSServerError`."""
        library = Library(fails(5))
        failed = self.error(library, library.resolver.lookupAddress("example.com"))
        assert failed.check(error.DNSServerError)

    def test_illegal_name(self) -> None:
        """A name that cannot be is an error of the Deferred, not an exception."""
        library = Library(SILENT)
        for bad in (b"x" * 64 + b".com", b".".join([b"abcdefgh"] * 30)):
            failed = self.error(library, library.resolver.lookupAddress(bad))
            assert failed.check(error.DNSFormatError)
        assert library.launches == []

    def test_cache_hit(self) -> None:
        """A second lookup comes from the cache, at once, with the TTL that is left."""
        library = Library(says_own(0, 5))
        self.records(library, library.resolver.lookupAddress("example.com"))
        library.run_to(100_000)
        answers, _, _ = self.successResultOf(library.resolver.lookupAddress("example.com"))
        assert [header.ttl for header in answers] == [201]
        assert len(library.launches) == 1

    def test_cache_miss_lets_a_chain_go_on(self) -> None:
        """A miss is a plain DomainError: `ResolverChain` then asks the next resolver."""
        library = Library(says_own(0, 5))
        missed = self.failureResultOf(library.caching.lookupAddress("example.com"))
        assert missed.type is error.DomainError
        chain = ResolverChain([library.caching, library.forwarding])
        answers, _, _ = self.records(library, chain.lookupAddress("example.com"))
        assert texts(answers) == [own(0)]
        answers, _, _ = self.successResultOf(chain.lookupAddress("example.com"))
        assert texts(answers) == [own(0)]
        assert len(library.launches) == 1

    def test_cached_negative_ends_a_chain(self) -> None:
        """A cached NXDOMAIN is an answer: the chain does not ask upstreams again."""
        library = Library(negative(5))
        chain = ResolverChain([library.caching, library.forwarding])
        self.error(library, chain.lookupAddress("example.com"))
        failed = self.error(library, chain.lookupAddress("example.com"))
        assert failed.check(error.DomainError, error.AuthoritativeDomainError)
        assert len(library.launches) == 1

    def test_get_host_by_name(self) -> None:
        """GetHostByName gives the first address, through aliases too."""
        library = Library(says(5, own(3), own(4), cname_chain=["a.example"]))
        found = library.resolver.getHostByName("www.example")
        library.run()
        assert self.successResultOf(found) == own(3)

    def test_get_host_by_name_ipv6(self) -> None:
        """Without an IPv4 address it is the first IPv6 address."""
        act = says(5, "2001:db8::7")
        assert act.reply is not None
        ipv6, nodata = act.reply, negative(5, 0).reply
        assert nodata is not None
        library = Library(Act(5, lambda asked: (ipv6 if asked.qtype == AAAA else nodata)(asked)))
        found = library.resolver.getHostByName("www.example")
        library.run()
        assert self.successResultOf(found) == "2001:db8::7"
        assert [asked.qtype for asked in library.upstreams[0].script.questions] == [1, AAAA]

    def test_get_host_by_name_fails(self) -> None:
        """Neither one nor the other: a lookup error or a DNS error."""
        library = Library(negative(5, 0))
        failed = self.error(library, library.resolver.getHostByName("www.example"))
        assert failed.check(DNSLookupError, error.DomainError)
        library = Library(negative(5))
        failed = self.error(library, library.resolver.getHostByName("www.example"))
        assert failed.check(DNSLookupError, error.DomainError)

    def test_get_host_by_name_cancelled(self) -> None:
        """Cancelling ends it: no second lookup starts."""
        library = Library(SILENT)
        found = library.resolver.getHostByName("www.example")
        found.cancel()
        assert self.failureResultOf(found).check(CancelledError)
        assert len(library.launches) == 1
        library.forwarder.close()

    def test_cancelled(self) -> None:
        """A cancelled lookup fails with CancelledError and disturbs no other."""
        library = Library(says_own(0, 20))
        first = library.resolver.lookupAddress("example.com")
        second = library.resolver.lookupAddress("example.com")
        first.cancel()
        assert self.failureResultOf(first).check(CancelledError)
        library.run()
        assert texts(self.successResultOf(second)[0]) == [own(0)]

    def test_closed(self) -> None:
        """After the end lookups fail, they do not hang."""
        library = Library(SILENT)
        waiting = library.resolver.lookupAddress("example.com")
        library.forwarder.close()
        assert self.failureResultOf(waiting).check(error.DNSServerError)
        failed = self.failureResultOf(library.resolver.lookupAddress("example.com"))
        assert failed.check(error.DNSServerError)
        library.assert_nothing_left()


class DatagramTransport:
    """What a datagram protocol writes to."""

    def __init__(self) -> None:
        self.written: list[tuple[bytes, tuple[str, int]]] = []

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        """Note a datagram."""
        self.written.append((data, address))


CLIENT = ("127.0.0.1", 4242)


def test_stock_datagram_protocol() -> None:
    """Twisted's own DNSDatagramProtocol may stand in front of our factory."""
    resolver = SimulatedResolver(says_own(0, 5))
    protocol: Any = dns.DNSDatagramProtocol(
        make_factory(resolver.cache, resolver.forwarder, resolver.clock, resolver.metrics)
    )
    transport = DatagramTransport()
    protocol.makeConnection(transport)
    asked = question("www.example.", payload=1232)
    protocol.datagramReceived(asked.to_wire(), CLIENT)
    assert transport.written == []
    resolver.run()
    ((wire, address),) = transport.written
    answer = parse(wire)
    assert address == CLIENT
    assert answer.id == asked.id
    assert [rdata.to_text() for rdata in answer.answer[0]] == [own(0)]
    assert answer.edns == 0
    protocol.datagramReceived(asked.to_wire(), CLIENT)
    assert parse(transport.written[1][0]).answer == answer.answer
    protocol.datagramReceived(answer.to_wire(), CLIENT)
    protocol.datagramReceived(b"\0", CLIENT)
    assert len(transport.written) == 2
    protocol.datagramReceived(asked.to_wire(), ("192.0.2.1", 53))
    assert parse(transport.written[2][0]).rcode() == 5


def test_stock_stream_protocol() -> None:
    """And so may its DNSProtocol over TCP."""
    resolver = SimulatedResolver(says(5, *[own(index) for index in range(32)]))
    protocol: Any = dns.DNSProtocol(
        make_factory(resolver.cache, resolver.forwarder, resolver.clock, resolver.metrics)
    )
    transport = StringTransport(peerAddress=IPv4Address("TCP", *CLIENT))
    protocol.makeConnection(transport)
    wire = question("www.example.").to_wire()
    protocol.dataReceived(len(wire).to_bytes(2, "big") + wire)
    resolver.run()
    sent = transport.value()
    assert int.from_bytes(sent[:2], "big") == len(sent) - 2
    assert len(parse(sent[2:]).answer[0]) == 32
    protocol.connectionLost(Failure(Exception("over")))


@pytest.mark.parametrize("link", [AnswerCache, Forwarder])
def test_links_are_no_resolvers_of_twisted(link: type) -> None:
    """The links of the chain are plain objects; `IResolver` is what the adapters provide."""
    assert link.__bases__ == (object,)
    assert not IResolver.implementedBy(link)
    library = Library(SILENT)
    (made,) = (one for one in (library.cache, library.forwarder) if isinstance(one, link))
    assert not IResolver.providedBy(made)


def test_records_of_every_section() -> None:
    """Authority and additional records come through, ours (OPT) does not."""
    library = Library(
        Act(
            5,
            lambda asked: reply(
                asked,
                [record(b"\xc0\x0c", MX, 60, b"\0\1" + name("mx.example"))],
                [record(name("com"), 2, 60, name("ns.example"))],
            ),
        )
    )
    results: list[Records] = []
    library.resolver.lookupMailExchange("example.com").addCallback(results.append)
    library.run()
    ((answers, authority, additional),) = results
    assert [len(section) for section in (answers, authority, additional)] == [1, 1, 0]
    assert data(authority[0]).name.name == b"ns.example"


@pytest.mark.parametrize("method", ["lookupAddress", "lookupService", "lookupPointer"])
def test_timeouts_are_accepted(method: str) -> None:
    """IResolver's timeout argument may be given; collections have their own limits."""
    library = Library(SILENT)
    failures: list[Failure] = []
    getattr(library.resolver, method)("www.example", timeout=(1, 2)).addErrback(failures.append)
    library.run()
    assert library.now == 3000
    assert len(failures) == 1


def test_a_server_of_twisted() -> None:
    """Its own `DNSServerFactory` uses our links: first the forwarder, then the cache."""

    class Protocol:
        def __init__(self) -> None:
            self.sent: list[dns.Message] = []

        def writeMessage(self, message: dns.Message) -> None:
            self.sent.append(message)

    library = Library(says_own(0, 20))
    factory = DNSServerFactory(caches=[library.caching], clients=[library.forwarding])
    protocol = Protocol()
    for _ in range(2):
        message = dns.Message()
        message.queries = [dns.Query(b"example.com")]
        factory.messageReceived(message, protocol)
        library.run()
    assert [texts(one.answers) for one in protocol.sent] == [[own(0)], [own(0)]]
    assert len(library.launches) == 1
