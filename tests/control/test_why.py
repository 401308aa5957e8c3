"""The command `why`, in a whole program on a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from staggerdns.control.asking import SORTED_WITHIN
from staggerdns.control.protocol import BAD_REQUEST
from tests.kit.acts import Act, fails, negative, says
from tests.kit.commands import begin, do, refused, until
from tests.kit.listed import ListedProgram
from tests.kit.routed import INSIDE, NO_RANKING, PUBLIC, RoutedProgram

if TYPE_CHECKING:
    from staggerdns.wire.question import Question

THREE = f"{PUBLIC}, 192.0.2.2, 192.0.2.3"
ROUTE = f"{{domains: [corp.example], servers: [{INSIDE}]}}"


def program(more: str = NO_RANKING) -> RoutedProgram:
    """A program with three upstreams, which bring five addresses, and a route."""
    running = RoutedProgram(ROUTE, servers=THREE, more=more)
    running.script(PUBLIC, says(10, "203.0.113.1", "203.0.113.2"))
    running.script("192.0.2.2", says(20, "203.0.113.2", "203.0.113.3"))
    running.script("192.0.2.3", says(5, "203.0.113.4", "10.0.0.9"))
    running.script(INSIDE, says(7, "10.1.1.1"))
    return running


def asked(result: dict[str, Any], *keys: str) -> list[tuple[Any, ...]]:
    """These fields of all queries of a trace."""
    return [tuple(one[key] for key in keys) for one in result["trace"]["asked"]]


def test_a_name() -> None:
    """All of a collection, and the answer as it stands."""
    running = program()
    running.ask("www.example")
    until(running, 2_000)
    result = do(running, "why", name="WWW.example")
    assert result["question"] == {
        "name": "www.example.",
        "type": "A",
        "class": 1,
        "do": False,
        "cd": False,
    }
    assert result["scope"] == {"number": 0, "route": ""}
    assert result["list"] == ""
    assert asked(result, "upstream", "tier", "at_ms", "took_ms", "result", "first", "new") == [
        (f"{PUBLIC}:53", "active", 0.0, 10.0, "positive", True, 2),
        ("192.0.2.2:53", "active", 0.0, 20.0, "positive", False, 1),
        ("192.0.2.3:53", "staggered", 50.0, 5.0, "positive", False, 1),
    ]
    assert asked(result, "rcode", "ttl", "more") == [("NOERROR", 300, 0)] * 3
    trace, answer = result["trace"], result["answer"]
    assert trace["asked"][2]["dropped"] == [{"address": "10.0.0.9", "why": "private"}]
    assert trace["asked"][1]["addresses"] == ["203.0.113.2", "203.0.113.3"]
    assert (trace["client_ms"], trace["ended_ms"], trace["running"]) == (10.0, 55.0, False)
    assert (trace["strategy"], trace["generation"], trace["sorts"]) == ("parallel", 1, [])
    assert trace["spared"] == 0
    assert (answer["rcode"], answer["phase"], answer["negative"]) == ("NOERROR", "fresh", False)
    assert [(one["address"], one["from"]) for one in answer["addresses"]] == [
        ("203.0.113.1", [f"{PUBLIC}:53"]),
        ("203.0.113.2", [f"{PUBLIC}:53", "192.0.2.2:53"]),
        ("203.0.113.3", ["192.0.2.2:53"]),
        ("203.0.113.4", ["192.0.2.3:53"]),
    ]
    assert {one["why"] for one in answer["addresses"]} == {"as it came: nothing is ranked"}


def test_a_collection_under_way() -> None:
    """What waits is there, too."""
    running = program()
    running.script("192.0.2.2", fails(1))
    running.script("192.0.2.3", says(500, "203.0.113.4"))
    running.ask("www.example")
    until(running, 100)
    result = do(running, "why", name="www.example")
    assert asked(result, "upstream", "took_ms", "result", "reason") == [
        ("192.0.2.2:53", 1.0, "failure", "servfail"),
        (f"{PUBLIC}:53", 10.0, "positive", ""),
        ("192.0.2.3:53", None, "waiting", ""),
    ]
    assert (result["trace"]["running"], result["trace"]["ended_ms"]) == (True, None)
    assert result["answer"]["phase"] == "collecting"


def test_a_name_that_does_not_exist() -> None:
    """A negative has its code, and no addresses."""
    running = program()
    for host in (PUBLIC, "192.0.2.2", "192.0.2.3"):
        running.script(host, negative(5, rcode=3))
    running.ask("no.example")
    until(running, 1_000)
    result = do(running, "why", name="no.example")
    assert set(asked(result, "result", "rcode", "addresses")[0][:2]) == {"negative", "NXDOMAIN"}
    assert result["trace"]["asked"][0]["first"] is True
    assert (result["answer"]["rcode"], result["answer"]["negative"]) == ("NXDOMAIN", True)
    assert result["answer"]["addresses"] == []


def test_nothing_is_known() -> None:
    """Of a name that nobody has asked for."""
    running = program()
    result = do(running, "why", name="www.example", type="aaaa")
    assert result["question"]["type"] == "AAAA"
    assert (result["trace"], result["answer"]) == (None, None)
    until(running, 1_000)
    assert running.asked() == []


def test_to_ask() -> None:
    """It is asked for then, and the result comes when all has ended; what is kept is not asked."""
    running = program()
    results: list[Any] = []
    begin(running, "why", name="www.example", ask=True).addCallback(results.append)
    until(running, 54)
    assert not results
    until(running, 56)
    (result,) = results
    assert len(result["trace"]["asked"]) == 3
    assert len(result["answer"]["addresses"]) == 4
    before = len(running.asked())
    begin(running, "why", name="www.example", ask=True).addCallback(results.append)
    assert len(results) == 2
    until(running, 1_000)
    assert len(running.asked()) == before


PROBES = "local: {hosts: null}\nranking: {probes: ['tcp:443'], timeout: 10s}"


def test_to_ask_for_what_is_sorted() -> None:
    """The end of the sort is waited for, and no longer."""
    running = program(more=PROBES)
    results: list[Any] = []
    begin(running, "why", name="www.example", ask=True).addCallback(results.append)
    until(running, 60)
    while not results:
        assert running.now < 60 + 500 * SORTED_WITHIN
        until(running, running.now + 10)
        running.establish()
    assert results[0]["trace"]["sorts"][-1]["result"] == "sorted"


def test_a_sort_that_lasts() -> None:
    """It is not waited for any longer than so."""
    running = program(more=PROBES)
    results: list[Any] = []
    begin(running, "why", name="www.example", ask=True).addCallback(results.append)
    for _ in range(2_000):  # nobody answers the probes
        running.clock.advance(0.001)
    assert results[0]["trace"]["sorts"][-1]["result"] == "waiting"


def test_a_route() -> None:
    """The name is that of the scope to which it leads."""
    running = program()
    running.ask("db.corp.example")
    until(running, 1_000)
    result = do(running, "why", name="db.corp.example")
    assert result["scope"]["number"] > 0
    assert result["scope"]["route"] != ""
    assert asked(result, "upstream", "first") == [(f"{INSIDE}:53", True)]


def test_names_of_no_route() -> None:
    """A route without servers says that there are no such names: nothing is asked."""
    running = RoutedProgram("{domains: [lan.example], servers: []}")
    result = do(running, "why", name="db.lan.example", ask=True)
    assert result["scope"]["route"] == "without servers"
    assert (result["trace"], result["answer"], running.asked()) == (None, None, [])


RECORDS = """
ranking: {enabled: false}
local:
  hosts: null
  records: {nas.home.example: 192.168.1.10, old.example: {cname: www.example}}
