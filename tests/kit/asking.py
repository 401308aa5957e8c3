"""A client that asks all the time, in a thread of its own, and counts what it does not get."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

from tests.kit.clients import question

if TYPE_CHECKING:
    from tests.kit.ports import Endpoint

QUERY = question("localhost.").to_wire()
PATIENCE = 5.0
"""Seconds after which a reply counts as lost."""


class Asking:
    """Asks ``endpoint`` for ``localhost`` one time after the other: a context manager.

    ``how``: ``udp``, ``tcp`` (a connection for each query) or ``kept`` (one connection for all).
    """

    def __init__(self, endpoint: Endpoint, how: str) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._endpoint = endpoint
        self._how = how
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    @property
    def ended(self) -> bool:
        """Whether it asks no more."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            kept: socket.socket | None = None
            while not self._ended.is_set():
                try:
                    if self._how == "kept":
                        kept = kept or stack.enter_context(self._open(socket.SOCK_STREAM))
                        self._ask_stream(kept)
                    elif self._how == "tcp":
                        with self._open(socket.SOCK_STREAM) as client:
                            self._ask_stream(client)
                    else:
                        with self._open(socket.SOCK_DGRAM) as client:
                            client.send(QUERY)
                            self._note(client.recv(4096))
                except OSError as error:
                    self.lost.append(f"{self._how} {self._endpoint}: {error!r}")
                    kept = None

    def _open(self, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._endpoint.host else socket.AF_INET
        client = socket.socket(family, kind)
        client.settimeout(PATIENCE)
        client.connect(self._endpoint)
        return client

    def _ask_stream(self, client: socket.socket) -> None:
        client.sendall(len(QUERY).to_bytes(2, "big") + QUERY)
        self._note(client.recv(4096)[2:])

    def _note(self, reply: bytes) -> None:
        if reply[:2] != QUERY[:2]:
            raise ConnectionError("no reply")
        self.answered += 1
