"""The service tree on the real reactor: bind, answer, report health, drain, leave nothing."""

from __future__ import annotations

import contextlib
import errno
import gc
import http.client
import os
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from math import ceil
from platform import python_version
from typing import TYPE_CHECKING, Any, cast

import pytest
import pytest_twisted
from twisted.application.service import IService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.names import dns

from staggerdns import __version__, readiness
from staggerdns.chain import Chain
from staggerdns.config import parse_config
from staggerdns.metrics import Metrics
from staggerdns.server import sockets
from staggerdns.service import DRAIN_TIME, StaggerService
from staggerdns.tap import Options, makeService
from staggerdns.wire.key import DEFAULT_SCOPE
from tests.kit import behaviours as b
from tests.kit import clients
from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import UdpClient, question
from tests.kit.loopback import reactor, until
from tests.kit.ports import Endpoint, free_endpoint, free_port
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from staggerdns.settings.sections import Config
    from tests.kit.certificates import Certificate

GOOD = b.answers("203.0.113.1")


def configuration(
    upstream: object, listen: Sequence[object], metrics: Endpoint | None, more: str = ""
) -> str:
    """The text of a configuration with one upstream."""
    where = ", ".join(f"'{endpoint}'" for endpoint in listen)
    page = "null" if metrics is None else f"'{metrics}'"
    return (
        f"server: {{listen: [{where}]}}\n"
        f"upstream: {{servers: ['{upstream}']{more}}}\n"
        f"metrics: {{listen: {page}}}\n"
        "log: {level: debug}\n"
        "ranking: {enabled: false}\n"
    )


