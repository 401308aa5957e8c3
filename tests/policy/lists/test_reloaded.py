"""Lists of another configuration, which take the place of those in force while the program runs."""

from __future__ import annotations

import gc
import tempfile
import weakref
from typing import TYPE_CHECKING

import pytest
from twisted.logger import capturedLogs

from staggerdns.policy.lists import refresh, sources
from staggerdns.policy.lists.lists import MAX_FETCHES
from staggerdns.settings.policy import ListSettings
from staggerdns.wire.names import from_text
from tests.kit.runninglists import Running, texts, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "https://lists.example/a"
OTHER = "https://lists.example/b"
FOUR_HOURS = 4 * 3600
ADS = ListSettings(urls=(URL,))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Return a place for lists with two on its server; they are stopped in the end."""
    made = Running(tmp_path)
    made.server.content = {URL: "ads.example\n", OTHER: "other.example\n"}
    yield made
    made.stop()


def own(*names: str) -> ListSettings:
    """Return a list of names of the configuration."""
    return ListSettings(domains=tuple(map(from_text, names)))


def kept(running: Running, directory: str = "state") -> set[str]:
    """Return what is in the copies, and which sets there are."""
    paths = list((running.directory / directory / "lists").iterdir())
    return {path.read_text() for path in paths if path.suffix == ".list"} | {
        path.name for path in paths if path.suffix not in (".list", ".note")
    }


def test_one_that_is_added(running: Running) -> None:
    """The old set counts until the new one takes over, in which each name has the list that it is
    in, wherever that stands; what has not changed is not fetched again.
    """
    lists = running.start(ads=ADS)
    running.pump(3600)
    running.compiler.waiting = []
    following, problems = running.prepare(own=own("own.example"), ads=ADS)
    assert problems == []
    assert running.listed("ads.example") == ["ads"]
    running.compiler.go_on()
    running.pump()
    assert problems == [""]
    assert lists.current.number < following.current.number
    assert (running.listed("ads.example"), running.listed("own.example")) == (["ads"], [])
    assert "own" not in {name for (name,) in running.metrics.list_names.values()}
    with capturedLogs() as events:
        running.take_over(following)
    assert (running.listed("ads.example"), running.listed("own.example")) == (["ads"], ["own"])
    assert texts(events) == ["the list own has 1 names"]
    assert running.numbers == [1, 2]
    assert running.figures("ads") == (1, 3600, 0)
    assert running.figures("own") == (1, 0, 0)
    running.pump(3 * 3600 - 1)
    assert running.server.fetched == [(URL, "")]
    running.pump(1)
    assert running.server.fetched[1:] == [(URL, '"ads.example\n"')]
    assert kept(running) == {"ads.example\n", "compiled.lists"}
    orders = len(running.compiler.orders)
    running.start(own=own("own.example"), ads=ADS)
    assert len(running.compiler.orders) == orders  # the set of the last stop was this one


def test_one_that_is_fetched_for_the_first_time(running: Running) -> None:
    """It comes when its server has sent it, as after a start; one line is told."""
    running.start(ads=ADS)
    running.server.waiting = []
    with capturedLogs() as events:
        running.reload(ads=ADS, more=ListSettings(urls=(OTHER,)))
        assert running.listed("ads.example") == ["ads"]
        running.server.waiting[0].callback(None)
        running.pump()
    assert running.listed("other.example") == ["more"]
    assert texts(events) == ["the list more has 1 names"]
    assert running.server.fetched == [(URL, ""), (OTHER, "")]


def test_one_that_is_taken_away(running: Running) -> None:
    """Its names are free, its figures are gone, and so is its copy when the others are in force."""
    running.start(ads=ADS, more=ListSettings(urls=(OTHER,)))
    running.metrics.blocked.cell("more", "default").value += 1
    failures = running.metrics.list_failures.cell("ads")
    following, _ = running.prepare(ads=ADS)
    assert "other.example\n" in kept(running)
    running.take_over(following)
    assert kept(running) == {"ads.example\n", "compiled.lists"}
    assert (running.listed("ads.example"), running.listed("other.example")) == (["ads"], [])
    for family in ("list_names", "list_refreshed", "list_failures"):
        assert set(getattr(running.metrics, family).values()) == {("ads",)}
    assert running.metrics.blocked.values() == {}
    assert running.metrics.list_failures.cell("ads") is failures


def test_another_order(running: Running) -> None:
    """Nothing but numbers changes."""
    more = ListSettings(urls=(OTHER,))
    running.start(ads=ADS, more=more)
    with capturedLogs() as events:
        running.reload(more=more, ads=ADS)
    assert (running.listed("ads.example"), running.listed("other.example")) == (["ads"], ["more"])
    assert texts(events) == []
    running.server.content[URL] = "new.example\n"
    running.pump(FOUR_HOURS)
    assert (running.listed("new.example"), running.listed("other.example")) == (["ads"], ["more"])
    assert len(running.server.fetched) == 4


def test_what_needs_no_other_set(running: Running) -> None:
    """Another answer, or another time to refresh: the set is used as it is."""
    lists = running.start(ads=ADS)
    running.pump(1800)
    orders = len(running.compiler.orders)
    following = running.reload(ads=ListSettings(urls=(URL,), refresh=3600, answer="nxdomain"))
    assert following.current is lists.current
    assert len(running.compiler.orders) == orders
    assert running.figures() == (1, 1800, 0)
    running.pump(1799)
    assert len(running.server.fetched) == 1
    running.pump(1)
    assert running.server.fetched[1:] == [(URL, '"ads.example\n"')]


def test_another_name(running: Running) -> None:
    """What the list had goes on under it: it blocks at once, and is fetched when it is due."""
    running.start(ads=ADS)
    running.pump(3600)
    running.reload(adverts=ADS, second=ADS)
    assert running.listed("ads.example") == ["adverts", "second"]
    assert running.figures("adverts") == running.figures("second") == (1, 3600, 0)
    assert len(running.server.fetched) == 1
    running.start(adverts=ADS, second=ADS)
    running.pump(3 * 3600)
    assert running.server.fetched[1:] == [(URL, '"ads.example\n"')] * 2


@pytest.mark.parametrize("temporary", [False, True])
def test_another_directory(running: Running, *, temporary: bool) -> None:
    """Copies and what is known of them are in the new one; a temporary one is removed."""
    before = running.reload(None if temporary else "state", ads=ADS)
    running.pump(60)
    running.prepare("new", ads=ADS, own=own("own.example"))[0].abandon()
    assert kept(running, "new") == set()
    running.reload("new", ads=ADS)
    assert before.directory is not None
    assert before.directory.path.exists() is not temporary
    assert kept(running, "new") == {"ads.example\n", "compiled.lists"}
    assert running.listed("ads.example") == ["ads"]
    running.pump(FOUR_HOURS - 60)
    assert running.server.fetched == [(URL, ""), (URL, '"ads.example\n"')]


def test_a_temporary_directory(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is handed over, and removed in the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for count in range(3):
        running.reload(None, ads=ADS, **{f"own{count}": own("own.example")})
        assert running.listed("ads.example") == ["ads"]
        assert len(list(tmp_path.iterdir())) == 1
    following, _ = running.prepare("new", ads=ADS)
    following.abandon()
    running.pump(FOUR_HOURS)
    assert running.server.fetched == [(URL, ""), (URL, '"ads.example\n"')]
    running.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_no_directory(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written the lists stay as they are."""
    running.start(ads=ADS)
    (running.directory / "new").write_text("a file")

    def fails(**_: object) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", fails)
    _, problems = running.prepare("new", ads=ADS)
    said = "lists: no directory can be written: Read-only file system"
    assert problems == [f"CompileProblem: {said}"]
    assert running.listed("ads.example") == ["ads"]


