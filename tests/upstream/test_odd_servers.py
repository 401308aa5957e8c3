"""Odd servers: no client loses an answer, no circuit opens, and what they cannot do is learnt."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from staggerdns.strategy.run import RETRY_INTERVAL
from staggerdns.upstream.bootstrap import Bootstrap
from staggerdns.upstream.concurrentretries import MAX_WATCHED, SILENCE, TCP_PATIENCE
from staggerdns.upstream.edns import BARE, DESCENTS, FULL, MEMORY, PATIENCE, PLAIN
from staggerdns.upstream.health import State
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.judge import Judge
from tests.kit.acts import FORMERR, NXDOMAIN, REFUSED, SERVFAIL, A
from tests.kit.oddservers import (
    BADVERS,
    EXISTS,
    KINDS,
    OPT,
    RTT,
    OddServersResolver,
    Seen,
    both,
    changes,
    complains,
    drops,
    good,
    lowers,
)
from tests.kit.simulated import Client


def assert_answered(resolver: OddServersResolver, clients: list[Client]) -> None:
    """Every client got the address, nobody is worse than healthy, nothing is left."""
    assert [client.addresses for client in clients] == [["203.0.113.7"]] * len(clients)
    assert {upstream.health.state for upstream in resolver.upstreams} == {State.HEALTHY}
    resolver.assert_nothing_left()


@pytest.mark.parametrize(
    ("strategy", "tcp"),
    [
        ("parallel", "works"),
        ("parallel", "refused"),
        ("parallel", "silent"),
        ("racing", "refused"),
        ("sequential", "silent"),
        ("random", "works"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_two_of_five(kind: str, strategy: str, tcp: str) -> None:
    """Twenty names, one after the other and then twenty at once: all are answered."""
    resolver = OddServersResolver(
        KINDS[kind], KINDS[kind], good, good, good, tcp=tcp, strategy=strategy
    )
    clients = resolver.ask_all(20, "one")
    clients += [resolver.ask(resolver.question(f"many{number}.example")) for number in range(20)]
    resolver.run()
    assert_answered(resolver, clients)


@pytest.mark.parametrize("tcp", ["works", "refused", "silent"])
@pytest.mark.parametrize("kind", KINDS)
def test_nobody_else(kind: str, tcp: str) -> None:
    """One odd upstream alone answers every name within a second, and soon without a detour."""
    resolver = OddServersResolver(KINDS[kind], tcp=tcp)
    clients = [resolver.ask(resolver.question("first0.example"))]
    resolver.run()
    clients += resolver.ask_all(30, "next")
    assert_answered(resolver, clients)
    before = len(resolver.sent(0))
    clients = resolver.ask_all(10, "later")
    assert_answered(resolver, clients)
    assert len(resolver.sent(0)) - before == 10


# Doubted replies.


class Forger:
    """A server in lower case whose TCP is as it is, and what else comes for a query."""

    def __init__(self, tcp: str, server: object = lowers) -> None:
        self.resolver = OddServersResolver(server, tcp=tcp)  # type: ignore[arg-type]
        self.upstream = self.resolver.upstreams[0]

    def ask(self, text: str = "www.example") -> Client:
        """Ask a name that the server has never heard of."""
        return self.resolver.ask(self.resolver.question(text))

    def forge(self, address: bytes, after: float) -> None:
        """Have a reply in lower case come for the query under way, after so many seconds."""
        (exchange,) = [wait for wait in self.resolver.wires[0][0].waiting if not wait.over]
        seen = self.resolver.wires[0][0].seen[-1]
        reply = seen.reply(address, section=seen.question.section)
        self.resolver.clock.callLater(
            after, exchange.owner.received, exchange, reply, over_stream=False
        )


def silent(_seen: Seen) -> None:
    """Answer nothing."""


def test_a_doubted_reply_waits_for_tcp() -> None:
    """For 300 ms, and not a moment less; then it is the answer."""
    forger = Forger("silent")
    client = forger.ask()
    forger.resolver.run_to(1000 * (RTT + TCP_PATIENCE) - 0.1)
    assert client.answers == []
    forger.resolver.run_to(1000 * (RTT + TCP_PATIENCE) + 0.1)
    assert client.addresses == ["203.0.113.7"]
    forger.resolver.run()
    forger.resolver.assert_nothing_left()


def test_a_doubted_reply_is_used_at_once_without_tcp() -> None:
    """Nobody waits for a port that is closed."""
    forger = Forger("refused")
    client = forger.ask()
    forger.resolver.run()
    assert client.at == 1000 * RTT


def test_two_doubted_replies_that_differ() -> None:
    """Somebody is guessing: neither is used, the right one is."""
    slow = Forger("silent", lambda seen: None)
    client = slow.ask()
    slow.forge(b"\x06\x06\x06\x06", 0.01)
    slow.forge(b"\x07\x07\x07\x07", 0.02)
    slow.resolver.clock.callLater(0.45, slow.resolver.wires[0][0].answer_all, good)
    slow.resolver.run()
    assert client.addresses == ["203.0.113.7"]
    cell = slow.resolver.metrics.upstream_rejected.cell(slow.upstream.name, "doubted")
    assert cell.value == 1


def test_the_same_doubted_reply_twice() -> None:
    """A network that doubles packets is no attacker."""
    slow = Forger("silent", lambda seen: None)
    client = slow.ask()
    for after in (0.01, 0.02):
        slow.forge(EXISTS, after)
    slow.resolver.run_to(400)
    assert client.addresses == ["203.0.113.7"]


@pytest.mark.parametrize("proof", ["case", "tcp"])
def test_whoever_can_do_better_is_held_to_it(proof: str) -> None:
    """An upstream that has repeated case, or answered over TCP: forgers gain nothing."""
    slow = Forger("silent", lambda seen: None)
    if proof == "case":
        slow.upstream.dialect.case.answered()
    else:
        slow.upstream.dialect.stream_works = True
    client = slow.ask()
    slow.forge(b"\x06\x06\x06\x06", 0.01)
    slow.resolver.clock.callLater(0.7, slow.resolver.wires[0][0].answer_all, good)
    slow.resolver.run()
    assert client.addresses == ["203.0.113.7"]


def test_the_right_reply_comes_behind_the_doubted_one() -> None:
    """While TCP is being asked: it wins, and what was doubted is forgotten."""
    slow = Forger("silent", lambda seen: None)
    client = slow.ask()
    slow.forge(b"\x06\x06\x06\x06", 0.01)
    slow.resolver.clock.callLater(0.1, slow.resolver.wires[0][0].answer_all, good)
    slow.resolver.run()
    assert client.addresses == ["203.0.113.7"]
    assert client.at == 100


@pytest.mark.parametrize("rcode", [FORMERR, SERVFAIL, REFUSED])
@pytest.mark.parametrize("tcp", ["works", "refused", "silent"])
def test_a_forged_error_without_a_question(rcode: int, tcp: str) -> None:
    """It ends nothing at an upstream that has given a cookie: the right reply is awaited."""
    slow = Forger(tcp, lambda seen: good(seen) if seen.tcp else None)
    slow.upstream.dialect.cookies._keep(b"severals")
    client = slow.ask()
    (exchange,) = slow.resolver.wires[0][0].waiting
    bare = b"\0\0\x81" + bytes((0x80 | rcode,)) + bytes(8)
    slow.resolver.clock.callLater(0.01, exchange.owner.received, exchange, bare, over_stream=False)
    slow.resolver.clock.callLater(0.5, slow.resolver.wires[0][0].answer_all, cookie_reply)
    slow.resolver.run()
    assert client.addresses == ["203.0.113.7"]


def cookie_reply(seen: Seen) -> bytes:
    """Answer with the cookies of the query."""
    return seen.reply(EXISTS, opt=OPT + bytes(4) + seen.opt[9:])


# What was learnt is tried anew.


@pytest.mark.parametrize("tcp", ["works", "refused", "silent"])
@pytest.mark.parametrize("kind", KINDS)
def test_probes_cost_no_client_anything(kind: str, tcp: str) -> None:
    """In two hours of a name every 100 s all are answered, by one query each and some probes."""
    resolver = OddServersResolver(KINDS[kind], tcp=tcp)
    clients = resolver.ask_all(30, "first")
    before = len(resolver.sent(0))
    hours = 72
    for number in range(hours):
        resolver.run_to(resolver.now + 100_000)
        clients.append(resolver.ask(resolver.question(f"later{number}.example")))
        resolver.run()
    assert_answered(resolver, clients)
    probes = len(resolver.sent(0)) - before - hours
    assert probes <= 2 * hours * 100 / MEMORY


@pytest.mark.parametrize("kind", KINDS)
def test_an_upstream_that_was_mended(kind: str) -> None:
    """It is asked with all that we have again, EDNS step by step."""
    resolver = OddServersResolver(KINDS[kind])
    resolver.ask_all(30, "first")
    for wire in resolver.wires[0]:
        wire.server = good
    for number in range(3):
        resolver.run_to(resolver.now + 1000 * MEMORY)
        resolver.ask_all(2, f"later{number}x")
    resolver.ask_all(1, "last")
    assert resolver.sent(0)[-1].level == FULL or resolver.wires[0][0].seen[-1].level == FULL
    assert resolver.upstreams[0].dialect.case.is_mixed


def test_probes_keep_to_the_budget() -> None:
    """One at a time, and none where there is no room."""
    resolver = OddServersResolver(complains(FORMERR, PLAIN))
    resolver.ask_all(5, "first")
    upstream = resolver.upstreams[0]
    resolver.run_to(resolver.now + 1000 * MEMORY)
    before = len(resolver.sent(0))
    upstream.occupy(1000)
    resolver.ask_all(0, "none")
    probe = upstream._retries._probe
    probe.consider(Judge(resolver.question("full.example")), resolver.clock.seconds())
    assert len(resolver.sent(0)) == before
    upstream.occupy(-1000)
    for _ in range(3):
        probe.consider(Judge(resolver.question("room.example")), resolver.clock.seconds())
    assert len(resolver.sent(0)) - before == 1
    upstream.close()
    resolver.assert_nothing_left()


# What must not be learnt.


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_crowd_without_replies_is_tried_in_other_ways_up_to_a_number(beyond: int) -> None:
    """Of one upstream, so many queries go out once more at each lower level."""
    resolver = OddServersResolver(lambda seen: None)
    for number in range(MAX_WATCHED + beyond):
        resolver.ask(resolver.question(f"crowd{number}.example"))
    resolver.run_to(resolver.now + 2500 * SILENCE)
    assert len(resolver.sent(0)) == MAX_WATCHED + beyond + 2 * MAX_WATCHED
    resolver.run()
    assert resolver.upstreams[0].watched == 0
    resolver.assert_nothing_left()


def test_a_crowd_beyond_that_number_is_answered() -> None:
    """Those for whom there is no place are asked again when it is known what the server drops."""
    resolver = OddServersResolver(drops(PLAIN))
    clients = [resolver.ask(resolver.question(f"crowd{number}.example")) for number in range(300)]
    resolver.run()
    assert_answered(resolver, clients)


def test_a_broken_zone_takes_nothing_away() -> None:
    """SERVFAIL for every other name, from the start: EDNS and case stay."""

    def half(seen: Seen) -> bytes:
        return seen.reply(rcode=SERVFAIL) if b"broken" in seen.section.lower() else good(seen)

    resolver = OddServersResolver(half)
    for number in range(20):
        resolver.ask(resolver.question(f"broken{number}.example"))
        resolver.run()
        client = resolver.ask(resolver.question(f"good{number}.example"))
        resolver.run()
        assert client.addresses == ["203.0.113.7"]
    seen = resolver.sent(0)
    assert seen[-1].level == FULL
    assert len(seen) <= 40 + 3, "only the first was tried lower down"


@pytest.mark.parametrize("rcode", [REFUSED, SERVFAIL])
def test_who_ceases_to_cope_with_edns_is_soon_understood(rcode: int) -> None:
    """One day it has an error for whatever has an OPT record: few names are lost by that."""
    resolver = OddServersResolver(changes(10, complains(rcode, PLAIN)))
    clients = resolver.ask_all(60, "late")
    lost = [client for client in clients if not client.addresses]
    assert len(lost) <= PATIENCE
    assert resolver.sent(0)[-1].level == PLAIN


@pytest.mark.parametrize("rcode", [REFUSED, SERVFAIL, NXDOMAIN, FORMERR])
def test_whoever_refuses_everything_is_soon_asked_once(rcode: int) -> None:
    """A hundred names, a second apart, cost little more than a hundred queries."""
    resolver = OddServersResolver(lambda seen: seen.reply(rcode=rcode))
    for number in range(100):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run_to(resolver.now + 1000)
    resolver.run()
    assert len(resolver.sent(0)) <= 140
    before = len(resolver.sent(0))
    resolver.ask_all(5, "later")
    assert len(resolver.sent(0)) - before <= 8


# Questions with DO.


@pytest.mark.parametrize("rcode", [FORMERR, SERVFAIL, BADVERS])
def test_signatures_with_bare_opt(rcode: int) -> None:
    """A server that copes with an OPT record alone is asked with one, DO set, first and later."""
    resolver = OddServersResolver(complains(rcode, BARE))
    clients = [resolver.ask(resolver.question(f"n{n}.example", A, do=True)) for n in range(1)]
    resolver.run()
    clients += resolver.ask_all(DESCENTS + 2, "next", do=True)
    assert all(len(client.entry.answer.addresses) == 1 for client in clients)
    assert all(seen.do for seen in resolver.sent(0))
    assert resolver.sent(0)[-1].level == BARE


@pytest.mark.parametrize(
    "server", [complains(FORMERR, PLAIN), complains(SERVFAIL, PLAIN), drops(PLAIN)]
)
@pytest.mark.parametrize("strategy", ["parallel", "racing", "sequential", "random"])
@pytest.mark.parametrize("known", [True, False])
def test_no_signatures_are_better_than_no_answer(
    server: object, strategy: str, known: bool
) -> None:
    """When no upstream copes with EDNS, questions with DO are asked without it."""
    resolver = OddServersResolver(server, server, strategy=strategy)  # type: ignore[arg-type]
    if known:
        resolver.ask_all(DESCENTS + 1, "first")
    clients = resolver.ask_all(4, "signed", do=True)
    assert all(len(client.entry.answer.addresses) == 1 for client in clients)


@pytest.mark.parametrize("strategy", ["parallel", "racing", "sequential", "random"])
@pytest.mark.parametrize("known", [True, False])
def test_no_signatures_while_others_have_them(strategy: str, known: bool) -> None:
    """A quick server without EDNS never answers for a slow one with it."""

    def other(seen: Seen) -> bytes:
        return seen.reply(b"\x09\x09\x09\x09")

    resolver = OddServersResolver(both(complains(FORMERR, PLAIN), good), other, strategy=strategy)
    if known:
        resolver.ask_all(DESCENTS + 1, "first")
    for client in resolver.ask_all(4, "signed", do=True):
        assert client.entry.answer.addresses == (b"\x09\x09\x09\x09",)


def test_no_signatures_when_those_who_have_them_are_silent() -> None:
    """After a second of silence, as long as it takes to ask again, the others are asked."""
    resolver = OddServersResolver(complains(FORMERR, PLAIN), silent)
    for number in range(DESCENTS + 1):
        resolver.ask(resolver.question(f"first{number}.example"))
        resolver.run_to(resolver.now + 500)
    client = resolver.ask(resolver.question("signed.example", A, do=True))
    asked = resolver.now
    resolver.run()
    assert len(client.entry.answer.addresses) == 1
    assert RETRY_INTERVAL * 1000 <= client.at - asked < RETRY_INTERVAL * 1000 + 500


# The bootstrap, and what is told.


@pytest.mark.parametrize("tcp", ["works", "refused", "silent"])
@pytest.mark.parametrize("kind", KINDS)
def test_bootstrap(kind: str, tcp: str) -> None:
    """An odd resolver finds the addresses of upstreams within its time, at the first try."""
    resolver = OddServersResolver(KINDS[kind], tcp=tcp)
    clock: Clock = resolver.clock
    bootstrap = Bootstrap(resolver.upstreams, clock, resolver.metrics, resolver.journal)
    found: list[object] = []
    bootstrap.resolve("dns.example").addCallback(found.append)
    resolver.run()
    assert found == [["203.0.113.7"]]
    bootstrap.close()


@pytest.mark.parametrize(
    ("rcode", "word"),
    [(16, "badvers"), (4, "notimp"), (9, "notauth"), (6, "yxdomain"), (11, "dsotypeni"),
     (12, "rcode 12"), (3841, "rcode 3841"), (23, "badcookie"), (17, "badkey")],
)  # fmt: skip
def test_codes_are_told_in_full(rcode: int, word: str) -> None:
    """The upper bits are in the OPT record; labels of metrics stay few."""
    resolver = OddServersResolver(lambda seen: seen.reply(rcode=rcode))
    resolver.upstreams[0].dialect.edns._paused_until = resolver.clock.seconds() + 60
    client = resolver.ask()
    resolver.run()
    answer = client.entry.answer
    assert isinstance(answer, FailureAnswer)
    assert answer.text == word.encode()
    label = "other rcode" if word.startswith("rcode") else word
    name = resolver.upstreams[0].name
    assert resolver.metrics.upstream_failures.cell(name, label).value == 1
