"""The files of domains of all routes: read when they change, and all of them used at once.

A domain that moves from one file to another must belong to one of the two at every moment, or its
name is seen by somebody who must not know it. So every second there is one look at all files; when
some have changed and none of them is being written, they are read, the tables of all routes are
made, and then all take the place of the old ones. Where a table cannot be made, since two routes
claim one domain, all tables stay until another change has put that right. A file that never comes
to rest holds up the others for `PATIENCE` looks only.

Files may be long and queries come meanwhile: all that is done in steps, as many in one turn of the
reactor as take a millisecond or two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.files import Unreadable
from staggerdns.journal import Journal
from staggerdns.policy.domains import STEP, DomainFile, Steps, finish
from staggerdns.settings.document import ConfigError

CHECK_EVERY = 1.0
"""Seconds from one look at the files of domains to the next."""
PATIENCE = 10
"""Looks at which a file that is being written holds up those that are complete."""
TURN = 1_000
"""Lines or domains in one turn of the reactor."""
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
        self._changed: Callable[[], object] = _nothing
        self._steps: Steps[None] | None = None
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._files)

    def file(self, path: str) -> DomainFile:
        """Return the file at ``path``, which is read if it has not been. Raises `Unreadable`."""
        file = self._files.get(path)
        if file is None:
            file = DomainFile(path)
            if finish(file.read()) is None:
                raise Unreadable(file.problem or "cannot be used: it is being written")
            self._files[path] = file
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

    def reread(self) -> bool:
        """Read all files now, changed or not; return whether all is good. What takes longer than a
        turn of the reactor comes later, and the log tells of it.
        """
        if self._call is not None:
            self.close()
            for file in self._files.values():
                file.force()
            self._begin(list(self._files.values()))
        return not (self._problem or any(file.problem for file in self._files.values()))

    def _look(self) -> None:
        for file in self._files.values():
            file.look()
        changed = [file for file in self._files.values() if file.changed]
        settled = [file for file in changed if file.settled]
        self._held_up = self._held_up + 1 if len(settled) < len(changed) else 0
        if settled and (not self._held_up or self._held_up > PATIENCE):
            self._begin(settled)
        else:
            self._call = self._clock.callLater(CHECK_EVERY, self._look)

    def _begin(self, files: list[DomainFile]) -> None:
        self._steps = self._update(files)
        self._turn()

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
        for file in files:
            known = file.problem
            before = yield from file.read()
            if before is not None:
                self._unused.setdefault(file, bool(before))
                yield from _release(before)
            elif file.problem and file.problem != known:
                self._journal.warn(
                    "{path} {problem}: its domains stay as they were",
                    path=file.path,
                    problem=file.problem,
                )
        if not self._unused:
            return
        tables = []
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
            return
        self._problem = ""
        old = [user.use(table) for user, table in zip(self._users, tables, strict=True)]
        self._changed()
        for file, had_domains in self._unused.items():
            self._log(file, had_domains)
        self._unused.clear()
        for table in old:
            yield from _release(table)

    def _log(self, file: DomainFile, had_domains: bool) -> None:
        if had_domains and not file.domains:
            self._journal.warn("{path} has no domains any more", path=file.path)
        else:
            self._journal.info("{count} domains in {path}", count=len(file.domains), path=file.path)


def _nothing() -> None:
    """Do nothing: nobody wants to know of changes."""


def _release(content: list[bytes] | dict[bytes, Any]) -> Steps[None]:
    """Empty what nobody uses any more: all at once that would take long."""
    while content:
        if isinstance(content, list):
            del content[-_RELEASED:]
        else:
            for _ in range(min(_RELEASED, len(content))):
                content.popitem()
        yield STEP