def test_a_set_that_cannot_be_compiled(running: Running) -> None:
    """The problem is one line; the old lists go on with all that they had to do."""
    lists = running.start(ads=ADS)
    running.pump(3600)
    before = kept(running)
    running.compiler.problem = "no memory"
    _, problems = running.prepare(ads=ADS, own=own("own.example"))
    assert problems == ["CompileProblem: lists (ads, own) cannot be compiled: no memory"]
    running.compiler.problem = ""
    assert running.listed("ads.example") == ["ads"]
    assert kept(running) == before
    assert set(running.metrics.list_failures.values()) == {("ads",)}
    running.server.content[URL] = "new.example\n"
    running.pump(3 * 3600)
    assert running.listed("new.example") == ["ads"]
    assert running.lists is lists
    running.reload(ads=ADS, own=own("own.example"))
    assert running.listed("own.example") == ["own"]


def test_a_set_that_is_damaged(running: Running) -> None:
    """It does not take over."""
    running.start(ads=ADS)
    running.compiler.waiting = []
    following, problems = running.prepare(own=own("own.example"))
    path = running.directory / "state" / "lists" / "prepared.lists"
    assert running.compiler.orders[-1].target == str(path)
    running.compiler.go_on(damaged=True)
    running.pump()
    assert problems == ["CompileProblem: lists (own) cannot be compiled: its checksum is wrong"]
    assert not path.exists()
    following.abandon()  # once more changes nothing
    assert running.listed("ads.example") == ["ads"]


