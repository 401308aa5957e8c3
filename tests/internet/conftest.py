"""The test internet and the programs in it that several tests share."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.kit.internet.possible import possible_world
from tests.kit.internet.testbed import InternetTestbed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.kit.internet.world import World
    from tests.kit.ports import Endpoint


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """One internet for the whole run; where there cannot be one, the tests are skipped."""
    with possible_world() as found:
        if isinstance(found, str):
            pytest.skip(f"no test internet: {found}")
        yield found


@pytest.fixture(autouse=True)
def inside(world: World) -> Iterator[None]:
    """Each test runs inside: its clients as well."""
    with world.inside():
        yield


_hosts = itertools.count(1)


@pytest.fixture
def host() -> int:
    """A number for the addresses of one test: nobody has probed them."""
    return next(_hosts)


class BuildTestbed(Protocol):
    """What the fixture ``build`` gives: start a program of one's own."""

    def __call__(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        upstreams: int = 5,
        prefix: Sequence[str] = (),
        options: Sequence[str] = (),
        listen: Endpoint | None = None,
    ) -> InternetTestbed:
        """Start upstreams and program; they end with the test."""


@pytest.fixture
def build(world: World, tmp_path: Path) -> Iterator[BuildTestbed]:
    """Start programs of one's own, for tests that need other settings."""
    with contextlib.ExitStack() as stack:
        numbers = itertools.count(1)

        def start(settings: Mapping[str, Any] | None = None, **keywords: Any) -> InternetTestbed:
            testbed = InternetTestbed(
                world, tmp_path / f"testbed{next(numbers)}", settings, **keywords
            )
            return stack.enter_context(testbed)

        yield start


@pytest.fixture(scope="session")
def shared_testbed(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InternetTestbed]:
    """One program with five upstreams and the ordinary settings."""
    with InternetTestbed(world, tmp_path_factory.mktemp("testbed")) as testbed:
        with world.inside():
            testbed.get_known()
        yield testbed


@pytest.fixture
def testbed(shared_testbed: InternetTestbed) -> Iterator[InternetTestbed]:
    """The shared program, at rest, for tests that bring names and addresses of their own."""
    shared_testbed.idle()
    yield shared_testbed
    shared_testbed.program.check_log()


@pytest.fixture(scope="session")
def shared_restless(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InternetTestbed]:
    """One program whose orders are old after a second."""
    settings = {"ranking": {"rtt_cache_ttl": 1}}
    with InternetTestbed(world, tmp_path_factory.mktemp("restless"), settings) as testbed:
        yield testbed


@pytest.fixture
def restless(shared_restless: InternetTestbed) -> Iterator[InternetTestbed]:
    """The shared program whose orders are old after a second."""
    shared_restless.idle()
    yield shared_restless
    shared_restless.program.check_log()
