"""Families of addresses in the whole program: what its clients get, and when
(docs/specification.rst, Families).
"""

from __future__ import annotations

import dns.rcode
import dns.rdatatype
import pytest

from staggerdns.wire.constants import Type
from staggerdns.wire.question import Question
from tests.kit.acts import Act, negative, record, reply, says
from tests.kit.clients import addresses
from tests.kit.commands import do
from tests.kit.messages import wire_data
from tests.kit.probing import established
from tests.kit.routed import PUBLIC, RoutedProgram
from tests.kit.services import hinted

NAME = "www.example"
FOUR, SIX = "203.0.113.4", "2606:4700::6"
HTTPS = f"1 . alpn=h2 ipv4hint={FOUR} ipv6hint={SIX}"
RANKING = "ranking: {probes: ['tcp:443'], samples: 1}\nlocal: {hosts: null}\n"
ELSEWHERE, KID = "10.9.0.7", "10.2.0.7"
NODATA = ["NOERROR"]


def both_families(after: float = 5, ttl: int = 3600) -> Act:
    """Answer with one address of each family, and with an HTTPS record that hints at both."""

    def answer(question: Question) -> bytes:
        if question.qtype == Type.HTTPS:
            data = wire_data("HTTPS", HTTPS)
            return reply(question, [record(b"\xc0\x0c", question.qtype, ttl, data)])
        address = {Type.A: FOUR, Type.AAAA: SIX}.get(Type(question.qtype))
        act = says(0, address, ttl=ttl) if address else negative(0, rcode=0)
        assert act.reply is not None
        return act.reply(question)

    return Act(after, answer)


class Program(RoutedProgram):
    """A program whose handshakes with IPv4 addresses take 20 ms, and with IPv6 as long as it says;
    0 is for ever.
    """

    def __init__(self, families: str, *, routes: str = "", more: str = "", six: int = 80) -> None:
        super().__init__(routes, more=f"families: {families}\n{RANKING}{more}")
        self.six = six
        self._connected = 0
        self.script(PUBLIC, both_families())

    def connect(self) -> None:
        """Have all handshakes succeed that may, and let their time pass."""
        for _ in range(10):
            opened = self.clock.tcpClients[self._connected :]
            self._connected += len(opened)
            self.wait(100)
            for host, _, factory, *_ in opened:
                microseconds = 1000 * (self.six if ":" in host else 20)
                if microseconds:
                    established(factory, microseconds)
            self.wait(1_000)

    def known(self, name: str = NAME, **more: str) -> None:
        """Have somebody ask for both families, and all be found out."""
        for _ in range(2):
            for rdtype in ("A", "AAAA", "HTTPS"):
                self.answer(name, rdtype, **more)
            self.connect()

    def services(self, **more: str) -> list[list[str]]:
        """The hints that a client gets."""
        asked = self.ask(NAME, "HTTPS", **more)
        self.wait(100)
        return hinted(asked.reply)


def test_nothing_by_default() -> None:
    """Clients get both families, and nobody compares them."""
    program = Program("{prefer: none}", six=0)
    program.known()
    assert program.answer(NAME, "AAAA") == [SIX]
    assert program.services() == [[FOUR], [SIX]]
    assert program.clock.tcpClients == []


@pytest.mark.parametrize(("six", "given"), [(80, NODATA), (0, NODATA), (30, [SIX])])
def test_suppressed(six: int, given: list[str]) -> None:
    """IPv6 that is far, that does not connect, and that is as near."""
    program = Program("{prefer: auto}", six=six)
    assert program.answer(NAME, "AAAA") == [SIX], "never in a first answer"
    program.known()
    for _ in range(3):  # ready ones too
        assert program.answer(NAME, "AAAA") == given
        assert program.answer(NAME) == [FOUR]
        assert program.services() == ([[FOUR]] if given == NODATA else [[FOUR], [SIX]])


def test_a_lost_handshake_is_repeated() -> None:
    """Twice, before an address counts as silent."""
    program = Program("{prefer: auto}", six=0)
    program.known()
    hosts = [host for host, *_ in program.clock.tcpClients]
    assert (hosts.count(FOUR), hosts.count(SIX)) == (1, 3)


