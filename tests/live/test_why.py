"""`staggerdns why` against what the upstreams themselves have seen."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import behaviours as b
from tests.kit.checkout import ROOT
from tests.kit.clients import eventually
from tests.kit.effort import amount
from tests.kit.program import Program, environment
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.scripted import Action, Behaviour, Query

UPSTREAMS = 5
NAMES = amount(40, 1_000)
"""Collections that are compared."""
AT_ONCE = 40
TIMEOUT = 1.0


class Speaker:
    """What an upstream says of each name, drawn by its number and the name."""

    def __init__(self, number: int) -> None:
        self.number = number

    def says(self, name: str) -> tuple[str, list[str]]:
        """The kind of what it says, and the addresses in it."""
        rng = random.Random(f"{self.number} {name}")
        kind = rng.choices(["addresses", "nxdomain", "servfail", "silent"], [12, 1, 1, 1])[0]
        if kind != "addresses":
            return kind, []
        public = [f"203.0.113.{rng.randrange(1, 40)}" for _ in range(rng.randint(1, 4))]
        private = [f"10.0.0.{rng.randrange(1, 9)}"] * (rng.random() < 0.2)
        return kind, [*dict.fromkeys(public + private)]

    def behave(self, query: Query) -> list[Action]:
        """Answer a query so, after some milliseconds."""
        kind, addresses = self.says(query.name)
        after = random.Random(f"{query.name} {self.number}").uniform(0, 0.04)
        behaviours: dict[str, Behaviour] = {
            "nxdomain": b.nxdomain(after=after),
            "servfail": b.rcode("SERVFAIL", after=after),
            "silent": b.silent,
            "addresses": b.answers(*addresses, after=after) if addresses else b.silent,
        }
        return list(behaviours[kind](query))


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="why") as made:
        yield Path(made)


def why(socket: Path, name: str) -> Any:
    """What the command tells of a name."""
    done = subprocess.run(
        [sys.executable, "-m", "staggerdns", "--socket", str(socket), "why", "--json", name],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_every_query_address_and_drop(directory: Path) -> None:
    """Each query that an upstream has seen is there, with what it said, and nothing else is; the
    pool is what was brought and not dropped.
    """
    socket = directory / "socket"
    settings = {
        "control": {"socket": str(socket)},
        "ranking": {"enabled": False},
        "traces": NAMES,
        "upstream": {"timeout": f"{TIMEOUT}s"},
    }
    speakers = [Speaker(number) for number in range(UPSTREAMS)]
    names = [f"n{number}.example." for number in range(NAMES)]
    with ExitStack() as stack:
        upstreams = [stack.enter_context(ScriptedUpstream(speaker.behave)) for speaker in speakers]
        endpoints = [upstream.endpoint for upstream in upstreams]
        program = stack.enter_context(Program(directory / "program", endpoints, settings))
        for number, name in enumerate(names, 1):
            program.ask(name, timeout=10)
            if number % AT_ONCE == 0:
                eventually(
                    lambda: program.metrics().value("staggerdns_collections_running") == 0,
                    timeout=20,
                )
        eventually(
            lambda: program.metrics().value("staggerdns_collections_running") == 0, timeout=20
        )
        # The command itself takes a third of a second: most are asked for by its protocol.
        shown = {names[0]: why(socket, names[0])} | asked_for(socket, names[1:])
    by_text = {str(endpoint): number for number, endpoint in enumerate(endpoints)}
    for name in names:
        check(shown[name], name, speakers, upstreams, by_text)


def asked_for(socket: Path, names: list[str]) -> dict[str, Any]:
    """What the program tells of names, over one connection."""
    import socket as sockets  # noqa: PLC0415 (the path is called so)

    found = {}
    with sockets.socket(sockets.AF_UNIX) as connection:
        connection.connect(os.fspath(socket))
        with connection.makefile("rwb") as lines:
            for name in names:
                request = {"version": 1, "command": "why", "name": name}
                lines.write(json.dumps(request).encode() + b"\n")
                lines.flush()
                found[name] = json.loads(lines.readline())["result"]
    return found


def check(
    shown: Any,
    name: str,
    speakers: list[Speaker],
    upstreams: list[ScriptedUpstream],
    by_text: dict[str, int],
) -> None:
    """Compare what is told of a name with what its upstreams have seen and said."""
    asked = shown["trace"]["asked"]
    for number, upstream in enumerate(upstreams):
        told = [one for one in asked if by_text[one["upstream"]] == number]
        assert len(told) == len(upstream.asked(name)), (name, asked)
        kind, addresses = speakers[number].says(name)
        for one in told:
            assert set(one["addresses"]) <= set(addresses), (name, one)
            if one["result"] == "positive":
                assert sorted(one["addresses"]) == sorted(addresses), (name, one)
            elif one["result"] != "given_up":
                expected = {"nxdomain": "negative", "servfail": "failure"}
                assert one["result"] == expected.get(kind, "network_error"), (name, one)
    brought: set[str] = set()
    for one in sorted(asked, key=lambda one: one["at_ms"] + (one["took_ms"] or 0)):
        dropped = {drop["address"] for drop in one["dropped"]}
        joined = set(one["addresses"]) - dropped - brought
        assert one["new"] == len(joined), (name, one)
        brought |= joined
    answer = shown["answer"]
    assert {one["address"] for one in answer["addresses"]} == brought, (name, shown)
    for one in answer["addresses"]:
        bringers = {
            query["upstream"]
            for query in asked
            if one["address"] in query["addresses"]
            and one["address"] not in [drop["address"] for drop in query["dropped"]]
        }
        assert set(one["from"]) == bringers, (name, one, asked)
    if answer["rcode"] != "SERVFAIL":
        (first,) = [one for one in asked if one["first"]]
        at = first["at_ms"] + first["took_ms"]
        assert shown["trace"]["client_ms"] >= at - 0.02
        if first["result"] == "positive":
            assert shown["trace"]["client_ms"] == pytest.approx(at, abs=20)
