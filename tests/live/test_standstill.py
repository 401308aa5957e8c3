"""The program is stopped for a while, as a debugger or a machine that sleeps stops it."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.kit.clients import UdpClient, eventually, question
from tests.kit.testbed import own_answer

if TYPE_CHECKING:
    from .conftest import BuildTestbed

NAMES = [f"n{number}.example." for number in range(8)]
TIMEOUT = 0.5


@pytest.mark.parametrize("scheme", ["", "tcp://"])
def test_answers_that_came_meanwhile(build: BuildTestbed, scheme: str) -> None:
    """Clients get them, though all time is long over; no upstream is ill, none is measured."""
    limit = f"{TIMEOUT}s"
    testbed = build(
        [own_answer(index, 0.2) for index in range(2)],
        {"upstream": {"timeout": limit, "parallel": {"total_collect_timeout": limit}}},
        scheme=scheme,
    )
    program = testbed.program
    testbed.ask("before.example.")
    with UdpClient(program.endpoint) as client:
        for name in NAMES:
            client.send(question(name))
        eventually(lambda: all(sum(testbed.counts(name)) == 2 for name in NAMES))
        program.process.send_signal(signal.SIGSTOP)
        time.sleep(4 * TIMEOUT)
        program.process.send_signal(signal.SIGCONT)
        replies = [client.receive(5) for _ in NAMES]
    assert [reply.rcode for reply in replies] == ["NOERROR"] * len(NAMES)
    testbed.ask("after.example.")
    shown = program.metrics()
    assert {sample.value for sample in shown.find("staggerdns_upstream_state")} == {0}
    assert all(
        sample.value < TIMEOUT for sample in shown.find("staggerdns_upstream_latency_seconds")
    )
