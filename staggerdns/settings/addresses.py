"""How the addresses of the configuration are written, and what that means.

Upstreams:

    192.0.2.1, 192.0.2.1:5353, [2001:db8::1]:53      UDP, and TCP for what UDP truncates
    fe80::1%eth0, [fe80::1%eth0]:53                  a link-local address behind an interface
    tcp://192.0.2.1, tcp://dns.example               TCP (RFC 7766)
    tls://192.0.2.1#dns.example, tls://dns.example   TLS (RFC 7858), the certificate is that name's
    tls://192.0.2.1                                  the certificate is the address's
    https://dns.example/dns-query                    HTTP/2 with POST (RFC 8484, which recommends
                                                     it in section 5.2); not HTTP/1.1
    https://dns.example/dns-query{?dns}              HTTP/2 with GET: the URI template of RFC 8484

``#name`` may follow an ``https`` URL, too. Behind ``tls`` and ``https`` any number of
``;pin-sha256=BASE64`` may stand: the server's key must be one of these. Where there is an address
and no name, pins take the place of the certification authorities (RFC 7858 section 4.2);
elsewhere both must agree.

Behind any of them ``;ecs=192.0.2.0/24`` may stand, a client subnet to be sent (RFC 7871), or
``;ecs=off``, the subnet of no bits: the upstream tells others nothing of where queries come from.

Listeners:

    127.0.0.1:5300, [::1]:5300, [fe80::1%eth0]:53    UDP and TCP
    tls://192.0.2.1, tls://[2001:db8::1]:8853        DNS over TLS (RFC 7858), port 853
    https://192.0.2.1, https://192.0.2.1:8443/dns    DNS over HTTPS (RFC 8484), port 443, /dns-query

A link-local address needs its interface, a name or a number (RFC 4007 section 11). In URLs ``%25``
may stand for the percent sign, as RFC 6874 had it; RFC 9844 has people write it plainly. The
interface may come and go: it is looked for whenever a socket is made.
"""

from __future__ import annotations

import os
import re
import socket
from base64 import b64decode
from errno import ENODEV
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from staggerdns.settings.networks import parse_network

PORTS = {"udp": 53, "tcp": 53, "tls": 853, "https": 443}
"""The port of each transport where no other is given (RFC 7858 section 3.1, RFC 9110)."""
GET_TEMPLATE = "{?dns}"
DEFAULT_PATH = "/dns-query"
"""The path of DNS over HTTPS where a listener names none."""
NO_INTERFACE = "a link-local address needs its interface, as in fe80::1%eth0"
_UPSTREAM = (
    "an address like 192.0.2.1, 192.0.2.1:5353, [2001:db8::1]:53, fe80::1%eth0 or "
    "tcp://192.0.2.1, or "
    "tls://192.0.2.1#dns.example, tls://dns.example or https://dns.example/dns-query"
)
_ENDPOINT = "an address and a port, as in 127.0.0.1:5300 or [::1]:5300"
_LISTENER = f"{_ENDPOINT}, or tls://ADDRESS or https://ADDRESS"
_BRACKETED = re.compile(r"\[([^\]]*)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([^:]*):([0-9]{1,5})")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
# The last label is no number, or 192.0.2 would be a name (WHATWG URL, host parsing).
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+$){_LABEL}")
_ZONE = re.compile(r"[A-Za-z0-9._~+@=-]{1,15}")  # what Linux takes for an interface, in essence
_ESCAPED_ZONE = re.compile(r"%25(?=[^\]])")  # behind it is the zone: %25 alone is number 25
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*")  # RFC 3986 section 3.3
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
_PIN, _ECS = "pin-sha256", "ecs"
_OPTION = re.compile(rf";({_PIN}|{_ECS})=")
_PIN_VALUE = re.compile(r"[A-Za-z0-9+/]{43}=")  # SHA-256 makes 32 bytes
_ECS_OFF = "off"


