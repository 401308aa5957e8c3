"""Lists from servers, over HTTPS: treq on Twisted's Agent, with names looked up as upstreams' are.

What a server sends goes to a file as it comes, packed or not, since another process unpacks it.
Nothing of a server is trusted but its certificate: how long it may take and be silent, how much it
may send, how often and to how many hosts it may lead elsewhere is bounded, and nowhere without TLS.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from treq.client import HTTPClient
from twisted.internet import defer, error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from staggerdns import __version__
from staggerdns.policy.lists.content import MAX_PACKED
from staggerdns.policy.lists.fetched import FetchProblem, Validators
from staggerdns.policy.lists.urls import problem_of

CONNECT_TIMEOUT = 10.0
"""Seconds for each attempt to connect."""
SILENCE = 30.0
"""Seconds after which a server that sends nothing is given up."""
FETCH_TIMEOUT = 300.0
"""Seconds for all of a list."""
MAX_REDIRECTS = 5
"""How often a server may lead elsewhere."""
MAX_HOSTS = 200
"""Hosts that all lists of a configuration together may lead to: each name is kept."""
_REDIRECTS = (301, 302, 303, 307, 308)

Resolve = Callable[[str], "Deferred[Sequence[str]]"]


class Fetcher:
    """Fetches lists; ``resolve`` finds the addresses of a name, best first, none when it cannot."""

    def __init__(self, reactor: Any, clock: IReactorTime, resolve: Resolve) -> None:
        self._reactor = reactor
        self._clock = clock
        self._agent: IAgent = _AsSent(
            Agent.usingEndpointFactory(reactor, _Endpoints(_Reactor(reactor, resolve)))
        )

    def fetch(self, url: str, path: Path, known: Validators) -> Deferred[Validators | None]:
        """Write what is at ``url`` to ``path``, unless it is what the server called ``known``.

        The Deferred gives what the server calls it, `None` if it is the same, or fails with
        `FetchProblem`; nothing is left at ``path`` then. It can be cancelled.
        """
        partial = path.with_suffix(".part")

        def explained(failure: Failure) -> Failure:
            partial.unlink(missing_ok=True)
            if isinstance(_innermost(failure), CancelledError):
                return Failure(CancelledError())
            return Failure(FetchProblem(explain(failure)))

        fetched = Deferred.fromCoroutine(self._fetch(url, path, partial, known))
        return fetched.addTimeout(FETCH_TIMEOUT, self._clock, _late).addErrback(explained)

    async def _fetch(
        self, url: str, path: Path, partial: Path, known: Validators
    ) -> Validators | None:
        response = await self._get(url, known)
        if response.code == 304 and any(known):
            _discard(response)
            return None
        if response.code != 200:
            _discard(response)
            raise FetchProblem(f"cannot be had: the server answered {response.code}")
        with partial.open("wb", buffering=0) as file:
            await _Body(self._clock, file).receive(response)
            if not file.tell():
                raise FetchProblem("is empty")
        os.replace(partial, path)  # noqa: PTH105 (it waits for nothing)
        return Validators(_header(response, "etag"), _header(response, "last-modified"))

    async def _get(self, url: str, known: Validators) -> IResponse:
        """Return the response of whoever the server leads to."""
        headers = Headers({"User-Agent": [f"StaggerDNS/{__version__}"]})
        if known.etag:
            headers.setRawHeaders("If-None-Match", [known.etag])
        if known.modified:
            headers.setRawHeaders("If-Modified-Since", [known.modified])
        for _ in range(MAX_REDIRECTS + 1):
            # A client of its own keeps no cookies for the next list.
            answered = HTTPClient(self._agent).get(
                url,
                headers=headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            response: IResponse = (await answered.addTimeout(SILENCE, self._clock, _late)).original
            location = _header(response, "location")
            if response.code not in _REDIRECTS or not location:
                return response
            _discard(response)
            url = urljoin(url, location)
            if not url.lower().startswith("https://"):
                raise FetchProblem("leads to a place without TLS")
            if problem_of(url):
                raise FetchProblem("leads to a URL that cannot be fetched")
        raise FetchProblem(f"leads elsewhere more than {MAX_REDIRECTS} times")


class _Body(Protocol):
    """Writes the body of a response to ``file``."""

    def __init__(self, clock: IReactorTime, file: IO[bytes]) -> None:
        self._file = file
        self._size = 0
        self._done: Deferred[None] | None = Deferred(lambda _: self._abort())
        self._watch: IDelayedCall = clock.callLater(SILENCE, self._give_up)

    def receive(self, response: IResponse) -> Deferred[None]:
        """Return a Deferred that fires when all of the body is there."""
        done = self._done
        assert done is not None
        response.deliverBody(self)
        return done

    def dataReceived(self, data: bytes) -> None:
        """Write a part; called by Twisted."""
        self._watch.reset(SILENCE)
        self._size += len(data)
        try:
            if self._size > MAX_PACKED:
                raise FetchProblem(f"has more than {MAX_PACKED} bytes")  # noqa: TRY301
            self._file.write(data)
        except (FetchProblem, OSError) as problem:
            self._end(Failure(problem))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """End; called by Twisted, also when the end of the body is not that of the connection."""
        if reason is None or reason.check(ResponseDone):
            self._end(None)
        else:
            self._end(Failure(FetchProblem("was cut off")))

    def _give_up(self) -> None:
        self._end(Failure(defer.TimeoutError()))

    def _end(self, failure: Failure | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if failure is None:
            self._stop_watch()
            done.callback(None)
        else:
            self._abort()
            done.errback(failure)

    def _abort(self) -> None:
        self._done = None
        self._stop_watch()
        _abort(self)

    def _stop_watch(self) -> None:
        if self._watch.active():
            self._watch.cancel()


class _Discarded(Protocol):
    """A body that nobody wants: its connection is closed."""

    def connectionMade(self) -> None:
        """Close the connection; called by Twisted."""
        _abort(self)


def _discard(response: IResponse) -> None:
    response.deliverBody(_Discarded())


def _abort(protocol: Protocol) -> None:
    transport: Any = protocol.transport
    abort = getattr(transport, "abortConnection", None) or getattr(transport, "stopProducing", None)
    if abort is not None:
        abort()


def _header(response: IResponse, name: str) -> str:
    """Return the first value of a header, empty if there is none that is plain text."""
    values: Sequence[str] = response.headers.getRawHeaders(name) or ()
    return values[0] if values and values[0].isprintable() and len(values[0]) <= 1024 else ""


@implementer(IAgent)
class _AsSent:
    """Lets nobody above unpack what is packed with gzip: that would take long turns."""

    def __init__(self, agent: IAgent) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Return the response without its ``Content-Encoding``; called by treq."""
        response = self._agent.request(method, uri, headers, bodyProducer)

        def as_sent(response: IResponse) -> IResponse:
            response.headers.removeHeader("content-encoding")
            return response

        return response.addCallback(as_sent)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Makes connections with TLS, and no others."""

    def __init__(self, reactor: _Reactor) -> None:
        self._reactor = reactor
        self._options: dict[str, Any] = {}

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return the way to a server; called by Twisted."""
        if uri.scheme != b"https":
            raise FetchProblem("leads to a place without TLS")
        host = uri.host.decode("ascii")
        options = self._options.get(host)
        if options is None:
            if len(self._options) >= MAX_HOSTS:
                raise FetchProblem(f"leads to a new host, and there were {MAX_HOSTS}")
            options = self._options[host] = optionsForClientTLS(host)
        endpoint: IStreamClientEndpoint = wrapClientTLS(
            options, HostnameEndpoint(self._reactor, host, uri.port, CONNECT_TIMEOUT)
        )
        return endpoint