def test_a_lost_copy(running: Running) -> None:
    """Nothing is unblocked: the reload fails, what was lost is fetched, and the next one works."""
    running.start(ads=ADS)
    for copy in (running.directory / "state" / "lists").glob("*.list"):
        copy.unlink()
    _, problems = running.prepare(own=own("own.example"), ads=ADS)
    assert problems == [f"CompileProblem: lists.ads: {URL} has no copy any more"]
    assert running.listed("ads.example") == ["ads"]
    assert running.server.fetched == [(URL, ""), (URL, "")]
    running.reload(own=own("own.example"), ads=ADS)
    assert running.listed("ads.example") == ["ads"]


def test_a_lost_copy_of_a_file(running: Running, tmp_path: Path) -> None:
    """The file is read in its place, and has a copy again later."""
    path = tmp_path / "file.txt"
    write(path, "file.example\n", 1)
    settings = ListSettings(files=(str(path),))
    running.start(file=settings)
    for copy in (running.directory / "state" / "lists").glob("*.list"):
        copy.unlink()
    running.reload(file=settings, own=own("own.example"))
    assert running.listed("file.example") == ["file"]
    running.reload(file=settings)
    write(path, "new.example\n", 2)
    running.pump(2 * refresh.CHECK_EVERY)
    assert kept(running) == {"new.example\n", "compiled.lists"}
    assert running.listed("new.example") == ["file"]


def test_files(running: Running, tmp_path: Path) -> None:
    """A new one is read; one that was there counts as it was, until a look finds it changed. One
    that cannot be read is told.
    """
    paths = [tmp_path / name for name in ("old.txt", "new.txt", "missing.txt")]
    write(paths[0], "old.example\n", 1)
    write(paths[1], "new.example\n", 1)
    running.start(file=ListSettings(files=(str(paths[0]),)))
    write(paths[0], "changed.example\n", 2)
    with capturedLogs() as events:
        running.reload(file=ListSettings(files=tuple(map(str, paths))))
    assert [running.blocks(f"{name}.example") for name in ("old", "new", "changed")] == [1, 1, 0]
    assert texts(events) == [
        f"the list file has 2 names; {paths[2]} cannot be read: No such file or directory"
    ]
    assert running.figures("file") == (2, -1, 1)
    running.pump(2 * refresh.CHECK_EVERY)
    assert [running.blocks(f"{name}.example") for name in ("old", "new", "changed")] == [0, 1, 1]
    write(paths[2], "missing.example\n", 3)
    running.pump(2 * refresh.CHECK_EVERY)
    assert running.listed("missing.example") == ["file"]
    assert running.figures("file") == (3, 0, 2)


