"""A store that is down, slow, full, forgetful or no store at all: answers come as without it."""

from __future__ import annotations

import contextlib
import signal
import socket
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from staggerdns.command.client import ask as control
from tests.kit import behaviours as b
from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import eventually
from tests.kit.priority import prefer, preferred
from tests.kit.program import Program, merged
from tests.kit.scripted import ScriptedUpstream
from tests.kit.slownetwork import behind_netem, behind_proxy
from tests.kit.speaker import Speaker
from tests.kit.stores import PATIENT, RedisServer, is_asked, reads
from tests.kit.testbed import unique_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.slownetwork import SlowStore

pytestmark = pytest.mark.live
ADDRESS = "203.0.113.1"
TIMEOUT = 0.1
"""Seconds that a reading may take here: this machine is busy."""
BACK = 5.0
"""Seconds after its return in which the store is asked again."""
ROOM = 0.5
"""Seconds that an answer may take beside that, on a busy machine."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream that answers everything."""
    with ScriptedUpstream(b.answers(ADDRESS, ttl=300)) as found:
        yield found


@contextlib.contextmanager
def running(
    directory: Path, upstream: ScriptedUpstream, url: str, **shared: Any
) -> Iterator[Program]:
    """A program whose second level is there, or should be."""
    settings = {
        "cache": {"shared": {"url": url, "timeout": "100ms", **shared}},
        "control": {"socket": str(directory / "control.sock")},
    }
    directory.mkdir(exist_ok=True)
    with Program(directory / "program", [upstream.endpoint], settings) as program:
        yield program


def answer(program: Program, label: str = "fault") -> float:
    """Ask for a new name; how many seconds its answer took."""
    began = time.monotonic()
    reply = program.ask(unique_name(label))
    assert reply.addresses == [ADDRESS]
    return time.monotonic() - began


def is_back(program: Program) -> None:
    """Wait until the store is asked, and see that it is."""
    before = reads(program, "miss")

    def missed() -> bool:
        answer(program)
        return is_asked(program) and reads(program, "miss") > before

    eventually(missed, bool, BACK + 1)


def is_left_alone(program: Program) -> list[float]:
    """Ask until the breaker has opened; no answer takes much longer than the timeout, and then none
    waits at all. How many seconds the answers took until then.
    """
    first: list[float] = []

    def asked() -> bool:
        first.append(answer(program))
        assert first[-1] < TIMEOUT + ROOM
        return is_asked(program)

    eventually(asked, lambda found: not found)
    before = reads(program, "open")
    took = [answer(program) for _ in range(10)]
    assert statistics.median(took) < TIMEOUT / 2
    assert reads(program, "open") == before + len(took)
    return first


@contextlib.contextmanager
def served(directory: Path, upstream: ScriptedUpstream) -> Iterator[tuple[RedisServer, Program]]:
    """A store, and a program that asks it."""
    with (
        RedisServer(directory / "store") as store,
        running(directory, upstream, store.url) as program,
    ):
        is_back(program)
        yield store, program


