"""A scope: a set of upstreams with the rules by which they are asked (docs/specification.rst,
Scopes).

It is a value, made from content: two routes that would ask in the same way share one scope, and
with it the answers. Within a program scopes go by numbers, which are part of every key; `Scopes`
gives them out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import count

import msgspec

from staggerdns.resolver.scopechanges import NOTHING_STAYS, ScopeChange
from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.settings.document import ConfigError
from staggerdns.settings.policy import AddressSettings, FamiliesSettings, RouteSettings
from staggerdns.settings.sections import Config
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.key import DEFAULT_SCOPE
from staggerdns.wire.names import to_text

MAX_SCOPES = 1_000
"""Scopes of one program: each has strategies of its own, with what they learn."""
NO_SUCH_NAMES = -1
"""Stands for the number of a scope where nobody is asked, since there are no such names."""
_DIGEST_OCTETS = 16


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask, and how: ``servers`` in order, ``strategy`` and ``parallel`` as in the section
    ``upstream``; ``ranked``, ``probe_private`` and ``max_addresses`` as in ``ranking``; ``strip``
    and ``allow_domains`` as in ``rebinding``; ``families`` as there. ``fallback``: the default
    scope is asked where nobody answers here.
    """

    servers: tuple[UpstreamAddress, ...]
    strategy: str
    parallel: ParallelSettings
    ranked: bool
    probe_private: bool
    max_addresses: int
    families: FamiliesSettings
    strip: bool
    allow_domains: tuple[bytes, ...]
    fallback: bool

    def believes_as(self, other: Scope) -> bool:
        """Return whether an answer that is good in the other scope is as good in this one, if both
        ask whoever gave it.
        """
        return (
            self.strip == other.strip
            and self.allow_domains == other.allow_domains
            and self.parallel.merge_private == other.parallel.merge_private
        )

    def ranks_as(self, other: Scope) -> bool:
        """Return whether addresses are put in order as in the other scope."""
        return self.ranked == other.ranked and self.probe_private == other.probe_private


def answers_digest(scope: Scope, default: Scope, settings: AddressSettings) -> bytes:
    """Return 16 octets that stand for how answers of a scope have come about, the same ones at each
    start: who was asked, what of it was believed, and whether it was put in order. ``default``: the
    scope of those who may be asked as well. ``settings``: the rules about all addresses.
    """
    others = default if scope.fallback else scope
    content = [
        sorted(map(_servers_content, {*scope.servers, *others.servers})),
        [_belief(one) for one in (scope, others)],
        [scope.ranked, scope.probe_private],
        [sorted(map(str, networks)) for networks in (settings.ignore, settings.bogus_nxdomain)],
    ]
    return blake2b(json.dumps(content).encode(), digest_size=_DIGEST_OCTETS).digest()


def _servers_content(server: UpstreamAddress) -> list[str]:
    return [str(server), *sorted(pin.hex() for pin in server.pins)]


def _belief(scope: Scope) -> list[object]:
    domains = sorted(domain.hex() for domain in scope.allow_domains)
    return [scope.strip, domains, scope.parallel.merge_private]


def address_filter(settings: AddressSettings) -> AddressFilter | None:
    """Return the rules about addresses in answers, `None` if there are none."""
    if not settings.ignore and not settings.bogus_nxdomain:
        return None
    return AddressFilter(
        [network.addresses for network in settings.ignore],
        [network.addresses for network in settings.bogus_nxdomain],
    )


def default_scope(config: Config) -> Scope:
    """Return the scope of all names that no route claims."""
    upstream, ranking, rebinding = config.upstream, config.ranking, config.rebinding
    return Scope(
        servers=upstream.servers,
        strategy=upstream.strategy,
        parallel=upstream.parallel,
        ranked=ranking.enabled,
        probe_private=ranking.probe_private,
        max_addresses=ranking.max_addresses,
        families=config.families,
        strip=rebinding.strip,
        allow_domains=rebinding.allow_domains,
        fallback=False,
    )


def route_scope(settings: RouteSettings, default: Scope) -> Scope:
    """Return the scope that a route leads to; what it does not say is as by ``default``."""
    ranking, rebinding = settings.ranking, settings.rebinding
    families = {
        key: value
        for key, value in msgspec.structs.asdict(settings.families).items()
        if value is not None
    }
    given = {
        "strategy": settings.strategy,
        "parallel": settings.parallel,
        "ranked": ranking.enabled,
        "probe_private": ranking.probe_private,
        "max_addresses": ranking.max_addresses,
        "families": msgspec.structs.replace(default.families, **families),
        "strip": rebinding.strip,
        "allow_domains": rebinding.allow_domains,
    }
    said = {key: value for key, value in given.items() if value is not None}
    scope = msgspec.structs.replace(default, servers=settings.servers, **said)
    if not settings.fallback or scope == default:  # nobody else could answer
        return scope
    return msgspec.structs.replace(scope, fallback=True)


