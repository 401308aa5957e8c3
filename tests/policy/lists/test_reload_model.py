"""Reloads at random, against a slow reader of what the sources have.

What a list blocks is at each moment that of the old configuration or that of the new one, each in
its own order of lists, and never a mixture; so it is when a reload fails, is given up, or meets
servers that are away, files that change, and other directories.
"""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from staggerdns.settings.policy import ListSettings
from staggerdns.wire.names import from_text
from tests.kit.effort import amount
from tests.kit.runninglists import Running, write

NAMES = [f"n{number}.example" for number in range(5)]
FILES = ("a.txt", "b.txt")
URLS = ("https://lists.example/a", "https://lists.example/b")
RELOADS = amount(8, 100)
"""Examples, each with a few reloads."""
REFRESH = 10
LONG = 3 * REFRESH
"""Seconds in which every source is looked at, also when it has failed before."""


class One(NamedTuple):
    """A list: its sources, and the names that the configuration has itself."""

    sources: frozenset[str]
    domains: frozenset[str]


Content = dict[str, frozenset[str] | None]
"""What each source has; `None`: it cannot be had."""
SOME = st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=2)
LIST = st.builds(
    One,
    st.frozensets(st.sampled_from([*FILES, *URLS]), max_size=3),
    st.frozensets(st.sampled_from(NAMES), max_size=2),
)
CONFIGURATION = st.dictionaries(st.sampled_from("abc"), LIST, max_size=3).flatmap(
    lambda lists: st.permutations(sorted(lists)).map(
        lambda order: {one: lists[one] for one in order}
    )
)
CONTENT = st.fixed_dictionaries(dict.fromkeys([*FILES, *URLS], st.none() | SOME))


class Step(NamedTuple):
    """A reload: what the sources have before, and change while the new set is compiled."""

    before: Content
    meanwhile: Content
    configuration: dict[str, One]
    outcome: str
    moves: bool
    busy: bool


STEP = st.builds(
    Step,
    CONTENT,
    CONTENT,
    CONFIGURATION,
    st.sampled_from(["well", "well", "well", "given up", "given up early", "problem"]),
    st.booleans(),
    st.booleans(),
)


class Reader:
    """Knows what is in force of each source, and looks every name up in all of it."""

    def __init__(self) -> None:
        self.configuration: dict[str, One] = {}
        self.known: Content = {}

    def sources(self) -> set[str]:
        """Return the sources that some list has."""
        return {source for one in self.configuration.values() for source in one.sources}

    def look(self, content: Content) -> None:
        """Have all sources read that can be had."""
        for source in self.sources():
            self.known[source] = content[source] or self.known.get(source)

    def reload(self, configuration: dict[str, One], content: Content) -> None:
        """Have other lists, with what is known; files that are new are read, URLs are not yet."""
        self.configuration = configuration
        known, self.known = self.known, {}
        for source in self.sources():
            new = content[source] if source in FILES and known.get(source) is None else None
            self.known[source] = known.get(source) or new

    def listed(self, name: str) -> list[str]:
        """Return which lists have a name, in their order."""
        return [
            label
            for label, one in self.configuration.items()
            if any(
                name in (names or ()) for names in (one.domains, *map(self.known.get, one.sources))
            )
        ]


class Machine:
    """Lists that run, and their reader."""

    def __init__(self, directory: Path) -> None:
        self.running = Running(directory)
        self.reader = Reader()
        self.content: Content = dict.fromkeys([*FILES, *URLS])
        self.place = 0  # the number of the directory
        self._places = count(1)
        self._time = 0

    def put(self, content: Content) -> None:
        """Let the sources have something else."""
        self.content = content
        for source, names in content.items():
            text = "".join(f"{name}\n" for name in sorted(names or ()))
            path = self.running.directory / source
            if source in URLS:
                self.running.server.content[source] = text
                if names is None:
                    del self.running.server.content[source]
            elif names is None:
                path.unlink(missing_ok=True)
            else:
                self._time += 1
                write(path, text, self._time)

    def compare(self) -> None:
        """Compare every name."""
        if self.running.lists is not None:
            for name in NAMES:
                assert self.running.listed(name) == self.reader.listed(name), name
        for metric in (self.running.metrics.list_names, self.running.metrics.list_failures):
            assert {name for (name,) in metric.values()} == set(self.reader.configuration)

    def settings(self, configuration: dict[str, One]) -> dict[str, ListSettings]:
        """Return the settings of lists."""
        return {
            name: ListSettings(
                files=tuple(
                    str(self.running.directory / file) for file in FILES if file in one.sources
                ),
                urls=tuple(url for url in URLS if url in one.sources),
                domains=tuple(map(from_text, sorted(one.domains))),
                refresh=REFRESH,
            )
            for name, one in configuration.items()
        }

    def settle(self) -> None:
        """Have all sources looked at."""
        self.running.pump(LONG)
        self.reader.look(self.content)
        self.compare()

    def finish(self) -> None:
        """Have everything compiled that waits."""
        compiler = self.running.compiler
        while compiler.waiting:
            compiler.go_on()
            self.running.pump()

    def end(self) -> None:
        """Have no lists any more."""
        self.running.stop()
        self.reader.reload({}, self.content)
        self.compare()

    def reload(self, step: Step) -> None:
        """Do what a step says, and compare at each moment."""
        running, compiler = self.running, self.running.compiler
        self.put(step.before)
        self.settle()
        if not step.configuration:
            self.end()
            return
        compiler.waiting = []
        # What was left where there were none before would count as after a restart.
        fresh = step.moves or running.lists is None
        place = next(self._places) if fresh else self.place
        if step.busy and running.lists is not None:
            running.lists.compile().addErrback(lambda _: None)
        if step.outcome == "problem" and not compiler.waiting:
            compiler.problem = "no memory"
        at_work = bool(compiler.waiting)
        following, problems = running.prepare(f"state{place}", **self.settings(step.configuration))
        compiler.problem = ""
        self.compare()
        if at_work:  # the set of before comes first
            compiler.go_on()
            running.pump()
            self.compare()
        offered = self.content
        if not problems and step.outcome != "given up early":
            self.put(step.meanwhile)
            running.pump(LONG)
            self.compare()  # the old ones hold still
            if compiler.waiting:
                # Files that are new are read when the set is compiled.
                offered = self.content
                compiler.go_on()
                running.pump()
        event(f"{step.outcome}, {problems}")
        if problems == [""] and step.outcome == "well":
            before, running.lists = running.lists, following
            following.take_over()
            self.place = place
            self.reader.reload(step.configuration, offered)
            self.compare()
            if before is not None:
                before.stop()
        else:
            following.abandon()
            self.compare()
        compiler.waiting = [one for one in compiler.waiting if not one[1].called]
        running.pump()
        self.finish()
        compiler.waiting = None
        running.pump()
        self.settle()


@settings(max_examples=RELOADS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=2, max_size=6))
def test_reloads(steps: list[Step]) -> None:
    """What is blocked is what the slow reader says, at each moment."""
    with tempfile.TemporaryDirectory() as directory:
        machine = Machine(Path(directory))
        try:
            for step in steps:
                machine.reload(step)
        finally:
            machine.running.stop()
