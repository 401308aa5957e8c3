"""Names by routes, in the whole program: which upstreams see them, and what clients get
(docs/specification.rst, Scopes).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import dns.flags
import dns.rdatatype
import pytest
from twisted.logger import capturedLogs, formatEvent
from twisted.names import error as names_error

from staggerdns.policy.domainfiles import CHECK_EVERY
from staggerdns.resolver.collection import MAX_ALIASES
from staggerdns.upstream.reason import Reason
from staggerdns.wire.names import to_text
from tests.kit.acts import (
    CNAME,
    NOERROR,
    REFUSED,
    SILENT,
    A,
    Act,
    fails,
    garbles,
    name,
    negative,
    record,
    reply,
    says,
    unreachable,
)
from tests.kit.routed import (
    INSIDE,
    NO_RANKING,
    PUBLIC,
    SECOND_INSIDE,
    RoutedProgram,
    answers,
    own_address,
)

if TYPE_CHECKING:
    from pathlib import Path

    from staggerdns.wire.question import Question

CORP = f"{{domains: [corp.example], servers: [{INSIDE}]}}"
FAILURES: dict[str, Act] = {
    "silent": SILENT,
    "refused by ICMP": unreachable(5),
    "no route": unreachable(None, Reason.UNREACHABLE),
    "SERVFAIL": fails(5),
    "REFUSED": fails(5, REFUSED),
    "malformed": garbles(5),
}
POINTER = b"\xc0\x0c"
STRATEGIES = ("parallel", "racing", "sequential", "random", "auto")


def test_each_name_goes_to_its_route() -> None:
    """And the answers are what its own upstreams say, again from the cache."""
    program = RoutedProgram(
        f"{CORP}, {{domains: [public.corp.example], servers: default}},"
        f"{{domains: [lab.example, 10.in-addr.arpa], servers: [{SECOND_INSIDE}]}}"
    )
    places = {
        "www.example": PUBLIC,
        "corp.example": INSIDE,
        "a.b.corp.example": INSIDE,
        "x.public.corp.example": PUBLIC,
        "x.lab.example": SECOND_INSIDE,
        "acorp.example": PUBLIC,
    }
    for _ in range(2):
        for qname, host in places.items():
            assert program.answer(qname) == [own_address(host)]
    for host in (PUBLIC, INSIDE, SECOND_INSIDE):
        assert program.names(host) == {qname for qname in places if places[qname] == host}
    assert len(program.launched) == len(places)


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_internal_name_never_leaks(kind: str, strategy: str) -> None:
    """Whatever its upstreams do, clients get SERVFAIL, or what was there before; no other upstream
    ever sees the name.
    """
    program = RoutedProgram(
        f"{{domains: [corp.example], servers: [{INSIDE}, {SECOND_INSIDE}], strategy: {strategy}}}"
    )
    short = {host: answers(host, ttl=10) for host in (INSIDE, SECOND_INSIDE)}
    for host, act in short.items():
        program.script(host, act)
    program.answer("known.corp.example")
    known = program.answer("known.corp.example")  # with what came later
    assert set(known) <= {own_address(INSIDE), own_address(SECOND_INSIDE)}
    for host in short:
        program.script(host, FAILURES[kind])
    program.wait(20_000)
    asked = program.ask("new.corp.example")
    stale = program.answer("known.corp.example")
    program.wait(20_000)
    assert asked.result == ["SERVFAIL"]
    assert set(stale) == set(known)
    assert program.names(PUBLIC) == set()


def test_fallback() -> None:
    """Where that is wanted, the default upstreams are asked when all of the route have failed, and
    only then; the answer is kept.
    """
    program = RoutedProgram(
        f"{{domains: [corp.example], servers: [{INSIDE}, {SECOND_INSIDE}], fallback: true}}"
    )
    assert program.answer("good.corp.example")[0].startswith("203.0.0.5")
    program.script(INSIDE, fails(5))
    program.script(SECOND_INSIDE, negative(5))
    assert program.answer("no.corp.example") == ["NXDOMAIN"]
    assert program.names(PUBLIC) == set()
    program.script(SECOND_INSIDE, fails(40))
    assert program.answer("bad.corp.example") == [own_address(PUBLIC)]
    launched = len(program.launched)
    assert program.answer("bad.corp.example") == [own_address(PUBLIC)]
    assert program.names(PUBLIC) == {"bad.corp.example"}
    assert len(program.launched) == launched
    program.script(PUBLIC, fails(5))
    assert program.answer("worse.corp.example") == ["SERVFAIL"]
    assert [upstream.inflight for upstream in program.upstreams.values()] == [0] * 5
    program.close()
    assert program.clock.getDelayedCalls() == []


def test_fallback_keeps_what_is_stale() -> None:
    """When the default upstreams fail as well, the stale answer is given."""
    program = RoutedProgram(f"{{domains: [corp.example], servers: [{INSIDE}], fallback: true}}")
    program.script(INSIDE, answers(INSIDE, ttl=10))
    program.answer("www.corp.example")
    program.script(INSIDE, fails(5))
    program.script(PUBLIC, fails(5))
    program.wait(20_000)
    assert program.answer("www.corp.example") == [own_address(INSIDE)]
    program.wait(10_000)
    program.script(PUBLIC, answers(PUBLIC))
    program.answer("www.corp.example")
    assert program.answer("www.corp.example") == [own_address(PUBLIC)]


def test_routes_are_counted_apart() -> None:
    """Each by its first domain, else by its file or what it is there for: what its upstreams said,
    and how often others were asked in their place. Equal routes are one, and the names of none of
    them count nowhere.
    """
    program = RoutedProgram(
        f"{{domains: ['*.corp.example', more.example], servers: [{INSIDE}]}},"
        f"{{domains: [same.example], servers: [{INSIDE}]}},"
        f"{{domains: [lab.example], servers: [{SECOND_INSIDE}], fallback: true}},"
        f"{{single_label: true, servers: [{SECOND_INSIDE}]}}"
    )

    def counted() -> dict[tuple[str, str], int]:
        values = program.metrics.route_outcomes.values()
        return {labels: count for labels, count in values.items() if count}

    assert counted() == {}
    assert {route for route, _ in program.metrics.route_outcomes.values()} == {
        "*.corp.example", "lab.example", "single_label",
    }  # fmt: skip
    for qname in ("www.corp.example", "more.example", "same.example", "www.lab.example", "nas"):
        for _ in range(2):  # the second answer comes from the cache
            program.answer(qname)
    program.answer("www.example")
    program.script(INSIDE, negative(5))
    program.answer("no.corp.example")
    program.script(INSIDE, fails(5))
    program.script(SECOND_INSIDE, fails(5))
    program.answer("bad.corp.example")
    program.answer("bad.lab.example")
    program.answer("printer")
    program.wait(5_000)
    assert counted() == {
        ("*.corp.example", "positive"): 3,
        ("*.corp.example", "negative"): 1,
        ("*.corp.example", "failed"): 1,
        ("lab.example", "positive"): 1,
        ("lab.example", "fallback"): 1,
        ("single_label", "positive"): 1,
        ("single_label", "failed"): 1,
    }
    ended = sum(program.metrics.collection_outcomes.values().values())
    assert ended == sum(counted().values()) + 1


@pytest.mark.parametrize("kind", ["silent", "no route"])
def test_a_network_that_comes_back(kind: str) -> None:
    """After an hour without a way to the servers of a route, while others inside answer and their
    circuits have been opened for minutes, the next question is answered.
    """
    other = "10.0.0.99"
    program = RoutedProgram(
        f"{{domains: [corp.example], servers: [{INSIDE}, {SECOND_INSIDE}]}},"
        f"{{domains: [home.example], servers: [{other}]}}"
    )
    for host in (INSIDE, SECOND_INSIDE):
        program.script(host, FAILURES[kind])
    for number in range(60):
        asked = program.ask(f"n{number}.corp.example")
        assert program.answer(f"n{number}.home.example") == [own_address(other)]
        program.wait(60_000)
        assert asked.result == ["SERVFAIL"]
    for host in (INSIDE, SECOND_INSIDE):
        program.script(host, answers(host))
    assert program.answer("new.corp.example")[0] in map(own_address, (INSIDE, SECOND_INSIDE))
    assert program.names(PUBLIC) == set()


def test_a_stop_while_others_are_asked() -> None:
    """Whoever waits gets SERVFAIL, and nothing is left."""
    program = RoutedProgram(f"{{domains: [corp.example], servers: [{INSIDE}], fallback: true}}")
    program.script(INSIDE, fails(5))
    program.script(PUBLIC, SILENT)
    asked = program.ask("www.corp.example")
    program.wait(50)
    assert program.names(PUBLIC) == {"www.corp.example"}
    program.close()
    assert asked.result == ["SERVFAIL"]
    assert program.clock.getDelayedCalls() == []


def test_no_such_names() -> None:
    """NXDOMAIN with an SOA of the domain, for all types, and nobody is asked."""
    program = RoutedProgram("{domains: [void.example, '*.empty.example'], servers: []}")
    for qname, rdtype in (
        ("void.example", "A"),
        ("a.void.example", "TXT"),
        ("x.void.example", "ANY"),
    ):
        reply = program.ask(qname, rdtype).reply
        assert reply.rcode() == 3
        assert reply.flags & dns.flags.RA
        (soa,) = reply.authority
        assert (str(soa.name), soa.rdtype) == ("void.example.", dns.rdatatype.SOA)
    assert program.answer("a.empty.example") == ["NXDOMAIN"]
    assert program.answer("empty.example") == [own_address(PUBLIC)]
    single = RoutedProgram("{single_label: true, servers: []}")
    reply = single.ask("printer").reply
    assert (reply.rcode(), str(reply.authority[0].name)) == (3, ".")
    assert single.answer("printer", "HTTPS") == ["NXDOMAIN"]
    assert single.names(PUBLIC) == set()
    single.answer("printer", "NS")
    assert single.names(PUBLIC) == {"printer"}
    assert program.names(PUBLIC) == {"empty.example"}


def test_single_labels() -> None:
    """Names with one label go to the router, whatever the type; special names, the root, and what
    is asked of the zones of top-level domains do not.
    """
    program = RoutedProgram(f"{{single_label: true, servers: [{INSIDE}]}}")
    assert program.answer("nas") == [own_address(INSIDE)]
    assert program.answer("localhost") == ["127.0.0.1"]
    assert program.answer("test") == ["NXDOMAIN"]
    for rdtype in ("TXT", "HTTPS", "MX", "SRV"):
        program.answer(f"my{rdtype}", rdtype)
    for rdtype in ("NS", "SOA", "DS", "DNSKEY"):
        program.answer("com", rdtype)
    program.answer("", "NS")
    assert program.names(INSIDE) == {"nas", "mytxt", "myhttps", "mymx", "mysrv"}
    assert program.names(PUBLIC) == {"com", ""}


@pytest.mark.parametrize(
    ("domain", "qname"),
    [
        ("home.arpa", "nas.home.arpa"),
        ("test", "www.test"),
        ("local", "printer.local"),
        ("168.192.in-addr.arpa", "1.1.168.192.in-addr.arpa"),
        ("d.f.ip6.arpa", "1.d.f.ip6.arpa"),
    ],
)
def test_special_names(domain: str, qname: str) -> None:
    """A route for a special or reverse name takes the place of our own answer."""
    assert RoutedProgram(CORP).answer(qname) == ["NXDOMAIN"]
    program = RoutedProgram(f"{{domains: [{domain}], servers: [{INSIDE}]}}")
    assert program.answer(qname) == [own_address(INSIDE)]
    assert program.answer(domain) == [own_address(INSIDE)]
    assert program.names(INSIDE) == {qname, domain}


def test_the_hosts_file_comes_first(tmp_path: Path) -> None:
    """Before every route, one without names included."""
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.99 nas.corp.example nas.void.example\n")
    more = f"ranking: {{enabled: false}}\nlocal: {{hosts: '{hosts}'}}\n"
    program = RoutedProgram(f"{CORP}, {{domains: [void.example], servers: []}}", more=more)
    assert program.answer("nas.corp.example") == ["192.0.2.99"]
    assert program.answer("nas.void.example") == ["192.0.2.99"]
    assert program.answer("nas.void.example", "MX") == ["NOERROR"]
    assert program.answer("void.example") == ["NOERROR"]
    assert program.answer("x.void.example") == ["NXDOMAIN"]
    program.answer("nas.corp.example", "MX")
    assert program.names(INSIDE) == {"nas.corp.example"}


def test_the_ds_of_a_routed_domain() -> None:
    """It goes to the route, where the domain is known; those of parents do not."""
    program = RoutedProgram(CORP)
    program.answer("corp.example", "DS", do=True)
    program.answer("example", "DS", do=True)
    assert program.names(INSIDE) == {"corp.example"}
    assert program.names(PUBLIC) == {"example"}


def test_one_upstream_in_several_scopes() -> None:
    """It is made once, and its health counts wherever it is named."""
    program = RoutedProgram(
        f"{{domains: [a.example], servers: [{INSIDE}, {PUBLIC}]}},"
        f"{{domains: [b.example], servers: [{INSIDE}], strategy: sequential}}"
    )
    assert sorted(program.made) == sorted(["1.1.1.1", "8.8.8.8", INSIDE, PUBLIC])
    program.script(INSIDE, unreachable(5))
    for number in range(6):
        program.answer(f"n{number}.b.example")
    assert not program.upstreams[INSIDE].usable(program.clock.seconds())
    before = len(program.launched)
    assert program.answer("x.a.example") == [own_address(PUBLIC)]
    assert len(program.launched) == before + 1


def test_each_scope_has_rules_of_its_own() -> None:
    """Strategy, numbers, addresses given and rebinding are the route's."""
    hosts = [f"10.0.0.{number}" for number in range(1, 6)]
    listed = ", ".join(hosts)
    program = RoutedProgram(
        f"{{domains: [all.example], servers: [{listed}], parallel: {{active_tier_size: 5}}}},"
        f"{{domains: [one.example], servers: [{listed}], strategy: sequential,"
        " rebinding: {strip: true, allow_domains: [mine.one.example]},"
        " ranking: {max_addresses: 1}}",
    )
    for host in hosts:
        program.script(host, says(5, "10.1.2.3", "203.0.113.9", "203.0.113.8"))
    program.ask("x.all.example")
    assert len(program.launched) == 5
    program.wait(1_000)
    assert len(program.answer("x.all.example")) == 3
    before = len(program.launched)
    assert program.answer("x.one.example") == ["203.0.113.9"]
    assert len(program.launched) == before + 1
    assert program.answer("x.mine.one.example") == ["10.1.2.3"]


