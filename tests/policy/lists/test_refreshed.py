"""When a list was right for the last time, as its metric says: the oldest of its sources counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from staggerdns.policy.lists import refresh
from staggerdns.settings.policy import ListSettings
from staggerdns.wire.names import from_text
from tests.kit.runninglists import Running, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "https://lists.example/a"
OTHER = "https://lists.example/b"
FOUR_HOURS = 4 * 3600
NEVER = -1


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Return a place for lists; they are stopped in the end."""
    made = Running(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with one name."""
    path = tmp_path / "own.txt"
    write(path, "file.example\n", 1)
    return path


def age(running: Running) -> float:
    """Return how many seconds ago it was, `NEVER` if that has not been."""
    return running.figures()[1]


@pytest.mark.parametrize("sent", [None, "<html>\n", "# moved\n"])
def test_a_url_that_fails_beside_one_that_works(running: Running, sent: str | None) -> None:
    """However often the other one is there, and however the server fails."""
    running.server.content = {URL: "a.example\n", OTHER: "b.example\n"}
    running.start(ads=ListSettings(urls=(URL, OTHER)))
    assert age(running) == 0
    del running.server.content[URL]
    if sent is not None:
        running.server.content[URL] = sent
    for _ in range(12):
        running.pump(FOUR_HOURS)
    assert age(running) == 12 * FOUR_HOURS
    running.server.content[URL] = "c.example\n"
    running.pump(FOUR_HOURS)
    assert age(running) < FOUR_HOURS


def test_a_url_that_never_could_be_had(running: Running, path: Path) -> None:
    """A file that changes makes no difference."""
    running.start(ads=ListSettings(urls=(URL,), files=(str(path),)))
    assert age(running) == NEVER
    write(path, "other.example\n", 2)
    running.pump(10)
    assert running.blocks("other.example")
    assert age(running) == NEVER


def test_a_file_that_does_not_change(running: Running, path: Path) -> None:
    """It is right as of the last look, so it does not make a list old whose servers are there."""
    running.server.content[URL] = "a.example\n"
    running.start(ads=ListSettings(files=(str(path),)))
    running.pump(FOUR_HOURS + refresh.CHECK_EVERY / 2)
    assert age(running) == refresh.CHECK_EVERY / 2
    running.start(ads=ListSettings(files=(str(path),), urls=(URL,)))
    running.pump(FOUR_HOURS + 60)
    assert age(running) == 60


@pytest.mark.parametrize("content", [None, "<html>\n"])
def test_a_file_that_cannot_be_used(running: Running, path: Path, content: str | None) -> None:
    """It was right for the last time when it was as it is in force."""
    running.start(ads=ListSettings(files=(str(path),)))
    running.pump(600)
    assert age(running) == 0
    path.unlink()
    if content is not None:
        write(path, content, 2)
    running.pump(600)
    assert age(running) == 600
    write(path, "file.example\n", 3)
    running.pump(2 * refresh.CHECK_EVERY)
    assert age(running) == 0


def test_a_file_that_cannot_be_compiled(running: Running, path: Path) -> None:
    """What is not in force does not count."""
    running.start(ads=ListSettings(files=(str(path),)))
    running.pump(600)
    running.compiler.problem = "no room"
    write(path, "other.example\n", 2)
    running.pump(600)
    assert age(running) == 600


def test_a_file_after_a_restart(running: Running, path: Path) -> None:
    """The last set has it, but whether it is right is known when it has been read."""
    running.start(ads=ListSettings(files=(str(path),)))
    running.compiler.waiting = []
    running.start(ads=ListSettings(files=(str(path),)))
    assert running.blocks("file.example")
    assert age(running) == NEVER
    running.compiler.go_on()
    running.pump()
    assert age(running) == 0


def test_a_copy_that_does_not_count(running: Running) -> None:
    """A server that has nothing new says nothing of what is in force, where nothing is."""
    running.server.content[URL] = "a.example\n"
    running.start(ads=ListSettings(urls=(URL,)))
    (running.directory / "state" / "lists" / "compiled.lists").unlink()
    running.compiler.problem = "no room"
    running.start(ads=ListSettings(urls=(URL,)))
    running.pump(FOUR_HOURS)
    assert not running.blocks("a.example")
    assert age(running) == NEVER
    running.compiler.problem = ""
    running.pump(FOUR_HOURS)
    assert age(running) == 0


def test_a_lost_copy(running: Running) -> None:
    """What was right stays so until that time."""
    running.server.content[URL] = "a.example\n"
    running.start(ads=ListSettings(urls=(URL,)))
    for copy in (running.directory / "state" / "lists").glob("*.list"):
        copy.unlink()
    running.server.content.clear()
    running.pump(2 * FOUR_HOURS)
    assert running.blocks("a.example")
    assert age(running) == 2 * FOUR_HOURS


def test_what_the_configuration_has_itself(running: Running) -> None:
    """It is right from when it is in force, after a restart as well."""
    settings = ListSettings(domains=(from_text("own.example"),))
    running.compiler.problem = "no room"
    running.start(ads=settings)
    running.pump(1)
    assert age(running) == NEVER
    running.compiler.problem = ""
    running.pump(5)
    assert age(running) == 0
    running.start(ads=settings)
    running.pump(FOUR_HOURS)
    assert age(running) == 0
