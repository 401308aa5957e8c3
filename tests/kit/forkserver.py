"""Starts the program by a fork of a process that has imported it, instead of importing it anew.

``twistd -n staggerdns`` spends nine tenths of its start on imports, the same ones each time, and
hundreds of tests start it. A `ForkServer` imports once, has no reactor, no thread and no open file
but its socket, and forks for each start; the child then is ``twistd`` from its command line on.
How users start it is what ``tests/packaging`` and some tests of ``tests/live`` see.

Run as a module it is the server: it reads requests from the socket that it has as standard input,
and leaves with the process that holds the other end, its children first.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kit.checkout import ROOT
from tests.kit.namespaces import OWN, enter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WITH_REACTOR = ("staggerdns.shared.protocol", "staggerdns.shared.redis")
"""Modules whose library, txredisapi, imports the reactor: a program imports them when it is up."""
_MOST = 1 << 20
"""Octets of a request, at most: the environment is the largest part."""


class Forked:
    """A process that a `ForkServer` has started, to be used like a `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], channel: socket.socket) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._channel = channel
        self.pid: int = self._receive()

    def _receive(self) -> int:
        data = self._channel.recv(64)
        assert data, "the fork server has gone"
        return int(data)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once it has ended; `subprocess.TimeoutExpired` if it has not."""
        if self.returncode is None:
            self._channel.settimeout(timeout)
            try:
                self.returncode = self._receive()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._channel.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks; it lives as long as this one."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._sock, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                # -P: the checkout must not come before the program that is tested.
                [sys.executable, "-P", "-m", "tests.kit.forkserver"],
                cwd=ROOT,
                env={**environment, "PYTHONPATH": f"{environment['PYTHONPATH']}:{ROOT}"},
                stdin=other.fileno(),
            )
        atexit.register(self.stop)

    def stop(self) -> None:
        """End it, and what it has started."""
        self._sock.close()
        self._process.wait(10)

    def start(
        self,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        stdout: int,
        stderr: int,
    ) -> Forked:
        """Run ``twistd`` with this command line, in ``directory`` and in our network namespace."""
        sys.audit("subprocess.Popen", arguments[0], arguments, str(directory), environment)
        request = {
            "arguments": list(arguments),
            "directory": str(directory),
            "environment": dict(environment),
        }
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        namespace = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            files = array.array("i", [theirs.fileno(), stdout, stderr, namespace])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)]
            self._sock.sendmsg([json.dumps(request).encode()], rights)
        finally:
            os.close(namespace)
            theirs.close()
        return Forked(arguments, ours)


@functools.cache
def fork_server() -> ForkServer:
    """The one fork server of this process."""
    from tests.kit.program import environment  # noqa: PLC0415 (that module uses this one)

    return ForkServer(environment())


# The server.


def _import_all() -> None:
    """Import what a running program has imported, but no reactor: that belongs to the child."""
    import staggerdns  # noqa: PLC0415

    for module in pkgutil.walk_packages(staggerdns.__path__, "staggerdns."):
        if module.name not in WITH_REACTOR:
            importlib.import_module(module.name)
    for name in ("twisted.scripts.twistd", "twisted.internet.epollreactor"):
        importlib.import_module(name)
    assert "twisted.internet.reactor" not in sys.modules
    gc.collect()
    gc.freeze()


def _serve(sock: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; return None at the end, and in each child its request."""
    channels: dict[int, socket.socket] = {}
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Control-C is for the one who started us
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if woken in ready:
                woken.recv(4096)
                _reap(channels, os.WNOHANG)
            if sock not in ready:
                continue
            data, files, _, _ = socket.recv_fds(sock, _MOST, 4)
            if not data:
                break
            channel = socket.socket(fileno=files[0])
            child = os.fork()
            if not child:
                return json.loads(data) | {"files": files[1:]}
            for file in files[1:]:
                os.close(file)
            channels[child] = channel
            channel.send(b"%d" % child)
    for child in channels:
        os.kill(child, signal.SIGKILL)
    _reap(channels, 0)
    return None


def _reap(channels: dict[int, socket.socket], options: int) -> None:
    """Tell of each child that has ended; with ``options`` 0 wait for all."""
    while channels:
        child, status = os.waitpid(-1, options)
        if not child:
            return
        with channels.pop(child) as channel, contextlib.suppress(OSError):
            channel.send(b"%d" % os.waitstatus_to_exitcode(status))


def _become(request: dict[str, Any]) -> None:
    """Make this child what it would be had it been started in the usual way."""
    stdout, stderr, namespace = request["files"]
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A shell starts what is in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not os.path.samestat(os.fstat(namespace), Path(OWN).stat()):
        enter(namespace)
    null = os.open(os.devnull, os.O_RDONLY)
    for new, old in enumerate((null, stdout, stderr)):
        os.dup2(old, new)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    time.tzset()
    sys.argv = request["arguments"]


def main() -> None:
    """Serve; in a child, run ``twistd`` instead."""
    _import_all()
    request = _serve(socket.socket(fileno=os.dup(0)))
    if request is not None:
        from twisted.scripts import twistd  # noqa: PLC0415 (imported by now)

        _become(request)
        sys.exit(twistd.run())


if __name__ == "__main__":
    main()
