"""What balancers see of the running program, from its start to its end."""

from __future__ import annotations

import signal
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually

if TYPE_CHECKING:
    from tests.live.conftest import BuildTestbed

pytestmark = pytest.mark.live
READY = "ready.staggerdns.invalid."


def test_readiness_until_the_end(build: BuildTestbed) -> None:
    """Ready while it runs, though nobody answers it; not from the moment on at which it is told to
    end, while it still waits for an answer that a client shall have.
    """
    testbed = build([b.answers("203.0.113.1", after=0.7)])
    program = testbed.program
    for tcp in (False, True):
        reply = program.ask(READY, tcp=tcp)
        assert (reply.rcode, reply.addresses) == ("NOERROR", ["127.0.0.1"])
    assert program.ask(READY, "TXT").rcode == "NOERROR"
    assert program.get("/readyz") == (200, "serving\n")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(program.ask, "www.example.")
        eventually(lambda: len(testbed.upstreams[0].queries), bool)
        program.process.send_signal(signal.SIGTERM)
        eventually(lambda: program.get("/readyz"), lambda page: page == (503, "stopping\n"))
        assert asked.result().addresses == ["203.0.113.1"]
    program.process.wait(10)
    with pytest.raises(urllib.error.URLError):
        program.get("/readyz")
