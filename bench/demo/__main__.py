"""Show the program at work, without any network: ``python -m bench.demo [--once] [--svg FILE]``.

Five upstreams on loopback, one of them silent, the program with its shipped settings in front of
them, and a client that asks for a name twice. Then it stays, and draws every further question,
until Ctrl-C; with ``--once`` it ends by itself. ``--svg docs/timeline.svg`` draws the picture that
the documentation has. Exit status: 0; 1 when the program did not do what it should.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bench.demo import place
from bench.demo.picture import draw
from bench.demo.relay import relay_connections, relay_datagrams
from bench.demo.show import Show

#: All are free in a namespace of its own: those of etc/staggerdns.yaml.
_PORTS_INSIDE = (5300, 9153)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.demo", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--once", action="store_true", help="end when the name was asked twice")
    parser.add_argument("--loopback", action="store_true", help="do without a network namespace")
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="draw it there, from the checkout on"
    )
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run the demonstration; return the exit status."""
    arguments = _arguments()
    why_not = "--loopback"
    if arguments.inside:
        outside = [socket.socket(fileno=int(number)) for number in arguments.inside.split(",")]
        why_not = ""
    else:
        outside = place.reserve()
        if not arguments.loopback:
            try:
                place.enter(place.check(), sys.argv[1:], outside)
            except place.NoPlace as reason:
                why_not = str(reason)
    with tempfile.TemporaryDirectory(prefix="staggerdns-demo-") as directory:
        return _run(Path(directory), outside, why_not, arguments)


def _run(
    directory: Path, outside: list[socket.socket], why_not: str, arguments: argparse.Namespace
) -> int:
    from twisted.internet import reactor as installed  # noqa: PLC0415 (it must not be there early)

    reactor: Any = installed
    ports = place.ports(outside)
    inner = ports
    answerer = None
    if why_not:
        for one in outside:  # the program itself listens there
            one.close()
    else:
        answerer = place.start_answerer()
        inner = _PORTS_INSIDE
        relay_datagrams(reactor, outside[0].fileno(), ("127.0.0.1", inner[0]))
        relay_connections(reactor, outside[1].fileno(), ("127.0.0.1", inner[0]))
        relay_connections(reactor, outside[2].fileno(), ("127.0.0.1", inner[1]))
    show = Show(reactor, directory, inner, why_not, lambda line: print(line, flush=True))
    failures: list[str] = []

    async def run() -> None:
        await show.run()
        if arguments.svg and show.timeline is not None:
            arguments.svg.write_text(draw(show.timeline), encoding="utf-8")
        if arguments.once:
            reactor.stop()
        else:
            show.invite(*ports)

    def failed(reason: Failure) -> None:
        failures.append(f"demo: {reason.value!r}")
        if reactor.running:
            reactor.stop()

    reactor.addSystemEventTrigger("before", "shutdown", show.stop)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()).addErrback(failed))
    # A closed terminal ends us as Ctrl-C does; else the program would live on.
    signal.signal(signal.SIGHUP, lambda _number, _frame: reactor.callFromThread(reactor.stop))
    reactor.run()
    if answerer is not None:
        answerer.communicate()
    for line in failures:
        print(line, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was anything to end
        sys.exit(130)
