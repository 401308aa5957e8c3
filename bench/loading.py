"""A long list beside others: how long it takes to count, who answers meanwhile, and memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import servers
from bench.authority import Authority, Upstreams, same
from bench.client import ask, records
from bench.daemons import Daemon, Laboratory
from bench.lists import PEAK, Peak, memory, write_names
from bench.load import LoadError
from bench.report import Section
from bench.servers import Start

#: Seconds that a list may take until it counts, and that an answer may take.
_PATIENCE, _ANSWER = 120, 0.1
#: Seconds between two questions for the name that is new in a list.
_PAUSE = 0.005
_NULL = ["0.0.0.0"]
_BASE = "dnsmasq"


class _Server:
    """One server and its list: ``start`` with the list, ``plain`` without, ``again``: have it read
    the list anew.
    """

    def __init__(
        self,
        list_file: Path,
        form: str,
        start: Start,
        plain: Start,
        again: Callable[[Daemon], None] | None = None,
    ) -> None:
        self._list_file = list_file
        self._form = form
        self.start = start
        self.plain = plain
        self.again = again

    def write(self, names: Path, marker: str) -> None:
        """Write the list, with ``marker`` as one more name, so that it is there at once."""
        new = self._list_file.with_suffix(".new")
        with names.open(encoding="ascii") as lines, new.open("w", encoding="ascii") as file:
            file.write(self._form.format(marker) + "\n")
            file.writelines(self._form.format(line.split()[1]) + "\n" for line in lines)
        new.replace(self._list_file)


def measure(laboratory: Laboratory, *, count: int, rounds: int) -> Section:
    """Start each server with a list of ``count`` names, and have it read another one ``rounds``
    times, while somebody asks.
    """
    section = Section(f"A list of {count:,} names, beside others ({rounds} rounds)")
    authority = Authority(laboratory, same())
    names = laboratory.path("names.txt")
    write_names(names, count)
    figures: dict[str, dict[str, list[float]]] = {}
    for server in _servers(laboratory):
        _one(laboratory, authority.addresses, names, server, rounds, figures)
    for measure, rows in figures.items():
        target = servers.targets(PEAK) if "peak" in measure else None
        base = _BASE if _BASE in rows else None
        section.add(measure, rows, digits=2, base=base, target=target)
    section.notes.append("dnsmasq reads such lines at its start alone, so it is started anew")
    section.notes.append(
        "memory: of all processes together, beyond that of the same server without a list"
    )
    return section


def _one(
    laboratory: Laboratory,
    upstreams: Upstreams,
    names: Path,
    server: _Server,
    rounds: int,
    figures: dict[str, dict[str, list[float]]],
) -> None:
    plain = server.plain(laboratory, upstreams)
    without = memory(plain.pid)
    plain.stop()
    server.write(names, _marker(0))
    began = time.monotonic()
    daemon = server.start(laboratory, upstreams)
    _await_block(daemon, _marker(0))

    def note(measure: str, value: float) -> None:
        figures.setdefault(measure, {}).setdefault(daemon.name, []).append(value)

    note("start until it blocks, s", time.monotonic() - began)
    note("memory of the list, MiB", (memory(daemon.pid) - without) / 2**20)
    for number in range(1, rounds + 1):
        server.write(names, _marker(number))
        began = time.monotonic()
        if server.again is None:
            daemon.stop()
            daemon = server.start(laboratory, upstreams)
            _await_block(daemon, _marker(number))
            silence = time.monotonic() - began
        else:
            with Peak(daemon.pid) as peak:
                began = time.monotonic()
                server.again(daemon)
                silence = _await_block(daemon, _marker(number))
            note("another list, more at the peak, MiB", peak.more)
        note("another list until it counts, s", time.monotonic() - began)
        note("another list, longest without an answer, s", silence)
    daemon.stop()


def _marker(number: int) -> str:
    """Return a name that only one of the lists has."""
    return f"marker{number}.lists.example"


def _await_block(daemon: Daemon, name: str) -> float:
    """Ask for a name until it is blocked; return the longest time without an answer, in seconds.

    Raises `LoadError` when it never is.
    """
    last = time.monotonic()
    end = last + _PATIENCE
    longest = 0.0
    while last < end:
        reply = ask(daemon.address, name, timeout=_ANSWER)
        now = time.monotonic()
        if reply is None:
            if now > end:
                break
            continue
        longest = max(longest, now - last)
        last = now
        if records(reply)[0] == _NULL:
            return longest
        time.sleep(_PAUSE)
    raise LoadError(f"{daemon.name} does not block a name of its list after {_PATIENCE} s")


def _hang_up(daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGHUP)


def _servers(laboratory: Laboratory) -> list[_Server]:
    found = []
    for build in servers.builds():
        path = laboratory.path("list.txt")
        more = f"lists: {{names: {{files: [{path}]}}}}\ngroups: {{default: {{block: [names]}}}}\n"
        plain = partial(servers.staggerdns, build=build)
        found.append(_Server(path, "0.0.0.0 {}", partial(plain, more=more), plain, _hang_up))
    path = laboratory.path("list.unbound")
    start: Start = partial(servers.unbound, include=path)
    line = 'local-zone: "{}." always_null'
    found.append(_Server(path, line, start, servers.unbound, _hang_up))
    path = laboratory.path("list.dnsmasq")
    start = partial(servers.dnsmasq, include=path)
    found.append(_Server(path, "address=/{}/#", start, servers.dnsmasq))
    return found
