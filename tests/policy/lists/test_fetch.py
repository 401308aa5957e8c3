"""Lists over HTTPS, from a server on loopback that behaves well and badly."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from staggerdns.policy.lists import fetch as fetch_module
from staggerdns.policy.lists.fetch import Fetcher
from staggerdns.policy.lists.fetched import FetchProblem, Validators
from tests.kit.certificates import CertificateAuthority
from tests.kit.listserver import (
    HOST,
    ListServer,
    code,
    cut_off,
    mute,
    resolve,
    says,
    silent,
    tagged,
)
from tests.kit.loopback import DEADLINE, no_connections, pause, reactor, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from twisted.web.server import Request

LIST = b"ads.example\n"
NEVER = Validators()


class Fetching:
    """A fetcher and the server that it asks; ``path``: where a list goes."""

    def __init__(self, server: ListServer, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.path = directory / "list.new"
        self.clock = Clock()
        self.fetcher = Fetcher(reactor, self.clock, resolve)

    async def fetch(
        self, act: Callable[[Request], bytes | int], known: Validators = NEVER
    ) -> Validators | None:
        """Return what comes of fetching what the server says."""
        self.server.acts["/list"] = act
        fetched = self.fetcher.fetch(self.server.url("/list"), self.path, known)
        return await fetched.addTimeout(DEADLINE, reactor)

    async def problem(self, act: Callable[[Request], bytes | int]) -> str:
        """Return why nothing comes, and see that nothing is left."""
        with pytest.raises(FetchProblem) as problem:
            await self.fetch(act)
        self.nothing_left()
        return str(problem.value)

    def nothing_left(self) -> None:
        """See that there is no file."""
        assert list(self.directory.iterdir()) == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """Return an authority."""
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest_twisted.async_yield_fixture
async def fetching(
    authority: CertificateAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fetching]:
    """Return a fetcher that trusts the server's authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    server = ListServer(authority.issue(HOST))
    await server.start()
    yield Fetching(server, tmp_path)
    await server.stop()
    await no_connections()


def ours(test: Callable[..., Any]) -> Callable[..., Any]:
    """Run a coroutine as a test."""
    found: Callable[..., Any] = pytest_twisted.ensureDeferred(test)
    return found


@ours
async def test_a_list(fetching: Fetching) -> None:
    """It is written as it comes, and only then has its name."""
    assert await fetching.fetch(tagged(LIST, '"1"')) == Validators(
        '"1"', "Mon, 30 Nov 2026 07:00:00 GMT"
    )
    assert fetching.path.read_bytes() == LIST
    assert [path.name for path in fetching.directory.iterdir()] == ["list.new"]
    ((_, headers),) = fetching.server.requests
    assert headers[b"User-Agent"][0].startswith(b"StaggerDNS/")
    assert headers[b"Accept-Encoding"] == [b"gzip"]


@ours
async def test_it_has_not_changed(fetching: Fetching) -> None:
    """What the server calls by the same name is not sent again."""
    known = await fetching.fetch(tagged(LIST, '"1"'))
    assert known is not None
    fetching.path.unlink()
    assert await fetching.fetch(tagged(LIST, '"1"'), known) is None
    fetching.nothing_left()
    _, headers = fetching.server.requests[-1]
    assert headers[b"If-Modified-Since"] == [known.modified.encode()]
    assert await fetching.fetch(tagged(LIST, '"2"'), known) == known._replace(etag='"2"')


@ours
async def test_packed(fetching: Fetching) -> None:
    """What is packed stays so until another process unpacks it."""
    packed = gzip.compress(LIST * 1000)
    await fetching.fetch(says(packed, content_encoding="gzip"))
    assert fetching.path.read_bytes() == packed


@ours
async def test_elsewhere(fetching: Fetching) -> None:
    """A server may lead elsewhere a few times, and a way in a circle ends."""
    server = fetching.server
    server.acts["/there"] = says(LIST)
    await fetching.fetch(code(302, location="/there"))
    assert fetching.path.read_bytes() == LIST
    fetching.path.unlink()
    server.requests.clear()
    assert "more than 5 times" in await fetching.problem(code(301, location="/list"))
    assert len(server.requests) == 6
    assert "without TLS" in await fetching.problem(code(301, location="http://lists.example/"))


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (code(404), "the server answered 404"),
        (code(500), "the server answered 500"),
        (code(304), "the server answered 304"),
        (code(204), "the server answered 204"),
        (code(301), "the server answered 301"),
        (code(206), "the server answered 206"),
        (cut_off, "was cut off"),
        (says(b""), "is empty"),
        (code(301, location="https://elsewhere.example/"), "its host has no address"),
        (code(301, location="https://[::1]/"), "leads to a URL that cannot be fetched"),
        (code(301, location="https://u:p@lists.example/"), "leads to a URL that cannot be fetched"),
    ],
)
@ours
async def test_problems(
    fetching: Fetching, act: Callable[[Request], bytes | int], why: str
) -> None:
    """Each is told, and leaves nothing behind."""
    assert why in await fetching.problem(act)