def test_what_is_under_way_goes_on(running: Running) -> None:
    """A fetch of a list that has not changed is not begun again, and what it has waits for a set
    while another is prepared.
    """
    running.start(ads=ADS)
    running.server.content[URL] = "new.example\n"
    running.server.waiting = []
    running.pump(FOUR_HOURS)
    running.compiler.waiting = []
    following, problems = running.prepare(ads=ADS, own=own("own.example"))
    waiting, running.server.waiting = running.server.waiting, None
    waiting[0].callback(None)
    running.pump()
    assert len(running.compiler.waiting) == 1
    running.compiler.go_on()
    running.pump()
    assert problems == [""]
    assert (running.listed("ads.example"), running.listed("new.example")) == (["ads"], [])
    running.take_over(following)
    assert (running.listed("ads.example"), running.listed("own.example")) == (["ads"], ["own"])
    running.compiler.go_on()
    running.pump()
    assert (running.listed("ads.example"), running.listed("new.example")) == ([], ["ads"])
    assert len(running.server.fetched) == 2
    assert running.figures() == (1, 0, 0)


@pytest.mark.parametrize("early", [False, True])
def test_what_waits_when_it_is_abandoned(running: Running, *, early: bool) -> None:
    """It goes on; so do the timers of what has failed."""
    running.start(ads=ADS, bad=ListSettings(urls=("https://lists.example/none",)))
    running.server.content[URL] = "new.example\n"
    running.pump(FOUR_HOURS - 1)
    fetched = len(running.server.fetched)
    running.compiler.waiting = []
    following, problems = running.prepare(own=own("own.example"))
    running.pump(1)
    assert running.server.fetched[fetched:] == [(URL, '"ads.example\n"')]
    if early:
        following.abandon()
        running.compiler.waiting.pop(0)  # nobody waits for it
        assert problems == ["CancelledError: "]
    else:
        running.compiler.go_on()
        running.pump()
        assert problems == [""]
        following.stop()
    running.pump()
    assert running.listed("ads.example") == ["ads"]
    assert len(running.compiler.waiting) == 1
    running.compiler.go_on()
    running.pump()
    assert running.listed("new.example") == ["ads"]
    assert running.figures("bad")[2] == running.metrics.list_failures.cell("bad").value > 5
    assert kept(running) == {"new.example\n", "compiled.lists"}
    running.pump(sources.LONGEST_RETRY)
    assert running.server.fetched[-1] == ("https://lists.example/none", "")
    assert set(running.metrics.list_names.values()) == {("ads",), ("bad",)}


def test_a_set_that_is_being_compiled(running: Running) -> None:
    """It comes in force first; nothing of it is lost."""
    running.start(ads=ADS)
    running.server.content[URL] = "new.example\n"
    running.compiler.waiting = []
    running.pump(FOUR_HOURS)
    following, _ = running.prepare(ads=ADS, own=own("own.example"))
    assert len(running.compiler.orders) == 2
    running.compiler.go_on()
    running.pump()
    assert running.listed("new.example") == ["ads"]
    assert len(running.compiler.orders) == 3
    running.compiler.go_on()
    running.pump()
    running.take_over(following)
    assert (running.listed("new.example"), running.listed("own.example")) == (["ads"], ["own"])


@pytest.mark.parametrize("moment", ["starting", "compiling", "preparing", "prepared"])
@pytest.mark.parametrize("stopped", ["both", "old", "new"])
def test_a_stop_in_the_midst(running: Running, moment: str, stopped: str) -> None:
    """Everything is given up, whoever is stopped first, and nothing is left but what the set of a
    stop consists of.
    """
    running.compiler.waiting = []
    lists = running.start(ads=own("ads.example"))
    if moment != "starting":
        running.compiler.go_on()
        running.pump()
    if moment == "compiling":
        lists.reread()
        lists.compile().addErrback(lambda _: None)
    following, problems = running.prepare(own=own("own.example"))
    if moment == "prepared":
        running.compiler.go_on()
        running.pump()
    assert problems == ([""] if moment == "prepared" else [])
    if stopped == "both":
        following.stop()
    if stopped == "new":
        following.abandon()
        running.compiler.waiting = None
        running.pump()
        assert running.blocks("ads.example") is (moment != "starting")
    running.stop()
    assert problems == ([""] if moment == "prepared" else ["CancelledError: "])
    assert kept(running) <= {"compiled.lists"}


