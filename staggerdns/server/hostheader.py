"""Whether a browser has found the page by a name that belongs to it (``page.hosts``).

A stranger's page can have its own name lead to this machine, after it was loaded, and its script
then reads what it asks for here as if it were its own (DNS rebinding). It has no influence on the
``Host`` field of these requests, which is that stranger's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from ipaddress import IPv6Address, ip_address

from staggerdns.settings.document import Problems
from staggerdns.settings.sections import PageSettings

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([^:\[\]]{1,255}))(?::[0-9]{0,5})?")
_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_-]{1,63}")


def canonical_host(text: str) -> str:
    """Return a name or an address, without a port, in the one form in which they are compared.

    Raises `ValueError` for anything else.
    """
    try:
        address = ip_address(text)
    except ValueError:
        name = text.lower().removesuffix(".")
        if _NAME.fullmatch(name) is None:
            raise ValueError(
                f"expected a name or an address without a port, got {text!a}"
            ) from None
        return name
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def check_hosts(settings: PageSettings, problems: Problems) -> None:
    """Check that ``page.hosts`` are names and addresses, each of them once."""
    seen: set[str] = set()
    for index, text in enumerate(settings.hosts):
        try:
            host = canonical_host(text)
        except ValueError as error:
            problems.append(f"page.hosts[{index}]: {error}")
            continue
        if host in seen:
            problems.append(f"page.hosts[{index}]: {text} is there already")
        seen.add(host)


def is_loopback(host: str) -> bool:
    """Return whether an address is one of this machine that nobody else can reach."""
    try:
        return ip_address(canonical_host(host)).is_loopback
    except ValueError:
        return False


def is_known_host(fields: Sequence[bytes], known: Collection[str], own_address: str) -> bool:
    """Return whether the ``Host`` fields of a request are one (RFC 9112 section 3.2), and name one
    of the ``known`` hosts, in canonical form, or ``own_address``, where the connection came in.

    The port is left out of it: whoever forwards one has another here than in the browser.
    """
    if len(fields) != 1:
        return False
    match = _HOST.fullmatch(fields[0].decode("latin-1").strip())
    if match is None:
        return False
    try:
        host = canonical_host(match[1] or match[2])
        return host in known or host == canonical_host(own_address.partition("%")[0])
    except ValueError:
        return False
