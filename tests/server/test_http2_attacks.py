"""HTTP/2 clients that break the rules or use them up: drawn at random, and one by one."""

from __future__ import annotations

import random
import struct
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from staggerdns.server.clientconnection import MAX_PENDING
from staggerdns.server.connections import MAX_UNREAD
from staggerdns.server.h2connection import (
    FIELDS_PER_FRAME,
    FRAMES_PER_ANSWER,
    MAX_FRAMES_AHEAD,
    MAX_HEADER_BLOCK,
)
from staggerdns.server.http2 import MAX_BODIES
from tests.kit.connections import TYPE, HttpClient
from tests.kit.factory import ALL_SPECIAL, MemoryServer, pool
from tests.kit.messages import ask, client_query

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = 4
CALM = 11  # ENHANCE_YOUR_CALM
LARGEST = 2**31 - 1
PLAIN = [(":method", "POST"), (":scheme", "https"), (":authority", "x"), (":path", "/dns-query")]
QUERY = [*PLAIN, ("content-type", TYPE)]


class Raw(HttpClient):
    """A client that sends whatever frames it likes and keeps account of its windows."""

    def start(self) -> None:
        """Begin the account, and send the preface."""
        self._got = b""
        self.garbled = False
        self._encoder = Encoder()
        self._settings: list[int | None] = []  # initial windows announced, yet to be acknowledged
        self._initial = 65_535
        self._window = 65_535
        self._windows: dict[int, int] = {}
        self._changes: dict[int, int] = {}
        self.frames: list[Frame] = []
        self.sent = 0
        self.stream = -1
        self.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.settings({})

    def send_raw(self, data: bytes) -> None:
        """Send octets, and take what the server says."""
        self.connection.dataReceived(data)
        self.read()

    def send(self, *frames: Frame) -> None:
        """Send frames in one piece."""
        self.sent += len(frames)
        self.send_raw(b"".join(frame.serialize() for frame in frames))

    def send_junk(self, data: bytes) -> None:
        """Send what is no frame; what is behind it means something else from now on."""
        self.garbled = self.garbled or bool(data)
        self.send_raw(data)

    def headers(
        self, fields: list[tuple[str, str]] | None = None, *, end: bool = False
    ) -> HeadersFrame:
        """A frame that opens the next stream."""
        self.stream += 2
        frame = HeadersFrame(self.stream, self._encoder.encode(QUERY if fields is None else fields))
        frame.flags.add("END_HEADERS")
        if end:
            frame.flags.add("END_STREAM")
        return frame

    def data(self, body: bytes, *, stream: int = 0, end: bool = True) -> Frame:
        """A part of a body, of the last stream if not said."""
        return DataFrame(stream or self.stream, body, flags=["END_STREAM"] if end else [])

    def settings(self, values: dict[int, int]) -> None:
        """Send a SETTINGS frame."""
        self._settings.append(values.get(SettingsFrame.INITIAL_WINDOW_SIZE))
        body = b"".join(struct.pack("!HI", *pair) for pair in values.items())
        self.sent += 1  # hyperframe cuts the codes of settings to an octet
        self.send_raw(len(body).to_bytes(3, "big") + bytes((SETTINGS, 0, 0, 0, 0, 0)) + body)

    def open(self, stream: int, octets: int) -> None:
        """Send a WINDOW_UPDATE frame."""
        if not stream:
            self._window += octets
        else:
            self._changes[stream] = self._changes.get(stream, 0) + octets
        frame = WindowUpdateFrame(stream)
        frame.window_increment = octets
        self.send(frame)

    def read(self) -> None:
        """Read the server's frames; it must keep to the windows."""
        self._got += self.transport.value()
        self.transport.clear()
        while len(self._got) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._got[:9]))
            if len(self._got) < 9 + length:
                return
            frame.parse_body(memoryview(self._got[9 : 9 + length]))
            self._got = self._got[9 + length :]
            self._account(frame)
            self.frames.append(frame)

    def _account(self, frame: Frame) -> None:
        if self.garbled:
            return
        if isinstance(frame, SettingsFrame) and "ACK" in frame.flags:
            initial = self._settings.pop(0) if self._settings else None
            if initial is not None:
                self._initial = initial
        if isinstance(frame, DataFrame):
            number, size = frame.stream_id, frame.flow_controlled_length
            self._window -= size
            self._windows[number] = self._windows.get(number, 0) + size
            assert self._window >= 0, "beyond the window of the connection"
            allowed = self._initial + self._changes.get(number, 0)
            assert not size or self._windows[number] <= allowed, "beyond the window of a stream"

    def of(self, kind: type[Frame], stream: int = 0) -> list[Any]:
        """Frames of a kind that the server has sent on a stream."""
        return [one for one in self.frames if type(one) is kind and one.stream_id == stream]

    def ended(self, stream: int) -> bool:
        """Whether the response on a stream is complete."""
        frames = [one for one in self.frames if one.stream_id == stream]
        return bool(frames) and "END_STREAM" in frames[-1].flags

    def goodbye(self) -> int | None:
        """The code of the server's GOAWAY, if there was one."""
        found = self.of(GoAwayFrame)
        return found[-1].error_code if found else None


