"""A place that cannot be listened on, in one line: which key of the configuration wants it, why
not, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EPERM
from ipaddress import ip_address

from staggerdns.errors import StaggerDNSError
from staggerdns.settings.addresses import NO_INTERFACE, Endpoint

_UNPRIVILEGED = 1024
_DNS = 53
_CAPABILITY = "CAP_NET_BIND_SERVICE (as in etc/systemd/staggerdns.service)"


class CannotBind(StaggerDNSError, ValueError):
    """A listener that cannot be had; the text is one line for a person."""


def overlap(one: Endpoint, other: Endpoint) -> bool:
    """Return whether one of the two cannot be bound when the other is."""
    first, second = ip_address(one.host), ip_address(other.host)
    if one.port != other.port or first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified


def explain(
    key: str,
    endpoint: Endpoint,
    error: OSError,
    taken: Iterable[tuple[str, Endpoint]],
    *,
    running: bool,
    passed: object = None,
) -> CannotBind:
    """Return why ``endpoint``, which ``key`` wants, cannot be had.

    ``taken``: the places that we have ourselves, with their keys. ``running``: whether the program
    has started already, and may have given up its privileges.
    """
    if endpoint.missing_interface:
        return CannotBind(
            f"{key}: cannot listen on {endpoint}: "
            f"there is no interface {endpoint.missing_interface}: see `ip link`"
        )
    if endpoint.lacks_interface:
        return CannotBind(f"{key}: cannot listen on {endpoint}: {NO_INTERFACE}")
    reason = error.strerror or error
    remedy = _remedy(endpoint, error.errno, taken, running)
    if error.errno == EADDRINUSE and passed is not None and ":" not in endpoint.host:
        remedy = (
            f"the socket {passed} that was passed in takes IPv4 as well: "
            "BindIPv6Only=ipv6-only in its unit, or leave this one out"
        )
    return CannotBind(f"{key}: cannot listen on {endpoint}: {reason}: {remedy}")


def _remedy(
    endpoint: Endpoint, number: int | None, taken: Iterable[tuple[str, Endpoint]], running: bool
) -> str:
    port = endpoint.port
    if number in (EACCES, EPERM) and port < _UNPRIVILEGED:
        if running:
            return (
                f"ports below {_UNPRIVILEGED} need privileges that a running program has given up: "
                f"restart it, or let it have {_CAPABILITY}"
            )
        return f"ports below {_UNPRIVILEGED} are for root or need {_CAPABILITY}, or a port above"
    if number == EADDRINUSE:
        for key, other in taken:
            if overlap(endpoint, other):
                return f"{key} has it, {other}"
        who = f"see who has it with ss -lntup 'sport = :{port}'"
        if port == _DNS:
            who = (
                "another DNS server may have it, such as systemd-resolved (DNSStubListener=no "
                f"in /etc/systemd/resolved.conf turns that off) or dnsmasq; {who}"
            )
        return f"{who}, or choose another address or port"
    if number == EADDRNOTAVAIL:
        return (
            "this machine does not have this address, and its kernel cannot wait for it: choose "
            "one that `ip address` shows"
        )
    return "choose another address or port"