@implementer(IReactorPluggableNameResolver)
class _Reactor:
    """The reactor with another way of looking names up."""

    def __init__(self, reactor: Any, resolve: Resolve) -> None:
        self.nameResolver: IHostnameResolver = _NameResolver(resolve)
        self.connectTCP = reactor.connectTCP
        self.callLater = reactor.callLater
        self.seconds = reactor.seconds

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Look names up by ``resolver`` from now on; return what did so before."""
        before, self.nameResolver = self.nameResolver, resolver
        return before


@implementer(IHostnameResolver)
class _NameResolver:
    """Hands Twisted the addresses that ``resolve`` finds."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Look a name up, or read an address; called by Twisted."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def found(addresses: Sequence[str]) -> None:
            for address in addresses:
                kind = IPv6Address if ":" in address else IPv4Address
                resolutionReceiver.addressResolved(kind("TCP", address, portNumber))
            resolutionReceiver.resolutionComplete()

        try:
            found([str(ip_address(hostName))])
        except ValueError:
            self._resolve(hostName).addCallback(found)
        return resolution


@implementer(IHostResolution)
class _Resolution:
    """A look-up, which ends by itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Let it end."""


def explain(failure: Failure) -> str:
    """Return why a list could not be fetched, to stand behind its URL."""
    problem = _innermost(failure)
    if isinstance(problem, FetchProblem):
        return str(problem)
    if isinstance(problem, defer.TimeoutError | error.TimeoutError):
        return "cannot be had: the server takes too long"
    if isinstance(problem, error.DNSLookupError):
        return "cannot be had: its host has no address"
    if isinstance(problem, VerificationError | CertificateError):
        return "cannot be had: the server's certificate is not for this name"
    if isinstance(problem, SSL.Error):
        details = [str(one[2]) for one in problem.args[0]] if problem.args else []
        return f"cannot be had: {', '.join(filter(None, details)) or 'TLS failed'}"
    if isinstance(problem, OSError) and problem.strerror:
        return f"cannot be had: {problem.strerror}"
    return f"cannot be had: {' '.join(str(problem).split())[:200] or type(problem).__name__}"


def _innermost(failure: Failure) -> Any:
    """Return what is behind the failure of a request, which may be wrapped several times."""
    problem: Any = failure.value
    while isinstance(problem, ResponseFailed) and problem.reasons:
        problem = problem.reasons[0].value
    return problem


def _late(result: Any, seconds: float) -> Any:
    """Raise `TimeoutError` for what was cancelled because its time is over."""
    if isinstance(result, Failure):
        raise defer.TimeoutError(seconds)
    return result
