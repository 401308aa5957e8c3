"""What becomes of answers, collections and upstreams when another configuration counts
(docs/specification.rst, Reload).
"""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staggerdns.assembly import Assembly
from staggerdns.policy.groups import GroupRoutes, Groups
from staggerdns.resolver.context import CollectionContext
from staggerdns.strategy.strategies import Strategies
from tests.kit.acts import NOERROR, SILENT, negative, says
from tests.kit.routed import (
    INSIDE,
    NO_RANKING,
    PUBLIC,
    SECOND_INSIDE,
    RoutedProgram,
    answers,
    own_address,
)

SECOND = "192.0.2.2"
THIRD = "192.0.2.3"
BOTH = f"{PUBLIC}, {SECOND}"
NAME = "www.example"
CORP = "www.corp.example"


def started(routes: str = "", *, name: str = NAME, **more: Any) -> RoutedProgram:
    """A program in which the addresses of a name are known, and have been for a second."""
    program = RoutedProgram(routes, **more)
    program.answer(name)
    program.wait(1_000)
    return program


def route(*servers: str, more: str = "") -> str:
    """A route of one domain to these servers."""
    return f"{{domains: [corp.example], servers: [{', '.join(servers)}]{more}}}"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"servers": f"{SECOND}, {PUBLIC}"},
        {"upstream": ", strategy: racing"},
        {"upstream": ", timeout: 2s, health: {open_for: 20s}"},
        {"upstream": ", parallel: {stagger_delay: 20ms}"},
        {"more": NO_RANKING + "cache: {max_entries: 7}\n"},
        {"more": NO_RANKING + "server: {allow: [10.0.0.0/8]}\n"},
        {"routes": route(INSIDE)},
        {"more": NO_RANKING + "groups: {kids: {clients: [10.9.0.0/16]}}\n"},
    ],
)
def test_what_is_asked_of_the_same_upstreams(changed: dict[str, str]) -> None:
    """It is known as before: nobody is asked again, and nothing of the answer is another."""
    program = started(servers=BOTH)
    before = program.ask(NAME).result
    assert sorted(before) == sorted(map(own_address, (PUBLIC, SECOND)))
    count = len(program.launched)
    program.change(**{"servers": BOTH, **changed})
    found = program.ask(NAME)
    assert found.result == before
    assert 290 < found.reply.answer[0].ttl <= 299
    program.wait(1_000)
    assert len(program.launched) == count
    program.answer("other.example")
    assert PUBLIC in program.asked(count)


def test_an_upstream_comes() -> None:
    """What the others have said is given at once as a stale answer is, and all are asked anew."""
    program = started(servers=PUBLIC)
    count = len(program.launched)
    program.change(servers=BOTH)
    found = program.ask(NAME)
    assert found.result == [own_address(PUBLIC)]
    assert found.reply.answer[0].ttl == 5
    program.wait(1_000)
    assert sorted(program.asked(count)) == [PUBLIC, SECOND]
    assert sorted(program.ask(NAME).result) == sorted(map(own_address, (PUBLIC, SECOND)))


def test_an_upstream_leaves() -> None:
    """Where it has brought an address, nothing of the answer is given any more."""
    program = started(servers=BOTH)
    program.script(SECOND, SILENT)
    program.answer("one.example")
    program.wait(4_000)
    assert program.ask("one.example").result == [own_address(PUBLIC)]
    count = len(program.launched)
    program.change(servers=PUBLIC)
    assert program.ask("one.example").result == [own_address(PUBLIC)], "it stays without a query"
    assert not program.ask(NAME).answered
    program.wait(1_000)
    assert program.asked(count) == [PUBLIC] * 2
    assert program.ask(NAME).result == [own_address(PUBLIC)]


