"""UDP listeners.

`DatagramPort` reads up to `BATCH` datagrams at a wake-up. First it answers those for which there
is a ready reply, then it hands the others to the factory. It uses the socket directly, since
`udp.Port.write` checks every address, and these came from the kernel.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet import udp
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import DatagramProtocol

from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.server.ratelimit import Address
from staggerdns.server.request import UDP, Reply
from staggerdns.server.wildcard import WildcardSocket, is_wildcard
from staggerdns.settings.addresses import Endpoint

BATCH = 256
"""Datagrams read at one wake-up, so that timers and other sockets get their turn."""
RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes asked of the kernel for a burst; it may grant less (net.core.rmem_max)."""
_Serve = Callable[[bytes, str, str, float, ListenerContext], Reply]
_SO_RCVBUFFORCE = 33  # Linux; the socket module does not name it
_MAX_QUERY = 4096  # bytes read of a datagram; a longer one is no query and fails to parse


class _Datagrams(DatagramProtocol):
    noisy = False


class DatagramPort(udp.Port):
    """Listens on one address; ``interface`` and ``port`` as for `udp.Port`. ``listener``: that of
    the configuration, if it is one.

    Raises `twisted.internet.error.CannotListenError` from ``startListening``.
    """

    def __init__(
        self,
        port: int,
        interface: str,
        reactor: IReactorFDSet,
        factory: StaggerServerFactory,
        listener: ListenerContext | None = None,
    ) -> None:
        super().__init__(port, _Datagrams(), interface, _MAX_QUERY, reactor)
        self._factory = factory
        self._listener = listener or factory.no_listener
        self._ready = self._listener.ready[UDP]
        self._send_errors = factory.metrics.send_errors.cell(UDP)

    def startListening(self) -> None:
        """Bind the socket, which may be to a link-local address, and read from it."""
        if "%" in self.interface:  # the base class leaves the interface out
            opened = self.createInternetSocket()
            try:
                opened.bind(Endpoint(self.interface, self.port).place)
            except OSError as error:
                opened.close()
                raise CannotListenError(self.interface, self.port, error) from None
            self._preexistingSocket = opened  # type: ignore[assignment]  # or None
        super().startListening()
        if is_wildcard(self.interface):
            self.socket = WildcardSocket(self.socket)  # type: ignore[assignment]  # as far as used

    def createInternetSocket(self) -> socket.socket:
        """Return the socket, with a receive buffer for bursts."""
        created: socket.socket = super().createInternetSocket()
        try:
            created.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except OSError:  # needs CAP_NET_ADMIN; without it the kernel caps what it grants
            created.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if self.addressFamily == socket.AF_INET6:
            created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return created

    def doRead(self) -> None:
        """Answer a batch of datagrams; called by the reactor."""
        batch = []
        receive = self.socket.recvfrom
        try:
            for _ in range(BATCH):
                batch.append(receive(_MAX_QUERY))  # noqa: PERF401 (it ends by an exception)
        except BlockingIOError:
            pass
        except OSError:  # an ICMP error that an earlier reply caused
            pass
        factory = self._factory
        seconds = factory.clock.seconds
        started = seconds()
        limiter = factory.limiter
        if limiter is not None:
            batch, beyond = limiter.screen(batch, started)
            for message, address in beyond:
                self._serve(message, address, factory.serve_beyond_limit)
        not_ready = self._ready.answer(batch, started, self.socket.sendto, self._send_errors)
        hits = len(batch) - len(not_ready)
        if hits:
            factory.observe_ready((seconds() - started) / len(batch), hits)
        for message, address in not_ready:
            self._serve(message, address, factory.serve)

    def _serve(self, message: bytes, address: Address, serve: _Serve) -> None:
        try:
            reply = serve(message, address[0], UDP, self._factory.clock.seconds(), self._listener)
        except Exception:  # noqa: BLE001 (a defect must cost one reply, not the listener)
            self._factory.journal.failure("a datagram could not be answered")
            return
        if isinstance(reply, Deferred):
            reply.addCallback(self._send, address)
        else:
            self._send(reply, address)

    def _send(self, reply: bytes | None, address: Address) -> None:
        if reply is None:
            return
        try:
            self.socket.sendto(reply, address)
        except OSError:
            self._send_errors.value += 1
