"""What stands in front of the chain under one configuration: who may ask, and what we answer.

It is made anew for each configuration. What has not changed is taken over from the one before: a
hosts file that has been read, the cookies' secrets, how much clients have asked, the certificate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.lifecycle import Lifecycle
from staggerdns.metrics import Metrics
from staggerdns.policy.blocking import make_blocking
from staggerdns.policy.groups import GroupRoutes, Groups
from staggerdns.policy.lists.lists import Lists
from staggerdns.policy.pauses import BlockingPauses
from staggerdns.policy.rules import Rules
from staggerdns.server.access import Access
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.cookies import Cookies
from staggerdns.server.hosts import Hosts
from staggerdns.server.local import LocalNames
from staggerdns.server.proxies import Proxies
from staggerdns.server.ratelimit import RateLimiter
from staggerdns.server.serving import Serving
from staggerdns.server.tls import Certificate, CertificateProblem
from staggerdns.settings.document import ConfigError
from staggerdns.settings.policy import DEFAULT_GROUP, GroupSettings, OwnFamiliesSettings
from staggerdns.settings.sections import Config


@dataclass(frozen=True, slots=True)
class Assembly:
    """``hosts``: the hosts file, ``certificate``: that of the encrypted listeners, if there are
    any. ``rules``: those of all clients; groups have theirs when `with_groups` has given them.
    """

    config: Config
    hosts: Hosts | None
    certificate: Certificate | None
    rules: Serving

    def rules_of(self, host: str | None) -> Rules | None:
        """Return the rules for a client at ``host`` that came in by no listener in particular, or
        those of the default group; `None` if all have the same.
        """
        groups = self.rules.groups
        if groups is None:
            return None
        return groups.default if host is None else groups.find(host, None)

    def certificate_expiry(self) -> float | None:
        """Return when the certificate of the encrypted listeners expires, in seconds since 1970;
        `None` if there are no such listeners.
        """
        certificate, listeners = self.certificate, self.config.server.listen
        if certificate is None or not any(listener.scheme for listener in listeners):
            return None
        certificate.follow()  # a renewal shows as well while nobody connects
        return certificate.expiry


def assemble(
    config: Config,
    before: Assembly | None,
    *,
    lifecycle: Lifecycle,
    clock: IReactorTime,
    rng: Callable[[int], bytes],
    metrics: Metrics,
    journal: Journal,
) -> Assembly:
    """Return what the configuration wants; nothing of ``before`` is changed.

    Raises `ConfigError`.
    """
    server, old = config.server, None if before is None else before.config.server
    client_groups = ClientGroups(server.client)
    limiter = cookies = None
    if before is not None and old is not None and old.client == server.client:
        client_groups = before.rules.client_groups
        if old.rate_limit == server.rate_limit:
            limiter = before.rules.limiter
    if limiter is None and server.rate_limit.queries_per_second:
        limiter = RateLimiter(server.rate_limit, client_groups)
    if before is not None and old is not None and old.cookies == server.cookies:
        cookies = before.rules.cookies
    elif server.cookies.enabled:
        cookies = Cookies(clock.seconds(), time.time, rng, server.cookies.secret)
    hosts = _hosts(config, before, clock, journal)
    return Assembly(
        config,
        hosts,
        _certificate(config, before, journal),
        Serving(
            settings=server,
            access=Access(server.allow),
            local=LocalNames(config.local, hosts, lifecycle),
            client_groups=client_groups,
            cookies=cookies,
            limiter=limiter,
            proxies=Proxies(server.proxy_protocol, metrics) if server.proxy_protocol else None,
        ),
    )


def with_groups(
    assembly: Assembly,
    routes: GroupRoutes,
    lists: Lists | None,
    metrics: Metrics,
    pauses: BlockingPauses,
) -> Assembly:
    """Return the same with the groups of clients, whose names ``routes`` and ``lists`` look up, but
    for what the ``pauses`` say.
    """
    config = assembly.config
    if not config.routes and not config.groups:
        return assembly
    settings = {DEFAULT_GROUP: GroupSettings(), **config.groups}
    default = settings[DEFAULT_GROUP]
    rules = {}
    for name, group in settings.items():
        blocking = make_blocking(name, group, default, lists, config.lists, metrics, pauses)
        rules[name] = Rules(routes.of(name), blocking, _families(group, default))
    groups = Groups(config.groups, rules)
    return replace(assembly, rules=replace(assembly.rules, groups=groups))


def _families(group: GroupSettings, default: GroupSettings) -> OwnFamiliesSettings:
    """Return what is said of families for the clients of a group, by it or by the default one."""
    own, common = group.families, default.families
    return OwnFamiliesSettings(
        prefer=common.prefer if own.prefer is None else own.prefer,
        margin=common.margin if own.margin is None else own.margin,
    )


def _hosts(
    config: Config, before: Assembly | None, clock: IReactorTime, journal: Journal
) -> Hosts | None:
    path = config.local.hosts
    if before is not None and before.config.local.hosts == path:
        return before.hosts
    return None if path is None else Hosts(path, clock, journal)


def _certificate(config: Config, before: Assembly | None, journal: Journal) -> Certificate | None:
    paths = config.server.tls_certificate, config.server.tls_key
    if before is not None:
        old = before.config.server
        if paths == (old.tls_certificate, old.tls_key):
            return before.certificate
    certificate, key = paths
    if certificate is None or key is None:
        return None
    try:
        return Certificate(certificate, key, journal, time.time)
    except CertificateProblem as error:
        raise ConfigError(f"server.{error.key}: {error}") from None
