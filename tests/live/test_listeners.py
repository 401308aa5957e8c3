"""Clients over TLS and HTTPS: knot's kdig, curl, and sockets of our own."""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import dns.message
import h2.config
import h2.connection
import pytest

from tests.kit import behaviours as b
from tests.kit.certificates import CertificateAuthority, encrypted
from tests.kit.clients import TcpClient, question
from tests.kit.ports import free_endpoint
from tests.kit.program import Program
from tests.kit.scripted import ScriptedUpstream
from tests.kit.testbed import unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.certificates import Certificate
    from tests.kit.ports import Endpoint

ANSWER = "203.0.113.9"
TYPE = "application/dns-message"


class Door(NamedTuple):
    """A program with encrypted listeners."""

    program: Program
    tls: Endpoint
    https: Endpoint
    files: Certificate
    authority: CertificateAuthority

    def url(self, rest: str = "") -> str:
        """A URL of the DoH listener."""
        return f"https://{self.https}/dns-query{rest}"

    def kdig(self, *arguments: str, name: str = "") -> str:
        """Ask with kdig; what it prints."""
        how = "https" if any(text.startswith("+https") for text in arguments) else "tls"
        port = self.https.port if how == "https" else self.tls.port
        trust = [f"+tls-ca={self.authority.ca}", "+tls-hostname=dns.example"]
        done = subprocess.run(
            [
                "kdig",
                "@127.0.0.1",
                "-p",
                str(port),
                *trust,
                *arguments,
                name or unique_name("kdig"),
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def curl(self, url: str, *arguments: str, data: bytes | None = None) -> tuple[int, str, bytes]:
        """Fetch with curl: status, head and body."""
        command = ["curl", "-s", "-i", "--cacert", str(self.authority.ca), url, *arguments]
        if data is not None:
            command += ["--data-binary", "@-"]
        done = subprocess.run(command, input=data, capture_output=True, timeout=20, check=False)
        assert done.returncode == 0, f"curl ended with {done.returncode}"
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        text = head.decode().lower()
        return int(text.split()[1]), text, body

    def connect(self, where: Endpoint, **more: Any) -> ssl.SSLSocket:
        """Connect, with TLS."""
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        return context.wrap_socket(
            socket.create_connection(where, timeout=5), server_hostname="dns.example", **more
        )


def program_settings(files: Certificate, *listen: object, **server: Any) -> dict[str, Any]:
    """Settings with these listeners."""
    return {
        "log": {"level": "debug"},
        "server": {
            "listen": [str(place) for place in listen],
            "tls_certificate": str(files.chain),
            "tls_key": str(files.key),
            **server,
        },
    }


@contextlib.contextmanager
def opened(directory: Path, behaviour: Any = None, **server: Any) -> Iterator[Door]:
    """Run a program with one listener of each kind."""
    authority = CertificateAuthority(directory / "authority")
    files = authority.issue("dns.example", "127.0.0.1")
    plain, tls, https = free_endpoint(), free_endpoint(), free_endpoint()
    settings = program_settings(files, plain, f"tls://{tls}", f"https://{https}", **server)
    with (
        ScriptedUpstream(behaviour or b.answers(ANSWER)) as upstream,
        Program(directory / "program", [upstream.endpoint], settings, listen=plain) as program,
    ):
        yield Door(program, tls, https, files, authority)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One program for all tests that leave it as it was."""
    behaviour = b.by_name({"nx.example.": b.nxdomain()}, b.answers(ANSWER, ttl=123))
    with opened(tmp_path_factory.mktemp("door"), behaviour) as door:
        yield door


@pytest.fixture
def door(shared: Door) -> Iterator[Door]:
    """The shared program, whose log stays clean."""
    yield shared
    shared.program.check_log()


def framed(message: bytes) -> bytes:
    """A message as it stands in a stream."""
    return len(message).to_bytes(2, "big") + message


def receive(connection: ssl.SSLSocket) -> dns.message.Message:
    """Read one message."""
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        more = connection.recv(65535)
        assert more, "the connection is closed"
        data += more
    return dns.message.from_wire(data[2:])


@pytest.mark.parametrize("how", ["+tls", "+https", "+https-get"])
def test_kdig(door: Door, how: str) -> None:
    """DoT, and DoH with both methods: the answer, padded as kdig pads its query (RFC 8467)."""
    arguments = ["+https", how] if how == "+https-get" else [how]
    text = door.kdig(*arguments)
    assert ANSWER in text
    assert "status: NOERROR" in text
    assert ";; Received 468 B" in text
    assert "TLS1.3" in text


def test_no_padding_for_who_does_not_pad(door: Door) -> None:
    """A query without padding gets a reply without."""
    assert "PADDING" not in door.kdig("+tls", "+nopadding")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_curl(door: Door, version: str, method: str) -> None:
    """Both versions of HTTP, both methods; the reply may be kept as long as its TTL says."""
    wire = question(unique_name("curl")).to_wire()
    if method == "GET":
        encoded = base64.urlsafe_b64encode(wire).rstrip(b"=").decode()
        status, head, body = door.curl(door.url(f"?dns={encoded}"), version)
    else:
        header = f"content-type: {TYPE}"
        status, head, body = door.curl(door.url(), version, "-H", header, data=wire)
    assert (status, head.splitlines()[0].split()[0]) == (
        200,
        "http/2" if "2" in version else "http/1.1",
    )
    assert f"content-type: {TYPE}" in head
    ttl = int(head.partition("max-age=")[2].split()[0])
    message = dns.message.from_wire(body)
    assert message.id == int.from_bytes(wire[:2], "big")
    assert message.answer[0].ttl == ttl > 0
    assert message.answer[0][0].address == ANSWER


def test_dns_errors_are_http_successes(door: Door) -> None:
    """NXDOMAIN and its like are answers (RFC 8484 section 4.2.1), with the TTL that they have."""
    header = f"content-type: {TYPE}"
    wire = question("nx.example.").to_wire()
    status, head, body = door.curl(door.url(), "-H", header, data=wire)
    assert (status, dns.message.from_wire(body).rcode()) == (200, 3)
    assert "max-age=0" not in head
    broken = wire[:2] + b"\x01\x00\x00\x02" + wire[6:]  # two questions, says the header
    status, head, body = door.curl(door.url(), "-H", header, data=broken)
    assert (status, dns.message.from_wire(body).rcode()) == (200, 1)
    assert "max-age=0" in head


@pytest.mark.parametrize(
    ("rest", "arguments", "size", "status"),
    [
        ("", [], None, 400),
        ("?dns=", [], None, 400),
        ("?dns=AAAB", [], None, 400),
        ("?dns=%21%21%21", [], None, 400),
        ("?dns=AAA&dns=AAA", [], None, 400),
        ("?name=x", [], None, 400),
        ("", ["-H", "content-type: text/plain"], 40, 415),
        ("", ["-H", "content-type:"], 40, 415),
        ("", ["-H", f"content-type: {TYPE}"], 0, 400),
        ("", ["-H", f"content-type: {TYPE}"], 5, 400),
        ("", ["-H", f"content-type: {TYPE}"], 65_536, 413),
        ("", ["-H", f"content-type: {TYPE}"], 1_000_000, 413),
        ("", ["-H", f"content-type: {TYPE}", "-X", "PUT"], 40, 501),
        ("/more", [], None, 404),
        ("/../dns", [], None, 404),
    ],
)
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_what_is_no_query(
    door: Door, version: str, rest: str, arguments: list[str], size: int | None, status: int
) -> None:
    """Requests that hold no query are errors of HTTP."""
    data = None if size is None else bytes(size)
    # RFC 9110 section 10.1.1: curl would wait for us to want a long body.
    found, _, _ = door.curl(door.url(rest), version, "-H", "expect:", *arguments, data=data)
    assert found == status
    assert ANSWER in door.kdig("+https")


def test_many_queries_on_one_connection(door: Door) -> None:
    """DoT pipelines as TCP does."""
    with door.connect(door.tls) as connection:
        queries = [question(unique_name("pipe")) for _ in range(20)]
        connection.sendall(b"".join(framed(query.to_wire()) for query in queries))
        until_answered(connection, 20)


def test_metrics_tell_transports_apart(door: Door) -> None:
    """Queries and responses count as ``tls`` and ``https``."""
    before = door.program.metrics()
    door.kdig("+tls")
    door.kdig("+https")
    after = door.program.metrics()
    for transport in ("tls", "https"):
        for family in ("staggerdns_queries_total", "staggerdns_responses_total"):
            grown = after.value(family, transport=transport) - before.value(
                family, transport=transport
            )
            assert grown == 1


def test_sessions_are_resumed(door: Door) -> None:
    """A client's second handshake is a short one."""
    context = ssl.create_default_context(cafile=str(door.authority.ca))
    session: ssl.SSLSession | None = None
    for resumed in (False, True):
        plain = socket.create_connection(door.tls, timeout=5)
        with context.wrap_socket(
            plain, server_hostname="dns.example", session=session
        ) as connection:
            connection.sendall(framed(question(unique_name("again")).to_wire()))
            receive(connection)
            assert connection.session_reused is resumed
            session = connection.session


def test_only_what_both_speak(door: Door) -> None:
    """The application protocols are ``dot`` for one, HTTP for the other; old TLS is refused."""
    for where, offered, chosen in (
        (door.tls, ["x", "dot"], "dot"),
        (door.tls, ["x"], None),
        (door.https, ["http/1.1", "h2"], "h2"),
        (door.https, ["http/1.1"], "http/1.1"),
    ):
        context = ssl.create_default_context(cafile=str(door.authority.ca))
        context.set_alpn_protocols(offered)
        plain = socket.create_connection(where, timeout=5)
        with context.wrap_socket(plain, server_hostname="dns.example") as connection:
            assert connection.selected_alpn_protocol() == chosen
            assert connection.version() == "TLSv1.3"


def test_plain_text_to_the_encrypted_port(door: Door) -> None:
    """Whoever does not speak TLS gets no DNS answer there, and harms nobody."""
    with socket.create_connection(door.tls, timeout=5) as plain:
        plain.sendall(framed(question("www.example.").to_wire()))
        data = b""
        with contextlib.suppress(OSError):
            while more := plain.recv(4096):
                data += more
    assert b"example" not in data
    assert ANSWER in door.kdig("+tls")


def served(door: Door, where: Endpoint) -> bytes:
    """The certificate that a new connection sees."""
    with door.connect(where) as connection:
        found = connection.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_certificates_are_read_anew(tmp_path: Path) -> None:
    """New files count for the next connection, open ones go on; broken ones change nothing."""
    with opened(tmp_path) as door:
        places = (door.tls, door.https)
        first = {served(door, where) for where in places}
        assert len(first) == 1
        with door.connect(door.tls) as old:
            renewed = door.authority.issue("dns.example", "127.0.0.1")
            shutil.copy(renewed.chain, door.files.chain)  # the key does not fit yet
            assert {served(door, where) for where in places} == first
            shutil.copy(renewed.key, door.files.key)
            second = {served(door, where) for where in places}
            assert len(second) == 1
            assert second != first
            door.files.key.write_text("nothing")
            assert {served(door, where) for where in places} == second
            shutil.copy(encrypted(renewed), door.files.key)
            assert {served(door, where) for where in places} == second
            door.files.key.unlink()
            assert {served(door, where) for where in places} == second
            old.sendall(framed(question("www.example.").to_wire()))
            assert receive(old).answer
        stays = "the new certificate cannot be used, the old one stays: server.tls_key: "
        key, chain = door.files.key, door.files.chain
        assert f"{stays}the key in {key} is not that of {chain}" in door.program.log
        assert f"{stays}expected a private key in PEM form in {key}" in door.program.log
        assert f"{stays}the key in {key} is encrypted: expected one without" in door.program.log
        assert f"{stays}{key} cannot be read: No such file" in door.program.log
        assert door.program.log.count("the certificate was read anew") == 1


def ended(connection: ssl.SSLSocket) -> bool:
    """Whether the server closes the connection within four seconds."""
    connection.settimeout(4)
    with contextlib.suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


def test_limits(tmp_path: Path) -> None:
    """TLS and HTTPS share the connections that TCP may have: one more, and the idlest goes."""
    with opened(tmp_path, tcp_max_connections=3) as door, contextlib.ExitStack() as stack:
        places = (door.tls, door.https, door.https, door.tls, door.https)
        held = [stack.enter_context(door.connect(where)) for where in places]
        assert ended(held[0])
        assert ended(held[1])
        metrics = door.program.metrics()
        assert metrics.value("staggerdns_tcp_connections") == 3
        assert metrics.value("staggerdns_tcp_refused_connections_total") == 0
        held[3].sendall(framed(question("www.example.").to_wire()))
        assert receive(held[3]).answer


def test_limits_of_one_client(tmp_path: Path) -> None:
    """A client that is not exempt has as many connections as over TCP, whatever their kind."""
    limits = {"tcp_max_per_client": 2, "client": {"exempt": []}}
    with opened(tmp_path, **limits) as door, contextlib.ExitStack() as stack:
        places = (door.tls, door.https, door.https, door.tls)
        first, second, *_ = [stack.enter_context(door.connect(where)) for where in places]
        assert ended(first)
        assert ended(second)


def test_idle_connections_of_http(tmp_path: Path) -> None:
    """An HTTPS connection without a request is closed after the idle time, without a word."""
    with opened(tmp_path, tcp_idle_timeout="500ms") as door, door.connect(door.https) as idle:
        idle.settimeout(5)
        start = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while idle.recv(4096):
                pass
        assert time.monotonic() - start < 4
        assert "iming out" not in door.program.log


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_slow_answers(tmp_path: Path, version: str) -> None:
    """An answer that takes longer than the idle time comes all the same."""
    with opened(tmp_path, b.answers(ANSWER, after=1.2), tcp_idle_timeout="500ms") as door:
        wire = question("slow.example.").to_wire()
        header = f"content-type: {TYPE}"
        status, _, body = door.curl(door.url(), version, "-H", header, data=wire)
        assert status == 200
        assert dns.message.from_wire(body).answer


def test_disallowed_clients(tmp_path: Path) -> None:
    """Who may not ask is REFUSED over TLS, and turned away by HTTPS."""
    with opened(tmp_path, allow=["192.0.2.0/24"]) as door:
        assert "status: REFUSED" in door.kdig("+tls")
        with pytest.raises(OSError):  # noqa: PT011 (reset, or an end of file)
            door.connect(door.https)


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
def test_clients_that_go_away(tmp_path: Path, version: str) -> None:
    """Whoever leaves before the answer is there costs nothing but that."""
    with opened(tmp_path, b.answers(ANSWER, after=0.8)) as door:
        wire = question("slow.example.").to_wire()
        if version == "h2":
            arguments = ["-H", f"content-type: {TYPE}", "--data-binary", "@-", "--max-time", "0.4"]
            command = ["curl", "-s", "--cacert", str(door.authority.ca), door.url(), *arguments]
            done = subprocess.run(command, input=wire, timeout=20, check=False)
            assert done.returncode == 28  # out of time
        else:
            encoded = base64.urlsafe_b64encode(wire).rstrip(b"=").decode()
            request = f"GET /dns-query?dns={encoded} HTTP/1.1\r\nhost: x\r\n\r\n"
            with door.connect(door.https) as https:
                https.sendall(request.encode())
                time.sleep(0.1)
        time.sleep(0.8)
        assert door.program.metrics().value("staggerdns_queries_total", transport="https") == 1
        door.program.check_log()
        assert ANSWER in door.kdig("+https")


def test_stop_with_open_connections(tmp_path: Path) -> None:
    """Queries under way are answered over TLS and HTTPS too; then all is over within a second."""
    with opened(tmp_path, b.answers(ANSWER, after=0.5)) as door:
        wire = question("slow.example.").to_wire()
        encoded = base64.urlsafe_b64encode(wire).rstrip(b"=").decode()
        request = f"GET /dns-query?dns={encoded} HTTP/1.1\r\nhost: x\r\n\r\n"
        with door.connect(door.tls) as tls, door.connect(door.https) as https:
            tls.sendall(framed(wire))
            https.sendall(request.encode())
            time.sleep(0.2)
            _, seconds = door.program.terminate()
            assert seconds < 5
            assert receive(tls).answer
            assert https.recv(65535).startswith(b"HTTP/1.1 200")


def test_stop_reads_what_has_come(tmp_path: Path) -> None:
    """Queries that the kernel had before SIGTERM came are answered, whatever brought them."""
    count = 15  # the stop takes less than a second, on slow machines as well
    with opened(tmp_path, b.answers(ANSWER, after=0.05)) as door, contextlib.ExitStack() as stack:
        where = door.program.endpoint
        opened_before = stack.enter_context(TcpClient(where))
        opened_before.send(question(unique_name("first")))
        assert opened_before.receive().addresses == [ANSWER]
        tls = stack.enter_context(door.connect(door.tls))
        https = stack.enter_context(door.connect(door.https))
        for encrypted in (tls, https):
            encrypted.settimeout(5)
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.settimeout(5)
        udp.connect(where)
        tls.sendall(framed(question(unique_name("warm")).to_wire()))  # the handshake is over
        assert receive(tls).answer
        https.sendall(get(question(unique_name("warm"))))
        assert until_answered(https).startswith(b"HTTP/1.1 200")

        door.program.process.send_signal(signal.SIGSTOP)
        for number in range(count):
            udp.send(question(unique_name(f"stop{number}")).to_wire())
        opened_before.send(*(question(unique_name(f"tcp{number}")) for number in range(count)))
        newcomer = stack.enter_context(TcpClient(where))
        newcomer.send(question(unique_name("newcomer")))
        tls.sendall(
            b"".join(framed(question(unique_name(f"tls{n}")).to_wire()) for n in range(count))
        )
        https.sendall(get(question(unique_name("https"))))
        door.program.process.send_signal(signal.SIGTERM)
        door.program.process.send_signal(signal.SIGCONT)

        assert {dns.message.from_wire(udp.recv(4096)).rcode() for _ in range(count)} == {0}
        assert all(opened_before.receive().addresses == [ANSWER] for _ in range(count))
        assert newcomer.receive().addresses == [ANSWER]
        until_answered(tls, count)
        assert until_answered(https).startswith(b"HTTP/1.1 200")
        door.program.process.wait(10)


def until_answered(connection: ssl.SSLSocket, count: int = 1) -> bytes:
    """Read until there are so many answers."""
    data = b""
    while data.count(socket.inet_aton(ANSWER)) < count:
        more = connection.recv(65535)
        assert more, f"closed after {data!r}"
        data += more
    return data


def get(query: dns.message.Message) -> bytes:
    """A request of HTTP/1.1 that holds the query."""
    encoded = base64.urlsafe_b64encode(query.to_wire()).rstrip(b"=").decode()
    return f"GET /dns-query?dns={encoded} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_many_at_once_from_a_real_client(door: Door, tmp_path: Path, method: str) -> None:
    """Dnsperf loses no answer, though it takes only one response out of a TLS record."""
    names = tmp_path / "names"
    names.write_text("".join(f"{unique_name('perf')} A\n" for _ in range(20)))
    where = ["-s", "127.0.0.1", "-p", str(door.https.port), "-m", "doh", "-d", str(names)]
    uri = ["-O", f"doh-uri=https://{door.https}/dns-query", "-O", f"doh-method={method}"]
    done = subprocess.run(
        ["dnsperf", *where, *uri, "-c", "4", "-q", "100", "-n", "50"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Queries completed:    1000 (100.00%)" in done.stdout, done.stdout + done.stderr
    assert "200: 1000" in done.stdout


def test_rapid_resets(tmp_path: Path) -> None:
    """A client that asks and resets 600 times in one go is cut off, and the others are served."""
    with opened(tmp_path, b.answers(ANSWER, after=0.5)) as door:
        context = ssl.create_default_context(cafile=str(door.authority.ca))
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(door.https, timeout=5)
        with context.wrap_socket(plain, server_hostname="dns.example") as client:
            state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            state.initiate_connection()
            for number in range(600):
                encoded = base64.urlsafe_b64encode(question(f"r{number}.example.").to_wire())
                path = "/dns-query?dns=" + encoded.rstrip(b"=").decode()
                head = [(":method", "GET"), (":scheme", "https"), (":authority", "x")]
                stream = state.get_next_available_stream_id()
                state.send_headers(stream, [*head, (":path", path)], end_stream=True)
                state.reset_stream(stream)
            with contextlib.suppress(OSError):
                client.sendall(state.data_to_send())
                while client.recv(65535):
                    pass
        metrics = door.program.metrics()
        assert 0 < metrics.value("staggerdns_queries_total", transport="https") <= 101
        assert metrics.value("staggerdns_queries_waiting") == 0
        assert ANSWER in door.kdig("+https")
        door.program.check_log()
