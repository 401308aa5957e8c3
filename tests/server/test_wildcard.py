"""UDP sockets on all addresses: replies leave from the one that was asked."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from staggerdns.server.wildcard import WildcardSocket, is_wildcard

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS = {"0.0.0.0": ("127.0.0.1", "127.3.2.1"), "::": ("::1",)}
"""By the socket that is bound to all of them: addresses of every machine."""


@pytest.mark.parametrize(
    ("host", "wildcard"),
    [
        ("0.0.0.0", True),
        ("::", True),
        ("0::0", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("", True),
    ],
)
def test_which_addresses_are(host: str, wildcard: bool) -> None:
    """Those that stand for all others, and none at all."""
    assert is_wildcard(host) == wildcard


@pytest.fixture(params=HOSTS)
def wildcard(request: pytest.FixtureRequest) -> Iterator[WildcardSocket]:
    """Return a socket on all addresses of one family."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        inner = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            inner.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        inner.bind((HOSTS[request.param][0], 0))
        inner.close()
    except OSError:
        pytest.skip("there is no IPv6")
    with socket.socket(family, socket.SOCK_DGRAM) as inner:
        inner.settimeout(5)
        inner.bind((request.param, 0))
        yield WildcardSocket(inner)


def test_replies_come_from_where_they_are_expected(wildcard: WildcardSocket) -> None:
    """A client that takes replies only from the address that it has asked gets its own."""
    host, port = wildcard.getsockname()[:2]
    clients = {}
    for asked in HOSTS[host]:
        client = clients[asked.encode()] = socket.socket(wildcard.family, socket.SOCK_DGRAM)
        client.settimeout(5)
        client.connect((asked, port))
        client.send(asked.encode())
    for message, address in reversed([wildcard.recvfrom(4096) for _ in clients]):
        assert address[:2] == clients[message].getsockname()[:2]
        wildcard.sendto(message + b"!", address)
    for said, client in clients.items():
        assert client.recv(4096) == said + b"!"
        client.close()


def test_a_socket_that_has_nothing(wildcard: WildcardSocket) -> None:
    """It says so, as any does."""
    wildcard.setblocking(False)
    with pytest.raises(BlockingIOError):
        wildcard.recvfrom(4096)