class Scopes:
    """The scopes of a configuration, by number; number 0 is the ``default``.

    Numbers are the process's: a content keeps its number when another configuration takes the place
    of the one that has the scopes ``before``, and no number of theirs gets another content, but for
    those of ``routes``: one that is called as before and asks in another way keeps its number, so
    that what is known of its names can be looked through (`changes`).
    """

    def __init__(
        self,
        default: Scope,
        before: Scopes | None = None,
        routes: Iterable[RouteSettings] = (),
    ) -> None:
        self.default = default
        self.labels = {DEFAULT_SCOPE: ""}
        """What metrics call the routes that lead to each scope, by number; nothing of the default.
        """
        self._numbers = {default: DEFAULT_SCOPE}
        taken = frozenset({DEFAULT_SCOPE} if before is None else before.labels)
        self._unused = (number for number in count() if number not in taken)
        if before is not None:
            self._carry_on(before, routes)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Scope]:
        return iter(self._numbers)

    def items(self) -> list[tuple[int, Scope]]:
        """Return each number with its scope."""
        return [(number, scope) for scope, number in self._numbers.items()]

    def number(self, settings: RouteSettings) -> int:
        """Return the number of the scope that a route leads to, or `NO_SUCH_NAMES`; a new one gets
        the next. Raises `ConfigError` if there are `MAX_SCOPES` already.
        """
        if not settings.servers:
            return NO_SUCH_NAMES
        scope = route_scope(settings, self.default)
        number = self._numbers.get(scope)
        if number is None:
            if len(self._numbers) >= MAX_SCOPES:
                raise ConfigError(
                    f"more than {MAX_SCOPES} ways of asking: give routes the same servers and rules"
                )
            number = next(self._unused)
            self._add(scope, number, _label(settings))
        return number

    def changes(self, before: Scopes) -> dict[int, ScopeChange]:
        """Return what becomes of answers that are known in the scopes of these numbers, where that
        is not what was in force ``before``.
        """
        old_scopes = {number: scope for scope, number in before._numbers.items()}
        same_default = self.default == before.default
        unbelieved = not self.default.believes_as(before.default)
        changes = {}
        for scope, number in self._numbers.items():
            old = old_scopes.get(number)
            if old is None or not scope.believes_as(old) or (scope.fallback and unbelieved):
                changes[number] = NOTHING_STAYS
            elif scope != old or (scope.fallback and not same_default):
                asked, asked_before = self._servers_of(scope), before._servers_of(old)
                if asked != asked_before or not scope.ranks_as(old):
                    changes[number] = frozenset(str(server) for server in asked & asked_before)
        return changes

    def asked(self, scope: Scope) -> frozenset[str]:
        """Return who may be asked in a scope, as upstreams are called."""
        return frozenset([str(server) for server in self._servers_of(scope)])

    def _servers_of(self, scope: Scope) -> set[UpstreamAddress]:
        return {*scope.servers, *(self.default.servers if scope.fallback else ())}

    def _carry_on(self, before: Scopes, routes: Iterable[RouteSettings]) -> None:
        """Give the scopes of ``routes`` the numbers that they have ``before``, by content, or else
        by what they are called.
        """
        wanted: dict[Scope, str] = {}
        for settings in routes:
            if settings.servers:
                wanted.setdefault(route_scope(settings, self.default), _label(settings))
        wanted.pop(self.default, None)
        left = {label: number for number, label in before.labels.items() if label}
        for scope, label in wanted.items():
            number = before._numbers.get(scope, DEFAULT_SCOPE)
            if number != DEFAULT_SCOPE and len(self._numbers) < MAX_SCOPES:
                self._add(scope, number, label)
        for scope, label in wanted.items():
            number = left.get(label, DEFAULT_SCOPE)
            is_free = scope not in self._numbers and number not in self.labels
            if is_free and len(self._numbers) < MAX_SCOPES:
                self._add(scope, number, label)

    def _add(self, scope: Scope, number: int, label: str) -> None:
        self._numbers[scope] = number
        self.labels[number] = label


def _label(settings: RouteSettings) -> str:
    """Return the first domain of a route, else its first file, else what it is there for."""
    if settings.domains:
        return to_text(settings.domains[0]).removesuffix(".")
    return settings.domain_files[0] if settings.domain_files else "single_label"
