"""Sockets that are bound for clients."""

from __future__ import annotations

import errno
import os
import socket
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import Any

import pytest

from staggerdns.server import sockets
from staggerdns.server.sockets import is_ahead, open_socket
from staggerdns.settings.addresses import Endpoint


@pytest.mark.parametrize("kind", [SOCK_DGRAM, SOCK_STREAM])
@pytest.mark.parametrize(("host", "ahead"), [("127.0.0.1", False), ("192.0.2.1", True)])
def test_an_address_that_is_not_there(host: str, ahead: bool, kind: socket.SocketKind) -> None:
    """It is bound all the same."""
    with open_socket(Endpoint(host, 0), kind, 1) as opened:
        assert opened.getsockname()[0] == host
        assert is_ahead(opened) == ahead
        assert not opened.getblocking()
        assert not opened.get_inheritable()


class Old(socket.socket):
    """A socket of a kernel that has no such thing."""

    def setsockopt(self, *arguments: Any) -> None:
        """Refuse the option."""
        if arguments[:2] == (socket.IPPROTO_IP, 15):
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        super().setsockopt(*arguments)


def test_a_kernel_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said is that the address is not there."""
    monkeypatch.setattr(sockets, "create", Old)
    with pytest.raises(OSError, match=os.strerror(errno.EADDRNOTAVAIL)):
        open_socket(Endpoint("192.0.2.1", 0), SOCK_DGRAM, 1)


def test_an_address_in_use() -> None:
    """Nobody else can have it, whatever it was bound with."""
    with open_socket(Endpoint("192.0.2.1", 0), SOCK_DGRAM, 1) as opened:
        port = opened.getsockname()[1]
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            open_socket(Endpoint("192.0.2.1", port), SOCK_DGRAM, 1)
