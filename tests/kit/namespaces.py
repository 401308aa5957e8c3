"""Namespaces of the kernel: how a thread or a test gets into one of its own."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kit.checkout import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

OWN = "/proc/thread-self/ns/net"
"""The namespace of the calling thread: open it to come back."""

_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace: int) -> None:
    """Put the calling thread into an open ``namespace``; OSError where that is not allowed."""
    if _libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def run_apart(source: str, *arguments: str) -> None:
    """Run Python ``source`` in a network namespace of its own, where it has to end well; skip the
    test where none can be made.
    """
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    _run("-n", source, arguments)


def run_with_own_mounts(source: str, *arguments: str) -> None:
    """Do the same where it may mount what nobody else sees."""
    _run("-m", source, arguments)


def _run(kind: str, source: str, arguments: Sequence[str]) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None
    if subprocess.run([unshare, kind, "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"no namespace can be made here: unshare {kind}")
    done = subprocess.run(
        [unshare, kind, sys.executable, "-c", source, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
