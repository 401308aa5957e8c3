"""What can be wrong with the settings of the query log."""

from __future__ import annotations

import os
from importlib.util import find_spec

from staggerdns.files import MAX_SOCKET_PATH
from staggerdns.querylog.clients import CLIENTS
from staggerdns.settings.sections import QueryLogSettings

UNIX = "unix:"
"""What ``query_log.dnstap`` begins with when it names the socket of a collector."""
LIBRARIES = ("dnstap_pb", "fstrm")
"""What dnstap is written by."""


def check_query_log(settings: QueryLogSettings, problems: list[str]) -> None:
    """Add to ``problems`` what is wrong."""
    file, dnstap = settings.file, settings.dnstap
    if file is not None and (not file or "\0" in file):
        problems.append("query_log.file: expected a path, or null for none")
    if settings.clients not in CLIENTS:
        problems.append(
            f"query_log.clients: expected {' or '.join(CLIENTS)}, got {settings.clients!r}"
        )
    if dnstap is None:
        return
    path = dnstap.removeprefix(UNIX)
    if not path or "\0" in path:
        problems.append("query_log.dnstap: expected a path, unix: and a path, or null for none")
    elif path != dnstap and len(os.fsencode(path)) > MAX_SOCKET_PATH:
        problems.append(
            f"query_log.dnstap: expected a path of at most {MAX_SOCKET_PATH} octets, which is what "
            "a socket can have"
        )
    elif file and path == dnstap and os.path.realpath(dnstap) == os.path.realpath(file):
        problems.append("query_log.dnstap: expected another file than query_log.file")
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        problems.append(
            f"query_log.dnstap: {' and '.join(missing)} cannot be found: "
            "pip install 'staggerdns[dnstap]'"
        )
