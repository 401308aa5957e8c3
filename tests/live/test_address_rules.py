"""Rules about addresses, against the running program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import dig, eventually

if TYPE_CHECKING:
    from .conftest import BuildTestbed

RULES = {"addresses": {"ignore": ["198.51.100.0/24"], "bogus_nxdomain": ["203.0.113.7"]}}


def test_ignored_and_bogus(build: BuildTestbed) -> None:
    """Clients get what is left, what others say where nothing is, and NXDOMAIN for the hijacker."""
    testbed = build([b.answers("198.51.100.1"), b.answers("203.0.113.1")], RULES)
    endpoint = testbed.program.endpoint
    for _ in range(2):
        assert dig(endpoint, "+short", "www.example.").split() == ["203.0.113.1"]
    mixed = testbed.route("mixed", b.answers("198.51.100.2", "203.0.113.2"))
    assert dig(endpoint, "+short", mixed).split() == ["203.0.113.2"]
    poisoned = testbed.route("poisoned", b.answers("198.51.100.3"))
    text = dig(endpoint, poisoned)
    assert "status: SERVFAIL" in text
    assert "ignored addresses" in text
    hijacked = testbed.route("hijacked", b.answers("203.0.113.7"))
    text = dig(endpoint, hijacked)
    assert "status: NXDOMAIN" in text
    assert "SOA" in text
    # They are counted when the collections end.
    samples = eventually(
        testbed.program.metrics,
        lambda samples: samples.value("staggerdns_addresses_ignored_total") >= 3,
    )
    assert samples.value("staggerdns_bogus_nxdomain_total") >= 1
    assert samples.value("staggerdns_upstream_changes_total") == 0
