"""Reloads of the configuration with real processes, under load."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit import behaviours as b
from tests.kit.clients import ask, eventually
from tests.kit.effort import amount
from tests.kit.ports import Endpoint, free_endpoints
from tests.kit.program import Program, merged
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RELOADS = amount(3, 100)
"""Reloads under load; a hundred take some minutes."""
FIRST, SECOND, INSIDE = "203.0.113.1", "203.0.113.2", "203.0.113.3"
pytestmark = pytest.mark.usefixtures("own_network")


class Reloaded:
    """A program whose configuration changes; ``count``: how many reloads there were."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.count = 0

    def reload(self, settings: Mapping[str, Any], *, good: bool = True) -> str:
        """Have other settings count, and return the line in the log that says how it went."""
        path = self.program.configuration
        path.write_text(yaml.safe_dump(merged(self.program.settings, settings)))
        self.count += 1
        self.program.process.send_signal(signal.SIGHUP)

        def lines() -> list[str]:
            return re.findall(r"(?m)^.*(?:\] reloaded |is not used).*$", self.program.log)

        found = eventually(lines, lambda found: len(found) == self.count, timeout=60)
        assert ("] reloaded " in found[-1]) == good, found[-1]
        return str(found[-1])


def series(program: Program, upstream: Endpoint) -> int:
    """How many series there are about an upstream."""
    samples = program.metrics().samples
    return sum(sample.labels.get("upstream") == str(upstream) for sample in samples)


def can_be_had(endpoint: Endpoint) -> bool:
    """Whether nobody has the port: what had come to it was read first."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        try:
            free.bind(endpoint)
        except OSError:
            return False
        return True


def test_another_configuration_counts(tmp_path: Path) -> None:
    """New listeners, upstreams and rules do at once, and what is gone is not shown any more."""
    other, gone = free_endpoints(2)
    with (
        ScriptedUpstream(b.answers(FIRST)) as first,
        ScriptedUpstream(b.answers(SECOND)) as second,
        Program(tmp_path, [first.endpoint]) as program,
    ):
        reloaded = Reloaded(program)
        assert program.ask("www.example.").addresses == [FIRST]
        listen = [str(program.endpoint), str(other)]
        servers = {"servers": [str(second.endpoint)]}
        reloaded.reload({"server": {"listen": [*listen, str(gone)]}, "upstream": servers})
        for endpoint in (program.endpoint, other, gone):
            assert ask(endpoint, "www.example.").addresses == [SECOND]
        assert series(program, first.endpoint) == 0
        assert series(program, second.endpoint) > 10
        reloaded.reload({"server": {"listen": listen}, "upstream": servers})
        eventually(lambda: can_be_had(gone))
        samples = program.metrics()
        assert samples.value("staggerdns_config_reload_successful") == 1
        assert samples.value("staggerdns_config_last_reload_success_timestamp_seconds") > 1e9


def test_a_wrong_configuration(tmp_path: Path) -> None:
    """Nothing changes; one line says all that is wrong. So it is where a port cannot be had."""
    with (
        ScriptedUpstream(b.answers(FIRST)) as first,
        Program(tmp_path, [first.endpoint]) as program,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken,
    ):
        taken.bind(("127.0.0.1", 0))
        reloaded = Reloaded(program)
        told = reloaded.reload({"cache": {"max_tll": 5}, "log": {"level": "loud"}}, good=False)
        assert "cache.max_tll" in told
        assert "log.level" in told
        assert program.metrics().value("staggerdns_config_reload_successful") == 0
        port = f"127.0.0.1:{taken.getsockname()[1]}"
        listen = {"server": {"listen": [str(program.endpoint), port]}}
        told = reloaded.reload({**listen, "upstream": {"servers": ["127.0.0.1:9"]}}, good=False)
        assert f"server.listen[1]: cannot listen on {port}: Address already in use" in told
        assert program.ask("www.example.").addresses == [FIRST]
        reloaded.reload({})
        assert program.metrics().value("staggerdns_config_reload_successful") == 1


def test_reloads_under_load(tmp_path: Path) -> None:
    """No query is lost, and each answer comes from where its name was to be asked."""
    with (
        ScriptedUpstream(b.answers(FIRST)) as first,
        ScriptedUpstream(b.answers(SECOND)) as second,
        ScriptedUpstream(b.answers(INSIDE)) as inside,
        Program(tmp_path, [first.endpoint]) as program,
    ):
        servers = [str(upstream.endpoint) for upstream in (first, second)]
        route = {"domains": ["corp.example"], "servers": [str(inside.endpoint)]}
        changes: list[Mapping[str, Any]] = [
            {"upstream": {"servers": servers}, "routes": [route]},
            {"upstream": {"servers": servers[1:]}, "routes": [route], "cache": {"max_ttl": 60}},
            {"upstream": {"servers": servers[:1], "timeout": "2s"}, "routes": [route]},
            {
                "upstream": {"servers": servers[::-1]},
                "routes": [{**route, "strategy": "racing"}],
                "groups": {"kids": {"clients": ["10.9.0.0/16"]}},
            },
        ]
        allowed = [{FIRST, SECOND}, {SECOND}, {FIRST}, {FIRST, SECOND}]
        reloaded = Reloaded(program)
        reloaded.reload(changes[0])
        names = tmp_path / "names"
        lines = [f"n{number}.example A\nn{number}.corp.example A\n" for number in range(200)]
        names.write_text("".join(lines))
        where = ["-s", "127.0.0.1", "-p", str(program.endpoint.port), "-d", str(names)]
        with subprocess.Popen(
            ["dnsperf", *where, "-c", "4", "-Q", "1500", "-l", str(RELOADS * 2 + 1), "-t", "4"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as load:
            for number in islice(cycle(range(4)), 1, RELOADS + 1):
                reloaded.reload(changes[number])
                for index in range(0, 200, 20):
                    found = program.ask(f"n{index}.example.").addresses
                    assert set(found) <= allowed[number], (number, found)
                    assert found
                    found = program.ask(f"n{index}.corp.example.").addresses
                    assert found == [INSIDE]
            said = load.communicate(timeout=60 + 10 * RELOADS)[0]
        assert re.search(r"Queries lost: +0 ", said), said
        assert re.search(r"Response codes: +NOERROR \d+ \(100.00%\)", said), said
        asked = {query.name for upstream in (first, second) for query in upstream.queries}
        assert asked - {"."} == {f"n{number}.example." for number in range(200)}
