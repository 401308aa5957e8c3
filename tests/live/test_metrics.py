"""/metrics and /healthz of the running program."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from staggerdns import __version__
from tests.kit import behaviours as b
from tests.kit.clients import UdpClient, ask_many, eventually, question
from tests.kit.testbed import all_sets, own_answer, unique_name

if TYPE_CHECKING:
    from tests.kit.program import Samples
    from tests.kit.testbed import Testbed

    from .conftest import BuildTestbed

ACTIVE = "staggerdns_active_tier_total"
STARTS = "staggerdns_staggered_tier_starts_total"
POOL = "staggerdns_pool_addresses_total"
SECONDS = "staggerdns_answer_seconds_count"


def _settled(testbed: Testbed) -> Samples:
    """The metrics when no collection runs any more."""
    return eventually(
        testbed.program.metrics,
        lambda samples: samples.value("staggerdns_collections_running") == 0,
        timeout=6,
    )


def _outcomes(samples: Samples) -> dict[str, float]:
    return {s.labels["outcome"]: s.value for s in samples.find(ACTIVE) if s.value}


def _reasons(samples: Samples) -> dict[str, float]:
    return {s.labels["reason"]: s.value for s in samples.find(STARTS) if s.value}


def _sources(samples: Samples) -> dict[str, float]:
    return {s.labels["source"]: s.value for s in samples.find(SECONDS) if s.value}


def test_indicators_of_a_good_day(build: BuildTestbed) -> None:
    """Ten names, each answered by its active tier: the five indicators say so."""
    testbed = build([own_answer(index, 0.01 if index < 2 else 0.02) for index in range(5)])
    for number in range(10):
        testbed.ask(f"name{number}.example.")
        testbed.pool(f"name{number}.example.", all_sets(range(5)))
    samples = _settled(testbed)
    assert _outcomes(samples) == {"answered": 10}
    assert _reasons(samples) == {"answered": 10}
    assert samples.value(POOL, tier="active") == 40
    assert samples.value(POOL, tier="staggered") == 60
    assert samples.value("staggerdns_upstream_inflight") == 0
    assert len(samples.find("staggerdns_upstream_inflight")) == 5
    assert samples.value("staggerdns_upstream_launches_window_max") == 2
    sources = _sources(samples)
    assert sources["upstream"] == 10
    assert sources["cache"] >= 10
    mean = samples.value("staggerdns_answer_seconds_sum", source="upstream") / 10
    assert 0.009 <= mean < 1


def test_indicators_of_a_silent_tier(build: BuildTestbed) -> None:
    """A silent active tier shows as fallback."""
    testbed = build([b.silent, b.silent, own_answer(2)])
    testbed.ask("www.example.")
    samples = _settled(testbed)
    assert _outcomes(samples) == {"fallback": 1}
    assert _reasons(samples) == {"fallback": 1}
    assert samples.value(POOL, tier="active") == 0
    assert samples.value(POOL, tier="staggered") == 2
    assert samples.value("staggerdns_answer_seconds_sum", source="upstream") >= 0.29


def test_indicators_of_a_failed_tier(build: BuildTestbed) -> None:
    """A failed active tier shows as failed."""
    testbed = build([b.rcode("SERVFAIL"), None, own_answer(2)])
    testbed.ask("www.example.")
    samples = _settled(testbed)
    assert _outcomes(samples) == {"failed": 1}
    assert _reasons(samples) == {"failed": 1}


def test_indicators_of_a_negative_answer(build: BuildTestbed) -> None:
    """NXDOMAIN from the active tier shows as negative, and as no failure of anybody."""
    testbed = build([b.nxdomain()] * 3)
    testbed.ask("www.example.")
    samples = _settled(testbed)
    assert _outcomes(samples) == {"negative": 1}
    assert samples.value("staggerdns_responses_total", rcode="NXDOMAIN") == 1
    results = {
        s.labels["result"] for s in samples.find("staggerdns_upstream_seconds_count") if s.value
    }
    assert results == {"negative"}


def test_inflight(build: BuildTestbed) -> None:
    """While upstreams are busy, the gauge says with how many queries."""
    testbed = build([own_answer(index, 0.8) for index in range(2)])
    with UdpClient(testbed.program.endpoint) as client:
        for _ in range(3):
            client.send(question(unique_name("inflight")))
        eventually(
            lambda: testbed.program.metrics().value("staggerdns_upstream_inflight") == 6,
            timeout=0.7,
        )
        for _ in range(3):
            client.receive()
    assert _settled(testbed).value("staggerdns_upstream_inflight") == 0


def test_upstream_seconds(build: BuildTestbed) -> None:
    """Each upstream's exchanges are counted with their tier and result."""
    behaviours = [own_answer(0), b.rcode("SERVFAIL"), own_answer(2, 0.02), b.nodata(after=0.02)]
    testbed = build(behaviours)
    testbed.ask("www.example.")
    testbed.complete("www.example.")
    samples = _settled(testbed)
    name = "staggerdns_upstream_seconds_count"
    for index, tier in enumerate(("active", "active", "staggered", "staggered")):
        found = [
            s
            for s in samples.find(name, tier=tier)
            if str(testbed.endpoints[index]) in s.labels["upstream"]
        ]
        assert sum(s.value for s in found) == 1, (index, found)
    assert samples.value(name, result="positive") == 2
    assert samples.value(name, result="failure") == 1
    assert samples.value(name, result="negative") == 1
    latency = {
        s.labels["upstream"]: s.value for s in samples.find("staggerdns_upstream_latency_seconds")
    }
    assert len(latency) == 4


