"""What can be wrong with the settings of the second level."""

from __future__ import annotations

import re
from importlib.util import find_spec

from staggerdns.files import Unreadable, located, read_file
from staggerdns.settings.shared import SharedSettings
from staggerdns.upstream.tls import load_certificates

LIBRARY = "txredisapi"
"""What the store is asked with."""
MAX_PASSWORD = 512
"""Octets of a password."""
_SITE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_shared(settings: SharedSettings, problems: list[str]) -> None:
    """Add to ``problems`` what is wrong."""
    path = "cache.shared"
    if not _SITE.fullmatch(settings.site):
        problems.append(
            f"{path}.site: expected at most 64 letters, digits, dots, hyphens and underscores"
        )
    url = settings.url
    if url is None:
        return
    if find_spec(LIBRARY) is None:
        problems.append(f"{path}.url: {LIBRARY} cannot be found: pip install 'staggerdns[shared]'")
    if url.password and settings.password is not None:
        problems.append(f"{path}.password: expected none: there is one in {path}.url")
    try:
        read_password(settings)
    except Unreadable as error:
        problems.append(f"{path}.password: {error}")
    if settings.tls_ca is not None:
        if not url.tls:
            problems.append(f"{path}.tls_ca: expected rediss:// in {path}.url")
        try:
            load_certificates(settings.tls_ca)
        except ValueError as error:
            problems.append(f"{path}.tls_ca: {error}")


def read_password(settings: SharedSettings) -> str:
    """Return the password of the store, empty for none. Raises `Unreadable`."""
    path = settings.password
    if path is None:
        return "" if settings.url is None else settings.url.password
    try:
        text = read_file(located(path)).decode("utf-8")
    except Unreadable as error:
        raise Unreadable(f"{path} {error}") from None
    except UnicodeDecodeError:
        raise Unreadable(f"{path} cannot be used: expected UTF-8 text") from None
    password = text.partition("\n")[0].rstrip("\r")
    if not 0 < len(password) <= MAX_PASSWORD:
        raise Unreadable(
            f"{path} cannot be used: expected a password of at most {MAX_PASSWORD} characters in "
            "its first line"
        )
    return password
