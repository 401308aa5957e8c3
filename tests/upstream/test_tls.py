"""Queries over TLS: who is believed, what is sent, and what a second handshake costs."""

from __future__ import annotations

import contextlib
import shutil
import socket
from typing import TYPE_CHECKING, Any

import dns.message
import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet.defer import gatherResults
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Client
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from staggerdns.upstream.reason import Reason
from staggerdns.wire.verdict import Verdict
from tests.kit.certificates import CertificateAuthority
from tests.kit.loopback import loopback_upstream, no_connections, pause, reactor, until
from tests.kit.ports import Endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.python.failure import Failure

    from tests.kit.certificates import Certificate


@implementer(IOpenSSLServerConnectionCreator)
class Server:
    """A DoT server on the test's own reactor that answers every query for www.example."""

    def __init__(self, certificate: Certificate) -> None:
        self.queries: list[bytes] = []
        self.names: list[bytes | None] = []
        self.connections: list[Answering] = []
        self.close_after_answer = False
        self.silent = False
        self.context = self.make_context(certificate, self.names)
        factory = Factory.forProtocol(Answering)
        factory.noisy = False
        factory.server = self  # type: ignore[attr-defined]
        tls = TLSMemoryBIOFactory(self, isClient=False, wrappedFactory=factory, clock=reactor)
        self._port = reactor.listenTCP(0, tls, interface="127.0.0.1")
        self.endpoint = Endpoint("127.0.0.1", self._port.getHost().port)

    @staticmethod
    def make_context(certificate: Certificate, names: list[bytes | None]) -> SSL.Context:
        """Return OpenSSL's part; the names that clients want go to ``names``."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_chain_file(str(certificate.chain))
        context.use_privatekey_file(str(certificate.key))
        context.set_tlsext_servername_callback(
            lambda connection: names.append(connection.get_servername())
        )
        return context

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Return OpenSSL's side of a connection."""
        return SSL.Connection(self.context)

    async def stop(self) -> None:
        """Listen no more."""
        await self._port.stopListening()
        for connection in list(self.connections):
            connection.transport.abortConnection()
        await until(lambda: not self.connections)


