"""The waterfall as text."""

from __future__ import annotations

import re
from typing import Any

import pytest

from staggerdns.command.waterfall import BEYOND, WIDTH, show_why


def query(**more: Any) -> dict[str, Any]:
    """A query as the program tells it."""
    return {
        "upstream": "192.0.2.1:53",
        "tier": "active",
        "at_ms": 0.0,
        "took_ms": 10.0,
        "result": "positive",
        "reason": "",
        "rcode": "NOERROR",
        "ttl": 300,
        "alias": "",
        "addresses": ["203.0.113.1"],
        "more": 0,
        "new": 1,
        "first": False,
        "dropped": [],
        **more,
    }


def result(*asked: dict[str, Any], answer: Any = None, sorts: Any = (), **more: Any) -> Any:
    """What is known of a name."""
    trace = {
        "began": 0.0,
        "strategy": "parallel",
        "generation": 1,
        "running": False,
        "asked": list(asked),
        "client_ms": 10.0,
        "ended_ms": 60.0,
        "spared": 0,
        "sorts": list(sorts),
    }
    return {
        "question": {
            "name": "www.example.",
            "type": "A",
            "class": 1,
            "do": False,
            "cd": False,
        },
        "scope": {"number": 0, "route": ""},
        "list": "",
        "local": None,
        "trace": trace if asked else None,
        "answer": answer,
        **more,
    }


def kept(**more: Any) -> dict[str, Any]:
    """An answer as it stands."""
    return {
        "rcode": "NOERROR",
        "negative": False,
        "phase": "fresh",
        "error": "",
        "ttl": 288,
        "age": 12.0,
        "seconds_left": 288.0,
        "sorted_ago": 11.0,
        "cnames": [],
        "records": {},
        "suppressed": False,
        "addresses": [
            {
                "address": "203.0.113.1",
                "rtt_ms": 4.1,
                "loss": 0.0,
                "from": ["192.0.2.1:53", "192.0.2.2:53"],
                "why": "nearest",
                "seconds_left": 288.0,
            }
        ],
        **more,
    }


def row(text: str, start: str) -> str:
    """The row that begins so."""
    (found,) = [row for row in text.splitlines() if row.startswith(start)]
    return found


def axis(text: str, start: str) -> str:
    """What stands on the axis of time in the row that begins so, up to the last mark."""
    place = row(text, "upstream").index("0 ")
    return row(text, start)[place : place + WIDTH].rstrip()


def test_bars() -> None:
    """Each begins and ends where its query did; all have one axis."""
    text = show_why(
        result(
            query(upstream="a", first=True),
            query(upstream="b", took_ms=40.0, result="negative", rcode="NXDOMAIN"),
            query(upstream="c", at_ms=50.0, tier="staggered", took_ms=50.0),
        )
    )
    end = 100 * 1.2
    assert row(text, "upstream").split()[2:5] == ["0", "120", "ms"]
    assert axis(text, "a ") == "█" * (int(10 / end * WIDTH) + 1)
    assert axis(text, "b ") == "▓" * (int(40 / end * WIDTH) + 1)
    first, last = int(50 / end * WIDTH), int(100 / end * WIDTH)
    assert axis(text, "c ") == " " * first + "█" * (last - first + 1)
    assert axis(text, "the client") == " " * int(10 / end * WIDTH) + "|"
    assert axis(text, "the collection") == " " * int(60 / end * WIDTH) + "|"
    assert "positive, first" in row(text, "a ")
    assert "NXDOMAIN" in row(text, "b ")


def test_what_is_slow() -> None:
    """Silence of seconds does not squeeze the rest: it goes on beyond the axis."""
    text = show_why(
        result(
            query(upstream="a"),
            query(upstream="b", took_ms=3000.0, result="network_error", reason="timeout", rcode=""),
            query(upstream="c", took_ms=None, result="waiting", rcode=""),
        )
    )
    assert row(text, "upstream").split()[2:5] == ["0", "12", "ms"]
    assert axis(text, "b ") == "░" * (WIDTH - 1) + BEYOND
    assert axis(text, "c ") == "·" * (WIDTH - 1) + BEYOND
    assert axis(text, "the collection") == " " * (WIDTH - 1) + BEYOND
    assert "timeout" in row(text, "b ")


def test_addresses() -> None:
    """How many are new, and the first of them."""
    many = [f"203.0.113.{number}" for number in range(8)]
    text = show_why(result(query(upstream="a", addresses=many, more=10, new=3)))
    assert row(text, "a ").endswith("3 new of 18: " + ", ".join(many[:6]) + ", and 12 more")
    dropped = [{"address": "10.0.0.1", "why": "rebinding"}]
    text = show_why(result(query(upstream="a", addresses=[], new=0, dropped=dropped)))
    assert "dropped of a: 10.0.0.1 (rebinding)" in text.splitlines()


