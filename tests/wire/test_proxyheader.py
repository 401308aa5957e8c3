"""The header of the PROXY protocol: whom it names, where it ends, and what is none."""

from __future__ import annotations

import pytest

from staggerdns.wire.proxyheader import (
    MAX_PROXY_HEADER,
    CutHeader,
    MissingHeader,
    ProxyHeaderError,
    read_proxy_header,
)
from tests.kit.messages import client_query
from tests.kit.proxied import LOCAL, MAGIC, addresses, extension, header, speaking_for

V4, V6 = "198.51.100.9", "2001:db8::9"
REST = client_query()


@pytest.mark.parametrize("client", [V4, V6, "0.0.0.0", "::", "fe80::1", "::ffff:192.0.2.1"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("more", [b"", extension(5, b"id"), extension(1, b"h2") * 9])
def test_a_client(client: str, stream: bool, more: bytes) -> None:
    """Both families over both transports; extensions are skipped, whatever is behind."""
    given = speaking_for(client, stream=stream, more=more)
    assert read_proxy_header(given + REST) == (client, len(given))
    assert read_proxy_header(given) == (client, len(given))


@pytest.mark.parametrize(
    "given",
    [
        LOCAL,
        header(0, 0x11, addresses(V4)),  # the family means nothing
        header(0, 0x21, b""),
        header(0, 0xFF, b"\1\2\3"),
        header(1, 0, b""),  # on behalf of somebody of whom nothing is known
        header(1, 0, extension(4, b"x")),
        header(1, 0x31, bytes(216)),  # sockets of UNIX have no addresses of clients
        header(1, 0x32, bytes(216)),
    ],
)
def test_the_proxy_itself(given: bytes) -> None:
    """Where no client is named, it is the peer."""
    assert read_proxy_header(given + REST) == ("", len(given))


def test_the_longest() -> None:
    """A header has so many octets at most; one more is refused before they are there."""
    most = MAX_PROXY_HEADER - 16 - len(addresses(V4)) - 3
    longest = speaking_for(V4, more=extension(4, bytes(most)))
    assert len(longest) == MAX_PROXY_HEADER
    assert read_proxy_header(longest + REST) == (V4, MAX_PROXY_HEADER)
    longer = speaking_for(V4, more=extension(4, bytes(most + 1)))
    for given in (longer + REST, longer[:16]):
        with pytest.raises(ProxyHeaderError) as caught:
            read_proxy_header(given)
        assert caught.value.reason == "proxy_invalid"
    for given in (header(0, 0, b"", length=MAX_PROXY_HEADER - 15), header(1, 0, b"", length=65535)):
        with pytest.raises(ProxyHeaderError, match="longer"):
            read_proxy_header(given)


@pytest.mark.parametrize("given", [b"", REST, b"PROXY TCP4 192.0.2.1", MAGIC[1:], b"\r\n\r\n\1"])
def test_none(given: bytes) -> None:
    """Nothing, a query, and the older version of the protocol are no header."""
    with pytest.raises(MissingHeader) as caught:
        read_proxy_header(given)
    assert caught.value.reason == "proxy_missing"


@pytest.mark.parametrize(
    "whole", [speaking_for(V4), speaking_for(V6, more=extension(4, b"x")), header(0, 0, b"12")]
)
def test_cut(whole: bytes) -> None:
    """Each beginning of a header may become one."""
    for end in range(1, len(whole)):
        with pytest.raises(CutHeader) as caught:
            read_proxy_header(whole[:end])
        assert caught.value.reason == "proxy_cut"


@pytest.mark.parametrize(
    "given",
    [
        header(1, 0x11, addresses(V4), version=1),
        header(1, 0x11, addresses(V4), version=3),
        header(0, 0, b"", version=0),
        header(2, 0x11, addresses(V4)),
        header(15, 0, b""),
        header(1, 0x10, addresses(V4)),  # no transport
        header(1, 0x13, addresses(V4)),
        header(1, 0x02, b""),  # a transport, and no family
        header(1, 0x41, addresses(V6)),
        header(1, 0x11, addresses(V4)[:-1]),
        header(1, 0x12, b""),
        header(1, 0x22, addresses(V6)[:-1]),
        header(1, 0x21, addresses(V4)),
    ],
)
def test_false(given: bytes) -> None:
    """Other versions, commands and families, and too little room for the addresses."""
    with pytest.raises(ProxyHeaderError) as caught:
        read_proxy_header(given + REST)
    assert caught.value.reason == "proxy_invalid"
