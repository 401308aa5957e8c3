"""The h2 library's HTTP/2 connection, as a server of DNS over HTTPS needs it.

It has limits where h2 has none: a frame that is too long is refused before it is read, header
blocks are bounded in octets, settings that HTTP/2 does not know are not kept, and a client may
send `MAX_FRAMES_AHEAD` frames more than its requests need. A client that goes beyond a limit gets a
GOAWAY. Priorities are ignored (RFC 9113 section 5.3.2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import (
    FrameTooLargeError,
    ProtocolError,
    StreamClosedError,
    StreamIDTooLowError,
)
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from h2.stream import StreamClosedBy, StreamState
from hpack import Decoder
from hpack.table import HeaderTable
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from staggerdns.errors import StaggerDNSError
from staggerdns.server.clientconnection import MAX_PENDING

MAX_FRAMES_AHEAD = 2_000
"""Frames of any kind that a client may send beyond those that its answers pay for."""
FRAMES_PER_ANSWER = 10
"""Frames that an answer pays for: those of its request, and WINDOW_UPDATE and PING beside it."""
FIELDS_PER_FRAME = 16
"""Each so many header fields of a request count as one more frame, since they cost as much time."""
MAX_HEADER_BLOCK = 16_384
"""Octets of the header fields of one request, compressed or not (RFC 9113 section 10.5.1)."""
_KNOWN_SETTINGS = frozenset(range(1, 7))  # RFC 9113 section 6.5.2
_MAX_CLOSED = 1_000  # streams of which h2 remembers how they ended
_MAX_KNOWN = 8  # header blocks of one connection whose meaning is remembered
_LONGEST_KNOWN = 512  # octets of such a block
_frame_header = struct.Struct("!xHBBL").pack
_DATA, _HEADERS = 0, 1  # types of frames (RFC 9113 section 6)
_END_STREAM, _END_HEADERS = 1, 4  # their flags
_NAMES = {  # literals without indexing, named by the static table (RFC 7541 section 6.2.2)
    b":status": b"\x08",
    b"content-type": b"\x0f\x10",
    b"content-length": b"\x0f\x0d",
    b"cache-control": b"\x0f\x09",
    b"date": b"\x0f\x12",
}
Fields = list[tuple[bytes, bytes]]


class TooMuchError(StaggerDNSError, ProtocolError):
    """The client sends more frames or header fields than its requests need."""

    error_code = ErrorCodes.ENHANCE_YOUR_CALM


class ServerConnection(H2Connection):
    """The server's side of an HTTP/2 connection."""

    MAX_CLOSED_STREAMS = _MAX_CLOSED

    def __init__(self) -> None:
        # Header fields are bytes both ways. Ours need no check, and `http2` checks those that come.
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_PENDING,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BLOCK,
            },
        )
        self.decoder: Decoder = _CachingDecoder()
        self.decoder.max_header_list_size = MAX_HEADER_BLOCK
        self.encoder: Any = ResponseEncoder()
        self.incoming_buffer = _FrameReader(server=True)
        self.incoming_buffer.max_frame_size = self.max_inbound_frame_size
        self._allowance = MAX_FRAMES_AHEAD

    def take(self, data: bytes) -> Iterator[list[Event]]:
        """Yield what each frame in ``data`` means, one frame at a time.

        A caller that stops in between calls it again later, without data, for the frames that are
        left. Raises `ProtocolError` if the client breaks the protocol; then a GOAWAY is ready.
        """
        try:
            self.incoming_buffer.add_data(data)
            for frame in self.incoming_buffer:
                self._allowance -= 1
                if self._allowance < 0:
                    raise TooMuchError("too many frames that ask nothing")
                yield self._receive_frame(frame)
        except ProtocolError as error:
            self.send_goaway(error.error_code)
            raise
        except HyperframeError as error:
            self.send_goaway(ErrorCodes.PROTOCOL_ERROR)
            raise ProtocolError(str(error)) from error

    def respond(self, number: int, fields: Fields, body: bytes) -> bytes:
        """Send a response to a whole request; return the part of ``body`` that has to wait."""
        self._allowance = min(self._allowance + FRAMES_PER_ANSWER, MAX_FRAMES_AHEAD)
        stream = self.streams[number]
        size = len(body)
        window = min(self.outbound_flow_control_window, stream.outbound_flow_control_window)
        if not 0 < size <= min(window, self.max_outbound_frame_size):
            self.send_headers(number, fields, end_stream=not body)
            return self.send_body(number, body)
        # Nearly all responses are sent here. What h2 does for them takes three times as long.
        block = self.encoder.encode(fields)
        self._data_to_send += b"".join(
            (
                _frame_header(len(block), _HEADERS, _END_HEADERS, number),
                block,
                _frame_header(size, _DATA, _END_STREAM, number),
                body,
            )
        )
        self.outbound_flow_control_window -= size
        stream.state_machine.state = StreamState.CLOSED
        del self.streams[number]
        self._closed_streams[number] = StreamClosedBy.SEND_END_STREAM
        return b""

    def send_body(self, number: int, body: bytes) -> bytes:
        """Send as much of a body as flow control allows; return the rest."""
        while body:
            room = min(self.local_flow_control_window(number), self.max_outbound_frame_size)
            if room <= 0:
                break
            self.send_data(number, body[:room], end_stream=len(body) <= room)
            body = body[room:]
        return body

    def reopen_window(self, octets: int) -> None:
        """Let the client send so many octets more, on any stream."""
        increment = self._inbound_flow_control_window_manager.process_bytes(octets)
        if increment:
            frame = WindowUpdateFrame(0)
            frame.window_increment = increment
            self._prepare_for_sending([frame])

    def send_goaway(self, code: ErrorCodes | int = ErrorCodes.NO_ERROR) -> None:
        """Have the client open no more streams; the open ones go on (RFC 9113 section 6.8)."""
        frame = GoAwayFrame(0)
        frame.last_stream_id = self.highest_inbound_stream_id
        frame.error_code = code
        self._prepare_for_sending([frame])

    @property
    def unsent(self) -> int:
        """Octets that are ready to be sent."""
        return len(self._data_to_send)

    def _receive_frame(self, frame: Frame) -> list[Event]:
        """Do what the same method of h2 does, but log nothing."""
        try:
            frames, events = self._frame_dispatch_table[type(frame)](frame)
        except (StreamClosedError, StreamIDTooLowError) as error:
            number = error.stream_id
            if not self._stream_is_closed_by_reset(number):
                raise
            reset = RstStreamFrame(number)
            reset.error_code = ErrorCodes.STREAM_CLOSED
            frames, events = [reset], getattr(error, "_events", [])
        self._prepare_for_sending(frames)
        found: list[Event] = events
        return found

    def _receive_headers_frame(self, frame: HeadersFrame) -> Any:
        """Count a request with many header fields as several frames."""
        found: tuple[list[Frame], list[Any]] = super()._receive_headers_frame(frame)
        frames, events = found
        self._allowance -= len(events[0].headers) // FIELDS_PER_FRAME
        return frames, events

    def _receive_settings_frame(self, frame: SettingsFrame) -> Any:
        """Ignore settings that are not known (RFC 9113 section 6.5.2): h2 would keep them all."""
        if not _KNOWN_SETTINGS.issuperset(frame.settings):
            known = {code: frame.settings[code] for code in _KNOWN_SETTINGS & frame.settings.keys()}
            frame.settings = known
        return super()._receive_settings_frame(frame)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> Any:
        """Keep the connection open: after its GOAWAY a client still waits for its answers."""
        unsent = self._data_to_send
        result = super()._receive_goaway_frame(frame)
        self._data_to_send = unsent
        self.state_machine.state = ConnectionState.SERVER_OPEN
        return result


