"""Hints of HTTPS answers, in the order in which clients of the test internet have to wait for them
(docs/specification.rst, Hints).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.internet.hosts import Kind, near, near6, special
from tests.kit.internet.testbed import SHORT
from tests.kit.services import hinted

if TYPE_CHECKING:
    from tests.internet.conftest import BuildTestbed
    from tests.kit.internet.world import World


def test_hints_in_order(build: BuildTestbed, world: World, host: int) -> None:
    """The nearest first in each hint, where echoes do not tell by connections to the port of the
    record; all else as it came, and under DO the hints too.
    """
    testbed = build(upstreams=2)
    silent = [special(Kind.TCP_ONLY, distance, host % 16) for distance in (90, 30)]
    four = [near(120, host), *silent, near(60, host)]
    six = [near6(80, host), near6(20, host)]
    hints = f"ipv4hint={','.join(four)} ipv6hint={','.join(six)}"
    record = (None, 300, "HTTPS", f"1 . alpn=h2 port=8443 {hints} key65000=kept")
    name = testbed.everywhere("hints", b.records(record))
    signed = testbed.ask(name, "HTTPS", do=True)
    testbed.ask(name, "HTTPS")
    reply = eventually(
        lambda: testbed.ask(name, "HTTPS", payload=1232),
        lambda reply: reply.ttl > SHORT,
        timeout=6,
    )
    in_order = [[four[2], four[3], four[1], four[0]], six[::-1]]
    assert hinted(reply.message) == in_order
    for addresses in (four, six):
        seen = world.probes(addresses)
        assert {method.removesuffix(" again") for method, _ in seen} <= {"icmp", "tcp:8443"}
    assert all(world.probes(silent)["tcp:8443", one] for one in silent)
    came, given = [
        one.message.answer[0][0].to_text().replace(addresses, "")
        for one, addresses in (
            (signed, ",".join(four)),
            (reply, ",".join(in_order[0])),
        )
    ]
    assert came.replace(",".join(six), "") == given.replace(",".join(six[::-1]), "")
    assert hinted(testbed.ask(name, "HTTPS", do=True).message) == [four, six]
