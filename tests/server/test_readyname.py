"""The name that tells balancers whether the server is ready for queries."""

from __future__ import annotations

import dns.edns
import dns.message
import dns.rcode
import pytest

from staggerdns.journal import Journal
from staggerdns.lifecycle import Lifecycle
from staggerdns.server.local import READY, LocalNames
from staggerdns.settings.records import read_records
from staggerdns.settings.sections import LocalSettings
from staggerdns.wire.constants import Ede
from tests.kit.factory import FRIEND, STRANGER, MemoryServer
from tests.kit.messages import client_query, texts


def extended_errors(reply: dns.message.Message) -> list[dns.edns.EDEOption]:
    """The extended errors in a reply."""
    return [option for option in reply.options if isinstance(option, dns.edns.EDEOption)]


class Drainable(MemoryServer):
    """A server and its lifecycle."""

    def __init__(self, settings: LocalSettings | None = None) -> None:
        self.lifecycle = Lifecycle(Journal())
        super().__init__(
            local=LocalNames(settings or LocalSettings(), None, self.lifecycle),
        )


@pytest.fixture
def server() -> Drainable:
    """A server that serves."""
    server = Drainable()
    server.lifecycle.serve()
    return server


@pytest.mark.parametrize(
    ("rdtype", "data"),
    [("A", "A 127.0.0.1"), ("AAAA", "AAAA ::1"), ("TXT", 'TXT "ready"'), ("ANY", "A 127.0.0.1")],
)
@pytest.mark.parametrize("name", ["ready.staggerdns.invalid.", "Ready.StaggerDNS.INVALID."])
def test_ready(server: Drainable, name: str, rdtype: str, data: str) -> None:
    """It has an answer that nobody may keep, for whoever may ask, with or without RD."""
    for flags in (0x0100, 0):
        query = bytearray(client_query(name, rdtype))
        query[2:4] = flags.to_bytes(2, "big")
        reply = server.reply(bytes(query))
        assert dns.rcode.to_text(reply.rcode()) == "NOERROR"
        assert texts(reply.answer) == [f"{name} 0 {data}"]
    assert not server.forwarder.asked


def test_other_types(server: Drainable) -> None:
    """They have no data, and nobody may keep that either."""
    reply = server.reply(client_query(READY, "MX"))
    assert dns.rcode.to_text(reply.rcode()) == "NOERROR"
    assert not reply.answer
    assert [record.ttl for record in reply.authority] == [0]


def test_each_change_is_seen_at_once(server: Drainable) -> None:
    """The same query, again and again: no reply is kept ready."""
    query = client_query(READY, payload=1232)
    fresh = Drainable()
    assert dns.rcode.to_text(fresh.reply(query).rcode()) == "SERVFAIL", "it is starting"
    lifecycle, seen = server.lifecycle, []
    for step in (lifecycle.drain, lifecycle.resume, lifecycle.stop, lifecycle.resume):
        seen.append(dns.rcode.to_text(server.reply(query).rcode()))
        step()
    reply = server.reply(query)
    seen.append(dns.rcode.to_text(reply.rcode()))
    assert seen == ["NOERROR", "SERVFAIL", "NOERROR", "SERVFAIL", "SERVFAIL"]
    assert len(server.factory.ready["udp"]) == 0
    assert not reply.answer
    assert [(int(error.code), error.text) for error in extended_errors(reply)] == [
        (int(Ede.NOT_READY), "stopping")
    ]


@pytest.mark.parametrize(
    "settings",
    [
        LocalSettings(invalid=False),
        LocalSettings(records=read_records({READY: "192.0.2.1", "*.invalid": "192.0.2.2"})),
    ],
    ids=["invalid", "records"],
)
def test_nothing_takes_its_place(settings: LocalSettings) -> None:
    """Neither the settings of special names nor records of the configuration."""
    server = Drainable(settings)
    server.lifecycle.serve()
    assert texts(server.reply(client_query(READY)).answer) == [f"{READY}. 0 A 127.0.0.1"]
    server.lifecycle.drain()
    assert dns.rcode.to_text(server.reply(client_query(READY)).rcode()) == "SERVFAIL"


@pytest.mark.parametrize(
    "name", ["staggerdns.invalid", "x.ready.staggerdns.invalid", "ready.staggerdns.invalid.example"]
)
def test_names_beside_it(server: Drainable, name: str) -> None:
    """They are what they were."""
    query = client_query(name)
    reply, expected = (
        one.factory.serve(query, FRIEND, "udp", 0.0) for one in (server, MemoryServer())
    )
    assert type(reply) is type(expected)
    assert not isinstance(expected, bytes) or reply == expected


def test_who_may_not_ask(server: Drainable) -> None:
    """Strangers learn nothing."""
    reply = server.reply(client_query(READY), STRANGER)
    assert dns.rcode.to_text(reply.rcode()) == "REFUSED"


def test_another_class(server: Drainable) -> None:
    """There is such a name in class IN alone."""
    reply = server.reply(client_query(READY, "TXT", rdclass="CH"))
    assert dns.rcode.to_text(reply.rcode()) == "REFUSED"


def test_without_a_lifecycle() -> None:
    """Where nobody knows of one the name is like any other below ``invalid``."""
    reply = MemoryServer().reply(client_query(READY))
    assert dns.rcode.to_text(reply.rcode()) == "NXDOMAIN"
