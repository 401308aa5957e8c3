"""The page of the running program: over real sockets, beside its clients."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

from tests.kit.clients import UdpClient, eventually, question
from tests.kit.testbed import unique_name

if TYPE_CHECKING:
    from tests.kit.testbed import Testbed

VIEWERS = 10
BURST = 50
QUERIES = 1_000


def _watch(testbed: Testbed) -> socket.socket:
    """Return a connection on which rows come."""
    web = testbed.program.web
    viewer = socket.create_connection((web.host, web.port), timeout=5)
    viewer.sendall(f"GET /api/live HTTP/1.1\r\nHost: {web}\r\n\r\n".encode())
    assert b"200 OK" in viewer.recv(4096)
    return viewer


def test_the_page(testbed: Testbed) -> None:
    """It is there by default, on loopback with all names, and explains what was answered."""
    name = unique_name("explained")
    testbed.ask(name)
    assert testbed.program.get("/")[0] == 200
    assert testbed.program.get("/static/app.js")[0] == 200
    status, text = testbed.program.get(f"/api/why?name={name}")
    assert status == 200
    assert json.loads(text)["trace"]["client_ms"] > 0
    assert name in testbed.program.get("/api/names?q=explained")[1]
    assert len(json.loads(testbed.program.get("/api/upstreams")[1])["upstreams"]) == 5


def test_a_row(testbed: Testbed) -> None:
    """It comes soon after the reply."""
    viewer = _watch(testbed)
    name = unique_name("seen")
    testbed.ask(name)
    with viewer:
        data = b""
        deadline = time.monotonic() + 5
        while name.encode() not in data:
            assert time.monotonic() < deadline
            data += viewer.recv(65_536)


def test_viewers_who_do_not_read(testbed: Testbed) -> None:
    """They cost nobody an answer, and the program takes no more memory for them than it may."""
    name = unique_name("watched")
    testbed.ask(name)
    viewers = [_watch(testbed) for _ in range(VIEWERS)]
    with UdpClient(testbed.program.endpoint) as client:
        for _ in range(QUERIES // BURST):
            for _ in range(BURST):
                client.send(question(name))
            for _ in range(BURST):
                client.receive()
    eventually(lambda: testbed.program.health() == 200)
    for viewer in viewers:
        viewer.close()
    assert testbed.ask(name).rcode == "NOERROR"
