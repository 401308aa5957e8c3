"""How an upstream is written in the configuration, and what that means."""

from __future__ import annotations

import re
from ipaddress import ip_address

DNS_PORT = 53
_FORMS = "an address like 192.0.2.1, 192.0.2.1:5353, [2001:db8::1]:53 or tcp://192.0.2.1"
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


def parse_endpoint(text: str, default_port: int | None = DNS_PORT) -> Endpoint:
    """Read ``address``, ``address:port`` or ``[IPv6]:port``; IPv6 text is normalised.

    Raises `ValueError` that says what was expected. Without a ``default_port`` one must be given.
    """
    match = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    host, port_text = (match[1], match[2]) if match else (text, None)
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"expected {_FORMS}, got {text!r}") from None
    if getattr(address, "scope_id", None):
        raise ValueError(f"expected an address without a zone, got {text!r}")
    if port_text is None and default_port is None:
        raise ValueError(f"expected an address and a port, as in 127.0.0.1:5300, got {text!r}")
    port = int(port_text) if port_text is not None else int(default_port or 0)
    if not 0 < port < 65536:
        raise ValueError(f"expected a port from 1 to 65535, got {text!r}")
    return Endpoint(str(address), port)


def parse_upstream(text: str) -> UpstreamAddress:
    """Read one item of ``upstream.servers``. Raises `ValueError` that says what was expected."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "udp", text
    if scheme not in ("udp", "tcp"):
        raise ValueError(f"expected {_FORMS}, got {text!r}")
    return UpstreamAddress(scheme, parse_endpoint(rest))
