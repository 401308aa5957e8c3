"""h2load as a client of DNS over HTTPS: one run, and its figures."""

from __future__ import annotations

import re
from pathlib import Path

from bench import programs
from bench.daemons import Daemon
from bench.load import Load, LoadError, run_client

_MEDIA_TYPE = "application/dns-message"
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def run(
    daemon: Daemon, port: int, query: Path, *, count: int, clients: int, outstanding: int
) -> Load:
    """Send the query in a file ``count`` times, by POST (RFC 8484).

    ``clients``: each has a connection, with ``outstanding`` requests at once.
    """
    options = ["-n", str(count), "-c", str(clients), "-m", str(outstanding), "-d", str(query)]
    options += ["-H", f"content-type: {_MEDIA_TYPE}", "-H", f"accept: {_MEDIA_TYPE}"]
    options.append(f"https://127.0.0.1:{port}/dns-query")
    return run_client("h2load", options, daemon, read, core=programs.cores()[1])


def read(text: str, cpu: float) -> Load:
    """Read what h2load printed; LoadError when that is not what it prints.

    ``cpu``: seconds that the server spent.
    """
    ended = re.search(r"^finished in ([\d.]+)(s|ms|us),", text, re.MULTILINE)
    asked = re.search(r"^requests: (\d+) total,", text, re.MULTILINE)
    good = re.search(r"^status codes: (\d+) 2xx,", text, re.MULTILINE)
    if not (ended and asked and good):
        raise LoadError(f"h2load printed something else than expected:\n{text}")
    answered = int(good[1])
    return Load(answered, int(asked[1]) - answered, float(ended[1]) * _UNITS[ended[2]], cpu)
