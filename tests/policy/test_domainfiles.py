"""Files of domains change while names are asked for: no domain is ever without its route."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from staggerdns.config import parse_config
from staggerdns.journal import Journal
from staggerdns.policy import domainfiles
from staggerdns.policy.domainfiles import CHECK_EVERY, PATIENCE
from staggerdns.policy.domains import TURN, finish
from staggerdns.policy.groups import GroupRoutes
from staggerdns.policy.scope import Scopes, default_scope
from tests.kit.acts import name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FIRST, SECOND, OWN = 1, 2, 3
"""Numbers of scopes: of two common routes, and of one of a group."""


class Watched:
    """Two routes for everybody and one of a group, each with a file; on a clock."""

    def __init__(self, directory: Path, **contents: str) -> None:
        self.paths = {key: directory / key for key in ("first", "second", "own")}
        self.clock = Clock()
        for key in self.paths:
            self.write(**{key: contents.get(key, f"{key}.example\n")})
        first, second, own = self.paths.values()
        config = parse_config(
            "upstream: {servers: [192.0.2.1]}\nroutes:\n"
            f"- {{domain_files: [{first}], servers: [10.0.0.1]}}\n"
            f"- {{domain_files: [{second}], servers: [10.0.0.2]}}\n"
            f"groups: {{kids: {{clients: [10.9.0.0/16], "
            f"routes: [{{domain_files: [{own}], servers: [10.0.0.3]}}]}}}}\n"
        )
        scopes = Scopes(default_scope(config))
        self.routes = GroupRoutes(config, scopes, self.clock, Journal("debug"))
        finish(self.routes.load())
        self.routes.watch()

    def write(self, **contents: str) -> None:
        """Write files, in place."""
        for key, content in contents.items():
            self.paths[key].write_text(content)

    def find(self, text: str, group: str = "default") -> int | None:
        """Where a name leads to now."""
        return self.routes.of(group).find(name(f"{text}.example"))

    def look(self, times: int = 1) -> None:
        """Let some looks at the files pass."""
        for _ in range(times):
            self.clock.advance(CHECK_EVERY)

    def reread(self) -> list[str]:
        """Demand that all files are read; what the log says of the end of that within two looks."""
        with capturedLogs() as events:
            self.routes.reread()
            self.look(2)
        return [text for text in map(formatEvent, events) if "read again: " in text]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Routes that are closed in the end, and leave nothing."""
    made = Watched(tmp_path, first="one.example\n", second="two.example\nsecret.example\n")
    yield made
    made.routes.close()
    assert made.clock.getDelayedCalls() == []


def warnings(events: Sequence[dict[str, Any]]) -> list[str]:
    """The warnings among what was logged."""
    return [formatEvent(event) for event in events if event["log_level"] == LogLevel.warn]


READ = ["read again: the domains of routes"]
NOT_READ = ["not read again: the domains of routes (cannot be used)"]
"""What is said when that was demanded."""
MOVED: Mapping[str, str] = {"first": "one.example\nsecret.example\n", "second": "two.example\n"}
"""Of `watched`: a domain has gone from the second route to the first."""


@pytest.mark.parametrize("keys", [("first", "second"), ("second", "first")])
def test_a_domain_moves(watched: Watched, keys: tuple[str, str]) -> None:
    """It belongs to one route until it belongs to the other, whichever file is written first; also
    where there is a look between the two.
    """
    watched.look()
    found = []
    for key in keys:
        watched.write(**{key: MOVED[key]})
        watched.look()
        found.append(watched.find("secret"))
    watched.look()
    assert (found, watched.find("secret")) == ([SECOND, SECOND], FIRST)
    assert (watched.find("one"), watched.find("two")) == (FIRST, SECOND)


