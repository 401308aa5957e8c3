"""An answer as the query log and whoever watches show it: an object of JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from staggerdns.querylog.clients import shown_client
from staggerdns.server.answered import Answered

_encode = msgspec.json.Encoder().encode


@lru_cache(2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def shown_time(seconds: float) -> str:
    """Return a time as the log has it, in seconds since 1970 and UTC (RFC 3339)."""
    whole, thousandths = divmod(int(1000 * seconds), 1000)
    return f"{_second(whole)}.{thousandths:03d}+00:00"


def shown(answered: Answered, clients: str) -> dict[str, Any]:
    """Return what is shown of an answer (docs/operating.rst, The query log)."""
    read = answered.read
    return {
        "time": shown_time(answered.time),
        "client": shown_client(answered.client, clients),
        "transport": answered.transport,
        "name": read.name_text,
        "type": read.type_text,
        "rcode": read.rcode_text,
        "source": answered.source,
        "list": answered.list,
        "ms": round(1000 * answered.seconds, 3),
        "addresses": read.addresses,
    }


def json_line(answered: Answered, clients: str) -> bytes:
    """Return the same as a line of JSON, with its line feed. Names have no octets but those of
    printable ASCII.
    """
    return _encode(shown(answered, clients)) + b"\n"
