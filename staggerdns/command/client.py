"""The commands' end of the control socket: a request, its reply, and the patience for that."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EACCES, EPERM
from typing import Any

from staggerdns.control.protocol import (
    MAX_REPLY,
    NOT_ALLOWED,
    BadReply,
    Refused,
    encode_request,
    parse_event,
    parse_reply,
)
from staggerdns.errors import StaggerDNSError

PATIENCE = 15.0
"""Seconds until a program that does not reply counts as hung."""
LONG_PATIENCE = 120.0
"""The same for what may take long: files and names are read for a reload, all of a cache is looked
through for a flush.
"""
SILENCE = 60.0
"""Seconds until a program that has replied, and of which nothing comes any more, counts as hung."""
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
    with _explained(path, patience):
        return parse_reply(_exchange(path, encode_request(command, arguments), patience))


def follow(
    path: str, command: str, arguments: Mapping[str, Any], patience: float = PATIENCE
) -> Iterator[dict[str, Any]]:
    """Yield what follows the reply to a command, for as long as the program goes on.

    ``patience``: seconds until a program that is silent is given up. Raises `Unanswered`.
    """
    with _explained(path, patience), _connected(path, patience) as connected:
        connected.sendall(encode_request(command, arguments))
        with connected.makefile("rb") as lines:
            reply = lines.readline(MAX_REPLY + 1)
            if reply:
                parse_reply(reply)
            connected.settimeout(SILENCE)
            while octets := lines.readline(MAX_REPLY + 1):
                yield parse_event(octets)
        raise ConnectionError("it has closed the connection")


@contextmanager
def _explained(path: str, patience: float) -> Iterator[None]:
    """Raise `Unanswered` for what goes wrong with the program at ``path``."""
    try:
        yield
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
    except Refused as refused:
        status = FORBIDDEN if refused.code == NOT_ALLOWED else NOT_DONE
        raise Unanswered(refused.message, status, refused.problems) from None
    except BadReply as error:
        raise Unanswered(f"{path}: {error}", NO_PROTOCOL) from None


def _connected(path: str, patience: float) -> socket.socket:
    """Return a connection. Raises `OSError`."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(patience)
        connected.connect(os.fsencode(path))
    except OSError:
        connected.close()
        raise
    return connected


def _exchange(path: str, request: bytes, patience: float) -> bytes:
    """Return the line that comes for a request. Raises `OSError`."""
    with _connected(path, patience) as connected:
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
