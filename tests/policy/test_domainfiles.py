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
from staggerdns.policy.domainfiles import CHECK_EVERY, PATIENCE, TURN
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
        assert not watched.routes.reread()
        watched.write(second=MOVED["second"])
        watched.look(3)
    (warning,) = warnings(events)
    assert warning.endswith(
        "secret.example. belongs to routes[0] already: all domains stay as they were"
    )
    assert (watched.find("secret"), watched.find("new", "kids")) == (FIRST, OWN)
    assert watched.routes.reread()
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
        assert not watched.routes.reread()
    watched.look(3)
    watched.write(first="one.example\nmore.example\n")
    if forced:
        assert watched.routes.reread()
    watched.look(3)
    assert (watched.find("secret"), watched.find("more")) == (SECOND, FIRST)
    assert watched.routes.reread()


def test_a_move_at_once(watched: Watched) -> None:
    """What is read again on demand counts at once, whatever the order of the files."""
    watched.write(**MOVED)
    assert watched.routes.reread()
    assert watched.find("secret") == FIRST
    watched.write(first="one.example\n", second="two.example\nsecret.example\n")
    assert watched.routes.reread()
    assert watched.find("secret") == SECOND


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
    """It holds up the others for `PATIENCE` looks, and not for one more."""
    watched.look()
    for number in range(PATIENCE + 1):
        watched.write(second=f"n{number}.example\n" * (number + 1))
        if not number:
            watched.write(first="more.example\n")
        assert watched.find("more") is None
        watched.look()
    assert (watched.find("more"), watched.find("secret")) == (FIRST, SECOND)


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("content", ["", "\n \r\n"])
def test_an_empty_file(watched: Watched, content: str, forced: bool) -> None:
    """It had domains and has nothing at all: whoever writes it has begun, or failed. The domains
    stay, a warning says so once, and the file counts as soon as there is something in it.
    """
    with capturedLogs() as events:
        watched.write(second=content)
        if forced:
            assert not watched.routes.reread()
        watched.look(5)
        assert watched.find("secret") == SECOND
    (warning,) = warnings(events)
    assert warning == (
        f"{watched.paths['second']} is empty: a line with a comment alone says that this is meant: "
        "its domains stay as they were"
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
    assert watched.routes.reread()


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
    assert not watched.routes.reread()
    path.rmdir()
    aside.rename(path)
    watched.look(2)
    assert watched.routes.reread()


LONG = 3 * TURN
"""Lines of a file that takes several turns."""


def take_turn(clock: Clock) -> None:
    """Make the one call that is due now, and none of those that it leads to."""
    (call,) = clock.calls
    assert call.getTime() == clock.seconds()
    clock.calls.clear()
    call.called = 1
    call.func(*call.args, **call.kw)


def test_long_files_take_turns(watched: Watched) -> None:
    """Between turns names are found as before; then all new ones are there at once."""
    watched.write(
        first=MOVED["first"],
        second="two.example\n" + "".join(f"n{number}.example\n" for number in range(LONG)),
    )
    assert watched.routes.reread()  # as far as is known
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
    watched.routes.reread()
    watched.write(second=f"{long}other.example\n{long}secret.example\n")
    watched.clock.advance(0)
    assert (watched.find("secret"), watched.find("other")) == (SECOND, None)
    watched.look(3)
    assert (watched.find("secret"), watched.find("other")) == (SECOND, SECOND)


@pytest.mark.parametrize("turns", range(0, 9, 2))
def test_an_end_in_the_middle(tmp_path: Path, turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no timer, and no file open; and nothing is read any more."""
    monkeypatch.setattr(domainfiles, "TURN", 100)
    watched = Watched(tmp_path)
    watched.write(second="two.example\n" * LONG)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    watched.routes.reread()
    for _ in range(turns):
        take_turn(watched.clock)
    watched.routes.close()
    assert watched.clock.getDelayedCalls() == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    watched.routes.reread()
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
    routes.watch()
    path.write_text("new.example\n")
    with capturedLogs() as events:
        assert routes.reread()
    assert [routes.of(one).find(name("new.example")) for one in ("default", "kids")] == [1, 2]
    assert [formatEvent(event) for event in events] == [f"1 domains in {path}"]


def test_no_files() -> None:
    """Nobody looks at anything."""
    config = parse_config("upstream: {servers: [192.0.2.1]}\n")
    clock = Clock()
    routes = GroupRoutes(config, Scopes(default_scope(config)), clock, Journal("debug"))
    routes.watch()
    assert clock.getDelayedCalls() == []
    assert routes.reread()
    routes.close()