@ours
async def test_most_octets(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many may come; what is longer is broken off."""
    monkeypatch.setattr(fetch_module, "MAX_PACKED", len(LIST))
    await fetching.fetch(says(LIST))
    fetching.path.unlink()
    assert f"more than {len(LIST)} bytes" in await fetching.problem(says(LIST + b"#"))


@pytest.mark.parametrize("act", [silent, mute])
@ours
async def test_silence(fetching: Fetching, act: Callable[[Request], int]) -> None:
    """A server that sends nothing for too long is given up."""
    fetched = Deferred.fromCoroutine(fetching.problem(act))
    await until(lambda: bool(fetching.server.requests))
    await pause(0.1)
    fetching.clock.advance(fetch_module.SILENCE - 0.1)
    assert not fetched.called
    fetching.clock.advance(0.2)
    assert "takes too long" in await fetched
    assert not fetching.clock.getDelayedCalls()


@ours
async def test_slowness(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it has a time."""
    monkeypatch.setattr(fetch_module, "SILENCE", 2 * fetch_module.FETCH_TIMEOUT)
    fetched = Deferred.fromCoroutine(fetching.problem(silent))
    await until(lambda: bool(fetching.server.requests))
    await pause(0.1)
    fetching.clock.advance(fetch_module.FETCH_TIMEOUT + 0.1)
    assert "takes too long" in await fetched


@pytest.mark.parametrize("act", [silent, mute])
@ours
async def test_cancelled(fetching: Fetching, act: Callable[[Request], int]) -> None:
    """A stop leaves no connection, timer or file."""
    fetching.server.acts["/list"] = act
    fetched = fetching.fetcher.fetch(fetching.server.url("/list"), fetching.path, NEVER)
    await until(lambda: bool(fetching.server.requests))
    await pause(0.1)
    fetched.cancel()
    with pytest.raises(CancelledError):
        await fetched
    fetching.nothing_left()
    assert not fetching.clock.getDelayedCalls()


@pytest.mark.parametrize("kind", ["name", "expired", "unknown"])
@ours
async def test_certificates(
    fetching: Fetching, authority: CertificateAuthority, tmp_path: Path, kind: str
) -> None:
    """A server must have one for its name, from a trusted authority, that is valid now."""
    other = tmp_path.parent / f"{tmp_path.name}-other"
    certificate = {
        "name": lambda: authority.issue("elsewhere.example"),
        "expired": lambda: authority.issue(HOST, expired=True),
        "unknown": lambda: CertificateAuthority(other).issue(HOST),
    }[kind]()
    server = ListServer(certificate)
    await server.start()
    try:
        with pytest.raises(FetchProblem, match=r"certificate"):
            await fetching.fetcher.fetch(server.url("/list"), fetching.path, NEVER)
    finally:
        await server.stop()
    assert server.requests == []


@ours
async def test_most_hosts(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server cannot have us look up names for ever."""
    monkeypatch.setattr(fetch_module, "MAX_HOSTS", 2)
    asked: list[str] = []

    def counted(name: str) -> Deferred[Sequence[str]]:
        asked.append(name)
        return resolve(name) if name == HOST else succeed([])

    fetching.fetcher = Fetcher(reactor, fetching.clock, counted)
    for number, why in enumerate(("no address", "a new host", "a new host")):
        act = code(301, location=f"https://n{number}.example/")
        assert why in await fetching.problem(act)
    assert asked == [HOST, "n0.example", HOST, HOST]


@ours
async def test_nobody_listens(fetching: Fetching) -> None:
    """A server that is not there is one more problem."""
    url = fetching.server.url("/list")
    await fetching.server.stop()
    with pytest.raises(FetchProblem, match=r"cannot be had: .*refused"):
        await fetching.fetcher.fetch(url, fetching.path, NEVER)
    await fetching.server.start()
