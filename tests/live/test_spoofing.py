"""Forged replies: a flood of them while an honest upstream thinks, and none is believed.

What the kernel drops, because it comes from another address or port, is sent as well; it never
arrives, so it is not in the counts.
"""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING, Literal

import dns.rcode
import pytest

from tests.kit import behaviours as b
from tests.kit.checkout import ROOT
from tests.kit.scripted import Send
from tests.kit.testbed import own_answer, own_set

if TYPE_CHECKING:
    from tests.kit.scripted import Action, Behaviour, Query

    from .conftest import BuildTestbed

POISON = "203.0.113.66"
THINKS = 0.4
"""Seconds that the honest reply takes."""
PER_KIND = 60
ORIGINS: dict[str, Literal["other port", "other host"]] = {
    "port": "other port",
    "host": "other host",
}


def forged(query: Query) -> bytes:
    """What the attacker would have the client believe, if he saw the query."""
    return b.reply(query, [(None, 3600, query.rdtype, POISON)])


def changed(wire: bytes, offset: int, mask: int) -> bytes:
    """One octet of a message changed."""
    return wire[:offset] + bytes([wire[offset] ^ mask]) + wire[offset + 1 :]


def other_case(wire: bytes, random: Random) -> bytes:
    """The letters of the question in another case: at least one is wrong."""
    end = wire.index(b"\0", 12)
    letters = [place for place in range(12, end) if chr(wire[place]).isalpha()]
    for place in random.sample(letters, random.randint(1, len(letters))):
        wire = changed(wire, place, 0x20)
    return wire


def flood(kinds: dict[str, int], honest: Behaviour) -> Behaviour:
    """Send so many forgeries of each kind at once, and the honest reply in its time."""

    def behave(query: Query) -> list[Action]:
        random = Random(query.wire)
        wire = forged(query)
        packets: list[Action] = []
        for kind, count in kinds.items():
            for _ in range(count):
                if kind == "id":
                    packets.append(Send(random.randbytes(2) + wire[2:]))
                elif kind == "flags":
                    packets.append(Send(changed(wire, 2, 0x80)))
                elif kind == "question":
                    packets.append(Send(changed(wire, 13, 0x01)))
                elif kind == "short":
                    packets.append(Send(wire[: random.randint(2, 11)]))
                elif kind == "case":
                    packets.append(Send(other_case(wire, random)))
                else:
                    packets.append(Send(wire, origin=ORIGINS[kind]))
        random.shuffle(packets)
        return [*packets, *honest(query)]

    return b.by_transport(behave, honest)


def rejections(text: str) -> dict[str, int]:
    """What the program counted, by reason."""
    found = re.findall(r'upstream_rejected_total\{reason="(\w+)",upstream="[^"]*"\} (\d+)', text)
    return {reason: int(float(count)) for reason, count in found}


@pytest.mark.parametrize("kind", ["flags", "question", "short", "port", "host"])
def test_a_flood_of_one_kind(build: BuildTestbed, kind: str) -> None:
    """Nothing is believed, each packet that arrives is counted, and the honest reply is taken."""
    target = "www.example-bank.example."
    spoofed = flood({kind: PER_KIND}, own_answer(0, after=THINKS))
    testbed = build([b.by_name({target: spoofed}, own_answer(0))])
    testbed.ask("known.example.")  # of one that has answered before, silence is not about EDNS
    reply = testbed.ask(target)
    assert set(reply.addresses) == set(own_set(0))
    assert reply.seconds >= THINKS - 0.05
    arrives = kind not in ("port", "host")
    counted = rejections(testbed.program.metrics().text)
    assert counted.get(kind, 0) == (PER_KIND if arrives else 0)
    assert sum(counted.values()) == counted.get(kind, 0)
    assert [query.transport for query in testbed.upstreams[0].asked(target)] == ["udp"]


