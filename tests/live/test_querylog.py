"""The query log and whoever watches, as the program runs: read back by others' programs, and no
answer is late or lost for them.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.namespaces import run_with_own_mounts
from tests.kit.program import Program, environment
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0
"""Seconds that something may take on a busy machine."""
ADDRESS = "203.0.113.7"
LOST = "staggerdns_query_log_lost_total"
FIRST = "first.example."
HOSTILE = r"\027[31m<script>.example"
"""A name with an escape sequence of terminals in it."""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="log") as made:
        yield Path(made)


@contextmanager
def started(directory: Path, **query_log: object) -> Iterator[Program]:
    """A program with one upstream, a control socket and a query log."""
    settings = {
        "control": {"socket": str(directory / "control")},
        "query_log": query_log,
        "lists": {"ads": {"domains": ["ads.example"]}},
        "groups": {"default": {"block": ["ads"]}},
    }
    with (
        ScriptedUpstream(b.answers(ADDRESS, ttl=300)) as upstream,
        Program(directory / "program", [upstream.endpoint], settings) as program,
    ):
        yield program


@contextmanager
def watching(program: Program, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``staggerdns watch`` until the program ends."""
    command = [sys.executable, "-m", "staggerdns", "--config", str(program.configuration), "watch"]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, env=environment(), text=True
    ) as process:
        yield process
        process.kill()


def lines(path: Path) -> list[dict[str, Any]]:
    """What is in a file of JSON lines."""
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def read_dnstap(path: Path) -> list[dict[str, Any]]:
    """The messages in a file, as the reference implementation reads them."""
    done = subprocess.run(
        ["dnstap", "-r", str(path), "-j"], capture_output=True, check=True, timeout=PATIENCE
    )
    return [json.loads(line)["message"] for line in done.stdout.splitlines()]


def test_what_is_written(directory: Path) -> None:
    """Every answer is in the log, as dnstap, and seen by whoever watches; names of strangers have
    no octets that a terminal would obey.
    """
    log, tap = directory / "queries", directory / "tap"
    with started(directory, file=str(log), dnstap=str(tap)) as program:
        with watching(program, "--json") as watcher:
            assert watcher.stdout is not None
            # It sees what is asked once it is there.
            eventually(lambda: (program.ask(FIRST), is_readable(watcher))[1], timeout=PATIENCE)
            eventually(
                lambda: program.metrics().value("staggerdns_list_names", list="ads") == 1,
                timeout=PATIENCE,
            )
            program.ask("www.example")
            program.ask("www.example")
            program.ask("www.example", tcp=True)
            program.ask("x.ads.example")
            program.ask("localhost")
            program.ask("www.example", rdtype="AXFR")
            program.ask(HOSTILE)
            seen: list[dict[str, Any]] = []
            while not seen or not seen[-1]["name"].endswith("<script>.example."):
                seen.append(json.loads(watcher.stdout.readline()))
        program.terminate()
    written = lines(log)
    assert written[-len(seen) :] == seen
    written = [one for one in written if one["name"] != FIRST]
    assert len(written) == len([one for one in seen if one["name"] != FIRST]) == 7
    assert [(one["source"], one["transport"], one["rcode"]) for one in written] == [
        ("upstream", "udp", "NOERROR"),
        ("cache", "udp", "NOERROR"),
        ("cache", "tcp", "NOERROR"),
        ("blocked", "udp", "NOERROR"),
        ("local", "udp", "NOERROR"),
        ("refused", "udp", "REFUSED"),
        ("upstream", "udp", "NOERROR"),
    ]
    assert written[0]["addresses"] == [ADDRESS]
    assert written[3]["list"] == "ads"
    assert written[-1]["name"] == r"\027[31m<script>.example."
    assert {one["client"] for one in written} == {"127.0.0.1"}
    messages = read_dnstap(tap)[-14:]
    assert [one["type"] for one in messages] == ["CLIENT_QUERY", "CLIENT_RESPONSE"] * 7
    assert {one["query_address"] for one in messages} == {"127.0.0.1"}
    assert {one["response_port"] for one in messages} == {program.endpoint.port}
    assert ADDRESS in messages[1]["response_message"]
    assert [one["socket_protocol"] for one in messages[::2]] == ["UDP"] * 2 + ["TCP"] + ["UDP"] * 4


