"""The commands that go to a program that runs: what they send, and what they make of the reply."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from staggerdns.command import client as client_module
from staggerdns.command.cli import main
from staggerdns.command.client import Unanswered, ask
from staggerdns.command.place import NoPlace, find_socket
from staggerdns.command.tables import duration, size, table
from staggerdns.control.protocol import (
    BUSY,
    NOT_ALLOWED,
    REFUSED,
    Refused,
    encode_error,
    encode_result,
)
from tests.kit.controlled import FakeServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

GROUP = {"group": "default", "lists": ["ads"], "paused": False, "seconds_left": None}
STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "build": "compiled",
    "pid": 77,
    "uptime": 93_784.5,
    "configuration": "/etc/x.yaml",
    "phase": "draining",
    "ready": False,
    "answering": True,
    "listeners": ["127.0.0.1:53", "[::1]:53"],
    "rates": {"seconds": 10.0, "queries_per_second": 1234.5, "cache_share": 0.943, "answered": 9},
    "cache": {"entries": 1200, "octets": 700_000, "max_entries": 50_000, "max_octets": 134_217_728},
    "pending": 3,
    "collections": {"running": 2, "queued": 0, "ended": 5},
    "memory": 60_000_000,
    "shared": {
        "store": "redis://192.0.2.1:6379/0",
        "site": "default",
        "asked": False,
        "seconds": 61.0,
        "problem": "refused",
    },
    "blocking": [GROUP, {**GROUP, "group": "kids", "paused": True, "seconds_left": 61.5}],
    "reloads": {"count": 2, "last": {"ok": True, "seconds_ago": 60.0, "problems": []}},
}
UPSTREAM: dict[str, Any] = {
    "name": "192.0.2.1:53",
    "state": "degraded",
    "because": "timeout",
    "failures_in_a_row": 3,
    "latency": 0.0123,
    "deviation": 0.001,
    "inflight": 1,
    "max_inflight": 1000,
    "rate_limit": 50.0,
    "answered": 1000,
    "failed": 4,
    "failures": {"timeout": 3, "servfail": 1},
}
ADDRESS: dict[str, Any] = {
    "address": "203.0.113.7",
    "round_trip": 0.0098,
    "loss": 0.0,
    "silent": False,
    "upstreams": ["192.0.2.1:53", "192.0.2.2:53"],
    "seconds_left": 288.0,
}
NOTHING: dict[str, Any] = {"name": "a.", "entries": [], "more": 0}
ENTRY: dict[str, Any] = {
    "type": "A",
    "class": 1,
    "scope": 0,
    "route": "",
    "do": False,
    "cd": False,
    "rcode": "NOERROR",
    "negative": False,
    "error": "",
    "cnames": ["to.example."],
    "addresses": [
        ADDRESS,
        {**ADDRESS, "address": "203.0.113.9", "round_trip": None, "silent": True, "upstreams": []},
    ],
    "records": {},
    "age": 12.4,
    "seconds_left": 288.0,
    "refresh_in": 138.0,
    "ttl": 288,
    "sorted_ago": 11.0,
    "complete": True,
    "stale": False,
    "servable": True,
    "octets": 500,
}


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def server(directory: Path) -> Iterator[FakeServer]:
    """A server that a test makes reply."""
    made = FakeServer(directory / "socket")
    yield made
    made.close()


def run(server: FakeServer, *arguments: str, reply: bytes | dict[str, Any] = b"") -> Result:
    """Run a command that gets this reply."""
    server.replies = [encode_result(None, reply) if isinstance(reply, dict) else reply]
    return CliRunner().invoke(main, ["--socket", str(server.path), *arguments])


@pytest.mark.parametrize(
    ("arguments", "request_", "result"),
    [
        (["status"], {"command": "status"}, STATUS),
        (["upstreams"], {"command": "upstreams"}, {"upstreams": [UPSTREAM]}),
        (
            ["cache", "a"],
            {"command": "cache", "name": "a"},
            {"name": "a.", "entries": [], "more": 0},
        ),
        (
            ["cache", "a", "AAAA"],
            {"command": "cache", "name": "a", "type": "AAAA"},
            {"name": "a.", "entries": [ENTRY], "more": 1},
        ),
        (["flush", "a"], {"command": "flush", "name": "a", "all": False}, {"flushed": 1}),
        (
            ["flush", "--below", "a"],
            {"command": "flush", "below": "a", "all": False},
            {"flushed": 1},
        ),
        (["flush", "--all"], {"command": "flush", "all": True}, {"flushed": 1}),
        (["reload"], {"command": "reload"}, {"seconds": 0.5}),
        (["drain"], {"command": "drain", "draining": True}, {"phase": "draining", "ready": False}),
        (
            ["drain", "--off"],
            {"command": "drain", "draining": False},
            {"phase": "serving", "ready": True},
        ),
        (["block", "off"], {"command": "block", "blocking": False}, {"blocking": [GROUP]}),
        (
            ["block", "off", "--group", "kids", "--for", "5m"],
            {"command": "block", "blocking": False, "group": "kids", "seconds": 300.0},
            {"blocking": [GROUP]},
        ),
        (
            ["block", "on", "--group", "kids"],
            {"command": "block", "blocking": True, "group": "kids"},
            {"blocking": [GROUP]},
        ),
    ],
)
def test_commands(
    server: FakeServer, arguments: list[str], request_: dict[str, Any], result: dict[str, Any]
) -> None:
    """Each sends its request, and prints the result as a table or as one JSON object."""
    shown = run(server, *arguments, reply=result)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.strip()
    as_json = run(server, *arguments, "--json", reply=result)
    assert json.loads(as_json.stdout) == result
    assert as_json.stdout.count("\n") == 1
    assert server.requests == [{"version": 1, **request_}] * 2


def test_status(server: FakeServer) -> None:
    """What a person reads."""
    assert run(server, "status", reply=STATUS).stdout.splitlines() == [
        "version        1.2.3, compiled",
        "process        77, for 1 d 2 h",
        "configuration  /etc/x.yaml",
        "reloads        2, the last one 1 min 0 s ago",
        "phase          draining (not ready)",
        "upstreams      answer",
        "listeners      127.0.0.1:53, [::1]:53",
        "queries        1,234.5 a second, 94 % of them from the cache",
        "pending        3 queries, 2 collections",
        "cache          1,200 of 50,000 answers, 684 KiB of 128 MiB",
        "memory         57.2 MiB",
        "second level   redis://192.0.2.1:6379/0, not asked for 1 min 1 s: refused",
        "blocking       default: ads",
        "blocking       kids: ads, paused for another 1 min 1 s",
    ]
    other = {
        **STATUS,
        "configuration": None,
        "answering": False,
        "listeners": [],
        "rates": {**STATUS["rates"], "cache_share": None},
        "reloads": {"count": 0, "last": {"ok": False, "seconds_ago": 5.0, "problems": ["a", "b"]}},
        "blocking": [{**GROUP, "paused": True}],
        "shared": None,
    }
    text = run(server, "status", reply=other).stdout
    assert "reloads        0; 5 s ago the file could not be used: a; b\n" in text
    assert "upstreams      nobody answers\n" in text
    assert "a second\n" in text
    assert "second level" not in text
    assert "blocking       default: ads, paused\n" in text


def test_upstreams(server: FakeServer) -> None:
    """A table, with the reason; those that are named, if any are."""
    fresh = {
        **UPSTREAM,
        "name": "tls://b#c",
        "state": "healthy",
        "because": "",
        "latency": None,
        "deviation": None,
        "rate_limit": 0.0,
        "failures": {},
    }
    result = {"upstreams": [UPSTREAM, fresh]}
    lines = run(server, "upstreams", reply=result).stdout.splitlines()
    assert lines[0].split("  ")[0] == "upstream"
    assert lines[1] == (
        "192.0.2.1:53  degraded  12.3 ms  1.0 ms     1          1,000     4       "
        "because: timeout, at most 50 queries/s, 1 servfail, 3 timeout"
    )
    assert lines[2] == "tls://b#c     healthy   -        -          1          1,000     4"
    assert len(run(server, "upstreams", "tls://b#c", reply=result).stdout.splitlines()) == 2
    shown = run(server, "upstreams", "nobody", reply=result)
    assert shown.exit_code == 1
    assert (
        shown.stderr == "staggerdns: no upstream nobody: expected one of 192.0.2.1:53, tls://b#c\n"
    )


def test_cache(server: FakeServer) -> None:
    """Addresses in their order, and what is known of each."""
    stale = {
        **ENTRY,
        "type": "MX",
        "scope": 2,
        "route": "corp.example",
        "do": True,
        "cd": True,
        "negative": True,
        "cnames": [],
        "addresses": [],
        "records": {"answer": 0, "authority": 1, "additional": 0},
        "seconds_left": -61.0,
        "stale": True,
        "complete": False,
        "sorted_ago": None,
    }
    failed = {**stale, "rcode": "SERVFAIL", "negative": False, "records": {}, "error": "timeout"}
    result = {"name": "www.example.", "entries": [ENTRY, stale, failed], "more": 7}
    assert run(server, "cache", "www.example", reply=result).stdout.splitlines() == [
        "www.example. A: NOERROR",
        "  12 s old, for another 4 min 48 s, TTL for clients 288 s, complete, sorted 11 s ago",
        "  CNAME to.example.",
        "  203.0.113.7  9.8 ms  4 min 48 s  192.0.2.1:53, 192.0.2.2:53",
        "  203.0.113.9  silent  4 min 48 s",
        "",
        "www.example. MX DO CD scope 2 (route corp.example): NODATA, 1 authority records",
        "  12 s old, expired 1 min 1 s ago, TTL for clients 288 s, being collected",
        "",
        "www.example. MX DO CD scope 2 (route corp.example): SERVFAIL (timeout)",
        "  12 s old, expired 1 min 1 s ago, TTL for clients 288 s, being collected",
        "",
        "and 7 more",
    ]
    nothing = {"name": "www.example.", "entries": [], "more": 0}
    shown = run(server, "cache", "www.example", reply=nothing)
    assert shown.stdout == "www.example.: nothing is kept\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0 ms"),
        (0.0123, "12.3 ms"),
        (0.9996, "1000 ms"),
        (1, "1 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3_600, "1 h 0 min"),
        (90_061, "1 d 1 h"),
        (-61, "-1 min 1 s"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    """In the two largest units."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 octets"),
        (1023, "1023 octets"),
        (1024, "1 KiB"),
        (3_500_000, "3.34 MiB"),
        (1_023 * 1_024, "1023 KiB"),
        (2**41, "2048 GiB"),
    ],
)
def test_sizes(octets: int, text: str) -> None:
    """In the unit that suits them."""
    assert size(octets) == text