@pytest.mark.parametrize(
    ("kind", "reason"), [("id", "flood"), ("case", "case")], ids=["guessed IDs", "known IDs"]
)
def test_whoever_comes_close_drives_us_to_tcp(build: BuildTestbed, kind: str, reason: str) -> None:
    """Guesses at the ID on the right port, or the right ID without our case: TCP has the answer."""
    testbed = build([flood({kind: PER_KIND}, own_answer(0, after=0.05))])
    reply = testbed.ask("www.example-bank.example.")
    assert set(reply.addresses) == set(own_set(0))
    assert [query.transport for query in testbed.upstreams[0].queries] == ["udp", "tcp"]
    samples = testbed.program.metrics()
    assert samples.value("staggerdns_upstream_repeated_total", reason=reason) == 1


@pytest.mark.long
def test_all_at_once_for_many_names(build: BuildTestbed) -> None:
    """Thirty names, five upstreams that all are spoofed in every way: no client sees the poison."""
    kinds = dict.fromkeys(("id", "flags", "question", "short", "case", "port", "host"), 6)
    testbed = build([flood(kinds, own_answer(index, after=0.05)) for index in range(5)])
    every = {address for index in range(5) for address in own_set(index)}
    for number in range(30):
        reply = testbed.ask(f"name{number}.example-bank.example.")
        assert reply.addresses
        assert set(reply.addresses) <= every
    testbed.program.check_log()


@pytest.mark.long
def test_entropy_of_queries(build: BuildTestbed) -> None:
    """What forgers must guess is really there: IDs, ports, case and cookies differ."""
    testbed = build([own_answer(0)])
    for number in range(400):
        testbed.ask(f"n{number}.entropy.example.")
    queries = testbed.upstreams[0].queries
    ids = {query.wire[:2] for query in queries}
    ports = {query.source.port for query in queries}
    cased = [query.wire[12:].split(b"\0")[0] for query in queries]
    assert len(ids) > 390
    assert len(ports) >= 8
    assert max(ports) - min(ports) > 10_000
    upper = sum(octet in b"ENTROPYXAMPL" for name in cased for octet in name)
    letters = sum(chr(octet).isalpha() for name in cased for octet in name)
    assert 0.45 < upper / letters < 0.55
    assert all(query.parsed.options for query in queries)


def test_the_odds_in_the_documentation() -> None:
    """docs/security.rst computes with the numbers that the code has."""
    from staggerdns.upstream.datagram import LOWEST_PORT, MAX_REJECTED, SOCKETS  # noqa: PLC0415

    text = (ROOT / "docs" / "security.rst").read_text(encoding="utf-8")
    assert f"{65536 - LOWEST_PORT:,} ports" in text
    assert f"up to {SOCKETS} sockets" in text
    assert f"{MAX_REJECTED} / 65536" in text
    letters = sum(map(str.isalpha, "www.example.com"))
    once = 1e5 / ((65536 - LOWEST_PORT) * 65536 * 2**letters)
    assert f"({letters} letters)" in text
    assert f"``{once:.1e}``".replace("e-09", "e-9") in text
    assert f"``{MAX_REJECTED / 65536 / 2**letters:.1e}``".replace("e-08", "e-8") in text


@pytest.mark.parametrize("code", ["FORMERR", "NOTIMP"])
def test_errors_without_a_question(build: BuildTestbed, code: str) -> None:
    """Twelve octets with the right ID cost nothing: TCP is asked, and the right reply awaited."""

    def behave(query: Query) -> list[Action]:
        bare = query.wire[:2] + b"\x81" + bytes([0x80 | dns.rcode.from_text(code)]) + bytes(8)
        # Who forges cannot do so over TCP; there the upstream would be heard out.
        first = query.transport == "udp" and query.name.startswith("attacked")
        return [*([Send(bare)] if first else []), *own_answer(0)(query)]

    testbed = build([behave])
    for number in range(5):
        for label in ("attacked", "quiet"):
            assert testbed.ask(f"{label}{number}.example.").addresses
    assert all(query.parsed.edns == 0 for query in testbed.upstreams[0].queries)


def test_replies_that_come_twice(build: BuildTestbed) -> None:
    """An upstream that says everything twice is no attacker: nothing goes over TCP."""
    testbed = build([b.twice(own_answer(0))])
    for number in range(100):
        assert testbed.ask(f"n{number}.twice.example.").addresses
    assert {query.transport for query in testbed.upstreams[0].queries} == {"udp"}
