"""DNS Cookies for clients (RFC 7873): proof that a source address is not forged, without state.

A server cookie is a keyed hash of the client's cookie, the time and the client's address, in the
form of RFC 9018. It is valid for an hour, and replaced after half an hour. A secret makes cookies
for `SECRET_LIFETIME`, and is then still good for checking until the next one has served as long.
There is no timer: the first cookie after that time causes the change. A secret from the
configuration, which several servers behind one address may share, does not change.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hmac import compare_digest
from socket import AF_INET, AF_INET6, inet_pton

from siphashc import siphash

from staggerdns.wire.constants import CLIENT_COOKIE_SIZE

SECRET_SIZE = 16
SECRET_LIFETIME = 86_400.0
"""Seconds for which a secret makes new cookies; RFC 7873 section 7.1 allows at most 36 days."""
OLDEST = 3600
"""Age in seconds past which a cookie is not valid (RFC 9018 section 4.3)."""
NEWEST = -300
"""The same of a cookie from the future: another server's clock may be ahead of ours."""
RENEWED = 1800
"""Age in seconds past which a valid cookie is replaced."""
_SERVER_COOKIE = struct.Struct("!B3xI")  # version, reserved octets, seconds since 1970
_VERSION = 1
_octets = struct.Struct("<Q").pack
_COOKIE_SIZE = CLIENT_COOKIE_SIZE + 16


class Cookies:
    """Makes and checks server cookies.

    ``wall``: returns the seconds since 1970, by which cookies age. Secrets age by the ``now`` of
    the calls, from ``started`` on. ``rng``: makes secrets, unless ``secret`` is given.
    """

    def __init__(
        self,
        started: float,
        wall: Callable[[], float],
        rng: Callable[[int], bytes],
        secret: bytes | None = None,
    ) -> None:
        self._wall = wall
        self._rng = rng
        self._fixed = secret is not None
        self._secret = self._previous = secret if secret is not None else rng(SECRET_SIZE)
        self._since = started

    def is_valid(self, cookie: bytes, host: str, now: float) -> bool:
        """Return whether ``cookie``, the content of a COOKIE option, was made for ``host``."""
        return self._secret_of(cookie, _packed(host), now) is not None

    def reply_cookie(self, cookie: bytes, host: str, now: float) -> bytes:
        """Return the content of the reply's COOKIE option: the same valid cookie, or a new one."""
        address = _packed(host)
        if self._secret_of(cookie, address, now) is self._secret and self._age(cookie) <= RENEWED:
            return cookie
        made = cookie[:CLIENT_COOKIE_SIZE] + _SERVER_COOKIE.pack(
            _VERSION, int(self._wall()) % 2**32
        )
        return made + _hash(made, address, self._secret)

    def _secret_of(self, cookie: bytes, address: bytes, now: float) -> bytes | None:
        """Return the secret that ``cookie`` was made with, `None` if it is not valid."""
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
        """Return the age in seconds, negative for a time in the future (RFC 1982)."""
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
