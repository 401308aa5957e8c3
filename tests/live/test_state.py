"""State over real restarts, ends without notice, and disks that take nothing."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from io import FileIO
from typing import TYPE_CHECKING

from staggerdns.state.blocks import AnswersBlock
from staggerdns.state.directory import NAME
from staggerdns.state.file import read_blocks
from tests.kit import behaviours as b
from tests.kit.checkout import ROOT
from tests.kit.clients import eventually
from tests.kit.effort import amount
from tests.kit.namespaces import run_with_own_mounts
from tests.kit.program import Program, environment
from tests.kit.saving import KILLED
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from pathlib import Path

KILLS = amount(3, 200)
ENTRIES = amount(3_000, 500_000)
LONGEST_TURN = 5.0
"""Milliseconds of processor time."""
BUSY = 3.0
"""How many times as long everything may take on a machine that others use as well."""
NAMES = [f"n{number}.example." for number in range(5)]


def test_a_restart_while_upstreams_are_silent(tmp_path: Path) -> None:
    """The next start answers what the last one knew, with TTLs that went on, and asks nobody."""
    state = tmp_path / "state"
    settings = {"state": {"directory": str(state)}}
    with ScriptedUpstream(b.answers("203.0.113.7", "203.0.113.8", ttl=300)) as upstream:
        program = Program(tmp_path / "program", [upstream.endpoint], settings)
        with program:
            for name in NAMES:
                program.ask(name)
            eventually(lambda: program.metrics().value("staggerdns_collections_running") == 0)
            upstream.behaviour = b.silent
            _, took = program.terminate()
            assert took < 5
            assert (state / NAME).stat().st_mode & 0o777 == 0o600
            time.sleep(1.1)
            asked = len(upstream.queries)
            program.start()
            restored = "staggerdns_state_restored_total"
            eventually(lambda: program.metrics().value(restored, kind="answers") == len(NAMES))
            for name in NAMES:
                reply = program.ask(name)
                assert set(reply.addresses) == {"203.0.113.7", "203.0.113.8"}
                assert 200 < reply.message.answer[0].ttl < 300
            assert len(upstream.queries) == asked
            assert f"read {len(NAMES)} answers" in program.log


def test_killed_while_it_saves(tmp_path: Path) -> None:
    """Whenever that is, the file is the whole of one save: the last one, or the one before."""
    rng = random.Random(KILLS)
    command = [sys.executable, "-m", "tests.kit.saving", "kill", str(tmp_path)]
    found = set()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment() | {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{ROOT}"},
    ) as helper:
        assert helper.stdin is not None
        assert helper.stdout is not None
        for count in range(KILLS):
            before = inode(tmp_path)
            helper.stdin.write(b"\n")
            helper.stdin.flush()
            pid = int(helper.stdout.readline())
            eventually(partial(inode, tmp_path), before.__ne__, 30)
            time.sleep(rng.random() * 0.3)
            os.kill(pid, signal.SIGKILL)
            assert int(helper.stdout.readline()) == -signal.SIGKILL
            digest = whole(tmp_path)
            assert digest.startswith(b"%d." % count)
            found.add(digest)
        helper.stdin.close()
        assert helper.wait(10) == 0
    assert len(found) == KILLS
    assert {one.name for one in tmp_path.iterdir()} <= {NAME, f"{NAME}.new"}


def inode(directory: Path) -> int:
    """Which file is there, 0 for none."""
    try:
        return (directory / NAME).stat().st_ino
    except FileNotFoundError:
        return 0


def whole(directory: Path) -> bytes:
    """The one digest of all entries of a file, which has to have all of them."""
    digests, count = set(), 0
    with FileIO(directory / NAME) as file:
        for block in read_blocks(file):
            if isinstance(block, AnswersBlock):
                digests.update(block.scopes)
                count += len(block.entries)
    assert count == KILLED
    (digest,) = digests
    return digest


DISK = """
import subprocess
import sys
from pathlib import Path

from tests.kit.ranked import asks, pool
from tests.kit.saved import SavedRun, World

directory = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], check=True)
run = SavedRun(directory, World())
run.start()

def put(number):
    key = asks(f"n{number}.example").key
    run.cache.commit(key, 1, pool(10, ttl=86_400), run.clock.seconds())

def state():
    run.pass_time(300, steps=300)
    run.finish()
    return (directory / "cache.state").read_bytes()

put(1)
first = state()
with (directory / "filler").open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(1024))
    except OSError:
        pass
for number in range(300):
    put(number)
assert state() == state() == first
assert run.failures() == {"full": 2}, run.failures()
names = {one.name for one in directory.iterdir()}
assert names == {"cache.state", "filler"}, names
(directory / "filler").unlink()
second = state()
assert second != first
subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
put(301)
assert state() == state() == second
assert run.failures() == {"full": 2, "denied": 2}, run.failures()
subprocess.run(["mount", "-o", "remount,rw", directory], check=True)
assert state() != second
"""


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    """Full, and then read-only: the file stays whole, and is replaced when that is over."""
    run_with_own_mounts(DISK, str(tmp_path))


def test_a_stop_with_a_full_disk(tmp_path: Path) -> None:
    """The end comes as soon, and the earlier file stays whole."""
    state = tmp_path / "state"
    state.mkdir()
    settings = {"state": {"directory": str(state)}}
    with ScriptedUpstream(b.answers("203.0.113.7", ttl=300)) as upstream:
        program = Program(tmp_path / "program", [upstream.endpoint], settings)
        with program:
            program.ask(NAMES[0])
            program.terminate()
            before = (state / NAME).read_bytes()
            program.start()
            eventually(lambda: program.metrics().value("staggerdns_cache_entries") == 1)
            program.ask(NAMES[1])
            unlimited = resource.RLIM_INFINITY
            resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (100, unlimited))
            assert program.terminate()[1] < 5
            assert (state / NAME).read_bytes() == before
            assert [one.name for one in state.iterdir()] == [NAME]


def test_large_states_hold_nobody_up(tmp_path: Path) -> None:
    """No turn of the reactor takes longer than a few milliseconds while much is saved and read, and
    names are found meanwhile.
    """
    command = [sys.executable, "-m", "tests.kit.saving", "measure", str(tmp_path), str(ENTRIES)]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment() | {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{ROOT}"},
        timeout=60 + ENTRIES / 500,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["load"]["answers"] == ENTRIES, shown
    for part in ("save", "last_save", "load"):
        assert shown[part]["99.9%_ms"] < LONGEST_TURN, shown
        assert shown[part]["longest_ms"] < BUSY * LONGEST_TURN, shown
        assert shown[part]["looked_up"] > 10, shown
    assert shown["save"]["more_memory_MiB"] < 20, shown
    assert shown["load"]["hits"] > 0, shown
