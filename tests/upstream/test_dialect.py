"""What one upstream copes with, and which of its replies are believed."""

from __future__ import annotations

from pathlib import Path
from random import Random
from unittest import mock

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import pytest_twisted

from staggerdns.upstream.case import CASE_MISSES
from staggerdns.upstream.cookies import COOKIE_MISSES
from staggerdns.upstream.dialect import Dialect
from staggerdns.upstream.edns import BARE, DESCENTS, FULL, PATIENCE, PLAIN
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import Exchange, ExchangeOwner
from staggerdns.upstream.reason import Reason, RetryReason
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.constants import WireError
from staggerdns.wire.judge import Judge
from staggerdns.wire.names import from_labels
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.verdict import Verdict
from tests.kit import behaviours as b
from tests.kit import daemons
from tests.kit.loopback import loopback_upstream, no_connections
from tests.kit.ports import free_endpoint
from tests.kit.scripted import Action, Behaviour, Query, ScriptedUpstream, Send

A = 1
NOW = 1000.0
WWW = make_question(from_labels([b"www", b"example-0123", b"org"]), A)
SERVER_COOKIE = bytes(range(100, 116))


def exchange(question: Question, query: bytes, started: float, level: int = FULL) -> Exchange:
    """An exchange that nobody waits for."""
    made = Exchange(mock.create_autospec(ExchangeOwner), Judge(question), query, "active", started)
    made.level = level
    return made


class Talk:
    """A dialect, and replies to its queries."""

    def __init__(self, *, case: bool = True, cookies: bool = True, seed: int = 1) -> None:
        self.dialect = Dialect(Entropy(Random(seed).randbytes), case=case, cookies=cookies)
        self.now = NOW

    def query(self, question: Question = WWW) -> bytes:
        """The next query, without its ID."""
        return self.dialect.compose(question, self.now)

    def asked(self, question: Question = WWW) -> Exchange:
        """The next query as an exchange has it."""
        self.now += 1
        return exchange(question, self.query(question), self.now, self.dialect.edns.level)

    def hear(
        self,
        query: bytes | Exchange,
        *,
        rcode: int = 0,
        lower: bool = False,
        cookie: bytes | None = None,
        edns: bool = True,
        over_stream: bool = False,
        believed: bool = False,
        truncated: bool = False,
        answers: int = 1,
    ) -> RetryReason | None:
        """What the dialect says to a reply; ``cookie``: the server's, None for no option at all."""
        asked = query if isinstance(query, Exchange) else exchange(WWW, query, self.now)
        reply = dns.message.make_response(dns.message.from_wire(b"\0\0" + asked.query))
        reply.set_rcode(dns.rcode.Rcode(rcode))
        if truncated:
            reply.flags |= dns.flags.TC
        if answers and not rcode:
            name = reply.question[0].name
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "203.0.113.1"))
        options: list[dns.edns.Option] = []
        if cookie is not None:
            options.append(cookie_option(client_cookie(asked.query) + cookie))
        has_opt = asked.query[9]
        reply.use_edns(0 if edns and has_opt else -1, options=options)
        if edns and has_opt:
            reply.set_rcode(dns.rcode.Rcode(rcode))
        wire = reply.to_wire()
        if lower:
            wire = wire[:12] + WWW.section + wire[12 + len(WWW.section) :]
        return self.dialect.retry_reason(
            asked, wire, self.now, over_stream=over_stream, believed=believed
        )

    def again(self, asked: Exchange, reason: RetryReason) -> Exchange:
        """Phrase the query anew after that doubt."""
        self.dialect.rephrase(asked, reason, self.now)
        return asked


def cookie_option(octets: bytes) -> dns.edns.Option:
    """An option with these cookies."""
    return dns.edns.GenericOption(dns.edns.OptionType.COOKIE, octets)


def sent_name(query: bytes) -> bytes:
    """The name as it stands in a query."""
    return query[10 : 10 + len(WWW.name)]


def client_cookie(query: bytes) -> bytes:
    """The cookie of ours in a query."""
    (option,) = dns.message.from_wire(b"\0\0" + query).options
    assert option.otype == dns.edns.OptionType.COOKIE
    return option.to_wire()[:8]


# Case.