def test_a_first_answer_again() -> None:
    """Where the cache has nothing any more the answer is as it came, whatever was decided."""
    more = "cache: {max_stale: 0, prefetch: {enabled: false}}\n"
    program = Program("{prefer: auto}", more=more)
    program.script(PUBLIC, both_families(ttl=60))
    program.known()
    assert program.answer(NAME, "AAAA") == NODATA
    program.wait(61_000)
    program.answer(NAME)
    assert program.answer(NAME, "AAAA") == [SIX]
    assert program.answer(NAME, "AAAA") == NODATA


def test_the_reply() -> None:
    """NODATA with an SOA at the name and the short TTL, in both places."""
    program = Program("{prefer: auto}")
    program.known()
    asked = program.ask(NAME, "AAAA")
    assert asked.reply.rcode() == dns.rcode.NOERROR
    assert asked.reply.answer == []
    (soa,) = asked.reply.authority
    assert (str(soa.name), soa.rdtype, soa.ttl) == (NAME + ".", dns.rdatatype.SOA, 5)


def test_while_it_is_found_out() -> None:
    """Clients come back soon: the TTL is short."""
    program = Program("{prefer: auto}", six=20)
    program.answer(NAME)
    for _ in range(3):
        asked = program.ask(NAME, "AAAA")
        program.wait(100)
        (answer,) = asked.reply.answer
        assert answer.ttl == 5
    program.connect()
    program.answer(NAME, "AAAA")
    (answer,) = program.ask(NAME, "AAAA").reply.answer
    assert answer.ttl > 500


def test_a_ready_reply_is_decided_again() -> None:
    """A second later at most, though the cache has the same entry."""
    program = Program("{prefer: auto}", six=20)
    program.known()
    assert program.answer(NAME, "AAAA") == [SIX]
    again = program.ask(NAME, "AAAA")
    assert again.ready
    program.six = 200
    program.wait(301_000)
    program.answer(NAME, "AAAA")
    program.connect()
    assert program.answer(NAME, "AAAA") == NODATA
    assert program.ask(NAME, "AAAA").ready


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "https"])
def test_never_with_do(transport: str) -> None:
    """Whoever validates gets all of it."""
    program = Program("{prefer: auto}")
    program.known()
    for _ in range(3):
        asked = program.ask(NAME, "AAAA", do=True, transport=transport)
        program.wait(100)
        assert addresses(asked.reply) == [SIX]
        asked = program.ask(NAME, "HTTPS", do=True, transport=transport)
        program.wait(100)
        assert hinted(asked.reply) == [[FOUR], [SIX]]
    assert program.answer(NAME, "AAAA", transport=transport) == NODATA


def test_one_family_alone() -> None:
    """A name without IPv4 addresses keeps those that it has."""
    program = Program("{prefer: auto}", six=0)
    address = says(5, SIX)
    empty = negative(5, rcode=0)

    def answer(question: Question) -> bytes:
        act = address if question.qtype == Type.AAAA else empty
        assert act.reply is not None
        return act.reply(question)

    program.script(PUBLIC, Act(5, answer))
    program.known()
    assert program.answer(NAME, "AAAA") == [SIX]


GROUPS = """
groups:
  ipv6only: {clients: [10.2.0.0/16], families: {prefer: none}}
"""


def test_a_group_of_clients_with_ipv6_alone() -> None:
    """It gets what others do not, of the same entry, ready replies too."""
    program = Program("{prefer: auto}", more=GROUPS)
    program.known()
    launched = len(program.launched)
    for _ in range(3):
        assert program.answer(NAME, "AAAA", client=KID) == [SIX]
        assert program.answer(NAME, "AAAA", client=ELSEWHERE) == NODATA
        assert program.services(client=KID) == [[FOUR], [SIX]]
        assert program.services(client=ELSEWHERE) == [[FOUR]]
    assert len(program.launched) == launched


