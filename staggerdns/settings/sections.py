"""The settings: every key of the configuration with its default and its limits
(docs/configuration.rst).

They are here, those of the section ``upstream`` in `staggerdns.settings.upstreams`, those about
names and addresses in `staggerdns.settings.policy`, and nowhere else: a class that goes by settings
takes its section. `staggerdns.config` fills them from YAML.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from staggerdns.settings.addresses import Endpoint, Listener
from staggerdns.settings.networks import Network
from staggerdns.settings.policy import (
    AddressSettings,
    FamiliesSettings,
    GroupSettings,
    ListSettings,
    RouteSettings,
)
from staggerdns.settings.records import Records
from staggerdns.settings.section import Positive, Section
from staggerdns.settings.shared import SharedSettings
from staggerdns.settings.upstreams import UpstreamSettings
from staggerdns.settings.values import Domain, Interval, Octets, Seconds, Secret

_ALLOWED_BY_DEFAULT = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)

CacheSize = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
Ttl = Annotated[int, msgspec.Meta(ge=0, le=604_800)]


class ClientSettings(Section, frozen=True, kw_only=True):
    """``server.client``: whose addresses count as one client, and who has no limits."""

    ipv4_prefix: Annotated[int, msgspec.Meta(ge=8, le=32)] = 32
    """IPv4 addresses with so many bits in common count as one client, for every limit per client.
    """
    ipv6_prefix: Annotated[int, msgspec.Meta(ge=16, le=128)] = 56
    """The same for IPv6; a /56 is a whole site, and 128 tells the machines of one network apart. A
    link-local address is always one client.
    """
    exempt: tuple[Network, ...] = (Network("127.0.0.0/8"), Network("::1/128"))
    """Networks to which no limit per client applies. Sources in 127.0.0.0/8 cannot be forged from
    outside, and a forwarder on the same machine speaks for many clients.
    """


class RateLimitSettings(Section, frozen=True, kw_only=True):
    """``server.rate_limit``: of each client, over UDP; 0 queries per second: no limit."""

    queries_per_second: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Queries over UDP that each client may send in the long run; 0 is no limit."""
    burst: Positive = 100
    """How many of these may come at once."""
    slip: Annotated[int, msgspec.Meta(ge=0, le=10)] = 1
    """Every n-th query beyond the limit gets an empty reply that sends a real client to TCP (or, if
    it knows DNS Cookies, gives it one); the others get nothing. 0 drops all.
    """


class CookieSettings(Section, frozen=True, kw_only=True):
    """``server.cookies``: DNS Cookies for clients; no secret: one of our own, which changes."""

    enabled: bool = True
    """Whether clients that ask for DNS Cookies (RFC 7873) get them."""
    secret: Secret | None = None
    """What cookies are made with, for several servers behind one address (RFC 9018). Without it,
    each start and each day has a secret of its own.
    """


