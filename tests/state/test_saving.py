"""When the state is saved, and what becomes of it where that cannot be done."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from twisted.logger import capturedLogs, formatEvent

from staggerdns.settings.section import default_of
from staggerdns.settings.sections import StateSettings
from staggerdns.state.directory import NAME, Occupied, StateDirectory, find_directory
from staggerdns.state.file import Unusable
from staggerdns.state.state import OCCUPIED_PATIENCE, OCCUPIED_RETRY, STOP_TIME
from tests.kit.ranked import asks, pool
from tests.kit.saved import NOON, SavedRun, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.logger import LogEvent

WWW = asks()
INTERVAL = 300.0


def begun(directory: Path, **options: object) -> SavedRun:
    """A run that has one answer."""
    run = SavedRun(directory, World(), **options)  # type: ignore[arg-type]
    run.start()
    run.cache.commit(WWW.key, 1, pool(10, ttl=86_400), run.clock.seconds())
    run.cache.complete(WWW.key, 1, 300, 300)
    return run


def lines(events: Sequence[LogEvent]) -> list[str]:
    """What the log says."""
    return [formatEvent(event) or "" for event in events]


def test_every_interval(tmp_path: Path) -> None:
    """And not before; the metrics tell when, how long it took, and how much that is."""
    run = begun(tmp_path)
    path = tmp_path / NAME
    run.pass_time(INTERVAL - 1, steps=299)
    assert not path.exists()
    assert run.numbers()["staggerdns_state_save_timestamp_seconds"] == 0
    run.pass_time(2, steps=20)
    assert path.exists()
    shown = run.numbers()
    assert shown["staggerdns_state_save_timestamp_seconds"] == pytest.approx(NOON + 300, abs=2)
    assert shown["staggerdns_state_octets"] == path.stat().st_size
    assert 0 <= shown["staggerdns_state_save_seconds"] < 1
    first = path.stat()
    run.pass_time(INTERVAL - 5, steps=295)
    assert path.stat().st_ino == first.st_ino
    run.pass_time(10, steps=10)
    assert path.stat().st_ino != first.st_ino
    assert run.failures() == {}


def test_the_interval_is_a_setting(tmp_path: Path) -> None:
    """It is five minutes if nothing else is said."""
    assert default_of(StateSettings, "interval") == INTERVAL
    run = begun(tmp_path, interval=60.0)
    run.pass_time(62, steps=62)
    assert (tmp_path / NAME).exists()


def test_for_its_owner_alone(tmp_path: Path) -> None:
    """The file tells who asked for what; the directory is made when it is not there."""
    directory = tmp_path / "a" / "b"
    assert begun(directory).stop()
    assert stat.S_IMODE((directory / NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [one.name for one in directory.iterdir()] == [NAME]


def test_a_stop_waits_for_the_last_save(tmp_path: Path) -> None:
    """But not for a disk that does not answer: then the earlier file stays."""
    run = begun(tmp_path)
    run.worker.held = True
    over: list[None] = []
    run.state.stop().addCallback(over.append)
    run.clock.advance(STOP_TIME - 0.01)
    assert not over
    run.clock.advance(0.02)
    assert over
    run.worker.release()
    assert list(tmp_path.iterdir()) == []
    assert run.clock.getDelayedCalls() == []


def test_a_stop_during_a_save(tmp_path: Path) -> None:
    """The save that is under way is the last one, and goes on without pauses."""
    run = begun(tmp_path, slices=True)
    for number in range(2_000):
        question = asks(f"n{number}.example")
        run.cache.commit(question.key, 1, pool(10, ttl=86_400), run.clock.seconds())
    run.pass_time(INTERVAL + 0.05, steps=301)
    assert (tmp_path / f"{NAME}.new").exists()
    began = run.clock.seconds()
    over: list[None] = []
    run.state.stop().addCallback(over.append)
    while not over:
        run.clock.advance(0.0005)
    assert run.clock.seconds() - began < 0.6  # 5 s with pauses
    assert [one.name for one in tmp_path.iterdir()] == [NAME]
    after = SavedRun(tmp_path, run.world)
    after.start()
    assert len(after.cache) == 2_001


def test_a_stop_while_it_is_read(tmp_path: Path) -> None:
    """Half of what was read does not take the place of the whole."""
    assert begun(tmp_path).stop()
    before = (tmp_path / NAME).stat().st_ino
    run = SavedRun(tmp_path, World())
    run.worker.held = True
    run.state.start()
    over: list[None] = []
    run.state.stop().addCallback(over.append)
    assert over
    run.worker.release()
    assert (tmp_path / NAME).stat().st_ino == before
    assert run.clock.getDelayedCalls() == []


def test_nothing_was_started(tmp_path: Path) -> None:
    """A stop before the start is over at once, and saves nothing."""
    run = SavedRun(tmp_path, World())
    assert run.stop()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[OSError]:
    """While there is an error in this list, files of the state cannot be created."""
    errors: list[OSError] = []
    create = StateDirectory.create

    def failing(directory: StateDirectory) -> object:
        if errors:
            raise errors[0]
        return create(directory)

    monkeypatch.setattr(StateDirectory, "create", failing)
    return errors


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EFBIG, "full"),
        (errno.EROFS, "denied"),
        (errno.EACCES, "denied"),
        (errno.EPERM, "denied"),
        (errno.EIO, "other"),
    ],
)
def test_one_warning_for_an_outage(
    tmp_path: Path, broken: list[OSError], number: int, reason: str
) -> None:
    """However long it lasts, and one line when it is over; each failure is counted."""
    run = begun(tmp_path)
    broken.append(OSError(number, os.strerror(number)))
    with capturedLogs() as events:
        run.pass_time(3 * INTERVAL + 10, steps=910)
        (line,) = lines(events)
        assert f"the state cannot be saved in {tmp_path / NAME}" in line
        assert os.strerror(number) in line
        assert run.failures() == {reason: 3}
        broken.clear()
        run.pass_time(INTERVAL, steps=300)
        assert lines(events)[1:] == [f"the state is saved again in {tmp_path / NAME}"]
        broken.append(OSError(number, ""))
        run.pass_time(INTERVAL, steps=300)
        assert len(lines(events)) == 3
    assert (tmp_path / NAME).exists()


def test_a_directory_that_comes_later(tmp_path: Path) -> None:
    """A file where the directory should be; when it has gone, the state is read and saved."""
    assert begun(tmp_path / "before").stop()
    directory = tmp_path / "state"
    directory.write_text("")
    run = SavedRun(directory, World())
    with capturedLogs() as events:
        run.start()
        run.pass_time(2 * INTERVAL, steps=600)
    assert len(lines(events)) == 1
    directory.unlink()
    (tmp_path / "before").rename(directory)
    run.pass_time(INTERVAL, steps=300)
    assert len(run.cache) == 1
    assert run.stop()


def test_a_directory_that_goes(tmp_path: Path) -> None:
    """It is made again before the next save."""
    run = begun(tmp_path / "state")
    run.pass_time(INTERVAL + 1, steps=301)
    (tmp_path / "state" / NAME).unlink()
    (tmp_path / "state").rmdir()
    run.pass_time(INTERVAL + 1, steps=301)
    assert (tmp_path / "state" / NAME).exists()
    assert run.failures() == {}


def test_two_programs_with_one_directory(tmp_path: Path) -> None:
    """The second one reads and writes nothing while the first one runs, and says so once; when it
    has ended the other goes on from there.
    """
    first = begun(tmp_path)
    first.pass_time(INTERVAL + 1, steps=301)
    second = SavedRun(tmp_path, first.world)
    with capturedLogs() as events:
        second.start()
        before = (tmp_path / NAME).stat().st_ino
        second.pass_time(OCCUPIED_RETRY * (OCCUPIED_PATIENCE - 2), steps=OCCUPIED_PATIENCE - 2)
        assert lines(events) == []
        second.pass_time(400, steps=400)
        (line,) = lines(events)
        assert "another program has it" in line
    assert second.failures() == {"occupied": 1}
    assert (len(second.cache), (tmp_path / NAME).stat().st_ino) == (0, before)
    assert first.stop()
    second.pass_time(2 * OCCUPIED_RETRY, steps=2)
    second.finish()
    assert len(second.cache) == 1
    assert second.stop()


def test_a_restart_that_overlaps(tmp_path: Path) -> None:
    """A program that waits for its predecessor to end has what that one has saved last."""
    first = begun(tmp_path)
    second = SavedRun(tmp_path, first.world)
    second.start()
    assert len(second.cache) == 0
    assert first.stop()
    second.pass_time(OCCUPIED_RETRY)
    second.finish()
    assert len(second.cache) == 1


def test_what_an_interrupted_save_has_left(tmp_path: Path) -> None:
    """A file that nobody has completed is neither read nor in the way, whatever it is."""
    new = tmp_path / f"{NAME}.new"
    target = tmp_path / "target"
    target.write_text("precious")
    new.symlink_to(target)
    run = begun(tmp_path)
    assert run.stop()
    assert target.read_text() == "precious"
    assert sorted(one.name for one in tmp_path.iterdir()) == [NAME, "target"]


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "stranger"])
def test_what_is_no_file_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A link leads anywhere, a pipe never ends: they are set aside unread."""
    good = tmp_path / "good"
    assert begun(good).stop()
    directory = tmp_path / "state"
    directory.mkdir()
    path = directory / NAME
    if kind == "link":
        path.symlink_to(good / NAME)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        (good / NAME).rename(path)
        real = os.fstat

        def owned(descriptor: int) -> os.stat_result:
            found = real(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return found
            return os.stat_result([*found[:4], 4_242, *found[5:]])

        monkeypatch.setattr(os, "fstat", owned)
    run = SavedRun(directory, World())
    with capturedLogs() as events:
        run.start()
    (line,) = lines(events)
    assert "nothing of it is used" in line
    assert len(run.cache) == 0
    assert os.path.lexists(directory / f"{NAME}.unusable.1")


def test_a_link_to_a_directory_is_one(tmp_path: Path) -> None:
    """It is the operator's to say where the state is."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert begun(tmp_path / "link").stop()
    assert (tmp_path / "real" / NAME).exists()


@pytest.mark.parametrize(
    ("configured", "environ", "found"),
    [
        ("/x", {"STATE_DIRECTORY": "/var/lib/y"}, "/x"),
        (None, {"STATE_DIRECTORY": "/var/lib/y"}, "/var/lib/y"),
        (None, {"STATE_DIRECTORY": "/var/lib/y:/var/lib/z"}, "/var/lib/y"),
        (None, {"STATE_DIRECTORY": ""}, None),
        (None, {}, None),
    ],
)
def test_where_it_is(configured: str | None, environ: dict[str, str], found: str | None) -> None:
    """What the file says counts, then what systemd has made."""
    assert find_directory(configured, environ) == found


def test_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without them is as good as any; one that is locked is not."""

    def failing(_: object, __: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", failing)
    assert begun(tmp_path).stop()
    assert (tmp_path / NAME).exists()
    monkeypatch.undo()
    first, second = StateDirectory(str(tmp_path)), StateDirectory(str(tmp_path))
    first.open()
    with pytest.raises(Occupied):
        second.open()
    first.close()
    second.open()
    second.close()


def test_set_aside_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says that it was not moved; the next save takes its place."""
    (tmp_path / NAME).write_text("")

    def failing(_: StateDirectory) -> str:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(StateDirectory, "set_aside", failing)
    run = SavedRun(tmp_path, World())
    with capturedLogs() as events:
        run.start()
    (line,) = lines(events)
    assert "nowhere (read-only)" in line
    assert run.stop()
    assert (tmp_path / NAME).stat().st_size > 100


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad block of a disk is as good as damage."""
    assert begun(tmp_path).stop()

    def failing(_: object) -> float:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("staggerdns.state.load.check", failing)
    run = SavedRun(tmp_path, World())
    with capturedLogs() as events:
        run.start()
    (line,) = lines(events)
    assert "cannot be read: Input/output error" in line
    assert (tmp_path / f"{NAME}.unusable.1").exists()
    assert isinstance(Unusable(""), ValueError)
