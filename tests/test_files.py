"""Files that the operator names: pipes, devices and endless ones in their place."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from staggerdns import files
from staggerdns.files import MAX_SIZE, PIECE, Unreadable, read_file, read_pieces


def test_a_regular_file(tmp_path: Path) -> None:
    """All of its bytes, up to `MAX_SIZE`; one more is too many."""
    path = tmp_path / "file"
    for content in (b"", b"a\0b\r\n", b"x" * MAX_SIZE):
        path.write_bytes(content)
        assert read_file(str(path)) == content
        assert read_file(str(path), pipes=True) == content
    path.write_bytes(b"x" * (MAX_SIZE + 1))
    with pytest.raises(Unreadable, match=f"^has more than {MAX_SIZE} bytes$"):
        read_file(str(path))


def test_a_file_that_does_not_know_its_size() -> None:
    """Files of the kernel say 0 and hold something."""
    assert Path("/proc/self/status").stat().st_size == 0
    assert read_file("/proc/self/status").startswith(b"Name:")


@pytest.mark.parametrize("pipes", [False, True])
def test_what_is_no_file(tmp_path: Path, pipes: bool) -> None:
    """Directories, devices, sockets and what is not there are told apart, without waiting."""

    def complaint(path: str) -> str:
        with pytest.raises(Unreadable) as caught:
            read_file(path, pipes=pipes)
        return str(caught.value)

    assert complaint(str(tmp_path)) == "cannot be read: Is a directory"
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        assert complaint(device) == "cannot be read: it is a device, not a regular file"
    assert complaint(str(tmp_path / "none")) == "cannot be read: No such file or directory"
    assert complaint("a\0b") == "cannot be read: there is a null character in its name"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert complaint(str(tmp_path / "socket")).startswith("cannot be read: ")


def test_a_pipe_nobody_wants(tmp_path: Path) -> None:
    """Where a pipe makes no sense it is refused, with a writer and without."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    for _ in range(2):
        with pytest.raises(Unreadable, match="it is a pipe, not a regular file"):
            read_file(path)


def test_a_pipe_with_a_writer(tmp_path: Path) -> None:
    """A pipe is read to its end, in whatever pieces and however late they come."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)

    def write() -> None:
        with open(path, "wb", buffering=0) as writer:  # noqa: PTH123 (it waits for the reader)
            writer.writelines(b"x" * 5000 for _ in range(40))

    writing = threading.Thread(target=write)
    writing.start()
    assert read_file(path, pipes=True) == b"x" * 200_000
    writing.join()


def test_a_pipe_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody writes into, or never closes, is given up; one with too much, too."""
    monkeypatch.setattr(files, "PIPE_WAIT", 0.05)
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    with pytest.raises(Unreadable, match=r"the pipe did not end within 0\.05 s"):
        read_file(path, pipes=True)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"upstream: {")
    with pytest.raises(Unreadable, match=r"the pipe did not end within 0\.05 s"):
        read_file(path, pipes=True)
    os.close(writer)
    os.close(reader)

    def write_for_ever() -> None:
        with (
            contextlib.suppress(BrokenPipeError),
            open(path, "wb", buffering=0) as endless,  # noqa: PTH123
        ):
            while True:
                endless.write(b"x" * 65_536)

    monkeypatch.setattr(files, "PIPE_WAIT", 30.0)
    writing = threading.Thread(target=write_for_ever)
    writing.start()
    with pytest.raises(Unreadable, match=f"has more than {MAX_SIZE} bytes"):
        read_file(path, pipes=True)
    writing.join()


def in_pieces(path: str, limit: int) -> tuple[bytes, int]:
    """What is in a file, and how often it could be left alone while it was read."""
    pieces = read_pieces(path, limit)
    count = 0
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            content: bytes = end.value
            return content, count
        count += 1


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_long_file(tmp_path: Path, size: int) -> None:
    """It is read piece by piece, up to the limit; one byte more is too many."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert in_pieces(str(path), size) == (b"x" * size, -(-size // PIECE))
    path.write_bytes(b"x" * (size + 1))
    with pytest.raises(Unreadable, match=f"^has more than {size} bytes$"):
        in_pieces(str(path), size)


def test_a_long_file_that_grows(tmp_path: Path) -> None:
    """What comes while it is read counts, up to the limit."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * (2 * PIECE))
    pieces = read_pieces(str(path), 2 * PIECE)
    next(pieces)
    with path.open("ab") as writer:
        writer.write(b"x")
    next(pieces)
    with pytest.raises(Unreadable, match="has more than"):
        list(pieces)


def test_what_is_no_long_file(tmp_path: Path) -> None:
    """Files of the kernel are read; what is not there, and what is no file, is told apart."""
    assert in_pieces("/proc/self/status", MAX_SIZE)[0].startswith(b"Name:")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for path, said in (
        (str(tmp_path / "none"), "cannot be read: No such file or directory"),
        (str(tmp_path), "cannot be read: Is a directory"),
        ("/dev/zero", "cannot be read: it is not a regular file"),
    ):
        with pytest.raises(Unreadable, match=f"^{said}$"):
            in_pieces(path, MAX_SIZE)
        with pytest.raises(Unreadable):
            read_file(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