def test_queries_and_responses(build: BuildTestbed) -> None:
    """Queries count by transport and type, responses by code; unknown types share a label."""
    testbed = build([b.answers("203.0.113.1", "2001:db8::1")])
    testbed.ask("www.example.")
    testbed.ask("www.example.", tcp=True)
    testbed.ask("www.example.", "AAAA")
    for number in range(65280, 65300):
        testbed.ask("www.example.", f"TYPE{number}")
    samples = _settled(testbed)
    name = "staggerdns_queries_total"
    assert samples.value(name, transport="udp", type="A") == 1
    assert samples.value(name, transport="tcp", type="A") == 1
    assert samples.value(name, type="AAAA") == 1
    assert samples.value(name) == 23
    assert len({s.labels["type"] for s in samples.find(name)}) <= 30
    assert samples.value("staggerdns_responses_total", rcode="NOERROR") == 23


def test_followers_and_evil_input_are_counted(build: BuildTestbed) -> None:
    """Followers, dropped messages and rejected replies have their counters."""
    good = b.preceded_by(b.wrong_id(b.answers("203.0.113.66")), own_answer(0, 0.1))
    testbed = build([good])
    ask_many(testbed.program.endpoint, "www.example.", 5)
    with UdpClient(testbed.program.endpoint) as client:
        client.send(b"\x00" * 12 + b"\xff")
        client.send(b"\x12\x34\x80\x00" + b"\x00" * 8)
    samples = eventually(
        testbed.program.metrics, lambda s: s.value("staggerdns_dropped_queries_total") >= 1
    )
    assert samples.value("staggerdns_followers_total") == 4
    assert samples.value("staggerdns_upstream_rejected_total") >= 1


def test_truncated_upstream_replies_are_counted(build: BuildTestbed) -> None:
    """Replies that had to be asked again over TCP have a counter."""
    testbed = build([b.truncated_over_udp(own_answer(0))])
    testbed.ask("www.example.")
    assert _settled(testbed).value("staggerdns_upstream_truncated_total") == 1


def test_labels_hold_neither_names_nor_clients(build: BuildTestbed) -> None:
    """Label values are bounded: no name, no client address, whatever is asked."""
    testbed = build([own_answer(0)])
    before = {(s.name, *sorted(s.labels.items())) for s in testbed.program.metrics().samples}
    for number in range(30):
        testbed.ask(f"secret{number}.example.", source=f"127.1.0.{number + 1}")
    samples = _settled(testbed)
    assert "secret" not in samples.text
    assert "127.1.0." not in samples.text
    after = {(s.name, *sorted(s.labels.items())) for s in samples.samples}
    # A histogram or two may show for the first time, but nothing for each name.
    assert len(after - before) < 100
    more = [testbed.ask(f"another{number}.example.").rcode for number in range(30)]
    assert more == ["NOERROR"] * 30
    last = {(s.name, *sorted(s.labels.items())) for s in _settled(testbed).samples}
    assert last == after


