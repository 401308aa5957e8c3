"""DNS Cookies for clients (RFC 7873): proof that a source address is not forged, without state.

A server cookie is a hash over the client's cookie, the time and the client's address under a
secret of ours, in the form of RFC 9018. It is good for an hour, and renewed when half of that is
over. Every secret serves for `SECRET_LIFETIME`; the one before it still proves the cookies that
were made with it. There is no timer: whoever comes first after that time finds a new secret.
One that the configuration gives, for several servers behind one address, stays.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hmac import compare_digest
from socket import AF_INET, AF_INET6, inet_pton

from siphashc import siphash
from twisted.internet.interfaces import IReactorTime

from staggerdns.wire.constants import CLIENT_COOKIE_SIZE

SECRET_SIZE = 16
SECRET_LIFETIME = 86_400.0
"""Seconds for which a secret makes new cookies; RFC 7873 section 7.1 allows at most 36 days."""
OLDEST = 3600
"""Age in seconds past which a cookie proves nothing (RFC 9018 section 4.3)."""
NEWEST = -300
"""The same for one from the future, as another server's clock may have it."""
RENEWED = 1800
"""Age in seconds past which a good cookie is replaced."""
_SERVER_COOKIE = struct.Struct("!B3xI")  # version, reserved octets, seconds since 1970
_VERSION = 1
_octets = struct.Struct("<Q").pack
_COOKIE_SIZE = CLIENT_COOKIE_SIZE + 16


class Cookies:
    """Makes and checks server cookies.

    ``wall``: seconds since 1970; ``clock``: what secrets age by; ``rng``: octets for them,
    unless there is one ``secret`` for good.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        rng: Callable[[int], bytes],
        secret: bytes | None = None,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._fixed = secret is not None
        self._secret = self._previous = secret if secret is not None else rng(SECRET_SIZE)
        self._since = clock.seconds()

    def is_valid(self, cookie: bytes, host: str, now: float) -> bool:
        """Say whether ``cookie``, what a COOKIE option holds, shows that ``host`` is real."""
        return self._secret_of(cookie, _packed(host), now) is not None

    def reply_cookie(self, cookie: bytes, host: str, now: float) -> bytes:
        """Return what the COOKIE option of the reply holds: a good server cookie, old or new."""
        address = _packed(host)
        if self._secret_of(cookie, address, now) is self._secret and self._age(cookie) <= RENEWED:
            return cookie
        made = cookie[:CLIENT_COOKIE_SIZE] + _SERVER_COOKIE.pack(
            _VERSION, int(self._wall()) % 2**32
        )
        return made + _hash(made, address, self._secret)

    def _secret_of(self, cookie: bytes, address: bytes, now: float) -> bytes | None:
        """Return the secret that ``cookie`` was made with, `None` if it proves nothing."""
        self._roll_over(now)
        if len(cookie) != _COOKIE_SIZE or cookie[CLIENT_COOKIE_SIZE] != _VERSION:
            return None
        if not NEWEST <= self._age(cookie) <= OLDEST:
            return None
        for secret in (self._secret, self._previous):
            if compare_digest(_hash(cookie[:-8], address, secret), cookie[-8:]):
                return secret
        return None

    def _age(self, cookie: bytes) -> int:
        """Return the age in seconds, which is negative for a time to come (RFC 1982)."""
        made: int = _SERVER_COOKIE.unpack_from(cookie, CLIENT_COOKIE_SIZE)[1]
        return (int(self._wall()) - made + 2**31) % 2**32 - 2**31

    def _roll_over(self, now: float) -> None:
        if not self._fixed and now - self._since >= SECRET_LIFETIME:
            self._previous, self._secret = self._secret, self._rng(SECRET_SIZE)
            self._since = now


def _hash(made: bytes, address: bytes, secret: bytes) -> bytes:
    return _octets(siphash(secret, made + address))


def _packed(host: str) -> bytes:
    if ":" in host:
        return inet_pton(AF_INET6, host.partition("%")[0])
    return inet_pton(AF_INET, host)
