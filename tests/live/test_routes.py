"""Routes with real servers: nsd inside, unbound outside, whose query log tells what it has seen."""

from __future__ import annotations

import contextlib
import re
import signal
from typing import TYPE_CHECKING, Self

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import dig, eventually
from tests.kit.daemons import nsd, unbound
from tests.kit.ports import Endpoint, free_endpoint, free_endpoints
from tests.kit.program import Program, run_to_end
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

SOA = "@ 5 SOA ns admin 1 3600 600 86400 5\n@ 5 NS ns\nns 5 A 127.0.0.1\n"
CORP = SOA + "www 1 A 10.1.0.1\nwww 1 A 10.1.0.2\nlong 300 A 10.1.0.3\nmail 300 MX 10 www\n"
CORP += "alias 300 CNAME host.lab.example.\n"
LAB = SOA + "host 300 A 10.2.0.1\n"
REVERSE = SOA + "1.0.1 300 PTR www.corp.example.\n"
WORLD = SOA + "www 1 A 203.0.113.1\n*.many 300 A 203.0.113.2\n"
FORBIDDEN = re.compile(r"corp\.example|lab\.example|10\.in-addr", re.IGNORECASE)


class Site:
    """Two servers inside, one outside with a query log, and the program in front of them."""

    def __init__(self, directory: Path, *, fallback: bool = False) -> None:
        self.directory = directory
        self.corp, self.lab = free_endpoints(2)
        self.outside = free_endpoint()
        self._stack = contextlib.ExitStack()
        self._fallback = fallback
        self.log = directory / "outside" / "unbound.log"

    def __enter__(self) -> Self:
        with self._stack as stack:
            directory, world = self.directory, free_endpoint()
            self.corp_server = stack.enter_context(
                nsd(
                    directory / "corp",
                    {"corp.example": CORP, "10.in-addr.arpa": REVERSE},
                    [self.corp],
                )
            )
            stack.enter_context(nsd(directory / "lab", {"lab.example": LAB}, [self.lab]))
            stack.enter_context(nsd(directory / "world", {"example": WORLD}, [world]))
            stack.enter_context(
                unbound(directory / "outside", self.outside, [world], "log-queries: yes")
            )
            route = {
                "domains": ["corp.example", "10.in-addr.arpa"],
                "servers": [str(self.corp), str(self.lab)],
                "fallback": self._fallback,
            }
            self.program = stack.enter_context(
                Program(
                    directory / "program",
                    [self.outside],
                    {"routes": [route], "upstream": {"timeout": "500ms"}},
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def short(self, *arguments: str) -> list[str]:
        """What dig shows of an answer, line by line."""
        return sorted(dig(self.program.endpoint, "+short", *arguments).splitlines())

    def seen(self) -> list[str]:
        """The queries that the server outside has logged."""
        lines = self.log.read_text().lower().splitlines()  # the case of letters is random
        return [line for line in lines if " in" in line]


def test_split_dns(tmp_path: Path) -> None:
    """Names and reverse names inside come from inside, an alias with what it leads to there."""
    with Site(tmp_path) as site:
        for _ in range(2):
            assert site.short("www.corp.example.") == ["10.1.0.1", "10.1.0.2"]
            assert site.short("mail.corp.example.", "MX") == ["10 www.corp.example."]
            assert site.short("-x", "10.1.0.1") == ["www.corp.example."]
            assert site.short("alias.corp.example.") == ["10.2.0.1", "host.lab.example."]
            assert site.short("www.example.") == ["203.0.113.1"]
            assert "NXDOMAIN" in dig(site.program.endpoint, "no.corp.example.")
        dig(site.program.endpoint, "corp.example.", "DS")
        seen = site.seen()
    assert any("www.example" in line for line in seen)
    assert [line for line in seen if FORBIDDEN.search(line)] == []


def test_an_internal_name_is_never_seen_outside(tmp_path: Path) -> None:
    """Whatever happens to the servers inside, while stale answers are refreshed and new names are
    asked; the query log of the server outside is the witness.
    """
    with Site(tmp_path) as site:
        known = site.short("www.corp.example.")
        number = 0

        def ask_all() -> None:
            nonlocal number
            number += 1
            for name in (f"new{number}.corp.example.", f"{number}.alias.corp.example."):
                status = dig(site.program.endpoint, name)
                assert "status: NOERROR" not in status
            # What was there before is given stale, with a refresh behind it.
            assert site.short("www.corp.example.") == known
            assert site.short(f"a{number}.many.example.") == ["203.0.113.2"]

        site.corp_server.send_signal(signal.SIGSTOP)
        ask_all()
        ask_all()
        site.corp_server.send_signal(signal.SIGCONT)
        assert eventually(lambda: site.short("long.corp.example."), lambda got: got == ["10.1.0.3"])
        site.corp_server.terminate()
        site.corp_server.wait(10)
        ask_all()
        ask_all()
        for behaviour in (b.silent, b.rcode("SERVFAIL"), b.rcode("REFUSED"), b.garbage()):
            with ScriptedUpstream(behaviour, Endpoint(*site.corp)):
                ask_all()
        assert site.program.health() == 200
        seen = site.seen()
    assert sum("many.example" in line for line in seen) >= 8
    assert [line for line in seen if FORBIDDEN.search(line)] == []


def test_fallback(tmp_path: Path) -> None:
    """Where it is wanted, the server outside is asked, once the servers inside have failed."""
    with Site(tmp_path, fallback=True) as site:
        assert site.short("long.corp.example.") == ["10.1.0.3"]
        assert [line for line in site.seen() if FORBIDDEN.search(line)] == []
        site.corp_server.terminate()
        site.corp_server.wait(10)
        assert "NXDOMAIN" in dig(site.program.endpoint, "other.corp.example.")
        seen = eventually(
            site.seen, lambda lines: any("other.corp.example" in one for one in lines)
        )
    assert not any("long.corp.example" in line for line in seen)


@pytest.mark.parametrize("text", ["corp..example\n", "\0binary", "<html>\n"])
def test_a_bad_file_of_domains(tmp_path: Path, text: str) -> None:
    """The program does not start, and says in one line what is wrong with which file."""
    path = tmp_path / "domains"
    path.write_text(text)
    configuration = tmp_path / "staggerdns.yaml"
    configuration.write_text(
        "upstream: {servers: [127.0.0.1]}\n"
        f"routes: [{{domain_files: ['{path}'], servers: [127.0.0.1]}}]\n"
    )
    done = run_to_end(configuration, tmp_path)
    assert done.returncode == 1
    assert f"routes[0].domain_files[0]: {path} " in done.stdout + done.stderr