def test_columns() -> None:
    """Each as wide as it has to be, with nothing at the end of a line."""
    assert table([("a", "bb", ""), ("ccc", "d", "e")]) == "a    bb\nccc  d   e"


# Exit statuses.


def test_what_is_refused(server: FakeServer) -> None:
    """The exit status is 1, and all problems are there."""
    reply = encode_error(Refused(REFUSED, "it cannot be used", ["a: one", "b: two"]))
    shown = run(server, "reload", reply=reply)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr == "staggerdns: it cannot be used\na: one\nb: two\n"
    assert run(server, "status", reply=encode_error(Refused(BUSY, "later"))).exit_code == 1


def test_what_is_not_allowed(server: FakeServer) -> None:
    """It has a status of its own."""
    shown = run(server, "drain", reply=encode_error(Refused(NOT_ALLOWED, "not for you")))
    assert (shown.exit_code, shown.stderr) == (os.EX_NOPERM, "staggerdns: not for you\n")


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 400\r\n", b"{}\n", b'{"version":9}\n', b"\xff\n", b"{"]
)
def test_something_else_answers(server: FakeServer, reply: bytes) -> None:
    """It is told."""
    shown = run(server, "status", reply=reply)
    assert shown.exit_code == os.EX_PROTOCOL
    assert "expected" in shown.stderr