def test_ranking_by_route() -> None:
    """Addresses inside are probed where the route says so, and nowhere else; and where it says that
    they are not ranked, nothing is.
    """
    program = RoutedProgram(
        f"{{domains: [in.example], servers: [{INSIDE}], ranking: {{probe_private: true}}}},"
        f"{{domains: [plain.example], servers: [{INSIDE}]}},"
        f"{{domains: [off.example], servers: [{INSIDE}], ranking: {{enabled: false}}}}",
        more="ranking: {probes: ['tcp:443']}\nlocal: {hosts: null}\n",
    )
    private, public = ("10.1.0.1", "10.1.0.2"), ("203.0.113.1", "203.0.113.2")

    def probed(qname: str, *found: str) -> set[str]:
        before = len(program.clock.tcpClients)
        for host in (INSIDE, PUBLIC):
            program.script(host, says(5, *found))
        program.answer(qname)
        program.wait(1_000)
        return {client[0] for client in program.clock.tcpClients[before:]}

    assert probed("a.example", *private) == set()
    assert probed("a.in.example", *private) == set(private)
    assert probed("a.plain.example", *private) == set()
    assert probed("a.off.example", *public) == set()
    assert probed("b.example", *public) == set(public)
    program.close()


def test_a_route_keeps_what_the_program_allows() -> None:
    """Domains whose names may be inside are those of the program where the route has none."""
    program = RoutedProgram(
        f"{{domains: [in.example], servers: [{INSIDE}]}}",
        more=f"{NO_RANKING}rebinding: {{strip: true, allow_domains: [ok.in.example]}}\n",
    )
    program.script(INSIDE, says(5, "10.1.0.1"))
    assert program.answer("www.ok.in.example") == ["10.1.0.1"]
    assert program.answer("www.in.example") == ["NOERROR"]