def test_a_prepare_that_is_cancelled(running: Running) -> None:
    """The old lists go on."""
    running.start(ads=ADS)
    running.compiler.waiting = []
    following = running.make({"own": own("own.example")}, running.lists)
    prepared = following.prepare()
    prepared.addErrback(lambda _: None)
    prepared.cancel()
    running.compiler.waiting = None
    running.server.content[URL] = "new.example\n"
    running.pump(FOUR_HOURS)
    assert running.listed("new.example") == ["ads"]


def test_none_before(running: Running) -> None:
    """They come in force as at a start, with what is here; a set of an earlier time is used."""
    with capturedLogs() as events:
        running.reload(ads=ListSettings(urls=(URL,), domains=(from_text("own.example"),)))
    assert (running.listed("own.example"), running.listed("ads.example")) == (["ads"], ["ads"])
    assert texts(events) == ["the list ads has 2 names"]
    number = running.lists.current.number if running.lists else 0
    orders = len(running.compiler.orders)
    running.stop()
    assert running.metrics.list_names.values() == {}
    again = running.reload(ads=ListSettings(urls=(URL,), domains=(from_text("own.example"),)))
    assert again.current.number > number
    assert len(running.compiler.orders) == orders
    assert running.listed("ads.example") == ["ads"]


def test_none_before_and_given_up(running: Running) -> None:
    """Nothing is left but the directory."""
    running.compiler.problem = "no memory"
    _, problems = running.prepare(own=own("own.example"))
    assert problems == ["CompileProblem: lists (own) cannot be compiled: no memory"]
    running.compiler.problem = ""
    following, problems = running.prepare(own=own("own.example"))
    assert problems == [""]
    following.stop()
    assert kept(running) == set()
    assert running.clock.getDelayedCalls() == []


def test_after_lists_that_had_no_directory(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one by now."""
    (running.directory / "state").write_text("a file")

    def fails(**_: object) -> str:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", fails)
        running.start(ads=ADS)
    (running.directory / "state").unlink()
    running.reload(ads=ADS)
    assert running.listed("ads.example") == ["ads"]


def test_nothing_holds_the_old_ones(running: Running, tmp_path: Path) -> None:
    """However often there are others, those before them are gone, and so is their set."""
    path = tmp_path / "file.txt"
    write(path, "file.example\n", 1)
    settings = {"ads": ADS, "file": ListSettings(files=(str(path),))}
    old = [weakref.ref(running.start(**settings))]
    for names in ("own", "more"), ("own",), ("more", "own"):
        old.append(
            weakref.ref(
                running.reload("state", **{name: own("x.example") for name in names}, **settings)
            )
        )
        running.prepare()[0].abandon()
    gc.collect()
    assert [one() for one in old[:-1]] == [None] * 3
    assert old[-1]() is running.lists


def test_fetches_at_once(running: Running) -> None:
    """As many lists as ever are fetched at the same time, old and new ones together."""
    urls = tuple(f"https://lists.example/{number}" for number in range(2 * MAX_FETCHES))
    running.server.waiting = []
    running.start(ads=ListSettings(urls=urls[:MAX_FETCHES]))
    running.reload(
        ads=ListSettings(urls=urls[:MAX_FETCHES]), more=ListSettings(urls=urls[MAX_FETCHES:])
    )
    assert len(running.server.fetched) == MAX_FETCHES
    running.server.waiting[0].callback(None)
    assert len(running.server.fetched) == MAX_FETCHES + 1


def test_a_url_that_has_failed(running: Running) -> None:
    """A reload does not ask its server sooner, nor forget how often that has been in vain."""
    bad = "https://lists.example/none"
    running.start(ads=ListSettings(urls=(bad,)))
    running.pump(5 + 10 + 20)
    assert len(running.server.fetched) == 4
    running.reload(ads=ListSettings(urls=(bad, OTHER)))
    assert running.server.fetched[4:] == [(OTHER, "")]
    running.pump(39)
    assert len(running.server.fetched) == 5
    running.pump(1)
    assert running.server.fetched[5:] == [(bad, "")]
    running.pump(79)
    assert len(running.server.fetched) == 6
