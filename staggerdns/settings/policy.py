"""The settings of what may come: rules about names and addresses, whoever is asked."""

from __future__ import annotations

from staggerdns.settings.addresses import Network
from staggerdns.settings.section import Section
from staggerdns.settings.values import Domain, Seconds


class AddressSettings(Section, frozen=True, kw_only=True):
    """``addresses``: which addresses never come, and which mean that there is no such name."""

    ignore: tuple[Network, ...] = ()
    """Addresses that are left out of every answer and pool, whichever upstream says them; HTTPS and
    SVCB records with such a hint, too. An answer with no other address counts as none: others are
    asked, and whoever gave it is not to blame.
    """
    bogus_nxdomain: tuple[Network, ...] = ()
    """Addresses that some networks answer with where there is no such name: an answer that has one
    of these is NXDOMAIN.
    """


class ListSettings(Section, frozen=True, kw_only=True):
    """One of the ``lists``: where its names come from, all of them together."""

    files: tuple[str, ...] = ()
    """Files of this machine, in any of the forms of :ref:`spec-lists`; each is read again when it
    has changed.
    """
    urls: tuple[str, ...] = ()
    """Files of servers, over HTTPS. The names of servers are looked up with
    :confval:`upstream.bootstrap`.
    """
    domains: tuple[Domain, ...] = ()
    """Domains that are in the list, with all below them."""
    refresh: Seconds = Seconds(14_400)
    """How often servers are asked whether there is something new."""
