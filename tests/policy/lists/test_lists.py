"""Lists in operation: what is in force when, what is tried again, and what is told of it."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest
from twisted.logger import capturedLogs

from staggerdns.policy.lists import refresh, sources
from staggerdns.policy.lists.lists import MAX_FETCHES
from staggerdns.settings.policy import ListSettings
from staggerdns.wire.names import from_text
from tests.kit.runninglists import Running, damage, texts, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "https://lists.example/a"
OTHER = "https://lists.example/b"
FOUR_HOURS = 4 * 3600


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Return a place for lists; they are stopped in the end."""
    made = Running(tmp_path)
    yield made
    made.stop()


def test_the_first_start(running: Running) -> None:
    """There is nothing at once, then what is here, then what servers have; one line is told."""
    running.server.content[URL] = "fetched.example\n/bad/\n*bad*\nother.example\n"
    running.server.waiting = []
    with capturedLogs() as events:
        lists = running.start(ads=ListSettings(urls=(URL,), domains=(from_text("own.example"),)))
        assert running.blocks("x.own.example")
        assert not running.blocks("fetched.example")
        assert running.figures() == (1, -1, 0)
        running.pump(1)
        running.server.waiting[0].callback(None)
        running.pump()
    assert running.blocks("fetched.example")
    assert running.figures() == (3, 0, 0)
    assert texts(events) == [
        f"the list ads has 3 names; 2 lines of {URL} are not understood, the first is 2: '/bad/'"
    ]
    assert running.numbers == [1, 2] == [*range(1, lists.current.number + 1)]


def test_without_a_network(running: Running) -> None:
    """Failures are counted and told, and tried again, later each time; then it blocks."""
    with capturedLogs() as events:
        running.start(ads=ListSettings(urls=(URL,)))
    assert texts(events) == [
        f"the list ads has 0 names; {URL} cannot be had: the server answered 404"
    ]
    assert events[0]["log_level"].name == "warn"
    waited = 0.0
    for count, wait in enumerate((5, 10, 20, 40, 80), 1):
        assert running.figures()[2] == count
        running.pump(wait - 0.1)
        assert running.figures()[2] == count
        running.pump(0.1)
        waited += wait
    running.server.content[URL] = "late.example\n"
    running.pump(160)
    assert running.blocks("late.example")
    assert running.figures() == (1, 0, 6)