def test_nobody_answers(directory: Path, server: FakeServer) -> None:
    """Nothing is there, nobody listens, or the connection is closed."""
    for path in (directory / "nothing", directory / "x" / "y"):
        shown = CliRunner().invoke(main, ["--socket", str(path), "status"])
        assert shown.exit_code == os.EX_UNAVAILABLE
        assert (
            shown.stderr == f"staggerdns: no program answers at {path}: No such file or directory\n"
        )
    stale = directory / "stale"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(stale))
    shown = CliRunner().invoke(main, ["--socket", str(stale), "status"])
    assert (shown.exit_code, "Connection refused" in shown.stderr) == (os.EX_UNAVAILABLE, True)
    shown = run(server, "status", reply=b"")
    assert (shown.exit_code, "closed the connection" in shown.stderr) == (os.EX_UNAVAILABLE, True)


def test_a_program_that_hangs(directory: Path) -> None:
    """It is given up."""
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(directory / "socket"))
        hanging.listen()
        with pytest.raises(Unanswered, match=r"has not replied within 0\.05 s") as caught:
            ask(str(directory / "socket"), "status", {}, 0.05)
    assert caught.value.status == os.EX_UNAVAILABLE


def test_a_socket_that_may_not_be_used(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told whose it is."""

    def forbid(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(client_module, "_exchange", forbid)
    shown = CliRunner().invoke(main, ["--socket", str(directory / "socket"), "status"])
    assert shown.exit_code == os.EX_NOPERM
    assert "is for root, the user that runs the program, and control.group" in shown.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["flush"],
        ["flush", "a", "--all"],
        ["flush", "a", "--below", "b"],
        ["cache"],
        ["block"],
        ["block", "off", "--for", "5 weeks"],
        ["block", "off", "--for", "25h"],
        ["block", "on", "--for", "5m"],
    ],
)
def test_wrong_command_lines(arguments: list[str]) -> None:
    """Nothing is sent."""
    shown = CliRunner().invoke(main, ["--socket", "/nowhere", *arguments])
    assert shown.exit_code == 2


# Where the socket is.


def test_the_place_is_in_the_file(server: FakeServer, directory: Path) -> None:
    """Whatever else is wrong with it; what the command line says comes first."""
    path = directory / "file.yaml"
    path.write_text(f"upstream: 1\nnothing: 2\ncontrol: {{socket: {server.path}}}\n")
    server.replies = [encode_result(None, {"flushed": 4})] * 2
    for options in (["-c", str(path)], ["-c", str(directory / "x"), "--socket", str(server.path)]):
        shown = CliRunner().invoke(main, [*options, "flush", "--all"])
        assert shown.stdout == "4 answers are forgotten\n"


@pytest.mark.parametrize("text", ["", "upstream: {}", "control: {}", "control: null", "[]"])
def test_a_file_that_does_not_say_it(directory: Path, text: str) -> None:
    """It is where it is by default."""
    path = directory / "file.yaml"
    path.write_text(text)
    assert find_socket(str(path), must_be_there=True) == "/run/staggerdns/control.sock"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("control: {socket: null}", "control.socket is null"),
        ("control: 1", "control: "),
        ("control: {sockets: x}", "control: "),
    ],
)
def test_a_file_that_is_wrong_about_it(directory: Path, text: str, problem: str) -> None:
    """That is told, and what else can be done."""
    path = directory / "file.yaml"
    path.write_text(text)
    with pytest.raises(NoPlace, match=problem):
        find_socket(str(path), must_be_there=False)
    shown = CliRunner().invoke(main, ["-c", str(path), "status"])
    assert shown.exit_code == 1


def test_a_file_that_is_no_yaml(directory: Path) -> None:
    """The program says what is wrong with it, when it is asked to read it."""
    path = directory / "file.yaml"
    path.write_text("control: [")
    assert find_socket(str(path), must_be_there=True) == "/run/staggerdns/control.sock"


def test_a_file_that_cannot_be_read(directory: Path) -> None:
    """Only one that somebody has named has to be there."""
    path = str(directory / "nothing")
    assert find_socket(path, must_be_there=False) == "/run/staggerdns/control.sock"
    shown = CliRunner().invoke(main, ["-c", path, "status"])
    assert shown.exit_code == 1
    assert "name the socket with --socket" in shown.stderr


# Completion.


def complete(server: FakeServer, arguments: list[str], incomplete: str) -> list[str]:
    """Return what a shell would offer."""
    completion = ShellComplete(main, {}, "staggerdns", "_STAGGERDNS_COMPLETE")
    found = completion.get_completions(["--socket", str(server.path), *arguments], incomplete)
    return [item.value for item in found]


def test_completion(server: FakeServer) -> None:
    """Commands, groups with lists, and upstreams."""
    assert complete(server, [], "st") == ["status"]
    assert complete(server, ["block"], "") == ["off", "on"]
    server.replies = [encode_result(None, STATUS)]
    assert complete(server, ["block", "off", "--group"], "k") == ["kids"]
    server.replies = [encode_result(None, {"upstreams": [UPSTREAM]})]
    assert complete(server, ["upstreams"], "") == ["192.0.2.1:53"]


def test_completion_without_a_server(directory: Path) -> None:
    """There is nothing to offer, and no error in the way."""
    completion = ShellComplete(main, {}, "staggerdns", "_STAGGERDNS_COMPLETE")
    arguments = ["--socket", str(directory / "nothing"), "block", "off", "--group"]
    assert completion.get_completions(arguments, "") == []
