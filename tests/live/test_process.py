"""The program as a process: start, what keeps it from starting, and the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit import behaviours as b
from tests.kit.clients import TcpClient, UdpClient, eventually, question
from tests.kit.ports import free_endpoint
from tests.kit.program import CLEAN, merged, run_to_end
from tests.kit.testbed import all_sets, own_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import BuildTestbed

SOON_OVER = 5.0
"""Seconds in which a program ends that gives queries one more second, on a busy machine too."""


@pytest.mark.parametrize("tcp", [False, True])
def test_sigterm_answers_what_is_in_flight(build: BuildTestbed, tcp: bool) -> None:
    """On SIGTERM the questions in flight are still answered, then the program ends with 0."""
    testbed = build([own_answer(index, 0.4) for index in range(5)])
    with (TcpClient if tcp else UdpClient)(testbed.program.endpoint) as client:
        client.send(question("www.example."))
        eventually(lambda: sum(testbed.counts("www.example.")) >= 2)
        status, seconds = testbed.program.terminate()
        assert client.receive(1).rcode == "NOERROR"
    assert status in CLEAN
    assert seconds < SOON_OVER


def test_sigterm_while_upstreams_are_silent(build: BuildTestbed) -> None:
    """On SIGTERM a question that nobody answers ends in SERVFAIL within about a second."""
    testbed = build([b.silent] * 5, {"upstream": {"parallel": {"total_collect_timeout": "9s"}}})
    with UdpClient(testbed.program.endpoint) as client:
        client.send(question("www.example."))
        eventually(lambda: sum(testbed.counts("www.example.")) >= 2)
        status, seconds = testbed.program.terminate()
        assert client.receive(1).rcode == "SERVFAIL"
    assert status in CLEAN
    assert seconds < SOON_OVER


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal(build: BuildTestbed, sent: signal.Signals) -> None:
    """Another signal while the first is obeyed changes nothing: the question is still answered."""
    testbed = build([b.silent] * 5, {"upstream": {"parallel": {"total_collect_timeout": "9s"}}})
    program = testbed.program
    with UdpClient(program.endpoint) as client:
        client.send(question("www.example."))
        eventually(lambda: sum(testbed.counts("www.example.")) >= 2)
        program.process.send_signal(signal.SIGTERM)
        eventually(lambda: "Received SIGTERM" in program.log)
        program.process.send_signal(sent)
        assert client.receive(SOON_OVER).rcode == "SERVFAIL"
        program.process.wait(SOON_OVER)
    assert f"Received {sent.name}" in program.log.partition("Received SIGTERM")[2]
    assert "Traceback" not in program.log


def test_sigterm_in_mid_collection(build: BuildTestbed) -> None:
    """On SIGTERM nobody waits for the rest of a collection whose client has its answer."""
    slow = {"upstream": {"parallel": {"stagger_delay": "3s", "total_collect_timeout": "9s"}}}
    testbed = build([own_answer(0), own_answer(1), *[b.silent] * 3], slow)
    assert set(testbed.ask("www.example.").addresses) <= all_sets([0, 1])
    status, seconds = testbed.program.terminate()
    assert status in CLEAN
    assert seconds < SOON_OVER


def test_nothing_is_left_behind(build: BuildTestbed) -> None:
    """After the end there is no file but ours, and the ports are free for the next one."""
    testbed = build([own_answer(0)])
    program = testbed.program
    with TcpClient(program.endpoint):
        testbed.ask("www.example.")
        assert program.terminate()[0] in CLEAN
    assert sorted(path.name for path in program.directory.iterdir()) == [
        "program.log",
        "staggerdns.yaml",
    ]
    program.start()
    assert set(testbed.ask("www.example.").addresses) == all_sets([0])


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_status_of_an_orderly_end(build: BuildTestbed, sent: signal.Signals) -> None:
    """SIGTERM and Control-C end the program in order.

    As every twistd, it shuts down and then dies by the signal, for whoever looks at its status.
    """
    testbed = build([own_answer(0)])
    testbed.program.process.send_signal(sent)
    assert testbed.program.process.wait(5) in (0, -sent)
    assert "Server Shut Down" in testbed.program.log


def _write(directory: Path, settings: dict[str, Any] | str) -> Path:
    path = directory / "staggerdns.yaml"
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    return path


def _good() -> dict[str, Any]:
    return {
        "server": {"listen": [str(free_endpoint())]},
        "upstream": {"servers": ["127.0.0.1:9"]},
        "metrics": {"listen": str(free_endpoint())},
    }


def _refused(path: Path, directory: Path, *words: str) -> str:
    """Run with a bad file: status not 0, no traceback, one line that has all of ``words``."""
    done = run_to_end(path, directory)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, output
    return output


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"upstream": {"servers": ["1.1.1.1", "1.1.1.300"]}}, "upstream.servers[1]"),
    ({"upstream": {"servers": []}}, "upstream.servers"),
    ({"upstream": {"servers": "1.1.1.1"}}, "upstream.servers"),
    ({"upstream": {"servers": ["1.1.1.1:70000"]}}, "upstream.servers[0]"),
    ({"upstream": {"timeout": "fast"}}, "upstream.timeout"),
    ({"upstream": {"timeout": -1}}, "upstream.timeout"),
    ({"upstream": {"strategy": "fastest"}}, "upstream.strategy"),
    ({"upstream": {"parallel": {"batch_size": 0}}}, "upstream.parallel.batch_size"),
    ({"upstream": {"parallel": {"active_tier": 2}}}, "active_tier"),
    ({"server": {"listen": ["127.0.0.1:99999"]}}, "server.listen[0]"),
    ({"server": {"listen": []}}, "server.listen"),
    ({"server": {"allow": ["127.0.0.1/33"]}}, "server.allow[0]"),
    ({"server": {"tcp_max_connections": "many"}}, "server.tcp_max_connections"),
    ({"cache": {"max_entries": "lots"}}, "cache.max_entries"),
    ({"cache": {"max_ttl": -5}}, "cache.max_ttl"),
    ({"metrics": {"listen": "nowhere"}}, "metrics.listen"),
    ({"log": {"level": "loud"}}, "log.level"),
    ({"rankings": {"enabled": True}}, "rankings"),
    ({"servers": ["1.1.1.1"]}, "servers"),
]


@pytest.mark.parametrize(("change", "path"), WRONG, ids=lambda value: str(value)[:60])
def test_wrong_configuration(tmp_path: Path, change: dict[str, Any], path: str) -> None:
    """A wrong value or an unknown key ends the start with status 78 and names its path."""
    configuration = _write(tmp_path, merged(_good(), change))
    done = run_to_end(configuration, tmp_path)
    output = done.stdout + done.stderr
    assert done.returncode == os.EX_CONFIG, output
    assert "Traceback" not in output
    assert len([line for line in output.splitlines() if path in line]) == 1, output


def test_upstreams_are_required(tmp_path: Path) -> None:
    """`upstream.servers` has no default."""
    settings = _good()
    del settings["upstream"]
    _refused(_write(tmp_path, settings), tmp_path, "upstream")


def test_duplicate_keys(tmp_path: Path) -> None:
    """A key that is given twice is an error that names it."""
    text = "upstream: {servers: [1.1.1.1], servers: [9.9.9.9]}\n"
    _refused(_write(tmp_path, text), tmp_path, "servers")


def test_broken_yaml(tmp_path: Path) -> None:
    """What is no YAML is an error with the file's name and no traceback."""
    path = _write(tmp_path, "upstream: [\n")
    _refused(path, tmp_path, str(path))


