"""What the program writes while it starts, serves, fails, reads files again and stops."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from staggerdns import __version__
from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.ports import free_endpoint
from tests.kit.program import CLEAN, FOREGROUND, Program, run_to_end
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OBJECT = re.compile(r"\bobject at|\b0x[0-9a-f]{6}|<class|<bound|<function|<\w+\.\w+")
"""What shows an object of the program, and tells nobody anything."""


def full_life(directory: Path, log: dict[str, str], runner: Sequence[str]) -> Program:
    """Run the program from its start to its end, with all that goes right and wrong between."""
    hosts = directory / "hosts"
    hosts.write_text("192.0.2.1 www.example.\nwrong\n")
    settings: dict[str, Any] = {
        "log": log,
        "local": {"hosts": str(hosts)},
        "lists": {"some": {"files": [str(hosts)]}, "none": {"files": [str(directory / "none")]}},
        "routes": [
            {"domains": ["corp.example"], "servers": [f"tls://{free_endpoint()}#a.example"]}
        ],
    }
    with (
        ScriptedUpstream(b.answers("203.0.113.1")) as upstream,
        Program(
            directory, [upstream.endpoint, free_endpoint()], settings, runner=runner
        ) as program,
    ):
        assert program.ask("www.elsewhere.example.").addresses == ["203.0.113.1"]
        assert program.ask("www.elsewhere.example.", tcp=True).addresses == ["203.0.113.1"]
        assert program.ask("www.corp.example.").rcode == "SERVFAIL"
        assert program.health() == 200
        program.process.send_signal(signal.SIGHUP)
        eventually(lambda: program.log, lambda text: "read again" in text, timeout=60)
        assert program.terminate()[0] in CLEAN
    return program


@pytest.mark.parametrize("runner", [FOREGROUND, ("twist",)], ids=["twistd", "twist"])
def test_json(tmp_path: Path, runner: Sequence[str]) -> None:
    """Each line is an object, from the first to the last and whoever wrote it; none shows one of
    ours. What listens and who is asked are lists.
    """
    program = full_life(tmp_path, {"format": "json", "level": "debug"}, runner)
    lines = [json.loads(line) for line in program.log.splitlines()]
    for line in lines:
        assert line.keys() >= {"time", "level", "logger", "message"}
    assert not [line for line in program.log.splitlines() if OBJECT.search(line)]
    assert {line["logger"] for line in lines} > {"staggerdns", "twisted.internet.base"}
    (start,) = [line for line in lines if line["message"].startswith("listening on")]
    assert start["listen"] == [str(program.endpoint)]
    assert start["metrics"] == str(program.web)
    assert start["upstreams"] == program.settings["upstream"]["servers"]
    assert start["route_upstreams"] == program.settings["routes"][0]["servers"]
    assert start["version"] == __version__
    assert any(line.get("name") == "www.corp.example. A" for line in lines)


def test_text(tmp_path: Path) -> None:
    """A person reads the same, one line each: where it listens, the page of metrics, all upstreams,
    what runs.
    """
    program = full_life(tmp_path, {"level": "debug"}, FOREGROUND)
    assert not [line for line in program.log.splitlines() if OBJECT.search(line)]
    (start,) = [line for line in program.log.splitlines() if "listening on" in line]
    upstreams = ", ".join(program.settings["upstream"]["servers"])
    (of_route,) = program.settings["routes"][0]["servers"]
    assert (
        f"[staggerdns#info] listening on {program.endpoint}, with metrics on {program.web}, "
        f"asking {upstreams}, for routes {of_route}: StaggerDNS {__version__}, "
    ) in start


def test_the_level_of_errors(tmp_path: Path) -> None:
    """What is told at every level is all that is left, of Twisted's start and end as of ours."""
    program = full_life(tmp_path, {"format": "json", "level": "error"}, FOREGROUND)
    said = [json.loads(line)["message"] for line in program.log.splitlines()]
    assert [text.partition(" ")[0] for text in said] == ["listening", "read", "reloaded"]


def test_a_wrong_configuration(tmp_path: Path) -> None:
    """It is told as text, whatever the log is to be."""
    path = tmp_path / "staggerdns.yaml"
    path.write_text("log: {format: json}\n")
    done = run_to_end(path, tmp_path)
    assert done.stdout == ""
    assert done.stderr.startswith(f"staggerdns: {path}: upstream.servers: ")
