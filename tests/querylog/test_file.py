"""Files that are written to the end: rotation, full disks, pipes."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from staggerdns.querylog.file import MODE, NOBODY_READS, FileSink
from staggerdns.querylog.outlet import TOO_SLOW, Unwritten

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 1_000_000


def contents(path: Path) -> dict[str, bytes]:
    """What the file holds and those that are older, by what stands behind its name."""
    return {
        found.name.removeprefix(path.name): found.read_bytes()
        for found in path.parent.glob(f"{path.name}*")
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file may be."""
    return tmp_path / "queries"


def test_writing(path: Path) -> None:
    """Items are appended to what is there; others may not read a file that is made."""
    for _ in range(2):
        sink = FileSink(str(path), LARGE, 1)
        sink.write([b"one\n", b"two\n"])
        sink.write([b"three\n"])
        sink.close()
        sink.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n" * 2
    assert stat.S_IMODE(path.stat().st_mode) == MODE & ~umask()


def umask() -> int:
    """That of the process."""
    found = os.umask(0)
    os.umask(found)
    return found


def test_rotation(path: Path) -> None:
    """A file has no octet more than it may have; so many older ones are kept."""
    sink = FileSink(str(path), 10, 2)
    for number in range(7):
        sink.write([b"%d234\n" % number])
    sink.close()
    assert contents(path) == {"": b"6234\n", ".1": b"4234\n5234\n", ".2": b"2234\n3234\n"}


def test_one_octet_more(path: Path) -> None:
    """A file may have as many octets as it may have."""
    sink = FileSink(str(path), 8, 1)
    sink.write([b"123\n"])
    sink.write([b"456\n"])
    assert contents(path) == {"": b"123\n456\n"}
    sink.write([b"\n"])
    sink.close()
    assert contents(path) == {"": b"\n", ".1": b"123\n456\n"}


def test_header_and_trailer(path: Path) -> None:
    """Each file has both, and is begun anew rather than continued behind the trailer."""
    for _ in range(2):
        sink = FileSink(str(path), 5, 3, header=b"<", trailer=b">")
        sink.write([b"12"])
        sink.write([b"34"])
        sink.write([b"56"])
        sink.close()
    assert contents(path) == {"": b"<56>", ".1": b"<1234>", ".2": b"<56>", ".3": b"<1234>"}


def test_closed_and_moved(path: Path) -> None:
    """What has been moved away is written to until it is closed; then there is a new one."""
    sink = FileSink(str(path), LARGE, 1)
    sink.write([b"1\n"])
    path.rename(path.with_name("moved"))
    sink.write([b"2\n"])
    sink.close()
    sink.write([b"3\n"])
    sink.close()
    assert path.with_name("moved").read_bytes() == b"1\n2\n"
    assert path.read_bytes() == b"3\n"


def test_what_cannot_be_opened(path: Path) -> None:
    """Nothing is written, and the reason is that of the system; later it may be."""
    path.mkdir()
    sink = FileSink(str(path), LARGE, 1)
    with pytest.raises(Unwritten, match="Is a directory") as caught:
        sink.write([b"1\n", b"2\n"])
    assert caught.value.count == 2
    path.rmdir()
    sink.write([b"3\n"])
    sink.close()
    assert path.read_bytes() == b"3\n"


def test_a_device_that_is_full() -> None:
    """Everything is missing, each time."""
    sink = FileSink("/dev/full", LARGE, 1)
    for _ in range(2):
        with pytest.raises(Unwritten, match="No space left on device") as caught:
            sink.write([b"1\n", b"2\n", b"3\n"])
        assert caught.value.count == 3
    sink.close()


def test_a_cut_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full disk has cut is taken back, so that there are whole lines alone."""
    sink = FileSink(str(path), LARGE, 1)
    sink.write([b"first\n"])
    write = os.write
    room = 9

    def write_little(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        written = write(descriptor, bytes(data)[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", write_little)
    with pytest.raises(Unwritten) as caught:
        sink.write([b"second\n", b"third\n", b"fourth\n"])
    assert caught.value.count == 2
    assert path.read_bytes() == b"first\nsecond\n"
    room = 100
    sink.write([b"fifth\n"])
    sink.close()
    assert path.read_bytes() == b"first\nsecond\nfifth\n"


def test_a_pipe_that_nobody_reads(path: Path) -> None:
    """It is not waited for; as soon as it is read, lines come."""
    os.mkfifo(path)
    sink = FileSink(str(path), 4, 1)
    with pytest.raises(Unwritten, match=NOBODY_READS) as caught:
        sink.write([b"1\n", b"2\n"])
    assert caught.value.count == 2
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    for _ in range(3):
        sink.write([b"three\n"])
    assert os.read(reader, 100) == b"three\n" * 3
    os.close(reader)
    with pytest.raises(Unwritten, match=NOBODY_READS):
        sink.write([b"4\n"])
    sink.close()
    assert path.is_fifo(), "it is not renamed"


def test_a_pipe_that_is_full(path: Path) -> None:
    """It is waited for, in the thread, until it is given up."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = FileSink(str(path), LARGE, 1)
    item = bytes(99) + b"\n"
    failures: list[Unwritten] = []

    def fill() -> None:
        try:
            sink.write([item] * 10_000)
        except Unwritten as error:
            failures.append(error)

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    received = len(os.read(reader, 10_000))
    sink.give_up()
    thread.join(60)
    assert not thread.is_alive()
    (error,) = failures
    assert str(error) == TOO_SLOW
    while True:
        found = len(os.read(reader, 100_000))
        if not found:
            break
        received += found
    assert 10_000 - error.count == received // len(item)
    os.close(reader)


def test_a_rename_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is not made larger than it may be; later there may be room again."""
    sink = FileSink(str(path), 5, 1)
    sink.write([b"1234\n"])

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        for _ in range(2):
            with pytest.raises(Unwritten, match="Permission denied"):
                sink.write([b"5678\n"])
    assert contents(path) == {"": b"1234\n"}
    sink.write([b"9\n"])
    sink.close()
    assert contents(path) == {"": b"9\n", ".1": b"1234\n"}
