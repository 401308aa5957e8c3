"""A site on this machine, to try things with: ``python -m bench.demo.site [--once]``.

Two servers, dnsdist in front of them, redis-server behind them, and five upstreams, each with an
address of its own for any name. Nothing leaves the machine. It says what it does with two names and
how to look further, and stays until Ctrl-C; with ``--once`` it ends by itself. Exit status: 0; 1
when something did not start or did not do what it should.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from bench import servers
from bench.authority import ZONE
from bench.client import ask, records
from bench.daemons import Daemon, Laboratory, StartError, wait_for
from bench.programs import SetupError
from bench.witness import ADDRESSES, Witnesses
from tests.kit.balancer import SOURCE

_NAMES = (f"www.{ZONE}", f"mail.{ZONE}")
#: Seconds that a collection may take, and what the next server finds in the store.
_PATIENCE = 10.0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Start all of it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.demo.site", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--once", action="store_true", help="end when it was tried")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with Laboratory() as laboratory:
            works = _run(laboratory, lambda line: print(line, flush=True))
            while works and not arguments.once:
                signal.pause()
            return int(not works)
    except (StartError, SetupError) as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _run(laboratory: Laboratory, write: Callable[[str], None]) -> bool:
    """Start the site, show what it does, and how to look further; return whether it does that."""
    write("Starting five upstreams, redis-server, two servers and dnsdist ...")
    witnesses = laboratory.enter(Witnesses())
    store = servers.redis(laboratory)
    sockets = [laboratory.path(f"server{number}.sock") for number in (1, 2)]
    nodes = [
        servers.staggerdns(
            laboratory,
            witnesses.addresses,
            proxy=SOURCE,
            anywhere=True,
            store=store,
            more=f"control: {{socket: {path}}}\n",
        )
        for path in sockets
    ]
    wait_for(lambda: all(node.metric("staggerdns_shared_up") for node in nodes), _PATIENCE)
    balancer = servers.dnsdist(laboratory, nodes, anywhere=True)
    works = all(_show(name, witnesses, balancer, nodes, write) for name in _NAMES)
    write("\nTry:")
    write(f"  dig @127.0.0.1 -p {balancer.address[1]} NAME.{ZONE}    # through dnsdist")
    for number, (node, path) in enumerate(zip(nodes, sockets, strict=True), 1):
        write(f"server {number}; `kill {node.pid}` ends it, and its names go to the other one:")
        write(f"  .venv/bin/staggerdns --socket {path} status")
        write(f"  http://127.0.0.1:{node.web[1]}/")
    write("the store, where the other one finds what this one has collected:")
    write(f"  redis-cli -u {store} --scan")
    return works


def _show(
    name: str,
    witnesses: Witnesses,
    balancer: Daemon,
    nodes: list[Daemon],
    write: Callable[[str], None],
) -> bool:
    """Ask for a name until it is whole; tell what became of it, and return whether it is right."""
    collected = [node.metric("staggerdns_collections_total") for node in nodes]

    def complete() -> bool:
        reply = ask(balancer.address, name, timeout=2.0)
        return reply is not None and len(records(reply)[0]) == len(ADDRESSES)

    whole = wait_for(complete, _PATIENCE)
    time.sleep(0.2)
    asked = [witnesses.seen[number, name] for number in range(len(ADDRESSES))]
    who = [
        number
        for number, (node, before) in enumerate(zip(nodes, collected, strict=True), 1)
        if node.metric("staggerdns_collections_total") > before
    ]
    write(
        f"{name}: server {' and '.join(map(str, who))} has it, with "
        f"{len(ADDRESSES) if whole else 'not all'} addresses; each upstream was asked "
        f"{'once' if set(asked) == {1} else 'so often: ' + ', '.join(map(str, asked))}"
    )
    return whole and set(asked) == {1} and len(who) == 1


if __name__ == "__main__":
    sys.exit(main())
