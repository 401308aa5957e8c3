"""Records of the operator's own, on a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.flags
import pytest
from twisted.internet.task import Clock

from staggerdns.journal import Journal
from staggerdns.server.hosts import Hosts
from staggerdns.server.local import LocalNames
from staggerdns.server.records import RECORDS_TTL
from staggerdns.settings.records import read_records
from staggerdns.settings.sections import LocalSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import FailureAnswer, LocalNegativeAnswer
from staggerdns.wire.constants import Ede, Rcode
from staggerdns.wire.question import Question
from tests.kit.clients import parse
from tests.kit.factory import MemoryServer, pool
from tests.kit.messages import (
    ask,
    client_query,
    edes,
    sections_answer,
    texts,
    upstream_reply,
    wire_name,
)

RECORDS: dict[str, Any] = {
    "nas.home.example": "192.168.1.10",
    "*.dev.example": ["192.168.1.20", "fd00::20"],
    "old.example": {"cname": "new.example"},
    "older.example": {"cname": "old.example"},
    "alias.example": {"cname": "nas.home.example"},
    "far.example": {"cname": "alias.example"},
    "self.example": {"cname": "localhost"},
    "gone.example": {"cname": "no.invalid"},
    "to.hosts.example": {"cname": "file.example"},
    "free.dev.example": {"cname": "free.dev.example"},
    "printer.local": "192.168.1.30",
    "second.example": "192.168.1.10",
    "localhost": "192.0.2.1",
    "both.example": "192.168.1.50",
}
HOSTS = b"192.168.1.40 file.example both.example 7.example\n192.168.1.30 hp.example\n"


def server(path: Path | None = None) -> MemoryServer:
    """A server with the records above and, at ``path``, a hosts file."""
    hosts = None
    if path is not None:
        path.write_bytes(HOSTS)
        hosts = Hosts(str(path), Clock(), Journal())
    return MemoryServer(local=LocalNames(LocalSettings(records=read_records(RECORDS)), hosts))


def says(found: MemoryServer, name: str, rdtype: str = "A") -> str | None:
    """What is answered here, in a line: records, or RCODE and SOA; `None` for upstream."""
    asked = len(found.forwarder.asked)
    message = client_query(name, rdtype)
    result = found.factory.serve(message, "192.0.2.77", "udp", found.clock.seconds())
    if len(found.forwarder.asked) > asked:
        return None
    assert isinstance(result, bytes)
    reply = parse(result)
    code = reply.rcode().name
    records = ", ".join(texts(reply.answer))
    if not reply.authority:
        return records
    (soa,) = reply.authority
    return ", ".join(filter(None, [records, f"{code} {soa.name} {soa.ttl}"]))


@pytest.mark.parametrize(
    ("name", "rdtype", "answer"),
    [
        ("nas.home.example.", "A", "nas.home.example. 60 A 192.168.1.10"),
        ("NAS.Home.Example.", "A", "NAS.Home.Example. 60 A 192.168.1.10"),
        # Nothing else is known of it, and nobody else is asked.
        ("nas.home.example.", "AAAA", "NOERROR nas.home.example. 60"),
        ("nas.home.example.", "MX", "NOERROR nas.home.example. 60"),
        ("nas.home.example.", "HTTPS", "NOERROR nas.home.example. 60"),
        ("nas.home.example.", "DS", "NOERROR nas.home.example. 60"),
        ("nas.home.example.", "CNAME", "NOERROR nas.home.example. 60"),
        ("nas.home.example.", "ANY", 'nas.home.example. 3600 HINFO "RFC8482" ""'),
        ("x.nas.home.example.", "A", None),
        ("home.example.", "A", None),
        ("a.dev.example.", "A", "a.dev.example. 60 A 192.168.1.20"),
        ("a.b.dev.example.", "AAAA", "a.b.dev.example. 60 AAAA fd00::20"),
        ("a.dev.example.", "TXT", "NOERROR a.dev.example. 60"),
        ("dev.example.", "A", None),
        ("free.dev.example.", "A", None),
        # A CNAME is the same for every type; its target is asked for like any name.
        ("old.example.", "CNAME", "old.example. 60 CNAME new.example."),
        ("old.example.", "A", None),
        ("old.example.", "MX", None),
        ("old.example.", "ANY", 'old.example. 3600 HINFO "RFC8482" ""'),
        (
            "alias.example.",
            "A",
            "alias.example. 60 CNAME nas.home.example., nas.home.example. 60 A 192.168.1.10",
        ),
        (
            "alias.example.",
            "MX",
            "alias.example. 60 CNAME nas.home.example., NOERROR nas.home.example. 60",
        ),
        (
            "far.example.",
            "A",
            (
                "far.example. 60 CNAME alias.example., alias.example. 60 CNAME nas.home.example., "
                "nas.home.example. 60 A 192.168.1.10"
            ),
        ),
        ("self.example.", "A", "self.example. 60 CNAME localhost., localhost. 600 A 127.0.0.1"),
        ("gone.example.", "A", "gone.example. 60 CNAME no.invalid., NXDOMAIN invalid. 60"),
        # Reverse names are those of the first that has the address; a hosts file may say others.
        (
            "10.1.168.192.in-addr.arpa.",
            "PTR",
            "10.1.168.192.in-addr.arpa. 60 PTR nas.home.example.",
        ),
        ("10.1.168.192.in-addr.arpa.", "TXT", "NOERROR 10.1.168.192.in-addr.arpa. 60"),
        ("20.1.168.192.in-addr.arpa.", "PTR", "NXDOMAIN 168.192.in-addr.arpa. 600"),
        ("1.168.192.in-addr.arpa.", "PTR", "NOERROR 1.168.192.in-addr.arpa. 600"),
        # In zones of ours, too.
        ("printer.local.", "A", "printer.local. 60 A 192.168.1.30"),
        ("printer.local.", "AAAA", "NOERROR printer.local. 60"),
        ("local.", "A", "NOERROR local. 600"),
        ("x.printer.local.", "A", "NXDOMAIN local. 600"),
        # localhost is what RFC 6761 says, whatever is written.
        ("localhost.", "A", "localhost. 600 A 127.0.0.1"),
    ],
)
def test_answers(name: str, rdtype: str, answer: str | None) -> None:
    """Records answer every type of their names; CNAMEs are followed as far as is known here."""
    assert says(server(), name, rdtype) == answer
    assert RECORDS_TTL == 60


@pytest.mark.parametrize(
    ("name", "rdtype", "answer"),
    [
        ("both.example.", "A", "both.example. 60 A 192.168.1.40"),
        ("both.example.", "AAAA", "NOERROR both.example. 60"),
        ("both.example.", "MX", "NOERROR both.example. 60"),
        ("file.example.", "MX", None),
        (
            "to.hosts.example.",
            "A",
            "to.hosts.example. 60 CNAME file.example., file.example. 60 A 192.168.1.40",
        ),
        ("to.hosts.example.", "MX", None),
        ("30.1.168.192.in-addr.arpa.", "PTR", "30.1.168.192.in-addr.arpa. 60 PTR hp.example."),
        ("50.1.168.192.in-addr.arpa.", "PTR", "50.1.168.192.in-addr.arpa. 60 PTR both.example."),
    ],
)
def test_behind_the_hosts_file(tmp_path: Path, name: str, rdtype: str, answer: str | None) -> None:
    """What the hosts file says counts more."""
    assert says(server(tmp_path / "hosts"), name, rdtype) == answer


def test_without_records_nothing_changes() -> None:
    """Then nobody looks for any."""
    found = MemoryServer(local=LocalNames(LocalSettings(), None))
    assert says(found, "nas.home.example.") is None


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("cached", [True, False])
def test_a_target_that_others_know(cached: bool, transport: str) -> None:
    """It is asked for as itself, once for all names that lead there; the CNAMEs are in front, in
    the letters of the question, from the cache and from ready replies as well.
    """
    found = server()
    target = ask("new.example.")
    if cached:
        found.commit(target, pool(2, ttl=300))
    message = client_query("OLDER.example.")
    expected = [
        "OLDER.example. 60 CNAME old.example.",
        "old.example. 60 CNAME new.example.",
        "new.example. 60 A 198.18.0.0",
        "new.example. 60 A 198.18.0.1",
    ]
    if not cached:
        replies = found.later(message, transport=transport)
        assert [one.key for one in found.forwarder.asked] == [target.key]
        found.forwarder.waiting[0].callback(found.commit(target, pool(2, ttl=300)))
        assert texts(parse(replies[0]).answer) == expected
    for _ in range(3):
        assert texts(found.reply(message, transport=transport).answer) == expected
        ready = found.factory.ready[transport].reply(message, "192.0.2.77", found.clock.seconds())
        assert ready is not None
        assert texts(parse(ready).answer) == expected
    assert len(found.forwarder.asked) == (not cached)
    # A new answer for the target is one for all names that lead there.
    found.commit(target, pool(1, ttl=20))
    assert texts(found.reply(message, transport=transport).answer)[2:] == [
        "new.example. 20 A 198.18.0.0"
    ]


def test_do_and_cd_are_those_of_the_question() -> None:
    """The target is asked for in the same way."""
    found = server()
    found.later(client_query("old.example.", "MX", do=True, cd=True))
    assert [one.key for one in found.forwarder.asked] == [
        ask("new.example.", "MX", do=True, cd=True).key
    ]


def test_other_types_behind_a_cname() -> None:
    """They are whole, and AD is not given."""
    found = server()
    asked = ask("new.example.", "MX")
    records = ["new.example. 300 MX 1 mail.new.example."]
    found.commit(asked, sections_answer(upstream_reply(asked, records, ad=True), asked))
    reply = found.reply(client_query("old.example.", "MX", ad=True))
    assert texts(reply.answer) == [
        "old.example. 60 CNAME new.example.",
        "new.example. 60 MX 1 mail.new.example.",
    ]
    assert not reply.flags & dns.flags.AD


def test_a_target_that_fails() -> None:
    """SERVFAIL says why, as it would for the target itself."""
    found = server()
    asked = ask("new.example.")
    found.commit(asked, FailureAnswer(Ede.NO_REACHABLE_AUTHORITY, 1, "timeout"))
    reply = found.reply(client_query("old.example.", payload=1232))
    assert (int(reply.rcode()), reply.answer) == (Rcode.SERVFAIL, [])
    assert edes(reply) == [Ede.NO_REACHABLE_AUTHORITY]


def test_a_target_that_is_not_there() -> None:
    """NXDOMAIN is about the target; but one that has names of ours below it exists (RFC 8020)."""
    found = server()
    denial = LocalNegativeAnswer(Rcode.NXDOMAIN, len(wire_name("example.")), 300)
    found.commit(ask("new.example."), denial)
    reply = found.reply(client_query("old.example."))
    assert int(reply.rcode()) == Rcode.NXDOMAIN
    assert texts(reply.answer) == ["old.example. 60 CNAME new.example."]
    for name, rcode in (
        ("home.example.", Rcode.NOERROR),
        ("dev.example.", Rcode.NOERROR),
        ("hometown.example.", Rcode.NXDOMAIN),
        ("free.dev.example.", Rcode.NXDOMAIN),
    ):
        found.commit(ask(name), denial)
        assert int(found.reply(client_query(name)).rcode()) == rcode


def test_a_question_without_recursion() -> None:
    """What is known here is answered; nothing is asked, and nothing told of the cache."""
    found = server()
    found.commit(ask("new.example."), pool())
    known = found.reply(client_query("alias.example.", rd=False))
    assert int(known.rcode()) == Rcode.NOERROR
    assert int(found.reply(client_query("old.example.", rd=False)).rcode()) == Rcode.REFUSED


def test_a_stale_target() -> None:
    """It is given stale, behind its CNAME, while it is asked for anew."""
    found = server()
    found.commit(ask("new.example."), pool(ttl=10))
    found.pass_time(20)
    reply = found.reply(client_query("old.example.", payload=1232))
    assert [one.rdtype.name for one in reply.answer] == ["CNAME", "A"]
    assert edes(reply) == [Ede.STALE_ANSWER]
    assert [one.key for one in found.forwarder.refreshed] == [ask("new.example.").key]


def test_more_addresses_than_fit() -> None:
    """Replies are cut to what the client takes, as those of pools are."""
    records = read_records({"many.example": [f"192.0.2.{number}" for number in range(200)]})
    found = MemoryServer(local=LocalNames(LocalSettings(records=records), None))
    reply = found.reply(client_query("many.example."))
    assert 20 < len(texts(reply.answer)) < 200
    assert not reply.flags & dns.flags.TC
    assert len(texts(found.reply(client_query("many.example."), transport="tcp").answer)) == 200


def test_a_pool_of_the_target_is_not_changed() -> None:
    """The cache keeps the target's answer as it came."""
    found = server()
    asked: Question = ask("new.example.")
    entry = found.commit(asked, pool(2))
    found.reply(client_query("old.example."))
    assert isinstance(entry.answer, AddressPool)
    assert entry.answer.cname_chain == ()