class Answering(Protocol):
    """One connection of a `Server`."""

    factory: Any
    transport: Any

    def connectionMade(self) -> None:
        """Note it."""
        self._buffer = b""
        self.factory.server.connections.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it."""
        self.factory.server.connections.remove(self)

    def dataReceived(self, data: bytes) -> None:
        """Answer what is there."""
        server = self.factory.server
        self._buffer += data
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                return
            query, self._buffer = self._buffer[2:end], self._buffer[end:]
            server.queries.append(query)
            if not server.silent:
                self.answer(query)

    def answer(self, query: bytes) -> None:
        """Answer one query."""
        reply = dns.message.make_response(dns.message.from_wire(query))
        reply.answer = list(
            dns.message.from_text("id 0\n;ANSWER\nwww.example. 60 IN A 203.0.113.1\n").answer
        )
        wire = reply.to_wire()
        self.transport.write(len(wire).to_bytes(2, "big") + wire)
        if self.factory.server.close_after_answer:
            self.transport.loseConnection()


@contextlib.asynccontextmanager
async def serving(certificate: Certificate) -> Any:
    """Run a server; nothing is left of it, nor of our connections to it."""
    server = Server(certificate)
    try:
        yield server
    finally:
        await server.stop()
        await no_connections()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """An authority."""
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def good(authority: CertificateAuthority) -> Certificate:
    """A certificate for dns.example and for the address."""
    return authority.issue("dns.example", "127.0.0.1")


@pytest.mark.parametrize("suffix", ["#dns.example", "", "#DNS.example.", "pin", "#dns.example pin"])
@pytest_twisted.ensureDeferred
async def test_accepted(authority: CertificateAuthority, good: Certificate, suffix: str) -> None:
    """A certificate for the name, for the address, or a pinned key, or both."""
    suffix = "".join({"pin": good.pin}.get(word, word) for word in suffix.split())
    async with serving(good) as server:
        with loopback_upstream(f"tls://{server.endpoint}{suffix}", ca=authority.ca) as asked:
            assert (await asked.ask()).verdict == Verdict.POSITIVE
            assert asked.connects() == {"full": 1}
        assert server.names == [b"dns.example" if "#" in suffix else None]


@pytest_twisted.ensureDeferred
async def test_a_pin_needs_no_authority(tmp_path: Path) -> None:
    """With an address and a pin alone any certificate with that key will do."""
    stranger = CertificateAuthority(tmp_path).issue("else.example")
    async with serving(stranger) as server:
        with loopback_upstream(f"tls://{server.endpoint}{stranger.pin}") as asked:
            assert (await asked.ask()).verdict == Verdict.POSITIVE


REFUSALS = [
    ("wrong name", "#other.example", "it is not for other.example"),
    ("wrong address", "", "it is not for 127.0.0.1"),
    ("expired", "#dns.example", "it has expired"),
    ("self-signed", "#dns.example", "it is self-signed"),
    ("unknown authority", "#dns.example", "its issuer is not trusted"),
    ("wrong pin", "pin", "its key is none of the pinned ones"),
    ("wrong pin, right name", "#dns.example pin", "its key is none of the pinned ones"),
    ("right pin, wrong name", "#other.example own", "it is not for other.example"),
    ("right pin, expired", "#dns.example own", "it has expired"),
]


def issue(case: str, authority: CertificateAuthority, directory: Path) -> Certificate:
    """A certificate that suits the case."""
    if "expired" in case:
        return authority.issue("dns.example", "127.0.0.1", expired=True)
    if case == "self-signed":
        return authority.self_signed("dns.example")
    if case == "unknown authority":
        return CertificateAuthority(directory / "strange").issue("dns.example")
    return authority.issue("dns.example")


@pytest.mark.parametrize(("case", "suffix", "detail"), REFUSALS)
@pytest_twisted.ensureDeferred
async def test_refused(
    authority: CertificateAuthority, tmp_path: Path, case: str, suffix: str, detail: str
) -> None:
    """Anybody else is a network error at once: no query is sent, and the log says why, once."""
    certificate = issue(case, authority, tmp_path)
    pins = {"own": certificate.pin, "pin": authority.issue("other.example").pin}
    suffix = "".join(pins.get(word, word) for word in suffix.split())
    async with serving(certificate) as server:
        with (
            capturedLogs() as events,
            loopback_upstream(f"tls://{server.endpoint}{suffix}", ca=authority.ca) as asked,
        ):
            for _ in range(2):
                outcome = await asked.ask()
                assert (outcome.verdict, outcome.reason) == (
                    Verdict.NETWORK_ERROR,
                    Reason.CERTIFICATE,
                )
            assert asked.connects() == {"certificate": 2}
            assert asked.marks == 2
            told = [formatEvent(event) for event in events]
            line = f"upstream {asked.upstream.name}: certificate not accepted: {detail}"
            assert [text for text in told if "certificate" in text] == [line]
        assert server.queries == []


@pytest_twisted.ensureDeferred
async def test_the_systems_authorities(good: Certificate) -> None:
    """Without ``tls_ca`` those of the system count, which do not know ours."""
    async with serving(good) as server:
        with loopback_upstream(f"tls://{server.endpoint}#dns.example") as asked:
            assert (await asked.ask()).reason == Reason.CERTIFICATE
        assert server.queries == []


@pytest_twisted.ensureDeferred
async def test_no_old_tls(authority: CertificateAuthority, good: Certificate) -> None:
    """TLS 1.2 is the least; with 1.1 there is no session, and no word in plain text."""
    async with serving(good) as server:
        context = server.context
        context.set_min_proto_version(SSL.TLS1_VERSION)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        with (
            capturedLogs() as events,
            loopback_upstream(f"tls://{server.endpoint}", ca=authority.ca) as asked,
        ):
            ours = asked.upstream.stream.tls
            assert ours is not None
            for either in (context, ours.context):
                either.set_cipher_list(b"DEFAULT:@SECLEVEL=0")  # or OpenSSL would refuse, too
            outcome = await asked.ask()
            assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.TLS)
        assert any("no TLS session" in formatEvent(event) for event in events)


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest_twisted.ensureDeferred
async def test_sessions_are_resumed(
    authority: CertificateAuthority, good: Certificate, version: int
) -> None:
    """The second handshake is short, and the server's name is still checked in it."""
    async with serving(good) as server:
        context = server.context
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
        server.close_after_answer = True
        with loopback_upstream(f"tls://{server.endpoint}#dns.example", ca=authority.ca) as asked:
            for _ in range(3):
                assert (await asked.ask()).verdict == Verdict.POSITIVE
                await until(lambda: not server.connections)
            assert asked.connects() == {"full": 1, "resumed": 2}