def test_letters_in_random_case_and_nothing_else() -> None:
    """Each letter is upper case in about half of the queries; all other octets stay."""
    talk = Talk()
    counts = [0] * len(WWW.name)
    for _ in range(1000):
        name = sent_name(talk.query())
        assert name.lower() == WWW.name
        for place, octet in enumerate(name):
            counts[place] += octet != WWW.name[place]
    letters = [chr(octet).isalpha() for octet in WWW.name]
    assert all(400 < count < 600 for count, is_one in zip(counts, letters, strict=True) if is_one)
    assert not any(count for count, is_one in zip(counts, letters, strict=True) if not is_one)
    assert len({sent_name(talk.query()) for _ in range(100)}) > 90


def test_queries_are_sound() -> None:
    """RD, AD, one question, an OPT record with 1232 bytes; DO and CD as asked for."""
    for do in (False, True):
        for cd in (False, True):
            question = make_question(WWW.name, A, do=do, cd=cd)
            asked = dns.message.from_wire(b"\0\0" + Talk().query(question))
            assert asked.flags & dns.flags.RD
            assert asked.flags & dns.flags.AD
            assert bool(asked.flags & dns.flags.CD) == cd
            assert (asked.edns, asked.payload) == (0, 1232)
            assert bool(asked.ednsflags & dns.flags.DO) == do


def test_a_reply_in_our_case_is_believed() -> None:
    """The letters as sent: nothing to doubt."""
    talk = Talk()
    for _ in range(10):
        assert talk.hear(talk.query()) is None


def test_a_reply_in_other_case_is_doubted() -> None:
    """However often it comes over UDP, it shows nothing but that somebody forges."""
    talk = Talk()
    for _ in range(10 * CASE_MISSES):
        query = talk.query()
        assert sent_name(query) != WWW.name
        assert talk.hear(query, lower=True) == RetryReason.CASE
        assert talk.hear(query, over_stream=True) is None


@pytest.mark.parametrize("over_tcp", [True, False], ids=["lower case over TCP", "nothing over TCP"])
def test_an_upstream_that_does_not_repeat_case(over_tcp: bool) -> None:
    """After three checks that prove nothing case is left alone."""
    talk = Talk()
    for _ in range(CASE_MISSES):
        query = talk.query()
        assert sent_name(query) != WWW.name
        assert talk.hear(query, lower=True) == RetryReason.CASE
        if over_tcp:
            assert talk.hear(query, lower=True, over_stream=True) is None
        else:
            talk.dialect.uncleared(RetryReason.CASE, talk.now)
    assert sent_name(talk.query()) == WWW.name
    assert talk.hear(talk.query(), lower=True) is None


def test_misses_count_in_a_row() -> None:
    """A reply in our case in between: the upstream can do it, the others were forged."""
    talk = Talk()
    for _ in range(10):
        for _ in range(CASE_MISSES - 1):
            talk.dialect.uncleared(RetryReason.CASE, talk.now)
        assert talk.hear(talk.query()) is None


def test_case_never() -> None:
    """Names go out in lower case, and replies in any case are taken."""
    talk = Talk(case=False)
    assert sent_name(talk.query()) == WWW.name
    assert talk.hear(talk.query()) is None


def test_over_a_stream_case_proves_nothing() -> None:
    """Nobody forges a reply on a connection."""
    talk = Talk()
    assert talk.hear(talk.query(), lower=True, over_stream=True) is None


# Cookies.


def test_the_server_cookie_is_learnt() -> None:
    """The first query has our cookie alone; once the server gave its own, they go together."""
    talk = Talk()
    first = talk.query()
    ours = client_cookie(first)
    assert first.endswith(b"\0\x0a\0\x08" + ours)
    assert talk.hear(first, cookie=SERVER_COOKIE) is None
    assert talk.query().endswith(b"\0\x0a\0\x18" + ours + SERVER_COOKIE)
    assert talk.query(make_question(WWW.name, A, do=True)).endswith(ours + SERVER_COOKIE)


