"""A TCP server that does whatever a test wants of it, on threads."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

from tests.kit.ports import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable


class Speaker:
    """Something in the place of a server: it answers what it gets as ``speak`` says, with the
    socket and the octets; a context manager.
    """

    def __init__(self, speak: Callable[[socket.socket, bytes], None]) -> None:
        self._speak = speak
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint(*self._socket.getsockname())
        self._threads = [threading.Thread(target=self._accept)]
        self._connections: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                self._speak(connection, data)
