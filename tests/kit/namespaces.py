"""Network namespaces: how a thread gets into one."""

from __future__ import annotations

import ctypes
import os

OWN = "/proc/thread-self/ns/net"
"""The namespace of the calling thread: open it to come back."""

_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace: int) -> None:
    """Put the calling thread into an open ``namespace``; OSError where that is not allowed."""
    if _libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