def settings_kept(client: Raw) -> int:
    """How many settings of the client the server's h2 remembers."""
    return len(client.connection.session._h2.remote_settings)


@pytest.fixture
def server() -> MemoryServer:
    """A server with an answer in its cache."""
    made = MemoryServer()
    made.commit(ask(), pool(3))
    return made


query_for = cache(client_query)
"""A query for a name; dnspython takes longer for one than the server for its answer."""


def draw(rng: random.Random, client: Raw) -> Callable[[], None]:
    """Return something that a client might do."""
    stream = rng.randrange(1, max(2, client.stream + 1), 2)
    if rng.random() < 0.02:
        stream = rng.choice((0, 2, client.stream + 2))
    size = rng.choice((0, 1, 7, 100, 5_000))
    windows = (0, 1, 10, 50, 100, 65_535, 100_000, LARGEST)
    names = ("www.example", "other.example", "more.example")

    def priority() -> None:
        frame = PriorityFrame(stream or 1, depends_on=2 * rng.randrange(9), stream_weight=3)
        frame.exclusive = rng.random() < 0.5
        client.send(frame)

    def settings() -> None:
        known = {4: rng.choice(windows), 1: rng.choice((0, 100, 4096)), 3: 1, 6: 5}
        values = {code: known[code] for code in rng.sample(sorted(known), rng.randrange(1, 4))}
        client.settings(values | {rng.randrange(7, 65_535): 1})

    def block_in_parts() -> None:
        first = client.headers(end=True)
        first.flags.discard("END_HEADERS")
        rest = ContinuationFrame(client.stream, b"", flags=["END_HEADERS"])
        client.send(first, *([rest] if rng.random() < 0.9 else []))

    query = query_for(rng.choice(names))
    half = query_for(rng.choice(names))[:9]
    actions: list[tuple[int, Callable[[], None]]] = [
        (12, lambda: client.send(client.headers(), client.data(query))),
        (4, lambda: client.send(client.headers(), client.data(half, end=False))),
        (2, lambda: client.send(client.headers(PLAIN, end=True))),
        (2, lambda: client.send(client.headers([*QUERY, (":path", "/")]))),
        (4, lambda: client.send(client.data(bytes(size), stream=stream, end=rng.random() < 0.3))),
        (2, lambda: client.send(client.data(b"", stream=stream, end=False))),
        (4, lambda: client.send(RstStreamFrame(stream or 1, rng.randrange(14)))),
        (4, priority),
        (8, settings),
        (6, lambda: client.open(stream, rng.choice((1, 10, 100, 60_000)))),
        (4, lambda: client.open(0, rng.choice((1, 100, 60_000)))),
        (1, lambda: client.open(stream, LARGEST)),
        (3, lambda: client.send(PingFrame(0, bytes(8)))),
        (1, lambda: client.send(ExtensionFrame(99, stream))),
        (1, block_in_parts),
        (1, lambda: client.send(ContinuationFrame(stream or 1, b"", flags=["END_HEADERS"]))),
        (1, lambda: client.send(GoAwayFrame(0, rng.randrange(3), rng.randrange(14)))),
        (1, lambda: client.send_junk(rng.randbytes(size % 8))),
    ]
    weights = [weight for weight, _ in actions]
    return rng.choices([action for _, action in actions], weights)[0]


