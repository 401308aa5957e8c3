"""UDP listeners.

`DatagramPort` reads up to `BATCH` datagrams at a wake-up. First it answers those for which there
is a ready reply, then it hands the others to the factory. Headers of proxies are cut before that
(`staggerdns.server.proxies`), so that what they ask can be ready as well. It uses the socket
directly, since `udp.Port.write` checks every address, and these came from the kernel.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from twisted.internet import udp
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.server.ratelimit import Address
from staggerdns.server.request import UDP, Reply
from staggerdns.server.wildcard import WildcardSocket, is_wildcard
from staggerdns.settings.addresses import Endpoint

BATCH = 256
"""Datagrams read at one wake-up, so that timers and other sockets get their turn."""
_Serve = Callable[[bytes, str, str, float, ListenerContext], Reply]
_Send = Callable[[bytes, Address], object]
_MAX_QUERY = 4096  # bytes read of a datagram; a longer one is no query and fails to parse


class _Datagrams(DatagramProtocol):
    noisy = False


class DatagramPort(udp.Port):
    """Listens on one address; ``interface`` and ``port`` as for `udp.Port`. ``listener``: that of
    the configuration, if it is one. ``opened``: a socket that is bound to that address;
    ``passed``: it was passed in.
    """

    def __init__(
        self,
        port: int,
        interface: str,
        reactor: IReactorFDSet,
        factory: StaggerServerFactory,
        listener: ListenerContext | None = None,
        opened: socket.socket | None = None,
    ) -> None:
        super().__init__(port, _Datagrams(), interface, _MAX_QUERY, reactor)
        self._preexistingSocket = opened  # type: ignore[assignment]  # or None
        self.place = Endpoint(interface, port)
        self.passed = False
        self._factory = factory
        self._listener = listener or factory.no_listener
        self._ready = self._listener.ready[UDP]
        self._waiting = 0  # for replies that are to come
        self._finished: Deferred[None] | None = None
        self._send_errors = factory.metrics.send_errors.cell(UDP)

    def startListening(self) -> None:
        """Read from the socket."""
        super().startListening()
        if is_wildcard(self.interface):
            self.socket = WildcardSocket(self.socket)  # type: ignore[assignment]  # as far as used

    def leave(self) -> None:
        """Let no more datagrams come in, if that can be had; replies can still be sent.

        The kernel gives a socket that is connected to itself what it sends itself, and anything
        else to the next best that has the port.
        """
        with suppress(OSError):  # the address is not there: nothing comes to it
            self.socket.connect(self.socket.getsockname())

    def stop_reading(self) -> None:
        """Read no more; replies can still be sent."""
        self.stopReading()

    def leave_unread(self) -> None:
        """Read no more: what waits is for whoever else has the socket."""
        self.stopReading()

    def finish(self) -> Deferred[None]:
        """Read no more, and close when those who wait have got their replies."""
        if not self.connected:
            return succeed(None)
        self.stopReading()
        finished = self._finished = Deferred()
        self._look_whether_finished()
        return finished

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket, unless it is closed."""
        if self.connected:
            super().connectionLost(reason)

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
        send: _Send = self.socket.sendto
        if factory.proxies is not None:
            batch = factory.proxies.unwrap(batch)
            send = self._send_to_peer
        limiter = factory.limiter
        if limiter is not None:
            batch, beyond = limiter.screen(batch, started)
            for message, address in beyond:
                self._serve(message, address, factory.serve_beyond_limit, send)
        not_ready = self._ready.answer(batch, started, send, self._send_errors)
        hits = len(batch) - len(not_ready)
        if hits:
            factory.observe_ready((seconds() - started) / len(batch), hits)
        for message, address in not_ready:
            self._serve(message, address, factory.serve, send)

    def _serve(self, message: bytes, address: Address, serve: _Serve, send: _Send) -> None:
        try:
            reply = serve(message, address[0], UDP, self._factory.clock.seconds(), self._listener)
        except Exception:  # noqa: BLE001 (a defect must cost one reply, not the listener)
            self._factory.journal.failure("a datagram could not be answered")
            return
        if isinstance(reply, Deferred):
            self._waiting += 1
            reply.addCallback(self._send_later, address, send)
        else:
            self._send(reply, address, send)

    def _send_later(self, reply: bytes | None, address: Address, send: _Send) -> None:
        self._send(reply, address, send)
        self._waiting -= 1
        self._look_whether_finished()

    def _look_whether_finished(self) -> None:
        if self._finished is not None and not self._waiting:
            finished, self._finished = self._finished, None
            maybeDeferred(self.stopListening).chainDeferred(finished)

    def _send(self, reply: bytes | None, address: Address, send: _Send) -> None:
        if reply is None:
            return
        try:
            send(reply, address)
        except OSError:
            self._send_errors.value += 1

    def _send_to_peer(self, reply: bytes, address: Address) -> None:
        """Send a reply to the second of what `Proxies.unwrap` has in place of an address."""
        self.socket.sendto(reply, address[1])
