"""Both ends of the control socket: a transport in memory, and a server that tests make reply."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from staggerdns.control.peers import Peer


class FakeTransport:
    """Notes what a connection does with it; ``full``: the socket takes nothing."""

    def __init__(self, peer: Peer) -> None:
        self.socket = peer
        self.written = b""
        self.reading = True
        self.full = False
        self.end = ""
        self.bufferSize = 0
        self._producer: Any = None

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Note the producer."""
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Forget it."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Note data."""
        assert not self.end
        self.written += data
        if self.full and self._producer is not None:
            self._producer.pauseProducing()

    def drain(self) -> None:
        """Let the client read all."""
        self.full = False
        self._producer.resumeProducing()

    def startReading(self) -> None:
        """Read."""
        self.reading = True

    def stopReading(self) -> None:
        """Read no more."""
        self.reading = False

    def loseConnection(self) -> None:
        """Close in the end."""
        self.end = self.end or "closed"

    def abortConnection(self) -> None:
        """Close at once."""
        self.end = self.end or "aborted"


class FakeServer:
    """Replies to each connection with the next of ``replies``, and notes the requests. Connections
    stay for ``linger`` seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self.replies: list[bytes] = []
        self.linger = 0.0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connected, _ = self._listening.accept()
            with connected, connected.makefile("rb") as file:
                octets = file.readline()
                if not octets:
                    return
                self.requests.append(json.loads(octets))
                connected.sendall(self.replies.pop(0))
                if self.linger:
                    connected.settimeout(self.linger)
                    with contextlib.suppress(TimeoutError):
                        connected.recv(1)

    def close(self) -> None:
        """End."""
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._listening.close()
