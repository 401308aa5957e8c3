"""Two programs and the store that they share."""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from staggerdns.command.client import ask as control
from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.ports import free_endpoints
from tests.kit.program import Program
from tests.kit.scripted import ScriptedUpstream
from tests.kit.stores import PATIENT, RedisServer, is_asked, reads
from tests.kit.testbed import unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.live
ADDRESSES = {"203.0.113.1", "203.0.113.2"}
"""One of each upstream."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A store."""
    with RedisServer(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture(scope="module")
def upstreams() -> Iterator[list[ScriptedUpstream]]:
    """Two upstreams, each with an address of its own for every name."""
    places = free_endpoints(2)
    one, other = (
        ScriptedUpstream(b.answers(address, ttl=300), place)
        for address, place in zip(sorted(ADDRESSES), places, strict=True)
    )
    with one, other:
        yield [one, other]


@pytest.fixture(scope="module")
def nodes(
    store: RedisServer,
    upstreams: list[ScriptedUpstream],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Program]]:
    """Two programs of one configuration."""
    servers = [one.endpoint for one in upstreams]
    first, second = (
        Program(
            directory := tmp_path_factory.mktemp(name),
            servers,
            {
                "cache": {"shared": {"url": store.url, "timeout": PATIENT}},
                "control": {"socket": str(directory / "control.sock")},
            },
        )
        for name in ("first", "second")
    )
    with first, second:
        for node in (first, second):
            eventually(partial(is_asked, node), bool)
        yield [first, second]


def test_one_asks_for_both(
    store: RedisServer, nodes: list[Program], upstreams: list[ScriptedUpstream]
) -> None:
    """What one has collected is the answer of the other, whole, and no upstream is asked."""
    first, second = nodes
    name = unique_name("shared")
    first.pool(name, ADDRESSES)
    eventually(lambda: any(name.encode() in key for key in store.all_keys()), bool)
    before = [len(one.asked(name, "A")) for one in upstreams]
    whole = reads(second, "whole")
    shared, waited = answers(second, "shared"), answers(second, "upstream")
    reply = second.ask(name)
    assert set(reply.addresses) == ADDRESSES
    assert reads(second, "whole") == whole + 1
    assert answers(second, "shared") == shared + 1
    assert answers(second, "upstream") == waited
    assert answers(first, "shared") == 0
    assert [len(one.asked(name, "A")) for one in upstreams] == before == [1, 1]


def test_a_flush_goes_to_all(
    nodes: list[Program], upstreams: list[ScriptedUpstream], store: RedisServer
) -> None:
    """What one forgets the other forgets within a second, and so does the store."""
    first, second = nodes
    name = unique_name("flushed")
    first.pool(name, ADDRESSES)
    eventually(lambda: any(name.encode() in key for key in store.all_keys()), bool)
    second.ask(name)
    asked = [len(one.asked(name, "A")) for one in upstreams]
    control(first.settings["control"]["socket"], "flush", {"name": name})
    eventually(lambda: entries(second, name), lambda count: not count)
    second.pool(name, ADDRESSES)
    assert [len(one.asked(name, "A")) for one in upstreams] == [count + 1 for count in asked]
    first.ask(name)
    assert [len(one.asked(name, "A")) for one in upstreams] == [count + 1 for count in asked]


def test_another_configuration_shares_nothing(
    store: RedisServer, nodes: list[Program], upstreams: list[ScriptedUpstream], tmp_path: Path
) -> None:
    """Who asks others, or believes other things, has pools of its own."""
    name = unique_name("apart")
    nodes[0].pool(name, ADDRESSES)
    eventually(lambda: any(name.encode() in key for key in store.all_keys()), bool)
    shared = {"cache": {"shared": {"url": store.url, "timeout": PATIENT}}}
    places = [one.endpoint for one in upstreams]
    for servers, settings in ((places[:1], {}), (places, {"rebinding": {"strip": True}})):
        directory = tmp_path / str(len(servers))
        with Program(directory, servers, {**shared, **settings}) as program:
            eventually(partial(is_asked, program), bool)
            assert set(program.ask(name).addresses) <= ADDRESSES
            assert (reads(program, "whole"), reads(program, "miss")) == (0, 1)


def answers(program: Program, source: str) -> float:
    """How many answers a program has given from that source."""
    return program.metrics().value("staggerdns_answer_seconds_count", source=source)


def entries(program: Program, name: str) -> int:
    """How many answers a program has for a name."""
    return len(control(program.settings["control"]["socket"], "cache", {"name": name})["entries"])


def test_round_trips_of_a_site(store: RedisServer, tmp_path: Path) -> None:
    """What one program has measured the other need not probe."""
    places = ("127.0.0.1", "127.0.0.2")
    with contextlib.ExitStack() as stack:
        port = 0
        for place in places:
            listening = stack.enter_context(socket.create_server((place, port)))
            port = listening.getsockname()[1]
        upstream = stack.enter_context(ScriptedUpstream(b.answers(*places, ttl=300)))
        settings = {
            "cache": {"shared": {"url": store.url, "timeout": PATIENT, "site": "own"}},
            "ranking": {"enabled": True, "probe_private": True, "probes": [f"tcp:{port}"]},
        }
        first, second = (
            stack.enter_context(Program(tmp_path / name, [upstream.endpoint], settings))
            for name in ("first", "second")
        )
        for node in (first, second):
            eventually(partial(is_asked, node), bool)
        name = unique_name("ranked")
        first.pool(name, {*places})
        eventually(
            lambda: sum(b":rtt:own:" in key for key in store.all_keys()), lambda count: count == 2
        )
        second.pool(name, {*places})
        assert reads(second, "whole") == 1
        assert second.metrics().value("staggerdns_probes_total") == 0
        assert first.metrics().value("staggerdns_probes_total") > 0
