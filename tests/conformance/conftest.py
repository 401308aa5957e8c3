"""The program that the conformance tests talk to, one for the whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.octets import by_hash
from tests.kit.testbed import House

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_conformance_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One program with three upstreams that agree."""
    directory = tmp_path_factory.mktemp("conformance")
    with House(directory, [by_hash] * 3, {"log": {"level": "debug"}}) as house:
        yield house


@pytest.fixture
def house(shared_conformance_house: House) -> Iterator[House]:
    """The shared program; what a test sent must not have broken it."""
    yield shared_conformance_house
    shared_conformance_house.program.check_log()
    assert shared_conformance_house.ask("www.example.").rcode == "NOERROR"
