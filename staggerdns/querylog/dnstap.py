"""Answers as dnstap (https://dnstap.info), in frame streams: the extra ``staggerdns[dnstap]``.

Each answer is two messages, CLIENT_QUERY and CLIENT_RESPONSE. They go into a file, or to a
collector that listens at a UNIX socket: then both ends greet each other first (fstrm.h of the
reference implementation: READY, ACCEPT, START; in the end STOP, FINISH).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network
from threading import Event
from time import monotonic

import fstrm
from dnstap_pb import dnstap_pb2 as dnstap

from staggerdns import __version__
from staggerdns.querylog.checks import UNIX
from staggerdns.querylog.clients import FULL, shown_client, without_options
from staggerdns.querylog.file import FileSink
from staggerdns.querylog.outlet import TOO_SLOW, Sink, Unwritten
from staggerdns.server.answered import Answered
from staggerdns.server.request import HTTPS, TCP, TLS, UDP
from staggerdns.settings.sections import QueryLogSettings

CONTENT_TYPE = b"protobuf:dnstap.Dnstap"
GREETING_TIME = 2.0
"""Seconds that a collector has to accept, and in the end to say that it has everything."""
LOOK_EVERY = 0.1
"""Seconds between two looks whether anybody still wants to send."""
_STOP = fstrm.FSTRM_CONTROL_STOP
_FINISH = fstrm.FSTRM_CONTROL_FINISH
_PROTOCOLS = {UDP: dnstap.UDP, TCP: dnstap.TCP, TLS: dnstap.DOT, HTTPS: dnstap.DOH}
_MOST_READ = 4_096


def dnstap_output(settings: QueryLogSettings) -> tuple[Sink, Callable[[Answered], bytes]]:
    """Return where dnstap is written to, and what makes frames of an answer."""
    encode = Encoder(settings.clients)
    place = settings.dnstap
    assert place is not None
    if place.startswith(UNIX):
        return CollectorSink(place.removeprefix(UNIX)), encode
    codec = fstrm.FstrmCodec()
    return FileSink(
        place,
        int(settings.max_size),
        settings.keep,
        header=codec.encode_ctrlstart(CONTENT_TYPE),
        trailer=codec.encode(_STOP),
    ), encode


class Encoder:
    """Makes the frames of an answer; ``clients``: what is said of their addresses."""

    def __init__(self, clients: str) -> None:
        self._clients = clients
        self._identity = socket.gethostname().encode()
        self._version = f"staggerdns {__version__}".encode()
        self._encode = fstrm.FstrmCodec().encode_data

    def __call__(self, answered: Answered) -> bytes:
        """Return both, one behind the other."""
        query_time = _time(answered.time - answered.seconds)
        frame = dnstap.Dnstap(
            type=dnstap.Dnstap.MESSAGE, identity=self._identity, version=self._version
        )
        message = frame.message
        message.type = dnstap.Message.CLIENT_QUERY
        message.socket_protocol = _PROTOCOLS[answered.transport]
        message.socket_family = dnstap.INET6 if ":" in answered.client else dnstap.INET
        client = _client(answered.client, self._clients)
        if client:
            message.query_address = client
        listener = answered.listener
        if listener is not None:
            message.response_address = ip_address(listener.address).packed
            message.response_port = listener.port
        message.query_time_sec, message.query_time_nsec = query_time
        full = self._clients == FULL
        message.query_message = answered.query if full else without_options(answered.query)
        query = self._encode(frame.SerializeToString())
        message.type = dnstap.Message.CLIENT_RESPONSE
        message.ClearField("query_message")
        message.response_time_sec, message.response_time_nsec = _time(answered.time)
        message.response_message = answered.reply if full else without_options(answered.reply)
        return bytes(query + self._encode(frame.SerializeToString()))


class CollectorSink:
    """Sends frames to the collector at the UNIX socket at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._given_up = Event()

    def write(self, items: list[bytes]) -> None:
        """Send these. Raises `Unwritten`."""
        sent = 0
        data = memoryview(b"".join(items))
        problem = ""
        try:
            connected = self._connected()
            while sent < len(data) and not problem:
                try:
                    sent += connected.send(data[sent:])
                except TimeoutError:
                    problem = TOO_SLOW if self._given_up.is_set() else ""
        except OSError as error:
            problem = error.strerror or str(error)
        if not problem:
            return
        self._drop()  # whoever reads it cannot go on behind a frame that is cut
        count = 0
        for item in items:
            sent -= len(item)
            if sent < 0:
                break
            count += 1
        raise Unwritten(len(items) - count, problem)

    def close(self) -> None:
        """Tell the collector that this is all, and wait until it has it."""
        connected = self._socket
        if connected is None:
            return
        try:
            connected.settimeout(GREETING_TIME)
            connected.sendall(fstrm.FstrmCodec().encode(_STOP))
            self._expect(connected, _FINISH)
        except OSError:
            pass
        self._drop()

    def give_up(self) -> None:
        """Wait for the collector no more."""
        self._given_up.set()

    def _connected(self) -> socket.socket:
        """Return the connection, which is made if there is none. Raises `OSError`."""
        if self._socket is not None:
            return self._socket
        made = self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(GREETING_TIME)
        made.connect(self._path)
        codec = fstrm.FstrmCodec()
        made.sendall(codec.encode_ctrlready(CONTENT_TYPE))
        types = self._expect(made, fstrm.FSTRM_CONTROL_ACCEPT)
        if types and CONTENT_TYPE not in types:
            raise ConnectionError("the collector accepts no dnstap")
        made.sendall(codec.encode_ctrlstart(CONTENT_TYPE))
        made.settimeout(LOOK_EVERY)
        return made

    def _expect(self, connected: socket.socket, wanted: int) -> list[bytes]:
        """Return the content types in the frame that comes next. Raises `OSError`."""
        codec = fstrm.FstrmCodec()
        until = monotonic() + GREETING_TIME
        octets = 0
        while not codec.process():
            if self._given_up.is_set() or monotonic() > until or octets > _MOST_READ:
                raise ConnectionError("the collector does not accept")
            connected.settimeout(LOOK_EVERY)
            try:
                data = connected.recv(_MOST_READ)
            except TimeoutError:
                continue
            if not data:
                raise ConnectionError("the collector has closed the connection")
            octets += len(data)
            codec.append(data)
        try:
            kind, types, _ = codec.decode()
        except Exception:  # noqa: BLE001 (the library has no errors of its own)
            kind, types = -1, []
        if kind != wanted:
            raise ConnectionError("the collector speaks something else")
        return [*types]

    def _drop(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()


def _time(seconds: float) -> tuple[int, int]:
    whole, millionths = divmod(round(seconds * 1_000_000), 1_000_000)  # what a float can tell apart
    return whole, 1_000 * millionths


@lru_cache(4_096)
def _client(host: str, clients: str) -> bytes:
    """Return the address to write of a client, empty for none."""
    text = shown_client(host.partition("%")[0], clients)
    if text is None:
        return b""
    if clients == FULL:
        return ip_address(text).packed
    return ip_network(text).network_address.packed
