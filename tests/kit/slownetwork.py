"""Networks to a store that can be slow: of the kernel's own, or with a proxy that waits.

    program -- near --- a cable, late by tc-netem(8) --- far -- store
    program -- proxy, which passes on late what it hears -- store

The first is what there is between machines, and needs root and a kernel with netem (where this one
has none: that of Debian's user-mode-linux, with its modules sch_netem and veth); there program,
upstreams and clients are in one namespace of a test's own, and the store in another.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.kit.namespaces import Namespace, command
from tests.kit.ports import Endpoint, free_endpoint
from tests.kit.speaker import Speaker
from tests.kit.stores import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NEAR, _FAR = "198.18.0.1", "198.18.0.2"


class SlowStore(NamedTuple):
    """A store at ``endpoint``, from which everything is late within ``slow``, by seconds."""

    endpoint: Endpoint
    slow: Callable[[float], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def behind_netem(directory: Path) -> Iterator[SlowStore]:
    """Put this thread into a namespace at the other end of whose cable is a store; skip the test
    where there can be none.
    """
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    with Namespace() as near, Namespace() as far:
        with near.inside():
            command(f"ip link add near type veth peer name far netns {far.path}")
        for end, device, address in ((near, "near", _NEAR), (far, "far", _FAR)):
            with end.inside():
                command("ip link set lo up")
                command(f"ip addr add {address}/24 dev {device}")
                command(f"ip link set {device} up")
        with far.inside():
            _look_for_netem()

        @contextlib.contextmanager
        def slow(seconds: float) -> Iterator[None]:
            with far.inside():
                command(f"tc qdisc add dev far root netem delay {seconds * 1000:g}ms")
            try:
                yield
            finally:
                with far.inside():
                    command("tc qdisc del dev far root")

        # Nobody else is in this network, and there is no password.
        store = RedisServer(directory, "--protected-mode", "no", endpoint=_free(far))
        with contextlib.ExitStack() as running:
            with far.inside():
                running.enter_context(store)
            running.enter_context(near.inside())
            yield SlowStore(store.endpoint, slow)


def _look_for_netem() -> None:
    try:
        command("tc qdisc add dev lo root netem delay 1ms")
    except subprocess.CalledProcessError as error:
        if "qdisc kind is unknown" not in error.stderr:
            raise
        pytest.skip("this kernel has no netem")


def _free(namespace: Namespace) -> Endpoint:
    with namespace.inside():
        return free_endpoint(_FAR)


@contextlib.contextmanager
def behind_proxy(directory: Path) -> Iterator[SlowStore]:
    """Put a proxy before a store."""
    delay = [0.0]
    behind: dict[socket.socket, socket.socket] = {}

    def speak(connection: socket.socket, data: bytes) -> None:
        if connection not in behind:
            behind[connection] = made = socket.create_connection(store.endpoint, 5)

            def back() -> None:
                with contextlib.suppress(OSError):
                    while found := made.recv(65_536):
                        time.sleep(delay[0])
                        connection.sendall(found)

            threading.Thread(target=back, daemon=True).start()
        behind[connection].sendall(data)

    @contextlib.contextmanager
    def slow(seconds: float) -> Iterator[None]:
        delay[0] = seconds
        try:
            yield
        finally:
            delay[0] = 0.0

    with RedisServer(directory) as store, Speaker(speak) as proxy:
        yield SlowStore(proxy.endpoint, slow)
    for made in behind.values():
        made.close()
