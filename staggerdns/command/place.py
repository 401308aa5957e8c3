"""Where the control socket of a program is, as its configuration file says it.

Only that much of the file is read, so that a command still reaches the program when the rest has
become wrong, and fast.
"""

from __future__ import annotations

import msgspec

from staggerdns.errors import StaggerDNSError
from staggerdns.files import Unreadable, read_file
from staggerdns.settings.document import ConfigError, read_document
from staggerdns.settings.section import default_of
from staggerdns.settings.sections import ControlSettings


class NoPlace(StaggerDNSError, ValueError):
    """A file that does not say where the socket is; the text says why."""


def find_socket(path: str, *, must_be_there: bool) -> str:
    """Return where a program with the configuration file at ``path`` is reached.

    A file that is no YAML stands for one that says nothing about it. So does one that cannot be
    read, unless it ``must_be_there``: whoever may use the socket need not be able to read the file.
    Raises `NoPlace`.
    """
    default = str(default_of(ControlSettings, "socket"))
    try:
        text = read_file(path, pipes=True).decode("utf-8")
    except (Unreadable, UnicodeDecodeError) as error:
        if must_be_there:
            raise NoPlace(f"{path}: {error}: name the socket with --socket") from None
        return default
    try:
        document = read_document(text)
    except ConfigError:
        return default  # the program says what is wrong with the file
    section = document.get("control") if isinstance(document, dict) else None
    if section is None:
        return default
    try:
        found = msgspec.convert(section, ControlSettings).socket
    except msgspec.ValidationError as error:
        raise NoPlace(f"{path}: control: {error}: name the socket with --socket") from None
    if not found:
        raise NoPlace(f"{path}: control.socket is null: the program has no control socket")
    return found