def test_an_answer_without_addresses() -> None:
    """It is not known who gave it, so it goes when upstreams do."""
    program = RoutedProgram("", servers=BOTH)
    for host in (PUBLIC, SECOND):
        program.script(host, negative(5, NOERROR, ttl=300))
    assert program.answer(NAME) == ["NOERROR"]
    program.wait(1_000)
    count = len(program.launched)
    program.change(servers=f"{SECOND}, {PUBLIC}")
    assert program.answer(NAME) == ["NOERROR"]
    assert len(program.launched) == count
    program.change(servers=f"{BOTH}, {THIRD}")
    program.answer(NAME)
    assert THIRD in program.asked(count)


@pytest.mark.parametrize(
    "more",
    [
        "rebinding: {strip: true}\n",
        "addresses: {ignore: [198.51.100.0/24]}\n",
        "addresses: {bogus_nxdomain: [198.51.100.0/24]}\n",
    ],
)
def test_other_rules_about_addresses(more: str) -> None:
    """What was found by the old ones may hold what is not to be given any more."""
    program = started()
    count = len(program.launched)
    program.change(more=NO_RANKING + more)
    assert program.answer(NAME) == [own_address(PUBLIC)]
    assert len(program.launched) == count + 1
    program.answer(NAME)
    assert len(program.launched) == count + 1


def test_a_route_comes_and_goes() -> None:
    """Its names are asked where they belong at once, and what others know is not lost."""
    program = started(name=CORP)
    program.change(route(INSIDE))
    assert program.answer(CORP) == [own_address(INSIDE)]
    count = len(program.launched)
    program.change()
    assert program.answer(CORP) == [own_address(PUBLIC)]
    assert len(program.launched) == count


def test_a_route_to_other_servers() -> None:
    """It is known by its name: an answer stays, as a stale one, if who gave it is still asked."""
    program = started(route(INSIDE), name=CORP)
    count = len(program.launched)
    program.change(route(INSIDE, SECOND_INSIDE))
    found = program.ask(CORP)
    assert (found.result, found.reply.answer[0].ttl) == ([own_address(INSIDE)], 5)
    program.wait(1_000)
    assert sorted(program.asked(count)) == [INSIDE, SECOND_INSIDE]
    count = len(program.launched)
    program.change(route(SECOND_INSIDE))
    assert not program.ask(CORP).answered
    program.wait(1_000)
    assert program.asked(count) == [SECOND_INSIDE]
    assert program.names(PUBLIC) == set()


def test_two_changes_before_anybody_asks() -> None:
    """Both count."""
    program = started(servers=PUBLIC)
    program.change(servers=SECOND)
    program.change(servers=BOTH)
    count = len(program.launched)
    assert not program.ask(NAME).answered
    program.wait(1_000)
    assert sorted(program.asked(count)) == [PUBLIC, SECOND]


def test_the_same_as_before_the_last_change() -> None:
    """A route that was away has its answers no more: another may have had its number meanwhile."""
    program = started(route(INSIDE), name=CORP)
    program.change(f"{{domains: [lab.example], servers: [{SECOND_INSIDE}]}}")
    program.change(route(INSIDE))
    count = len(program.launched)
    assert program.answer(CORP) == [own_address(INSIDE)]
    assert program.asked(count) == [INSIDE]


def test_a_collection_goes_on() -> None:
    """Whoever comes after the reload joins it, and nobody is asked twice."""
    program = RoutedProgram("", servers=f"{BOTH}, {THIRD}")
    program.script(PUBLIC, answers(PUBLIC, after=60))
    program.script(SECOND, answers(SECOND, after=70))
    first = program.ask(NAME)
    program.wait(20)
    program.change(
        route(INSIDE), servers=f"{BOTH}, {THIRD}", upstream=", timeout: 2s, strategy: racing"
    )
    second = program.ask(NAME)
    program.wait(1_000)
    assert first.result == second.result == [own_address(PUBLIC)]
    assert first.at == second.at == 60
    assert sorted(program.asked()) == [PUBLIC, SECOND, THIRD]
    assert len(program.ask(NAME).result) == 3


