"""Which scope a name belongs to: routes by domain (docs/specification.rst, Scopes).

One table has all domains of all routes, so that a name costs one look-up for each of its labels,
the longest domain first, however many domains there are. When files of domains have changed the
table is made anew beside the one that is in use (`DomainFiles`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from staggerdns.files import Unreadable
from staggerdns.policy.domainfiles import DomainFiles
from staggerdns.policy.domains import STEP, DomainFile, Steps
from staggerdns.policy.scope import Scopes
from staggerdns.settings.document import ConfigError
from staggerdns.settings.policy import RouteSettings
from staggerdns.wire.constants import Type
from staggerdns.wire.names import to_text

_WILDCARD = b"\1*"
_UNDERSCORE = ord("_")
_OF_ZONES = (Type.NS, Type.SOA, Type.DS, Type.DNSKEY)
"""Types that are asked for at top-level domains, by those who validate for instance."""

_Entry = tuple[int | None, int | None, int | None, int | None]
"""Of a domain: the number of its own scope, and of that of the names below it; the route that has
claimed it, and the one that has claimed these.
"""
_NO_ENTRY: _Entry = (None, None, None, None)
Table = dict[bytes, _Entry]
"""The entries of all domains."""


class Routes:
    """The routes of ``settings``, which lead to the numbers that ``scopes`` gives.

    ``files``: where files of domains come from. ``where``: the path of the settings. ``common``:
    those that count for what none of these claims. `load` them before use. Raises `ConfigError`
    that names the place in the settings.
    """

    def __init__(
        self,
        settings: Sequence[RouteSettings],
        scopes: Scopes,
        files: DomainFiles,
        where: str = "routes",
        common: Routes | None = None,
    ) -> None:
        self._where = where
        self._common = common
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
            self._files.append([files.file(path) for path in route.domain_files])
        self._table: Table = {}
        files.add(self)

    def __len__(self) -> int:
        return len(self._settings)

    def load(self) -> Steps[None]:
        """Read the files that have not been read, and make the table, before names are looked for.
        Raises `ConfigError`.
        """
        for index, files in enumerate(self._files):
            for position, file in enumerate(files):
                try:
                    yield from file.load()
                except Unreadable as error:
                    place = f"{self._where}[{index}].domain_files[{position}]"
                    raise ConfigError(f"{place}: {file.path} {error}") from None
        self._table = yield from self.build()

    def find(self, name: bytes) -> int | None:
        """Return the number of the scope that a domain leads ``name`` to (wire form, lower case),
        or `NO_SUCH_NAMES`; `None` if there is no such domain. The longest counts, of the common
        ones only where there is none here.
        """
        table = self._table
        position = 0
        while length := name[position]:
            entry = table.get(name[position:])
            if entry is not None:
                number = entry[position > 0]
                if number is not None:
                    return number
            position += length + 1
        return None if self._common is None else self._common.find(name)

    def find_single_label(self, name: bytes, qtype: int) -> int | None:
        """Return where a name with one label leads to as such, `None` if it is none.

        Labels in front that begin with an underscore do not count (RFC 8552): a browser that wants
        ``nas`` asks for ``_8443._https.nas`` as well (RFC 9460 section 2.3).
        """
        if self._single_label is None:
            return None if self._common is None else self._common.find_single_label(name, qtype)
        if qtype in _OF_ZONES:
            return None
        position = 0
        while (length := name[position]) and name[position + length + 1]:
            if name[position + 1] != _UNDERSCORE:
                return None
            position += length + 1
        return self._single_label if length else None

    def number(self, name: bytes, qtype: int) -> int | None:
        """Return where a name leads to by its domain, or else by its one label."""
        number = self.find(name)
        return self.find_single_label(name, qtype) if number is None else number

    def zone(self, name: bytes) -> int:
        """Return how many octets at the end of ``name`` are the domain that was found for it; the
        root if it was found by its one label.
        """
        position = 0
        while length := name[position]:
            entry = self._table.get(name[position:])
            if entry is not None and entry[position > 0] is not None:
                return len(name) - position
            position += length + 1
        return 1 if self._common is None else self._common.zone(name)

    def build(self) -> Steps[Table]:
        """Make the table of what is in the files now. Raises `ConfigError` for a domain that two
        routes claim.
        """
        table: Table = {}
        same: dict[tuple[int | None, int | None], _Entry] = {}  # many domains have equal ones
        for count, (index, place, pattern) in enumerate(self._patterns(), 1):
            if count % STEP == 0:
                yield STEP
            below_only = pattern.startswith(_WILDCARD)
            domain = pattern[len(_WILDCARD) :] if below_only else pattern
            _, _, plain, wild = table.get(domain, _NO_ENTRY)
            other = wild if below_only else plain
            if other is None:
                claims = (plain, index) if below_only else (index, wild)
                table[domain] = same.get(claims) or same.setdefault(claims, self._entry(*claims))
            elif other != index:
                raise ConfigError(
                    f"{place}: {to_text(pattern)} belongs to {self._where}[{other}] already"
                )
        return table

    def use(self, table: Table) -> Table:
        """Find names by ``table`` from now on; return the one that was used before."""
        before, self._table = self._table, table
        return before

    def _entry(self, plain: int | None, wild: int | None) -> _Entry:
        at = None if plain is None else self._numbers[plain]
        below = at if wild is None else self._numbers[wild]
        return at, below, plain, wild

    def _patterns(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield each domain with the number of its route and the place where it is given."""
        for index, (route, files) in enumerate(zip(self._settings, self._files, strict=True)):
            place = f"{self._where}[{index}]"
            for position, domain in enumerate(route.domains):
                yield index, f"{place}.domains[{position}]", domain
            for position, file in enumerate(files):
                for domain in file.domains:
                    yield index, f"{place}.domain_files[{position}]: {file.path}", domain
