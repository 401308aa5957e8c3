"""How a listener is written in the configuration, and what that means.

127.0.0.1:5300, [::1]:5300, [fe80::1%eth0]:53  UDP and TCP
tls://192.0.2.1, tls://[2001:db8::1]:8853      DNS over TLS (RFC 7858), port 853
https://192.0.2.1, https://192.0.2.1:8443/dns  DNS over HTTPS (RFC 8484), port 443, /dns-query
"""

from __future__ import annotations

import re

from staggerdns.upstream.address import PORTS, Endpoint, parse_endpoint, plain_zone

DEFAULT_PATH = "/dns-query"
_FORMS = (
    "an address and a port, as in 127.0.0.1:5300 or [::1]:5300, or tls://ADDRESS or https://ADDRESS"
)
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")


class Listener(Endpoint):
    """A place where clients come in; ``scheme``: ``tls``, ``https``, or empty for UDP and TCP."""

    __slots__ = ("scheme", "path")

    def __init__(self, host: str, port: int, scheme: str = "", path: str = "") -> None:
        super().__init__(host, port)
        self.scheme = scheme
        self.path = path

    def __str__(self) -> str:
        place = super().__str__()
        return f"{self.scheme}://{place}{self.path}" if self.scheme else place


def parse_listener(text: object) -> Listener:
    """Read one item of ``server.listen``. Raises `ValueError` that says what was expected."""
    if isinstance(text, str):
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "", text
        if scheme:
            rest = plain_zone(rest)
        place, slash, path = rest.partition("/") if scheme == "https" else (rest, "", "")
        path = slash + path if slash else DEFAULT_PATH
        try:
            found = _parse_place(place, scheme)
        except ValueError:
            found = None
        if found is not None and scheme in ("", "tls"):
            return Listener(found.host, found.port, scheme)
        if found is not None and scheme == "https" and _PATH.fullmatch(path):
            return Listener(found.host, found.port, scheme, path)
    raise ValueError(f"expected {_FORMS}, got {text!r}")


def _parse_place(text: str, scheme: str) -> Endpoint:
    try:
        return parse_endpoint(text)
    except ValueError:
        if scheme not in ("tls", "https"):
            raise
    bare = text if text.startswith("[") or ":" not in text else f"[{text}]"
    return parse_endpoint(f"{bare}:{PORTS[scheme]}")