def test_a_collection_of_another_scope() -> None:
    """It ends for those who wait for it; whoever comes later is asked for by the new rules, and
    what the old one finds is kept nowhere.
    """
    program = RoutedProgram("", servers=PUBLIC)
    program.script(PUBLIC, answers(PUBLIC, after=60))
    first = program.ask(NAME)
    program.wait(20)
    program.change(servers=SECOND)
    second = program.ask(NAME)
    program.wait(10)
    assert second.result == [own_address(SECOND)]
    assert not first.answered
    program.wait(100)
    assert first.result == [own_address(PUBLIC)]
    assert program.ask(NAME).result == [own_address(SECOND)]
    assert program.asked() == [PUBLIC, SECOND]


def test_a_collection_that_falls_back() -> None:
    """It asks the upstreams that were the default ones when it began."""
    program = RoutedProgram(route(INSIDE, more=", fallback: true"), servers=PUBLIC)
    program.script(INSIDE, SILENT)
    first = program.ask(CORP)
    program.wait(500)
    program.change(servers=SECOND)
    program.wait(4_000)
    assert first.result == [own_address(PUBLIC)]
    assert program.answer(CORP) == [own_address(SECOND)]


def test_an_upstream_is_closed_when_nobody_waits_for_it() -> None:
    """Until then it is asked, and shown no more."""
    program = RoutedProgram("", servers=BOTH)
    program.script(SECOND, answers(SECOND, after=200))
    closed: list[str] = []
    upstream = program.upstreams[SECOND]
    upstream.script.close = lambda: closed.append(SECOND)  # type: ignore[method-assign]
    first = program.ask(NAME)
    program.change(servers=PUBLIC)
    assert closed == []
    program.wait(100)
    assert first.answered
    assert closed == []
    program.wait(200)
    assert set(closed) == {SECOND}
    program.close()
    assert len(closed) == 2  # one for each way of sending


def test_health_is_kept() -> None:
    """By other settings too."""
    program = RoutedProgram("", servers=BOTH)
    program.upstreams[PUBLIC].open_circuit()
    program.change(servers=BOTH, upstream=", health: {open_for: 1m}, timeout: 1s")
    assert program.answer(NAME) == [own_address(SECOND)]
    assert program.asked() == [SECOND]


def test_what_is_believed_where_others_fall_back() -> None:
    """A route whose names the default upstreams answer has what their rules make of that."""
    routed = route(INSIDE, more=", fallback: true, rebinding: {strip: false}")
    program = RoutedProgram(routed, servers=PUBLIC)
    program.script(INSIDE, negative(5, 2))
    program.script(PUBLIC, says(5, "10.9.9.9"))
    assert program.answer(CORP) == ["10.9.9.9"]
    program.change(routed, servers=PUBLIC, more=NO_RANKING + "rebinding: {strip: true}\n")
    assert program.answer(CORP) != ["10.9.9.9"]


def test_pins_count() -> None:
    """An upstream whose key is another one, or none, is another upstream."""
    first, second = (f"tls://192.0.2.1;pin-sha256={letter * 43}=" for letter in "AE")
    program = started(servers=f"'{first}'")
    for servers in (second, "tls://192.0.2.1"):
        made = len(program.made)
        program.change(servers=f"'{servers}'")
        assert len(program.made) == made + 1
        count = len(program.launched)
        program.answer(NAME)
        assert len(program.launched) == count + 1


def test_a_wrong_configuration_changes_nothing() -> None:
    """Nothing of it counts."""
    program = started()
    with pytest.raises(ValueError, match="belongs to"):
        program.change(f"{route(INSIDE)}, {route(SECOND_INSIDE)}")
    assert program.answer(CORP) == [own_address(PUBLIC)]


def test_ranking_begins_and_ends() -> None:
    """Answers that are known are put in order when they are fetched anew."""
    program = started(servers=BOTH)
    ranked = "ranking: {probes: ['tcp:443'], samples: 1}\nlocal: {hosts: null}\n"
    program.change(servers=BOTH, more=ranked)
    assert program.ask(NAME).reply.answer[0].ttl == 5
    program.wait(300)
    opened = len(program.clock.tcpClients)
    assert opened
    program.establish()
    assert program.ask(NAME).reply.answer[0].ttl > 250
    program.change(servers=BOTH, more=ranked.replace("samples: 1", "samples: 2"))
    assert program.ask(NAME).reply.answer[0].ttl > 250
    program.change(servers=BOTH)
    assert program.ask(NAME).result
    program.wait(300)
    program.close()
    assert program.clock.getDelayedCalls() == []


