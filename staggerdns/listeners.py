"""The sockets that clients come in by: bound together, or none of them.

A port that cannot be had is told of in one line: which key of the configuration wants it, why not,
and what to do.
"""

from __future__ import annotations

from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EPERM
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from staggerdns.errors import StaggerDNSError
from staggerdns.journal import Journal
from staggerdns.server.datagram import DatagramPort
from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.https import PROTOCOLS, HttpsFactory
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.server.ports import StatusPort, StreamPort
from staggerdns.server.request import TCP, TLS
from staggerdns.server.status import StatusFactory
from staggerdns.server.stream import StreamFactory
from staggerdns.server.tls import Certificate, TlsConnectionCreator, TlsFactory
from staggerdns.settings.addresses import NO_INTERFACE, Endpoint, Listener
from staggerdns.upstream.tls import DOT

_UNPRIVILEGED = 1024
_DNS = 53


class CannotBind(StaggerDNSError, ValueError):
    """A listener that cannot be had; the text is one line for a person."""


class Listeners:
    """The listeners of ``listen``, whose queries ``factory`` answers; the page of the metrics.

    ``certificate``: that of the encrypted ones. ``bound``: those that are open.
    """

    def __init__(
        self,
        listen: tuple[Listener, ...],
        certificate: Certificate | None,
        factory: StaggerServerFactory,
        reactor: Any,
        journal: Journal,
    ) -> None:
        self._listen = listen
        self._factory = factory
        self._reactor = reactor
        self._journal = journal
        self.bound: list[Listener] = []
        self._taken: list[tuple[str, Endpoint]] = []
        self._certificate = certificate
        self._encrypted: list[TlsFactory] = []
        self._datagram_ports: list[DatagramPort] = []
        self._stream_ports: list[IListeningPort] = []
        self._site_ports: list[IListeningPort] = []

    def bind(self, page: StatusFactory | None, page_listen: Endpoint | None) -> None:
        """Open all of them, and ``page`` at ``page_listen``. Raises `CannotBind`."""
        try:
            self._bind(page, page_listen)
        except CannotBind:
            for port in [*self._datagram_ports, *self._stream_ports, *self._site_ports]:
                port.stopListening()
            raise

    @property
    def ports(self) -> list[Any]:
        """The sockets that queries come to."""
        return [*self._datagram_ports, *self._stream_ports]

    def stop_reading(self) -> list[Deferred[Any]]:
        """Stop reading queries and accepting connections."""
        for datagram_port in self._datagram_ports:
            datagram_port.stopReading()
        return [maybeDeferred(port.stopListening) for port in self._stream_ports]

    def close(self) -> list[Deferred[Any]]:
        """Close what is left, when everybody has his answer."""
        closed: list[Deferred[Any]] = [encrypted.close() for encrypted in self._encrypted]
        for port in (*self._datagram_ports, *self._site_ports):
            closed.append(maybeDeferred(port.stopListening))  # noqa: PERF401 (two kinds)
        return closed

    def _bind(self, page: StatusFactory | None, page_listen: Endpoint | None) -> None:
        missing: CannotBind | None = None
        for index, listener in enumerate(self._listen):
            key = f"server.listen[{index}]"
            try:
                self._open(listener)
            except CannotListenError as error:
                problem = self._explain(key, listener, error)
                if not _lacks_ipv6(listener, error):
                    raise problem from None
                missing = problem
                self._journal.warn(
                    "no IPv6 on this machine: not listening on {listen}", listen=listener
                )
            else:
                self.bound.append(listener)
                self._taken.append((key, listener))
        if missing is not None and not self.bound:
            raise missing
        if page is not None and page_listen is not None:
            try:
                port = StatusPort(page_listen.port, page, page_listen.host, self._reactor)
                port.startListening()
                self._site_ports.append(port)
            except CannotListenError as error:
                raise self._explain("metrics.listen", page_listen, error) from None

    def _open(self, listener: Listener) -> None:
        factory, host, port = self._factory, listener.host, listener.port
        context = factory.listener_context(listener)
        protocols: IProtocolFactory
        if listener.scheme:
            protocols = self._encrypt(listener, context)
        else:
            protocols = StreamFactory(factory, TCP, context)
            datagram = DatagramPort(port, host, self._reactor, factory, context)
            datagram.startListening()
            self._datagram_ports.append(datagram)
        stream = StreamPort(port, factory, host, self._reactor, protocols)
        stream.startListening()
        self._stream_ports.append(stream)

    def _encrypt(self, listener: Listener, context: ListenerContext) -> TlsFactory:
        assert self._certificate is not None  # the configuration was checked
        factory, https = self._factory, listener.scheme == "https"
        inner = (
            HttpsFactory(factory, listener.path, context)
            if https
            else StreamFactory(factory, TLS, context)
        )
        creator = TlsConnectionCreator(self._certificate, PROTOCOLS if https else (DOT,))
        encrypted = TlsFactory(creator, inner, self._reactor)
        self._encrypted.append(encrypted)
        return encrypted

    def _explain(self, key: str, endpoint: Endpoint, error: CannotListenError) -> CannotBind:
        if endpoint.missing_interface:
            return CannotBind(
                f"{key}: cannot listen on {endpoint}: "
                f"there is no interface {endpoint.missing_interface}: see `ip link`"
            )
        if endpoint.lacks_interface:
            return CannotBind(f"{key}: cannot listen on {endpoint}: {NO_INTERFACE}")
        reason = getattr(error.socketError, "strerror", None) or error.socketError
        number = getattr(error.socketError, "errno", None)
        remedy = self._remedy(endpoint, number)
        return CannotBind(f"{key}: cannot listen on {endpoint}: {reason}: {remedy}")

    def _remedy(self, endpoint: Endpoint, number: int | None) -> str:
        port = endpoint.port
        if number in (EACCES, EPERM) and port < _UNPRIVILEGED:
            return (
                f"ports below {_UNPRIVILEGED} are for root or need CAP_NET_BIND_SERVICE (as in "
                f"etc/systemd/staggerdns.service), or a port above"
            )
        if number == EADDRINUSE:
            for key, other in self._taken:
                if _overlap(endpoint, other):
                    return f"{key} has it, {other}"
            who = f"see who has it with ss -lntup 'sport = :{port}'"
            if port == _DNS:
                who = (
                    "another DNS server may have it, such as systemd-resolved (DNSStubListener=no "
                    f"in /etc/systemd/resolved.conf turns that off) or dnsmasq; {who}"
                )
            return f"{who}, or choose another address or port"
        if number == EADDRNOTAVAIL:
            return "this machine does not have this address: choose one that `ip address` shows"
        return "choose another address or port"


def _overlap(one: Endpoint, other: Endpoint) -> bool:
    """Return whether one of the two cannot be bound when the other is."""
    first, second = ip_address(one.host), ip_address(other.host)
    if one.port != other.port or first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified


def _lacks_ipv6(endpoint: Endpoint, error: CannotListenError) -> bool:
    """Return whether this is the IPv6 loopback of a machine that has none."""
    number = getattr(error.socketError, "errno", None)
    return endpoint.host == "::1" and number in (EADDRNOTAVAIL, EAFNOSUPPORT)
