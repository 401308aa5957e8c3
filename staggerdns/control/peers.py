"""Who is at the other end of the control socket, what they may have done, and by whom."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred

from staggerdns.control.protocol import NOT_ALLOWED, Refused, Request, RequestId, Result

_CREDENTIALS = struct.Struct("3i")  # process, user, group


class Peer(NamedTuple):
    """Whose request it is: ``pid`` of the process, ``uid`` of its user; ``may_change``: whether it
    may do more than read.
    """

    pid: int
    uid: int
    may_change: bool


class Stream(Protocol):
    """What gives the lines that follow a reply."""

    def start(self, request_id: RequestId, write: Callable[[bytes], object]) -> None:
        """Give ``write`` the lines from now on."""

    def pause(self) -> None:
        """Write no more for now: nobody reads."""

    def resume(self) -> None:
        """Write again."""

    def stop(self) -> None:
        """End, once or more often."""


class Streamed(dict[str, Any]):
    """A result that the lines of ``stream`` follow."""

    def __init__(self, result: Result, stream: Stream) -> None:
        super().__init__(result)
        self.stream = stream


Perform = Callable[[Request, Peer], "Deferred[Result]"]
"""Does what a request asks for; the Deferred fails with `Refused` where that is not done."""


def peer_of(connected: socket.socket, own_uid: Callable[[], int] = os.geteuid) -> Peer:
    """Return who is at the other end of a UNIX socket; user ``own_uid`` runs the program."""
    octets = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(octets)
    return Peer(pid, uid, uid in (0, own_uid()))


def allowed(request: Request, peer: Peer) -> Request:
    """Return a request that its sender may have done. Raises `Refused`."""
    if request.changes and not peer.may_change:
        raise Refused(
            NOT_ALLOWED,
            f"{request.command} is for root and the user that runs the program",
            request_id=request.id,
        )
    return request