@pytest.mark.parametrize(("size", "learnt"), [(7, False), (8, True), (32, True), (33, False)])
def test_sizes_of_server_cookies(size: int, learnt: bool) -> None:
    """8 to 32 bytes (RFC 7873 section 4); others are no cookies."""
    talk = Talk()
    query = talk.query()
    wrong = b"\0\x0a" + (8 + size).to_bytes(2, "big") + client_cookie(query) + bytes(size)
    header = b"\0\0\x81\x80\0\1\0\0\0\0\0\1"
    opt = b"\0\0\x29\x04\xd0\0\0\0\0" + len(wrong).to_bytes(2, "big") + wrong
    section = query[10 : 10 + len(WWW.section)]
    reply = header + section + opt
    assert (
        talk.dialect.retry_reason(exchange(WWW, query, NOW), reply, NOW, over_stream=False)
        == RetryReason.LOWERCASE
    )
    assert (len(talk.query()) > len(query)) == learnt


def test_a_reply_without_our_cookie_is_doubted_when_it_should_have_one() -> None:
    """Only an upstream that has given a cookie is held to it, and not over TCP."""
    talk = Talk()
    assert talk.hear(talk.query()) is None
    assert talk.hear(talk.query(), cookie=SERVER_COOKIE) is None
    assert talk.hear(talk.query()) == RetryReason.COOKIE
    assert talk.hear(talk.query(), edns=False) == RetryReason.COOKIE
    assert talk.hear(talk.query(), over_stream=True) is None
    assert talk.hear(talk.query(), cookie=SERVER_COOKIE) is None


def test_badcookie_is_tried_again_once() -> None:
    """The new cookie goes with the next query; when that is not good enough TCP is."""
    talk = Talk()
    talk.hear(talk.query(), cookie=SERVER_COOKIE)
    assert talk.hear(talk.query(), rcode=23, cookie=b"another!") == RetryReason.BADCOOKIE
    assert talk.query().endswith(b"another!")
    again = talk.again(talk.asked(), RetryReason.BADCOOKIE)
    assert talk.hear(again, rcode=23, cookie=b"a third!") == RetryReason.COOKIE
    assert talk.hear(again, rcode=23, cookie=b"a third!", over_stream=True) == RetryReason.EDNS


def test_another_address_of_ours_means_another_cookie() -> None:
    """So that an upstream cannot tell that we have moved; the same address keeps it."""
    talk = Talk()
    talk.dialect.moved("192.0.2.1")
    first = client_cookie(talk.query())
    talk.hear(talk.query(), cookie=SERVER_COOKIE)
    talk.dialect.moved("192.0.2.1")
    assert talk.query().endswith(first + SERVER_COOKIE)
    talk.dialect.moved("192.0.2.2")
    assert client_cookie(talk.query()) != first
    assert not talk.query().endswith(SERVER_COOKIE)


def test_no_cookies() -> None:
    """An OPT record without options."""
    talk = Talk(cookies=False)
    assert dns.message.from_wire(b"\0\0" + talk.query()).options == ()


def test_a_cookie_that_comes_no_more() -> None:
    """Three repetitions over TCP that bring none, or nothing: it is not asked for any longer."""
    for over_tcp in (True, False):
        talk = Talk()
        talk.hear(talk.query(), cookie=SERVER_COOKIE)
        for _ in range(COOKIE_MISSES):
            query = talk.query()
            assert talk.hear(query) == RetryReason.COOKIE
            if over_tcp:
                assert talk.hear(query, over_stream=True) is None
            else:
                talk.dialect.uncleared(RetryReason.COOKIE, talk.now)
        assert talk.hear(talk.query()) is None
        assert not talk.query().endswith(SERVER_COOKIE)
        assert talk.hear(talk.query(), cookie=SERVER_COOKIE) is None
        assert talk.hear(talk.query()) == RetryReason.COOKIE, "it has given one again"


def test_cookie_misses_count_in_a_row() -> None:
    """One that comes in between begins the count anew."""
    talk = Talk()
    for _ in range(5):
        talk.hear(talk.query(), cookie=SERVER_COOKIE)
        for _ in range(COOKIE_MISSES - 1):
            assert talk.hear(talk.query(), over_stream=True) is None
    assert talk.hear(talk.query()) == RetryReason.COOKIE


# EDNS, as queries show it; the rest is in test_edns.py.


def plain(query: bytes) -> bool:
    """Whether a query has no OPT record."""
    return dns.message.from_wire(b"\0\0" + query).edns < 0


