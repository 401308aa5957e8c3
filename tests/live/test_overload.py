"""More than can be answered: what is cached is answered all the same, and nothing grows."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import dns.message
import dns.rrset
import pytest

from tests.kit import daemons
from tests.kit.clients import NoReplyError, UdpClient, question
from tests.kit.crowd import Crowd, load
from tests.kit.ports import Endpoint, free_endpoints
from tests.kit.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

ZONE = """\
$ORIGIN crowd.example.
$TTL 3600
@ SOA ns.crowd.example. host.crowd.example. 7 3600 600 86400 60
@ NS ns.crowd.example.
ns A 192.0.2.1
* A 203.0.113.7
"""
KNOWN = "known.crowd.example."
MEDIAN = 0.25
"""Seconds that half of the answers from the cache may take, whatever else comes in: a few
milliseconds on a quick machine, and on the slowest far less than the names that wait.
"""
QUIET, BUSY_MEDIAN = 0.1, 2.5
"""Part of the time without a core up to which that holds, and seconds beyond it."""
RECOVERY = 60.0
"""Seconds in which what is left of a load is done, on a machine with much else to do."""


class Watch(threading.Thread):
    """Watches a program: a context manager.

    ``peak``: its resident memory in MiB. ``crowded``: for which part of the time it was kept from
    running by other processes.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._status = Path(f"/proc/{program.process.pid}/status")
        self._schedule = Path(f"/proc/{program.process.pid}/schedstat")
        self._waited = self._began = self.crowded = 0.0
        self._over = threading.Event()
        self.start_size = self.peak = self.look()

    def look(self) -> float:
        """The memory now, in MiB."""
        for line in self._status.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")

    def run(self) -> None:
        """Look again and again."""
        while not self._over.wait(0.02):
            self.peak = max(self.peak, self.look())

    def __enter__(self) -> Self:
        self._waited = self._waiting()
        self._began = time.monotonic()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self.crowded = (self._waiting() - self._waited) / (time.monotonic() - self._began)

    def _waiting(self) -> float:
        """Seconds for which the program wanted to run and other processes did."""
        return int(self._schedule.read_text().split()[1]) / 1e9


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A program with five fast upstreams that know every name."""
    with contextlib.ExitStack() as stack:
        ends = free_endpoints(5)
        stack.enter_context(daemons.nsd(tmp_path / "nsd", {"crowd.example": ZONE}, ends))
        settings = {"log": {"level": "warn"}}
        program = Program(tmp_path / "program", list(map(str, ends)), settings)
        stack.enter_context(program)
        program.ask(KNOWN)
        yield program


def crowd_of(program: Program, label: str, rate: float, seconds: float = 2.0) -> Crowd:
    """Put a load of new names on a program, with the known name in between."""
    return load(
        program.endpoint,
        rate,
        seconds,
        name=lambda number: f"{label}{number}.crowd.example.",
        known=KNOWN,
    )


def check(title: str, crowd: Crowd, watch: Watch, growth: float) -> None:
    """Assert that the known name was answered as ever and memory grew by ``growth`` MiB at most.

    Figures go to whoever runs this with -s. On a machine that is busy with other things the
    time that an answer takes says little.
    """
    print(  # noqa: T201
        f"\n{title}: {crowd.sent} sent, {crowd.answered} answered, {crowd.codes.get(2, 0)} "
        f"SERVFAIL; known name {crowd.median * 1000:.2f} ms median, "
        f"{max(crowd.known) * 1000:.0f} ms worst; memory {watch.start_size:.0f} to "
        f"{watch.peak:.0f} MiB; {watch.crowded:.0%} of the time without a core"
    )
    quiet = watch.crowded < QUIET
    assert len(crowd.known) >= (0.98 if quiet else 0.51) * crowd.known_sent
    assert crowd.median < (MEDIAN if quiet else BUSY_MEDIAN)
    assert watch.peak < watch.start_size + growth


def recovered(program: Program) -> None:
    """Ask as clients do, once more when nothing has come, until what was left of the load is done:
    on a busy machine there are seconds of it in the program's socket, and no room for another.
    """
    end = time.monotonic() + RECOVERY
    while True:
        with contextlib.suppress(NoReplyError):
            program.ask("recovered.crowd.example.", timeout=2)
            return
        assert time.monotonic() < end, "it does not recover"


def test_twice_the_capacity(program: Program) -> None:
    """Of 20,000 new names in two seconds many are answered, the others soon refused; the cache
    answers as ever, memory stays, and after the load everything is as before.
    """
    with Watch(program) as watch:
        crowd = crowd_of(program, "n", 10_000)
        recovered(program)
        after = [program.ask(f"after{number}.crowd.example.").seconds for number in range(5)]
    assert crowd.sent > 15_000, "this machine is too busy for such a load"
    assert crowd.answered > (1_000 if watch.crowded < QUIET else 100)
    if watch.crowded < QUIET:  # else some are lost in front of the program
        assert sum(crowd.codes.values()) >= 0.98 * crowd.sent, "who is let down hears of it"
    check("twice the capacity", crowd, watch, growth=60)
    assert min(after) < 1
    shed = program.metrics().value("staggerdns_shed_queries_total", limit="queued")
    assert shed >= crowd.codes.get(2, 0) > 0


def silent_upstreams(stack: contextlib.ExitStack, count: int) -> list[socket.socket]:
    """Ports that take queries, and answer none unless the test does."""
    taken = []
    for end in free_endpoints(count):
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind(end)
        taken.append(sock)
    return taken


def test_upstreams_that_do_not_answer(tmp_path: Path) -> None:
    """A crowd whose names nobody answers costs bounded memory; the cache answers as ever."""
    with contextlib.ExitStack() as stack:
        upstreams = silent_upstreams(stack, 5)
        servers = [str(Endpoint(*upstream.getsockname())) for upstream in upstreams]
        limits = {"log": {"level": "warn"}, "server": {"max_pending": 2_000}}
        program = stack.enter_context(Program(tmp_path / "program", servers, limits))
        client = stack.enter_context(UdpClient(program.endpoint))
        client.send(question(KNOWN))
        for upstream in upstreams:
            wire, source = upstream.recvfrom(512)
            reply = dns.message.make_response(dns.message.from_wire(wire))
            reply.answer.append(dns.rrset.from_text(KNOWN, 3600, "IN", "A", "203.0.113.7"))
            upstream.sendto(reply.to_wire(), source)
        assert client.receive().addresses
        with Watch(program) as watch:
            crowd = crowd_of(program, "s", 2_500, 4)
            samples = program.metrics()
    assert samples.value("staggerdns_queries_waiting") <= 2_000
    assert samples.value("staggerdns_shed_queries_total", limit="pending") > 1_000
    check("nobody answers", crowd, watch, growth=100)
