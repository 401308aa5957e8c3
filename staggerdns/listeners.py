"""The sockets that clients come in by: changed together, or not at all.

A change has two phases. `Listeners.prepare` binds what is new, without reading from it, and raises
`CannotBind` with nothing changed when it cannot be had. `ListenerChange.commit`, which cannot fail,
begins to read what is new and lets go of what has left. Listeners that are the same before and
after are not touched. Where one with other content takes the place of another (the same port with
another certificate or path), it has the same socket, so that what waits there is served by the new
one. Everything else that leaves is read until nothing has come any more; its connections stay until
they are idle.
"""

from __future__ import annotations

from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from socket import SOCK_STREAM
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from staggerdns.journal import Journal
from staggerdns.server.cannotbind import CannotBind, explain, overlap
from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.openlistener import OpenListener, Port
from staggerdns.server.passedsockets import PassedSockets, WrongSocket
from staggerdns.server.received import read_received
from staggerdns.server.status import StatusFactory
from staggerdns.server.tls import Certificate, TlsFactory
from staggerdns.settings.addresses import Endpoint, Listener

_Content = Certificate | StatusFactory | None


class Listeners:
    """The listeners, whose queries ``factory`` answers, and the page of the metrics; none at first.

    ``passed``: sockets that were passed in, for those of them that have their addresses.
    ``open``: what there is after the last change. ``leaving``: ports of listeners that have left,
    which have not been read to the end, or at which clients wait for replies.
    """

    def __init__(
        self,
        factory: StaggerServerFactory,
        reactor: Any,
        journal: Journal,
        passed: PassedSockets | None = None,
    ) -> None:
        self.factory = factory
        self.reactor = reactor
        self.journal = journal
        self.passed = passed if passed is not None else PassedSockets([])
        self.open: list[OpenListener] = []
        self.leaving: set[Port] = set()
        # What connections may still have that came in by listeners which have left.
        self._encrypted: list[TlsFactory] = []
        self._pages: list[StatusFactory] = []

    @property
    def bound(self) -> list[Listener]:
        """The listeners that are open, in their order."""
        return [one.endpoint for one in self.open if isinstance(one.endpoint, Listener)]

    @property
    def ports(self) -> list[Port]:
        """The ports that queries come to, which are ours alone to read."""
        ports = [port for one in self.open if not one.is_page for port in one.ports]
        return [port for port in (*ports, *self.leaving) if not port.passed]

    def prepare(
        self,
        listen: tuple[Listener, ...],
        certificate: Certificate | None,
        page: StatusFactory | None,
        page_listen: Endpoint | None,
    ) -> ListenerChange:
        """Bind what is not open of ``listen`` and of ``page`` at ``page_listen``.

        ``certificate``: that of the encrypted ones; another object is another content, while one
        that reads its files anew stays the same. Raises `CannotBind`; then nothing has changed.
        Between this and the commit there should be no turn of the reactor: what is named takes
        what comes to it from a socket on all addresses as soon as it is bound.
        """
        change = ListenerChange(self)
        for index, listener in enumerate(listen):
            content = certificate if listener.scheme else None
            change.want(f"server.listen[{index}]", listener, content)
        if page is not None and page_listen is not None:
            change.want("metrics.listen", page_listen, page)
        change.bind()
        return change

    def replace(self, after: list[OpenListener], handed_on: set[Port]) -> None:
        """Begin to read all of ``after``, and let go of the others; for `ListenerChange`.

        ``handed_on``: ports whose sockets ``after`` has as well.
        """
        gone = [one for one in self.open if one not in after]
        for one in after:
            if not one.ports:
                one.start(self.factory, self.reactor)
        self.open = after
        self._encrypted = [each for each in self._encrypted if each.protocols]
        self._pages = [each for each in self._pages if each.client_connections.open]
        for one in gone:
            if one.encrypted is not None:
                self._encrypted.append(one.encrypted)
            if isinstance(one.content, StatusFactory):
                self._pages.append(one.content)
        self.leaving.update(port for one in gone for port in one.ports)
        at_once = handed_on | {port for port in self.leaving if port.passed}
        self._finish(at_once)
        read = {port for one in gone for port in one.ports if port not in at_once}
        for port in read:
            port.leave()
        if read:
            done = read_received(self.reactor, lambda: self.leaving & read)
            done.addCallback(lambda _: self._finish(read))
        used = {number for one in after for number in one.passed.values()}
        for unused in self.passed.unused(used):
            self.journal.warn(
                "nobody reads the socket {socket} that was passed in: no listener has its address",
                socket=str(unused),
            )

    def stop_reading_passed(self) -> None:
        """Leave what comes to sockets that were passed in to the next process that gets them."""
        for one in self.open:
            for port in one.ports:
                if port.passed:
                    port.leave_unread()

    def stop_reading(self) -> list[Deferred[Any]]:
        """Stop reading queries and accepting connections."""
        return [maybeDeferred(port.stop_reading) for port in self.ports]

    def close(self) -> list[Deferred[Any]]:
        """Close what is left, when everybody has his answer."""
        factories = [one.encrypted for one in self.open if one.encrypted is not None]
        closed: list[Deferred[Any]] = [each.close() for each in (*factories, *self._encrypted)]
        ports = [port for one in self.open for port in one.ports]
        closed += [maybeDeferred(port.stopListening) for port in (*ports, *self.leaving)]
        pages = [one.content for one in self.open if isinstance(one.content, StatusFactory)]
        for page in (*pages, *self._pages):
            page.close()
        self.passed.close()
        return closed

    def _finish(self, ports: set[Port]) -> None:
        """Read no more from ``ports``, and close them as soon as nobody waits there."""
        for port in ports:
            port.finish().addCallback(self._forget, port)

    def _forget(self, _: object, port: Port) -> None:
        self.leaving.discard(port)


