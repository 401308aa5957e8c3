"""Every way of starting the program: in the foreground, as a daemon, under twist; and SIGHUP."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from staggerdns import __version__
from staggerdns.compiled import is_compiled
from tests.kit import behaviours as b
from tests.kit.clients import ask, eventually
from tests.kit.ports import Endpoint, free_endpoint
from tests.kit.program import CLEAN, FOREGROUND, Program, command, environment, run_to_end
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DAEMON = ("twistd", "--pidfile=staggerdns.pid", "--logfile=daemon.log")
RUNNERS = [
    pytest.param(("twistd", "-n"), id="foreground"),
    pytest.param(FOREGROUND, id="no pidfile", marks=pytest.mark.long),
    pytest.param(DAEMON, id="daemon"),
    pytest.param(("twist",), id="twist", marks=pytest.mark.long),
]


def configured(directory: Path, listen: Endpoint, metrics: Endpoint, **more: Any) -> Path:
    """A configuration file with a silent upstream."""
    path = directory / "staggerdns.yaml"
    settings = {
        "server": {"listen": [str(listen)]},
        "upstream": {"servers": ["127.0.0.1:9"]},
        "metrics": {"listen": str(metrics)},
        "ranking": {"enabled": False},
        **more,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@contextlib.contextmanager
def taken(kind: socket.SocketKind) -> Iterator[Endpoint]:
    """A port that somebody else has."""
    endpoint = free_endpoint()
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(endpoint)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield endpoint


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("key", ["server.listen[0]", "metrics.listen"])
def test_a_taken_port(tmp_path: Path, runner: Sequence[str], key: str) -> None:
    """However the program is started, a port that it cannot have is status 69 and one line on
    standard error; no process and no file is left.
    """
    with taken(socket.SOCK_STREAM) as endpoint:
        places = [endpoint, free_endpoint()]
        if key == "metrics.listen":
            places.reverse()
        path = configured(tmp_path, *places)
        done = run_to_end(path, tmp_path, runner=runner)
    assert done.returncode == os.EX_UNAVAILABLE
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"staggerdns: {key}: cannot listen on {endpoint}: Address already in use"
    )
    assert f"ss -lntup 'sport = :{endpoint.port}'" in line
    assert done.stdout == ""
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_wrong_configuration(tmp_path: Path, runner: Sequence[str]) -> None:
    """The same for a configuration that cannot be used, with status 78."""
    path = configured(tmp_path, free_endpoint(), free_endpoint(), extra=1)
    done = run_to_end(path, tmp_path, runner=runner)
    assert done.returncode == os.EX_CONFIG
    assert done.stderr == f"staggerdns: {path}: extra: unknown key\n"
    assert done.stdout == ""
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_configuration_from_a_pipe(tmp_path: Path) -> None:
    """What comes through standard input is read to its end, and judged."""
    done = subprocess.run(
        command(Path("/dev/stdin")),
        input="upstream: {servers: [1.1.1.1]}\nx: 1",
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == os.EX_CONFIG
    assert done.stderr == "staggerdns: /dev/stdin: x: unknown key\n"
    done = run_to_end(Path("/dev/zero"), tmp_path)
    assert done.stderr.startswith("staggerdns: /dev/zero: cannot be read: it is a device")


def test_twist(tmp_path: Path) -> None:
    """Under twist the program listens, answers, and ends in order."""
    with (
        ScriptedUpstream(b.answers("203.0.113.1")) as upstream,
        Program(tmp_path, [upstream.endpoint], runner=("twist",)) as program,
    ):
        assert program.ask("www.example.").addresses == ["203.0.113.1"]
        assert program.ask("www.example.", tcp=True).addresses == ["203.0.113.1"]
        assert program.health() == 200
        assert program.terminate()[0] in CLEAN
    assert "listening on" in program.log


@pytest.mark.parametrize("closed", [False, True])
def test_daemon(tmp_path: Path, closed: bool) -> None:
    """As a daemon the program returns when it listens, answers, and takes its pidfile with it, with
    standard streams and without.
    """
    with ScriptedUpstream(b.answers("203.0.113.1")) as upstream:
        listen, metrics = free_endpoint(), free_endpoint()
        path = configured(tmp_path, listen, metrics, upstream={"servers": [str(upstream.endpoint)]})
        done = subprocess.run(
            command(path, DAEMON),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            preexec_fn=(lambda: os.closerange(0, 3)) if closed else None,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        pidfile = tmp_path / "staggerdns.pid"
        pid = int(eventually(pidfile.read_text))
        try:
            assert ask(listen, "www.example.").addresses == ["203.0.113.1"]
            assert ask(listen, "www.example.", tcp=True).addresses == ["203.0.113.1"]
        finally:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not pidfile.exists(), timeout=10)
    # The last line follows the end of the pidfile.
    log = eventually((tmp_path / "daemon.log").read_text, lambda text: "Server Shut Down" in text)
    build = "compiled" if is_compiled() else "pure Python"
    assert (
        f"listening on {listen}, with metrics on {metrics}, asking {upstream.endpoint}: "
        f"StaggerDNS {__version__}, {build}\n"
    ) in log


def test_sighup(tmp_path: Path) -> None:
    """SIGHUP has the hosts file read again, says so, and loses nothing."""
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 one.example\n")
    settings = {"local": {"hosts": str(hosts)}, "log": {"level": "error"}}
    slow = b.answers("203.0.113.1", after=0.5)
    with (
        ScriptedUpstream(slow) as upstream,
        Program(tmp_path / "program", [upstream.endpoint], settings) as program,
    ):
        assert program.ask("one.example.").addresses == ["192.0.2.1"]
        stamp = hosts.stat()
        hosts.write_text("192.0.2.2 one.example\n")
        os.utime(
            hosts, ns=(stamp.st_atime_ns, stamp.st_mtime_ns)
        )  # nothing to be seen from outside
        time.sleep(1.1)  # longer than from one look at the file to the next
        assert program.ask("one.example.").addresses == ["192.0.2.1"]
        for number in range(1, 4):
            program.process.send_signal(signal.SIGHUP)
            eventually(lambda: program.log.count("read again: "), number.__eq__, timeout=60)
        assert program.ask("one.example.").addresses == ["192.0.2.2"]
        assert program.ask("www.example.").addresses == ["203.0.113.1"]
        assert program.process.poll() is None


def writer_of(pipe: Path) -> int | None:
    """Open a pipe to write into it; `None` while nobody reads it."""
    with contextlib.suppress(OSError):
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    return None


@pytest.mark.long
@pytest.mark.parametrize("runner", [FOREGROUND, ("twist",)], ids=["twistd", "twist"])
def test_sighup_while_starting(tmp_path: Path, runner: Sequence[str]) -> None:
    """A SIGHUP before the program runs does not end it, and is obeyed when it does."""
    listen, metrics = free_endpoint(), free_endpoint()
    text = configured(tmp_path, listen, metrics).read_bytes()
    pipe, log = tmp_path / "pipe", tmp_path / "program.log"
    os.mkfifo(pipe)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(pipe, runner), cwd=tmp_path, env=environment(), stdout=output, stderr=output
        )
    try:
        writer = eventually(lambda: writer_of(pipe), timeout=30)
        assert writer is not None
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
        os.write(writer, text)
        os.close(writer)
        eventually(log.read_text, lambda text: text.count("read again: ") == 1, timeout=30)
        process.send_signal(signal.SIGHUP)
        eventually(log.read_text, lambda text: text.count("read again: ") == 2)
        process.terminate()
        assert process.wait(10) in CLEAN
    finally:
        process.kill()
        process.wait(5)


def test_sighup_before_imports() -> None:
    """SIGHUP is taken care of before most of the time of a start, which goes into imports."""
    script = """
