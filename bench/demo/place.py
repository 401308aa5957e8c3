"""Where the demonstration takes place: if it can be, in a network namespace of its own.

There the addresses that the upstreams give may be probed: a TUN device takes whatever would leave
the machine, and answers after as many milliseconds as are written in the address. Elsewhere all
is on the machine's own loopback, and the program must not probe, for that would go out.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Seconds for the first look whether there can be a namespace.
_PATIENCE = 20.0
# Debian keeps `ip` where the PATH of ordinary users does not lead.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_ANSWERER = (sys.executable, "-m", "tests.kit.internet.answerer")


class NoPlace(Exception):
    """There cannot be a namespace here; the text says why."""


def _unshare() -> list[str]:
    for program in ("ip", "unshare"):
        if shutil.which(program, path=_PATH) is None:
            raise NoPlace(f"the program {program} is missing")
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *own, "--net", "--"]


def check() -> list[str]:
    """Return the command that starts a command in a namespace; raise `NoPlace` if none can be."""
    prefix = _unshare()
    try:
        done = subprocess.run(
            [*prefix, *_ANSWERER],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=ROOT,
            env=_environment(),
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoPlace("a network namespace does not come up") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise NoPlace(lines[-1])
    return prefix


def enter(prefix: list[str], arguments: list[str], sockets: list[socket.socket]) -> None:
    """Become the demonstration inside; the sockets, made here, stay what outsiders talk to."""
    for one in sockets:
        one.setblocking(False)
        one.set_inheritable(True)
    numbers = ",".join(str(one.fileno()) for one in sockets)
    command = [*prefix, sys.executable, "-m", "bench.demo", *arguments, "--inside", numbers]
    os.chdir(ROOT)
    os.execvpe(command[0], command, _environment())  # noqa: S606 (no shell is what we want)


def start_answerer() -> subprocess.Popen[bytes]:
    """Bring up what is around us, inside; it ends with its standard input, and so with us."""
    process = subprocess.Popen(
        _ANSWERER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=_environment(),
        # Ctrl-C is for us.
        start_new_session=True,
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise NoPlace("the addresses around us do not come up")
    return process


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": _PATH}


def reserve() -> list[socket.socket]:
    """Return a UDP and a TCP socket on one port of 127.0.0.1, and a TCP socket for metrics."""
    while True:
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 0))
        streams = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            streams.bind(datagrams.getsockname())
        except OSError:
            datagrams.close()
            streams.close()
            continue
        web = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        web.bind(("127.0.0.1", 0))
        for one in (streams, web):
            one.listen(16)
        return [datagrams, streams, web]


def ports(sockets: list[socket.socket]) -> tuple[int, int]:
    """Return the port for DNS and the port for metrics."""
    return sockets[0].getsockname()[1], sockets[2].getsockname()[1]