def test_ranking_for_a_route_alone() -> None:
    """A route may rank where the program does not."""
    program = RoutedProgram(
        f"{{domains: [in.example], servers: [{INSIDE}], ranking: {{enabled: true}}}}",
        more="ranking: {enabled: false, probes: ['tcp:443']}\nlocal: {hosts: null}\n",
    )
    for host in (INSIDE, PUBLIC):
        program.script(host, says(5, "203.0.113.1", "203.0.113.2"))
    program.answer("www.example")
    assert program.clock.tcpClients == []
    program.answer("www.in.example")
    assert len(program.clock.tcpClients) == 2
    program.close()


def test_a_failure_inside_says_nothing_about_the_uplink() -> None:
    """``/healthz`` asks nobody because of it; and answers from inside do not make up for others."""
    program = RoutedProgram(CORP)
    program.wait(5_000)
    program.script(INSIDE, fails(5, REFUSED))
    program.answer("www.corp.example")
    program.wait(20_000)
    assert program.names(PUBLIC) == set()
    program.script(INSIDE, answers(INSIDE))
    program.answer("other.corp.example")
    assert program.chain.upstreams.last_worked < 0
    program.close()


def test_a_domain_moves_between_routes(tmp_path: Path) -> None:
    """When its file changes, nothing that was learned elsewhere is given: not from the cache, nor
    stale, nor by who asks while others do; and when it moves back, its old answer is there.
    """
    path = tmp_path / "domains"
    path.write_text("corp.example\n")
    program = RoutedProgram(f"{{domain_files: ['{path}'], servers: [{INSIDE}]}}")
    assert program.answer("www.corp.example") == [own_address(INSIDE)]
    path.write_text("none.example\n")
    program.wait(2000 * CHECK_EVERY)
    waiting = program.ask("www.corp.example")
    path.write_text("corp.example\n\n")
    program.wait(1)
    assert not waiting.answered
    program.wait(2000 * CHECK_EVERY)
    assert waiting.result == [own_address(PUBLIC)]
    assert program.answer("www.corp.example") == [own_address(INSIDE)]
    program.script(INSIDE, fails(5))
    program.wait(400_000)
    asked = program.ask("www.corp.example")  # stale
    assert asked.result == [own_address(INSIDE)]
    program.wait(10_000)
    assert program.names(PUBLIC) == {"www.corp.example"}
    assert len(program.launched) == 3