def one_draw(seed: int) -> bool:
    """Do things at random to one connection; whether it went on to the end."""
    rng = random.Random(seed)
    server = MemoryServer(local=ALL_SPECIAL)
    server.commit(ask(), pool(rng.choice((1, 3, 100))))
    client = Raw(server)
    client.send(client.headers(), client.data(query_for()))
    for _ in range(rng.randrange(5, 80)):
        if client.transport.over():
            break
        draw(rng, client)()
        if rng.random() < 0.3 and server.forwarder.waiting:
            found = server.forwarder.waiting.pop(rng.randrange(len(server.forwarder.waiting)))
            if not found.called:
                found.callback(server.entry(pool(rng.choice((1, 20, 100)))))
        session = client.connection.session
        assert session.pending <= MAX_PENDING
        assert session.bodies <= MAX_BODIES
        assert 0 <= server.factory.client_connections.unread <= MAX_UNREAD
        assert settings_kept(client) < 10
        assert len(server.clock.getDelayedCalls()) <= 1, "the idle time is the only timer"
        client.read()
    assert not client.transport.aborted(), "it ends in order"
    if not client.transport.over() and client.of(GoAwayFrame) == []:
        client.settings({4: 65_535})
        client.open(0, 65_535)
        client.send(client.headers(), client.data(query_for()))
        client.read()
    going = client.ended(client.stream) and not client.transport.over()
    if not going and not client.of(GoAwayFrame):
        assert client.garbled, "the server waits for the rest of a frame"
        server.clock.advance(10.1)
        assert client.transport.over()
    client.lost()
    assert server.factory.client_connections.unread == 0
    assert client.connection.pending == 0
    assert not server.clock.getDelayedCalls()
    return going


@pytest.mark.parametrize("block", range(10))
def test_drawn_at_random(block: int) -> None:
    """Whatever a client does, nothing is sent beyond its windows, what is held is bounded, and the
    connection serves on or ends with a GOAWAY: a thousand draws.
    """
    went_on = [one_draw(block * 100 + number) for number in range(100)]
    assert 10 <= sum(went_on) <= 90


