"""Lists in the whole program: what is blocked, for which types, and what clients get instead
(docs/specification.rst, Lists).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.edns
import dns.flags
import dns.rdatatype
import pytest

from staggerdns.policy.blocking import ANSWERS, BLOCKED_TTL, NULL_ADDRESS
from staggerdns.server.request import STREAMS
from staggerdns.wire.constants import Ede
from tests.kit.acts import (
    CNAME,
    NXDOMAIN,
    SOA,
    Act,
    fails,
    gives,
    name,
    record,
    reply,
    says,
)
from tests.kit.factory import STRANGER
from tests.kit.listed import ListedProgram
from tests.kit.messages import edes
from tests.kit.routed import CLIENT, INSIDE, PUBLIC, own_address

if TYPE_CHECKING:
    from pathlib import Path

    import dns.message

    from staggerdns.wire.question import Question

NULL = {"A": ["0.0.0.0"], "AAAA": ["::"]}
TYPES = ("A", "AAAA", "HTTPS", "SVCB", "TXT", "MX", "NS", "DS", "CNAME", "ANY", "TYPE65280")
DNAME, HTTPS = 39, 65
ADS = "ads.example"
REAL = "203.0.113.7"


def blocked_by(message: dns.message.Message) -> list[str]:
    """The lists that a reply names."""
    assert set(edes(message)) <= {Ede.BLOCKED}
    found = [option for option in message.options if isinstance(option, dns.edns.EDEOption)]
    return [str(option.text) for option in found]


def counted(running: ListedProgram) -> dict[tuple[str, ...], int]:
    """How many queries have been blocked, by list and group."""
    return {kind: count for kind, count in running.metrics.blocked.values().items() if count}


def program(*lines: str, answer: str = NULL_ADDRESS, **more: Any) -> ListedProgram:
    """A program whose list ``ads`` has these lines."""
    made = ListedProgram(ads=f"{{answer: {answer}}}", **more)
    made.lists.put(ads=lines or [ADS])
    return made


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("rdtype", TYPES)
def test_what_clients_get(answer: str, rdtype: str) -> None:
    """For every type the same: the four answers, each with the list in its error, and an SOA where
    there is nothing else; nobody is asked.
    """
    running = program(answer=answer)
    for qname in (ADS, f"a.b.{ADS}"):
        asked = running.ask(qname, rdtype, payload=1232)
        message = asked.reply
        null = NULL.get(rdtype) if answer == NULL_ADDRESS else None
        code = {"nxdomain": "NXDOMAIN", "refused": "REFUSED"}.get(answer, "NOERROR")
        assert asked.result == (null or [code])
        assert blocked_by(message) == ["ads"]
        assert message.flags & dns.flags.RA
        records = [*message.answer, *message.authority]
        assert {one.ttl for one in records} == (set() if answer == "refused" else {BLOCKED_TTL})
        expected = [] if answer == "refused" or null else [dns.rdatatype.SOA]
        assert [one.rdtype for one in message.authority] == expected
        if answer == "nxdomain":
            assert str(message.authority[0].name) == qname.partition(".")[2] + "."
        elif expected:
            assert str(message.authority[0].name) == qname + "."
    assert running.launched == []
    assert counted(running) == {("ads", "default"): 2}


@pytest.mark.parametrize("answer", ANSWERS)
def test_without_an_opt_record(answer: str) -> None:
    """The reply is the same, but nobody is told by whom."""
    running = program(answer=answer)
    message = running.ask(ADS).reply
    assert (message.edns, message.additional) == (-1, [])


def test_what_is_not_blocked() -> None:
    """Other names, and all before there is a list; letters do not matter."""
    running = ListedProgram(ads="{}")
    assert running.answer(ADS) == [own_address(PUBLIC)]
    running.lists.put(ads=[ADS])
    assert running.answer("example") == [own_address(PUBLIC)]
    assert running.answer("xads.example") == [own_address(PUBLIC)]
    assert running.answer("X.aDs.eXample") == ["0.0.0.0"]


def test_without_recursion_desired() -> None:
    """What needs nobody to be asked is said to them, too."""
    assert program().ask(ADS, rd=False).result == ["0.0.0.0"]


def test_only_those_who_may_ask() -> None:
    """Nobody else hears of lists."""
    running = program()
    assert edes(running.ask(ADS, payload=1232, client=STRANGER).reply) == [Ede.PROHIBITED]


def test_allow_comes_before_block() -> None:
    """An exception in the list itself, and a list that is chosen to allow, whatever is longer."""
    running = ListedProgram(
        groups="{default: {block: [ads, others], allow: [good]}}",
        ads="{}",
        good="{answer: refused}",
        others="{answer: nxdomain}",
    )
    running.lists.put(
        ads=[ADS, f"@@||fine.{ADS}^"], good=[f"ok.{ADS}"], others=[ADS, "y.example", f"x.ok.{ADS}"]
    )
    assert running.answer(ADS) == ["0.0.0.0"]
    assert running.answer("y.example") == ["NXDOMAIN"]
    for qname in (f"fine.{ADS}", f"x.fine.{ADS}", f"ok.{ADS}", f"x.ok.{ADS}"):
        assert running.answer(qname) == [own_address(PUBLIC)]


def test_a_list_that_nobody_chose() -> None:
    """It has no effect."""
    running = ListedProgram(groups="{default: {}}", ads="{}")
    running.lists.put(ads=[ADS])
    assert running.answer(ADS) == [own_address(PUBLIC)]


def test_the_order(tmp_path: Path) -> None:
    """Hosts file and records come first, for what they have; routes and special names behind."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"192.0.2.99 nas.{ADS} hosted.example\n")
    running = program(
        *(ADS, "routed.example", "1.10.in-addr.arpa", "www.test", "hosted.example"),
        routes=f"{{domains: [routed.example, 10.in-addr.arpa], servers: [{INSIDE}]}}",
        more="ranking: {enabled: false}\n"
        f"local: {{hosts: '{hosts}', records: {{printer.{ADS}: 192.0.2.98}}}}\n",
    )
    assert running.answer(f"nas.{ADS}") == ["192.0.2.99"]
    assert running.answer(f"printer.{ADS}") == ["192.0.2.98"]
    assert running.answer(f"printer.{ADS}", "TXT") == ["NOERROR"]
    assert blocked_by(running.ask("hosted.example", "MX", payload=1232).reply) == ["ads"]
    assert running.answer("www.routed.example") == ["0.0.0.0"]
    assert blocked_by(running.ask("1.1.10.in-addr.arpa", "PTR", payload=1232).reply) == ["ads"]
    assert running.answer("www.test") == ["0.0.0.0"]
    assert running.answer("localhost") == ["127.0.0.1"]
    assert running.launched == []