def test_programs_without_a_server() -> None:
    """Whoever uses the chain alone has his names routed, too."""
    program = RoutedProgram(f"{CORP}, {{domains: [void.example], servers: []}}")
    chain = program.chain
    found: list[object] = []
    for resolver in (chain.resolver, chain.forwarding):
        resolver.getHostByName(b"www.corp.example").addCallback(found.append)
        program.wait(100)
    assert found == [own_address(INSIDE)] * 2
    failed = chain.resolver.lookupText(b"www.void.example").addErrback(found.append)
    assert failed.called
    assert found[-1].check(names_error.AuthoritativeDomainError)  # type: ignore[attr-defined]
    assert program.names(PUBLIC) == set()


def test_nodata_of_a_route() -> None:
    """A negative answer of the route stands: nobody else is asked."""
    program = RoutedProgram(CORP)
    program.script(INSIDE, negative(5, NOERROR))
    assert program.answer("www.corp.example", "AAAA") == ["NOERROR"]
    assert program.names(PUBLIC) == set()


def test_the_files_of_routes_are_read_again(tmp_path: Path) -> None:
    """After the other files, as soon as they are complete; until then the log does not say so, and
    nobody else sees a name.
    """
    path = tmp_path / "domains"
    path.write_text("lab.example\ncorp.example\n")
    program = RoutedProgram(f"{{domain_files: ['{path}'], servers: [{INSIDE}]}}")
    with capturedLogs() as events, path.open("w") as writer:
        writer.write("lab.example\nnew.example\n")
        writer.flush()
        program.service.reread()
        program.wait(100)
        assert program.answer("www.corp.example") == [own_address(INSIDE)]
        writer.write("corp.example\n")
        writer.close()
        program.service.reread()
        assert program.answer("two.corp.example") == [own_address(INSIDE)]
        program.wait(2000 * CHECK_EVERY)
    assert program.answer("www.new.example") == [own_address(INSIDE)]
    assert program.names(PUBLIC) == set()
    asked = "read again: nothing; the domains of routes follow when their files are complete"
    done = "read again: the domains of routes"
    told = [text for text in map(formatEvent, events) if "read again" in text]
    assert told == [asked, asked, done]