def levels(asked: Exchange) -> int:
    """How much EDNS a query has."""
    if plain(asked.query):
        return PLAIN
    return FULL if dns.message.from_wire(b"\0\0" + asked.query).options else BARE


@pytest.mark.parametrize("echo", [True, False], ids=["OPT", "no OPT"])
@pytest.mark.parametrize("over_stream", [True, False])
@pytest.mark.parametrize("rcode", [1, 4, 16, 2, 5, 9])
def test_complaints_about_edns(rcode: int, over_stream: bool, echo: bool) -> None:
    """The question goes again without options, then without OPT; a habit of three is learnt."""
    if rcode == 16 and not echo:
        return  # the code has no other place
    talk = Talk()
    for _ in range(DESCENTS):
        asked = talk.asked()
        for level in (FULL, BARE):
            assert levels(asked) == level
            assert (
                talk.hear(asked, rcode=rcode, edns=echo, over_stream=over_stream)
                == RetryReason.EDNS
            )
            talk.again(asked, RetryReason.EDNS)
        assert levels(asked) == PLAIN
        assert talk.hear(asked, over_stream=over_stream) is None
    assert plain(talk.query())


@pytest.mark.parametrize("rcode", [2, 5, 9])
def test_other_errors_of_one_that_copes(rcode: int) -> None:
    """SERVFAIL for a broken zone, and the likes of it, have nothing to do with EDNS, unless there
    is no end of them.
    """
    talk = Talk()
    for _ in range(10):
        assert talk.hear(talk.asked(), cookie=SERVER_COOKIE) is None
        for _ in range(PATIENCE):
            assert talk.hear(talk.asked(), rcode=rcode, cookie=SERVER_COOKIE) is None
    assert talk.hear(talk.asked(), rcode=rcode, cookie=SERVER_COOKIE) == RetryReason.EDNS


def test_errors_that_say_why() -> None:
    """Whoever sends an Extended DNS Error knows EDNS: the error is about the name."""
    talk = Talk()
    asked = talk.asked()
    reply = dns.message.make_response(dns.message.from_wire(b"\0\0" + asked.query))
    reply.set_rcode(dns.rcode.SERVFAIL)
    reply.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS)])
    assert talk.dialect.retry_reason(asked, reply.to_wire(), talk.now, over_stream=False) is None


def test_formerr_to_a_plain_query() -> None:
    """It is about something else; random case is the last to be tried."""
    talk = Talk()
    asked = talk.again(talk.again(talk.asked(), RetryReason.EDNS), RetryReason.EDNS)
    assert talk.hear(asked, rcode=1) == RetryReason.LOWERCASE
    assert talk.hear(talk.again(asked, RetryReason.LOWERCASE), rcode=1) is None
    assert sent_name(asked.query) == WWW.name


def test_a_stranger_cannot_take_edns_away() -> None:
    """A forged FORMERR without a question is checked over TCP, with any number of them."""
    talk = Talk()
    talk.hear(talk.query())
    bare = b"\0\0\x81\x81" + bytes(8)
    for _ in range(10 * DESCENTS):
        assert (
            talk.dialect.retry_reason(talk.asked(), bare, talk.now, over_stream=False)
            == RetryReason.QUESTION
        )
        talk.hear(talk.query())
    assert not plain(talk.query())


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
def test_errors_without_a_question_prove_nothing(rcode: int) -> None:
    """Twelve octets with the right ID: like wrong case over UDP, an error over TCP."""
    talk = Talk()
    talk.hear(talk.asked(), cookie=b"cookie!!")
    bare = b"\0\0\x81" + bytes((0x80 | rcode,)) + bytes(8)
    asked = talk.asked()
    assert (
        talk.dialect.retry_reason(asked, bare, talk.now, over_stream=False) == RetryReason.QUESTION
    )
    assert not talk.dialect.trusts(RetryReason.QUESTION), "the upstream would have sent our cookie"
    over_tcp = talk.dialect.retry_reason(asked, bare, talk.now, over_stream=True)
    assert over_tcp is (RetryReason.EDNS if rcode in (1, 4) else None)


def test_formerr_in_other_case_is_a_forgery() -> None:
    """The letters come first."""
    talk = Talk()
    assert talk.hear(talk.query(), rcode=1, edns=False, lower=True) == RetryReason.CASE


