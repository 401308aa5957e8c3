"""What the compiling process does with an order: candidates, copies, the compiled file."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from typing import TYPE_CHECKING

import msgspec
import pytest

from staggerdns.policy.lists import compile as compile_module
from staggerdns.policy.lists import content, table
from staggerdns.policy.lists.compile import Order, Report, Source, compile_lists, main
from staggerdns.policy.lists.mapped import Choice, Hit, open_set
from staggerdns.wire.names import from_text

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "ads.example\n"
BAD = "<html>\n<body>\n"


class Compilation:
    """A directory with one source, whose candidate is a file elsewhere or was fetched."""

    def __init__(self, directory: Path, *, ours: bool) -> None:
        self.directory = directory
        self.target = directory / "set.lists"
        self.copy = directory / "source.list"
        self.candidate = directory / "candidate"
        self.ours = ours

    def compile(self, *, candidate: bool = True, domains: tuple[str, ...] = ()) -> Report:
        """Have a set made of the source and of ``domains``."""
        path = str(self.candidate) if candidate else None
        source = Source(0, str(self.copy), path, self.ours)
        names = [from_text(domain) for domain in domains]
        return compile_lists(Order(str(self.target), [source], [names], "what"))

    def blocks(self, name: str) -> bool:
        """Return whether the set that stands there blocks a name."""
        found = open_set(str(self.target), 1)
        list(found.check())
        return Choice([0]).verdict(found.listing(from_text(name))) == Hit(0, False)


@pytest.fixture(params=[True, False], ids=["fetched", "file"])
def compilation(request: pytest.FixtureRequest, tmp_path: Path) -> Compilation:
    """Return one for either kind of source."""
    return Compilation(tmp_path, ours=request.param)


def test_a_good_candidate(compilation: Compilation) -> None:
    """It becomes the copy; a file of somebody else's stays where it is."""
    compilation.candidate.write_text(GOOD)
    report = compilation.compile(domains=("own.example",))
    assert report.names == [2]
    (source,) = report.sources
    assert (source.counts, source.taken, source.problem, source.understood) == (True, True, "", 1)
    assert compilation.copy.read_text() == GOOD
    assert compilation.candidate.exists() == (not compilation.ours)
    assert compilation.blocks("x.ads.example")
    assert compilation.blocks("own.example")


@pytest.mark.parametrize("again", [BAD, None, GOOD * 20], ids=["page", "gone", "long"])
def test_a_bad_candidate(
    compilation: Compilation, monkeypatch: pytest.MonkeyPatch, again: str | None
) -> None:
    """The copy stays, and counts."""
    monkeypatch.setattr(content, "MAX_LINES", 10)
    compilation.candidate.write_text(GOOD)
    compilation.compile()
    compilation.candidate.unlink(missing_ok=True)
    if again is not None:
        compilation.candidate.write_text(f"other.example\n{again}")
    (source,) = compilation.compile().sources
    assert (source.counts, source.taken) == (True, False)
    assert source.problem
    assert compilation.copy.read_text() == GOOD
    assert compilation.blocks("ads.example")
    assert not compilation.blocks("other.example")
    left = {path.name for path in compilation.directory.iterdir()}
    assert left - {"candidate"} == {"set.lists", "source.list"}


@pytest.mark.parametrize("nothing", ["", " \n\n", "\ufeff"])
def test_a_file_that_was_emptied(tmp_path: Path, nothing: str) -> None:
    """The copy counts; a comment alone says that this is meant, and then nothing does."""
    compilation = Compilation(tmp_path, ours=False)
    compilation.candidate.write_text(nothing)
    assert compilation.compile().sources[0].taken  # there was nothing before
    compilation.candidate.write_text(GOOD)
    compilation.compile()
    compilation.candidate.write_text(nothing)
    (source,) = compilation.compile().sources
    assert (source.counts, source.taken) == (True, False)
    assert source.problem == "is empty: a line with a comment alone says that this is meant"
    assert compilation.blocks("ads.example")
    assert {path.name for path in tmp_path.iterdir()} == {"candidate", "set.lists", "source.list"}
    for meant in ("# nothing\n", nothing):
        compilation.candidate.write_text(meant)
        assert compilation.compile().names == [0]
    assert compilation.copy.read_text() == nothing


def test_no_copy(compilation: Compilation) -> None:
    """Without one, nothing of the source counts; the rest does."""
    compilation.candidate.write_text(BAD)
    report = compilation.compile(domains=("own.example",))
    assert (report.names, report.sources[0].counts) == ([1], False)
    assert compilation.blocks("own.example")


