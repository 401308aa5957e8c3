"""Any octets at all: the program never crashes, never answers nonsense with nonsense."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import dns.flags

from tests.kit import behaviours as b
from tests.kit.clients import NoReplyError, TcpClient, UdpClient, parse, question
from tests.kit.scripted import Action, Query, Send
from tests.kit.testbed import Testbed, own_answer, own_set, unique_name

if TYPE_CHECKING:
    from .conftest import BuildTestbed

SEED = 20_26


def _mutated(rng: random.Random, wire: bytes) -> bytes:
    data = bytearray(wire)
    for _ in range(rng.randrange(1, 5)):
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == 1 and data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[rng.randrange(len(data) + 1) :]
        elif kind == 3:
            data += rng.randbytes(rng.randrange(1, 40))
        elif len(data) > 12:
            place = rng.randrange(12, len(data))
            data[place : place + 2] = bytes([0xC0 | rng.randrange(64), rng.randrange(256)])
    return bytes(data)


def _queries(count: int) -> list[bytes]:
    rng = random.Random(SEED)
    kinds = [
        question("fuzz.example", "A"),
        question("fuzz.example", "AAAA", payload=1232, do=True),
        question("a.b.c.d.fuzz.example", "TYPE65280", payload=512),
        question("fuzz.example", "TXT", rdclass="CH"),
        question(".", "NS"),
    ]
    wires = [kind.to_wire() for kind in kinds]
    made = [_mutated(rng, rng.choice(wires)) for _ in range(count)]
    made += [rng.randbytes(rng.randrange(0, 80)) for _ in range(count // 4)]
    return made


def test_any_datagram_from_a_client(testbed: Testbed) -> None:
    """More than a thousand broken queries: each reply is a DNS message that answers its query."""
    by_id: dict[bytes, set[int]] = {}
    with UdpClient(testbed.program.endpoint) as client:
        for wire in _queries(1200):
            if wire:
                client.send(wire)
            by_id.setdefault(wire[:2], set()).add(len(wire) >= 12 and wire[2] & 0x80)
            answer = client.receive_raw(0.004)
            while answer is not None:
                message = parse(answer)
                assert message.flags & dns.flags.QR
                assert 0 in by_id[answer[:2]], "a reply to what was itself a response"
                assert len(answer) <= 1232
                answer = client.receive_raw(0.0005)
    name = testbed.route("alive", b.answers("203.0.113.1"))
    assert testbed.ask(name).addresses == ["203.0.113.1"]
    assert testbed.program.health() == 200


def test_any_stream_from_a_client(testbed: Testbed) -> None:
    """Broken messages over TCP: replies parse, the program lives."""
    for wire in _queries(400):
        with TcpClient(testbed.program.endpoint) as client:
            client.send_raw(len(wire).to_bytes(2, "big") + wire)
            client.finish()
            try:
                while True:
                    assert client.receive(1).message.flags & dns.flags.QR
            except NoReplyError:
                pass
    name = testbed.route("alive", b.answers("203.0.113.1"))
    assert testbed.ask(name, tcp=True).addresses == ["203.0.113.1"]


def test_any_bytes_from_an_upstream(build: BuildTestbed) -> None:
    """Upstreams that send mutated replies: clients get whole messages, the rest of the pool."""
    rng = random.Random(SEED)
    honest = b.cname_chain(["x.example.", "y.example."], *own_set(0))

    def broken(query: Query) -> list[Action]:
        action = next(iter(honest(query)))
        assert isinstance(action, Send)
        return [Send(action.data[:2] + _mutated(rng, action.data)[2:])]

    testbed = build([broken, broken, own_answer(2, 0.005)], {"upstream": {"timeout": "500ms"}})
    start = time.monotonic()
    for number in range(80):
        rdtype = "TXT" if number % 10 == 0 else "A"
        reply = testbed.ask(unique_name("fuzz"), rdtype, payload=1232)
        assert reply.rcode in ("NOERROR", "NXDOMAIN")
    assert time.monotonic() - start < 60
    assert testbed.program.health() == 200
    assert testbed.ask(unique_name("whole")).rcode == "NOERROR"
