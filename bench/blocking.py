"""What groups and lists cost the names that are not blocked: nothing that shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import load, servers
from bench.authority import UPSTREAMS, Authority, same
from bench.daemons import Daemon, Laboratory, wait_for
from bench.lists import write_names
from bench.load import LoadError
from bench.report import Section, Target

GROUPS = 10
_NAMES = 1_000
#: Seconds that a list may take until it counts.
_PATIENCE = 120
_LABELS = ("10 groups and lists", "none", "none, again")
_NOTE = "ratio: to the first without, the median of the rounds; `again` shows the noise"

_Ask = Callable[[Daemon, int], load.Load]


def rules(path: Path) -> str:
    """Return the sections of groups, each with the list of ``path`` and one of its own. Clients of
    this machine are in one of them by their network.
    """
    groups = range(1, GROUPS)
    lines = ["lists:", f"  names: {{files: [{path}]}}"]
    lines += [f"  own{group}: {{domains: [d{group}.example]}}" for group in groups]
    lines += ["groups:", "  default: {block: [names]}"]
    for group in groups:
        network = f"127.{group - 1}.0.0/16"
        lines.append(f"  g{group}: {{clients: [{network}], block: [names, own{group}]}}")
    return "\n".join(lines) + "\n"


def hits(laboratory: Laboratory, *, count: int, rounds: int, seconds: float) -> Section:
    """Ask StaggerDNS in turn for cached names: one has groups and ``count`` blocked names, two have
    none.
    """
    section = Section(
        f"Cached hits with {GROUPS} groups and {count:,} blocked names ({_NAMES:,} names, "
        f"{rounds} rounds of {seconds:g} s, 100 outstanding)"
    )
    authority = Authority(laboratory, same())
    queries = load.query_file(laboratory, "hits", load.names("hit", _NAMES))

    def prepare(daemon: Daemon) -> None:
        settle = authority.arrival_of(_NAMES * len(UPSTREAMS))
        load.run(daemon, queries, outstanding=20, settle=settle)
        load.run(daemon, queries, seconds=min(1.0, seconds))

    def ask(daemon: Daemon, _round: int) -> load.Load:
        return load.run(daemon, queries, seconds=seconds)

    _measure(laboratory, section, authority, count, rounds, prepare, ask, 1.03)
    return section


def fresh(laboratory: Laboratory, *, count: int, rounds: int, names: int, fill: int) -> Section:
    """The same with ``names`` that nobody has asked for, a round, and full caches."""
    section = Section(
        f"Never-seen names with {GROUPS} groups and {count:,} blocked names ({names:,} names a "
        f"round, {rounds} rounds, 100 outstanding)"
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
    _measure(laboratory, section, authority, count, rounds, prepare, ask, 1.05, start)
    return section


def _measure(
    laboratory: Laboratory,
    section: Section,
    authority: Authority,
    count: int,
    rounds: int,
    prepare: Callable[[Daemon], None],
    ask: _Ask,
    bound: float,
    start: Callable[..., Daemon] = servers.staggerdns,
) -> None:
    path = laboratory.path("names.txt")
    write_names(path, count)
    section.notes.append(_NOTE)
    for build in servers.builds():
        daemons = [
            start(laboratory, authority.addresses, build, more=more)
            for more in (rules(path), "", "")
        ]
        listed, plain, _ = daemons
        wait_until_listed(listed, count)
        for daemon, label in zip(daemons, _LABELS, strict=True):
            daemon.name = label + build.suffix
            prepare(daemon)
        cost: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
        for number in range(rounds):
            first = number % len(daemons)
            for daemon in (*daemons[first:], *daemons[:first]):
                done = ask(daemon, number)
                cost[daemon.name].append(done.cpu_each)
                section.count(daemon.name, done.failed, done.answered + done.failed)
        section.add(
            "CPU us per query",
            cost,
            digits=2,
            base=plain.name,
            target=Target(bound, at_least=False, of_ratio=True),
            paired=True,
        )
        for daemon in daemons:
            daemon.stop()


def wait_until_listed(daemon: Daemon, count: int) -> None:
    """Wait until StaggerDNS blocks as many names. Raises `LoadError` when it never does."""
    if not wait_for(lambda: daemon.metric("staggerdns_list_names") >= count, _PATIENCE):
        raise LoadError(f"{daemon.name} does not block {count:,} names after {_PATIENCE} s")