def test_names_below_that_are_ours(tmp_path: Path) -> None:
    """A name that is blocked as if there were none exists all the same where we know names below it
    (RFC 8020), asked for or led to.
    """
    hosts = tmp_path / "hosts"
    hosts.write_text(f"192.0.2.99 nas.{ADS} nas.www.example\n")
    more = f"ranking: {{enabled: false}}\nlocal: {{hosts: '{hosts}'}}\n"
    running = program(answer="nxdomain", more=more)
    assert running.answer(ADS) == ["NOERROR"]
    assert running.answer(f"x.{ADS}") == ["NXDOMAIN"]
    running.script(PUBLIC, says(5, REAL, cname_chain=[ADS]))
    assert running.answer("www.example") == ["NOERROR"]
    assert running.answer("else.example") == ["NXDOMAIN"]


# CNAMEs that lead to what is blocked.


def chain(*targets: str, rtype: int = 1, data: bytes = bytes(4), ttl: int = 300) -> Act:
    """Answer with a record of any type at the end of a chain."""

    def answer(question: Question) -> bytes:
        owner, records = b"\xc0\x0c", []
        for target in targets:
            records.append(record(owner, CNAME, ttl, name(target)))
            owner = name(target)
        return reply(question, [*records, record(owner, rtype, ttl, data)])

    return Act(5, answer)


def absent(*targets: str, rcode: int = NXDOMAIN) -> Act:
    """Answer that there is nothing at the end of a chain."""
    soa = record(name("example"), SOA, 60, name("ns.example") * 2 + bytes(19) + b"\x3c")

    def answer(question: Question) -> bytes:
        owner, records = b"\xc0\x0c", []
        for target in targets:
            records.append(record(owner, CNAME, 60, name(target)))
            owner = name(target)
        return reply(question, records, [soa], rcode=rcode)

    return Act(5, answer)