class Endpoint:
    """A host and a port; ``str()`` gives the form that configuration and metrics use."""

    __slots__ = ("host", "port")

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @property
    def address(self) -> str:
        """The host without an interface, which means nothing to anybody else."""
        return self.host.partition("%")[0]

    @property
    def lacks_interface(self) -> bool:
        """Whether this is a link-local address of no interface, which leads nowhere."""
        host = self.host
        return ":" in host and "%" not in host and ip_address(host).is_link_local

    @property
    def missing_interface(self) -> str:
        """The name of the interface that belongs to the address, if there is none of that name."""
        zone = self.host.partition("%")[2]
        try:
            _index(zone)
        except OSError:
            return zone
        return ""

    @property
    def place(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """What a socket takes for an address. Raises `OSError` if the interface is not there."""
        if "%" not in self.host:
            return self.host, self.port
        return self.address, self.port, 0, _index(self.host.partition("%")[2])

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endpoint) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def _index(zone: str) -> int:
    """Return the number of an interface, 0 for none. Raises `OSError` if it is not there."""
    for number, name in socket.if_nameindex() if zone else ():
        if zone in (name, str(number)):
            return number
    if zone:
        raise OSError(ENODEV, os.strerror(ENODEV))
    return 0


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


class UpstreamAddress:
    """Where an upstream is.

    ``transport``: ``udp`` (TCP when truncated), ``tcp``, ``tls`` or ``https``. ``named``: the host
    of ``endpoint`` is a name. ``auth_name``: the name or address that the certificate must be for,
    empty if the ``pins`` alone decide. ``path``: that of the URL; ``get``: the query goes into it.
    ``subnet``: of clients, that it is told; each makes it another upstream. ``resolver``: where it
    is alone, as text.
    """

    __slots__ = (
        "transport",
        "endpoint",
        "named",
        "auth_name",
        "path",
        "get",
        "pins",
        "subnet",
        "resolver",
        "_text",
    )

    def __init__(
        self,
        transport: str,
        endpoint: Endpoint,
        *,
        named: bool = False,
        auth_name: str = "",
        path: str = "",
        pins: frozenset[bytes] = frozenset(),
        subnet: IPv4Network | IPv6Network | None = None,
    ) -> None:
        self.transport = transport
        self.endpoint = endpoint
        self.named = named
        self.auth_name = auth_name or ("" if pins and not named else endpoint.address)
        self.path = path.removesuffix(GET_TEMPLATE)
        self.get = path != self.path
        self.pins = pins
        self.subnet = subnet
        text = f"{endpoint}{path}" + (f"#{auth_name}" if auth_name else "")
        self._text = self.resolver = text if transport == "udp" else f"{transport}://{text}"
        if subnet is not None:
            self._text += f";{_ECS}={subnet if subnet.prefixlen else _ECS_OFF}"

    def __str__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, UpstreamAddress)
            and self._text == other._text
            and self.pins == other.pins
        )

    def __hash__(self) -> int:
        return hash(self._text)


def parse_endpoint(text: object) -> Endpoint:
    """Read the place of a listener: ``address:port`` or ``[IPv6]:port``.

    Raises `ValueError` that says what was expected.
    """
    endpoint = _parse(text) if isinstance(text, str) else None
    if endpoint is None or not endpoint.port:
        raise ValueError(f"expected {_ENDPOINT}, got {text!r}")
    return endpoint


def _parse(text: str) -> Endpoint | None:
    """Read address and port; the port is 0 when none is given. IPv6 text is normalised."""
    match = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    host, port = (match[1], match[2]) if match else (text, None)
    try:
        address = ip_address(host)
    except ValueError:
        return None
    zone = getattr(address, "scope_id", None)
    if zone is not None and not (address.is_link_local and _ZONE.fullmatch(zone)):
        return None
    if port is not None and not 0 < int(port) < 65536:
        return None
    return Endpoint(str(address), int(port or 0))


def _plain_zone(text: str) -> str:
    """Return a place in a URL with the percent sign of an address's interface as it is."""
    return _ESCAPED_ZONE.sub("%", text, count=1)


def parse_place(text: str) -> tuple[Endpoint | None, bool]:
    """Read the host of a URL, a name or an address, with its port, which is 0 when none is given;
    `None` if it is neither. Return whether it is a name as well.
    """
    place = _parse(_plain_zone(text))
    return (_parse_name(text), True) if place is None else (place, False)