@pytest_twisted.ensureDeferred
async def test_authorities_are_read_again(
    authority: CertificateAuthority, good: Certificate, tmp_path: Path
) -> None:
    """From then on those in the file count, whoever has a session or not; a file that cannot be
    used changes nothing, and one that is the same ends no session.
    """
    file = tmp_path / "trusted.pem"
    shutil.copy(authority.ca, file)
    async with serving(good) as server:
        server.close_after_answer = True
        with loopback_upstream(f"tls://{server.endpoint}#dns.example", ca=file) as asked:
            authorities = asked.authorities
            assert authorities is not None

            async def ask() -> Reason | None:
                reason = (await asked.ask()).reason
                await until(lambda: not server.connections)
                return reason

            assert await ask() is None
            file.write_text("")
            assert authorities.reread() == f"expected certificates in PEM form in {file}"
            assert await ask() is None
            shutil.copy(authority.ca, file)
            assert authorities.reread() == ""
            assert await ask() is None
            assert asked.connects() == {"full": 1, "resumed": 2}
            file.write_bytes(
                authority.ca.read_bytes() + CertificateAuthority(tmp_path / "two").ca.read_bytes()
            )
            assert authorities.reread() == ""
            assert await ask() is None
            assert asked.connects() == {"full": 2, "resumed": 2}
            shutil.copy(CertificateAuthority(tmp_path / "other").ca, file)
            assert authorities.reread() == ""
            assert await ask() is Reason.CERTIFICATE
        assert len(server.queries) == 4


@pytest_twisted.ensureDeferred
async def test_a_session_of_before_is_not_kept(
    authority: CertificateAuthority, good: Certificate, tmp_path: Path
) -> None:
    """A connection that was accepted by the old authorities leaves no session for the new ones."""
    file = tmp_path / "trusted.pem"
    shutil.copy(authority.ca, file)
    async with serving(good) as server:
        with loopback_upstream(f"tls://{server.endpoint}#dns.example", ca=file) as asked:
            tls, authorities = asked.upstream.stream.tls, asked.authorities
            assert tls is not None
            assert authorities is not None
            old = tls.context
            server.silent = server.close_after_answer = True
            exchange = asked.start()
            await until(lambda: bool(server.queries))
            shutil.copy(CertificateAuthority(tmp_path / "other").ca, file)
            assert authorities.reread() == ""
            assert tls.context is not old  # as another connection would have it
            server.connections[0].answer(server.queries[0])
            assert (await exchange.deferred()).verdict == Verdict.POSITIVE
            await until(lambda: not server.connections)
            server.silent = False
            assert (await asked.ask()).reason == Reason.CERTIFICATE


@pytest_twisted.ensureDeferred
async def test_a_failure_ends_the_session(
    authority: CertificateAuthority, good: Certificate
) -> None:
    """After a failure the handshake is a full one: the session may be what the server disliked."""
    async with serving(good) as server:
        server.close_after_answer = True
        with loopback_upstream(f"tls://{server.endpoint}#dns.example", ca=authority.ca) as asked:
            await asked.ask()
            server.context = Server.make_context(authority.issue("other.example"), server.names)
            await until(lambda: not server.connections)
            tls = asked.upstream.stream.tls
            assert tls is not None
            assert tls.session is not None
            assert (await asked.ask()).reason == Reason.CERTIFICATE
            assert tls.session is None


@pytest_twisted.ensureDeferred
async def test_the_log_tells_of_changes(authority: CertificateAuthority, good: Certificate) -> None:
    """A certificate that is right again, and wrong again, has a line in the log each time."""
    wrong = Server.make_context(authority.issue("other.example"), [])
    async with serving(good) as server:
        server.close_after_answer = True
        right = server.context
        where = f"tls://{server.endpoint}#dns.example"
        with capturedLogs() as events, loopback_upstream(where, ca=authority.ca) as asked:
            for server.context in (wrong, right, wrong):
                await asked.ask()
                await until(lambda: not server.connections)
        told = [formatEvent(event) or "" for event in events]
        told = [text.partition(": ")[2].split(":")[0] for text in told if where in text]
        assert told == ["certificate not accepted", "TLS works", "certificate not accepted"]


@pytest_twisted.ensureDeferred
async def test_options_of_the_socket(authority: CertificateAuthority, good: Certificate) -> None:
    """Queries leave at once, replies are acknowledged at once, and so must queries be in time."""
    async with serving(good) as server:
        with loopback_upstream(f"tls://{server.endpoint}", ca=authority.ca, timeout=1.5) as asked:
            for _ in range(3):
                await asked.ask()
                await pause(0.005)
            (found,) = [one.socket for one in reactor.getReaders() if isinstance(one, Client)]
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500


