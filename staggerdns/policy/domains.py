"""Files of domains: one a line, ``#`` begins a comment (docs/configuration.rst).

A name that is routed may be one that nobody else must see. So a file counts as a whole: one wrong
line, and none of it does.
"""

from __future__ import annotations

from pathlib import Path

from staggerdns.files import Unreadable, read_file
from staggerdns.settings.document import one_line
from staggerdns.settings.values import DomainPattern, read_value

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin UTF-8 with it
_SHOWN = 100  # characters of a wrong line that are told


class DomainFile:
    """The file at ``path``; ``domains`` are those in it when it was last read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.domains: tuple[DomainPattern, ...] = ()
        self.problem = ""
        self._state: object = None

    def changed(self) -> bool:
        """Return whether the file is not the one that was read last."""
        return self._stat() != self._state

    def read(self) -> tuple[DomainPattern, ...]:
        """Return the domains in the file. Raises `Unreadable` that says what is wrong with it."""
        self._state = self._stat()
        return _parse(read_file(self.path))

    def _stat(self) -> object:
        try:
            status = Path(self.path).stat()
        except (OSError, ValueError):
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _parse(content: bytes) -> tuple[DomainPattern, ...]:
    text = content.removeprefix(_BYTE_ORDER_MARK)
    if b"\0" in text:
        raise Unreadable("is no text: there are null characters in it")
    found: dict[DomainPattern, None] = {}
    for number, line in enumerate(text.decode("ascii", "backslashreplace").splitlines(), 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        try:
            domain = read_value(DomainPattern, name[: _SHOWN + 200])
        except ValueError as error:
            told = one_line(str(error))
            raise Unreadable(f"line {number}: {told[: 2 * _SHOWN]}") from None
        assert isinstance(domain, bytes)
        found[domain] = None
    return tuple(found)