def test_down_at_the_start(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """The program is there without it, and asks it as soon as it is there."""
    store = RedisServer(tmp_path / "store")
    with running(tmp_path, upstream, store.url) as program:
        assert not is_asked(program)
        assert statistics.median(answer(program) for _ in range(5)) < TIMEOUT / 2
        eventually(lambda: program.log.count("is not asked: "), lambda count: count == 1)
        with store:
            is_back(program)


def test_a_reload_changes_it(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """It comes, moves and goes without a restart; what is cached stays."""
    with (
        RedisServer(tmp_path / "one") as one,
        RedisServer(tmp_path / "other") as other,
        running(tmp_path, upstream, one.url) as program,
    ):
        is_back(program)
        name = unique_name("kept")
        program.ask(name)
        for url in (other.url, None, one.url):
            settings = merged(program.settings, {"cache": {"shared": {"url": url}}})
            program.configuration.write_text(yaml.safe_dump(settings))
            control(program.settings["control"]["socket"], "reload", {})
            if url is not None:
                is_back(program)
            else:
                before = reads(program, "open")
                answer(program)
                assert (is_asked(program), reads(program, "open")) == (False, before)
        assert other.all_keys()
        assert len(upstream.asked(name)) == 1
        assert program.ask(name).addresses == [ADDRESS]
        assert len(upstream.asked(name)) == 1


def test_a_reload_keeps_what_is_to_be_told(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """The others learn of a flush although the store was down, and the settings have changed."""
    store = RedisServer(tmp_path / "store")
    with running(tmp_path, upstream, store.url) as program:
        place = program.settings["control"]["socket"]
        control(place, "flush", {"name": "kept.example"})
        settings = merged(program.settings, {"cache": {"shared": {"timeout": "90ms"}}})
        program.configuration.write_text(yaml.safe_dump(settings))
        control(place, "reload", {})
        with store:
            eventually(
                lambda: store.do("LRANGE", "staggerdns:1:flushes", "0", "-1"),
                lambda found: b"=\4kept\7example\0" in found,
                BACK + 1,
            )


def test_a_reload_reads_the_password(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """One that was changed in its file counts, though no setting has changed."""
    secret = tmp_path / "secret"
    secret.write_text("old\n")
    with (
        RedisServer(tmp_path / "store", "--requirepass", "new") as store,
        running(tmp_path, upstream, store.url, password=str(secret)) as program,
    ):
        eventually(lambda: program.log.count("WRONGPASS"), bool)
        secret.write_text("new\n")
        control(program.settings["control"]["socket"], "reload", {})
        is_back(program)


def test_dying_and_coming_back(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A crash costs nobody an answer; the log tells of it, and of the return."""
    with served(tmp_path, upstream) as (store, program):
        store.kill()
        is_left_alone(program)
        assert "is not asked: " in program.log
        status = control(program.settings["control"]["socket"], "status", {})["shared"]
        assert (status["store"], status["asked"]) == (f"{store.url}/0", False)
        assert status["problem"]
        store.start()
        is_back(program)


def test_hanging(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A store that is stopped in the middle of a reading, and goes on later."""
    with served(tmp_path, upstream) as (store, program):
        store.send_signal(signal.SIGSTOP)
        try:
            is_left_alone(program)
            assert reads(program, "timeout") + reads(program, "error") >= 1
            time.sleep(3)  # the connection is given up meanwhile
            assert answer(program) < ROOM
        finally:
            store.send_signal(signal.SIGCONT)
        is_back(program)


def test_full(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A store that takes nothing any more is read all the same."""
    with served(tmp_path, upstream) as (store, program):
        assert store.do("CONFIG", "SET", "maxmemory", "1") == b"+OK\r\n"
        before = reads(program, "miss")
        assert answer(program) < ROOM
        eventually(
            lambda: program.metrics().value("staggerdns_shared_writes_total", result="error"),
            lambda count: count >= 1,
        )
        assert reads(program, "miss") == before + 1
        time.sleep(2)
        assert is_asked(program)
        store.do("CONFIG", "SET", "maxmemory", "0")


def test_forgetful(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """FLUSHALL takes the values, the scripts' names and the epoch: all come back."""
    with served(tmp_path, upstream) as (store, program):
        epoch = store.do("GET", "staggerdns:1:epoch")
        store.do("FLUSHALL")
        store.do("SCRIPT", "FLUSH")
        is_back(program)
        eventually(lambda: store.do("GET", "staggerdns:1:epoch"), lambda found: found == epoch)


def test_foreign_keys(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Whatever stands in the place of the epoch and of the flushes, flushes go on."""
    epoch, flushes = "staggerdns:1:epoch", "staggerdns:1:flushes"
    with served(tmp_path, upstream) as (store, program):
        known = store.do("GET", epoch)
        number = known.split()[1].decode()
        for value in ("abc", "1e300", "-5", "5.5", str(2**53), "9" * 400, f"0{number}"):
            store.do("SET", epoch, value)
            eventually(lambda: store.do("GET", epoch), lambda found: found == known)
        store.do("DEL", epoch)
        store.do("LPUSH", epoch, "a")
        eventually(lambda: store.do("GET", epoch), lambda found: found == known)
        store.do("SET", flushes, "a")
        eventually(lambda: store.do("TYPE", flushes), lambda found: found == b"+none\r\n")
        store.do("LPUSH", flushes, "garbage", "a" * 2_000_000)
        control(program.settings["control"]["socket"], "flush", {"name": "www.example"})
        eventually(lambda: store.do("LLEN", flushes), lambda found: found == b":3\r\n")
        time.sleep(1.5)
        assert store.do("LLEN", flushes) == b":3\r\n"  # it is known there, and not told again
        time.sleep(3)
        idle = store.do("OBJECT", "IDLETIME", flushes)
        assert int(idle[1:]) <= 1  # what is used least goes first when the store is full
        assert is_asked(program)


def test_failing_over(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A replica refuses what a primary does; another server is in its place."""
    with (
        RedisServer(tmp_path / "store") as store,
        RedisServer(tmp_path / "other") as other,
        running(tmp_path, upstream, store.url) as program,
    ):
        is_back(program)
        store.do("REPLICAOF", other.endpoint.host, str(other.endpoint.port))
        assert answer(program) < TIMEOUT + ROOM
        store.do("REPLICAOF", "NO", "ONE")
        is_back(program)
        store.kill()
        with RedisServer(tmp_path / "third", endpoint=store.endpoint):
            is_back(program)


def says(reply: bytes, *, then_close: bool = False) -> Callable[[socket.socket, bytes], None]:
    """Answer everything with the same octets."""

    def speak(connection: socket.socket, data: bytes) -> None:
        connection.sendall(reply)
        if then_close:
            connection.shutdown(socket.SHUT_RDWR)

    return speak


ODD = {
    "an error": says(b"-ERR no\r\n"),
    "loading": says(b"-LOADING Redis is loading the dataset in memory\r\n"),
    "moved": says(b"-MOVED 3999 127.0.0.1:6381\r\n"),
    "no login": says(b"-NOAUTH Authentication required.\r\n"),
    "half a reply": says(b"*3\r\n$13\r\n17000", then_close=True),
    "an endless line": says(b"a" * 100_000),
    "a million elements": says(b"*1000000\r\n"),
    "a string of a gigabyte": says(b"$1073741824\r\n"),
    "another protocol": says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "too many replies": says(b"+OK\r\n" * 1000),
    "what nobody asked for": says(b"*2\r\n:1\r\n:2\r\n"),
    "a time beyond all": says(
        b"*3\r\n$1\r\n7\r\n$4000\r\n" + b"9" * 4000 + b"\r\n*1\r\n$6\r\n7 1 .\0\r\n"
    ),
    "silence": lambda *_: None,
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_store(kind: str, tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """It is not asked, and nobody waits for it; a store in its place is asked."""
    with Speaker(ODD[kind]) as speaker:
        place = speaker.endpoint
        with running(tmp_path, upstream, f"redis://{place}") as program:
            time.sleep(1.5)
            assert not is_asked(program)
            assert statistics.median(answer(program) for _ in range(5)) < TIMEOUT / 2
            speaker.__exit__()
            with RedisServer(tmp_path / "store", endpoint=place):
                is_back(program)


@pytest.mark.parametrize(
    ("behind", "timeout", "late"),
    [(behind_netem, 0.005, 0.1), (behind_proxy, TIMEOUT, 2 * TIMEOUT)],
    ids=["netem", "proxy"],
)
def test_slow(
    behind: Callable[[Path], contextlib.AbstractContextManager[SlowStore]],
    timeout: float,
    late: float,
    tmp_path: Path,
) -> None:
    """A store behind a slow network is not asked as long as it is slow; who has asked it before
    that is known waits for the timeout, and not for the reply.
    """
    with (
        preferred(),
        behind(tmp_path / "store") as store,
        ScriptedUpstream(b.answers(ADDRESS, ttl=300)) as upstream,
        running(tmp_path, upstream, f"redis://{store.endpoint}", timeout=timeout) as program,
    ):
        prefer(program.process.pid)
        place = program.settings["control"]["socket"]
        is_back(program)
        before = reads(program, "timeout")
        with store.slow(late):
            assert statistics.median(is_left_alone(program)) < late
            assert reads(program, "timeout") > before
            time.sleep(2.5)  # polls are answered, but not in time
            assert not is_asked(program)
            status = control(place, "status", {})["shared"]
            assert (status["asked"], status["problem"]) == (False, "no reply in time")
        is_back(program)
        status = control(place, "status", {})["shared"]
        assert (status["asked"], status["problem"]) == (True, "")


def test_a_password_and_tls(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Both are needed, and the certificate must be that of the host."""
    authority = CertificateAuthority(tmp_path / "ca")
    files = authority.issue("127.0.0.1")
    secret = tmp_path / "secret"
    secret.write_text("sesame\n")
    options = ("--requirepass", "sesame")
    with RedisServer(tmp_path / "store", *options, certificate=files) as store:
        url = f"rediss://{store.endpoint}"
        good = {"tls_ca": str(authority.ca), "password": str(secret)}
        with running(tmp_path / "good", upstream, url, **good) as program:
            is_back(program)
        other = CertificateAuthority(tmp_path / "other")
        wrongs: dict[str, dict[str, Any]] = {
            "plain": {"url": f"redis://{store.endpoint}", "tls_ca": None},
            "authority": {"tls_ca": str(other.ca)},
            "password": {"password": None},
        }
        for name, wrong in wrongs.items():
            settings: dict[str, Any] = {"url": url, **good, **wrong}
            with running(tmp_path / name, upstream, **settings) as program:
                time.sleep(1.5)
                assert not is_asked(program)
                assert answer(program) < ROOM
                assert "sesame" not in program.log


def test_a_liar(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Values that none of ours has written count, and change no answer."""
    with (
        RedisServer(tmp_path / "store") as store,
        running(tmp_path, upstream, store.url, timeout=PATIENT) as program,
    ):
        is_back(program)
        name = unique_name("liar")
        program.ask(name)
        key = eventually(lambda: [key for key in store.all_keys() if name.encode() in key], bool)[
            0
        ].decode()
        lies: list[tuple[str, ...]] = [
            ("SET", key, "garbage", "PX", "100000"),
            ("SET", key, "x" * 900_000, "PX", "100000"),
            ("SET", key, "x" * 2_000_000, "PX", "100000"),
            ("PERSIST", key),
            ("PEXPIRE", key, "999999999"),
            ("LPUSH", key, "a"),
        ]
        for lie in lies:
            other = unique_name("liar")
            lied = key.replace(name, other)
            store.do("DEL", lied)
            if lie[0] in ("PERSIST", "PEXPIRE"):
                store.do("COPY", key, lied)
            store.do(lie[0], lied, *lie[2:])
            assert program.ask(other).addresses == [ADDRESS]
            is_back(program)
        assert reads(program, "invalid") >= len(lies) - 1