def test_a_domain_moves_slowly(watched: Watched) -> None:
    """While two routes claim it nothing changes, which is logged once; the file that has given it
    up puts that right whenever it comes.
    """
    with capturedLogs() as events:
        watched.write(first=MOVED["first"], own="new.example\n")
        for _ in range(5):
            watched.look()
            assert (watched.find("secret"), watched.find("new", "kids")) == (SECOND, None)
            assert watched.find("own", "kids") == OWN
        (warning,) = warnings(events)
        assert watched.reread() == NOT_READ
        assert warnings(events) == [warning, warning]
        watched.write(second=MOVED["second"])
        watched.look(3)
    assert warnings(events) == [warning, warning]
    assert warning.endswith(
        "secret.example. belongs to routes[0] already: all domains stay as they were"
    )
    assert (watched.find("secret"), watched.find("new", "kids")) == (FIRST, OWN)
    assert watched.reread() == READ
    told = {formatEvent(event) for event in events}
    assert {f"{len(MOVED['first'].split())} domains in {watched.paths['first']}"} < told


@pytest.mark.parametrize("keys", [("own", "second"), ("second", "own")])
def test_a_domain_moves_to_a_group(watched: Watched, keys: tuple[str, str]) -> None:
    """Routes of all groups change together."""
    for key in keys:
        watched.write(**{key: {"own": "secret.example\n", "second": "two.example\n"}[key]})
        watched.look()
        assert watched.find("secret", "kids") == SECOND
    watched.look()
    assert (watched.find("secret", "kids"), watched.find("secret")) == (OWN, None)


@pytest.mark.parametrize("forced", [False, True])
def test_what_was_claimed_twice_may_stay(watched: Watched, forced: bool) -> None:
    """A file that gains and loses again what another has is good again."""
    watched.write(first=MOVED["first"])
    if forced:
        assert watched.reread() == NOT_READ
    watched.look(3)
    watched.write(first="one.example\nmore.example\n")
    if forced:
        assert watched.reread() == READ
    watched.look(3)
    assert (watched.find("secret"), watched.find("more")) == (SECOND, FIRST)
    assert watched.reread() == READ


BAD = ["two.example\nsecret.example\nno domain\n", "", "\0", None]
"""Contents of a file that is wrong in some way; `None`: it is not there."""


def spoil(watched: Watched, key: str, content: str | None) -> None:
    """Write a wrong file."""
    if content is None:
        watched.paths[key].unlink(missing_ok=True)
    else:
        watched.write(**{key: content})