def test_missing_file(tmp_path: Path) -> None:
    """A missing file ends the start with one line that names it."""
    path = tmp_path / "none.yaml"
    _refused(path, tmp_path, str(path))


def test_no_usage_text_around_the_error(tmp_path: Path) -> None:
    """The one line is all: no page of options hides it."""
    configuration = _write(tmp_path, merged(_good(), {"log": {"level": "loud"}}))
    done = run_to_end(configuration, tmp_path)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert len(lines) == 1, lines


@contextlib.contextmanager
def _holding(kind: socket.SocketKind, address: tuple[str, int]) -> Iterator[None]:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("server", socket.SOCK_DGRAM),
        ("server", socket.SOCK_STREAM),
        ("metrics", socket.SOCK_STREAM),
    ],
)
def test_port_taken(tmp_path: Path, kind: socket.SocketKind, key: str) -> None:
    """A taken port ends the start, and one line names the address."""
    settings = _good()
    endpoint = free_endpoint()
    settings[key]["listen"] = [str(endpoint)] if key == "server" else str(endpoint)
    with _holding(kind, endpoint):
        _refused(_write(tmp_path, settings), tmp_path, str(endpoint))


def test_defaults_need_upstreams_only(tmp_path: Path) -> None:
    """Durations may be numbers; null turns the metrics listener off; the rest is default."""
    from tests.kit.program import Program  # noqa: PLC0415

    settings = {"upstream": {"timeout": 1.5}, "metrics": {"listen": None}}
    with Program(tmp_path / "defaults", ["127.0.0.1:9"], settings) as program:
        assert program.ask("www.example.").rcode == "SERVFAIL"
        with pytest.raises(OSError, match="refused"):
            program.health()


def test_log_tells_the_phases(build: BuildTestbed) -> None:
    """At level debug the phases of a collection are in the log."""
    testbed = build([own_answer(index) for index in range(5)])
    testbed.ask("spoken-name.example.")
    testbed.complete("spoken-name.example.")
    log = eventually(lambda: testbed.program.log, lambda text: "complete" in text).lower()
    assert "spoken-name.example" in log
    assert "batch" in log


def test_environment_of_the_tests() -> None:
    """The tests find the program beside the interpreter that runs them."""
    from tests.kit.program import command  # noqa: PLC0415

    assert os.access(command(Path("x"))[0], os.X_OK)
