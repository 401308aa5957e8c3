"""The hosts file: names and addresses that the operator of this machine gives (hosts(5)).

The file is read into a table of names, with the reverse names of its addresses. The first question
in each second checks whether the file has changed; then it is read again and the table replaced.
When the file is gone, the table is empty; when it cannot be read or is too long, the table stays.
Of a wrong line only the wrong address or name is left out. A problem is logged once, until it
changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton

from twisted.internet.interfaces import IReactorTime

from staggerdns.files import Unreadable, read_file
from staggerdns.journal import Journal
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, LocalNegativeAnswer, RecordAnswer
from staggerdns.wire.constants import CLASS_IN, Rcode, Type
from staggerdns.wire.names import from_text, reverse_name

HOSTS_TTL = 60
"""Seconds that clients may keep what the file says."""
CHECK_EVERY = 1.0
"""Seconds from one check of the file to the next."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin UTF-8 with it
_PLACEHOLDER = inet_pton(AF_INET, "127.0.1.1")
"""Debian's installer gives this address to the machine's own name. It is left out, since it would
lead every client to itself.
"""
_SHOWN = 100  # characters of a wrong line that are logged

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_WIDTHS: dict[int, int] = {Type.A: 4, Type.AAAA: 16}
_ABOUT_ADDRESSES = (Type.A, Type.AAAA, Type.SVCB, Type.HTTPS)
"""For a name with addresses these types are answered from the file alone: upstreams might know an
address of the other family, or a hint (RFC 9460 section 7.3), in place of the operator's.
"""


class Hosts:
    """The names in the file at ``path``; ``journal`` is told what is wrong with it."""

    def __init__(self, path: str, clock: IReactorTime, journal: Journal) -> None:
        self._path = Path(path)
        self._seconds = clock.seconds
        self._journal = journal
        self._table = _Table()
        self._state: object = None
        self._bad_lines: list[str] = []
        self._last_warning = ""
        self._changed: Callable[[], object] | None = None
        self._checked = self._seconds()
        self._check()

    def find(self, name: bytes, qtype: int, now: float, *, only_local: bool) -> Answer | None:
        """Return the answer at ``now`` for a name in lower case, `None` if others have to be asked.

        ``only_local``: nobody else is asked, so what the file does not have does not exist.
        """
        self.look(now)
        host = self._table.hosts.get(name)
        if host is None:
            return None
        if qtype == Type.PTR and host.pointer:
            return RecordAnswer(Type.PTR, CLASS_IN, host.pointer, HOSTS_TTL)
        width = _WIDTHS.get(qtype)
        addresses = tuple(address for address in host.addresses if len(address) == width)
        if addresses:
            return AddressPool((), addresses, HOSTS_TTL, ad=False)
        if only_local or (host.addresses and qtype in _ABOUT_ADDRESSES):
            return LocalNegativeAnswer(Rcode.NOERROR, len(name), HOSTS_TTL)
        return None

    def look(self, now: float) -> None:
        """Read the file if it has changed, unless the last look was less than a second ago."""
        if not 0 <= now - self._checked < CHECK_EVERY:  # or a clock that was set back
            self._checked = now
            self._check()

    def on_change(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` whenever the names have changed."""
        self._changed = callback

    def reread(self) -> bool:
        """Read the file now, changed or not; return whether it could be read."""
        self._state, self._last_warning, self._bad_lines = None, "", []
        self._check()
        return self._state is not None

    def has_descendants(self, name: bytes) -> bool:
        """Return whether the file has a name below this one, which therefore exists (RFC 8020)."""
        return name in self._table.ancestors

    def exists(self, name: bytes) -> bool:
        """Return whether the file has this name or one below it."""
        return name in self._table.hosts or name in self._table.ancestors

    def _check(self) -> None:
        try:
            status = self._path.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
            if state == self._state:
                return
            self._state = state
            content = read_file(str(self._path))
        except OSError as error:
            self._state = None  # try again at the next check
            if isinstance(error, FileNotFoundError):
                self._use(_Table())
            self._warn(f"cannot be read: {error.strerror}")
        except Unreadable as error:
            self._state = None
            self._warn(str(error))
        else:
            self._read(content)

    def _read(self, content: bytes) -> None:
        table = _Table()
        bad_lines = []
        text = content.removeprefix(_BYTE_ORDER_MARK).decode("ascii", "replace")
        for number, line in enumerate(text.split("\n"), 1):
            fields = line.partition("#")[0].split()
            if fields and not table.add(fields):
                bad_lines.append(f"{number}: {line}")
        self._use(table)
        self._last_warning = ""
        if bad_lines and bad_lines != self._bad_lines:
            self._journal.warn(
                "{count} lines of {path} are wrong, the first is {line}",
                count=len(bad_lines),
                path=str(self._path),
                line=ascii(bad_lines[0][:_SHOWN]),
            )
        self._bad_lines = bad_lines
        self._journal.info(
            "{names} names, reverse ones included, in {path}",
            names=len(table.hosts),
            path=str(self._path),
        )

    def _use(self, table: _Table) -> None:
        self._table = table
        if self._changed is not None:
            self._changed()

    def _warn(self, what: str) -> None:
        if what != self._last_warning:
            self._last_warning = what
            self._journal.warn("the hosts file {path} {what}", path=str(self._path), what=what)


class _Host:
    """The addresses of a name in their order, or the ``pointer`` of a reverse name."""

    __slots__ = ("addresses", "pointer")

    def __init__(self) -> None:
        self.addresses: dict[bytes, None] = {}
        self.pointer = b""


class _Table:
    """The content of the file; names are in wire form and lower case."""

    def __init__(self) -> None:
        self.hosts: dict[bytes, _Host] = {}
        self.ancestors: set[bytes] = set()

    def add(self, fields: list[str]) -> bool:
        """Add the address and names of a line; return whether all of them are valid."""
        try:
            address = inet_pton(AF_INET6 if ":" in fields[0] else AF_INET, fields[0])
        except (OSError, ValueError):
            return False
        names = []
        for text in fields[1:]:
            with suppress(ValueError):
                names.append(_wire(text))
        good = 1 < len(fields) == len(names) + 1
        if not names or address == _PLACEHOLDER:
            return good
        for name in names:
            self._host(name.lower()).addresses[address] = None
        reverse = self._host(reverse_name(address))
        reverse.pointer = reverse.pointer or names[0]  # the canonical name is the first one
        return good

    def _host(self, name: bytes) -> _Host:
        """Return the record of a name; a new one is noted with all its ancestors."""
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = _Host()
            while name[0]:
                name = name[name[0] + 1 :]
                if name in self.ancestors:
                    break
                self.ancestors.add(name)
        return host


def _wire(text: str) -> bytes:
    """Return a host name in wire form. Raises `ValueError` if it is not one (RFC 1123)."""
    if not _NAME.fullmatch(text):
        raise ValueError(text)
    return from_text(text)
