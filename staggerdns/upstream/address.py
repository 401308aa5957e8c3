"""How an upstream is written in the configuration, and what that means."""

from __future__ import annotations

import re
from ipaddress import ip_address

DNS_PORT = 53
_UPSTREAM = "an address like 192.0.2.1, 192.0.2.1:5353, [2001:db8::1]:53 or tcp://192.0.2.1"
_LISTENER = "an address and a port, as in 127.0.0.1:5300 or [::1]:5300"
_BRACKETED = re.compile(r"\[([^\]]*)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([^:]*):([0-9]{1,5})")


class Endpoint:
    """An address and a port; ``str()`` gives the form that configuration and metrics use."""

    __slots__ = ("host", "port")

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endpoint) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class UpstreamAddress:
    """Where an upstream is: ``transport`` is ``udp`` (TCP when truncated) or ``tcp``."""

    __slots__ = ("transport", "endpoint")

    def __init__(self, transport: str, endpoint: Endpoint) -> None:
        self.transport = transport
        self.endpoint = endpoint

    def __str__(self) -> str:
        text = str(self.endpoint)
        return text if self.transport == "udp" else f"{self.transport}://{text}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UpstreamAddress) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse_endpoint(text: object) -> Endpoint:
    """Read the place of a listener: ``address:port`` or ``[IPv6]:port``.

    Raises `ValueError` that says what was expected.
    """
    endpoint = _parse(text) if isinstance(text, str) else None
    if endpoint is None or not endpoint.port:
        raise ValueError(f"expected {_LISTENER}, got {text!r}")
    return endpoint


def _parse(text: str) -> Endpoint | None:
    """Read address and port; the port is 0 when none is given. IPv6 text is normalised."""
    match = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    host, port = (match[1], match[2]) if match else (text, None)
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if getattr(address, "scope_id", None) or (port is not None and not 0 < int(port) < 65536):
        return None
    return Endpoint(str(address), int(port or 0))


def parse_upstream(text: str) -> UpstreamAddress:
    """Read one item of ``upstream.servers``. Raises `ValueError` that says what was expected."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "udp", text
    endpoint = _parse(rest)
    if scheme not in ("udp", "tcp") or endpoint is None:
        raise ValueError(f"expected {_UPSTREAM}, got {text!r}")
    return UpstreamAddress(scheme, Endpoint(endpoint.host, endpoint.port or DNS_PORT))