def test_every_family_is_ours_and_documented(build: BuildTestbed) -> None:
    """The page parses, every family has our prefix or is the process's, with a help text."""
    testbed = build([own_answer(0)])
    testbed.ask("www.example.")
    samples = _settled(testbed)
    for name in samples.types:
        assert name.startswith(("staggerdns_", "process_", "python_")), name
    helped = {line.split()[2] for line in samples.text.splitlines() if line.startswith("# HELP")}
    typed = {line.split()[2] for line in samples.text.splitlines() if line.startswith("# TYPE")}
    assert helped == typed
    assert all(line.split(maxsplit=3)[3:] for line in samples.text.splitlines() if "# HELP" in line)


def test_healthz(build: BuildTestbed) -> None:
    """200 with a usable upstream, nothing else on the other paths, and no access log."""
    testbed = build([own_answer(0)])
    assert testbed.program.health() == 200
    assert testbed.program.get("/nothing")[0] == 404
    assert testbed.program.get("/metrics")[0] == 200
    for path in ("healthz", "/nothing", "/metrics"):
        assert path not in testbed.program.log


def test_broken_domains_are_no_mark(build: BuildTestbed) -> None:
    """What all upstreams answer with SERVFAIL, twelve names of it, leaves 200."""
    testbed = build([b.rcode("SERVFAIL")] * 2)
    for _ in range(12):
        assert testbed.ask(unique_name("sick")).rcode == "SERVFAIL"
    assert testbed.program.health() == 200
    name = testbed.route("well", own_answer(0), own_answer(1))
    assert testbed.ask(name).rcode == "NOERROR"


def test_a_failing_upstream_rests(build: BuildTestbed) -> None:
    """An upstream that fails what the other answers is not asked for long, and 200 stays."""
    testbed = build([b.rcode("SERVFAIL"), own_answer(1, 0.01)])
    for _ in range(12):
        assert testbed.ask(unique_name("well")).rcode == "NOERROR"
        time.sleep(0.02)
    assert testbed.program.health() == 200
    queries = testbed.upstreams[0].queries
    names = {query.name for query in queries}
    assert 5 <= len(names) < 12
    # Each once more in lower case; three went down two levels of EDNS in vain, the others not.
    assert len(queries) <= 2 * len(names) + 3 * 2


def test_healthz_with_closed_ports(build: BuildTestbed) -> None:
    """Upstreams that are not there make 503; one that is makes 200 again."""
    testbed = build([None, None])
    for _ in range(12):
        testbed.ask(unique_name("sick"))
    eventually(lambda: testbed.program.health() == 503)
    other = build([None, None, own_answer(2)])
    for _ in range(12):
        assert other.ask(unique_name("well")).rcode == "NOERROR"
    assert other.program.health() == 200


def test_negative_answers_are_no_mark(build: BuildTestbed) -> None:
    """Upstreams that say NXDOMAIN all day are healthy."""
    testbed = build([b.nxdomain()] * 2)
    for _ in range(15):
        testbed.ask(unique_name("none"))
    assert testbed.program.health() == 200


def test_process(testbed: Testbed) -> None:
    """What is said of the process is what the system says of it."""
    process = Path(f"/proc/{testbed.program.process.pid}")
    before = _seconds_used(process)
    samples = testbed.program.metrics()
    assert before <= samples.value("process_cpu_seconds_total") <= _seconds_used(process)
    limit = re.search(r"Max open files +(\d+)", (process / "limits").read_text())
    assert limit is not None
    assert samples.value("process_max_fds") == int(limit[1])
    # The scrape has a connection, and others may have theirs.
    assert abs(samples.value("process_open_fds") - len([*(process / "fd").iterdir()])) <= 4
    virtual, resident = (process / "statm").read_text().split()[:2]
    page = os.sysconf("SC_PAGESIZE")
    for name, pages in (("virtual", virtual), ("resident", resident)):
        shown = samples.value(f"process_{name}_memory_bytes")
        assert shown == pytest.approx(int(pages) * page, rel=0.1)
    booted = re.search(r"btime (\d+)", Path("/proc/stat").read_text())
    assert booted is not None
    started = int(booted[1]) + _of(process, 19)
    assert samples.value("process_start_time_seconds") == pytest.approx(started, abs=1)
    assert samples.value("python_info", implementation="CPython") == 1
    assert samples.value("staggerdns_build_info", version=__version__) == 1


def _seconds_used(process: Path) -> float:
    """The processor time of a process, its own and the system's for it."""
    return _of(process, 11) + _of(process, 12)


def _of(process: Path, place: int) -> float:
    """A time of a process in seconds, by its place behind the name in its ``stat``: see proc(5)."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return int(fields[place]) / os.sysconf("SC_CLK_TCK")