def test_the_copy_alone(compilation: Compilation) -> None:
    """Without a candidate the copy counts, and there is no problem, nor if there is neither."""
    compilation.copy.write_text(GOOD)
    (source,) = compilation.compile(candidate=False).sources
    assert (source.counts, source.taken, source.problem) == (True, False, "")
    compilation.copy.write_text(BAD)
    (source,) = compilation.compile(candidate=False).sources
    assert (source.counts, source.problem[:19]) == (False, "has a copy that is ")
    compilation.copy.unlink()
    (source,) = compilation.compile(candidate=False).sources
    assert (source.counts, source.problem) == (False, "")


def test_too_many_names(compilation: Compilation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source that has too many is refused."""
    monkeypatch.setattr(table, "MAX_NAMES", 2)
    compilation.candidate.write_text("a.example\nb.example\nc.example\n")
    report = compilation.compile(domains=("own.example",))
    assert (report.names, report.sources[0].counts) == ([1], False)
    assert "too many names" in report.sources[0].problem


def test_lines_that_are_not_understood(compilation: Compilation) -> None:
    """They are counted, and the first is reported."""
    compilation.candidate.write_text("a.example\nb.example\n/c/\n*d*\n")
    (source,) = compilation.compile().sources
    assert (source.understood, source.wrong, source.first) == (2, 2, "3: '/c/'")


def test_no_copy_can_be_kept(tmp_path: Path) -> None:
    """A file counts all the same."""
    compilation = Compilation(tmp_path, ours=False)
    compilation.copy = tmp_path / "nowhere" / "source.list"
    compilation.candidate.write_text(GOOD)
    (source,) = compilation.compile().sources
    assert (source.counts, source.problem) == (True, "")


def run(order: bytes) -> subprocess.CompletedProcess[bytes]:
    """Return what a process of its own says to an order."""
    return subprocess.run(
        [sys.executable, "-m", compile_module.__name__],
        input=order,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.live
def test_the_process(tmp_path: Path) -> None:
    """It takes an order as JSON, and reports as JSON."""
    compilation = Compilation(tmp_path, ours=True)
    compilation.candidate.write_text(GOOD)
    source = Source(0, str(compilation.copy), str(compilation.candidate), ours=True)
    done = run(msgspec.json.encode(Order(str(compilation.target), [source], [[b"\1x\0"]], "what")))
    assert (done.returncode, done.stderr) == (0, b"")
    report = msgspec.json.decode(done.stdout, type=Report)
    assert (report.names, report.sources[0].taken) == ([2], True)
    assert compilation.blocks("ads.example")
    assert compilation.blocks("x")


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written ends the process with one line, and what stands there stays."""
    order = Order(str(tmp_path / "nowhere" / "set.lists"), [], [[]], "")

    class Standard:
        buffer = BytesIO(msgspec.json.encode(order))

    monkeypatch.setattr(sys, "stdin", Standard())
    monkeypatch.setattr("os.nice", lambda _: 0)
    with pytest.raises(SystemExit, match=r"^the compiled lists cannot be written: "):
        main()


@pytest.mark.parametrize("names", [1, 20_000])
def test_a_full_disk(tmp_path: Path, names: int) -> None:
    """It costs the copy of a file, an older one too; the file counts all the same."""
    compilation = Compilation(tmp_path, ours=False)
    compilation.candidate.write_text("old.example\n")
    compilation.compile()
    compilation.candidate.write_text("".join(f"n{number}.example\n" for number in range(names)))
    compilation.copy.with_suffix(".part").symlink_to("/dev/full")
    report = compilation.compile()
    (source,) = report.sources
    assert (source.counts, source.taken, source.problem) == (True, True, "")
    assert report.names == [names]
    assert {path.name for path in tmp_path.iterdir()} == {"candidate", "set.lists"}


@pytest.mark.parametrize("old", [None, "old.example\n"])
@pytest.mark.parametrize("former", [None, "good.example\n"])
def test_a_copy_from_elsewhere(tmp_path: Path, former: str | None, old: str | None) -> None:
    """It is copied first, and stays where it was; what was in its place counts no more."""
    paths = [tmp_path / name for name in ("former.list", "copy.list", "set.lists")]
    for path, text in zip(paths, (former, old), strict=False):
        if text is not None:
            path.write_text(text)
    source = Source(0, str(paths[1]), ours=True, former=str(paths[0]))
    report = compile_lists(Order(str(paths[2]), [source], [[]], ""))
    assert report.names == [former is not None]
    assert [path.read_text() if path.exists() else None for path in paths[:2]] == [former, former]


@pytest.mark.parametrize("content", [GOOD, ""])
def test_a_file_of_which_no_copy_is_made(tmp_path: Path, content: str) -> None:
    """It is read, with the same care, and nothing is written beside the set."""
    (tmp_path / "file").write_text(content)
    source = Source(0, str(tmp_path / "copy"), str(tmp_path / "file"), named=True, keep=False)
    report = compile_lists(Order(str(tmp_path / "set.lists"), [source], [[]], ""))
    assert report.sources[0].counts == bool(content)
    assert ("is empty" in report.sources[0].problem) is not bool(content)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "set.lists"}
