"""How the address of a store is written that several servers share (Redis, or Valkey, which speaks
the same protocol), and what that means.

    redis://192.0.2.1, redis://store.example:6379/2      plain text; port 6379 and database 0
    redis://user:password@192.0.2.1                      a user, or a password alone (:password@)
    rediss://store.example                               TLS: the certificate is that host's

An IPv6 address stands in brackets. In user and password ``%`` and two digits stand for a character
that has a meaning in URLs.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from staggerdns.settings.addresses import Endpoint, parse_place

PORT = 6379
"""The port of a store where no other is given."""
MAX_DATABASE = 65_535
"""The highest number of a database; servers have 16 of them unless they are told otherwise."""
_MAX_DIGITS = len(str(MAX_DATABASE))
_EXPECTED = (
    "expected an address like redis://192.0.2.1:6379/0 or rediss://user:password@store.example"
)
_SCHEMES = {"redis": False, "rediss": True}
_SECRET = re.compile(r"//[^/]*@")


class StoreAddress:
    """Where a store is, and who may use it.

    ``tls``: whether it is asked over TLS. ``named``: the host of ``endpoint`` is a name. ``user``
    and ``password`` are empty if there are none. ``str()`` has no password.
    """

    __slots__ = ("tls", "endpoint", "named", "user", "password", "database")

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tls: bool = False,
        named: bool = False,
        user: str = "",
        password: str = "",
        database: int = 0,
    ) -> None:
        self.tls = tls
        self.endpoint = endpoint
        self.named = named
        self.user = user
        self.password = password
        self.database = database

    def __str__(self) -> str:
        scheme = "rediss" if self.tls else "redis"
        user = f"{self.user}@" if self.user else ""
        return f"{scheme}://{user}{self.endpoint}/{self.database}"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, StoreAddress)
            and str(self) == str(other)
            and self.password == other.password
        )

    def __hash__(self) -> int:
        return hash(str(self))


def parse_store(text: str) -> StoreAddress:
    """Read ``cache.shared.url``.

    Raises `ValueError` that says what was expected, without secrets.
    """
    scheme, separator, rest = text.partition("://")
    userinfo, at, place = rest.rpartition("@")
    host, _, database = place.partition("/")
    endpoint, named = parse_place(host)
    user, _, password = userinfo.partition(":")
    if (
        not separator
        or scheme not in _SCHEMES
        or endpoint is None
        or (at and not userinfo.strip(":"))
        or (user and not password)
        or (database and not (database.isascii() and database.isdigit()))
        or len(database) > _MAX_DIGITS
        or int(database or 0) > MAX_DATABASE
    ):
        raise ValueError(f"{_EXPECTED}, got {_SECRET.sub('//...@', text)!r}")
    return StoreAddress(
        Endpoint(endpoint.host, endpoint.port or PORT),
        tls=_SCHEMES[scheme],
        named=named,
        user=unquote(user),
        password=unquote(password),
        database=int(database or 0),
    )
