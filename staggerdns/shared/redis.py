"""The store over the network: a connection that is made anew as long as there is none.

    start --> connecting --> logging in --> connected --lost, or dropped--> waiting --> connecting
                  |              |                                            ^
                  +--------------+-- it cannot be had within `CONNECT_TIME` --+

Nobody waits for any of this: a command fails at once while there is no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from OpenSSL.crypto import X509
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure

from staggerdns.settings.stores import StoreAddress
from staggerdns.shared.flushes import (
    MAX_EPOCH,
    MAX_FLUSHES,
    Flush,
    ForeignFlush,
    Polled,
    parse_flush,
)
from staggerdns.shared.protocol import StoreConnection, StoreConnectionFactory
from staggerdns.shared.scripts import FLUSH, POLL, PREFIX, READ, REPLACE, WRITE
from staggerdns.shared.store import Present, StoreError
from staggerdns.upstream.tls import load_certificates

RETRY = 1.0
"""Seconds until the next try when there is no connection."""
CONNECT_TIME = 2.0
"""Seconds that a connection may take, to be logged in."""
_FLUSH_KEYS = (PREFIX + b"epoch", PREFIX + b"flushes")
Resolve = Callable[[str], Deferred[Sequence[str]]]
"""Returns the addresses of a host that the configuration names; it never fails."""


class RedisStore:
    """The store at ``address``; `start` and `stop` it.

    ``password``: the one that counts, empty for none. ``tls_ca``: see the settings; raises
    `ValueError` that says what is wrong with it. ``resolve`` finds the host if it is a name.
    """

    def __init__(
        self,
        address: StoreAddress,
        password: str,
        tls_ca: str | None,
        *,
        reactor: Any,
        clock: IReactorTime,
        resolve: Resolve,
    ) -> None:
        self._address = address
        self._reactor = reactor
        self._clock = clock
        self._resolve = resolve
        self._options: Any = None
        if address.tls:
            self._options = optionsForClientTLS(address.endpoint.address, _trusted(tls_ca))
        self._factory = StoreConnectionFactory(address, password, self._ready, self._lost)
        self._opened: StoreConnection | None = None  # logged in, or about to
        self._connection: StoreConnection | None = None  # logged in
        self._connecting: Deferred[Any] | None = None
        self._later: IDelayedCall | None = None  # the next try, or the end of this one
        self._tries = 0
        self._stopped = False
        self.problem = "not connected yet"

    def start(self) -> None:
        """Connect, now and whenever the connection is lost."""
        self._connect()

    def stop(self) -> None:
        """Close the connection, and make no more."""
        self._stopped = True
        self._cancel_later()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        self.drop("stopped")

    def read(self, keys: Sequence[bytes]) -> Deferred[list[Present | None]]:
        """Return what is under each of these keys."""
        return self._run(READ, keys).addCallback(_presents, len(keys))

    def replace(
        self, key: bytes, expected: bytes, value: bytes, life: int
    ) -> Deferred[Present | None]:
        """Put ``value`` under ``key``: see `Store`."""
        done = self._run(REPLACE, [key], [expected, value, life])
        return done.addCallback(lambda reply: _presents(reply, 1)[0] if reply else None)

    def write(self, values: Sequence[tuple[bytes, bytes]], life: int) -> Deferred[None]:
        """Put values under their keys: see `Store`."""
        keys, arguments = [key for key, _ in values], [value for _, value in values]
        return self._run(WRITE, keys, [life, *arguments]).addCallback(lambda _: None)

    def poll(self, epoch: int) -> Deferred[Polled]:
        """Return what there is about flushes: see `Store`."""
        return self._run(POLL, _FLUSH_KEYS, [epoch, MAX_FLUSHES]).addCallback(_polled)

    def flush(self, epoch: int, flushes: Sequence[Flush]) -> Deferred[Polled]:
        """Have others know of these flushes: see `Store`."""
        whats = [flush.octets for flush in flushes]
        return self._run(FLUSH, _FLUSH_KEYS, [epoch, MAX_FLUSHES, *whats]).addCallback(_polled)

    def drop(self, why: str) -> None:
        """Give up the connection, which is of no use, and make another one."""
        if self._opened is not None:
            self._factory.problem = why
            self._opened.transport.abortConnection()

    def _run(
        self, script: str, keys: Sequence[bytes], arguments: Sequence[Any] = ()
    ) -> Deferred[Any]:
        connection = self._connection
        if connection is None:
            return fail(StoreError(self.problem))
        return connection.run(script, keys, arguments).addErrback(_failed)

    def _connect(self) -> None:
        self._later = self._clock.callLater(CONNECT_TIME, self._late)
        address = self._address
        found: Deferred[Sequence[str]] = succeed([address.endpoint.host])
        if address.named:
            found = self._resolve(address.endpoint.host)
        self._connecting = found
        found.addCallback(self._connect_to).addErrback(self._not_connected)

    def _connect_to(self, hosts: Sequence[str]) -> Deferred[Any]:
        if not hosts:
            raise StoreError(f"no address of {self._address.endpoint.host} can be found")
        host = hosts[self._tries % len(hosts)]
        self._tries += 1
        kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        endpoint: Any = kind(self._reactor, host, self._address.endpoint.port, CONNECT_TIME)
        if self._options is not None:
            endpoint = wrapClientTLS(self._options, endpoint)
        made: Deferred[Any] = endpoint.connect(self._factory)
        return made.addCallback(self._connected)

    def _connected(self, connection: StoreConnection) -> None:
        self._connecting = None
        if connection.connected:  # it may be lost by now
            self._opened = connection

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        if failure.check(CancelledError) and self._stopped:
            return
        self._again(failure.getErrorMessage())

    def _late(self) -> None:
        self._later = None
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        else:
            self.drop("it does not reply")

    def _ready(self, connection: StoreConnection) -> None:
        self._cancel_later()
        self._connection = connection
        self.problem = ""

    def _lost(self, connection: StoreConnection, why: Failure) -> None:
        self._opened = self._connection = None
        self._again(self._factory.problem or why.getErrorMessage())

    def _again(self, problem: str) -> None:
        self.problem = problem
        self._cancel_later()
        if not self._stopped:
            self._later = self._clock.callLater(RETRY, self._connect)

    def _cancel_later(self) -> None:
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None


def _trusted(path: str | None) -> Any:
    if path is None:
        return None
    found = [Certificate(X509.from_cryptography(one)) for one in load_certificates(path)]
    return trustRootFromCertificates(found)


def _polled(reply: Any) -> Polled:
    """Return what the store says of flushes. Raises `StoreError`."""
    try:
        epoch, time, flushes = reply
        if not 0 < int(epoch) <= MAX_EPOCH:
            raise StoreError("an epoch that cannot be")
        if not 0 <= int(time) <= MAX_EPOCH:
            raise StoreError("a time that cannot be")
        found = []
        for one in flushes:
            with suppress(ForeignFlush):  # one that nobody of ours has written
                found.append(parse_flush(one))
        return Polled(int(epoch), int(time), found)
    except (TypeError, ValueError, AttributeError):
        raise StoreError("a reply to something else") from None


def _failed(failure: Failure) -> None:
    raise StoreError(failure.getErrorMessage())


def _presents(reply: Any, count: int) -> list[Present | None]:
    """Return what a script has found under so many keys. Raises `StoreError`."""
    if not isinstance(reply, list) or len(reply) != 2 * count:
        raise StoreError("a reply to something else")
    found: list[Present | None] = []
    for value, left in zip(reply[::2], reply[1::2], strict=True):
        if value is None:
            found.append(None)
        elif isinstance(value, bytes) and isinstance(left, int):
            found.append(Present(value, left))
        else:
            raise StoreError("a reply to something else")
    return found
