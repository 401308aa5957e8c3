"""What upstreams are told of where clients are, and what comes of it, in the running program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.edns

from tests.kit.clients import UdpClient, question
from tests.kit.program import Program
from tests.kit.scripted import ScriptedUpstream
from tests.kit.subnets import NOTHING, OFF, by_subnet, subnets, told
from tests.kit.testbed import unique_name

if TYPE_CHECKING:
    from pathlib import Path

HERE, THERE = "192.0.2.0/24", "198.51.100.0/24"
TABLE = {HERE: "203.0.113.1", THERE: "203.0.113.2", OFF: "203.0.113.3", NOTHING: "203.0.113.4"}


def test_one_resolver_for_several_subnets(tmp_path: Path) -> None:
    """The pool holds what it says for each; it is told these and never the client's, and the client
    hears nothing of them. Metrics tell the upstreams apart. A route of other subnets has other
    answers, of the same names too.
    """
    with ScriptedUpstream(by_subnet(TABLE)) as resolver:
        where = f"{resolver.endpoint}"
        group = {"clients": ["127.0.0.2/32"], "routes": [
            {"domains": ["example"], "servers": [f"{where};ecs={THERE}"]}
        ]}  # fmt: skip
        servers = [f"{where};ecs={HERE}", f"{where};ecs=off", where]
        with Program(tmp_path, servers, {"groups": {"others": group}}) as program:
            qname = unique_name("subnets")
            with UdpClient(program.endpoint) as client:
                client.send(question(qname, options=[dns.edns.ECSOption("10.1.2.0", 24)]))
                first = client.receive()
            assert first.addresses
            assert subnets(first.message) == []
            program.pool(qname, {TABLE[HERE], TABLE[OFF], TABLE[NOTHING]})
            elsewhere = program.ask(qname, source="127.0.0.2")
            assert elsewhere.addresses == [TABLE[THERE]]
            assert set(program.ask(qname).addresses) == {TABLE[HERE], TABLE[OFF], TABLE[NOTHING]}
            asked = sorted(told(query.parsed) for query in resolver.asked(qname))
            assert asked == sorted(TABLE)
            found = program.metrics().find("staggerdns_upstream_inflight")
            labels = {sample.labels["upstream"] for sample in found}
            assert labels == {*servers, f"{where};ecs={THERE}"}