def is_readable(watcher: subprocess.Popen[str]) -> bool:
    """Whether it has printed something."""
    assert watcher.stdout is not None
    return bool(select.select([watcher.stdout], [], [], 0.05)[0])


def test_a_collector(directory: Path) -> None:
    """A collector of others, which has come late, gets everything that is asked from then on, and
    the end of it.
    """
    place, path = directory / "collector", directory / "captured"
    with started(directory, dnstap=f"unix:{place}") as program:
        program.ask("early.example")
        eventually(lambda: program.metrics().value(LOST) == 1, timeout=PATIENCE)
        with capturing(place, path):
            eventually(place.exists, timeout=PATIENCE)
            for number in range(50):
                program.ask(f"n{number}.example")
            program.terminate()
        assert program.log.count("answers are missing") == 1
    names = [one["query_message"].split()[-3] for one in read_dnstap(path)[::2]]
    assert len(names) == 50


@contextmanager
def capturing(place: Path, path: Path) -> Iterator[None]:
    """Run the collector of the reference implementation."""
    place.unlink(missing_ok=True)
    collector = subprocess.Popen(
        ["fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-u", str(place), "-w", str(path)]
    )
    try:
        yield
    finally:
        collector.terminate()
        collector.wait(PATIENCE)


def load(program: Program, directory: Path, seconds: int) -> str:
    """What dnsperf says of some seconds of cached and new names."""
    names = directory / "names"
    names.write_text("".join(f"n{number}.example A\n" for number in range(2_000)))
    where = ["-s", program.endpoint.host, "-p", str(program.endpoint.port), "-d", str(names)]
    done = subprocess.run(
        ["dnsperf", *where, "-c", "4", "-q", "20", "-l", str(seconds), "-t", "5"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return done.stdout


def test_nobody_reads(directory: Path) -> None:
    """A pipe that nobody reads, a device that is full and a watcher that has stopped: everything is
    answered, what is missing is counted and said once, and the program ends in time.
    """
    pipe = directory / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with started(directory, file=str(pipe), dnstap="/dev/full") as program:
        with socket.socket(socket.AF_UNIX) as watcher:
            watcher.connect(str(directory / "control"))
            watcher.sendall(b'{"version":1,"command":"watch"}\n')
            assert json.loads(watcher.recv(4_096))["ok"]
            said = load(program, directory, 2)
            assert re.search(r"Queries lost: +0 ", said), said
            answered = int(re.search(r"Queries completed: +(\d+)", said)[1])  # type: ignore[index]
            assert program.metrics().value(LOST, output="dnstap") > answered / 2
            received = watcher.recv(4_096)
            assert b'"answer"' in received
        status, seconds = program.terminate()
        assert seconds < 5
        log = program.log
    assert log.count(f"answers are missing in {pipe}") <= 1
    assert log.count("answers are missing in /dev/full: No space left on device") == 1
    assert status in (0, -15)
    os.close(reader)


DISK = """
import subprocess
import sys
from pathlib import Path

from staggerdns.querylog.file import FileSink
from staggerdns.querylog.outlet import Unwritten

directory = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], check=True)
sink = FileSink(str(directory / "queries"), 1 << 20, 1)
item = bytes([120]) * 999 + b"\\n"
missing = written = 0
for _ in range(30):
    try:
        sink.write([item] * 7)
        written += 7
    except Unwritten as error:
        assert str(error) == "No space left on device", error
        missing += error.count
        written += 7 - error.count
assert written + missing == 210
content = (directory / "queries").read_bytes()
assert content == item * written, len(content)
assert 50 < written < 66 and missing > 100, (written, missing)
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """There are whole lines alone, and everything else is counted."""
    run_with_own_mounts(DISK, str(tmp_path))


def test_rotation_by_others(directory: Path) -> None:
    """What has been moved is closed, and another one begun, when the program is told to reload."""
    log = directory / "queries"
    with started(directory, file=str(log), clients="prefix") as program:
        program.ask("a.example")
        eventually(log.exists, timeout=PATIENCE)
        moved = log.rename(directory / "moved")
        program.process.send_signal(1)
        eventually(lambda: (program.ask("b.example"), log.exists())[1], timeout=PATIENCE)
        program.terminate()
    assert next(one["name"] for one in lines(moved)) == "a.example."
    assert {one["name"] for one in lines(log)} == {"b.example."}
    assert {one["client"] for one in lines(log)} == {"127.0.0.0/24"}
