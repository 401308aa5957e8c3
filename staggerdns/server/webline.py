"""A client's HTTPS connection: Twisted's HTTP on it, the limits of all stream connections over it.

Twisted counts any octet as a sign of life and cuts requests under way; so its own clocks do not
run here. As over TCP, only whole requests and their ends count: whoever sends none for the idle
timeout is idle, whatever else comes (a body in trickles, PINGs), and has to leave, then or earlier
for a newcomer; a connection with a whole request under way is not idle. Twisted's lines for single
connections are left out of the log: they name clients, and who opens connections could fill a disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from twisted.web._http2 import H2Connection
from twisted.web.http import HTTPChannel
from zope.interface import provider

from staggerdns.server.clients import Client

if TYPE_CHECKING:
    from staggerdns.server.factory import StaggerServerFactory


@provider(ILogObserver)
def _keep_failures(event: LogEvent) -> None:
    if "log_failure" in event:
        globalLogPublisher(event)


QUIET = Logger(namespace="staggerdns", observer=_keep_failures)
"""Logs defects, and nothing else."""


MAX_GIVEN_UP = 100
"""Requests that a client may have given up on one connection, less those that were answered since:
who asks and resets, over and over, would else ask more than may wait for an answer.
"""


class _Http1(HTTPChannel):
    _log = QUIET


class _Http2(H2Connection):
    _log = QUIET


class WebLine(Protocol, TimeoutMixin):
    """One client connection of ``factory``.

    ``site`` answers what is asked; ``new_request`` makes its requests of a connection, and takes
    what Twisted's ``requestFactory`` does. Each tells `began`, and `ended` or `given_up`; none
    is for answering while ``deaf``.
    """

    outsider = False  # those are turned away
    transport: Any  # TLS, which has more than ITransport says

    def __init__(
        self, factory: StaggerServerFactory, site: Any, new_request: Callable[..., Any]
    ) -> None:
        self._factory = factory
        self._site = site
        self._new_request = new_request
        self._channel: Any = None
        self._under_way = 0
        self._idle_since = 0.0
        self._counted = False  # has a place among the factory's connections
        self._given_up = 0
        self.deaf = False  # takes no requests any more
        self._closing = False
        self.client: Client | None = None
        self.held = 0  # octets that its requests hold
        self.callLater = factory.clock.callLater  # type: ignore[method-assign, assignment]

    def connectionMade(self) -> None:
        """Accept the connection, or drop it: there are too many, or its client may not ask."""
        factory = self._factory
        host = self.transport.getPeer().host
        self._idle_since = factory.clock.seconds()
        self.client = factory.identities.find(host)
        if not factory.access.allows(host) or not factory.admit(self.client, outsider=False):
            factory.metrics.tcp_refused.cell().value += 1
            self.deaf = True
            self.transport.abortConnection()
            return
        self._counted = True
        factory.connectionMade(self)
        self.setTimeout(factory.stream_limits.idle_timeout)

    @property
    def idle_since(self) -> float | None:
        """Since when no request has been under way, `None` while one is."""
        return None if self._under_way else self._idle_since

    def make_room(self) -> None:
        """Leave at once, for a connection that has something to ask."""
        self._leave()
        self.transport.abortConnection()

    def stop_reading(self) -> None:
        """Take no more requests: the server is going down."""
        self.deaf = True
        if not self._under_way:
            self.close()

    def close(self) -> None:
        """Close in order. What is on its way still must leave first: the listener drops the
        connection when that has had its moment.
        """
        self.deaf = True
        if not self._closing and self._channel is not None and not self._unfinished():
            self._closing = True
            self._channel.timeoutConnection()

    def dataReceived(self, data: bytes) -> None:
        """Hand on what comes, as long as requests are taken."""
        if self.deaf:
            return
        if self._channel is None:
            self._open()
        self._channel.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what the client no longer waits for."""
        self.setTimeout(None)
        self.deaf = True
        self._leave()
        if self._channel is not None:
            self._channel.connectionLost(reason)

    def timeoutConnection(self) -> None:
        """Close an idle connection: in order, unless something unfinished is in the way."""
        if self._under_way:
            self.setTimeout(self._factory.stream_limits.idle_timeout)
        elif self._channel is None or self._unfinished():
            self.transport.abortConnection()
        else:
            self.close()

    def began(self) -> None:
        """Note that a whole request is there."""
        self._under_way += 1
        self.resetTimeout()

    def ended(self, _: object) -> None:
        """Note that a request has its response."""
        self._given_up = max(0, self._given_up - 1)
        self._end_one()

    def given_up(self, _: object) -> None:
        """Note that nobody waits for a response; upstreams have been asked all the same."""
        self._given_up += 1
        self._end_one()
        if self._given_up > MAX_GIVEN_UP and not self.deaf:
            self.deaf = True
            self.transport.abortConnection()

    def _end_one(self) -> None:
        self._under_way -= 1
        self._idle_since = self._factory.clock.seconds()
        self.resetTimeout()

    def _leave(self) -> None:
        if self._counted:
            self._counted = False
            self._factory.connectionLost(self)

    def _unfinished(self) -> bool:
        """Say whether HTTP/2 has streams, whose frames would come too late after a goodbye."""
        return bool(getattr(self._channel, "streams", None))

    def _open(self) -> None:
        """Put the version of HTTP on the connection that the handshake chose, or 1.1."""
        clock = self._factory.clock
        second = getattr(self.transport, "negotiatedProtocol", None) == b"h2"
        channel: Any = _Http2(clock) if second else _Http1()
        channel.factory = channel.site = self._site
        channel.requestFactory = self._request
        channel.timeOut = None
        channel.callLater = clock.callLater
        channel.abortTimeout = self._factory.stream_limits.idle_timeout
        self._channel = channel
        channel.makeConnection(self.transport)
        if second:
            self.transport.registerProducer(channel, True)

    def _request(self, channel: Any, *queued: Any, **more: Any) -> Any:
        request = self._new_request(channel, *queued, **more)
        request.line = self
        return request
