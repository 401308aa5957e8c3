"""Loopback addresses and ports that nobody listens on."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import NamedTuple

# Below the kernel's ephemeral range, so that no client socket of this machine takes a port
# between the moment we find it free and the moment the program binds it.
_LOWEST, _HIGHEST = 20_000, 32_000

_given: set[int] = set()
_rng = random.Random()


@functools.cache
def _ledger() -> int:
    """The descriptor of a file that every test run of this user locks, one octet a port.

    The kernel gives the locks back when the process ends.
    """
    path = Path(tempfile.gettempdir()) / f"staggerdns-tests-{os.geteuid()}.ports"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_ours(port: int) -> bool:
    """Whether no other process that tests has taken ``port``; from now on it is ours."""
    try:
        fcntl.lockf(_ledger(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


class Endpoint(NamedTuple):
    """An address and a port; ``str()`` writes it as the configuration file does."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            probe = stack.enter_context(socket.socket(family, kind))
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def free_port(*hosts: str) -> int:
    """Return a port that is free for UDP and TCP on every one of ``hosts`` (127.0.0.1).

    It is given out once only, to one of all the processes that test at the same time. Raises
    RuntimeError when none is found.
    """
    for _ in range(500):
        port = _rng.randrange(_LOWEST, _HIGHEST)
        if port in _given or not _is_ours(port):
            continue
        if all(_is_free(host, port) for host in hosts or ("127.0.0.1",)):
            _given.add(port)
            return port
    raise RuntimeError("no free loopback port found")


def free_endpoint(host: str = "127.0.0.1") -> Endpoint:
    """Return a free endpoint on ``host``.

    Nothing listens there, so it is also a closed port: a datagram to it comes
    back as ICMP port unreachable, a connection is refused.
    """
    return Endpoint(host, free_port(host))


def free_endpoints(count: int, first: int = 11) -> list[Endpoint]:
    """Return ``count`` endpoints with one common port on 127.0.0.``first`` and its successors."""
    hosts = [f"127.0.0.{first + index}" for index in range(count)]
    port = free_port(*hosts)
    return [Endpoint(host, port) for host in hosts]