CHAINS: dict[str, tuple[str, Act]] = {
    "addresses": ("A", says(5, REAL, cname_chain=["cdn.example", f"A.{ADS}", "end.example"])),
    "the last name": ("A", says(5, REAL, cname_chain=["cdn.example", ADS])),
    "IPv6": ("AAAA", says(5, "2001:db8::1", cname_chain=[ADS])),
    "text": ("TXT", chain("cdn.example", ADS, rtype=16, data=b"\1x")),
    "a service": ("HTTPS", chain(ADS, rtype=HTTPS, data=b"\0\1\0")),
    "an unknown type": ("TYPE65280", chain(ADS, rtype=65280, data=b"x")),
    "no data": ("TXT", absent("cdn.example", ADS, rcode=0)),
    "no name": ("A", absent(ADS, "end.example")),
    "the CNAME itself": ("CNAME", gives(5, CNAME, name(ADS))),
    "a DNAME": (
        "TXT",
        Act(
            5,
            lambda question: reply(
                question,
                [
                    record(name("example"), DNAME, 300, name(ADS)),
                    record(name(f"www.{ADS}"), 16, 300, b"\1x"),
                ],
            ),
        ),
    ),
}


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("kind", CHAINS)
def test_answers_that_lead_to_what_is_blocked(kind: str, do: bool) -> None:
    """They are blocked as the name would be, whatever their type: fresh, cached and stale."""
    rdtype, act = CHAINS[kind]
    running = program(answer="nodata")
    running.script(PUBLIC, act)
    fresh = running.ask("www.example", rdtype, do=do, payload=1232)
    running.wait(100)
    replies = [fresh.reply, running.ask("www.example", rdtype, do=do, payload=1232).reply]
    launched = len(running.launched)
    running.script(PUBLIC, fails(5))
    running.wait(400_000)
    replies.append(running.ask("www.example", rdtype, do=do, payload=1232).reply)
    for message in replies:
        assert (message.rcode(), message.answer) == (0, [])
        assert [(one.rdtype, one.ttl) for one in message.authority] == [(SOA, BLOCKED_TTL)]
        assert blocked_by(message) == ["ads"]
    assert launched == 1
    assert counted(running) == {("ads", "default"): 3}


