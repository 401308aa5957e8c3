"""What of the traffic the page shows: whoever can reach it can read it."""

from __future__ import annotations

from typing import NamedTuple

from staggerdns.server.hostheader import is_loopback
from staggerdns.settings.addresses import Endpoint
from staggerdns.settings.sections import PageSettings


class Shows(NamedTuple):
    """Whether names, with the addresses that were answered, and clients are shown."""

    names: bool
    clients: bool


def what_to_show(settings: PageSettings, listen: Endpoint | None, came_in_by: str) -> Shows:
    """Return what is shown on a connection to the address ``came_in_by``.

    Where nothing is said, everything on loopback alone. Both addresses have to be: a connection may
    be left from a listener that was elsewhere before a reload.
    """
    private = listen is not None and is_loopback(listen.host) and is_loopback(came_in_by)
    return Shows(
        names=private if settings.names is None else settings.names,
        clients=private if settings.clients is None else settings.clients,
    )
