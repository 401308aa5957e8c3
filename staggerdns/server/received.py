"""Reading what the kernel has received already when the server is told to stop.

These are datagrams and octets in the buffers of our sockets, and connections that wait to be
accepted. Their clients could not know that the server stops, so they get their answers.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

MAX_SECONDS = 0.2
"""Seconds for which reading may go on."""


def read_received(reactor: Any, ours: Callable[[], set[Any]]) -> Deferred[None]:
    """Let ``reactor`` read what has come for ``ours``; the Deferred fires when that is done.

    ``ours`` returns the ports and connections whose sockets count, as they are at the moment.
    """
    done: Deferred[None] = Deferred()
    until = reactor.seconds() + MAX_SECONDS

    def look() -> None:
        poll = select.poll()
        own = ours()
        # A socket that is not being read is left out: there is a reason for that.
        reading = [reader for reader in reactor.getReaders() if reader in own]
        for reader in reading:
            poll.register(reader.fileno(), select.POLLIN)
        if reading and reactor.seconds() < until and poll.poll(0):
            reactor.callLater(0, look)  # behind a turn of the reactor, in which it reads
        else:
            done.callback(None)

    look()
    return done
