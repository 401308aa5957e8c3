"""Which URLs a list can be fetched from, told before it is tried.

Whatever passes goes through the client's own reading of a URL, so that nothing is left that it
would refuse each time.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from hyperlink import EncodedURL

_PRINTABLE = re.compile(r"[!-~]+")
_USER = re.compile(r"[^/?#]*//[^/?#]*@")
_FORM = "expected a URL like https://lists.example/hosts.txt"


def problem_of(text: str) -> str:
    """Return why no list can be fetched from there and what would help, empty if one can."""
    if _USER.match(text):  # it is not shown either
        return (
            "expected a URL without a user and a password, which would stand in logs: have "
            "another program fetch the list, and name its file under files"
        )
    if _PRINTABLE.fullmatch(text) is None:
        return f"{_FORM}, got {text!a}"
    try:
        parts = urlsplit(text)
        if parts.scheme != "https" or not parts.hostname or parts.port == 0:
            return f"{_FORM}, got {text!a}"
    except ValueError:  # the port, or brackets without an address
        return f"{_FORM}, got {text!a}"
    return _problem_of_host(text, parts.hostname)


def _problem_of_host(text: str, host: str) -> str:
    if ":" in host:
        return f"expected a URL with a name or an IPv4 address, got {text!a}: name the server"
    try:
        if host.rstrip(".").rpartition(".")[2].isdigit():
            IPv4Address(host)
        EncodedURL.from_text(text).to_uri()
    except ValueError as error:
        return f"expected a URL with the name of a server, got {text!a}: {error}"
    return ""
