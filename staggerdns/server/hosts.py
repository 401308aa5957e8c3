"""The hosts file: names and addresses that the operator of this machine gives (hosts(5)).

The file is read into one table of names, the reverse names of its addresses among them. The first
question of each second looks at the file's state; when that has changed the file is read anew
and the table replaced. A file that has vanished is an empty one; one that cannot be read, or is
too long, leaves the table as it was. What is wrong costs the address or name that it is in, and is
told of once, as long as it stays the same.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton

from twisted.internet.interfaces import IReactorTime

from staggerdns.files import Unreadable, read_file
from staggerdns.journal import Journal
from staggerdns.wire.answer import Answer, NegativeAnswer, Pool, RecordAnswer
from staggerdns.wire.constants import CLASS_IN, Rcode, Type
from staggerdns.wire.names import from_text

HOSTS_TTL = 60
"""Seconds that clients may keep what the file says."""
CHECK_EVERY = 1.0
"""Seconds from one look at the file to the next."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin UTF-8 with it
_PLACEHOLDER = inet_pton(AF_INET, "127.0.1.1")
"""What Debian gives the machine's own name to, when it is installed. It is of use on that machine
only: it would send everybody else to himself."""
_SHOWN = 100  # characters of a wrong line in the log

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_WIDTHS: dict[int, int] = {Type.A: 4, Type.AAAA: 16}
_ABOUT_ADDRESSES = (Type.A, Type.AAAA, Type.SVCB, Type.HTTPS)
"""Types of a name with addresses that the file alone decides about: an upstream's, for the other
family or as a hint (RFC 9460 section 7.3), would lead past the address that the operator gave.
"""


class Hosts:
    """The file at ``path`` as it is now by ``clock``; what is wrong with it goes to ``journal``."""

    def __init__(self, path: str, clock: IReactorTime, journal: Journal) -> None:
        self._path = Path(path)
        self._seconds = clock.seconds
        self._journal = journal
        self._table = _Table()
        self._state: object = None
        self._bad_lines: list[str] = []
        self._last_warning = ""
        self._checked = self._seconds()
        self._check()

    def find(self, name: bytes, qtype: int, now: float, *, only_local: bool) -> Answer | None:
        """Return the answer at ``now`` for a name in lower case, `None` when others are asked.

        ``only_local``: nobody else may know the name; what the file does not have is not there.
        """
        if not 0 <= now - self._checked < CHECK_EVERY:  # a clock that was set back: look, too
            self._checked = now
            self._check()
        host = self._table.hosts.get(name)
        if host is None:
            return None
        if qtype == Type.PTR and host.pointer:
            return RecordAnswer(Type.PTR, CLASS_IN, host.pointer, HOSTS_TTL)
        width = _WIDTHS.get(qtype)
        addresses = tuple(address for address in host.addresses if len(address) == width)
        if addresses:
            return Pool((), addresses, HOSTS_TTL, ad=False)
        if only_local or (host.addresses and qtype in _ABOUT_ADDRESSES):
            return NegativeAnswer(Rcode.NOERROR, len(name), HOSTS_TTL)
        return None

    def reread(self) -> bool:
        """Read the file now, changed or not; say whether it could be read."""
        self._state, self._last_warning, self._bad_lines = None, "", []
        self._check()
        return self._state is not None

    def has_descendants(self, name: bytes) -> bool:
        """Say whether the file has a name that ends in this one, which so exists (RFC 8020)."""
        return name in self._table.ancestors

    def exists(self, name: bytes) -> bool:
        """Say whether a name exists because of the file: it is there, or one below it is."""
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
            self._state = None  # try again, with the next look
            if isinstance(error, FileNotFoundError):
                self._table = _Table()
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
        self._table = table
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

    def _warn(self, what: str) -> None:
        if what != self._last_warning:
            self._last_warning = what
            self._journal.warn("the hosts file {path} {what}", path=str(self._path), what=what)


class _Host:
    """A name's addresses in their order; a reverse name's ``pointer``, empty for other names."""

    __slots__ = ("addresses", "pointer")

    def __init__(self) -> None:
        self.addresses: dict[bytes, None] = {}
        self.pointer = b""


class _Table:
    """What one version of the file says; names are in wire form and lower case."""

    def __init__(self) -> None:
        self.hosts: dict[bytes, _Host] = {}
        self.ancestors: set[bytes] = set()

    def add(self, fields: list[str]) -> bool:
        """Take an address and its names; say whether all are what they should be."""
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
        reverse = self._host(_reverse(address))
        reverse.pointer = reverse.pointer or names[0]  # the canonical name is the first one
        return good

    def _host(self, name: bytes) -> _Host:
        """Return the record of a name, made and noted below all names above it if need be."""
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
    """Return a host name in wire form. Raises `ValueError` for what is none (RFC 1123)."""
    if not _NAME.fullmatch(text):
        raise ValueError(text)
    return from_text(text)


def _reverse(address: bytes) -> bytes:
    """Return the name that leads back from an address (RFC 1035 section 3.5, RFC 3596)."""
    if len(address) == 4:
        labels = [str(octet) for octet in reversed(address)] + ["in-addr", "arpa"]
    else:
        labels = [*reversed(address.hex()), "ip6", "arpa"]
    return from_text(".".join(labels))
