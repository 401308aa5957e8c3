"""Answers as dnstap: what is in the messages, files, collectors that are there or not."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.edns
import dns.message
import pytest

from staggerdns.querylog.outlet import TOO_SLOW, Unwritten
from staggerdns.settings.sections import QueryLogSettings
from tests.kit.answered import answered

fstrm = pytest.importorskip("fstrm")
dnstap = pytest.importorskip("dnstap_pb.dnstap_pb2")

if TYPE_CHECKING:
    from collections.abc import Callable

from staggerdns.querylog.dnstap import CollectorSink, Encoder, dnstap_output  # noqa: E402

PATIENCE = 60
START = fstrm.FstrmCodec().encode_ctrlstart(b"protobuf:dnstap.Dnstap")


def frames(octets: bytes) -> list[tuple[int, bytes]]:
    """The frames of a stream: what they are, and what they hold."""
    codec = fstrm.FstrmCodec()
    codec.append(octets)
    found = []
    while codec.process():
        kind, _, payload = codec.decode()
        found.append((kind, payload))
    assert codec.pending_nb_bytes() == 4, "nothing is cut"
    return found


def messages(octets: bytes) -> list[Any]:
    """The messages of a stream."""
    return [
        dnstap.Dnstap.FromString(payload)
        for kind, payload in frames(octets)
        if kind == fstrm.FSTRM_DATA_FRAME
    ]


def test_messages() -> None:
    """The query when it came, and the reply when it left."""
    event = answered()
    query, response = messages(Encoder("full")(event))
    for one in (query, response):
        assert one.type == dnstap.Dnstap.MESSAGE
        assert one.identity == socket.gethostname().encode()
        assert one.version.startswith(b"staggerdns ")
        message = one.message
        assert (message.socket_family, message.socket_protocol) == (dnstap.INET, dnstap.UDP)
        assert message.query_address == bytes((192, 0, 2, 77))
        assert (message.response_address, message.response_port) == (bytes((192, 0, 2, 1)), 53)
        assert (message.query_time_sec, message.query_time_nsec // 1000) == (
            1_800_000_000,
            237_500,
        )
    assert query.message.type == dnstap.Message.CLIENT_QUERY
    assert query.message.query_message == event.query
    assert not query.message.HasField("response_message")
    assert not query.message.HasField("response_time_sec")
    assert response.message.type == dnstap.Message.CLIENT_RESPONSE
    assert response.message.response_message == event.reply
    assert not response.message.HasField("query_message")
    assert response.message.response_time_nsec == 250_000_000


@pytest.mark.parametrize(
    ("clients", "four", "six"),
    [
        ("full", "c000024d", "20010db8000100020000000000000003"),
        ("prefix", "c0000200", "20010db8000100000000000000000000"),
        ("none", "", ""),
    ],
)
def test_clients(clients: str, four: str, six: str) -> None:
    """As much of their addresses is there as the settings say."""
    encode = Encoder(clients)
    for host, expected in (("192.0.2.77", four), ("2001:db8:1:2::3", six), ("192.0.2.77", four)):
        for one in messages(encode(answered(client=host))):
            assert one.message.query_address.hex() == expected
            assert one.message.socket_family == (dnstap.INET6 if ":" in host else dnstap.INET)


@pytest.mark.parametrize("clients", ["full", "prefix", "none"])
def test_options_that_tell_clients_apart(clients: str) -> None:
    """Subnets and cookies are in the messages only where all of the address is shown."""
    query = dns.message.make_query(
        "www.example",
        "A",
        options=[dns.edns.ECSOption("192.0.2.77", 32), dns.edns.CookieOption(b"x" * 8, b"")],
    )
    reply = dns.message.make_response(query)
    reply.use_edns(options=[dns.edns.CookieOption(b"x" * 8, b"y" * 16)])
    event = answered(query=query.to_wire(), reply=reply.to_wire())
    asked, told = messages(Encoder(clients)(event))
    for octets, edns in (
        (asked.message.query_message, query),
        (told.message.response_message, reply),
    ):
        found = dns.message.from_wire(octets)
        assert found.options == (edns.options if clients == "full" else ())
        assert (found.payload, found.question) == (edns.payload, edns.question)
    for cut in range(len(event.query)):
        broken = answered(query=event.query[:cut], reply=event.reply)
        assert len(messages(Encoder(clients)(broken))) == 2


@pytest.mark.parametrize(
    ("transport", "protocol"), [("udp", "UDP"), ("tcp", "TCP"), ("tls", "DOT"), ("https", "DOH")]
)
def test_transports(transport: str, protocol: str) -> None:
    """Each has its name there; what came in by no listener has no address of one."""
    for one in messages(Encoder("full")(answered(transport=transport, listener=None))):
        assert dnstap.SocketProtocol.Name(one.message.socket_protocol) == protocol
        assert not one.message.HasField("response_address")


def test_a_file(tmp_path: Path) -> None:
    """It begins and ends as it should, and what a program before has left is kept."""
    path = tmp_path / "tap"
    for _ in range(2):
        sink, encode = dnstap_output(QueryLogSettings(dnstap=str(path)))
        sink.write([encode(answered())])
        sink.write([encode(answered())])
        sink.close()
    for found in (path, tmp_path / "tap.1"):
        octets = found.read_bytes()
        assert octets.startswith(START)
        kinds = [kind for kind, _ in frames(octets)]
        assert kinds == [fstrm.FSTRM_CONTROL_START, *[0] * 4, fstrm.FSTRM_CONTROL_STOP]


class Collector:
    """Listens at a socket and does what a test says with the connection."""

    def __init__(self, path: Path, serve: Callable[[socket.socket], object]) -> None:
        self.received = b""
        self._serve = serve
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        connected, _ = self._listening.accept()
        with connected:
            connected.settimeout(PATIENCE)
            self._serve(connected)

    def close(self) -> None:
        """Wait until it has done that."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._listening.close()


