"""The page of a whole program on a clock, and browsers at connections in memory."""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from staggerdns.server.status import StatusFactory
from tests.kit.connections import HttpTransport
from tests.kit.routed import NO_RANKING, PUBLIC, RoutedProgram

LOOPBACK = "127.0.0.1"
OWN_HOST = "127.0.0.1:9153"
"""What a browser says that has found the page where it is by default."""


class Website(RoutedProgram):
    """A program with a page, as the ``page`` of its configuration says."""

    def __init__(self, page: str = "{}", listen: str = OWN_HOST, more: str = "") -> None:
        super().__init__("", more=page_settings(page, listen, more))
        self.service.lifecycle.serve()

    def use(
        self, page: str = "{}", listen: str = OWN_HOST, more: str = "", servers: str = PUBLIC
    ) -> None:
        """Let another configuration count."""
        self.change(more=page_settings(page, listen, more), servers=servers)

    @property
    def pages(self) -> StatusFactory:
        """What serves all pages."""
        return self.service.pages

    def get(self, path: str, method: str = "GET", body: str = "", **fields: str | None) -> Response:
        """Ask once, and wait for the response."""
        return Browser(self).get(path, method, body, **fields)


def page_settings(page: str, listen: str, more: str) -> str:
    """Return sections of a configuration."""
    return f"{NO_RANKING}page: {page}\nmetrics: {{listen: '{listen}'}}\n{more}\n"


class Browser:
    """A connection to the page of ``site`` that came in by its address ``own_address``."""

    def __init__(
        self,
        site: Website,
        own_address: str = LOOPBACK,
        client: str = LOOPBACK,
        host: str = OWN_HOST,
    ) -> None:
        self.site = site
        self.host = host
        self.transport = HttpTransport(client, b"")
        address = IPv6Address if ":" in own_address else IPv4Address
        self.transport.hostAddr = address("TCP", own_address, 9153)
        self.connection = site.pages.buildProtocol(None)
        self.connection.makeConnection(self.transport)

    def send(self, path: str, method: str = "GET", body: str = "", **fields: str | None) -> None:
        """Send a request; underscores in the names of ``fields`` are hyphens there."""
        lines = [f"{method} {path} HTTP/1.1"]
        for name, value in {"host": self.host, **fields}.items():
            if value is not None:
                lines.append(f"{name.replace('_', '-')}: {value}")
        if body:
            lines.append(f"content-length: {len(body)}")
        self.connection.dataReceived("\r\n".join([*lines, "", body]).encode())

    def get(self, path: str, method: str = "GET", body: str = "", **fields: str | None) -> Response:
        """Send a request, and wait for the response."""
        self.transport.clear()
        self.send(path, method, body, **fields)
        for _ in range(2_000):
            if self.transport.value():
                break
            self.site.clock.advance(0)
        return Response(self.transport.value())

    def taken(self) -> bytes:
        """What has come since the last look, without the sizes of its pieces."""
        data = self.transport.value()
        self.transport.clear()
        return re.sub(rb"(?:^|\r\n)[0-9a-f]+\r\n(?:\r\n)?", b"", data)

    def stop_taking(self) -> None:
        """Leave what comes in the server's buffer."""
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()

    def take(self) -> None:
        """Read what is in the server's buffer."""
        assert self.transport.producer is not None
        self.transport.producer.resumeProducing()

    def leave(self) -> None:
        """Close the connection."""
        self.connection.connectionLost(Failure(ConnectionDone()))


class Response:
    """A response: ``status``, ``fields`` of its header in lower case, ``body``."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        pairs = (line.partition(": ") for line in lines)
        self.fields = {name.lower(): value for name, _, value in pairs}

    @property
    def json(self) -> Any:
        """The object that it holds."""
        assert self.fields["content-type"] == "application/json"
        return json.loads(self.body)


def events(data: bytes) -> list[tuple[str, Any]]:
    """Return the server-sent events in what has come, with their data."""
    found = []
    for block in data.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found
