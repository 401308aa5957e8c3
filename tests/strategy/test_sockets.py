"""Races over real sockets: what a closed port, a reset and SERVFAIL start."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, cast

import pytest
import pytest_twisted
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.names import dns

from staggerdns.chain import Chain
from staggerdns.config import parse_config
from tests.kit import behaviours as b
from tests.kit.loopback import no_connections, reactor
from tests.kit.ports import free_endpoint
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def race(first: str, second: object) -> Iterator[Chain]:
    """A chain that races for answers; its second upstream waits four seconds for its turn."""
    config = parse_config(
        f"upstream: {{servers: ['{first}', '{second}'], strategy: racing, timeout: 5s,\n"
        "  racing: {delay: 4s, max_delay: 4s}}\n"
        "ranking: {enabled: false}\n"
    )
    with closing(Chain(config, reactor)) as chain:
        yield chain


async def asked(chain: Chain) -> float:
    """Ask a question; return the seconds until its good answer."""
    began = time.monotonic()
    answers, _, _ = await chain.resolver.lookupAddress("www.example.com")
    assert cast("dns.Record_A", answers[0].payload).dottedQuad() == "203.0.113.1"
    return time.monotonic() - began


@pytest.mark.parametrize("scheme", ["", "tcp://"])
@pytest_twisted.ensureDeferred
async def test_closed_port(scheme: str) -> None:
    """A port where nobody listens, over UDP (ICMP says so) or TCP: the others go at once."""
    with (
        ScriptedUpstream(b.answers("203.0.113.1")) as good,
        race(f"{scheme}{free_endpoint()}", good.endpoint) as chain,
    ):
        assert await asked(chain) < 3
        assert chain.statistics().early_triggers == 1


class Resetting(Protocol):
    """Answers whatever comes with a reset."""

    def dataReceived(self, data: bytes) -> None:
        """Close without a farewell."""
        assert self.transport is not None
        linger = struct.pack("ii", 1, 0)
        self.transport.getHandle().setsockopt(  # type: ignore[attr-defined]
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self.transport.abortConnection()  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_reset() -> None:
    """A connection that is reset behind the query starts the others at once."""
    port = reactor.listenTCP(0, ServerFactory.forProtocol(Resetting), interface="127.0.0.1")
    with (
        ScriptedUpstream(b.answers("203.0.113.1")) as good,
        race(f"tcp://127.0.0.1:{port.getHost().port}", good.endpoint) as chain,
    ):
        assert await asked(chain) < 3
        assert chain.statistics().early_triggers == 1
    await port.stopListening()
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_servfail() -> None:
    """SERVFAIL is no early trigger, though the next is asked as soon as all have failed."""
    with (
        ScriptedUpstream(b.rcode("SERVFAIL")) as bad,
        ScriptedUpstream(b.answers("203.0.113.1")) as good,
        race(str(bad.endpoint), good.endpoint) as chain,
    ):
        assert await asked(chain) < 3
        assert chain.statistics().early_triggers == 0
