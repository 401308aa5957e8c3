"""The control socket of the program as it runs, and the commands that go there."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml

from tests.kit.clients import eventually
from tests.kit.program import Program, environment
from tests.kit.scripted import ScriptedUpstream
from tests.kit.testbed import own_answer, own_set, unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0
"""Seconds that a command may take on a busy machine."""
OK, NOT_DONE, NOBODY, FORBIDDEN = 0, 1, 69, 77
LISTED = "ads.example"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path, which everybody may enter."""
    made = Path(tempfile.mkdtemp(prefix="control"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def program(directory: Path) -> Iterator[Program]:
    """A program with one upstream that knows two addresses."""
    with (
        ScriptedUpstream(own_answer(0)) as upstream,
        started(directory, str(upstream.endpoint)) as running,
    ):
        yield running


def started(directory: Path, upstream: str = "127.0.0.1:9", **control: object) -> Program:
    """A program whose socket is in the directory."""
    settings = {
        "control": {"socket": str(directory / "socket"), **control},
        "lists": {"ads": {"domains": [LISTED]}},
        "groups": {"default": {"block": ["ads"]}},
    }
    return Program(directory / "program", [upstream], settings)


def staggerdns(program: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "staggerdns", "--config", program.configuration, *arguments],
        capture_output=True,
        env=environment(),
        text=True,
        check=False,
        timeout=PATIENCE,
    )


class Client:
    """A client of the socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, command: str, **arguments: object) -> None:
        """Send a request."""
        request = {"version": 1, "command": command, **arguments}
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Return a reply."""
        reply: dict[str, Any] = json.loads(self._file.readline())
        assert reply["version"] == 1
        return reply

    def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        """Return the result of a command."""
        self.send(command, **arguments)
        reply = self.receive()
        assert reply["ok"], reply
        result: dict[str, Any] = reply["result"]
        return result

    def stop_reading(self) -> None:
        """Send requests until the program takes no more."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.send(b'{"version":1,"command":"upstreams"}\n' * 100)


def test_the_commands(program: Program, directory: Path) -> None:
    """What an operator sees and does, by the command itself."""
    name = unique_name("www")
    program.pool(name, set(own_set(0)))
    status = staggerdns(program, "--socket", str(directory / "socket"), "status")
    assert (status.returncode, status.stderr) == (OK, "")
    assert f"listeners      {program.endpoint}" in status.stdout
    assert "blocking       default: ads" in status.stdout
    shown = json.loads(staggerdns(program, "cache", name, "--json").stdout)
    (entry,) = shown["entries"]
    assert {one["address"] for one in entry["addresses"]} == set(own_set(0))
    assert entry["addresses"][0]["upstreams"] == program.settings["upstream"]["servers"]
    flushed = staggerdns(program, "flush", name)
    assert flushed.stdout == "1 answers are forgotten\n"
    refused = staggerdns(program, "block", "off", "--group", "kids")
    assert refused.returncode == NOT_DONE
    assert refused.stderr == (
        "staggerdns: no group 'kids' has lists that block: expected default\n"
    )


def test_over_one_connection(program: Program, directory: Path) -> None:
    """Blocking pauses and goes on, balancers are told, and everything is forgotten."""
    name = unique_name("www")
    program.pool(name, set(own_set(0)))
    with Client(directory / "socket") as client:
        eventually(
            lambda: program.ask(LISTED).addresses, lambda found: found == ["0.0.0.0"], PATIENCE
        )
        client.ask("block", blocking=False, seconds=3_600)
        assert set(program.ask(LISTED).addresses) == set(own_set(0))
        (group,) = client.ask("block", blocking=True)["blocking"]
        assert group == {
            "group": "default",
            "lists": ["ads"],
            "paused": False,
            "seconds_left": None,
        }
        assert program.ask(LISTED).addresses == ["0.0.0.0"]
        assert client.ask("drain", draining=True) == {"phase": "draining", "ready": False}
        assert client.ask("drain", draining=False)["ready"]
        assert client.ask("flush", below="nobody.example") == {"flushed": 0}
        assert client.ask("flush", below=name)["flushed"] == 1
        program.ask(name)
        assert client.ask("flush", all=True)["flushed"] >= 1
        assert client.ask("status")["cache"]["entries"] == 0
    assert "flushed 1 answers for user" in program.log


def test_reload(program: Program, directory: Path) -> None:
    """A right file counts when the command ends. Of a wrong one all problems are told, and nothing
    changes.
    """
    settings = yaml.safe_load(program.configuration.read_text())
    settings["groups"]["kids"] = {"clients": ["10.0.0.0/8"], "block": ["ads"]}
    program.configuration.write_text(yaml.safe_dump(settings))
    done = staggerdns(program, "reload")
    assert (done.returncode, done.stderr) == (OK, "")
    with Client(directory / "socket") as client:
        status = client.ask("status")
        assert [one["group"] for one in status["blocking"]] == ["default", "kids"]
        assert status["configuration"] == str(program.configuration)
        assert (status["reloads"]["count"], status["reloads"]["last"]["ok"]) == (1, True)
        program.configuration.write_text(yaml.safe_dump({**settings, "groups": {}, "nothing": 1}))
        with program.configuration.open("a") as file:
            file.write("cache: {max_entries: none}\n")
        done = staggerdns(program, "reload")
        assert done.returncode == NOT_DONE
        assert done.stdout == ""
        assert "nothing: unknown key" in done.stderr
        assert "cache.max_entries: expected a whole number" in done.stderr
        status = client.ask("status")
        assert [one["group"] for one in status["blocking"]] == ["default", "kids"]
        assert (status["reloads"]["count"], status["reloads"]["last"]["ok"]) == (2, False)
        assert len(status["reloads"]["last"]["problems"]) == 2


def as_user(uid: int, gid: int, path: Path, script: str) -> str:
    """Do something at the socket as somebody else; return what has come of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            try:
                with Client(path) as client:
                    client.send(*script.split())
                    reply = client.receive()
                found = "ok" if reply["ok"] else reply["error"]["code"]
            except OSError as error:
                found = type(error).__name__
            os.write(writing, found.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        text = file.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_may_do_what(directory: Path) -> None:
    """Root may do everything, the group may read, and others do not get in."""
    nobody = pwd.getpwnam("nobody")
    daemon = pwd.getpwnam("daemon")
    path = directory / "socket"
    with started(directory, group="daemon"):
        assert path.stat().st_gid == daemon.pw_gid
        assert as_user(nobody.pw_uid, daemon.pw_gid, path, "status") == "ok"
        assert as_user(nobody.pw_uid, daemon.pw_gid, path, "reload") == "not_allowed"
        assert as_user(nobody.pw_uid, nobody.pw_gid, path, "status") == "PermissionError"
        assert as_user(daemon.pw_uid, daemon.pw_gid, path, "reload") == "not_allowed"
        with Client(path) as client:
            client.ask("drain", draining=True)


def test_clients_that_harm(program: Program, directory: Path) -> None:
    """Those that do not read, send without an end, or come in crowds cost nobody an answer, and
    nobody who may change things his turn.
    """
    path, name = directory / "socket", unique_name("www")
    program.pool(name, set(own_set(0)))
    stop = threading.Event()

    def crowd() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), Client(path) as client:
                client.send("status")
            time.sleep(0.005)  # without that, who is accepted is a matter of luck

    with Client(path) as unread, Client(path) as endless:
        unread.stop_reading()
        with contextlib.suppress(OSError):
            for _ in range(100):
                endless.socket.sendall(b" " * 65_536)
        threads = [threading.Thread(target=crowd) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                assert set(program.ask(name).addresses) == set(own_set(0))
            eventually(lambda: answered(path), timeout=PATIENCE)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert "Traceback" not in program.log


def answered(path: Path) -> bool:
    """Whether a client gets a reply; it may have to make room for others."""
    with contextlib.suppress(OSError, ValueError), Client(path) as client:
        client.send("status")
        return bool(client.receive()["ok"])
    return False


def test_a_socket_from_a_program_that_was_killed(program: Program, directory: Path) -> None:
    """It is stale: the next start takes its place, and the stop removes it."""
    path = directory / "socket"
    program.kill()
    assert path.exists()
    program.start()
    with Client(path) as client:
        assert client.ask("status")["ready"]
    program.terminate()
    assert not path.exists()


def test_two_programs_with_one_socket(program: Program, directory: Path) -> None:
    """The second one answers queries and does without; the first one keeps what it has."""
    path = directory / "socket"
    other = Program(directory / "other", ["127.0.0.1:9"], {"control": {"socket": str(path)}})
    with Client(path) as client:
        first = client.ask("status")["pid"]
    with other:
        assert f"no control socket at {path}: another program answers there" in other.log
    with Client(path) as client:
        assert client.ask("status")["pid"] == first


def test_no_directory(directory: Path) -> None:
    """The program starts all the same, and says why it cannot be reached."""
    with started(directory, socket=str(directory / "nowhere" / "socket")) as running:
        assert "No such file or directory: have that made first" in running.log
        done = staggerdns(running, "status")
        assert done.returncode == NOBODY
        assert done.stderr.startswith("staggerdns: no program answers at ")