def test_the_longest_wait(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows to an hour, or to the time of a refresh."""
    running.start(ads=ListSettings(urls=(URL,)), often=ListSettings(urls=(OTHER,), refresh=60))
    running.pump(24 * 3600)
    before = len(running.server.fetched)
    running.pump(sources.LONGEST_RETRY)
    urls = [url for url, _ in running.server.fetched[before:]]
    assert (urls.count(URL), urls.count(OTHER)) == (1, 60)


def test_a_refresh(running: Running) -> None:
    """Servers are asked every so often; what is the same makes no new set."""
    running.server.content[URL] = "one.example\n"
    lists = running.start(ads=ListSettings(urls=(URL,)))
    number = lists.current.number
    running.pump(FOUR_HOURS - 1)
    assert running.figures() == (1, FOUR_HOURS - 1, 0)
    with capturedLogs() as events:
        running.pump(1)
    assert running.figures() == (1, 0, 0)
    assert (lists.current.number, texts(events)) == (number, ["the list ads has 1 names"])
    running.server.content[URL] = "two.example\n"
    running.pump(FOUR_HOURS)
    assert lists.current.number == number + 1
    assert (running.blocks("one.example"), running.blocks("two.example")) == (False, True)
    assert running.server.fetched == [(URL, ""), (URL, '"one.example\n"'), (URL, '"one.example\n"')]


def test_a_page_is_not_fetched_all_the_time(running: Running) -> None:
    """A server that sends no list has an hour to think better of it."""
    running.server.content[URL] = "<html>\n"
    running.start(ads=ListSettings(urls=(URL,)))
    running.pump(sources.LONGEST_RETRY - 1)
    assert len(running.server.fetched) == 1
    running.pump(1)
    assert len(running.server.fetched) == 2


@pytest.mark.parametrize("bad", [None, "<html>\n<body>\nBad gateway\n", "\0\1\2\n" * 9])
def test_the_last_good_copy(running: Running, bad: str | None) -> None:
    """It stays in force when a server has none, or sends a page; over restarts, too."""
    running.server.content[URL] = "good.example\n"
    settings = ListSettings(urls=(URL,))
    running.start(ads=settings)
    if bad is None:
        del running.server.content[URL]
    else:
        running.server.content[URL] = bad
    running.pump(FOUR_HOURS)
    assert running.blocks("good.example")
    assert running.figures() == (1, FOUR_HOURS, 1)
    running.start(ads=settings)
    assert running.blocks("good.example")
    running.server.content[URL] = "good.example\n"
    running.pump(60)
    assert running.server.fetched[-1] == (URL, '"good.example\n"')
    assert running.figures()[0] == 1


def test_a_restart(running: Running) -> None:
    """The set is in force as it was, and servers are asked when they would have been."""
    running.server.content[URL] = "good.example\n"
    settings = ListSettings(urls=(URL,))
    running.start(ads=settings)
    running.pump(3600)
    compiled = len(running.compiler.orders)
    with capturedLogs() as events:
        lists = running.start(ads=settings)
    assert texts(events) == ["lists as they were at the last stop: ads: 1"]
    assert running.blocks("good.example")
    assert lists.current.number == 1
    assert running.figures() == (1, 3600, 0)
    running.pump(3 * 3600 - 1)
    assert len(running.server.fetched) == 1
    running.pump(1)
    assert len(running.server.fetched) == 2
    assert len(running.compiler.orders) == compiled


def test_another_configuration(running: Running) -> None:
    """A set of other lists is not taken; the copies are."""
    running.server.content[URL] = "good.example\n"
    running.start(ads=ListSettings(urls=(URL,)))
    running.server.content.clear()
    running.start(first=ListSettings(), ads=ListSettings(urls=(URL,)))
    assert running.figures("ads")[0] == 1
    assert running.figures("first")[0] == 0
    assert running.blocks("good.example")


def test_what_belongs_to_nobody(running: Running) -> None:
    """Copies of sources that are no longer configured are removed; nothing of others is."""
    running.server.content[URL] = "good.example\n"
    running.start(ads=ListSettings(urls=(URL,)))
    directory = running.directory / "state" / "lists"
    (directory / "notes.txt").write_text("")
    (directory / "prepared.lists").write_text("left by a reload that was killed")
    assert len(list(directory.iterdir())) == 5
    running.start(ads=ListSettings())
    assert {path.name for path in directory.iterdir()} == {"compiled.lists", "notes.txt"}


def test_a_damaged_set(running: Running) -> None:
    """It is told of, and compiled anew."""
    running.server.content[URL] = "good.example\n"
    settings = ListSettings(urls=(URL,))
    running.start(ads=settings)
    path = running.directory / "state" / "lists" / "compiled.lists"
    damage(path)
    with capturedLogs() as events:
        running.start(ads=settings)
    assert f"in {path} cannot be used: its checksum is wrong" in texts(events)[0]
    assert running.blocks("good.example")


def test_files(running: Running, tmp_path: Path) -> None:
    """They are read again when they have changed and are whole; a bad one changes nothing."""
    path = tmp_path / "ads.txt"
    write(path, "one.example\n", 1)
    lists = running.start(ads=ListSettings(files=(str(path),)))
    assert running.blocks("one.example")
    write(path, "two.example\n", 2)
    running.pump(refresh.CHECK_EVERY)
    write(path, "two.example\nthree.example\n", 3)
    running.pump(refresh.CHECK_EVERY)
    assert running.blocks("one.example")  # it was being written
    running.pump(refresh.CHECK_EVERY)
    assert running.blocks("three.example")
    assert not running.blocks("one.example")
    number = lists.current.number
    write(path, "<html>\n", 4)
    with capturedLogs() as events:
        running.pump(10 * refresh.CHECK_EVERY)
    assert len(events) == 1
    assert "of 1 lines 1 are not understood, the first is 1: '<html>'" in texts(events)[0]
    assert running.blocks("three.example")
    path.unlink()
    with capturedLogs() as events:
        running.pump(10 * refresh.CHECK_EVERY)
    assert texts(events) == [
        f"the list ads has 2 names; {path} cannot be read: No such file or directory"
    ]
    assert running.figures()[2] == 2
    write(path, "four.example\n", 5)
    running.pump(2 * refresh.CHECK_EVERY)
    assert running.blocks("four.example")
    assert lists.current.number > number


def test_a_file_on_demand(running: Running, tmp_path: Path) -> None:
    """A signal has it read again at once, whatever its time says."""
    path = tmp_path / "ads.txt"
    write(path, "one.example\n", 1)
    lists = running.start(ads=ListSettings(files=(str(path),)))
    write(path, "two.example\n", 1)
    lists.reread()
    running.pump()
    assert running.blocks("two.example")


def test_what_comes_while_a_set_is_compiled(running: Running) -> None:
    """It goes into the next set, together with all else that waits."""
    running.compiler.waiting = []
    running.server.content = {URL: "a.example\n", OTHER: "b.example\n"}
    running.server.waiting = []
    names = ("a", "b", "c")
    settings = [ListSettings(urls=(URL,)), ListSettings(urls=(OTHER,)), ListSettings()]
    lists = running.start(**dict(zip(names, settings, strict=True)))
    assert len(running.compiler.orders) == 1
    running.compiler.go_on()
    running.pump()
    waiting, running.server.waiting = running.server.waiting, None
    waiting[0].callback(None)
    assert len(running.compiler.orders) == 2
    waiting[1].callback(None)
    running.pump()
    assert len(running.compiler.orders) == 2
    running.compiler.go_on()
    running.pump()
    assert (running.blocks("a.example"), running.blocks("b.example")) == (True, False)
    assert len(running.compiler.orders) == 3
    running.compiler.go_on()
    running.pump()
    assert running.blocks("b.example")
    assert lists.current.number == 3
    assert [running.figures(name)[2] for name in names] == [0, 0, 0]


def test_sources_in_two_lists(running: Running, tmp_path: Path) -> None:
    """Each list fetches and reads for itself, and keeps copies of its own."""
    path = tmp_path / "common.txt"
    write(path, "file.example\n", 1)
    running.server.content[URL] = "one.example\n"
    common = ListSettings(urls=(URL,), files=(str(path),))
    with capturedLogs() as events:
        running.start(first=common, second=common)
    assert sorted(texts(events)) == ["the list first has 2 names", "the list second has 2 names"]
    copies = sorted((running.directory / "state" / "lists").glob("*.list"))
    assert len(copies) == 4
    running.server.content[URL] = "one.example\ntwo.example\n"
    running.server.waiting = []
    running.pump(FOUR_HOURS)
    waiting, running.server.waiting = running.server.waiting, None
    waiting[0].callback(None)  # the other one is still under way
    running.pump()
    assert (running.figures("first"), running.figures("second")[0]) == ((3, 0, 0), 2)
    running.server.content[URL] = "three.example\n"
    waiting[1].callback(None)
    running.pump()
    assert [running.figures(name)[0] for name in ("first", "second")] == [3, 2]
    texts_of = {copy.read_text() for copy in copies}
    assert texts_of == {"file.example\n", "one.example\ntwo.example\n", "three.example\n"}
    running.pump(FOUR_HOURS)
    assert [running.figures(name) for name in ("first", "second")] == [(2, 0, 0)] * 2


def test_fetches_at_once(running: Running) -> None:
    """So many lists are fetched at the same time."""
    urls = tuple(f"https://lists.example/{number}" for number in range(MAX_FETCHES + 2))
    running.server.content = dict.fromkeys(urls, "a.example\n")
    running.server.waiting = []
    running.start(ads=ListSettings(urls=urls))
    assert len(running.server.waiting) == MAX_FETCHES
    running.server.waiting[0].callback(None)
    assert len(running.server.waiting) == MAX_FETCHES + 1


def test_a_compiler_that_fails(running: Running) -> None:
    """The old set stays, the failure is told and counted, and it is tried again."""
    running.server.content[URL] = "one.example\n"
    running.start(ads=ListSettings(urls=(URL,)))
    running.server.content[URL] = "two.example\n"
    running.compiler.problem = "no memory"
    with capturedLogs() as events:
        running.pump(FOUR_HOURS)
    assert texts(events)[0].endswith("the set of all lists could not be compiled: no memory")
    assert running.blocks("one.example")
    assert running.figures()[2] == 1
    running.compiler.problem = ""
    running.pump(60)
    assert running.blocks("two.example")
    assert not running.blocks("one.example")


def test_a_stop_in_the_midst(running: Running) -> None:
    """Whatever is under way is given up, without a line in the log."""
    running.server.content[URL] = "one.example\n"
    running.server.waiting = []
    running.compiler.waiting = []
    with capturedLogs() as events:
        running.start(ads=ListSettings(urls=(URL,)))
        running.stop()
        running.compiler.waiting = None
        running.start(ads=ListSettings(urls=(URL,)))
        running.stop()
    assert texts(events) == []


def test_nothing_is_written_before_the_start(running: Running) -> None:
    """Whoever makes lists may have privileges that it gives up before."""
    lists = running.make({"ads": ListSettings(urls=(URL,))})
    assert not (running.directory / "state").exists()
    lists.reread()
    lists.stop()
    assert running.directory.exists()


def test_no_directory_at_all(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written there are no lists, and a line in the log."""
    (running.directory / "state").write_text("a file")

    def fails(**_: object) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", fails)
    running.server.content[URL] = "one.example\n"
    with capturedLogs() as events:
        running.start(ads=ListSettings(urls=(URL,)))
        running.pump(60)
        running.stop()
    said = "there are no lists: no directory can be written: Read-only file system"
    assert texts(events)[1:] == [said]
    assert running.directory.exists()


def test_no_directory(tmp_path: Path) -> None:
    """Without one that can be written, a temporary one serves until the stop."""
    (tmp_path / "state").write_text("a file")
    running = Running(tmp_path)
    running.server.content[URL] = "one.example\n"
    with capturedLogs() as events:
        running.start(ads=ListSettings(urls=(URL,)))
    assert "no copies of lists are kept: " in texts(events)[0]
    assert running.blocks("one.example")
    target = running.compiler.orders[0].target
    assert os.path.exists(target)  # noqa: PTH110
    running.stop()
    assert not os.path.exists(os.path.dirname(target))  # noqa: PTH110, PTH120