def test_questions_with_do_keep_their_opt() -> None:
    """They go down to an OPT record without options; without signatures only when told so."""
    talk = Talk()
    signed = make_question(WWW.name, A, do=True)
    asked = talk.asked(signed)
    assert talk.hear(asked, rcode=1) == RetryReason.EDNS
    assert levels(talk.again(asked, RetryReason.EDNS)) == BARE
    assert dns.message.from_wire(b"\0\0" + asked.query).ednsflags & dns.flags.DO
    assert talk.hear(asked, rcode=1) == RetryReason.EDNS
    asked.unsigned = True
    assert talk.hear(asked, rcode=1) == RetryReason.EDNS
    assert levels(talk.again(asked, RetryReason.EDNS)) == PLAIN


# Names in random case that are denied.


@pytest.mark.parametrize("rcode", [3, 0])
def test_a_denial_is_asked_about_in_lower_case(rcode: int) -> None:
    """Once for each name, until one was answered in random case."""
    talk = Talk()
    for _ in range(3):
        asked = talk.asked()
        assert talk.hear(asked, rcode=rcode, answers=0) == RetryReason.LOWERCASE
        assert sent_name(talk.again(asked, RetryReason.LOWERCASE).query) == WWW.name
        assert talk.hear(asked, rcode=rcode, answers=0) is None
    assert talk.hear(talk.asked()) is None
    for _ in range(3):
        assert talk.hear(talk.asked(), rcode=rcode, answers=0) is None


def test_an_upstream_that_compares_octets() -> None:
    """Three names that it has in lower case only, and case is left alone."""
    talk = Talk()
    for _ in range(CASE_MISSES):
        asked = talk.asked()
        assert sent_name(asked.query) != WWW.name
        assert talk.hear(asked, rcode=3) == RetryReason.LOWERCASE
        assert talk.hear(talk.again(asked, RetryReason.LOWERCASE)) is None
    assert sent_name(talk.query()) == WWW.name


def test_truncated_comes_first() -> None:
    """TC sends the query to TCP, whatever else there is to say."""
    talk = Talk()
    assert talk.hear(talk.query(), truncated=True, lower=True) == RetryReason.TRUNCATED
    assert talk.hear(talk.query(), truncated=True, over_stream=True) is None


# With real sockets.

GOOD = b.answers("203.0.113.1")


def changed(good: Behaviour, change: object) -> Behaviour:
    """Have ``change`` rewrite the replies of ``good``."""

    def behave(query: Query) -> list[Action]:
        return [
            Send(change(action.data)) if isinstance(action, Send) else action  # type: ignore[operator]
            for action in good(query)
        ]

    return behave


def in_lower_case(wire: bytes) -> bytes:
    """A reply as servers give it that keep names in lower case."""
    end = wire.index(b"\0", 12)
    return wire[:12] + wire[12:end].lower() + wire[end:]


def only_without_edns(good: Behaviour, otherwise: Behaviour) -> Behaviour:
    """Be a server from before 1999."""
    return lambda query: (good if query.parsed.edns < 0 else otherwise)(query)


@pytest_twisted.ensureDeferred
async def test_an_upstream_without_edns() -> None:
    """FORMERR: each query is answered at the third try, and soon at the first."""
    with (
        ScriptedUpstream(only_without_edns(GOOD, b.rcode_without_edns("FORMERR"))) as server,
        loopback_upstream(server.endpoint) as asked,
    ):
        for _ in range(DESCENTS + 2):
            assert (await asked.ask()).verdict == Verdict.POSITIVE
        expected = [0, 0, -1] * DESCENTS + [-1, -1]
        assert [query.parsed.edns for query in server.queries] == expected
        signed = make_question(WWW.name, A, do=True)
        outcome = await asked.ask(signed)
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.NO_EDNS)
        assert len(server.queries) == len(expected)
        exchange = asked.upstream.ask(Judge(signed), "active", asked.clock.seconds(), unsigned=True)
        outcome = await exchange.deferred()
        assert outcome.verdict == Verdict.POSITIVE
        assert asked.marks == 0
        cell = asked.metrics.upstream_repeated.cell(asked.upstream.name, "edns")
        assert cell.value == 2 * DESCENTS


