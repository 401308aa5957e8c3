"""What the HTTP/2 library takes by itself for a request: nobody can be quicker who uses it."""

from __future__ import annotations

import os
import time
from http import HTTPStatus

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from h2.settings import SettingCodes

from bench import programs
from bench.load import LoadError
from staggerdns.server.doh import Response
from staggerdns.wire.constants import MEDIA_TYPE

#: Requests that arrive together, as h2load sends them.
TOGETHER = 10
_WINDOW = 2**31 - 1
_REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"127.0.0.1:65535"),
    (b":path", b"/dns-query"),
    (b"user-agent", b"h2load nghttp2/1.52.0"),
    (b"accept", MEDIA_TYPE),
    (b"content-type", MEDIA_TYPE),
]


def microseconds(query: bytes, reply: bytes, count: int) -> float:
    """Return the CPU time of the server's side for one request and its response, on the core of
    the servers: h2 as it comes, with the fields that are sent for ``reply``.

    ``count``: requests, a multiple of `TOGETHER`. Raises LoadError when they are not all answered.
    """
    client, server = _connected()
    fields = [*_REQUEST, (b"content-length", b"%d" % len(query))]
    response = Response(HTTPStatus.OK, MEDIA_TYPE, reply, 300).fields()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {programs.cores()[0]})
    spent = answered = 0
    try:
        for _ in range(count // TOGETHER):
            for _ in range(TOGETHER):
                stream = client.get_next_available_stream_id()
                client.send_headers(stream, fields)
                client.send_data(stream, query, end_stream=True)
            arriving = client.data_to_send()
            begin = time.process_time_ns()
            for event in server.receive_data(arriving):
                if isinstance(event, StreamEnded) and event.stream_id is not None:
                    server.send_headers(event.stream_id, response)
                    server.send_data(event.stream_id, reply, end_stream=True)
            leaving = server.data_to_send()
            spent += time.process_time_ns() - begin
            answered += sum(
                isinstance(event, StreamEnded) for event in client.receive_data(leaving)
            )
    finally:
        os.sched_setaffinity(0, cores)
    if answered != count:
        raise LoadError(f"h2 answered {answered} of {count} requests")
    return spent / 1000 / count


def _connected() -> tuple[H2Connection, H2Connection]:
    """Return both ends of a connection that never has to wait for a window."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    for end in (client, server):
        end.initiate_connection()
        end.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW})
        end.increment_flow_control_window(_WINDOW - 65_535)
    for _ in range(3):
        server.receive_data(client.data_to_send())
        client.receive_data(server.data_to_send())
    return client, server