class ServerSettings(Section, frozen=True, kw_only=True):
    """``server``: where clients come in and who may."""

    listen: tuple[Listener, ...] = (Listener("127.0.0.1", 5300), Listener("::1", 5300))
    """Where clients ask, in the forms of :ref:`listener-addresses`. On ``0.0.0.0`` or ``[::]``
    these are all addresses that the machine has, now or later; each reply leaves from the one that
    was asked. A hit costs a little more than on addresses that are named. An address that the
    machine does not have yet, of a network that comes up later, is answered as soon as it is there;
    the log has a warning for each at the start.
    """
    allow: tuple[Network, ...] = tuple(Network(text) for text in _ALLOWED_BY_DEFAULT)
    """Who may ask; everybody else is REFUSED."""
    proxy_protocol: tuple[Network, ...] = ()
    """Proxies that say for whom they ask, by the PROXY protocol (version 2) in front of each
    datagram and each connection, before the handshake of TLS; nobody by default. From these a
    header is mandatory, from everybody else it is not allowed; what is wrong about that is dropped
    and counted. The client that the header names is the one who counts everywhere: ``allow``,
    groups, limits, cookies, logs. Where it names none (LOCAL, for health checks) the proxy itself
    does, so it has to be in ``allow``. Name single addresses, not networks: each of them can ask in
    anybody's name. See :ref:`proxies`.
    """
    tcp_idle_timeout: Seconds = Seconds(10)
    """A connection (TCP, TLS, HTTPS) without a query for this long is closed."""
    tcp_max_connections: Positive = 256
    """Client connections over TCP, TLS and HTTPS together. Beyond them the one that has been idle
    for the longest makes room; when none is idle, the new one is refused. Where the system allows
    too few descriptors for so many, there are fewer, and the log says so at the start.
    """
    tls_certificate: str | None = None
    """PEM file for ``tls`` and ``https`` listeners: the server's certificate with those that
    certify it. It is read anew when it changes, without a restart, by the user that the program
    runs as.
    """
    tls_key: str | None = None
    """PEM file with the key of that certificate, which must not be encrypted; it is read anew
    together with it. For both, ``credential:NAME`` stands for what systemd has under that name
    (``LoadCredential=NAME:PATH`` in the unit; :ref:`credentials`).
    """
    tcp_max_per_client: Positive = 64
    """Connections of one client at the same time, limited like those of all."""
    max_pending: Positive = 10_000
    """Queries that may wait for an answer at the same time. Beyond them the one that has waited for
    the longest gets SERVFAIL.
    """
    max_pending_per_client: Positive = 1_000
    """The same for the queries of one client."""
    max_udp_size: Annotated[int, msgspec.Meta(ge=512, le=4096)] = 1232
    """Most octets of a reply over UDP, whatever the client would take."""
    client: ClientSettings = ClientSettings()
    rate_limit: RateLimitSettings = RateLimitSettings()
    cookies: CookieSettings = CookieSettings()


class LocalSettings(Section, frozen=True, kw_only=True):
    """``local``: names that are answered here; null for no hosts file."""

    hosts: str | None = "/etc/hosts"
    """A hosts file: its names are answered from it (A, AAAA and PTR), before anybody is asked; for
    other types (MX, TXT) the upstreams are, as by dnsmasq, unless the name is a special one. It is
    read again within a second of a change. At most 1 MiB; null is none. Lines with 127.0.1.1,
    Debian's placeholder for the machine's own name, do not count.
    """
    records: Records = Records()
    """Records of your own, which are answered behind the hosts file and before anybody is asked. A
    name has an address, a list of addresses, or ``{cname: NAME}``, another name whose answer it
    gets, whoever knows that. ``'*.dev.example'`` stands for all names below ``dev.example``, but
    not for itself; the longest one counts, and a name's own record more than any. A name with
    addresses has no other types, and its addresses have its name as their reverse name. A CNAME
    that leads from a name to itself makes an exception: the upstreams say what it is.
    """
    localhost: bool = True
    """``localhost`` and all names below it are this machine."""
    invalid: bool = True
    """There is no name ``invalid`` and none below it."""
    test: bool = True
    """There is no name ``test`` and none below it."""
    mdns: bool = True
    """There is no name ``local`` and none below it: they belong to multicast DNS."""
    onion: bool = True
    """There is no name ``onion`` and none below it: they belong to Tor."""
    home_arpa: bool = True
    """Below ``home.arpa`` there are the names of the hosts file, and no others."""
    resolver_arpa: bool = True
    """``resolver.arpa`` holds nothing: there is no encrypted resolver to be discovered here."""
    private_reverse: bool = True
    """Of private, loopback, link-local, documentation and carrier addresses only those in the hosts
    file have names.
    """


class RebindingSettings(Section, frozen=True, kw_only=True):
    """``rebinding``: whether answers lose private addresses, and in which domains they do not."""

    strip: bool = False
    """Whether answers of upstreams lose private, loopback and link-local addresses, so that no
    stranger's name leads to a machine inside; without any other the answer is empty. Off, since an
    upstream of your own may know names that are inside, and mail filters ask lists that answer
    127.0.0.2.
    """
    allow_domains: tuple[Domain, ...] = ()
    """Domains whose names keep such addresses all the same."""


class PrefetchSettings(Section, frozen=True, kw_only=True):
    """``cache.prefetch``: names in demand are asked for again before their answers expire."""

    enabled: bool = True
    """Whether that is done. It needs room that nobody waits for: half of what
    ``upstream.budget`` allows, as a complete pool does.
    """
    min_hits: Annotated[int, msgspec.Meta(ge=1, le=255)] = 3
    """How often the answer must have been asked for since it came; what is asked for within one
    second counts once.
    """
    last_percent: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10
    """How much of the answer's life is left when the first client who asks has it asked for again.
    """


