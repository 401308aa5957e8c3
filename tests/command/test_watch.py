"""``staggerdns watch``: what it sends, and what it prints of what comes."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from staggerdns.command import client as client_module
from staggerdns.command.cli import main
from staggerdns.command.watch import show_answer
from staggerdns.control.protocol import (
    BUSY,
    NOT_ALLOWED,
    Refused,
    encode_error,
    encode_event,
    encode_result,
)
from tests.kit.answered import SHOWN
from tests.kit.controlled import FakeServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

ANSWER = {**SHOWN, "addresses": ["198.18.0.1", "198.18.0.2"]}
STARTED = encode_result(None, {"clients": "full"})
EVENTS = (
    encode_event(None, "answer", ANSWER)
    + encode_event(None, "lost", 0)
    + encode_event(None, "lost", 1_200)
    + encode_event(None, "something", "of a later version")
    + encode_event(None, "answer", {**ANSWER, "client": None})
)
ENDED = "no program answers"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server that a test makes reply."""
    with tempfile.TemporaryDirectory() as directory:
        made = FakeServer(Path(directory) / "socket")
        yield made
        made.close()


def run(server: FakeServer, *arguments: str, reply: bytes = STARTED + EVENTS) -> Result:
    """Watch a program that sends this, and then ends."""
    server.replies = [reply]
    return CliRunner().invoke(main, ["--socket", str(server.path), "watch", *arguments])


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        ([], {}),
        (["www.example"], {"name": "www.example"}),
        (
            ["--below", "example", "--client", "192.0.2.1", "--client", "::/0"],
            {"below": "example", "clients": ["192.0.2.1", "::/0"]},
        ),
        (
            ["--source", "cache", "--source", "stale"],
            {"sources": ["cache", "stale"]},
        ),
    ],
)
def test_requests(server: FakeServer, arguments: list[str], request_: dict[str, Any]) -> None:
    """What is asked for is what was said."""
    run(server, *arguments)
    assert server.requests == [{"version": 1, "command": "watch", **request_}]


def test_lines(server: FakeServer) -> None:
    """One for each answer, in local time; how many are missing; and that the program has ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC-1")
        time.tzset()
        shown = run(server)
    time.tzset()
    answer = "09:00:00.250  {client:18}  cache        12.5 ms  www.example.com. A  NOERROR  "
    answer += "{addresses}"
    addresses = "198.18.0.1 198.18.0.2"
    assert shown.stdout.splitlines() == [
        answer.format(client="192.0.2.77", addresses=addresses),
        "(1,200 answers are missing here)",
        answer.format(client="*", addresses=addresses),
    ]
    assert shown.exit_code == 69
    assert ENDED in shown.stderr


def test_json(server: FakeServer) -> None:
    """One object a line, as the program has sent it."""
    shown = run(server, "--json")
    assert [json.loads(line) for line in shown.stdout.splitlines()] == [
        ANSWER,
        {"lost": 1_200},
        {**ANSWER, "client": None},
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_so_many(server: FakeServer, count: int) -> None:
    """It ends after so many answers, well."""
    shown = run(server, "--count", str(count))
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.count("www.example.com.") == count


def test_answers_that_are_no_addresses() -> None:
    """An answer without any, a blocked one, and one to a query that could not be read."""
    empty = {**ANSWER, "addresses": [], "rcode": "NXDOMAIN"}
    assert show_answer(empty).endswith("www.example.com. A  NXDOMAIN")
    assert "  blocked (ads)  " in show_answer({**ANSWER, "source": "blocked", "list": "ads"})
    assert "  -   FORMERR" in show_answer({**empty, "name": "", "type": "", "rcode": "FORMERR"})


@pytest.mark.parametrize("key", ["name", "client", "list", "rcode"])
def test_nothing_that_a_terminal_obeys(key: str) -> None:
    """Whatever the program sends, one line without control characters is printed of it."""
    shown = show_answer({**ANSWER, key: "a\x1b[31m\n\x07\u202e\x9b"})
    assert shown.isprintable()
    assert r"a\x1b[31m\n\x07\u202e\x9b" in shown


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (encode_error(Refused(BUSY, "too many are watching")), 1),
        (encode_error(Refused(NOT_ALLOWED, "single clients are for root")), 77),
        (b"hello\n", 76),
        (STARTED + b"hello\n", 76),
        (STARTED + b"[1]\n", 76),
        (b"", 69),
    ],
)
def test_what_goes_wrong(server: FakeServer, reply: bytes, status: int) -> None:
    """There is one line that says why, and the status of the other commands."""
    shown = run(server, reply=reply)
    assert (shown.exit_code, shown.stdout) == (status, "")
    assert shown.stderr.startswith("staggerdns: ")
    assert shown.stderr.count("\n") == 1


def test_a_program_that_hangs(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing comes any more, not even that nothing has happened, it is given up."""
    monkeypatch.setattr(client_module, "SILENCE", 0.05)
    server.linger = 0.5
    shown = run(server)
    assert shown.exit_code == 69
    assert "has not replied" in shown.stderr
