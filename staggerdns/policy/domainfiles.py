"""The files of domains of all routes: read when they change, and all of them used at once.

A domain that moves from one file to another must belong to one of the two at every moment, or its
name is seen by somebody who must not know it. So every second there is one look at all files; when
some have changed and none of them is being written, they are read, the tables of all routes are
made, and then all take the place of the old ones. All tables stay as long as one of the files is
being written or cannot be used, or two routes claim one domain: which domains a file will have is
not known before it is good, and another one may have given them up for it.

Files may be long and queries come meanwhile: all that is done in steps, as many in one turn of the
reactor as take a millisecond or two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.journal import Journal
from staggerdns.policy.domains import STEP, TURN, DomainFile, Steps
from staggerdns.settings.document import ConfigError

CHECK_EVERY = 1.0
"""Seconds from one look at the files of domains to the next."""
PATIENCE = 10
"""Looks at which a file is being written until the log tells of it."""
_READ = "read again: the domains of routes"
_NOT_READ = "not read again: the domains of routes (cannot be used)"
_RELEASED = 2_000  # domains whose memory is released in the time of one step


class UsesDomains(Protocol):
    """Routes, as what is here needs them."""

    def build(self) -> Steps[Any]:
        """Make a table of what is in the files. Raises `ConfigError`."""

    def use(self, table: Any) -> Any:
        """Use the table; return the one before, a dictionary."""


class DomainFiles:
    """The files of domains, by their paths; `close` ends what `watch` has begun."""

    def __init__(self, clock: IReactorTime, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal
        self._files: dict[str, DomainFile] = {}
        self._users: list[UsesDomains] = []
        self._problem = ""
        self._unused: dict[DomainFile, bool] = {}  # read, but not in use yet: had it domains?
        self._held_up = 0
        self._demanded = False  # by `reread`, and not told of yet
        self._changed: Callable[[], object] | None = None
        self._steps: Steps[None] | None = None
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._files)

    def file(self, path: str) -> DomainFile:
        """Return the file at ``path``, the same one at every call."""
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = DomainFile(path)
        return file

    def add(self, user: UsesDomains) -> None:
        """Give ``user`` a new table when files have changed."""
        self._users.append(user)

    def on_change(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` whenever other tables are in use."""
        self._changed = callback

    def watch(self) -> None:
        """Look at the files from now on, if there are any."""
        if self._files:
            self._call = self._clock.callLater(CHECK_EVERY, self._look)

    def close(self) -> None:
        """End what is under way."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        if self._steps is not None:
            self._steps.close()
            self._steps = None

    def reread(self) -> None:
        """Have all files read that two looks find complete, changed or not; the log tells of the
        end of that.
        """
        for file in self._files.values():
            file.forced = True
        self._demanded = True
        self._problem = ""

    def _look(self) -> None:
        for file in self._files.values():
            file.look()
        due = [file for file in self._files.values() if file.due]
        unsettled = [file for file in due if not file.settled]
        self._held_up = self._held_up + 1 if unsettled else 0
        if self._held_up == PATIENCE:
            self._journal.warn(
                "{path} is being written again and again: all domains stay as they were until it "
                "is complete",
                path=unsettled[0].path,
            )
        if due and not unsettled:
            self._steps = self._update(due)
            self._turn()
        else:
            self._call = self._clock.callLater(CHECK_EVERY, self._look)

    def _turn(self) -> None:
        """Go on for a while, and later from there."""
        assert self._steps is not None
        delay: float = 0
        left = TURN
        try:
            while left > 0:
                left -= next(self._steps)
        except StopIteration:
            self._steps = None
            delay = CHECK_EVERY
        self._call = self._clock.callLater(delay, self._look if delay else self._turn)

    def _update(self, files: list[DomainFile]) -> Steps[None]:
        """Read ``files`` and put new tables in the place of the old ones, if that can be done."""
        known = {} if self._demanded else {file: file.problem for file in self._files.values()}
        news = False
        for file in files:
            before = yield from file.read()
            if before is not None:
                news = True
                self._unused.setdefault(file, bool(before))
                yield from _release(before)
        wrong = [file for file in self._files.values() if file.problem]
        for file in wrong:
            if news or file.problem != known.get(file):
                self._journal.warn(
                    "{path} {problem}: all domains stay as they were until this file is good",
                    path=file.path,
                    problem=file.problem,
                )
        if wrong:
            self._reply(_NOT_READ)
        if wrong or not self._unused or not self._are_current():
            return
        tables: list[Any] = []
        try:
            for user in self._users:
                table = yield from user.build()
                tables.append(table)
        except ConfigError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                self._journal.warn(
                    "{problem}: all domains stay as they were", problem=self._problem
                )
            self._reply(_NOT_READ)
            return
        if not self._are_current():
            return
        self._problem = ""
        old = [user.use(table) for user, table in zip(self._users, tables, strict=True)]
        self._announce()
        for file, had_domains in self._unused.items():
            self._log(file, had_domains)
        self._unused.clear()
        self._reply(_READ)
        for table in old:
            yield from _release(table)

    def _are_current(self) -> bool:
        """Return whether what was read is what is there; if not, the next looks find that out."""
        return all(file.is_current() for file in self._files.values())

    def _reply(self, said: str) -> None:
        """Tell the end of what `reread` has begun, once that has come."""
        if self._demanded and not any(file.forced for file in self._files.values()):
            self._demanded = False
            self._journal.announce(said)

    def _log(self, file: DomainFile, had_domains: bool) -> None:
        if had_domains and not file.domains:
            self._journal.warn("{path} has no domains any more", path=file.path)
        else:
            self._journal.info("{count} domains in {path}", count=len(file.domains), path=file.path)

    def _announce(self) -> None:
        if self._changed is not None:
            self._changed()


def _release(content: list[bytes] | dict[bytes, Any]) -> Steps[None]:
    """Empty what nobody uses any more: all at once that would take long."""
    while content:
        if isinstance(content, list):
            del content[-_RELEASED:]
        else:
            for _ in range(min(_RELEASED, len(content))):
                content.popitem()
        yield STEP