def _parse_name(text: str) -> Endpoint | None:
    """Read a host name and a port; the port is 0 when none is given."""
    match = _WITH_PORT.fullmatch(text)
    host, port = (match[1], match[2]) if match else (text, None)
    host = host.lower().removesuffix(".")
    if len(host) > 253 or not _NAME.fullmatch(host):
        return None
    if port is not None and not 0 < int(port) < 65536:
        return None
    return Endpoint(host, int(port or 0))


def parse_upstream(text: str) -> UpstreamAddress:
    """Read one item of ``upstream.servers``. Raises `ValueError` that says what was expected."""
    scheme, separator, rest = text.partition("://")
    found = _read(scheme, rest) if separator else _read("udp", text)
    if found is None:
        raise ValueError(f"expected {_UPSTREAM}, got {text!r}")
    return found


def _read(scheme: str, text: str) -> UpstreamAddress | None:
    if scheme not in PORTS:
        return None
    text, *options = _OPTION.split(text)
    given = list(zip(options[::2], options[1::2], strict=True))
    pins = [value for key, value in given if key == _PIN]
    subnets = [value for key, value in given if key == _ECS]
    auth_name = path = ""
    if scheme in ("tls", "https"):
        text, hash_mark, auth_name = text.partition("#")
        auth_name = auth_name.lower().removesuffix(".")
        if hash_mark and not _NAME.fullmatch(auth_name):
            return None
    if scheme == "https":
        text, slash, path = text.partition("/")
        path = slash + path
        if not _PATH.fullmatch(path.removesuffix(GET_TEMPLATE)):
            return None
    if not all(map(_PIN_VALUE.fullmatch, pins)) or (pins and scheme in ("udp", "tcp")):
        return None
    place = _parse(text) if scheme == "udp" else None
    named = False
    if place is None and scheme != "udp":
        place, named = parse_place(text)
    if place is None or len(subnets) > 1:
        return None
    return UpstreamAddress(
        scheme,
        Endpoint(place.host, place.port or PORTS[scheme]),
        named=named,
        auth_name=auth_name,
        path=path,
        pins=frozenset(map(b64decode, pins)),
        subnet=_read_subnet(subnets[0], place.host) if subnets else None,
    )


def _read_subnet(text: str, host: str) -> IPv4Network | IPv6Network:
    """Read the subnet for the upstream at ``host``. That of no bits is of the family that queries
    go by, as RFC 7871 section 7.1.2 has it. Raises `ValueError` that says what was expected.
    """
    if text == _ECS_OFF:
        return ip_network("::/0" if ":" in host else "0.0.0.0/0")
    try:
        subnet = parse_network(text).addresses
    except ValueError as error:
        raise ValueError(f";{_ECS}=: {error}; or {_ECS_OFF}") from None
    if not subnet.prefixlen:
        raise ValueError(f";{_ECS}={text}: for no subnet at all write ;{_ECS}={_ECS_OFF}")
    return subnet


def parse_listener(text: object) -> Listener:
    """Read one item of ``server.listen``. Raises `ValueError` that says what was expected."""
    if isinstance(text, str):
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "", text
        if scheme:
            rest = _plain_zone(rest)
        place, slash, path = rest.partition("/") if scheme == "https" else (rest, "", "")
        path = slash + path if slash else DEFAULT_PATH
        try:
            found = _parse_listener_place(place, scheme)
        except ValueError:
            found = None
        if found is not None and scheme in ("", "tls"):
            return Listener(found.host, found.port, scheme)
        if found is not None and scheme == "https" and _PLAIN_PATH.fullmatch(path):
            return Listener(found.host, found.port, scheme, path)
    raise ValueError(f"expected {_LISTENER}, got {text!r}")


def _parse_listener_place(text: str, scheme: str) -> Endpoint:
    try:
        return parse_endpoint(text)
    except ValueError:
        if scheme not in ("tls", "https"):
            raise
    bare = text if text.startswith("[") or ":" not in text else f"[{text}]"
    return parse_endpoint(f"{bare}:{PORTS[scheme]}")
