"""Two servers of one site: what the second level and dnsdist save upstreams, and what a server has
of what the other one knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from bench import inside, load, servers
from bench.authority import ZONE
from bench.client import Pacer, ask, records
from bench.daemons import Daemon, Laboratory, wait_for
from bench.report import Section, Target
from bench.traffic import own_address, popular
from bench.witness import ADDRESSES, Witnesses
from tests.kit.balancer import SOURCE
from tests.kit.internet.hosts import milliseconds

ISLANDS, LEVEL, BALANCED = "two islands", "second level", "dnsdist"
_NAMES = 10_000
#: Seconds that the zones say.
_TTL = 300
#: Client queries a second in all.
_RATE = 2_500
_MOST = {LEVEL: 0.6, BALANCED: 0.5}
_SEED = 1
#: New names a second of which the order is looked at, and seconds that it has to be found.
_ORDER_RATE, _PATIENCE = 25, 6.0


class _Site(NamedTuple):
    """Two servers with five upstreams of their own: ``doors`` are whom clients ask, ``node`` starts
    one more of them.
    """

    name: str
    doors: Sequence[Daemon]
    witnesses: Witnesses
    node: Callable[[], Daemon]


def measure(laboratory: Laboratory, *, seconds: float, fresh: float, ordered: int) -> Section:
    """Send each site the same clients' queries for ``seconds``, half of them to either server; then
    start another server and send it queries for ``fresh`` seconds. Look at the order of ``ordered``
    names that the other server has sorted.
    """
    count = int(_RATE * seconds)
    section = Section(
        f"Two servers of one site ({count:,} client queries at {_RATE:,}/s, {_NAMES:,} names by "
        f"Zipf, TTLs of {_TTL} s, {len(ADDRESSES)} upstreams with an address of each name; then "
        f"another server for {fresh:g} s)"
    )
    numbers = popular(Random(_SEED), count, _NAMES)
    later = popular(Random(_SEED + 1), int(_RATE / 2 * fresh), _NAMES)
    asked: dict[str, list[float]] = {}
    hits: dict[str, list[float]] = {}
    for name in (ISLANDS, LEVEL, BALANCED):
        with Laboratory() as own:
            site = _build(own, name)
            pacer = Pacer([door.address for door in site.doors], rate=_RATE)
            answered = pacer.split(_named(numbers), Random(_SEED), patience=2.0)
            section.count(name, count - answered, count)
            time.sleep(1.0)  # collections end behind their answers
            before = site.witnesses.seen.total()
            asked[name] = [before / count]
            if name != BALANCED:
                node = site.node()
                pacer = Pacer([node.address], rate=_RATE / 2)
                pacer.split(_named(later), Random(_SEED), patience=2.0)
                time.sleep(1.0)
                collected = (site.witnesses.seen.total() - before) / len(ADDRESSES)
                hits[name] = [100 * (1 - collected / len(later))]
    section.add(
        "upstream queries per client query", asked, digits=2, base=ISLANDS, target=_targets()
    )
    section.add("answered without upstreams by a new server, %", hits, digits=1)
    reason = inside.reason_without()
    if reason is None:
        section.add("nearest first in the first answer, %", _order(laboratory, ordered), digits=1)
    else:
        section.notes.append(f"nearest first left out: {reason}")
    section.notes.append(
        f"the least ratio for these queries is {_least_ratio(numbers):.2f}: each name asked for "
        "once for the site, of the names that either island has to ask for"
    )
    return section


def _least_ratio(numbers: Sequence[int]) -> float:
    """Return how many names there are, of those that two servers have together which share nothing
    and each get the queries that `Pacer.split` gives them.
    """
    rng = Random(_SEED)
    names: tuple[set[int], set[int]] = (set(), set())
    for number in numbers:
        names[rng.randrange(2)].add(number)
    return len(names[0] | names[1]) / (len(names[0]) + len(names[1]))


def _targets() -> dict[str, Target | None]:
    return {name: Target(most, at_least=False, of_ratio=True) for name, most in _MOST.items()}


def _named(numbers: Sequence[int]) -> list[str]:
    return [f"site-{number:05d}.{ZONE}" for number in numbers]


def _build(laboratory: Laboratory, name: str) -> _Site:
    upstreams = range(len(ADDRESSES))
    pools = {
        label: [address for one in upstreams for address in own_address(number, one)]
        for number, label in enumerate(_named(range(_NAMES)))
    }
    witnesses = laboratory.enter(Witnesses(pools, lambda *_: _TTL))
    store = servers.redis(laboratory) if name == LEVEL else ""
    proxy = SOURCE if name == BALANCED else ""

    def node() -> Daemon:
        return servers.staggerdns(
            laboratory, witnesses.addresses, proxy=proxy, anywhere=True, store=store
        )

    doors = [node(), node()]
    if name == BALANCED:
        doors = [servers.dnsdist(laboratory, doors, anywhere=True)]
    return _Site(name, doors, witnesses, node)


def _wait_for_store(*nodes: Daemon) -> None:
    wait_for(lambda: all(node.metric("staggerdns_shared_up") for node in nodes), _PATIENCE)


def _order(laboratory: Laboratory, count: int) -> dict[str, list[float]]:
    """Return the share of names whose nearest address is first in the first answer of a server,
    when the other one has sorted them.
    """
    world = laboratory.enter(inside.internet())
    every = inside.pools()
    shares: dict[str, list[float]] = {}
    for name in (ISLANDS, LEVEL):
        labels = load.names(f"order-{name.replace(' ', '-')}", count)
        pools = dict(zip(labels, every, strict=False))
        del every[:count]
        with Laboratory() as own:
            witnesses = own.enter(Witnesses(pools))
            store = servers.redis(own) if name == LEVEL else ""
            first, second = [
                servers.staggerdns(own, witnesses.addresses, world=world, store=store)
                for _ in range(2)
            ]
            if store:
                _wait_for_store(first, second)
            Pacer([first.address], rate=_ORDER_RATE).run(labels, patience=0.0)
            time.sleep(_PATIENCE)
            nearest = 0
            for label in labels:
                reply = ask(second.address, label, timeout=2.0)
                addresses = records(reply)[0] if reply else []
                nearest += addresses[:1] == [min(pools[label], key=milliseconds)]
            shares[name] = [100 * nearest / count]
    return shares