@pytest.mark.parametrize("blocked_first", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_upstreams_that_lead_by_different_names(blocked_first: bool, same: bool) -> None:
    """Whoever answers first: when a name is blocked that one of them leads through, so is the pool.
    Before that answer has come nobody knows.
    """
    servers = "{domains: [shop.example], servers: [10.0.1.1, 10.0.1.2]}"
    running = program(routes=servers)
    clean, blocked = (20, 5) if blocked_first else (5, 20)
    running.script("10.0.1.1", says(clean, REAL, cname_chain=["cdn.example"]))
    other = REAL if same else own_address("10.0.1.2")
    running.script("10.0.1.2", says(blocked, other, cname_chain=[ADS]))
    first = running.answer("www.shop.example")
    assert first == (NULL["A"] if blocked_first else [REAL])
    running.wait(2_000)
    assert running.answer("www.shop.example") == NULL["A"]
    running.lists.put(ads=["else.example"])
    assert set(running.answer("www.shop.example")) == {REAL, other}
    running.close()


def test_what_a_chain_leads_to_in_four_ways() -> None:
    """Each answer of lists stands at the name that was asked for, without the chain."""
    for answer in ANSWERS:
        running = program(answer=answer)
        running.script(PUBLIC, says(5, REAL, cname_chain=[ADS]))
        asked = running.ask("www.example")
        running.wait(100)
        expected = {"nxdomain": ["NXDOMAIN"], "nodata": ["NOERROR"], "refused": ["REFUSED"]}
        assert asked.result == expected.get(answer, ["0.0.0.0"])
        assert [str(one.name) for one in asked.reply.answer] == ["www.example."] * (
            answer == NULL_ADDRESS
        )


@pytest.mark.parametrize(
    ("rdtype", "act"),
    [
        ("HTTPS", gives(5, HTTPS, b"\0\1" + name(ADS))),
        ("MX", gives(5, 15, b"\0\1" + name(ADS))),
        ("A", says(5, REAL, cname_chain=["example"])),
        ("TXT", chain("example", rtype=16, data=b"\1x")),
    ],
)
def test_names_that_are_no_chain(rdtype: str, act: Act) -> None:
    """What an answer names else does not count: who follows it asks for it."""
    running = program()
    running.script(PUBLIC, act)
    asked = running.ask("www.example", rdtype, payload=1232)
    running.wait(100)
    assert asked.reply.answer
    assert edes(asked.reply) == []


def test_allowed_names_and_chains() -> None:
    """A target that is allowed blocks nothing; a name that is allowed may lead anywhere."""
    running = program(ADS, "all.example", f"@@||good.{ADS}^", "@@||shop.all.example^")
    running.script(PUBLIC, says(5, REAL, cname_chain=[f"good.{ADS}"]))
    assert running.answer("www.example") == [REAL]
    running.script(PUBLIC, says(5, REAL, cname_chain=[f"good.{ADS}", ADS]))
    assert running.answer("both.example") == ["0.0.0.0"]
    assert running.answer("www.shop.all.example") == [REAL]
    assert running.answer("www.shop.all.example") == [REAL]


def test_which_list_is_named() -> None:
    """That of the first target that is blocked; its answer is given."""
    running = ListedProgram(groups="{default: {block: [b, a]}}", a="{answer: refused}", b="{}")
    running.lists.put(a=["first.example"], b=["first.example", "second.example"])
    running.script(PUBLIC, says(5, REAL, cname_chain=["second.example", "first.example"]))
    assert running.answer("www.example") == ["0.0.0.0"]
    running.script(PUBLIC, says(5, REAL, cname_chain=["first.example", "second.example"]))
    assert running.answer("other.example") == ["REFUSED"]


def test_new_lists_count_for_what_is_cached() -> None:
    """For names and for chains, at once, in both directions; nobody is asked again. The targets of
    an entry are looked up once for each set.
    """
    running = program("other.example")
    running.script(PUBLIC, says(5, REAL, cname_chain=["cdn.example", ADS]))
    first = running.lists.current
    for _ in range(3):
        assert running.answer("www.example") == [REAL]
    target = name(ADS)
    assert first.asked.count(target) == 1
    second = running.lists.put(ads=[ADS])
    for _ in range(3):
        assert running.answer("www.example") == ["0.0.0.0"]
    assert second.asked.count(target) == 1
    running.lists.put(ads=["www.example"])
    assert running.answer("www.example") == ["0.0.0.0"]
    running.lists.put(ads=["other.example"])
    assert running.answer("www.example") == [REAL]
    assert len(running.launched) == 1


@pytest.mark.parametrize("transport", ["udp", *STREAMS])
def test_ready_replies_are_void(transport: str) -> None:
    """No reply that was made under other lists is given again."""
    running = program("other.example")
    for _ in range(2):
        running.answer("www.example", transport=transport)
    assert running.ask("www.example", transport=transport).ready
    running.lists.put(ads=["www.example"])
    for _ in range(2):
        asked = running.ask("www.example", transport=transport)
        assert not asked.ready
        assert asked.result == ["0.0.0.0"]
    running.lists.put()
    asked = running.ask("www.example", transport=transport)
    assert (asked.ready, asked.result) == (False, [own_address(PUBLIC)])
    assert running.ask("www.example", transport=transport).ready


def test_blocked_replies_are_never_ready() -> None:
    """So that each is counted, those of chains included."""
    running = program()
    running.script(PUBLIC, says(5, REAL, cname_chain=[ADS]))
    for number in range(4):
        for qname in (ADS, "www.example"):
            asked = running.ask(qname)
            running.wait(100)
            assert not asked.ready
        assert counted(running) == {("ads", "default"): 2 * number + 2}


KID, LAB = "10.2.0.7", "10.3.0.7"
GROUPS = """{
  default: {block: [ads], allow: [good]},
  kids: {clients: [10.2.0.0/16], block: [games]},
  lab: {clients: [10.3.0.0/16], block: []},
}"""


def test_groups() -> None:
    """Each has lists of its own, and what it does not say as the default group has it; they share
    what is cached, and nothing that is ready.
    """
    running = ListedProgram(groups=GROUPS, ads="{}", games="{answer: refused}", good="{}")
    running.lists.put(ads=[ADS], games=["game.example", "fun.example"], good=["fun.example"])
    running.script(PUBLIC, says(5, REAL, cname_chain=[ADS]))
    expected = {
        CLIENT: {"www.example": "0.0.0.0", ADS: "0.0.0.0", "game.example": "0.0.0.0"},
        KID: {"www.example": REAL, ADS: REAL, "game.example": "REFUSED", "fun.example": REAL},
        LAB: {"www.example": REAL, ADS: REAL, "game.example": REAL},
    }
    for _ in range(3):
        for client, names in expected.items():
            for qname, result in names.items():
                assert running.answer(qname, client=client) == [result]
    assert counted(running) == {("ads", "default"): 9, ("games", "kids"): 3}
    assert [*running.metrics.blocked.values()] == [("ads", "default"), ("games", "kids")]
    assert len(running.launched) == len({"www.example", ADS, "game.example", "fun.example"})


def test_another_order_keeps_what_is_known() -> None:
    """It is no reason to look the targets up again."""
    running = program("other.example")
    found = running.lists.current
    running.script(PUBLIC, says(5, REAL, "203.0.113.8", cname_chain=[ADS]))
    running.answer("www.example")
    ((key, entry),) = running.chain.cache.entries.items()
    assert running.chain.cache.reorder(key, entry, entry.answer.addresses[::-1], None) is not None
    assert running.answer("www.example") == ["203.0.113.8", REAL]
    assert found.asked.count(name(ADS)) == 1


def test_lists_that_come_while_an_answer_is_awaited() -> None:
    """What its chain leads to is judged by those that are in force when it comes."""
    running = program("other.example")
    running.script(PUBLIC, says(50, REAL, cname_chain=[ADS]))
    before = running.ask("www.example")
    running.lists.put(ads=[ADS])
    running.wait(100)
    assert before.result == ["0.0.0.0"]
    running.script(PUBLIC, says(50, REAL, cname_chain=[f"x.{ADS}"]))
    running.lists.put(ads=["other.example"])
    both = running.ask(ADS)
    running.lists.put(ads=[ADS])
    running.wait(100)
    assert both.result == ["0.0.0.0"], "the name itself is blocked by now, too"
    other = running.ask("second.example")
    running.lists.put(ads=["other.example"])
    running.wait(100)
    assert other.result == [REAL]


def test_a_refresh_behind_a_blocked_answer() -> None:
    """It brings what is there now; a chain that leads elsewhere by then is not blocked any more."""
    running = program()
    running.script(PUBLIC, says(5, REAL, cname_chain=[ADS], ttl=10))
    assert running.answer("www.example") == ["0.0.0.0"]
    running.script(PUBLIC, says(5, REAL, cname_chain=["cdn.example"], ttl=10))
    running.wait(20_000)
    assert running.answer("www.example") == ["0.0.0.0"]
    assert running.answer("www.example") == [REAL]


# Names of our own that lead to what is blocked.


def test_a_record_that_leads_to_what_is_blocked() -> None:
    """The target is blocked as if it had been asked for, and so is what it leads to in turn."""
    records = f"{{own.example: {{cname: {ADS}}}, far.example: {{cname: www.example}}}}"
    more = f"ranking: {{enabled: false}}\nlocal: {{hosts: null, records: {records}}}\n"
    for answer, result in (
        (NULL_ADDRESS, ["0.0.0.0"]),
        ("nxdomain", ["NXDOMAIN"]),
        ("nodata", ["NOERROR"]),
        ("refused", ["REFUSED"]),
    ):
        running = program(answer=answer, more=more)
        running.script(PUBLIC, says(5, REAL, cname_chain=[ADS]))
        for qname in ("own.example", "far.example"):
            for _ in range(2):
                asked = running.ask(qname, payload=1232)
                running.wait(100)
                assert asked.result == result
                assert blocked_by(asked.reply) == ["ads"]
                shown = [one.rdtype for one in asked.reply.answer]
                assert shown == ([CNAME] * (answer != "refused") + [1] * (answer == NULL_ADDRESS))
        assert running.names(PUBLIC) == {"www.example"}
