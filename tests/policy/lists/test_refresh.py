"""Lists whose copies are lost, whose servers are slow, whose files cannot be compiled now."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from twisted.logger import capturedLogs

from staggerdns.policy.lists import refresh, sources
from staggerdns.policy.lists.directory import ListDirectory
from staggerdns.settings.policy import ListSettings
from tests.kit.runninglists import Running, texts, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

URL = "https://lists.example/a"
OTHER = "https://lists.example/b"
FOUR_HOURS = 4 * 3600
LONG = 24 * 3600


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Return a place for lists; they are stopped in the end."""
    made = Running(tmp_path)
    yield made
    made.stop()


def kept(running: Running) -> Path:
    """Return where copies are."""
    return running.directory / "state" / "lists"


def lose_files(running: Running) -> None:
    """Remove all that is kept."""
    for path in kept(running).iterdir():
        path.unlink()


def lose_directory(running: Running) -> None:
    """Remove even the place for it."""
    shutil.rmtree(kept(running))


def lose_copies(running: Running) -> None:
    """Remove copies alone."""
    for path in kept(running).glob("*.list"):
        path.unlink()


LOSSES = [lose_files, lose_directory, lose_copies]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_lost_copy(running: Running, tmp_path: Path, lose: Callable[[Running], None]) -> None:
    """What it had stays in force when another list changes, and all of it is fetched again."""
    path = tmp_path / "own.txt"
    write(path, "file.example\n", 1)
    running.server.content[URL] = "one.example\n"
    running.start(ads=ListSettings(urls=(URL,)), own=ListSettings(files=(str(path),)))
    lose(running)
    running.server.waiting = []
    write(path, "file.example\nnew.example\n", 2)
    with capturedLogs() as events:
        running.pump(2 * refresh.CHECK_EVERY)
    assert running.blocks("one.example")
    assert running.blocks("file.example")
    assert texts(events) == [
        (
            "the list own has 1 names; the set of all lists could not be compiled: "
            f"{URL} has no copy any more"
        )
    ]
    assert running.figures("own")[2] == 1
    assert running.server.fetched[-1] == (URL, "")
    waiting, running.server.waiting = running.server.waiting, None
    for one in waiting:
        one.callback(None)
    running.pump(10)
    assert running.blocks("one.example")
    assert running.blocks("new.example")


def test_a_lost_copy_whose_server_is_away(running: Running, tmp_path: Path) -> None:
    """What it had stays in force for as long as that takes; other lists wait."""
    path = tmp_path / "own.txt"
    write(path, "file.example\n", 1)
    running.server.content[URL] = "one.example\n"
    running.start(ads=ListSettings(urls=(URL,)), own=ListSettings(files=(str(path),)))
    lose_directory(running)
    content = running.server.content.pop(URL)
    write(path, "new.example\n", 2)
    orders = len(running.compiler.orders)
    running.pump(FOUR_HOURS)
    assert running.blocks("one.example")
    assert running.blocks("file.example")
    assert len(running.compiler.orders) - orders < 30
    assert running.figures("own")[2] > 5
    running.server.content[URL] = content
    running.pump(FOUR_HOURS)
    assert [running.blocks(f"{name}.example") for name in ("one", "file", "new")] == [1, 0, 1]


def test_a_copy_that_is_lost_between_refreshes(running: Running) -> None:
    """Its server is asked for all of it, and has none that is as it was."""
    running.server.content[URL] = "one.example\n"
    running.start(ads=ListSettings(urls=(URL,)))
    lose_directory(running)
    running.pump(FOUR_HOURS)
    assert running.server.fetched == [(URL, ""), (URL, "")]
    assert any(kept(running).glob("*.list"))
    assert running.figures() == (1, 0, 0)


def test_a_copy_that_is_lost_while_its_server_is_asked(running: Running) -> None:
    """That it is as it was is no help; it is fetched again soon."""
    running.server.content[URL] = "one.example\n"
    running.start(ads=ListSettings(urls=(URL,)))
    running.server.waiting = []
    running.pump(FOUR_HOURS)
    lose_copies(running)
    waiting, running.server.waiting = running.server.waiting, None
    waiting[0].callback(None)
    assert running.figures()[2] == 1
    running.pump(10)
    assert any(kept(running).glob("*.list"))
    assert running.figures() == (1, 5, 1)


