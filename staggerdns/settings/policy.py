"""The settings of which names are asked where, and of what may come, whoever is asked
(docs/configuration.rst).

What a route does not say is `None` here: it is as it is for the whole program.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from staggerdns.settings.addresses import Listener, UpstreamAddress
from staggerdns.settings.networks import Network
from staggerdns.settings.section import Section
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.settings.values import Domain, DomainPattern, Interval, Seconds

DEFAULT_SERVERS = "default"
"""What is written for the servers of a route that are those of the whole program."""

DEFAULT_GROUP = "default"
"""The name of the group of everybody who is in no other one."""


class RouteRebindingSettings(Section, frozen=True, kw_only=True):
    """``routes[].rebinding``: what ``rebinding`` says, for the names of a route."""

    strip: bool | None = None
    """As ``rebinding.strip``."""
    allow_domains: tuple[Domain, ...] | None = None
    """As ``rebinding.allow_domains``."""


class RouteRankingSettings(Section, frozen=True, kw_only=True):
    """``routes[].ranking``: what ``ranking`` says of answers, for the names of a route; how
    addresses are measured is one thing for the whole program.
    """

    enabled: bool | None = None
    """As ``ranking.enabled``."""
    probe_private: bool | None = None
    """As ``ranking.probe_private``."""
    max_addresses: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
    """As ``ranking.max_addresses``."""


class FamiliesSettings(Section, frozen=True, kw_only=True):
    """``families``: whether names have IPv6 addresses that clients had better not use;
    :doc:`families` is about it.
    """

    prefer: str = "none"
    """``none``: clients get the addresses of both families. ``auto``: they get no IPv6 addresses of
    a name whose nearest IPv4 address is nearer by ``margin``, or whose IPv6 addresses accept no
    connection. That is measured by TCP connections to the ports in :confval:`ranking.probes`.
    """
    margin: Seconds = Seconds(0.02)
    """By how much the nearest IPv4 address has to be nearer."""


class OwnFamiliesSettings(Section, frozen=True, kw_only=True):
    """``families`` of a route or of a group: what ``families`` says, for its names or clients. What
    a group says comes before what a route does.
    """

    prefer: str | None = None
    """As ``families.prefer``. Clients that have IPv6 alone need ``none``."""
    margin: Seconds | None = None
    """As ``families.margin``."""


class RouteSettings(Section, frozen=True, kw_only=True):
    """``routes``: which names go to which upstreams."""

    servers: tuple[UpstreamAddress, ...]
    """Whom to ask, in one of the forms of :ref:`upstream-addresses`; ``default`` in the place of
    the list for those of the whole program; an empty list says that there are no such names, and
    nobody is asked. A server that several routes name is one upstream, with one health and one
    budget.
    """
    domains: tuple[DomainPattern, ...] = ()
    """The domains that go there, each with all names below it, or with ``*.`` in front only these.
    Of all routes that of the longest domain counts. A route for a special name or for the reverse
    names of private addresses takes the place of our own answer.
    """
    domain_files: tuple[str, ...] = ()
    """Files with more such domains, one a line, where ``#`` begins a comment. They are read again
    when they have changed and two looks, one second apart, find all of them complete. As long as
    one has a wrong line, has nothing in it or cannot be read, or two routes claim one domain, the
    domains of all files stay as they were. At the start all but an empty one is an error. At most
    8 MiB each.
    """
    single_label: bool = False
    """Whether names with a single label go there, unless they are special names: all types but NS,
    SOA, DS and DNSKEY, which are about the zone of a top-level domain. The root never does. Labels
    such as ``_443._tcp`` in front of it do not count.
    """
    strategy: str | None = None
    """As ``upstream.strategy``, for these names."""
    profile: str | None = None
    """As ``upstream.profile``, for these names."""
    parallel: ParallelSettings | None = None
    """As ``upstream.parallel``, for these names: what is not given is as there, or as the
    ``profile`` of the route says.
    """
    ranking: RouteRankingSettings = RouteRankingSettings()
    families: OwnFamiliesSettings = OwnFamiliesSettings()
    rebinding: RouteRebindingSettings = RouteRebindingSettings()
    fallback: bool = False
    """Whether the upstreams of the whole program are asked, by their own rules, when none of these
    has answered. Without it the answer is then a stale one or SERVFAIL, and such names are never
    seen by anybody else.
    """


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
    """``lists``: names that clients do not get, or get although another list has them, under a name
    of up to 64 letters, digits, ``-`` and ``_``. A list does nothing by itself: groups choose among
    them. There are 64 at most, with 8 million names together. :doc:`blocking` is about all of it.
    """

    files: tuple[str, ...] = ()
    """Files of this machine, in any of the forms of :ref:`spec-lists`. Each is read again within
    some seconds of a change; one that cannot be read, or is no list, changes nothing.
    """
    urls: tuple[str, ...] = ()
    """Such files on servers, ``https://...``. The names of the servers are looked up with
    :confval:`upstream.bootstrap`.
    """
    domains: tuple[Domain, ...] = ()
    """Domains that are in the list, each with all names below it."""
    refresh: Interval = Interval(14_400)
    """How often the servers are asked whether there is something new, from ``60s`` to ``720h``."""
    answer: str = "null_address"
    """What clients get for a name of the list: ``null_address`` (0.0.0.0 and ::, and no data of
    other types), ``nxdomain`` (there is no such name), ``nodata`` (it has no data) or ``refused``.
    """


class GroupSettings(Section, frozen=True, kw_only=True):
    """``groups``: clients with rules of their own, under a name of up to 64 letters, digits, ``-``
    and ``_``. Everybody else belongs to the group ``default``, which need not be there; what
    another group does not say is as there.
    """

    clients: tuple[Network, ...] = ()
    """Networks whose clients belong to the group; of all groups the longest network counts. Who
    asks over IPv6 is told by its IPv6 address: name both networks of a place that has two.
    """
    listeners: tuple[Listener, ...] = ()
    """Places of :confval:`server.listen` whose clients belong to the group, unless their network
    says otherwise.
    """
    block: tuple[str, ...] | None = None
    """The ``lists`` whose names they do not get."""
    allow: tuple[str, ...] | None = None
    """The ``lists`` whose names they get although another list has them."""
    families: OwnFamiliesSettings = OwnFamiliesSettings()
    routes: tuple[RouteSettings, ...] | None = None
    """Routes of their own, in the place of those of the group ``default``; they come before the
    common :confval:`routes`, which count for names that none of these claims.
    """