CHANGES: list[dict[str, str]] = [
    {},
    {"servers": ", ".join(f"192.0.2.{number}" for number in (4, 2, 1, 5, 3))},
    {"routes": route(INSIDE)},
    {"routes": route(SECOND_INSIDE)},
    {"upstream": ", timeout: 2s"},
    {"upstream": ", strategy: racing"},
    {"more": NO_RANKING + "cache: {max_ttl: 100}\n"},
    {"more": NO_RANKING + "server: {max_udp_size: 512}\n"},
]
"""What has nothing to do with the scope of a name under way; the last three of its own settings
that count for collections which begin later.
"""


@settings(max_examples=25, deadline=None)
@given(
    after=st.lists(st.sampled_from([5, 40, 90, 180, 350]), min_size=5, max_size=5),
    reloads=st.lists(
        st.tuples(st.integers(1, 120), st.sampled_from(CHANGES)), min_size=1, max_size=4
    ),
    names=st.integers(1, 8),
)
def test_launches_are_those_without_reloads(
    after: list[float], reloads: list[tuple[int, dict[str, str]]], names: int
) -> None:
    """Reloads in the middle of collections change nothing of who is asked when."""
    servers = ", ".join(f"192.0.2.{number}" for number in range(1, 6))

    def run(changes: list[tuple[int, dict[str, str]]]) -> tuple[list[Any], list[Any]]:
        program = RoutedProgram("", servers=servers)
        for number, host in enumerate(servers.split(", ")):
            program.script(host, says(after[number], own_address(host)))
        waiting = [program.ask(f"n{number}.example") for number in range(names)]
        for duration, change in changes:
            program.wait(duration)
            program.change(**{"servers": servers, **change})
            waiting += [program.ask(f"n{number}.example") for number in range(names)]
        program.wait(4_000)
        launched = [(launch.at, launch.upstream, launch.tier) for launch in program.launched]
        return launched, [one.result for one in waiting[:names]]

    assert run(reloads) == run([])


def test_a_thousand_collections() -> None:
    """A reload in the middle of so many changes nothing of who is asked when, for any of them."""
    servers = ", ".join(f"192.0.2.{number}" for number in range(1, 4))

    def run(*, reloads: bool) -> list[tuple[float, int, str]]:
        program = RoutedProgram("", servers=servers)
        for number, host in enumerate(servers.split(", ")):
            program.script(host, answers(host, after=10 + 40 * number))
        waiting = [program.ask(f"n{number}.example") for number in range(1_000)]
        for change in CHANGES[2:] if reloads else ():
            program.change(**{"servers": servers, **change})
            program.wait(9)
        if not reloads:
            program.wait(10 * len(CHANGES[2:]))
        program.wait(4_000)
        assert all(one.answered for one in waiting)
        return [(launch.at, launch.upstream, launch.tier) for launch in program.launched]

    launched = run(reloads=True)
    assert len(launched) == 3_000
    assert launched == run(reloads=False)


def test_nothing_stays_of_what_was_before() -> None:
    """However often another configuration counts."""
    kinds = (GroupRoutes, Strategies, CollectionContext, Assembly, Groups)

    def counts() -> Counter[type]:
        gc.collect()
        return Counter(type(one) for one in gc.get_objects() if isinstance(one, kinds))

    program = started(servers=BOTH)
    before: Counter[type] = Counter()
    for number in range(12):
        program.change(**{"servers": BOTH, **CHANGES[number % len(CHANGES)]})
        program.answer(f"n{number}.example")
        program.wait(4_000)
        if number == len(CHANGES) - 1:
            before = counts()
    program.change(**{"servers": BOTH, **CHANGES[-1]})
    assert counts() == before
    program.close()