class ListenerChange:
    """A change of ``listeners`` that is prepared: to be committed or abandoned, once."""

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self._wanted: list[tuple[str, Endpoint, _Content]] = []
        self._after: list[OpenListener] = []
        self._new: list[OpenListener] = []
        self._handed_on: set[Port] = set()
        self._taken: list[tuple[str, Endpoint]] = []

    def want(self, key: str, endpoint: Endpoint, content: _Content) -> None:
        """Have a listener afterwards; ``key`` says where the configuration has it."""
        self._wanted.append((key, endpoint, content))

    def bind(self) -> None:
        """Bind those that are wanted and not open. Raises `CannotBind`, and binds none then."""
        try:
            self._bind()
        except CannotBind:
            self.abandon()
            raise

    def commit(self) -> None:
        """Read what is new, and let go of what is wanted no more."""
        self._listeners.replace(self._after, self._handed_on)

    def abandon(self) -> None:
        """Close what was bound; nothing has changed."""
        for one in self._new:
            one.abandon()

    def _bind(self) -> None:
        same = {
            key: one
            for key, endpoint, content in self._wanted
            for one in self._listeners.open
            if one.is_same(endpoint, content)
        }
        self._taken = [(key, one.endpoint) for key, one in same.items()]
        going = [
            port for one in self._listeners.open if one not in same.values() for port in one.ports
        ]
        left = self._listeners.leaving
        missing: CannotBind | None = None
        for key, endpoint, content in self._wanted:
            one = same.get(key)
            if one is None:
                one = OpenListener(endpoint, content)
                self._new.append(one)
                try:
                    self._open(one, going, left)
                except WrongSocket as error:
                    raise CannotBind(f"{key}: cannot listen on {endpoint}: {error}") from None
                except OSError as error:
                    running = bool(self._listeners.open)
                    passed = self._listeners.passed.in_the_way(endpoint)
                    problem = explain(
                        key, endpoint, error, self._taken, running=running, passed=passed
                    )
                    if one.is_page or not _lacks_ipv6(endpoint, error):
                        raise problem from None
                    missing = problem
                    self._listeners.journal.warn(
                        "no IPv6 on this machine: not listening on {listen}", listen=endpoint
                    )
                    continue
                if one.is_ahead:
                    self._listeners.journal.warn(
                        "this machine does not have the address of {listen}, which {key} wants: "
                        "clients are answered there as soon as it has",
                        listen=endpoint,
                        key=key,
                    )
                self._taken.append((key, endpoint))
            self._after.append(one)
        if missing is not None and all(one.is_page for one in self._after):
            raise missing

    def _open(self, new: OpenListener, going: list[Port], left: set[Port]) -> None:
        """Bind the sockets of ``new``, where ``going`` are to be closed and ``left`` are closed
        soon. Raises `OSError`.
        """
        for kind in new.kinds:
            passed = self._listeners.passed.find(new.endpoint, kind)
            if passed is not None:
                new.adopt(kind, passed.socket.dup(), passed.socket.fileno())
                continue
            beside = []
            for port in (*going, *left):
                place = port.place
                if port.socketType != kind or not overlap(place, new.endpoint):
                    continue
                same = place.host == new.endpoint.host
                if same and (port in going or kind == SOCK_STREAM):
                    new.adopt(kind, port.socket.dup())
                    self._handed_on.add(port)
                    break
                beside.append(port.socket)
            else:
                new.open(kind, beside)


def _lacks_ipv6(endpoint: Endpoint, error: OSError) -> bool:
    """Return whether this is the IPv6 loopback of a machine that has none."""
    return endpoint.host == "::1" and error.errno in (EADDRNOTAVAIL, EAFNOSUPPORT)