import os, signal, sys
from staggerdns.tap import Options
options = Options()
options.parent = {}
options.postOptions = lambda: os.kill(os.getpid(), signal.SIGHUP)
options.parseOptions([])
print(*[name for name in sys.modules if name.startswith("staggerdns.")])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == [
        "staggerdns.hangups",
        "staggerdns.settings",
        "staggerdns.tap",
    ]


def test_sighup_while_stopping(tmp_path: Path) -> None:
    """SIGHUP while the program drains does not cut it short."""
    with (
        ScriptedUpstream(b.silent) as upstream,
        Program(tmp_path, [upstream.endpoint]) as program,
    ):
        program.process.send_signal(signal.SIGHUP)
        program.process.send_signal(signal.SIGTERM)
        program.process.send_signal(signal.SIGHUP)
        assert program.process.wait(10) in CLEAN
        assert "Server Shut Down" in program.log


@pytest.mark.long
@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_log_level(tmp_path: Path, level: str) -> None:
    """``log.level`` goes for Twisted's lines, too; that the program listens is told at any level.
    No line shows an object by its address in memory.
    """
    with (
        ScriptedUpstream(b.answers("203.0.113.1")) as upstream,
        Program(tmp_path, [upstream.endpoint], {"log": {"level": level}}) as program,
    ):
        program.ask("www.example.")
        program.terminate()
        lines = program.log.splitlines()
    assert len([line for line in lines if "listening on" in line]) == 1
    assert not [line for line in lines if re.search(r"<.* at 0x|object at", line)]
    if level in ("warn", "error"):
        assert len(lines) == 1, lines
    else:
        assert any("starting up" in line for line in lines)
        assert "Server Shut Down" in lines[-1]