class _FrameReader(FrameBuffer):
    """Splits what a client sends into frames."""

    def __next__(self) -> Frame:
        data = self._data
        # h2 would wait for the whole frame before it refuses it.
        if len(data) >= 9 and int.from_bytes(data[:3], "big") > self.max_frame_size:
            raise FrameTooLargeError("a frame that is too long")
        return super().__next__()

    def _update_header_buffer(self, f: Frame | None) -> Frame | None:
        block: list[Any] = self._headers_buffer
        if block:  # a single frame has been checked by its length
            size = sum(len(part.data) for part in block)
            if size + len(getattr(f, "data", b"")) > MAX_HEADER_BLOCK:
                raise TooMuchError("too many header fields")
        return super()._update_header_buffer(f)


class _CachingDecoder(Decoder):
    """HPACK's decoder, which remembers blocks, since a client's requests often have the same one.

    A block that does not change the table has the same meaning until the table changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.header_table: Any = _CountingTable()
        self._known: dict[bytes, Any] = {}

    def decode(self, data: bytes, raw: bool = False) -> Any:  # noqa: FBT002 (as there)
        """Return the header fields in a block (RFC 7541)."""
        found = self._known.get(data)
        if found is not None:
            return found
        added = self.header_table.added
        found = super().decode(data, raw)
        resized = data[:1] and data[0] & 0xE0 == 0x20  # section 6.3
        if resized or self.header_table.added != added or len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        elif len(data) <= _LONGEST_KNOWN:
            self._known[data] = found
        return found


class _CountingTable(HeaderTable):
    """Counts the fields that are added to it."""

    added = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)


class ResponseEncoder:
    """HPACK (RFC 7541) for the few fields that we send, without a table of our own.

    The first block sets the size of the table to 0 (section 6.3), whatever the client would allow.
    """

    header_table_size = 0  # h2 sets it to what the client allows

    def __init__(self) -> None:
        self._start = b"\x20"

    def encode(self, headers: Fields) -> bytes:
        """Return the block of ``headers``."""
        start, self._start = self._start, b""
        return start + _encode(tuple(headers))


@lru_cache(maxsize=1024)
def _encode(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Encode header fields whose values have less than 127 octets each."""
    return b"".join(
        b"\x88" if value == b"200" else b"%b%c%b" % (_NAMES[name], len(value), value)
        for name, value in headers
    )
