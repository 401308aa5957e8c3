"""A machine that has run out of something: descriptors, room for the log, or the right time.

Limits are put on the running program from outside, and taken off again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.kit import behaviours as b
from tests.kit.clients import NoReplyError, TcpClient, ask, eventually, question
from tests.kit.clock import WallClock
from tests.kit.ports import Endpoint, free_endpoints
from tests.kit.program import Program, command, environment
from tests.kit.scripted import ScriptedUpstream
from tests.kit.testbed import SOON, own_answer, unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import BuildTestbed

DAY = 86_400.0


@contextlib.contextmanager
def limited(program: Program, kind: int, most: int) -> Iterator[None]:
    """Let the running program have ``most`` of one kind of resource."""
    pid = program.process.pid
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, before)


def open_descriptors(program: Program) -> int:
    """How many descriptors the program has when it has closed what it is about to close."""
    directory = Path(f"/proc/{program.process.pid}/fd")
    seen: list[int] = []

    def look() -> list[int]:
        seen.append(sum(1 for _ in directory.iterdir()))
        return seen

    return eventually(look, lambda counts: len(counts) > 9 and len(set(counts[-10:])) == 1)[-1]


def at_rest(program: Program) -> None:
    """Wait until the program has nothing under way."""
    collections = "staggerdns_collections_running"
    eventually(lambda: program.metrics().value(collections) == 0)


def processor_seconds(program: Program) -> float:
    """The processor time that the program has used."""
    fields = Path(f"/proc/{program.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def marks(program: Program) -> float:
    """How much worse than healthy upstreams are."""
    return program.metrics().value("staggerdns_upstream_state")


def test_no_descriptors(build: BuildTestbed) -> None:
    """Without a free descriptor UDP is served as ever, from the cache and from upstreams; TCP
    connections are closed at once; with descriptors all is as before, and nobody is blamed.
    """
    testbed = build([own_answer(0), own_answer(1)])
    known = unique_name("known")
    testbed.ask(known)
    with limited(testbed.program, resource.RLIMIT_NOFILE, open_descriptors(testbed.program)):
        for _ in range(30):
            assert testbed.ask(known).rcode == "NOERROR"
            assert testbed.ask(unique_name("new")).rcode == "NOERROR"
        used = processor_seconds(testbed.program)
        for _ in range(5):
            with pytest.raises(NoReplyError):
                testbed.ask(known, tcp=True, timeout=2)
        time.sleep(0.5)
        assert processor_seconds(testbed.program) - used < 0.3, "it accepts in a loop"
    assert testbed.program.log.count("EMFILE") == 1
    assert testbed.program.metrics().value("staggerdns_tcp_refused_connections_total") == 5
    assert testbed.ask(known, tcp=True).rcode == "NOERROR"
    assert testbed.program.health() == 200
    assert marks(testbed.program) == 0


@pytest.mark.parametrize("scheme", ["", "tcp://"])
def test_no_descriptor_for_any_upstream(build: BuildTestbed, scheme: str) -> None:
    """Where not even one upstream socket can be had: SERVFAIL, counted as our own error; with
    descriptors the next name is answered at once.
    """
    testbed = build([own_answer(0), own_answer(1)], scheme=scheme)
    names = [unique_name("nobody") for _ in range(8)]
    with limited(testbed.program, resource.RLIMIT_NOFILE, open_descriptors(testbed.program)):
        assert {testbed.ask(name).rcode for name in names} == {"SERVFAIL"}
    assert testbed.ask(unique_name("again")).rcode == "NOERROR"
    samples = testbed.program.metrics()
    assert samples.value("staggerdns_upstream_local_errors_total") >= len(names)
    assert marks(testbed.program) == 0


def test_too_few_descriptors_to_start(tmp_path: Path) -> None:
    """With fewer descriptors than listeners the start ends with one line that says so."""
    listen = free_endpoints(40)
    settings = {
        "server": {"listen": [str(endpoint) for endpoint in listen]},
        "upstream": {"servers": ["127.0.0.1:9"]},
        "metrics": {"listen": None},
        "ranking": {"enabled": False},
    }
    path = tmp_path / "staggerdns.yaml"
    path.write_text(yaml.safe_dump(settings))
    done = subprocess.run(
        command(path),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)),
    )
    assert done.returncode == os.EX_UNAVAILABLE
    (line,) = done.stderr.splitlines()
    assert "cannot listen on 127.0.0." in line
    assert "Too many open files" in line


@pytest.mark.parametrize(("hard", "connections"), [(4096, 256), (160, None)])
def test_descriptors_at_the_start(tmp_path: Path, hard: int, connections: int | None) -> None:
    """The soft limit is raised as far as is needed; where the hard one is in the way, connections
    give way, and one line says so.
    """
    (listen,) = free_endpoints(1)
    path, log = tmp_path / "staggerdns.yaml", tmp_path / "program.log"
    settings = {
        "server": {"listen": [str(listen)]},
        "upstream": {"servers": ["127.0.0.1:9"]},
        "metrics": {"listen": None},
        "ranking": {"enabled": False},
        "local": {"hosts": None},
    }
    path.write_text(yaml.safe_dump(settings))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(path),
            cwd=tmp_path,
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard)),  # noqa: PLW1509
        )
    try:
        eventually(lambda: "listening on" in log.read_text(), timeout=20)
        soft, _ = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        with contextlib.ExitStack() as stack:
            for _ in range(150):
                client = stack.enter_context(TcpClient(listen))
            assert ask(listen, "localhost").rcode == "NOERROR"
            client.send(question("localhost"))
            assert client.receive().rcode == "NOERROR"
    finally:
        process.terminate()
        process.wait(10)
    text = log.read_text()
    assert "EMFILE" not in text
    if connections is None:
        assert soft == hard
        assert text.count("server.tcp_max_connections counts as") == 1
    else:
        assert 80 < soft < hard
        assert "server.tcp_max_connections" not in text


def test_full_disk(build: BuildTestbed) -> None:
    """While the log cannot be written queries are answered as ever; what is lost is counted, and
    the log goes on when there is room again.
    """
    testbed = build([own_answer(0), own_answer(1)])
    log = testbed.program.directory / "program.log"
    testbed.ask(unique_name("before"))
    at_rest(testbed.program)
    size = log.stat().st_size
    lost = "staggerdns_log_lost_total"
    assert testbed.program.metrics().value(lost) == 0
    with limited(testbed.program, resource.RLIMIT_FSIZE, size):
        for _ in range(20):
            assert testbed.ask(unique_name("full")).rcode == "NOERROR"
        assert log.stat().st_size <= size
        counted = eventually(lambda: testbed.program.metrics().value(lost))
        assert counted >= 20
        assert testbed.program.health() == 200
    after = unique_name("after")
    testbed.ask(after)
    eventually(lambda: after in testbed.program.log)
    assert testbed.program.metrics().value(lost) >= counted


def test_no_room_for_the_log_from_the_start(tmp_path: Path) -> None:
    """A log on a full device keeps the program neither from starting nor from ending in order."""
    (tmp_path / "program").mkdir()
    log = tmp_path / "program" / "program.log"
    log.symlink_to("/dev/full")
    with ScriptedUpstream(own_answer(0)) as upstream:
        program = Program(tmp_path / "program", [upstream.endpoint], {"log": {"level": "debug"}})
        program.start()
        log.unlink()  # nobody can read that to its end
        try:
            for _ in range(20):
                assert program.ask(unique_name("full")).rcode == "NOERROR"
            assert program.metrics().value("staggerdns_log_lost_total") > 20
        finally:
            status, _ = program.terminate()
    assert status in (0, -15)


@pytest.mark.long
@pytest.mark.parametrize("jump", [DAY, -DAY, -50 * 365 * DAY], ids=["ahead", "back", "to 1976"])
def test_wall_clock_is_set(tmp_path: Path, jump: float) -> None:
    """When somebody sets the clock TTLs, time limits and health go on as if nothing had been."""
    clock = WallClock(tmp_path / "clock")
    short, long = unique_name("short"), unique_name("long")
    behaviour = b.by_name({short: own_answer(0, ttl=1)}, own_answer(0))
    hanging = unique_name("hanging")
    slow = b.by_name({short: own_answer(1, ttl=1), hanging: b.silent}, own_answer(1))
    settings = {"cache": {"max_stale": 0}, "log": {"level": "debug"}}
    with ScriptedUpstream(behaviour) as one, ScriptedUpstream(slow) as two:
        endpoints: list[Endpoint] = [two.endpoint, one.endpoint]
        with Program(tmp_path / "program", endpoints, settings, environ=clock.environ) as program:
            assert program.ask(long).ttl <= 300
            at_rest(program)
            asked = len(one.asked(long))
            clock.set_off(jump)
            year = time.gmtime(time.time() + jump).tm_year
            program.ask(unique_name("now"))
            moved = time.strftime("%Y-%m-%d", time.gmtime(time.time() + jump))
            eventually(lambda: moved in program.log, timeout=5)
            assert str(year) in program.log
            assert 290 <= program.ask(long).ttl <= 300
            assert len(one.asked(long)) == asked, "the answer has gone from the cache"
            reply = program.ask(hanging)
            assert reply.rcode == "NOERROR"
            assert reply.seconds < SOON
            program.ask(short)
            time.sleep(1.1)
            before = len(one.asked(short))
            program.ask(short)
            eventually(lambda: len(one.asked(short)) > before)
            clock.set_off(0)
            assert 280 <= program.ask(long).ttl <= 300
            assert program.ask(unique_name("back")).rcode == "NOERROR"
            at_rest(program)
            assert marks(program) == 0
            assert program.metrics().value("staggerdns_answer_seconds_sum") < 30
