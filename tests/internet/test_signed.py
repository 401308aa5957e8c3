"""A signed set in its ranked order is still a signed set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit import daemons
from tests.kit.clients import eventually
from tests.kit.internet.hosts import by_distance, near
from tests.kit.internet.testbed import SHORT
from tests.kit.ports import free_endpoints
from tests.kit.program import Program
from tests.kit.signed import delv, sign

if TYPE_CHECKING:
    from pathlib import Path

_TOP = """\
@ 300 SOA ns host 7 3600 600 86400 60
@ 300 NS ns
alias 300 CNAME www
"""


def test_a_ranked_set_is_validated(tmp_path: Path, host: int) -> None:
    """Delv validates what ranking has put in order, and shows it so; what was forged stays so."""
    pool = [near(12 + 17 * (index * 5 % 7), host) for index in range(7)]
    order = by_distance(pool)
    assert pool != order
    addresses = "".join(f"www 300 A {address}\nforged 300 A {address}\n" for address in pool)
    zone = sign("zone.example.", f"{_TOP}{addresses}forged 300 A 203.0.113.66\n")
    far = near(200, host)
    upstreams = free_endpoints(2, first=61)
    settings = {"ranking": {"enabled": True}, "log": {"level": "debug"}}
    with (
        daemons.nsd(
            tmp_path / "nsd", {zone.origin: zone.text.replace("203.0.113.66", far)}, upstreams
        ),
        Program(tmp_path / "program", upstreams, settings) as program,
    ):

        def said(name: str) -> str:
            return delv(tmp_path, program.endpoint, zone, name, "A")

        def ranked(name: str, order: list[str], *, cd: bool) -> bool:
            reply = program.ask(name, do=True, cd=cd, payload=1232)
            assert "RRSIG" in reply.types
            return reply.addresses == order and reply.ttl > SHORT

        for name in ("www.zone.example.", "alias.zone.example."):
            assert "fully validated" in said(name)  # before ranking, and
            for cd in (True, False):
                eventually(lambda: ranked(name, order, cd=cd), timeout=8)  # noqa: B023
            assert "fully validated" in said(name)  # after it
            lines = [line.split() for line in said(name).splitlines() if "\tA\t" in line]
            assert [line[-1] for line in lines] == order
        name = "forged.zone.example."
        assert "resolution failed" in said(name)
        eventually(lambda: ranked(name, [*order, far], cd=True), timeout=8)
        assert "resolution failed" in said(name)