@pytest.mark.parametrize("lose", LOSSES)
def test_a_lost_copy_of_a_file(
    running: Running, tmp_path: Path, lose: Callable[[Running], None]
) -> None:
    """The file itself is there; when it is gone as well, what it had stays in force."""
    path = tmp_path / "own.txt"
    write(path, "file.example\n", 1)
    running.server.content[URL] = "one.example\n"
    running.start(own=ListSettings(files=(str(path),)), ads=ListSettings(urls=(URL,)))
    assert len(list(kept(running).glob("*.list"))) == 2
    lose(running)
    running.server.content[URL] = "two.example\n"
    running.pump(FOUR_HOURS)
    assert running.blocks("two.example")
    assert running.blocks("file.example")
    lose(running)
    path.unlink()
    orders = len(running.compiler.orders)
    with capturedLogs() as events:
        running.pump(600)
    assert running.blocks("file.example")
    assert 5 < running.figures("own")[2] < 20
    assert len(running.compiler.orders) - orders < 30
    assert f"{path} cannot be read: No such file or directory, and has no copy" in texts(events)[0]
    write(path, "again.example\n", 3)
    running.pump(2 * refresh.CHECK_EVERY)
    assert running.blocks("again.example")


def test_a_copy_that_is_lost_before_the_start(running: Running, tmp_path: Path) -> None:
    """The set of the last stop tells whose names are in it."""
    path = tmp_path / "own.txt"
    write(path, "file.example\n", 1)
    running.server.content[URL] = "one.example\n"
    lists = {"ads": ListSettings(urls=(URL,)), "own": ListSettings(files=(str(path),))}
    running.start(**lists)
    running.stop()
    lose_copies(running)
    running.server.content.clear()
    write(path, "new.example\n", 2)
    running.start(**lists)
    running.pump(60)
    assert running.blocks("one.example")
    assert running.blocks("file.example")


def test_a_damaged_copy(running: Running, tmp_path: Path) -> None:
    """It is as good as lost."""
    path = tmp_path / "own.txt"
    write(path, "file.example\n", 1)
    running.server.content[URL] = "one.example\n"
    running.start(ads=ListSettings(urls=(URL,)), own=ListSettings(files=(str(path),)))
    (copy,) = (one for one in kept(running).glob("*.list") if "one" in one.read_text())
    copy.write_bytes(b"\0\1\2\n" * 9)
    write(path, "new.example\n", 2)
    running.pump(20)
    assert running.blocks("one.example")
    assert running.blocks("new.example")
    assert running.server.fetched[-1] == (URL, "")


def test_a_damaged_copy_that_nothing_is_in_force_of(running: Running) -> None:
    """All of it is fetched at once: that a server has nothing new is no help, nor is its age."""
    running.server.content[URL] = "one.example\n"
    running.start(ads=ListSettings(urls=(URL,)))
    (copy,) = kept(running).glob("*.list")
    copy.write_bytes(b"\0\1\2\n" * 9)
    running.server.waiting = []
    running.start(ads=ListSettings(urls=(URL,)), other=ListSettings())
    running.pump()
    assert running.server.fetched == [(URL, ""), (URL, "")]
    assert running.figures() == (0, -1, 0)
    running.server.waiting[0].callback(None)
    running.server.waiting = None
    running.pump()
    assert running.blocks("one.example")
    assert running.figures() == (1, 0, 0)
    running.server.content[URL] = "<html>\n"
    (kept(running) / "compiled.lists").unlink()
    copy.write_bytes(b"\0\1\2\n" * 9)
    running.start(ads=ListSettings(urls=(URL,)))
    running.pump(sources.LONGEST_RETRY - 1)
    assert len(running.server.fetched) == 3  # once is enough