class CacheSettings(Section, frozen=True, kw_only=True):
    """``cache``: how much is kept and for how long; TTLs in whole seconds, 0 turns one off."""

    max_entries: CacheSize = 50_000
    """Answers kept; the least recently used one goes first."""
    max_size: Octets = Octets(128 * 1024 * 1024)
    """How much memory the answers kept may take, about; whichever of the two limits is reached
    first, the least recently used go. An answer that would take a sixteenth of it is not kept.
    Replies that are ready to be sent again take 56 MiB more at most, 32 of them over UDP.
    """
    fast_response_ttl: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 5
    """TTL of an answer that is stale, not complete or not ranked yet, in seconds like all that
    follow. Addresses that have less left to live are left out while others remain, and an answer
    whose time is nearly over is asked for again behind it, at most as often as this.
    """
    user_return_ttl: Ttl = 600
    """Largest TTL that clients see; 0 is off."""
    min_ttl: Ttl = 0
    """Shorter TTLs are raised to this when an answer enters the cache; 0 is off."""
    max_ttl: Ttl = 86_400
    """Longer TTLs are lowered to this; 0 is off."""
    max_negative_ttl: Ttl = 300
    """The same for NXDOMAIN and NODATA."""
    max_stale: Ttl = 3_600
    """How long after its expiry an answer, or an address of it, may still be given, with a refresh
    behind it.
    """
    prefetch: PrefetchSettings = PrefetchSettings()
    shared: SharedSettings = SharedSettings()


class RankingSettings(Section, frozen=True, kw_only=True):
    """``ranking``: how the nearest address is found."""

    enabled: bool = True
    """Whether addresses are probed and sorted by round-trip time."""
    probes: tuple[str, ...] = ("icmp", "tcp:443", "tcp:80")
    """Ways of probing, tried in this order: ``icmp`` and ``tcp:PORT``. ICMP needs root,
    ``CAP_NET_RAW`` or ``net.ipv4.ping_group_range``; without them it drops out with one line in the
    log.
    """
    samples: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    """Samples of an address that may be the nearest; the others get one."""
    timeout: Seconds = Seconds(1)
    """How long an echo may take. After a quarter of it the echo is repeated, twice at most, and the
    next way of probing begins.
    """
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 128
    """Addresses measured at once."""
    queue: Positive = 200
    """Sorts under way; beyond them an answer is ordered by what is known and sorted at a later hit.
    """
    rtt_cache_ttl: Annotated[int, msgspec.Meta(ge=1, le=604_800)] = 300
    """Seconds after which a round-trip time and an order are old: the answer is given with a short
    TTL, and measured anew behind it.
    """
    max_probes_per_second: Positive = 500
    """Budget for all probes together. When it is short, names that clients asked for again while
    they waited come first.
    """
    probe_private: bool = False
    """Whether private, loopback and link-local addresses are probed."""
    max_addresses: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """How many addresses a reply holds at most, nearest first, for clients that put them in an
    order of their own, as glibc does by :rfc:`6724`; 0 is all. All are kept and ranked. Answers to
    queries with DO are given whole, since a signature covers all of their addresses. Without
    ranking the first ones are given as they came.
    """


class StateSettings(Section, frozen=True, kw_only=True):
    """``state``: what is kept over restarts."""

    directory: str | None = None
    """Where state is kept, in a directory that the program may write, and no other program of its
    kind: the answers of the cache with their order, round-trip times and what is known of
    upstreams, so that a restart is not felt (see :ref:`saved-state`); and the last good copies of
    :confval:`lists`, so that they count from the start when no server can be reached. Null is the
    directory that systemd has made for the program (``StateDirectory=`` in its unit); where there
    is none, all this is kept until the program ends.
    """
    interval: Interval = Interval(300)
    """How often it is saved, apart from a clean end of the program: a crash costs what came since.
    """