"""


@pytest.mark.parametrize(
    ("name", "qtype", "rcode"),
    [
        ("nas.home.example", "A", "NOERROR"),
        ("nas.home.example", "MX", "NOERROR"),
        ("localhost", "A", "NOERROR"),
        ("x.invalid", "A", "NXDOMAIN"),
        ("ready.staggerdns.invalid", "TXT", "SERVFAIL"),
        ("1.1.168.192.in-addr.arpa", "PTR", "NXDOMAIN"),
        ("www.example", "ANY", "NOERROR"),
        ("www.example", "AXFR", "REFUSED"),
        ("www.example", "TYPE0", "FORMERR"),
    ],
)
def test_what_is_ours(name: str, qtype: str, rcode: str) -> None:
    """It is told, and never leaves the house, whoever wants it to be asked."""
    running = program(more=RECORDS)
    result = do(running, "why", name=name, type=qtype, ask=True)
    assert result["local"]["rcode"] == rcode
    assert (result["trace"], result["answer"], running.asked()) == (None, None, [])


def test_a_record_that_leads_elsewhere() -> None:
    """Its target is asked for, and told of."""
    running = program(more=RECORDS)
    results: list[Any] = []
    begin(running, "why", name="old.example", ask=True).addCallback(results.append)
    until(running, 2_000)
    (result,) = results
    assert result["question"]["name"] == "old.example."
    assert result["local"] == {"rcode": "", "cnames": ["www.example."], "addresses": []}
    assert len(asked(result, "upstream")) == 3
    assert len(result["answer"]["addresses"]) == 4
    of_target = do(running, "why", name="www.example")
    assert of_target["trace"]["generation"] == result["trace"]["generation"]


def test_upstreams_that_are_gone() -> None:
    """An answer that a reload has voided is not called fresh; nor is one that waits for its refresh
    by others.
    """
    running = program()
    running.ask("www.example")
    until(running, 2_000)
    running.change(ROUTE, servers=f"{THREE}, 192.0.2.4")
    answer = do(running, "why", name="www.example")["answer"]
    assert (answer["phase"], answer["ttl"]) == ("stale", 5)
    running.change(ROUTE, servers=PUBLIC)
    assert do(running, "why", name="www.example")["answer"]["phase"] == "expired"
    (entry,) = do(running, "cache", name="www.example")["entries"]
    assert (entry["stale"], entry["servable"]) == (True, False)


def test_a_lone_alias() -> None:
    """Those who gave nothing but a CNAME are told apart from those that have no data."""
    running = program()
    alias = says(5, cname_chain=["target.example"]).reply
    found = says(5, "203.0.113.1").reply
    assert alias is not None
    assert found is not None

    def act(question: Question) -> bytes:
        return (alias if question.name.startswith(b"\3www") else found)(question)

    for host in (PUBLIC, "192.0.2.2", "192.0.2.3"):
        running.script(host, Act(5, act))
    running.ask("www.example")
    for at in (7, 2_000):  # while it runs, and when it is kept in brief
        until(running, at)
        told = asked(do(running, "why", name="www.example"), "alias", "result")
        assert ("target.example.", "negative") in told
    assert told[-1] == ("", "positive")


def test_a_list() -> None:
    """The list is named that blocks it, for the clients of the group that has it."""
    running = ListedProgram(
        ads="{}",
        groups="{default: {block: [ads]}, kids: {clients: [10.0.1.0/24], block: []}}",
    )
    running.lists.put(ads=["||ads.example^"])
    assert do(running, "why", name="www.ads.example", ask=True)["list"] == "ads"
    assert do(running, "why", name="www.ads.example", client="10.0.1.7")["list"] == ""
    assert do(running, "why", name="www.example")["list"] == ""
    assert running.asked() == []


def test_what_clients_ask_with() -> None:
    """Signatures are another question: the one of which something is known is shown."""
    running = program()
    running.ask("www.example", do=True)
    until(running, 1_000)
    result = do(running, "why", name="www.example")
    assert result["question"]["do"] is True
    assert result["trace"] is not None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": "x" * 64}, "expected a domain name"),
        ({"name": "www.example", "type": "A6X"}, "expected a type"),
        ({"name": "www.example", "client": "somebody"}, "expected an address like 192.0.2.1"),
    ],
)
def test_wrong_requests(arguments: dict[str, str], expected: str) -> None:
    """They are refused, and told what was expected."""
    error = refused(program(), "why", **arguments)
    assert error.code == BAD_REQUEST
    assert expected in error.message


def test_the_end_of_the_program() -> None:
    """Nothing that waits for a sort is left."""
    running = program(more="local: {hosts: null}")
    begin(running, "why", name="www.example", ask=True)
    until(running, 60)
    running.service.control.operations.close()
    running.close()
    assert SORTED_WITHIN == 1.0