class Running:
    """A service that has been started, and where it listens."""

    def __init__(self, upstream: object, more: str = "") -> None:
        self.endpoint = free_endpoint()
        self.page = free_endpoint()
        text = configuration(upstream, [self.endpoint], self.page, more)
        self.service = StaggerService(parse_config(text), reactor, os.urandom)

    async def ask(self, name: str, *, tcp: bool = False) -> clients.Reply:
        """Ask the service one question, from a thread."""
        asked: Deferred[clients.Reply] = deferToThread(clients.ask, self.endpoint, name, tcp=tcp)
        return await asked

    async def get(self, path: str) -> tuple[int, str]:
        """Fetch a page: status and text."""

        def fetch() -> tuple[int, str]:
            connection = http.client.HTTPConnection(*self.page, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read().decode()

        fetched: Deferred[tuple[int, str]] = deferToThread(fetch)
        return await fetched

    async def start(self) -> None:
        """Start as twistd does."""
        self.service.privilegedStartService()
        self.service.startService()

    async def stop(self) -> float:
        """Stop as twistd does; the seconds that it took."""
        started = time.monotonic()
        await maybeDeferred(self.service.stopService)
        took = time.monotonic() - started
        await until(_nothing_open)
        return took

    def reads(self) -> bool:
        """Whether queries are read, which goes on for a moment after the stop."""
        own = self.service._sockets()
        return any(reader in own for reader in reactor.getReaders())


def _nothing_open() -> bool:
    """Return whether nothing is read, written or scheduled on the reactor."""
    internal: set[Any] = reactor._internalReaders
    left = [reader for reader in reactor.getReaders() if reader not in internal]
    return not (left or reactor.getWriters() or reactor.getDelayedCalls())


def test_what_is_read_again(tmp_path: Path) -> None:
    """The log says which files were read again and, whatever its level, which could not be used."""
    authority = CertificateAuthority(tmp_path)
    files = authority.issue("dns.example")
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 one.example\n")
    text = (
        "server: {listen: ['tls://127.0.0.1:5300'], "
        f"tls_certificate: {files.chain}, tls_key: {files.key}}}\n"
        f"upstream: {{servers: [192.0.2.53], tls_ca: {authority.ca}}}\n"
        f"local: {{hosts: {hosts}}}\nlog: {{level: error}}"
    )
    service = StaggerService(parse_config(text), reactor, os.urandom)
    none = "upstream: {servers: [192.0.2.53]}\nlocal: {hosts: null}"
    without = StaggerService(parse_config(none), reactor, os.urandom)
    listed = StaggerService(parse_config(f"{none}\nlists: {{ads: {{}}}}"), reactor, os.urandom)
    unusable = "the certificate (cannot be used)"
    gone = f"{authority.ca} cannot be read: No such file or directory"
    with capturedLogs() as events:
        service.reread()
        files.key.write_text("")
        service.reread()
        hosts.unlink()
        authority.ca.unlink()
        service.reread()
        without.reread()
        listed.reread()
    assert [formatEvent(event) for event in events] == [
        "read again: the hosts file, the certificate, the upstreams' authorities",
        f"read again: the hosts file, {unusable}, the upstreams' authorities",
        (
            f"read again: the hosts file (cannot be used), {unusable}, the upstreams' authorities "
            f"(the old ones stay: upstream.tls_ca: {gone})"
        ),
        "read again: nothing",
        "read again: the files of lists",
    ]


@contextlib.asynccontextmanager
async def running(upstream: object, more: str = "") -> AsyncIterator[Running]:
    """Start a service and stop it in the end."""
    service = Running(upstream, more)
    await service.start()
    try:
        yield service
    finally:
        if service.service.running:
            await service.stop()


@pytest.fixture
def server() -> Iterator[ScriptedUpstream]:
    """A server that answers; tests change its behaviour."""
    with ScriptedUpstream(GOOD) as scripted:
        yield scripted


@pytest_twisted.ensureDeferred
async def test_answers_over_udp_and_tcp(server: ScriptedUpstream) -> None:
    """What is bound answers, over both transports, from one cache."""
    async with running(server.endpoint) as testbed:
        first = await testbed.ask("www.example.")
        second = await testbed.ask("www.example.", tcp=True)
    assert first.addresses == second.addresses == ["203.0.113.1"]
    assert len(server.queries) == 1


@pytest_twisted.ensureDeferred
async def test_health_page(server: ScriptedUpstream) -> None:
    """200 while listeners are up and somebody answers, 503 when nobody does, 200 again."""
    async with running(server.endpoint) as testbed:
        assert await testbed.get("/healthz") == (200, "ok\n")
        assert server.queries == []
        server.stop()
        for number in range(3):
            await testbed.ask(f"n{number}.example.")
            status, text = await testbed.get("/healthz")
            assert status == 503
            assert text
        with ScriptedUpstream(GOOD, server.endpoint):
            await testbed.ask("n5.example.")  # all are tried when none is usable
            assert (await testbed.get("/healthz"))[0] == 200
        status, text = await testbed.get("/metrics")
        assert status == 200
        assert "staggerdns_answer_seconds_bucket" in text
        assert f'staggerdns_build_info{{compiled="false",python="{python_version()}"' in text
        assert f'version="{__version__}"}} 1.0' in text
        assert "staggerdns_certificate_expiry" not in text
        assert "process_resident_memory_bytes" in text


@pytest.mark.parametrize("answers", [True, False])
@pytest_twisted.ensureDeferred
async def test_health_page_without_clients(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """With nothing known the page asks ``. NS``, and says what came of it."""
    monkeypatch.setattr(readiness, "GRACE", 0.0)
    server.behaviour = GOOD if answers else b.silent
    more = ", parallel: {total_collect_timeout: 300ms}"
    async with running(server.endpoint, more) as testbed:
        assert (await testbed.get("/healthz"))[0] == (200 if answers else 503)
        assert (await testbed.get("/healthz"))[0] == (200 if answers else 503)
        questions = [query.parsed.question[0] for query in server.queries]
        (name,) = {(question.name.to_text(), question.rdtype.name) for question in questions}
        assert name == (".", "NS")


@pytest_twisted.ensureDeferred
async def test_health_page_believes_no_cache(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That ``. NS`` was answered once, and is in the cache, hides no outage that comes later."""
    monkeypatch.setattr(readiness, "GRACE", 0.0)
    monkeypatch.setattr(readiness, "ASK_EVERY", 0.2)
    server.behaviour = b.records((".", 300, "NS", "a.root.example."))
    async with running(server.endpoint, ", parallel: {total_collect_timeout: 300ms}") as testbed:
        assert (await testbed.get("/healthz"))[0] == 200
        server.stop()
        await deferLater(reactor, 0.3, lambda: None)
        assert [(await testbed.get("/healthz"))[0] for _ in range(3)] == [503, 503, 503]


@pytest_twisted.ensureDeferred
async def test_the_end_of_an_outage(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noticed without any client: the page and ``staggerdns_upstream_usable`` say so."""
    monkeypatch.setattr(readiness, "ASK_EVERY", 0.2)
    usable = f'staggerdns_upstream_usable{{upstream="{server.endpoint}"}}'
    async with running(server.endpoint) as testbed:
        server.stop()
        for number in range(6):
            await testbed.ask(f"n{number}.example.")
        assert (await testbed.get("/healthz"))[0] == 503
        for _ in range(10):
            assert f"{usable} 0.0" in (await testbed.get("/metrics"))[1]
        with ScriptedUpstream(GOOD, server.endpoint):
            await until(testbed.service.healthy)
            assert (await testbed.get("/healthz"))[0] == 200
            assert f"{usable} 1.0" in (await testbed.get("/metrics"))[1]


@pytest_twisted.ensureDeferred
async def test_stop_while_the_page_waits(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the page when the service stops is told that it is not healthy."""
    monkeypatch.setattr(readiness, "GRACE", 0.0)
    server.behaviour = b.silent
    async with running(server.endpoint) as testbed:
        got = Deferred.fromCoroutine(testbed.get("/healthz"))
        await until(lambda: len(server.queries) == 1)
        assert await testbed.stop() < DRAIN_TIME
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert (await got)[0] == 503


@pytest_twisted.ensureDeferred
async def test_thresholds_come_from_the_configuration(server: ScriptedUpstream) -> None:
    """With ``unhealthy_after: 2`` the second failure is the last, and each change is logged."""
    more = ", health: {degraded_after: 1, unhealthy_after: 2}"
    async with running(server.endpoint, more) as testbed:
        server.stop()
        with capturedLogs() as events:
            await testbed.ask("n0.example.")
            await testbed.ask("n1.example.")
            usable = f'staggerdns_upstream_usable{{upstream="{server.endpoint}"}} 0.0'
            assert usable in (await testbed.get("/metrics"))[1]
            await until(lambda: not testbed.service.healthy())
    told = [formatEvent(event) for event in events if event["log_level"] == LogLevel.warn]
    assert told.count("no upstream answers (connection refused)") == 1
    assert [line for line in told if line.startswith("upstream ")] == [
        f"upstream {server.endpoint} is {state} (connection refused)"
        for state in ("degraded", "unhealthy")
    ]


@pytest_twisted.ensureDeferred
async def test_statistics_are_the_metrics(server: ScriptedUpstream) -> None:
    """A snapshot of the chain has the numbers of the page, and the log has it at the end."""
    server.behaviour = b.answers("203.0.113.1", after=0.005)
    with ScriptedUpstream(GOOD) as other:
        more = f"', '{other.endpoint}"
        async with running(f"{server.endpoint}{more}", ", strategy: racing") as testbed:
            for number in range(12):
                await testbed.ask(f"n{number}.example.")
            server.stop()  # it was the first so far: its closed port starts the other
            await testbed.ask("late.example.")
            found = testbed.service._chain.statistics()
            _, page = await testbed.get("/metrics")
            with capturedLogs() as events:
                await testbed.stop()
    shown = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if not line.startswith("#")
    }
    assert found.racing_delay == shown["staggerdns_racing_delay_seconds"] < 0.1
    deviation = shown["staggerdns_latency_deviation_seconds"]
    assert found.deviation == pytest.approx(deviation, rel=0.01)  # it fades with time
    assert deviation > 0
    assert found.fallback_timeout == shown["staggerdns_fallback_timeout_seconds"] == 0.3
    assert found.batch_size == shown["staggerdns_racing_batch_size"] == 1
    assert found.early_triggers == shown["staggerdns_early_triggers_total"] == 1
    assert found.sequential_timeout == 0.5
    assert 0 < found.average_latency < 0.5
    (line,) = [text for text in map(formatEvent, events) if text.startswith("at the end")]
    assert f"early_triggers={found.early_triggers}" in line


def test_the_configuration_reaches_the_upstreams() -> None:
    """Strategy, thresholds, budget, weights and bounds are those of the file."""
    text = configuration(
        "192.0.2.1",
        [free_endpoint()],
        None,
        ", strategy: sequential, health: {open_for: 7s, degraded_after: 1, unhealthy_after: 1},"
        " budget: {max_inflight: 3, queries_per_second: 50, burst: 2},"
        " adaptive: {ewma_alpha: 0.5}, racing: {delay: 33ms}, sequential: {timeout: 700ms},"
        " parallel: {max_fallback_timeout: 250ms}",
    )
    clock = Clock()
    clock.advance(1000.0)
    metrics = Metrics()
    chain = Chain(parse_config(text), None, clock=clock, metrics=metrics)
    (upstream,) = chain.upstreams
    upstream.latency.add(0.1, 1000.0)
    upstream.latency.add(0.2, 1000.0)
    assert upstream.latency.mean(1000.0) == pytest.approx(0.15)
    assert upstream.has_room(1000.0, first=True)
    assert metrics.upstream_rate.values() == {(upstream.name,): 50}
    upstream.budget.inflight = 3
    assert not upstream.has_room(1000.0, first=True)
    upstream.health.failed(1000.0, 1000.0, alone=True)
    assert not upstream.usable(1006.9)
    assert upstream.usable(1007.0)
    found = chain.statistics()
    assert (found.racing_delay, found.fallback_timeout) == (0.033, 0.25)
    assert chain._strategies[DEFAULT_SCOPE].chosen.name == "sequential"
    assert all(other.uplink is upstream.uplink for other in chain.upstreams)
    chain.close()


def test_usable_is_what_the_state_says() -> None:
    """The metric stays 0 while the upstream is unhealthy, although trials come due meanwhile."""
    clock, metrics = Clock(), Metrics()
    chain = Chain(
        parse_config(configuration("192.0.2.1", [free_endpoint()], None)),
        None,
        clock=clock,
        metrics=metrics,
    )
    (upstream,) = chain.upstreams

    def shown() -> float:
        (sample,) = metrics.upstream_usable.collect().samples
        return sample.value

    for failures in range(1, 6):
        assert shown() == 1
        upstream.health.failed(clock.seconds(), clock.seconds(), alone=False)
        assert upstream.health.state == (0 if failures < 3 else 1 if failures < 5 else 2)
    for _ in range(100):
        assert shown() == 0
        clock.advance(0.1)
    upstream.health.succeeded(clock.seconds(), clock.seconds())
    assert shown() == 1
    chain.close()


@pytest_twisted.ensureDeferred
async def test_a_broken_domain_is_no_illness(server: ScriptedUpstream) -> None:
    """What every upstream answers with SERVFAIL leaves the health page at 200."""
    server.behaviour = b.by_name({"well.example.": GOOD}, b.rcode("SERVFAIL"))
    async with running(server.endpoint) as testbed:
        for number in range(12):
            assert (await testbed.ask(f"n{number}.example.")).rcode == "SERVFAIL"
        assert (await testbed.get("/healthz"))[0] == 200
        assert (await testbed.ask("well.example.")).addresses == ["203.0.113.1"]


@pytest_twisted.ensureDeferred
async def test_no_access_log(server: ScriptedUpstream) -> None:
    """Scrapes, health checks and what is not there leave no line in the log."""
    async with running(server.endpoint) as testbed:
        with capturedLogs() as events:
            for path in ("/metrics", "/healthz", "/nothing"):
                await testbed.get(path)
    assert [formatEvent(event) for event in events] == []


@pytest_twisted.ensureDeferred
async def test_readiness(server: ScriptedUpstream) -> None:
    """Balancers are told over HTTP and by DNS whether the server wants queries: while it does not
    it answers them all the same, and is as healthy as it was.
    """

    async def seen(testbed: Running) -> tuple[int, str, int, str]:
        ready = await testbed.ask("ready.staggerdns.invalid.")
        page, health = await testbed.get("/readyz"), await testbed.get("/healthz")
        answer = await testbed.ask("www.example.")
        return page[0], ready.rcode, health[0], answer.rcode

    async with running(server.endpoint) as testbed:
        lifecycle = testbed.service.lifecycle
        assert await seen(testbed) == (200, "NOERROR", 200, "NOERROR")
        lifecycle.drain()
        assert await seen(testbed) == (503, "SERVFAIL", 200, "NOERROR")
        assert await testbed.get("/readyz") == (503, "draining\n")
        lifecycle.resume()
        assert await seen(testbed) == (200, "NOERROR", 200, "NOERROR")
        server.stop()
        await testbed.ask("n1.example.")
        assert (await testbed.get("/healthz"))[0] == 503
        assert await testbed.get("/readyz") == (200, "serving\n")
    assert len(server.asked("ready.staggerdns.invalid.")) == 0


def test_not_ready_before_the_start() -> None:
    """A service that has not started is not ready."""
    assert not Running("192.0.2.1").service.lifecycle.ready


def test_not_healthy_before_the_start() -> None:
    """A service that has not started is not healthy."""
    testbed = Running("192.0.2.1")
    assert not testbed.service.healthy()


@pytest_twisted.ensureDeferred
async def test_not_healthy_after_the_stop(server: ScriptedUpstream) -> None:
    """Nor is one that has stopped; meanwhile it is."""
    async with running(server.endpoint) as testbed:
        assert testbed.service.healthy()
        await testbed.stop()
        assert not testbed.service.healthy()


def taken_udp(endpoint: Endpoint) -> socket.socket:
    """A UDP socket on the endpoint."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(endpoint)
    return taken


def taken_tcp(endpoint: Endpoint) -> socket.socket:
    """A TCP listener on the endpoint."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(endpoint)
    taken.listen()
    return taken


# Twisted does not close a UDP socket that it could not bind.
@pytest.mark.parametrize(
    ("take", "which"),
    [
        (taken_udp, "first"),
        (taken_udp, "second"),
        (taken_tcp, "first"),
        (taken_tcp, "second"),
        (taken_tcp, "page"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_taken_port_ends_the_program(
    take: Callable[[Endpoint], socket.socket], which: str
) -> None:
    """One line names the address; whatever was bound before is let go."""
    first, second, page = free_endpoint(), free_endpoint(), free_endpoint()
    wanted = {"first": first, "second": second, "page": page}[which]
    text = configuration("192.0.2.1", [first, second], page)
    service = StaggerService(parse_config(text), reactor, os.urandom)
    with take(wanted):
        with pytest.raises(SystemExit) as ended:
            service.privilegedStartService()
        message = str(ended.value)
        assert str(wanted) in message
        assert "in use" in message
        assert "\n" not in message
        assert not service.healthy()
        await until(_nothing_open)
    for endpoint in (first, second, page):
        taken_udp(endpoint).close()
        taken_tcp(endpoint).close()


@pytest.mark.parametrize("tcp", [False, True])
@pytest_twisted.ensureDeferred
async def test_stop_answers_what_is_under_way(server: ScriptedUpstream, tcp: bool) -> None:
    """A query in flight at the stop gets its answer; the stop waits for it and no longer."""
    server.behaviour = b.answers("203.0.113.1", after=0.3)
    async with running(server.endpoint) as testbed:
        asked = Deferred.fromCoroutine(testbed.ask("www.example.", tcp=tcp))
        await until(lambda: len(server.queries) == 1)
        took = await testbed.stop()
        assert (await asked).addresses == ["203.0.113.1"]
    assert 0.1 < took < DRAIN_TIME


@pytest_twisted.ensureDeferred
async def test_stop_gives_up_in_time(server: ScriptedUpstream) -> None:
    """What nobody answers gets SERVFAIL at the end of the drain, about a second at most."""
    server.behaviour = b.silent
    async with running(server.endpoint) as testbed:
        asked = Deferred.fromCoroutine(testbed.ask("www.example."))
        await until(lambda: len(server.queries) == 1)
        took = await testbed.stop()
        assert (await asked).rcode == "SERVFAIL"
    assert DRAIN_TIME - 0.1 < took < DRAIN_TIME + 1


@pytest_twisted.ensureDeferred
async def test_stop_at_rest_is_quick(server: ScriptedUpstream) -> None:
    """With nobody waiting the stop waits for nothing, idle connections included."""
    async with running(server.endpoint) as testbed:
        await testbed.ask("www.example.")
        with socket.create_connection(testbed.endpoint, timeout=5) as idle:
            await until(lambda: len(testbed.service.factory.client_connections.open) == 1)
            assert await testbed.stop() < 0.5
            assert idle.recv(1) == b""
        taken_udp(testbed.endpoint).close()


@pytest_twisted.ensureDeferred
async def test_stop_in_mid_collection() -> None:
    """A collection that goes on behind its answer does not hold up the stop."""
    with contextlib.ExitStack() as stack:
        quick = stack.enter_context(ScriptedUpstream(GOOD))
        slow = stack.enter_context(ScriptedUpstream(b.silent))
        more = f"', '{slow.endpoint}"
        async with running(f"{quick.endpoint}{more}") as testbed:
            await testbed.ask("www.example.")
            assert await testbed.stop() < 0.5


@pytest_twisted.ensureDeferred
async def test_no_queries_are_taken_while_it_drains(server: ScriptedUpstream) -> None:
    """What comes during the drain is not answered any more."""
    server.behaviour = b.answers("203.0.113.1", after=0.3)
    async with running(server.endpoint) as testbed:
        asked = Deferred.fromCoroutine(testbed.ask("www.example."))
        await until(lambda: len(server.queries) == 1)
        stopping = Deferred.fromCoroutine(testbed.stop())
        with UdpClient(testbed.endpoint) as client:
            await until(lambda: not testbed.reads())
            client.send(question("other.example."))
            await stopping
        await asked
    assert server.asked("other.example.") == []


@pytest_twisted.ensureDeferred
async def test_no_queries_are_read_from_connections_while_it_drains(
    server: ScriptedUpstream,
) -> None:
    """Nor is what comes over a connection that waits for an answer; that one it still gets."""
    server.behaviour = b.answers("203.0.113.1", after=0.3)
    async with running(server.endpoint) as testbed:
        client = await deferToThread(clients.TcpClient, testbed.endpoint)
        with client:
            client.send(question("www.example."))
            await until(lambda: len(server.queries) == 1)
            stopping = Deferred.fromCoroutine(testbed.stop())
            await until(lambda: not testbed.reads())
            client.send(question("other.example."))
            reply = await deferToThread(client.receive)
            await stopping
        assert reply.message.question[0].name.to_text() == "www.example."
    assert server.asked("other.example.") == []


@pytest.fixture
def unchanged_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the reactor its own clock back, and the collector its thresholds."""
    monkeypatch.setattr(reactor, "seconds", reactor.seconds)
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("unchanged_process")
def test_make_service(tmp_path: Path) -> None:
    """`makeService` turns options into a service that has opened nothing yet."""
    path = tmp_path / "staggerdns.yaml"
    path.write_text(configuration("192.0.2.1", [free_endpoint()], None), encoding="utf-8")
    options = Options()
    options.parseOptions(["--config", str(path)])
    before = list(reactor.getReaders())
    service = makeService(options)
    assert IService.providedBy(service)
    assert not service.running
    assert reactor.getReaders() == before


@pytest.mark.usefixtures("unchanged_process")
def test_nobody_sets_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers count on a clock that only goes forward: the system's may jump back by a day."""
    path = tmp_path / "staggerdns.yaml"
    path.write_text(configuration("192.0.2.1", [free_endpoint()], None), encoding="utf-8")
    options = Options()
    options.parseOptions(["--config", str(path)])
    service = makeService(options)
    assert isinstance(service, StaggerService)
    fired: list[float] = []
    call = reactor.callLater(0.05, lambda: fired.append(time.monotonic()))
    due = time.monotonic() + 0.05
    assert call.getTime() == pytest.approx(due, abs=0.04)
    jumped = time.time() - 86_400
    monkeypatch.setattr(time, "time", lambda: jumped)
    assert service.factory.clock.seconds() == pytest.approx(time.monotonic(), abs=1)
    while not fired and time.monotonic() < due + 5:
        reactor.runUntilCurrent()
        time.sleep(0.005)
    assert fired, "the timer waits for the day to come round again"
    assert fired[0] >= due - 0.01


def loopback_configuration(listen: Sequence[object], upstream: object = "192.0.2.1") -> str:
    """The text of a configuration that serves nobody but this machine."""
    text = configuration(upstream, listen, None)
    return text.replace("listen: [", "allow: [127.0.0.1, '::1'], listen: [", 1)


@contextlib.asynccontextmanager
async def started(text: str) -> AsyncIterator[StaggerService]:
    """Start a service of this configuration and stop it in the end."""
    service = StaggerService(parse_config(text), reactor, os.urandom)
    service.privilegedStartService()
    service.startService()
    try:
        yield service
    finally:
        await maybeDeferred(service.stopService)
        await until(_nothing_open)


async def answered(endpoint: Endpoint, *, tcp: bool) -> list[str]:
    """The addresses that this endpoint gives."""
    reply: clients.Reply = await deferToThread(clients.ask, endpoint, "www.example.", tcp=tcp)
    return reply.addresses


@pytest.mark.parametrize("order", [("0.0.0.0", "::"), ("::", "0.0.0.0")])
@pytest_twisted.ensureDeferred
async def test_both_wildcards(server: ScriptedUpstream, order: tuple[str, str]) -> None:
    """``0.0.0.0`` and ``[::]`` on one port are two listeners, each over UDP and TCP."""
    port = free_port("127.0.0.1", "::1")
    listen = [Endpoint(host, port) for host in order]
    async with started(loopback_configuration(listen, server.endpoint)):
        for host in ("127.0.0.1", "::1"):
            for tcp in (False, True):
                assert await answered(Endpoint(host, port), tcp=tcp) == ["203.0.113.1"]


@pytest_twisted.ensureDeferred
async def test_the_ipv6_wildcard_is_ipv6_alone(server: ScriptedUpstream) -> None:
    """``[::]`` leaves the port's IPv4 side free for others, over UDP and over TCP."""
    port = free_port("127.0.0.1", "::1")
    async with started(loopback_configuration([Endpoint("::", port)], server.endpoint)):
        for tcp in (False, True):
            assert await answered(Endpoint("::1", port), tcp=tcp) == ["203.0.113.1"]
        for take in (taken_udp, taken_tcp):
            take(Endpoint("0.0.0.0", port)).close()
        with pytest.raises(ConnectionRefusedError):
            await answered(Endpoint("127.0.0.1", port), tcp=True)


class Unbindable(socket.socket):
    """A socket of a machine that lacks the address which it is to have."""

    number = errno.EADDRNOTAVAIL

    def bind(self, address: Any) -> None:
        """Fail for IPv6, as a kernel does whose IPv6 is off."""
        if self.family == socket.AF_INET6:
            raise OSError(self.number, os.strerror(self.number))
        super().bind(address)


@pytest.fixture(params=["EADDRNOTAVAIL at bind", "EAFNOSUPPORT at once"])
def no_ipv6(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deprive listeners of IPv6, in either way that Linux can lack it."""

    def create(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6 and request.param.startswith("EAFNOSUPPORT"):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return Unbindable(family, kind)

    monkeypatch.setattr(sockets, "create", create)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.usefixtures("no_ipv6")
@pytest_twisted.ensureDeferred
async def test_no_ipv6_on_this_machine(server: ScriptedUpstream, *, turned: bool) -> None:
    """The default listeners come up without IPv6; what is missing is said, once."""
    four = free_endpoint()
    listen = [four, Endpoint("::1", four.port)]
    if turned:
        listen.reverse()
    with capturedLogs() as events:
        async with started(loopback_configuration(listen, server.endpoint)) as service:
            for tcp in (False, True):
                assert await answered(four, tcp=tcp) == ["203.0.113.1"]
            assert service.healthy()
    (warning,) = [event for event in events if event["log_level"] == LogLevel.warn]
    text = formatEvent(warning)
    assert "IPv6" in text
    assert f"[::1]:{four.port}" in text
    (up,) = [text for text in map(formatEvent, events) if text.startswith("listening on")]
    assert str(four) in up
    assert "::1" not in up, "the log names a listener that is not there"


@pytest.mark.parametrize(
    "listen",
    [
        pytest.param(["[::1]:{0}"], id="nobody else"),
        pytest.param(["[::1]:{0}", "[::1]:{1}"], id="nobody else but another"),
        pytest.param(["127.0.0.1:{0}", "[2001:db8::1]:{0}"], id="an address of choice"),
        pytest.param(["127.0.0.1:{0}", "[::]:{0}"], id="the wildcard"),
    ],
)
@pytest.mark.usefixtures("no_ipv6")
@pytest_twisted.ensureDeferred
async def test_an_ipv6_listener_that_is_needed(listen: list[str]) -> None:
    """Where nothing else listens, or the address was chosen, lack of IPv6 ends the program."""
    ports = [free_endpoint().port, free_endpoint().port]
    wanted = [text.format(*ports) for text in listen]
    service = StaggerService(parse_config(loopback_configuration(wanted)), reactor, os.urandom)
    with pytest.raises(SystemExit) as ended:
        service.privilegedStartService()
    assert "cannot listen on [" in str(ended.value)
    assert "\n" not in str(ended.value)
    await until(_nothing_open)


@pytest_twisted.ensureDeferred
async def test_a_taken_ipv6_loopback_ends_the_program() -> None:
    """A ``[::1]`` that somebody else has is an error as ever: IPv6 is there."""
    port = free_port("127.0.0.1", "::1")
    listen = [Endpoint("127.0.0.1", port), Endpoint("::1", port)]
    service = StaggerService(parse_config(loopback_configuration(listen)), reactor, os.urandom)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.bind(("::1", port))
        with pytest.raises(SystemExit) as ended:
            service.privilegedStartService()
    assert f"[::1]:{port}" in str(ended.value)
    assert "in use" in str(ended.value)
    await until(_nothing_open)


@pytest_twisted.ensureDeferred
async def test_no_metrics(server: ScriptedUpstream) -> None:
    """``metrics.listen: null`` opens no page."""
    endpoint, page = free_endpoint(), free_endpoint()
    text = configuration(server.endpoint, [endpoint], None)
    service = StaggerService(parse_config(text), reactor, os.urandom)
    service.privilegedStartService()
    service.startService()
    reply = await deferToThread(clients.ask, endpoint, "www.example.")
    assert reply.addresses == ["203.0.113.1"]
    taken_tcp(page).close()
    await maybeDeferred(service.stopService)
    await until(_nothing_open)


@pytest_twisted.ensureDeferred
async def test_chain_as_a_library(server: ScriptedUpstream) -> None:
    """A program can have the chain without the server, on any reactor's clock."""
    text = configuration(server.endpoint, [free_endpoint()], None)
    chain = Chain(parse_config(text), reactor)
    answers, _, _ = await chain.resolver.lookupAddress("www.example")
    assert [cast("dns.Record_A", one.payload).dottedQuad() for one in answers] == ["203.0.113.1"]
    assert await chain.resolver.getHostByName("www.example") == "203.0.113.1"
    assert len(server.queries) == 1
    chain.close()
    assert _nothing_open()


@pytest_twisted.ensureDeferred
async def test_doubts_are_in_the_log() -> None:
    """What a configuration hardly means is warned of when the service starts."""
    testbed = Running("192.0.2.1", ", bootstrap: ['224.0.0.1', '192.0.2.1']")
    with capturedLogs() as events:
        await testbed.start()
    await testbed.stop()
    (warning,) = [formatEvent(event) for event in events if event["log_level"] == LogLevel.warn]
    assert warning.startswith("upstream.bootstrap[0]: 224.0.0.1:53 is an address of many")


@pytest_twisted.ensureDeferred
async def test_the_expiry_is_a_metric(tmp_path: Path) -> None:
    """While there is an encrypted listener the page says when its certificate expires: the one of
    now, be it renewed, with nobody connecting, or another one since a reload.
    """
    authority = CertificateAuthority(tmp_path)
    hours = [authority.issue("127.0.0.1", lifetime=timedelta(hours=number)) for number in (1, 2, 3)]
    testbed = Running("192.0.2.1")
    plain, encrypted = str(free_endpoint()), f"tls://{free_endpoint()}"

    def config(listen: str, files: Certificate) -> Config:
        listener = configuration("192.0.2.1", [listen], testbed.page)
        keys = f"tls_certificate: {files.chain}, tls_key: {files.key}"
        return parse_config(listener.replace("server: {", f"server: {{{keys}, "))

    async def left() -> list[int]:
        _, page = await testbed.get("/metrics")
        found = re.findall(r"(?m)^staggerdns_certificate_expiry_timestamp_seconds (.*)$", page)
        return [ceil((float(end) - time.time()) / 3600) for end in found]

    testbed.service = StaggerService(config(encrypted, hours[0]), reactor, os.urandom)
    await testbed.start()
    assert await left() == [1]
    shutil.copy(hours[1].chain, hours[0].chain)
    shutil.copy(hours[1].key, hours[0].key)
    assert await left() == [2]
    await testbed.service.change(config(encrypted, hours[2]))
    assert await left() == [3]
    await testbed.service.change(config(plain, hours[2]))
    assert await left() == []
    await testbed.stop()
