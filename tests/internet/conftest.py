"""The test internet and the programs in it that several tests share."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.kit.internet.testbed import Town
from tests.kit.internet.world import NoInternet, World

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """One internet for the whole run; where there cannot be one, the tests are skipped."""
    with contextlib.ExitStack() as stack:
        try:
            world = stack.enter_context(World())
        except NoInternet as reason:
            if os.geteuid() == 0 and os.environ.get("CI"):
                pytest.fail(f"root, and no test internet: {reason}")
            pytest.skip(f"no test internet: {reason}")
        yield world


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


class BuildTown(Protocol):
    """What the fixture ``build`` gives: start a program of one's own."""

    def __call__(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        upstreams: int = 5,
        prefix: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> Town:
        """Start upstreams and program; they end with the test."""


@pytest.fixture
def build(world: World, tmp_path: Path) -> Iterator[BuildTown]:
    """Start programs of one's own, for tests that need other settings."""
    with contextlib.ExitStack() as stack:
        numbers = itertools.count(1)

        def start(settings: Mapping[str, Any] | None = None, **keywords: Any) -> Town:
            town = Town(world, tmp_path / f"town{next(numbers)}", settings, **keywords)
            return stack.enter_context(town)

        yield start


@pytest.fixture(scope="session")
def shared_town(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One program with five upstreams and the ordinary settings."""
    with Town(world, tmp_path_factory.mktemp("town")) as town:
        with world.inside():
            town.get_known()
        yield town


@pytest.fixture
def town(shared_town: Town) -> Iterator[Town]:
    """The shared program, at rest, for tests that bring names and addresses of their own."""
    shared_town.idle()
    yield shared_town
    shared_town.program.check_log()


@pytest.fixture(scope="session")
def shared_restless(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One program whose orders are old after a second."""
    settings = {"ranking": {"rtt_cache_ttl": 1}}
    with Town(world, tmp_path_factory.mktemp("restless"), settings) as town:
        yield town


@pytest.fixture
def restless(shared_restless: Town) -> Iterator[Town]:
    """The shared program whose orders are old after a second."""
    shared_restless.idle()
    yield shared_restless
    shared_restless.program.check_log()
