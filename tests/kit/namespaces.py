"""Namespaces of the kernel: how a thread or a test gets into one of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Self

import pytest

from tests.kit.checkout import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OWN = "/proc/thread-self/ns/net"
"""The namespace of the calling thread: open it to come back."""

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""Debian keeps ``ip`` and ``tc`` where the PATH of ordinary users does not lead."""

_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace: int) -> None:
    """Put the calling thread into an open ``namespace``; OSError where that is not allowed."""
    _check(_libc.setns(namespace, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Namespace:
    """A network namespace: that of the process with this number, a new one without any. A context
    manager, which lets go of it: the kernel takes it away with the last process or thread in it.

    Raises OSError where that is not allowed.
    """

    def __init__(self, process: int | None = None) -> None:
        if process is not None:
            self._file = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            return
        before = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(_CLONE_NEWNET))
            self._file = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
            enter(before)
        finally:
            os.close(before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    @property
    def path(self) -> str:
        """Where programs such as ``ip`` find it."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Put the calling thread into it for a while, with what that makes and starts."""
        before = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(self._file)
            try:
                yield
            finally:
                enter(before)
        finally:
            os.close(before)


def command(line: str) -> str:
    """Run a program of the system, such as ``ip``, in the namespace of this thread; what it says.
    Raises `subprocess.CalledProcessError`.
    """
    return subprocess.run(
        line.split(),
        env={**os.environ, "PATH": PATH},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


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
