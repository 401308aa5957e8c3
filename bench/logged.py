"""What it costs to write every answer into a log, or to have somebody watch."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import load, servers
from bench.authority import UPSTREAMS, Authority, same
from bench.daemons import Daemon, Laboratory, wait_for
from bench.load import LoadError
from bench.report import Section

_NAMES = 1_000
_PATIENCE = 30
_NONE = "none"
_NOTE = "ratio: to the first without, the median of the rounds; `again` shows the noise"

_Ask = Callable[[Daemon, int], load.Load]


def hits(laboratory: Laboratory, *, rounds: int, seconds: float) -> Section:
    """Ask StaggerDNS in turn for cached names, with and without somebody who hears of it."""
    section = Section(
        f"Cached hits that are logged or watched ({_NAMES:,} names, {rounds} rounds of "
        f"{seconds:g} s, 100 outstanding)"
    )
    authority = Authority(laboratory, same())
    queries = load.query_file(laboratory, "hits", load.names("hit", _NAMES))

    def prepare(daemon: Daemon) -> None:
        settle = authority.arrival_of(_NAMES * len(UPSTREAMS))
        load.run(daemon, queries, outstanding=20, settle=settle)
        load.run(daemon, queries, seconds=min(1.0, seconds))

    def ask(daemon: Daemon, _round: int) -> load.Load:
        return load.run(daemon, queries, seconds=seconds)

    _measure(laboratory, section, authority, rounds, prepare, ask)
    return section


def fresh(laboratory: Laboratory, *, rounds: int, names: int, fill: int) -> Section:
    """The same with ``names`` that nobody has asked for, a round, and full caches."""
    section = Section(
        f"Never-seen names that are logged or watched ({names:,} names a round, {rounds} rounds, "
        "100 outstanding)"
    )
    authority = Authority(laboratory, same())

    def run(daemon: Daemon, label: str, total: int) -> load.Load:
        queries = load.query_file(laboratory, "fresh", load.names(label, total))
        arrived = authority.arrival_of(total * len(UPSTREAMS))

        def settle() -> None:
            arrived()
            daemon.wait_until_idle()

        return load.run(daemon, queries, settle=settle)

    def prepare(daemon: Daemon) -> None:
        run(daemon, "warm", fill)

    def ask(daemon: Daemon, number: int) -> load.Load:
        return run(daemon, f"fresh{number}", names)

    start = partial(servers.staggerdns, entries=fill)
    _measure(laboratory, section, authority, rounds, prepare, ask, start)
    return section


def _measure(
    laboratory: Laboratory,
    section: Section,
    authority: Authority,
    rounds: int,
    prepare: Callable[[Daemon], None],
    ask: _Ask,
    start: Callable[..., Daemon] = servers.staggerdns,
) -> None:
    section.notes.append(_NOTE)
    for build in servers.builds():
        control = laboratory.path(f"control{len(build.name)}")
        log, tap = (laboratory.path(f"{name}{len(build.name)}") for name in ("queries", "tap"))
        settings = {
            "query log": f"query_log: {{file: {log}}}\n",
            "dnstap": f"query_log: {{dnstap: {tap}}}\n",
            "watched": f"control: {{socket: {control}}}\n",
            _NONE: "",
            f"{_NONE}, again": "",
        }
        daemons = {
            label + build.suffix: start(laboratory, authority.addresses, build, more=more)
            for label, more in settings.items()
        }
        with _watching(control):
            for label, daemon in daemons.items():
                daemon.name = label
                prepare(daemon)
            cost: dict[str, list[float]] = {label: [] for label in daemons}
            turns = [*daemons.values()]
            for number in range(rounds):
                first = number % len(turns)
                for daemon in (*turns[first:], *turns[:first]):
                    done = ask(daemon, number)
                    cost[daemon.name].append(done.cpu_each)
                    section.count(daemon.name, done.failed, done.answered + done.failed)
        section.add("CPU us per query", cost, digits=2, base=_NONE + build.suffix, paired=True)
        for daemon in turns:
            daemon.stop()


@contextlib.contextmanager
def _watching(control: Path) -> Iterator[None]:
    """Watch all answers of the program that has this socket, as fast as they come.

    Raises `LoadError` if it has none.
    """
    if not wait_for(control.exists, _PATIENCE):
        raise LoadError(f"there is no {control} after {_PATIENCE} s")
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(str(control))
        connected.sendall(b'{"version":1,"command":"watch"}\n')
        reader = threading.Thread(target=_read, args=(connected,))
        reader.start()
        try:
            yield
        finally:
            connected.shutdown(socket.SHUT_RDWR)
            reader.join()


def _read(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connected.recv(65_536):
            pass