def zone(records: dict[str, str], ttl: int = 300) -> Act:
    """Answer as a server that is no resolver does: with what stands under the name alone, an
    address, text, or a name that is its alias.
    """

    def answer(question: Question) -> bytes:
        text = records.get(to_text(question.name).rstrip("."))
        if text is None:
            made = negative(0).reply
            assert made is not None
            return made(question)
        if text.endswith("."):
            return reply(question, [record(POINTER, CNAME, ttl, name(text))])
        if question.qtype == A:
            return reply(question, [record(POINTER, A, ttl, ip_address(text).packed)])
        return reply(question, [record(POINTER, question.qtype, ttl, b"\1x")])

    return Act(5, answer)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_lone_aliases(strategy: str) -> None:
    """What an alias leads to is asked in the same scope, and the answer has all of it."""
    program = RoutedProgram(
        f"{{domains: [corp.example], servers: [{INSIDE}], strategy: {strategy}}}",
        servers=f"{PUBLIC}], strategy: {strategy}, bootstrap: [1.1.1.1",
    )
    records = {
        "www.corp.example": "a.cdn.example.",
        "a.cdn.example": "b.cdn.example.",
        "b.cdn.example": "203.0.113.7",
    }
    program.script(INSIDE, zone(records, 60))
    for rdtype, do in (("A", False), ("A", True), ("TXT", False)):
        asked = program.ask("www.corp.example", rdtype, do=do)
        program.wait(200)
        shown = [(str(one.name), dns.rdatatype.to_text(one.rdtype)) for one in asked.reply.answer]
        assert shown == [
            ("www.corp.example.", "CNAME"),
            ("a.cdn.example.", "CNAME"),
            ("b.cdn.example.", rdtype),
        ]
        assert {one.ttl for one in asked.reply.answer} == {60}
        launched = len(program.launched)
        assert program.ask("www.corp.example", rdtype, do=do).answered
        assert len(program.launched) == launched
    program.script(PUBLIC, zone({"www.example": "end.example.", "end.example": "203.0.113.8"}))
    assert program.answer("www.example") == ["203.0.113.8"]
    assert program.names(PUBLIC) == {"www.example", "end.example"}