def test_a_log_that_nobody_reads(tmp_path: Path) -> None:
    """A pipe that is full stops no answer; when it is read again, lines come again, and those that
    were too many are counted.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    text = b""

    def read() -> bytes:
        nonlocal text
        with contextlib.suppress(BlockingIOError):
            text += os.read(reader, 1 << 20)
        return text

    debug = {"log": {"level": "debug"}}
    with (
        ScriptedUpstream(b.answers("203.0.113.1")) as upstream,
        Program(tmp_path, [upstream.endpoint], debug, output=writer) as program,
    ):
        os.close(writer)
        lost = 0.0
        for number in range(10_000):
            name = f"{'x' * 60}.{'y' * 60}.{'z' * 60}.n{number}.example."
            assert program.ask(name).addresses == ["203.0.113.1"]
            if number % 100 == 0:
                lost = program.metrics().value("staggerdns_log_lost_total")
                if lost:
                    break
        assert lost
        eventually(lambda: len(read()) > 1_000_000, timeout=20)
        program.ask("again.example.")
        eventually(lambda: b"again.example" in read(), timeout=20)
        lines = text.splitlines()
        assert all(re.match(rb"\d{4}-\d\d-\d\dT", line) for line in lines)
        program.process.send_signal(signal.SIGTERM)
        eventually(lambda: b"Server Shut Down" in read(), timeout=20)
        assert program.process.wait(10) in CLEAN
    os.close(reader)


def test_a_log_whose_reader_has_gone(tmp_path: Path) -> None:
    """Nor does a pipe without a reader; the program ends in order all the same."""
    reader, writer = os.pipe()
    debug = {"log": {"level": "debug"}}
    with (
        ScriptedUpstream(b.answers("203.0.113.1")) as upstream,
        Program(tmp_path, [upstream.endpoint], debug, output=writer) as program,
    ):
        os.close(writer)
        os.close(reader)
        for number in range(100):
            assert program.ask(f"n{number}.example.").addresses == ["203.0.113.1"]
        assert program.metrics().value("staggerdns_log_lost_total") >= 100
        assert program.terminate()[0] in CLEAN