@pytest.mark.parametrize("demanded", [False, True])
@pytest.mark.parametrize("group", ["default", "kids"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("content", BAD)
def test_a_domain_moves_to_a_bad_file(
    watched: Watched, content: str | None, first: bool, group: str, demanded: bool
) -> None:
    """Nobody knows whether it is in there, so it stays where it was, whichever file is written
    first; and so does all else, until that file is good.
    """
    key, number = ("first", FIRST) if group == "default" else ("own", OWN)
    if first:
        spoil(watched, key, content)
        watched.look(3)
    watched.write(second="two.example\nmore.example\n")
    spoil(watched, key, content)
    if demanded:
        assert watched.reread() == NOT_READ
    watched.look(5)
    assert watched.find("secret", group) == watched.find("secret") == SECOND
    assert watched.find("more") is None
    watched.write(**{key: "secret.example\n"})
    watched.look(2)
    assert (watched.find("secret", group), watched.find("more")) == (number, SECOND)


def test_what_the_log_says_of_a_bad_file(watched: Watched) -> None:
    """Its defect once, and once more whenever another file waits for it, or reading is demanded."""
    with capturedLogs() as events:
        watched.write(first="no domain\n")
        watched.look(5)
        (warning,) = warnings(events)
        watched.write(second=MOVED["second"])
        watched.look(5)
        assert warnings(events) == [warning] * 2
        watched.write(own="")
        watched.look(5)
        assert warnings(events)[:2] == [warning] * 2
        (other,) = warnings(events)[2:]
        assert watched.reread() == NOT_READ
        assert warnings(events)[3:] == [warning, other]
        watched.write(first="one.example\n", own="own.example\n")
        watched.look(5)
    assert warnings(events)[5:] == []
    assert warning == (
        f"{watched.paths['first']} line 1: expected a domain like lan.example or *.lan.example, "
        "got 'no domain': all domains stay as they were until this file is good"
    )


@pytest.mark.parametrize("age", [0, 0.01, 0.5, 0.99])
def test_a_move_on_demand(watched: Watched, age: float) -> None:
    """What has been written right before it is demanded counts two looks later, whatever the order
    of the files and the time since the last look; not before, and the log tells of it then.
    """
    watched.look()
    watched.clock.advance(age)
    watched.write(**MOVED)
    with capturedLogs() as events:
        watched.routes.reread()
        watched.clock.advance(CHECK_EVERY - age)
        assert watched.find("secret") == SECOND
        watched.clock.advance(CHECK_EVERY * 0.99)
        assert watched.find("secret") == SECOND
        assert [*map(formatEvent, events)] == []
        watched.clock.advance(CHECK_EVERY * 0.011)
    assert watched.find("secret") == FIRST
    assert [formatEvent(event) for event in events][-1:] == READ


def test_what_looks_as_it_did(watched: Watched) -> None:
    """On demand a file is read although nothing of it has changed, as far as its status tells."""
    path = watched.paths["second"]
    size = path.stat().st_size
    watched.look(2)
    with pytest.MonkeyPatch.context() as patch:
        status = path.stat()
        patch.setattr(type(path), "stat", lambda self: status)
        watched.write(second="secret2.example\n".ljust(size))
        watched.look(3)
        assert watched.find("secret2") is None
        assert watched.reread() == READ
    assert watched.find("secret2") == SECOND
    watched.look(1)


@pytest.mark.parametrize("demands", [1, 3])
def test_a_demand_while_a_file_is_written(watched: Watched, demands: int) -> None:
    """What has been written so far does not count, however often it is demanded; and the log does
    not say that it does.
    """
    watched.look(2)
    with watched.paths["second"].open("w") as writer:
        with capturedLogs() as events:
            for number in range(3):
                writer.write(f"n{number}.example\n")
                writer.flush()
                for _ in range(demands):
                    watched.routes.reread()
                    assert watched.find("secret") == SECOND
                watched.look()
                assert watched.find("secret") == SECOND
        assert [*map(formatEvent, events)] == []
        writer.write("secret.example\n")
    with capturedLogs() as events:
        watched.look(2)
    assert (watched.find("secret"), watched.find("n0")) == (SECOND, SECOND)
    assert [formatEvent(event) for event in events][-1:] == READ


def test_a_file_that_is_being_written(watched: Watched) -> None:
    """It counts when two looks have found it the same, and the others only together with it."""
    watched.look(2)
    with watched.paths["second"].open("w") as writer:
        watched.write(first="one.example\nmore.example\n")
        for number in range(3):
            writer.write(f"n{number}.example\n")
            writer.flush()
            watched.look()
            assert (watched.find("secret"), watched.find("n0"), watched.find("more")) == (
                SECOND,
                None,
                None,
            )
        writer.write("secret.example\n")
    watched.look()
    assert watched.find("n2") is None
    watched.look()
    assert (watched.find("secret"), watched.find("n2"), watched.find("more")) == (
        SECOND,
        SECOND,
        FIRST,
    )


def test_a_file_that_never_comes_to_rest(watched: Watched) -> None:
    """It holds up the others, since one of their domains may be on its way there; after `PATIENCE`
    looks a warning says so.
    """
    watched.look()
    watched.write(first="more.example\n", second=MOVED["second"])
    with capturedLogs() as events:
        for number in range(3 * PATIENCE):
            watched.write(own=f"n{number}.example\n" * (number + 1))
            assert bool(warnings(events)) == (number >= PATIENCE)
            watched.look()
            assert (watched.find("more"), watched.find("secret")) == (None, SECOND)
        watched.look()
    assert (watched.find("more"), watched.find("secret")) == (FIRST, None)
    (warning,) = warnings(events)
    assert warning == (
        f"{watched.paths['own']} is being written again and again: all domains stay as they were "
        "until it is complete"
    )


@pytest.mark.parametrize("demanded", [False, True])
@pytest.mark.parametrize("content", ["", "\n \r\n"])
def test_an_empty_file(watched: Watched, content: str, demanded: bool) -> None:
    """It had domains and has nothing at all: whoever writes it has begun, or failed. The domains
    stay, a warning says so once, and the file counts as soon as there is something in it.
    """
    with capturedLogs() as events:
        watched.write(second=content)
        if demanded:
            assert watched.reread() == NOT_READ
        watched.look(5)
        assert watched.find("secret") == SECOND
    warning = warnings(events)[0]
    assert warnings(events) == [warning]
    assert warning == (
        f"{watched.paths['second']} is empty: a line with a comment alone says that this is meant: "
        "all domains stay as they were until this file is good"
    )
    watched.write(second="more.example\n")
    watched.look(2)
    assert (watched.find("secret"), watched.find("more")) == (None, SECOND)


def test_a_file_without_domains(watched: Watched) -> None:
    """With a comment it is meant so; a warning says that there were some."""
    with capturedLogs() as events:
        watched.write(second="# nobody\n")
        watched.look(5)
    assert watched.find("secret") is None
    assert warnings(events) == [f"{watched.paths['second']} has no domains any more"]
    watched.write(second="# nobody still\n")
    watched.look(2)
    watched.write(second="")
    watched.look(2)
    assert watched.reread() == READ


def test_a_file_that_is_replaced(watched: Watched) -> None:
    """A new file with the name of the old one counts within two looks, whatever its times."""
    new = watched.paths["second"].with_name("new")
    new.write_text("two.example\nsecre2.example\n")
    os.utime(new, ns=(0, watched.paths["second"].stat().st_mtime_ns))
    new.replace(watched.paths["second"])
    watched.look(2)
    assert (watched.find("secret"), watched.find("secre2")) == (None, SECOND)


def test_what_cannot_be_read_for_a_while(watched: Watched) -> None:
    """Its domains stay, and it is good again when it is back."""
    path = watched.paths["second"]
    aside = path.with_name("aside")
    path.rename(aside)
    path.mkdir()
    watched.look(3)
    assert watched.find("secret") == SECOND
    assert watched.reread() == NOT_READ
    path.rmdir()
    aside.rename(path)
    watched.look(2)
    assert watched.reread() == READ


LONG = 3 * TURN
"""Lines of a file that takes several turns."""


def take_turn(clock: Clock) -> None:
    """Make the one call that is due now, and none of those that it leads to."""
    (call,) = clock.calls
    assert call.getTime() == clock.seconds()
    clock.calls.clear()
    call.called = 1
    call.func(*call.args, **call.kw)


def wait_for_first_turn(watched: Watched) -> None:
    """Let one look pass, and the time until the next one."""
    watched.look()
    watched.clock.rightNow += CHECK_EVERY


def test_long_files_take_turns(watched: Watched) -> None:
    """Between turns names are found as before; then all new ones are there at once."""
    watched.write(
        first=MOVED["first"],
        second="two.example\n" + "".join(f"n{number}.example\n" for number in range(LONG)),
    )
    wait_for_first_turn(watched)
    turns = 0
    while watched.find("n0") is None:
        assert watched.find("secret") == SECOND
        take_turn(watched.clock)
        turns += 1
    assert turns >= 2 * LONG / TURN - 1
    assert watched.find("secret") == FIRST
    assert watched.find(f"n{LONG - 1}") == SECOND


def test_a_change_while_a_file_is_read(watched: Watched) -> None:
    """What has been read of it does not count."""
    long = "two.example\n" * LONG
    watched.write(second=f"{long}secret.example\n")
    wait_for_first_turn(watched)
    take_turn(watched.clock)
    watched.write(second=f"{long}other.example\n{long}secret.example\n")
    watched.clock.advance(0)
    assert (watched.find("secret"), watched.find("other")) == (SECOND, None)
    watched.look(3)
    assert (watched.find("secret"), watched.find("other")) == (SECOND, SECOND)


def test_a_change_of_the_file_that_gives_up_a_domain(watched: Watched) -> None:
    """While it is read: nobody is told that two routes claim the domain."""
    watched.write(first=MOVED["first"], second="two.example\n" * LONG)
    wait_for_first_turn(watched)
    take_turn(watched.clock)
    watched.write(second="two.example\n")
    with capturedLogs() as events:
        watched.clock.advance(0)
        assert watched.find("secret") == SECOND
        watched.look(3)
    assert watched.find("secret") == FIRST
    assert warnings(events) == []


@pytest.mark.parametrize("turns", [1, 2, 5, 20, 40, 60])
def test_a_change_while_others_are_read(
    watched: Watched, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is written anew after it was read, or while tables are made, holds up the others
    as if it had been so before; and a demand that comes then is met later.
    """
    monkeypatch.setattr(domainfiles, "TURN", 100)
    watched.look()
    watched.write(first=MOVED["first"], second="two.example\n" * LONG, own="new.example\n" * LONG)
    wait_for_first_turn(watched)
    with capturedLogs() as events:
        for _ in range(turns):
            take_turn(watched.clock)
            assert watched.find("secret") == SECOND
        watched.write(first="one.example\n")
        watched.routes.reread()
        watched.look()
        assert watched.find("secret") == SECOND
        watched.write(first=MOVED["first"])
        watched.look()
        assert watched.find("secret") == SECOND
        assert [*map(formatEvent, events)] == []
        watched.look()
    assert watched.find("secret") == FIRST
    assert [formatEvent(event) for event in events][-1:] == READ


@pytest.mark.parametrize("turns", range(0, 9, 2))
def test_an_end_in_the_middle(tmp_path: Path, turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no timer, and no file open; and nothing is read any more."""
    monkeypatch.setattr(domainfiles, "TURN", 100)
    watched = Watched(tmp_path)
    watched.write(second="two.example\n" * LONG)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    wait_for_first_turn(watched)
    for _ in range(turns):
        take_turn(watched.clock)
    watched.routes.close()
    assert watched.clock.getDelayedCalls() == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    watched.routes.reread()
    assert watched.clock.getDelayedCalls() == []
    watched.routes.close()
    assert watched.clock.getDelayedCalls() == []
    assert watched.find("two") is None


def test_one_file_of_several_routes(tmp_path: Path) -> None:
    """Routes of several groups may name the same one; it counts for all at once."""
    watched = Watched(tmp_path, own="own.example\n")
    path = watched.paths["own"]
    config = parse_config(
        "upstream: {servers: [192.0.2.1]}\n"
        f"routes: [{{domain_files: [{path}], servers: [10.0.0.1]}}]\n"
        f"groups: {{kids: {{clients: [10.9.0.0/16], "
        f"routes: [{{domain_files: [{path}], servers: [10.0.0.2]}}]}}}}\n"
    )
    routes = GroupRoutes(config, Scopes(default_scope(config)), watched.clock, Journal("debug"))
    finish(routes.load())
    routes.watch()
    path.write_text("new.example\n")
    watched.routes.close()
    with capturedLogs() as events:
        watched.look(2)
    routes.close()
    assert [routes.of(one).find(name("new.example")) for one in ("default", "kids")] == [1, 2]
    assert [formatEvent(event) for event in events] == [f"1 domains in {path}"]


def test_no_files() -> None:
    """Nobody looks at anything."""
    config = parse_config("upstream: {servers: [192.0.2.1]}\n")
    clock = Clock()
    routes = GroupRoutes(config, Scopes(default_scope(config)), clock, Journal("debug"))
    finish(routes.load())
    routes.watch()
    assert clock.getDelayedCalls() == []
    routes.reread()
    assert clock.getDelayedCalls() == []
    routes.close()
