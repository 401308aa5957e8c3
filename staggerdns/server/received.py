"""What the kernel has received for us already, when the server is told to stop.

Datagrams in the buffers of our sockets, octets of connections, and connections that wait to be
accepted: they came before the end was known of, and deserve an answer.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

MAX_SECONDS = 0.2
"""Seconds that reading may go on, however much comes."""


def read_received(reactor: Any, ours: Callable[[], set[Any]]) -> Deferred[None]:
    """Let ``reactor`` read what has come for ``ours``; the Deferred fires when that is done.

    ``ours`` returns the ports and connections whose sockets count, as they are at the moment.
    """
    done: Deferred[None] = Deferred()
    until = reactor.seconds() + MAX_SECONDS

    def look() -> None:
        poll = select.poll()
        own = ours()
        # One that has stopped reading is not read for good reasons.
        reading = [reader for reader in reactor.getReaders() if reader in own]
        for reader in reading:
            poll.register(reader.fileno(), select.POLLIN)
        if reading and reactor.seconds() < until and poll.poll(0):
            reactor.callLater(0, look)  # behind a turn of the reactor, in which it reads
        else:
            done.callback(None)

    look()
    return done