FLOODS: dict[str, Callable[[Raw], Frame]] = {
    "ping": lambda client: PingFrame(0, bytes(8)),
    "settings": lambda client: SettingsFrame(0),
    "priority": lambda client: PriorityFrame(1, depends_on=3),
    "window of the connection": lambda client: WindowUpdateFrame(0, 1),
    "window of a stream": lambda client: WindowUpdateFrame(1, 1),
    "empty data": lambda client: client.data(b"", stream=1, end=False),
    "reset of nothing": lambda client: RstStreamFrame(1),
    "unknown": lambda client: ExtensionFrame(77, 0),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_frames_that_ask_nothing(server: MemoryServer, kind: str) -> None:
    """A client may send `MAX_FRAMES_AHEAD` of them; for one more the connection ends in order."""
    client = Raw(server)
    client.send(client.headers())
    server.clock.advance(1)
    while client.sent < MAX_FRAMES_AHEAD:
        client.send(FLOODS[kind](client))
        assert not client.transport.over()
    client.send(FLOODS[kind](client))
    assert client.transport.disconnecting
    assert not client.transport.aborted()
    assert client.goodbye() == CALM
    client.lost()
    assert not server.clock.getDelayedCalls()


def test_answers_pay_for_frames(server: MemoryServer) -> None:
    """Each answer lets the client send `FRAMES_PER_ANSWER` more."""
    client = Raw(server)
    while client.sent < MAX_FRAMES_AHEAD:
        client.send(PingFrame(0, bytes(8)))
        if client.sent == MAX_FRAMES_AHEAD - 2:
            client.send(client.headers(), client.data(client_query()))
            assert client.ended(1)
    for _ in range(FRAMES_PER_ANSWER):
        assert not client.transport.over()
        client.send(PingFrame(0, bytes(8)))
    client.send(PingFrame(0, bytes(8)))
    assert client.goodbye() == CALM
    client.lost()


def calls(function: Callable[[], object]) -> int:
    """How many functions are called: work that no busy neighbour changes."""
    count = 0

    def look(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("kind", [*FLOODS, "settings with streams"])
def test_no_frame_costs_more_than_a_request(server: MemoryServer, kind: str) -> None:
    """A flood of any frames costs the server less than one of plain requests from the cache."""
    client = Raw(server)
    for _ in range(3):  # the header fields are known, the reply is ready
        client.send(client.headers(), client.data(client_query()))
    request = client.headers().serialize() + client.data(client_query()).serialize()
    plain = calls(lambda: client.connection.dataReceived(request))
    client.read()
    opened = 90 if kind == "settings with streams" else 1
    client.send(*(client.headers() for _ in range(opened)))
    if kind == "settings with streams":
        frame: Frame = SettingsFrame(0, {4: 70_000})
    else:
        frame = FLOODS[kind](client)
    data = frame.serialize()
    if frame.stream_id:
        data = data[:5] + client.stream.to_bytes(4, "big") + data[9:]
    assert calls(lambda: client.connection.dataReceived(data)) <= plain
    assert not client.transport.over()
    client.lost()


def test_fields_without_end(server: MemoryServer) -> None:
    """Each `FIELDS_PER_FRAME` header fields count as a frame: many in each of many requests are too
    many, and the first of them are served.
    """
    client = Raw(server)
    fields = [*QUERY, *(("x", "") for _ in range(400))]
    cost = 2 + 400 // FIELDS_PER_FRAME - FRAMES_PER_ANSWER
    served = 0
    while not client.transport.over():
        client.send(client.headers(fields), client.data(client_query()))
        served += client.ended(client.stream)
    assert MAX_FRAMES_AHEAD // cost - 3 <= served <= MAX_FRAMES_AHEAD // cost + 3
    assert client.goodbye() == CALM
    client.lost()


def test_header_blocks(server: MemoryServer) -> None:
    """A header block may have `MAX_HEADER_BLOCK` octets in all its frames, and not one more."""
    for size, over in ((MAX_HEADER_BLOCK, False), (MAX_HEADER_BLOCK + 1, True)):
        client = Raw(server)
        first = client.headers(end=True)
        first.flags.discard("END_HEADERS")
        left = size - len(first.data)
        half = ContinuationFrame(1, bytes(left // 2))
        client.send(first, half, ContinuationFrame(1, bytes(left - left // 2)))
        assert bool(client.transport.over()) == over
        assert client.goodbye() == (CALM if over else None)
        client.lost()


def test_frames_that_are_too_long(server: MemoryServer) -> None:
    """A frame of 16 KiB is taken; a longer one ends the connection before its octets come."""
    for size, code in ((16_384, None), (16_385, 6), (2**24 - 1, 6)):
        client = Raw(server)
        client.send(client.headers())
        client.send_raw(size.to_bytes(3, "big") + b"\x00\x00\x00\x00\x00\x01")
        assert client.goodbye() == code
        assert bool(client.transport.over()) == (code is not None)
        client.lost()


def test_settings_that_nobody_knows(server: MemoryServer) -> None:
    """Thousands of settings that do not exist are not kept."""
    client = Raw(server)
    for start in range(10, 60_000, 2_000):
        client.settings(dict.fromkeys(range(start, start + 2_000), 1))
    assert settings_kept(client) < 10
    client.send(client.headers(), client.data(client_query()))
    assert client.ended(1)
    client.lost()


def test_shrinking_windows(server: MemoryServer) -> None:
    """A window below zero (RFC 9113 section 6.9.2) stops what is sent, until it opens."""
    server.commit(ask(), pool(100))
    client = Raw(server)
    client.settings({4: 1_000})
    client.send(client.headers(), client.data(client_query()))
    client.settings({4: 0})
    client.open(1, 999)
    assert not client.ended(1)
    client.open(1, 2_000)
    assert client.ended(1)
    client.lost()


def test_window_without_end(server: MemoryServer) -> None:
    """One octet at a time is sent as one octet at a time."""
    client = Raw(server)
    client.settings({4: 0})
    client.send(client.headers(), client.data(client_query()))
    size = 0
    while not client.ended(1):
        client.open(1, 1)
        size += 1
        assert sum(len(frame.data) for frame in client.of(DataFrame, 1)) == size
    client.lost()


def test_a_client_that_says_goodbye(server: MemoryServer) -> None:
    """Behind a client's GOAWAY its requests are answered; then the connection ends in order."""
    client = Raw(server)
    client.send(client.headers(), client.data(client_query("later.example")))
    client.send(GoAwayFrame(0))
    assert not client.transport.over()
    server.forwarder.waiting[0].callback(server.entry(pool()))
    client.read()
    assert client.ended(1)
    assert client.transport.disconnecting
    client.lost()
    idle = Raw(server)
    idle.send(GoAwayFrame(0))
    assert idle.transport.disconnecting
    assert idle.goodbye() == 0
    idle.lost()


def test_our_goodbye(server: MemoryServer) -> None:
    """Behind our GOAWAY what was asked is answered, what comes later refused, and then it ends."""
    client = Raw(server)
    client.send(client.headers(), client.data(client_query("later.example")))
    client.connection.drain()
    client.read()
    assert client.goodbye() == 0
    assert not client.transport.over()
    client.send(client.headers(), client.data(client_query()))
    assert client.of(RstStreamFrame, 3)[0].error_code == 7  # REFUSED_STREAM
    server.forwarder.waiting[0].callback(server.entry(pool()))
    client.read()
    assert client.ended(1)
    assert client.transport.disconnecting
    assert len(client.of(GoAwayFrame)) == 1
    client.lost()