def test_a_group_that_prefers() -> None:
    """The others get both; what the default group says counts for groups that say nothing."""
    more = "groups:\n  some: {clients: [10.2.0.0/16], families: {prefer: auto}}\n"
    program = Program("{prefer: none}", more=more)
    program.known(client=KID)
    assert program.answer(NAME, "AAAA", client=KID) == NODATA
    assert program.answer(NAME, "AAAA", client=ELSEWHERE) == [SIX]
    for margin, given in ((50, NODATA), (90, [SIX])):
        more = (
            f"groups:\n  some: {{clients: [10.2.0.0/16], families: {{margin: {margin}ms}}}}\n"
            "  default: {families: {prefer: auto}}\n"
        )
        program = Program("{prefer: none}", more=more)
        program.known()
        program.known(client=KID)
        assert program.answer(NAME, "AAAA", client=KID) == given
        assert program.answer(NAME, "AAAA", client=ELSEWHERE) == NODATA


def test_a_route() -> None:
    """It says so for its names; a group says so first."""
    route = "{domains: [example], servers: default, families: {prefer: auto}}"
    program = Program("{prefer: none}", routes=route, more=GROUPS)
    program.known()
    program.known("www.example.net")
    assert program.answer(NAME, "AAAA") == NODATA
    assert program.answer("www.example.net", "AAAA") == [SIX]
    assert program.answer(NAME, "AAAA", client=KID) == [SIX]


def test_behind_an_alias_of_ours() -> None:
    """The name that it leads to decides; the CNAME is given."""
    more = "local: {hosts: null, records: {alias.lan: {cname: www.example}}}\n"
    settings = f"families: {{prefer: auto}}\n{RANKING}".replace("local: {hosts: null}\n", more)
    program = Program("{prefer: none}")
    program.change(more=settings)
    program.known()
    for _ in range(2):
        asked = program.ask("alias.lan", "AAAA")
        assert [str(rrset).split()[3:] for rrset in asked.reply.answer] == [["CNAME", f"{NAME}."]]
        (soa,) = asked.reply.authority
        assert str(soa.name) == NAME + "."
    assert program.answer("alias.lan") == [FOUR]


def test_why() -> None:
    """It says that the addresses are not given, and to whom; asking for that decides nothing."""
    program = Program("{prefer: auto}", more=GROUPS)
    for rdtype in ("HTTPS", "A", "AAAA"):
        program.answer(NAME, rdtype)

    def suppressed(rdtype: str = "AAAA", **more: str) -> bool:
        answer = do(program, "why", name=NAME, type=rdtype, **more)["answer"]
        assert [one["address"] for one in answer["addresses"]] == {
            "A": [FOUR], "AAAA": [SIX], "HTTPS": []
        }[rdtype]  # fmt: skip
        found: bool = answer["suppressed"]
        return found

    for rdtype in ("AAAA", "HTTPS"):
        assert not suppressed(rdtype)
    assert program.clock.tcpClients == []
    program.known()
    for rdtype in ("AAAA", "HTTPS"):
        assert suppressed(rdtype)
        assert not suppressed(rdtype, client=KID)
    assert not suppressed("A")


def test_a_reload() -> None:
    """What another configuration says counts at once, and nothing is asked for anew."""
    program = Program("{prefer: none}")
    program.known()
    launched = len(program.launched)
    assert program.answer(NAME, "AAAA") == [SIX]
    program.change(more=f"families: {{prefer: auto}}\n{RANKING}")
    program.answer(NAME, "AAAA")
    program.connect()
    assert program.answer(NAME, "AAAA") == NODATA
    program.change(more=f"families: {{prefer: auto, margin: 70ms}}\n{RANKING}")
    assert program.answer(NAME, "AAAA") == [SIX]
    program.change(more=f"families: {{prefer: auto, margin: 30ms}}\n{RANKING}")
    assert program.answer(NAME, "AAAA") == NODATA, "what is known of handshakes stays"
    assert program.metrics.families_suppressed.values()[()] > 0
    program.change(more=f"families: {{prefer: none}}\n{RANKING}")
    assert program.answer(NAME, "AAAA") == [SIX]
    assert program.metrics.families_suppressed.values() == {(): 0}
    assert len(program.launched) == launched