@pytest_twisted.ensureDeferred
async def test_no_plain_text_ever(authority: CertificateAuthority, good: Certificate) -> None:
    """A server that speaks no TLS gets a hello and nothing after it."""
    seen = bytearray()

    class Plain(Protocol):
        def dataReceived(self, data: bytes) -> None:
            seen.extend(data)
            assert self.transport is not None
            self.transport.write(b"\0\x0c not TLS at all")

    port = reactor.listenTCP(0, Factory.forProtocol(Plain), interface="127.0.0.1")
    with loopback_upstream(f"tls://127.0.0.1:{port.getHost().port}", ca=authority.ca) as asked:
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.TLS)
    await no_connections()
    await port.stopListening()
    assert seen[:1] == b"\x16"
    assert b"www\x07example" not in seen


def refuse(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """Agree to none of the protocols that are offered: what this raises becomes an alert."""
    raise SSL.Error([("", "", f"none of {offered} is HTTP/1.1")])


@pytest.mark.parametrize("alert", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_server_without_http2(
    authority: CertificateAuthority, good: Certificate, alert: bool
) -> None:
    """DNS over HTTPS needs a server that agrees to HTTP/2; any other gets no query, whether it
    says nothing about protocols or ends the handshake (RFC 7301 section 3.2), and the log says why.
    """
    async with serving(good) as server:
        if alert:
            server.context.set_alpn_select_callback(refuse)
        with (
            loopback_upstream(f"https://{server.endpoint}/dns-query", ca=authority.ca) as asked,
            capturedLogs() as events,
        ):
            outcome = await asked.ask()
            assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.TLS)
            name = asked.upstream.name
        assert server.queries == []
    told = [formatEvent(event) for event in events if "detail" in event]
    because = (
        "the server offers no HTTP/2, and HTTP/1.1 is not spoken here: "
        "ask it over tls:// or over UDP if it has that, or another server"
    )
    assert told == [f"upstream {name}: no TLS session: {because}"]


@pytest_twisted.ensureDeferred
async def test_a_server_of_another_protocol(
    authority: CertificateAuthority, good: Certificate
) -> None:
    """One that insists on another protocol is none of ours, over DNS neither."""
    async with serving(good) as server:
        server.context.set_alpn_select_callback(lambda _, offered: b"x")
        with loopback_upstream(f"tls://{server.endpoint}", ca=authority.ca) as asked:
            assert (await asked.ask()).reason == Reason.TLS
        assert server.queries == []


@pytest_twisted.ensureDeferred
async def test_a_server_that_never_shakes_hands(authority: CertificateAuthority) -> None:
    """A handshake has the time that a connection has; then it is a timeout."""
    port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    where = f"tls://127.0.0.1:{port.getHost().port}"
    with loopback_upstream(where, ca=authority.ca, timeout=0.2) as asked:
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.TIMEOUT)
        assert asked.connects() == {"timeout": 1}
    await no_connections()
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_what_is_sent(authority: CertificateAuthority, good: Certificate) -> None:
    """Queries are padded to whole blocks; no option but padding and keepalive, and no subnet."""
    async with serving(good) as server:
        with loopback_upstream(f"tls://{server.endpoint}", ca=authority.ca) as asked:
            await gatherResults([asked.start().deferred() for _ in range(3)])
        assert {len(query) for query in server.queries} == {128}
        options = [dns.message.from_wire(query).options for query in server.queries]
        assert [[int(option.otype) for option in some] for some in options] == [
            [11, 12],
            [12],
            [12],
        ]


@pytest_twisted.ensureDeferred
async def test_interrupted(authority: CertificateAuthority, good: Certificate) -> None:
    """A connection cut in mid-answer: the query goes out again on a new one."""
    async with serving(good) as server:
        server.silent = True
        with loopback_upstream(f"tls://{server.endpoint}", ca=authority.ca) as asked:
            exchange = asked.start()
            await until(lambda: len(server.queries) == 1)
            server.silent = False
            server.connections[0].transport.write(b"\0\x40\1\2\3")
            server.connections[0].transport.loseConnection()
            assert (await exchange.deferred()).verdict == Verdict.POSITIVE
            assert (asked.repeated, asked.marks) == (1, 0)