@pytest_twisted.ensureDeferred
async def test_an_upstream_that_knows_nothing_at_all() -> None:
    """FORMERR to everything is a failure, after four queries, and soon after one."""
    with (
        ScriptedUpstream(b.rcode_without_edns("FORMERR")) as server,
        loopback_upstream(server.endpoint) as asked,
    ):
        counts = []
        for _ in range(12):
            before = len(server.queries)
            outcome = await asked.ask()
            assert (outcome.verdict, outcome.reason) == (Verdict.FAILURE, Reason.FORMERR)
            counts.append(len(server.queries) - before)
        assert counts == [4] * 3 + [2] * 5 + [1] * 4


@pytest_twisted.ensureDeferred
async def test_an_upstream_in_lower_case() -> None:
    """Its first replies are fetched again over TCP, later ones taken: every answer is good."""
    with (
        ScriptedUpstream(changed(GOOD, in_lower_case)) as server,
        loopback_upstream(server.endpoint) as asked,
    ):
        for _ in range(CASE_MISSES + 2):
            assert (await asked.ask()).verdict == Verdict.POSITIVE
        asked.upstream.close()
        await no_connections()
        transports = [query.transport for query in server.queries]
        assert transports.count("tcp") <= CASE_MISSES
        assert transports[-2:] == ["udp", "udp"]


@pytest_twisted.ensureDeferred
async def test_a_server_with_cookies() -> None:
    """The server's cookie comes back to it; a reply without one is fetched again over TCP."""
    cookies: list[bytes] = []

    def behave(query: Query) -> list[Action]:
        option = query.parsed.options[0]
        cookies.append(option.to_wire())
        message = dns.message.from_wire(b.reply(query, [(None, 60, "A", "203.0.113.1")]))
        option = cookie_option(option.to_wire()[:8] + SERVER_COOKIE)
        forgets = query.transport == "udp" and query.number == 2
        message.use_edns(0, options=[] if forgets else [option])
        return [Send(message.to_wire())]

    with ScriptedUpstream(behave) as server, loopback_upstream(server.endpoint) as asked:
        for _ in range(4):
            assert (await asked.ask()).verdict == Verdict.POSITIVE
        asked.upstream.close()
        await no_connections()
        assert [query.transport for query in server.queries] == ["udp", "udp", "udp", "tcp", "udp"]
        assert len(cookies[0]) == 8
        assert {*cookies[1:]} == {cookies[0] + SERVER_COOKIE}


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_real_server_with_cookies(tmp_path: Path) -> None:
    """NSD gives us a cookie (RFC 9018), gets it back, and nothing is asked twice."""
    zone = "$ORIGIN example.\n$TTL 60\n@ SOA ns host 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
    endpoint = free_endpoint()
    with (
        daemons.nsd(tmp_path, {"example": zone + "www A 192.0.2.2\n"}, [endpoint]),
        loopback_upstream(endpoint) as asked,
    ):
        for _ in range(5):
            assert (await asked.ask()).verdict == Verdict.POSITIVE
        assert len(asked.upstream.dialect.cookies.server) == 16
        assert asked.upstream.dialect._is_settled
        assert not any(asked.metrics.upstream_repeated.values().values())


@pytest_twisted.ensureDeferred
async def test_names_in_data_have_no_random_case() -> None:
    """What a compressed name takes from the question is as the question was, in lower case."""
    with (
        ScriptedUpstream(b.cname_chain(["cdn.www.example."], "203.0.113.1")) as server,
        loopback_upstream(server.endpoint) as asked,
    ):
        outcome = await asked.ask()
        assert outcome.verdict == Verdict.POSITIVE
        assert isinstance(outcome.answer, AddressPool)
        assert outcome.answer.cname_chain == (b"\3cdn\3www\7example\0",)


def test_case_of_a_name_without_letters() -> None:
    """Nothing to randomise: the root, and octets that are no letters."""
    talk = Talk()
    for labels in ([], [b"0-9_", b"\xc3\xa9@[`{"]):
        question = make_question(from_labels(labels), A)
        assert talk.query(question)[10:].startswith(question.section)


def test_an_overlong_label_is_no_question() -> None:
    """Label lengths, at most 63, cannot be taken for letters."""
    with pytest.raises(WireError):
        from_labels([b"a" * 64])