def test_a_temporary_directory_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again, but nothing is put where somebody else has made one meanwhile."""
    path = tmp_path / "lists"
    path.mkdir()
    directory = ListDirectory(path, temporary=True)
    directory.make()
    path.rmdir()
    directory.make()
    assert path.stat().st_mode & 0o777 == 0o700
    owner = path.stat().st_uid
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: owner + 1)
        with pytest.raises(OSError, match=os.strerror(errno.EEXIST)):
            directory.make()
    path.rmdir()
    path.symlink_to(tmp_path)
    with pytest.raises(OSError, match=os.strerror(errno.EEXIST)):
        directory.make()


def test_nothing_but_comments(running: Running) -> None:
    """What a server says of a move does not take the place of names."""
    running.server.content[URL] = "one.example\n"
    running.start(ads=ListSettings(urls=(URL,)))
    running.server.content[URL] = "# moved to another place\n"
    with capturedLogs() as events:
        running.pump(FOUR_HOURS)
    assert running.blocks("one.example")
    assert running.figures() == (1, FOUR_HOURS, 1)
    assert texts(events) == [
        f"the list ads has 1 names; {URL} has no names, and its copy has: it may have moved"
    ]
    running.server.content[URL] = "two.example\n"
    running.pump(3600)
    assert running.blocks("two.example")


def test_a_file_that_was_emptied(running: Running, tmp_path: Path) -> None:
    """What it had stays in force, over a restart as well; a comment says that this is meant."""
    path = tmp_path / "own.txt"
    write(path, "file.example\n", 1)
    running.start(own=ListSettings(files=(str(path),)))
    write(path, "", 2)
    with capturedLogs() as events:
        running.pump(600)
    assert texts(events) == [
        (
            f"the list own has 1 names; {path} is empty: a line with a comment alone says that "
            "this is meant"
        )
    ]
    assert events[0]["log_level"].name == "warn"
    assert running.figures("own") == (1, 600, 1)
    running.start(own=ListSettings(files=(str(path),)))
    assert running.blocks("file.example")
    write(path, "# nothing\n", 3)
    running.pump(2 * refresh.CHECK_EVERY)
    assert running.figures("own") == (0, 0, 1)


def test_a_file_that_was_emptied_and_has_no_copy(running: Running, tmp_path: Path) -> None:
    """So does a full disk that has cost the copy before."""
    paths = [tmp_path / "own.txt", tmp_path / "empty.txt"]
    write(paths[0], "file.example\n", 1)
    write(paths[1], "", 1)
    lists = running.start(own=ListSettings(files=tuple(map(str, paths))))
    lose_copies(running)
    write(paths[0], "", 2)
    write(paths[1], " ", 2)  # it had no names
    running.pump(600)
    assert running.blocks("file.example")
    assert lists.current.number == 1
    write(paths[0], "# nothing\n", 3)
    running.pump(2 * refresh.CHECK_EVERY)
    assert not running.blocks("file.example")


def test_a_first_list_without_names(running: Running) -> None:
    """There is nothing to lose."""
    running.server.content[URL] = "# nothing yet\n"
    running.start(ads=ListSettings(urls=(URL,)))
    assert running.figures() == (0, 0, 0)


def test_a_slow_server(running: Running, tmp_path: Path) -> None:
    """It keeps nothing waiting: neither what another sends, nor files, nor what a signal asks for.
    What came is told when the slow one is done.
    """
    path = tmp_path / "own.txt"
    write(path, "file.example\n", 1)
    running.server.content = {URL: "one.example\n", OTHER: "two.example\n"}
    running.server.waiting = []
    lists = running.start(ads=ListSettings(urls=(URL, OTHER), files=(str(path),)))
    assert running.blocks("file.example")
    waiting, running.server.waiting = running.server.waiting, []
    with capturedLogs() as events:
        waiting[0].callback(None)
        running.pump()
    assert running.blocks("one.example")
    assert texts(events) == []
    write(path, "new.example\n", 2)
    with capturedLogs() as events:
        running.pump(2 * refresh.CHECK_EVERY)
    assert running.blocks("new.example")
    assert texts(events) == ["the list ads has 2 names"]
    write(path, "more.example\n", 2)
    lists.reread()
    running.pump()
    assert running.blocks("more.example")
    assert not running.blocks("two.example")
    assert (len(running.server.fetched), running.server.waiting) == (2, [])
    with capturedLogs() as events:
        waiting[1].callback(None)
        running.pump()
    assert running.blocks("two.example")
    assert texts(events) == ["the list ads has 3 names"]
    assert running.figures() == (3, 4, 0)
    running.server.waiting = None
    running.pump(FOUR_HOURS)
    assert len(running.server.fetched) == 4


def test_what_comes_while_a_set_of_the_list_is_compiled(running: Running) -> None:
    """All of it together waits for the next set."""
    urls = tuple(f"https://lists.example/{number}" for number in range(4))
    running.server.content = {url: f"n{number}.example\n" for number, url in enumerate(urls)}
    running.server.waiting = []
    running.start(ads=ListSettings(urls=urls))
    running.compiler.waiting = []
    for one in running.server.waiting:
        one.callback(None)
    assert len(running.compiler.orders) == 2  # the first was that of the start
    running.compiler.go_on()
    running.pump()
    assert (running.blocks("n0.example"), running.blocks("n1.example")) == (True, False)
    running.compiler.go_on()
    running.pump()
    assert (len(running.compiler.orders), running.compiler.waiting) == (3, [])
    assert running.figures() == (4, 0, 0)


def test_a_signal_while_a_set_is_compiled(running: Running, tmp_path: Path) -> None:
    """The file is read again when that is done."""
    path = tmp_path / "own.txt"
    write(path, "file.example\n", 1)
    lists = running.start(ads=ListSettings(files=(str(path),)))
    running.compiler.waiting = []
    write(path, "first.example\n", 2)
    lists.reread()
    running.compiler.go_on()
    write(path, "second.example\n", 2)
    lists.reread()
    running.pump()
    assert running.blocks("first.example")
    assert len(running.compiler.waiting) == 1
    running.compiler.go_on()
    running.pump()
    assert running.blocks("second.example")


def test_a_compiler_that_fails_for_long(running: Running, tmp_path: Path) -> None:
    """It is tried less and less often, but at once for a new file, or when somebody asks for it."""
    path = tmp_path / "own.txt"
    write(path, "one.example\n", 1)
    lists = running.start(ads=ListSettings(files=(str(path),)))
    running.compiler.problem = "no room"
    write(path, "two.example\n", 2)
    running.pump(5200)  # the next attempt is long after that
    orders = len(running.compiler.orders)
    assert orders < 20
    write(path, "three.example\n", 3)
    running.pump(2 * refresh.CHECK_EVERY)
    assert len(running.compiler.orders) == orders + 1
    running.pump(600)
    assert len(running.compiler.orders) == orders + 1
    running.compiler.problem = ""
    lists.reread()
    running.pump()
    assert running.blocks("three.example")


@pytest.mark.parametrize("sent", [None, "<html>\n"])
def test_a_signal_after_a_url_has_failed(running: Running, sent: str | None) -> None:
    """It is fetched again at once, and what has not failed is not."""
    running.server.content = {OTHER: "two.example\n"} | ({} if sent is None else {URL: sent})
    lists = running.start(ads=ListSettings(urls=(URL, OTHER)))
    running.pump(2000)
    running.server.content[URL] = "one.example\n"
    before = len(running.server.fetched)
    lists.reread()
    running.pump()
    assert running.blocks("one.example")
    assert running.server.fetched[before:] == [(URL, "")]
    lists.reread()
    running.pump(10)
    assert len(running.server.fetched) == before + 1


@pytest.mark.parametrize("sent", [None, "<html>\n"])
def test_a_signal_every_second(running: Running, sent: str | None) -> None:
    """A server is asked as often as after a first failure, no more."""
    if sent is not None:
        running.server.content[URL] = sent
    lists = running.start(ads=ListSettings(urls=(URL,)))
    for _ in range(100):
        running.pump(1)
        lists.reread()
    running.pump()
    assert len(running.server.fetched) == 1 + 100 / sources.FIRST_RETRY
    running.server.waiting = []
    running.pump(sources.FIRST_RETRY)
    lists.reread()
    running.pump(100)
    lists.reread()  # it is under way
    running.pump(100)
    assert len(running.server.waiting) == 1


def test_several_that_wait_for_a_set_that_fails(running: Running) -> None:
    """It is one failure to wait for, and nothing is lost by it."""
    running.server.content = {URL: "one.example\n", OTHER: "two.example\n"}
    running.server.waiting = []
    running.start(ads=ListSettings(urls=(URL, OTHER)))
    running.compiler.problem = "no room"
    waiting, running.server.waiting = running.server.waiting, None
    for one in waiting:
        one.callback(None)
    running.compiler.problem = ""
    running.pump(5)
    assert running.blocks("one.example")
    assert running.blocks("two.example")


def test_a_file_whose_mode_has_changed(running: Running, tmp_path: Path) -> None:
    """It is read again: now it may be allowed. Its time and size stay as they are."""
    path = tmp_path / "own.txt"
    write(path, "one.example\n", 1)
    running.start(ads=ListSettings(files=(str(path),)))
    running.pump(2 * refresh.CHECK_EVERY)
    before = len(running.compiler.orders)
    path.chmod(0o640)
    running.pump(2 * refresh.CHECK_EVERY)
    assert len(running.compiler.orders) == before + 1