def test_sorts() -> None:
    """Those of the collection are on the axis, later ones are named below."""
    order = {"trigger": "first_answer", "at_ms": 10.0, "took_ms": 5.0, "result": "sorted"}
    later = {"trigger": "rtt_stale", "at_ms": 61_000.0, "took_ms": 5.0, "result": "sorted"}
    text = show_why(result(query(took_ms=40.0), sorts=[order, later]))
    assert axis(text, "sort: first answer").strip() == "~" * 5
    assert "sorted 61 s later: rtt_stale" in text


def test_the_answer() -> None:
    """Each address with its round trip, who brought it, and why it is where it is."""
    text = show_why(result(query(), answer=kept(cnames=["web.example."])))
    assert "now: NOERROR, fresh, 12 s old, TTL for clients 288 s, sorted 11 s ago" in text
    assert "CNAME web.example." in text
    cells = [cell.strip() for cell in row(text, "1.").split("  ") if cell]
    assert cells == ["1.", "203.0.113.1", "4.1 ms", "192.0.2.1:53, 192.0.2.2:53", "nearest"]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (result(), "nothing is kept: staggerdns why --ask has it asked"),
        (result(list="ads"), "blocked by the list ads"),
        (result(answer=kept()), "nothing is remembered of how it was collected"),
        (result(scope={"number": 2, "route": "corp"}), "www.example. A, route corp"),
        (
            result(answer=kept(rcode="SERVFAIL", error="no reply in time", addresses=[])),
            "now: SERVFAIL (no reply in time)",
        ),
        (result(answer=kept(negative=True, addresses=[], sorted_ago=None)), "now: NODATA, fresh"),
        (
            result(answer=kept(suppressed=True)),
            "IPv6 is not given: IPv4 is nearer, or IPv6 accepts no connection (families)",
        ),
        (
            result(answer=kept(records={"answer": 2, "authority": 0}, addresses=[])),
            "2 answer records",
        ),
    ],
)
def test_what_else_there_is_to_say(known: dict[str, Any], expected: str) -> None:
    """Lists, routes, failures, and that nothing is known."""
    assert expected in show_why(known)


def test_many_that_are_dropped() -> None:
    """They have one line, with the first of them."""
    dropped = [{"address": f"10.0.0.{number}", "why": "private"} for number in range(7)]
    for count, end in ((6, "10.0.0.5 (private)"), (7, "10.0.0.5 (private), and 1 more")):
        shown = show_why(result(query(dropped=dropped[:count])))
        (line,) = [line for line in shown.splitlines() if line.startswith("dropped")]
        assert line.startswith("dropped of 192.0.2.1:53: 10.0.0.0 (private), 10.0.0.1 (private)")
        assert line.endswith(end)


def test_a_list() -> None:
    """Whoever gets what it says does not get what is kept."""
    assert "blocked by the list ads\n" in show_why(result(list="ads")) + "\n"
    shown = show_why(result(query(), answer=kept(), list="ads"))
    assert "blocked by the list ads (what follows is for others)\n" in shown


def test_an_alias_alone() -> None:
    """It is no answer without data: its target was asked for."""
    shown = show_why(result(query(result="negative", alias="target.example.", addresses=[])))
    assert "CNAME target.example." in shown
    assert "NODATA" not in shown


def test_a_name_of_ours() -> None:
    """It says what is answered here, and offers nothing to be asked."""
    local = {"rcode": "NOERROR", "cnames": [], "addresses": ["192.168.1.10"]}
    shown = show_why(result(local=local))
    assert shown.splitlines()[2:] == ["answered here, nobody is asked: NOERROR", "192.168.1.10"]


def test_a_record_that_leads_elsewhere() -> None:
    """Its target has to be asked for."""
    local = {"rcode": "", "cnames": ["new.example."], "addresses": []}
    shown = show_why(result(local=local))
    assert "leads, by a record of ours, to new.example." in shown
    assert "--ask" in shown


def test_who_is_left_out() -> None:
    """Those who would add nothing are told of by their number."""
    said = "not asked since they would add nothing (ask: learned): 3"
    known = result(query())
    assert said not in show_why(known).split("\n")
    known["trace"]["spared"] = 3
    assert said in show_why(known).split("\n")


def test_a_collection_that_waits_for_its_turn() -> None:
    """Nobody has been asked yet, by whatever strategy."""
    known = result(query())
    known["trace"] |= {"strategy": "", "asked": [], "running": True}
    assert "nobody has been asked yet: too much is being asked at once" in show_why(known)


def test_the_second_level_has_the_answer() -> None:
    """No upstream was asked."""
    known = result(query(upstream="shared", tier="shared"))
    known["trace"]["strategy"] = "shared"
    assert "\nfound in the second level\n" in show_why(known)
    known = result(query(upstream="shared", tier="shared", result="nothing", rcode=""), query())
    assert "asked by the strategy parallel" in show_why(known)
    assert re.search(r"^shared +shared .* nothing", show_why(known), re.MULTILINE)
