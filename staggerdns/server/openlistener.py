"""What is open for one listener of the configuration, or for the page of the metrics.

First there are sockets, which are bound; `OpenListener.start` makes ports of them, which read.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import Any

from twisted.internet.interfaces import IProtocolFactory

from staggerdns.server.datagram import DatagramPort
from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.https import PROTOCOLS, HttpsFactory
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.server.ports import BACKLOG, PAGES_BACKLOG, StatusPort, StreamPort
from staggerdns.server.proxyconnection import FirstOctetsFactory
from staggerdns.server.request import HTTPS, TCP, TLS
from staggerdns.server.sockets import is_ahead, open_socket
from staggerdns.server.status import StatusFactory
from staggerdns.server.stream import StreamFactory
from staggerdns.server.tls import Certificate, TlsConnectionCreator, TlsFactory
from staggerdns.settings.addresses import Endpoint, Listener
from staggerdns.upstream.tls import DOT

Port = DatagramPort | StreamPort | StatusPort


class OpenListener:
    """A listener at ``endpoint`` with its ``content``: the certificate of an encrypted one, the
    page, or nothing. Two with the same content at the same endpoint are the same.

    ``is_ahead``: whether the machine did not have its address when it was bound.
    ``passed``: by kind, the descriptors of those of its sockets that were passed in.
    """

    def __init__(self, endpoint: Endpoint, content: Certificate | StatusFactory | None) -> None:
        self.endpoint = endpoint
        self.content = content
        self.context: ListenerContext | None = None
        self.encrypted: TlsFactory | None = None
        self._sockets: dict[socket.SocketKind, socket.socket] = {}
        self.is_ahead = False
        self.passed: dict[socket.SocketKind, int] = {}
        self._ports: dict[socket.SocketKind, Port] = {}

    @property
    def is_page(self) -> bool:
        """Whether this is the page of the metrics."""
        return isinstance(self.content, StatusFactory)

    @property
    def kinds(self) -> Sequence[socket.SocketKind]:
        """The kinds of its sockets."""
        return [SOCK_DGRAM, SOCK_STREAM] if self.content is None else [SOCK_STREAM]

    @property
    def ports(self) -> list[Port]:
        """The ports that read its sockets."""
        return list(self._ports.values())

    def is_same(self, endpoint: Endpoint, content: Certificate | StatusFactory | None) -> bool:
        """Return whether one of these would be this one."""
        return self.content is content and self.endpoint == endpoint

    # Before it reads.

    def open(self, kind: socket.SocketKind, beside: Sequence[socket.socket]) -> None:
        """Bind a socket (`open_socket`). Raises `OSError`."""
        backlog = PAGES_BACKLOG if self.is_page else BACKLOG
        opened = self._sockets[kind] = open_socket(self.endpoint, kind, backlog, beside)
        self.is_ahead = is_ahead(opened)

    def adopt(self, kind: socket.SocketKind, opened: socket.socket, descriptor: int = -1) -> None:
        """Have a socket that is open; ``descriptor``: that of the one which was passed in."""
        self._sockets[kind] = opened
        if descriptor >= 0:
            self.passed[kind] = descriptor

    def abandon(self) -> None:
        """Close the sockets, from which nobody reads."""
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()

    # While it reads.

    def start(self, factory: StaggerServerFactory, reactor: Any) -> None:
        """Begin to read: queries are answered by ``factory``."""
        host, port = self.endpoint.host, self.endpoint.port
        if isinstance(self.endpoint, Listener):
            self.context = factory.listener_context(self.endpoint)
        for kind, opened in self._sockets.items():
            if isinstance(self.content, StatusFactory):
                made: Port = StatusPort(port, self.content, host, reactor, opened)
            elif kind == SOCK_DGRAM:
                made = DatagramPort(port, host, reactor, factory, self.context, opened)
            else:
                protocols = self._protocols(factory, reactor)
                made = StreamPort(port, factory, host, reactor, protocols, opened)
            made.passed = kind in self.passed
            made.startListening()
            self._ports[kind] = made
        self._sockets.clear()

    def _protocols(self, factory: StaggerServerFactory, reactor: Any) -> IProtocolFactory:
        listener, context = self.endpoint, self.context
        assert isinstance(listener, Listener)
        if not listener.scheme:
            return FirstOctetsFactory(factory, StreamFactory(factory, TCP, context), TCP)
        assert isinstance(self.content, Certificate)  # the configuration was checked
        https = listener.scheme == "https"
        inner = (
            HttpsFactory(factory, listener.path, context)
            if https
            else StreamFactory(factory, TLS, context)
        )
        creator = TlsConnectionCreator(self.content, PROTOCOLS if https else (DOT,))
        self.encrypted = TlsFactory(creator, inner, reactor)
        return FirstOctetsFactory(factory, self.encrypted, HTTPS if https else TLS)
