"""The commands' end of the control socket: one request, one reply, and the patience for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from errno import EACCES, EPERM
from typing import Any

from staggerdns.control.protocol import (
    MAX_REPLY,
    NOT_ALLOWED,
    BadReply,
    Refused,
    encode_request,
    parse_reply,
)
from staggerdns.errors import StaggerDNSError

PATIENCE = 15.0
"""Seconds until a program that does not reply counts as hung."""
LONG_PATIENCE = 120.0
"""The same for what may take long: files and names are read for a reload, all of a cache is looked
through for a flush.
"""
NOT_DONE = 1
"""Exit status: the program has not done what was asked for, and said why."""
NOBODY_ANSWERS = os.EX_UNAVAILABLE
"""Exit status: no program answers at the socket."""
FORBIDDEN = os.EX_NOPERM
"""Exit status: the user may not use the socket, or not for this."""
NO_PROTOCOL = os.EX_PROTOCOL
"""Exit status: who answers speaks something else."""
_PIECE = 65_536


class Unanswered(StaggerDNSError):
    """A request that was not done; the text is for a person, ``status`` the command's exit status,
    ``problems`` are lines with more.
    """

    def __init__(self, what: str, status: int, problems: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.status = status
        self.problems = problems


def ask(
    path: str, command: str, arguments: Mapping[str, Any], patience: float = PATIENCE
) -> dict[str, Any]:
    """Return the result of a command of the program that answers at ``path``.

    ``patience``: seconds until a program that does not go on is given up. Raises `Unanswered`.
    """
    try:
        octets = _exchange(path, encode_request(command, arguments), patience)
    except TimeoutError:
        raise Unanswered(
            f"the program at {path} has not replied within {patience:g} s", NOBODY_ANSWERS
        ) from None
    except OSError as error:
        if error.errno in (EACCES, EPERM):
            raise Unanswered(
                f"{path} is for root, the user that runs the program, and control.group", FORBIDDEN
            ) from None
        raise Unanswered(
            f"no program answers at {path}: {error.strerror or error}", NOBODY_ANSWERS
        ) from None
    try:
        return parse_reply(octets)
    except Refused as refused:
        status = FORBIDDEN if refused.code == NOT_ALLOWED else NOT_DONE
        raise Unanswered(refused.message, status, refused.problems) from None
    except BadReply as error:
        raise Unanswered(f"{path}: {error}", NO_PROTOCOL) from None


def _exchange(path: str, request: bytes, patience: float) -> bytes:
    """Return the line that comes for a request. Raises `OSError`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connected:
        connected.settimeout(patience)
        connected.connect(os.fsencode(path))
        connected.sendall(request)
        reply = bytearray()
        while not reply.endswith(b"\n") and len(reply) <= MAX_REPLY:
            piece = connected.recv(_PIECE)
            if not piece:
                if reply:
                    break
                raise ConnectionError("it has closed the connection")
            reply += piece
        return bytes(reply)