def test_an_alias_to_nothing() -> None:
    """The answer is that there is no such target."""
    program = RoutedProgram(CORP)
    program.script(INSIDE, zone({"www.corp.example": "no.example."}))
    asked = program.ask("www.corp.example")
    program.wait(200)
    assert asked.result == ["NXDOMAIN"]
    assert str(asked.reply.answer[0][0]) == "no.example."
    assert str(asked.reply.authority[0].name) == "example."


def test_a_target_without_what_was_asked() -> None:
    """Where nothing says how long that holds, it is asked for once, and the alias given."""
    program = RoutedProgram(CORP)

    def answer(question: Question) -> bytes:
        if question.name == name("end.example"):
            return reply(question)
        return reply(question, [record(POINTER, CNAME, 60, name("end.example"))])

    program.script(INSIDE, Act(5, answer))
    asked = program.ask("www.corp.example", "AAAA")
    program.wait(200)
    assert asked.result == ["NOERROR"]
    assert [str(one[0]) for one in asked.reply.answer] == ["end.example."]
    assert len(program.launched) == 2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_aliases_that_lead_back(strategy: str) -> None:
    """A loop ends with SERVFAIL, whoever asks for any of it, and asks each name a few times."""
    program = RoutedProgram(
        f"{{domains: [corp.example], servers: [{INSIDE}], strategy: {strategy}}}"
    )
    names = [f"n{number}.corp.example" for number in range(3)]
    program.script(
        INSIDE, zone({qname: f"{names[(index + 1) % 3]}." for index, qname in enumerate(names)})
    )
    asked = [program.ask(qname) for qname in names]
    program.wait(7_000)
    assert [one.result for one in asked] == [["SERVFAIL"]] * 3
    assert len(program.launched) <= 3 * 3 * 4
    assert program.names(PUBLIC) == set()


