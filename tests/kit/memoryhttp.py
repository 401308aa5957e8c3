"""An upstream over HTTP/2 on a reactor in memory, with h2 as its server."""

from __future__ import annotations

from typing import Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamReset
from h2.settings import SettingCodes

from tests.kit.acts import says
from tests.kit.memory import WWW, MemoryTransport, StreamUpstream
from tests.kit.readings import by_last_label

TYPE = "application/dns-message"


class HttpsServerEnd:
    """The other end of one connection."""

    def __init__(self, factory: Any, settings: dict[SettingCodes, int] | None = None) -> None:
        self.protocol = factory.buildProtocol(None)
        self.transport = MemoryTransport()
        self._taken = 0
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: list[int] = []
        if settings:
            self.h2.local_settings.update(cast("Any", settings))
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.protocol.makeConnection(self.transport)
        self.listen()
        self.talk()

    @property
    def requests(self) -> list[int]:
        """The streams so far."""
        return list(self.headers)

    def listen(self) -> None:
        """Read what the client has written."""
        data = self.transport.value()[self._taken :]
        self._taken += len(data)
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.headers[event.stream_id] = dict(cast("Any", event.headers))
                self.bodies[event.stream_id] = b""
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamReset):
                self.resets.append(event.stream_id)

    def talk(self) -> None:
        """Let the client read what there is for it, and hear what it says to that."""
        self.protocol.dataReceived(self.h2.data_to_send())
        self.listen()

    def answer(
        self, stream: int, body: bytes | None = None, status: int = 200, **fields: str
    ) -> None:
        """Answer one request, well unless it is said otherwise."""
        body = good_body() if body is None else body
        headers = {":status": str(status), "content-type": TYPE}
        headers |= {key.replace("_", "-"): value for key, value in fields.items()}
        self.h2.send_headers(stream, list(headers.items()))
        for start in range(0, len(body), 16_384):
            self.h2.send_data(stream, body[start : start + 16_384])
        self.h2.end_stream(stream)
        self.talk()


class HttpsUpstream(StreamUpstream):
    """An upstream on a reactor in memory, without the TLS between."""

    def __init__(self, where: str = "https://192.0.2.1/dns-query#dns.example") -> None:
        super().__init__(where)
        self.upstream._stream._tls = None

    def connect(self, **settings: int) -> HttpsServerEnd:
        """Make the next connection that is wanted."""
        _, _, factory = self.next_attempt()
        return HttpsServerEnd(
            factory, {SettingCodes[key]: value for key, value in settings.items()}
        )

    def rejected(self) -> dict[str, int]:
        """How many messages were not accepted, by reason."""
        return by_last_label(self.metrics.upstream_rejected)

    def errors(self) -> dict[str, int]:
        """How many HTTP errors came, by status."""
        return by_last_label(self.metrics.upstream_http_errors)


def good_body(ttl: int = 300) -> bytes:
    """The reply to WWW, under the ID 0."""
    act = says(0, "203.0.113.1", ttl=ttl)
    assert act.reply is not None
    return act.reply(WWW)
