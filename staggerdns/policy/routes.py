"""Which scope a name belongs to: routes by domain (docs/specification.rst, Scopes).

One table has all domains of all routes, so that a name costs one look-up for each of its labels,
the longest domain first, however many domains there are. `Routes.find` looks at the files of
domains at most once a second; when one has changed the table is made anew. What would be an error
at the start then changes nothing: the domains that were good last stay, and a line in the log says
so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted.internet.interfaces import IReactorTime

from staggerdns.files import Unreadable
from staggerdns.journal import Journal
from staggerdns.policy.domains import DomainFile
from staggerdns.policy.scope import Scopes
from staggerdns.settings.document import ConfigError
from staggerdns.settings.policy import RouteSettings
from staggerdns.wire.constants import Type
from staggerdns.wire.names import to_text

CHECK_EVERY = 1.0
"""Seconds from one look at the files of domains to the next."""
_WILDCARD = b"\1*"
_ADDRESSES = (Type.A, Type.AAAA)

_Numbers = tuple[int | None, int | None]
"""Of a domain: the number of its own scope, and of that of the names below it."""


class Routes:
    """The routes of ``settings``, which lead to the numbers that ``scopes`` gives.

    ``where``: the path of the settings. ``common``: those that count for what none of these claims.
    Raises `ConfigError` that names the place in the settings.
    """

    def __init__(
        self,
        settings: Sequence[RouteSettings],
        scopes: Scopes,
        clock: IReactorTime,
        journal: Journal,
        where: str = "routes",
        common: Routes | None = None,
    ) -> None:
        self._where = where
        self._common = common
        self._journal = journal
        self._checked = clock.seconds()
        self._settings = settings
        self._numbers: list[int] = []
        self._single_label: int | None = None
        self._files: list[list[DomainFile]] = []
        for index, route in enumerate(settings):
            place = f"{where}[{index}]"
            try:
                number = scopes.number(route)
            except ConfigError as error:
                raise ConfigError(f"{place}: {error}") from None
            if route.single_label:
                if self._single_label is not None:
                    raise ConfigError(f"{place}.single_label: another route has it already")
                self._single_label = number
            self._numbers.append(number)
            self._files.append([DomainFile(path) for path in route.domain_files])
            for position, file in enumerate(self._files[-1]):
                try:
                    file.domains = file.read()
                except Unreadable as error:
                    raise ConfigError(
                        f"{place}.domain_files[{position}]: {file.path} {error}"
                    ) from None
        self._table = self._build()
        self.reads_files = any(self._files)
        """Whether some of the domains are in files."""

    def __len__(self) -> int:
        return len(self._settings)

    def find(self, name: bytes, now: float) -> int | None:
        """Return the number of the scope that a domain leads ``name`` to (wire form, lower case),
        or `NO_SUCH_NAMES`; `None` if there is no such domain. The longest counts, of the common
        ones only where there is none here.

        ``now``: seconds of the clock.
        """
        if self.reads_files and not 0 <= now - self._checked < CHECK_EVERY:
            self._checked = now
            self._check()
        table = self._table
        position = 0
        while length := name[position]:
            numbers = table.get(name[position:])
            if numbers is not None:
                number = numbers[position > 0]
                if number is not None:
                    return number
            position += length + 1
        return None if self._common is None else self._common.find(name, now)

    def find_single_label(self, name: bytes, qtype: int) -> int | None:
        """Return where a name with one label leads to as such, `None` if it is none."""
        if self._single_label is None:
            return None if self._common is None else self._common.find_single_label(name, qtype)
        if qtype not in _ADDRESSES:
            return None
        length = name[0]
        return None if not length or name[length + 1] else self._single_label

    def number(self, name: bytes, qtype: int, now: float) -> int | None:
        """Return where a name leads to by its domain, or else by its one label."""
        number = self.find(name, now)
        return self.find_single_label(name, qtype) if number is None else number

    def zone(self, name: bytes) -> int:
        """Return how many octets at the end of ``name`` are the domain that was found for it; the
        root if it was found by its one label.
        """
        position = 0
        while length := name[position]:
            numbers = self._table.get(name[position:])
            if numbers is not None and numbers[position > 0] is not None:
                return len(name) - position
            position += length + 1
        return 1 if self._common is None else self._common.zone(name)

    def reread(self) -> bool:
        """Read all files now, changed or not; return whether all of them are good."""
        return self._check(every=True)

    def _check(self, *, every: bool = False) -> bool:
        """Read the files that have changed; return whether none of the files is bad."""
        good = True
        for files in self._files:
            for file in files:
                if every or file.changed():
                    self._read(file)
                good = good and not file.problem
        return good

    def _read(self, file: DomainFile) -> None:
        before, problem = file.domains, ""
        try:
            file.domains = file.read()
            self._table = self._build()
        except Unreadable as error:
            problem = str(error)
        except ConfigError as error:
            file.domains = before
            problem = f"cannot be used: {error}"
        if not problem:
            self._journal.info("{count} domains in {path}", count=len(file.domains), path=file.path)
        elif problem != file.problem:
            self._journal.warn(
                "{path} {problem}: its domains stay as they were", path=file.path, problem=problem
            )
        file.problem = problem

    def _build(self) -> dict[bytes, _Numbers]:
        """Return the table. Raises `ConfigError` for a domain that two routes claim."""
        table: dict[bytes, _Numbers] = {}
        claims: dict[bytes, int] = {}
        same: dict[_Numbers, _Numbers] = {}  # many domains have equal numbers
        for index, place, pattern in self._patterns():
            other = claims.setdefault(pattern, index)
            if other != index:
                raise ConfigError(
                    f"{place}: {to_text(pattern)} belongs to {self._where}[{other}] already"
                )
            number = self._numbers[index]
            below_only = pattern.startswith(_WILDCARD)
            domain = pattern[len(_WILDCARD) :] if below_only else pattern
            at, below = table.get(domain, (None, None))
            numbers: _Numbers
            if below_only:
                numbers = at, number
            else:
                numbers = number, number if _WILDCARD + domain not in claims else below
            table[domain] = same.setdefault(numbers, numbers)
        return table

    def _patterns(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield each domain with the number of its route and the place where it is given."""
        for index, (route, files) in enumerate(zip(self._settings, self._files, strict=True)):
            place = f"{self._where}[{index}]"
            for position, domain in enumerate(route.domains):
                yield index, f"{place}.domains[{position}]", domain
            for position, file in enumerate(files):
                for domain in file.domains:
                    yield index, f"{place}.domain_files[{position}]: {file.path}", domain