@pytest.mark.parametrize(("links", "found"), [(MAX_ALIASES, True), (MAX_ALIASES + 1, False)])
def test_how_far_aliases_are_followed(links: int, found: bool) -> None:
    """As far as the limit; what is behind is not asked for, and the client gets the way there."""
    program = RoutedProgram(CORP)
    records = {f"n{number}.corp.example": f"n{number + 1}.corp.example." for number in range(links)}
    records[f"n{links}.corp.example"] = "203.0.113.7"
    program.script(INSIDE, zone(records))
    asked = program.ask("n0.corp.example")
    program.wait(1_000)
    assert asked.result == ["203.0.113.7" if found else "NOERROR"]
    assert len(asked.reply.answer) == links + found
    assert len(program.names(INSIDE)) == MAX_ALIASES + 1


def test_an_alias_whose_target_fails() -> None:
    """SERVFAIL, or what is stale; with fallback the target is asked of the default upstreams."""
    records = {"www.corp.example": "end.example."}

    def only_corp(question: Question) -> bytes:
        made = zone(records).reply
        assert made is not None
        refused = question.name != name("www.corp.example")
        return reply(question, rcode=REFUSED) if refused else made(question)

    for fallback in (False, True):
        program = RoutedProgram(
            f"{{domains: [corp.example], servers: [{INSIDE}], fallback: {fallback}}}"
        )
        program.script(INSIDE, Act(5, only_corp))
        program.script(PUBLIC, zone({"end.example": "203.0.113.8"}))
        asked = program.ask("www.corp.example")
        program.wait(10_000)
        assert asked.result == (["203.0.113.8"] if fallback else ["SERVFAIL"])
        assert program.names(PUBLIC) == ({"end.example"} if fallback else set())
        program.close()
        assert program.clock.getDelayedCalls() == []


def test_an_alias_into_another_route() -> None:
    """Only the server that gave it may be asked for its target: with fallback the default upstreams
    are asked for the name itself, and their own aliases into a route lead nowhere.
    """
    routes = (
        f"{{domains: [corp.example], servers: [{INSIDE}], fallback: true}}, "
        f"{{domains: [lab.example], servers: [{SECOND_INSIDE}]}}"
    )

    def only_www(question: Question) -> bytes:
        made = zone({"www.corp.example": "host.lab.example."}).reply
        assert made is not None
        refused = question.name != name("www.corp.example")
        return reply(question, rcode=REFUSED) if refused else made(question)

    program = RoutedProgram(routes)
    program.script(INSIDE, Act(5, only_www))
    program.script(SECOND_INSIDE, zone({"host.lab.example": "10.0.0.9"}))
    program.script(
        PUBLIC, zone({"pub.example": "host.lab.example.", "www.corp.example": "203.0.113.9"})
    )
    assert program.answer("www.corp.example") == ["203.0.113.9"]
    asked = program.ask("pub.example")
    program.wait(10_000)
    assert asked.result == ["NOERROR"]
    assert program.names(PUBLIC) == {"www.corp.example", "pub.example"}
    assert program.names(SECOND_INSIDE) == set()
    program.close()


def test_a_stop_while_the_target_is_asked() -> None:
    """Whoever waits gets SERVFAIL, and nothing is left."""
    program = RoutedProgram(CORP)
    program.script(INSIDE, zone({"www.corp.example": "end.example."}))
    asked = program.ask("www.corp.example")
    program.wait(3)
    program.script(INSIDE, SILENT)
    program.wait(7)
    assert program.names(INSIDE) == {"www.corp.example", "end.example"}
    program.close()
    assert asked.result == ["SERVFAIL"]
    assert program.clock.getDelayedCalls() == []


def test_an_answer_from_another_server_goes_before_an_alias() -> None:
    """Whoever has looked up the target within the grace is believed first."""
    program = RoutedProgram(f"{{domains: [corp.example], servers: [{INSIDE}, {SECOND_INSIDE}]}}")
    program.script(INSIDE, zone({"www.corp.example": "end.example."}))
    program.script(SECOND_INSIDE, says(20, "203.0.113.9", cname_chain=["end.example"]))
    assert program.answer("www.corp.example") == ["203.0.113.9"]
    assert program.names(INSIDE) == {"www.corp.example"}
