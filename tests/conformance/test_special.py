"""Special names and the hosts file, in the running program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.clients import dig, eventually
from tests.kit.octets import by_hash
from tests.kit.testbed import Testbed

if TYPE_CHECKING:
    from pathlib import Path

SWITCHES = {
    "localhost": "www.localhost.",
    "invalid": "www.invalid.",
    "test": "www.test.",
    "mdns": "printer.local.",
    "onion": "www.onion.",
    "home_arpa": "nas.home.arpa.",
    "resolver_arpa": "_dns.resolver.arpa.",
    "private_reverse": "1.0.168.192.in-addr.arpa.",
}


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_nothing_leaks(testbed: Testbed, tcp: bool) -> None:
    """By default no upstream hears of a special name, asked plainly, with DO or with CD."""
    for kind, name in SWITCHES.items():
        for rdtype in ("A", "PTR", "HTTPS", "NS", "ANY"):
            for do in (False, True):
                reply = testbed.ask(name, rdtype, tcp=tcp, do=do, cd=do, ad=True)
                nothing = kind not in ("localhost", "resolver_arpa")
                assert reply.rcode == ("NXDOMAIN" if nothing else "NOERROR")
                assert not reply.flag("AD")
                soa = reply.authority("SOA")
                assert (soa is None) == bool(reply.message.answer)
        assert sum(testbed.counts(name)) == 0


def test_switched_off(tmp_path: Path) -> None:
    """Special names that are switched off are asked upstream as any other."""
    settings = {"local": dict.fromkeys(SWITCHES, False)}
    with Testbed(tmp_path / "off", [by_hash] * 2, settings) as testbed:
        for name in SWITCHES.values():
            assert testbed.ask(name).rcode == "NOERROR"
            assert max(testbed.counts(name)) == 1


def test_the_hosts_file(tmp_path: Path) -> None:
    """Names of the hosts file are answered from it, and a change of the file is seen soon."""
    path = tmp_path / "hosts"
    path.write_text("192.168.7.1 nas.home.arpa nas\nfd00::7 nas\nnonsense\n10.0.0.1 www.example\n")
    with Testbed(tmp_path / "testbed", [by_hash] * 2, {"local": {"hosts": str(path)}}) as testbed:
        server = testbed.program.endpoint
        assert dig(server, "nas", "+short") == "192.168.7.1\n"
        assert dig(server, "nas", "AAAA", "+short", "+tcp") == "fd00::7\n"
        assert dig(server, "-x", "192.168.7.1", "+short") == "nas.home.arpa.\n"
        assert dig(server, "-x", "fd00::7", "+short") == "nas.\n"
        assert testbed.ask("www.example.").addresses == ["10.0.0.1"]
        nodata = testbed.ask("www.example.", "HTTPS")
        assert (nodata.rcode, nodata.types) == ("NOERROR", [])
        assert nodata.authority("SOA") is not None
        assert testbed.counts("www.example.") == [0, 0]
        assert testbed.program.log.count("is '3: nonsense'") == 1
        path.write_text("192.168.7.2 nas\n")
        eventually(lambda: testbed.ask("nas.").addresses, lambda found: found == ["192.168.7.2"])
        assert testbed.ask("www.example.").addresses != ["10.0.0.1"]
