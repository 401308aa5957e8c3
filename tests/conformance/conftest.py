"""The program that the conformance tests talk to, one for the whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.octets import by_hash
from tests.kit.testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_conformance_testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """One program with three upstreams that agree."""
    directory = tmp_path_factory.mktemp("conformance")
    with Testbed(directory, [by_hash] * 3, {"log": {"level": "debug"}}) as testbed:
        yield testbed


@pytest.fixture
def testbed(shared_conformance_testbed: Testbed) -> Iterator[Testbed]:
    """The shared program; what a test sent must not have broken it."""
    yield shared_conformance_testbed
    shared_conformance_testbed.program.check_log()
    assert shared_conformance_testbed.ask("www.example.").rcode == "NOERROR"
