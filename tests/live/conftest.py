"""The programs that the end-to-end tests run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.kit.internet.possible import possible_world
from tests.kit.program import merged
from tests.kit.testbed import Testbed, own_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.kit.internet.world import World
    from tests.kit.scripted import Behaviour


class BuildTestbed(Protocol):
    """What the fixture ``build`` gives: start a program of one's own."""

    def __call__(
        self,
        behaviours: Sequence[Behaviour | None],
        settings: Mapping[str, Any] | None = None,
        *,
        scheme: str = "",
        known: bool = False,
    ) -> Testbed:
        """Start the upstreams and the program; they end with the test.

        ``known``: each upstream has answered well before: see `Testbed.get_known`.
        """


@pytest.fixture
def build(tmp_path: Path) -> Iterator[BuildTestbed]:
    """Start programs of one's own, for tests that need fresh upstreams or settings."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(
            behaviours: Sequence[Behaviour | None],
            settings: Mapping[str, Any] | None = None,
            *,
            scheme: str = "",
            known: bool = False,
        ) -> Testbed:
            nonlocal count
            count += 1
            # Every line of the log is written, so that a broken one is seen.
            loud = merged({"log": {"level": "debug"}}, settings or {})
            testbed = stack.enter_context(
                Testbed(tmp_path / f"testbed{count}", behaviours, loud, scheme=scheme)
            )
            if known:
                testbed.get_known()
            return testbed

        yield start


@pytest.fixture(scope="session")
def world() -> Iterator[World | None]:
    """A network of its own with an internet in it, `None` where there cannot be one."""
    with possible_world() as found:
        yield None if isinstance(found, str) else found


@pytest.fixture
def own_network(world: World | None) -> Iterator[None]:
    """The test, and all that it starts, is in a network of its own where that can be, so that
    whatever a program sends elsewhere stays there.
    """
    with contextlib.nullcontext() if world is None else world.inside():
        yield


@pytest.fixture(scope="session")
def shared_testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """One program with five healthy upstreams, for the whole run."""
    directory = tmp_path_factory.mktemp("shared")
    behaviours = [own_answer(index, after=0.002) for index in range(5)]
    with Testbed(directory, behaviours, {"log": {"level": "debug"}}) as testbed:
        testbed.get_known()
        yield testbed


@pytest.fixture
def testbed(shared_testbed: Testbed) -> Iterator[Testbed]:
    """The shared program, for tests that leave it as healthy as it was: new names each time."""
    yield shared_testbed
    shared_testbed.program.check_log()
