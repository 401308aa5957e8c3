"""Groups of clients in the whole program: who is asked for whom, and what each client gets
(docs/specification.rst, Groups).
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.kit.acts import fails, says
from tests.kit.clients import addresses, parse
from tests.kit.messages import client_query
from tests.kit.routed import (
    INSIDE,
    NO_RANKING,
    PUBLIC,
    SECOND_INSIDE,
    RoutedProgram,
    answers,
    own_address,
)

KID, GUEST, OTHER = "10.2.0.7", "10.3.0.7", "10.9.0.7"
LISTENER = "127.0.0.2:5300"
GROUPS = (
    NO_RANKING
    + f"""
server: {{listen: ['127.0.0.1:5300', '{LISTENER}']}}
groups:
  kids: {{clients: [10.2.0.0/16], routes: [{{domains: [example], servers: [{INSIDE}]}}]}}
  guests:
    listeners: ['{LISTENER}']
    routes: [{{domains: [example], servers: [{SECOND_INSIDE}]}}]
"""
)
TRANSPORTS = ("udp", "tcp", "tls", "https")


def program() -> RoutedProgram:
    """A program with a group by network and one by listener, whose names differ from those of all
    others in who is asked.
    """
    return RoutedProgram("", more=GROUPS)


def answer(program: RoutedProgram, client: str, listener: str = "", **more: Any) -> list[str]:
    """What a client gets for the one name that all ask for."""
    return program.answer("www.example", client=client, listener=listener, **more)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_group_has_its_own_answers(transport: str) -> None:
    """Of the same name: at first, from the cache, and as a ready reply."""
    started = program()
    for ready in (False, False, True, True):
        for client, listener, host in (
            (KID, "", INSIDE),
            (KID, LISTENER, INSIDE),
            (GUEST, LISTENER, SECOND_INSIDE),
            (GUEST, "", PUBLIC),
            (OTHER, "", PUBLIC),
            (OTHER, LISTENER, SECOND_INSIDE),
        ):
            asked = started.ask(
                "www.example", client=client, listener=listener, transport=transport
            )
            started.wait(10)
            assert asked.result == [own_address(host)]
            if ready:
                assert asked.ready
    assert len(started.launched) == 3, "once for each scope"
    for host in (PUBLIC, INSIDE, SECOND_INSIDE):
        assert started.names(host) == {"www.example"}


def test_a_stale_answer_stays_in_its_group() -> None:
    """And so does the refresh behind it."""
    started = program()
    places = {(KID, ""): INSIDE, (GUEST, LISTENER): SECOND_INSIDE, (OTHER, ""): PUBLIC}
    for host in places.values():
        started.script(host, answers(host, ttl=10))
    for client, listener in places:
        answer(started, client, listener)
    started.wait(60_000)
    for host in places.values():
        started.script(host, fails(5))
    for (client, listener), host in places.items():
        assert answer(started, client, listener) == [own_address(host)]
    for number, host in enumerate(places.values()):
        started.script(host, says(5, f"203.9.0.{number}"))
    started.wait(60_000)
    for (client, listener), host in places.items():
        assert answer(started, client, listener) == [own_address(host)], "stale"
    for number, (client, listener) in enumerate(places):
        assert answer(started, client, listener) == [f"203.9.0.{number}"], "refreshed"


def test_single_flight_is_of_a_scope() -> None:
    """Clients that ask at the same time share a collection if their groups ask in the same way."""
    started = program()
    asked = [
        started.ask("www.example", client=client, listener=listener)
        for client, listener in [(KID, ""), (OTHER, ""), (KID, LISTENER), (GUEST, LISTENER)] * 2
    ]
    started.wait(10)
    expected = [INSIDE, PUBLIC, INSIDE, SECOND_INSIDE] * 2
    assert [one.result for one in asked] == [[own_address(host)] for host in expected]
    assert len(started.launched) == 3


def test_groups_that_ask_in_the_same_way_share_the_cache() -> None:
    """Whatever else tells them apart."""
    started = RoutedProgram(
        f"{{domains: [corp.example], servers: [{INSIDE}]}}",
        more=NO_RANKING + "groups:\n  a: {clients: [10.2.0.0/16]}\n"
        f"  b: {{clients: [10.3.0.0/16], routes: [{{domains: [corp.example], "
        f"servers: [{INSIDE}]}}]}}\n",
    )
    for qname, host in (("x.corp.example", INSIDE), ("www.example", PUBLIC)):
        for client in (KID, GUEST, OTHER):
            assert started.answer(qname, client=client) == [own_address(host)]
    assert len(started.launched) == 2


def test_a_group_without_such_names() -> None:
    """A route without servers denies the names to one group alone, special names included."""
    started = RoutedProgram(
        "",
        more=NO_RANKING + "groups:\n  kids: {clients: [10.2.0.0/16], routes: "
        f"[{{domains: [bad.example], servers: []}}, {{domains: [home.arpa], servers: [{INSIDE}]}}]"
        "}\n",
    )
    for _ in range(2):
        assert started.answer("www.bad.example", client=KID) == ["NXDOMAIN"]
        assert started.answer("www.bad.example", client=OTHER) == [own_address(PUBLIC)]
        assert started.answer("nas.home.arpa", client=KID) == [own_address(INSIDE)]
        assert started.answer("nas.home.arpa", client=OTHER) == ["NXDOMAIN"]
    assert started.names(PUBLIC) == {"www.bad.example"}


def test_programs_that_want_answers_get_those_of_the_default_group() -> None:
    """`Chain.resolver` knows of no clients."""
    started = RoutedProgram(
        "",
        more=NO_RANKING + "groups:\n"
        f"  default: {{routes: [{{domains: [example], servers: [{INSIDE}]}}]}}\n"
        f"  kids: {{clients: [127.0.0.0/8], routes: []}}\n",
    )
    found = started.chain.resolver.lookupAddress("www.example")
    started.wait(10)
    assert isinstance(found, Deferred)
    records: list[Any] = []
    found.addCallback(lambda result: records.extend(result[0]))
    assert [record.payload.dottedQuad() for record in records] == [own_address(INSIDE)]
    assert started.answer("www.example", client="127.0.0.1") == [own_address(PUBLIC)]
    assert started.answer("www.example", client=OTHER) == [own_address(INSIDE)]


def test_clients_that_may_not_ask() -> None:
    """A group is no permission."""
    started = RoutedProgram("", more=NO_RANKING + "groups: {kids: {clients: [192.0.2.0/24]}}")
    assert started.answer("www.example", client="192.0.2.7") == ["REFUSED"]
    assert started.answer("www.example", client="192.0.2.7") == ["REFUSED"]
    assert started.launched == []


@pytest.mark.parametrize(("client", "host"), [(KID, INSIDE), (GUEST, PUBLIC)])
def test_what_comes_in_by_no_listener(client: str, host: str) -> None:
    """Messages that another program hands to the factory count for the group of their client's
    network, or for the default one.
    """
    started = program()
    now = started.clock.seconds()
    query = client_query("www.example.")
    found = started.service.factory.serve(query, client, "udp", now)
    assert isinstance(found, Deferred)
    replies: list[bytes] = []
    found.addCallback(replies.append)
    started.wait(10)
    assert addresses(parse(replies[0])) == [own_address(host)]