def accept(connected: socket.socket, content_type: bytes = b"protobuf:dnstap.Dnstap") -> None:
    """Greet."""
    codec = fstrm.FstrmCodec()
    while not codec.process():
        codec.append(connected.recv(4096))
    assert codec.decode()[:2] == (fstrm.FSTRM_CONTROL_READY, [b"protobuf:dnstap.Dnstap"])
    connected.sendall(codec.encode_ctrlaccept(content_type))


def read_all(connected: socket.socket) -> bytes:
    """Greet, read until the other end stops, and say that this is received."""
    accept(connected)
    octets = b""
    while not octets.endswith(fstrm.FstrmCodec().encode(fstrm.FSTRM_CONTROL_STOP)):
        octets += connected.recv(4096)
    connected.sendall(fstrm.FstrmCodec().encode(fstrm.FSTRM_CONTROL_FINISH))
    assert connected.recv(1) == b""
    return octets


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a socket may be."""
    return tmp_path_factory.mktemp("tap") / "s"


def test_a_collector(path: Path) -> None:
    """It is greeted, gets everything, and says so in the end."""
    received: list[bytes] = []
    collector = Collector(path, lambda connected: received.append(read_all(connected)))
    sink, encode = dnstap_output(QueryLogSettings(dnstap=f"unix:{path}"))
    for _ in range(2):
        sink.write([encode(answered())] * 3)
    sink.close()
    collector.close()
    assert received[0].startswith(START)
    assert len(messages(received[0])) == 12


def test_no_collector(path: Path) -> None:
    """Everything is missing until there is one."""
    sink = CollectorSink(str(path))
    with pytest.raises(Unwritten, match="No such file") as caught:
        sink.write([b"1", b"2"])
    assert caught.value.count == 2
    sink.close()
    received: list[bytes] = []
    collector = Collector(path, lambda connected: received.append(read_all(connected)))
    sink.write([Encoder("full")(answered())])
    sink.close()
    collector.close()
    assert len(messages(received[0])) == 2


@pytest.mark.parametrize(
    ("serve", "problem"),
    [
        (lambda connected: connected.recv(1), "closed the connection|reset"),
        (lambda connected: accept(connected, b"other"), "accepts no dnstap"),
        (lambda connected: (connected.recv(999), connected.sendall(START)), "something else"),
        (lambda connected: (connected.recv(999), connected.sendall(b"\0" * 99)), "something else"),
    ],
)
def test_whoever_is_no_collector(
    path: Path, serve: Callable[[socket.socket], object], problem: str
) -> None:
    """Nothing is written there."""
    collector = Collector(path, serve)
    sink = CollectorSink(str(path))
    with pytest.raises(Unwritten, match=problem) as caught:
        sink.write([b"1"])
    assert caught.value.count == 1
    sink.close()
    collector.close()


def test_a_collector_that_stops_reading(path: Path) -> None:
    """It is waited for, in the thread, until it is given up; what it has is whole."""
    received: list[bytes] = []
    done = threading.Event()

    def serve(connected: socket.socket) -> None:
        accept(connected)
        done.wait(PATIENCE)
        while data := connected.recv(65_536):
            received.append(data)

    collector = Collector(path, serve)
    sink = CollectorSink(str(path))
    frame = Encoder("full")(answered())
    failures: list[Unwritten] = []

    def fill() -> None:
        try:
            sink.write([frame] * 10_000)
        except Unwritten as error:
            failures.append(error)

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    sink.give_up()
    thread.join(PATIENCE)
    done.set()
    collector.close()
    (error,) = failures
    assert str(error) == TOO_SLOW
    whole = (sum(map(len, received)) - len(START)) // len(frame)
    assert 10_000 - error.count == whole > 0
