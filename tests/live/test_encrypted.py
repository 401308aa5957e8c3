"""The program with encrypted upstreams, by address and by name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.kit import behaviours as b
from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import ask_many, eventually
from tests.kit.daemons import encrypted_unbound
from tests.kit.ports import free_endpoint
from tests.kit.program import Program
from tests.kit.scripted import ScriptedUpstream
from tests.kit.testbed import PATIENT, SOON, own_answer, own_set, unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from tests.kit.ports import Endpoint

ANSWER = "203.0.113.53"


class Encrypted(NamedTuple):
    """An unbound that serves DoT and DoH as dns.example, and whose word to take for it."""

    tls: Endpoint
    https: Endpoint
    ca: Path

    def settings(self, **upstream: Any) -> dict[str, Any]:
        """Settings of a program that trusts it."""
        return {"log": {"level": "debug"}, "upstream": {"tls_ca": str(self.ca), **upstream}}


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """The server."""
    directory = tmp_path_factory.mktemp("encrypted")
    authority = CertificateAuthority(directory / "authority")
    certificate = authority.issue("dns.example", "127.0.0.1")
    plain, tls, https = free_endpoint(), free_endpoint(), free_endpoint()
    with encrypted_unbound(directory, plain, certificate, tls, https):
        yield Encrypted(tls, https, authority.ca)


def test_by_address(encrypted: Encrypted, tmp_path: Path) -> None:
    """DoT and DoH upstreams answer, each over one connection, and appear in the metrics."""
    upstreams = [
        f"tls://{encrypted.tls}#dns.example",
        f"https://{encrypted.https}/dns-query#dns.example",
    ]
    with Program(tmp_path, upstreams, encrypted.settings()) as program:
        for _ in range(20):
            assert program.ask(unique_name("enc")).addresses == [ANSWER]
        metrics = program.metrics()
        for upstream in upstreams:
            found = metrics.find("staggerdns_upstream_connects_total", upstream=upstream)
            assert [(sample.labels["result"], sample.value) for sample in found] == [("full", 1)]
            labels = {"upstream": upstream, "result": "positive"}
            assert metrics.value("staggerdns_upstream_seconds_count", **labels) == 20


def test_by_name(encrypted: Encrypted, tmp_path: Path) -> None:
    """Names of upstreams are looked up through `upstream.bootstrap`, both kinds of address."""
    with (
        ScriptedUpstream(b.answers("127.0.0.1")) as resolver,
        Program(
            tmp_path,
            [
                f"tls://dns.example:{encrypted.tls.port}",
                f"https://dns.example:{encrypted.https.port}/dns-query{{?dns}}",
            ],
            encrypted.settings(bootstrap=[str(resolver.endpoint)]),
        ) as program,
    ):
        assert resolver.queries == []
        for _ in range(5):
            assert program.ask(unique_name("named")).addresses == [ANSWER]
        # That there is no AAAA may be the first that it says, and is checked in lower case then.
        asked = [(query.name, query.rdtype) for query in resolver.queries]
        assert set(asked) == {("dns.example.", "A"), ("dns.example.", "AAAA")}
        assert asked.count(("dns.example.", "A")) == 1
        assert len(asked) <= 3
        assert program.metrics().value("staggerdns_bootstrap_lookups_total", outcome="found") == 1
        assert "dns.example is at 127.0.0.1" in program.log


def test_dead_bootstrap_delays_nobody(encrypted: Encrypted, tmp_path: Path) -> None:
    """With a dead bootstrap the program is up at once, and those that have addresses answer.

    When the bootstrap comes to life, the upstream with a name works, too.
    """
    dead = free_endpoint()
    with ScriptedUpstream(own_answer(0)) as plain:
        start = time.monotonic()
        with Program(
            tmp_path,
            [f"tls://dns.example:{encrypted.tls.port}", str(plain.endpoint)],
            encrypted.settings(
                bootstrap=[str(dead)],
                health={"degraded_after": 999, "unhealthy_after": 999},
                **PATIENT["upstream"],
            ),
        ) as program:
            assert time.monotonic() - start < 15
            for _ in range(3):
                reply = program.ask(unique_name("dead"))
                assert set(reply.addresses) == set(own_set(0))
                assert reply.seconds < SOON
            with ScriptedUpstream(b.answers("127.0.0.1"), dead):
                wanted = {*own_set(0), ANSWER}

                def works() -> bool:
                    name = unique_name("alive")
                    program.ask(name)
                    time.sleep(0.1)
                    return set(program.ask(name).addresses) == wanted

                eventually(works, timeout=8)


def test_never_in_plain_text(encrypted: Encrypted, tmp_path: Path) -> None:
    """A certificate for another name means SERVFAIL, one line in the log, and a metric."""
    where = f"tls://{encrypted.tls}#other.example"
    with Program(tmp_path, [where], encrypted.settings()) as program:
        for _ in range(3):
            assert program.ask(unique_name("wrong")).rcode == "SERVFAIL"
        labels = {"upstream": where, "result": "certificate"}
        assert program.metrics().value("staggerdns_upstream_connects_total", **labels) >= 1
        line = f"upstream {where}: certificate not accepted: it is not for other.example"
        assert program.log.count(line) == 1


def test_a_crowd(encrypted: Encrypted, tmp_path: Path) -> None:
    """Many clients at once share the connection."""
    where = f"tls://{encrypted.tls}#dns.example"
    with Program(tmp_path, [where], encrypted.settings()) as program:
        for _ in range(3):
            replies = ask_many(program.endpoint, unique_name("crowd"), 50)
            assert all(reply.addresses == [ANSWER] for reply in replies)
        assert program.metrics().value("staggerdns_upstream_connects_total") == 1