class ControlSettings(Section, frozen=True, kw_only=True):
    """``control``: the UNIX socket by which ``staggerdns status`` and other commands reach the
    program that runs; :doc:`control` is about it.
    """

    socket: str | None = "/run/staggerdns/control.sock"
    """Where the socket is made, in a directory that is there and that the program may write; null
    is none. Where it cannot be, the log says why, and the program does without.
    """
    group: str | None = None
    """The group whose members may use the socket, to read alone; null for the group of the process.
    The program must be a member of it, or run as root. To change things is for root and for the
    user that runs the program.
    """


class MetricsSettings(Section, frozen=True, kw_only=True):
    """``metrics``: where Prometheus comes; null for nowhere."""

    listen: Endpoint | None = Endpoint("127.0.0.1", 9153)
    """``/metrics``, ``/healthz`` and ``/readyz`` over HTTP, and the page at ``/``; null is off."""


class PageSettings(Section, frozen=True, kw_only=True):
    """``page``: the page for people at the address of the metrics; :doc:`page` is about it."""

    enabled: bool = True
    """Whether ``/`` and what is below ``/api/`` are served at :confval:`metrics.listen`."""
    names: bool | None = None
    """Whether the page shows names that clients asked for, and the addresses that they got. Null:
    where :confval:`metrics.listen` is a loopback address, and nowhere else.
    """
    clients: bool | None = None
    """The same of who asked."""
    hosts: tuple[str, ...] = ("localhost",)
    """Names and addresses by which a browser may have found the page: what stands before its path,
    without a port. The address that a connection came in by always counts. Everything else is
    turned away, so that no stranger's name that leads here can read the page. ``/metrics``,
    ``/healthz`` and ``/readyz`` answer by any name.
    """


class LogSettings(Section, frozen=True, kw_only=True):
    """``log``: how much is told, and in which form."""

    level: str = "info"
    """``debug``, ``info``, ``warn`` or ``error``, for the lines of Twisted as well. ``debug`` logs
    every phase of every query. Where the program listens is told at any level.
    """
    format: str = "text"
    """``text`` for people, or ``json`` for programs: one object a line, with ``time``, ``level``,
    ``logger``, ``message`` and the fields of the event. What is wrong with the configuration is
    told as text in either case.
    """


class QueryLogSettings(Section, frozen=True, kw_only=True):
    """``query_log``: what was answered to whom, one answer a line; :ref:`query-log` is about it."""

    file: str | None = None
    """Where answers are written as lines of JSON; null is nowhere. A pipe (FIFO) will do."""
    dnstap: str | None = None
    """Where they are written as dnstap, which needs ``pip install 'staggerdns[dnstap]'``: a file,
    or behind ``unix:`` the socket of a collector that listens there; null is nowhere.
    """
    clients: str = "full"
    """What is written of the clients' addresses: ``full``, ``prefix`` (24 bits of IPv4 addresses,
    48 of IPv6 addresses) or ``none``.
    """
    max_size: Octets = Octets(100 * 1024 * 1024)
    """Octets that a file may have. Before it has more it is renamed to the same name with ``.1``
    behind, and another one begins.
    """
    keep: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    """How many such older files are kept, ``.1`` the latest; the oldest one goes."""


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration."""

    upstream: UpstreamSettings
    server: ServerSettings = ServerSettings()
    local: LocalSettings = LocalSettings()
    rebinding: RebindingSettings = RebindingSettings()
    routes: tuple[RouteSettings, ...] = ()
    """The routes; what they do not claim goes to :confval:`upstream.servers`."""
    groups: dict[str, GroupSettings] = msgspec.field(default_factory=dict)
    """The groups of clients, by name."""
    lists: dict[str, ListSettings] = msgspec.field(default_factory=dict)
    """The lists, by name."""
    addresses: AddressSettings = AddressSettings()
    cache: CacheSettings = CacheSettings()
    ranking: RankingSettings = RankingSettings()
    families: FamiliesSettings = FamiliesSettings()
    state: StateSettings = StateSettings()
    control: ControlSettings = ControlSettings()
    metrics: MetricsSettings = MetricsSettings()
    page: PageSettings = PageSettings()
    traces: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 1_000
    """Collections of which all is remembered that explains their answers, the latest; 0 is off. One
    of five upstreams with three addresses each takes about 3.5 KiB. Who brought each address is
    known of every cached name, whatever is set here.
    """
    log: LogSettings = LogSettings()
    query_log: QueryLogSettings = QueryLogSettings()
