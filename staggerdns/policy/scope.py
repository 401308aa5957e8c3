"""A scope: a set of upstreams with the rules by which they are asked (docs/specification.rst,
Scopes).

It is a value, made from content: two routes that would ask in the same way share one scope, and
with it the answers. Within a program scopes go by numbers, which are part of every key; `Scopes`
gives them out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.settings.document import ConfigError
from staggerdns.settings.policy import RouteSettings
from staggerdns.settings.sections import Config
from staggerdns.settings.upstreams import ParallelSettings
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
    and ``allow_domains`` as in ``rebinding``. ``fallback``: the default scope is asked where nobody
    answers here.
    """

    servers: tuple[UpstreamAddress, ...]
    strategy: str
    parallel: ParallelSettings
    ranked: bool
    probe_private: bool
    max_addresses: int
    strip: bool
    allow_domains: tuple[bytes, ...]
    fallback: bool

    @property
    def digest(self) -> bytes:
        """16 octets that stand for the content, the same ones at every start."""
        content = [
            [[str(server), sorted(pin.hex() for pin in server.pins)] for server in self.servers],
            self.strategy,
            [None if one is None else float(one) for one in msgspec.structs.astuple(self.parallel)],
            [self.ranked, self.probe_private, self.max_addresses],
            [self.strip, [domain.hex() for domain in self.allow_domains]],
            self.fallback,
        ]
        return blake2b(json.dumps(content).encode(), digest_size=_DIGEST_OCTETS).digest()


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
        strip=rebinding.strip,
        allow_domains=rebinding.allow_domains,
        fallback=False,
    )


def route_scope(settings: RouteSettings, default: Scope) -> Scope:
    """Return the scope that a route leads to; what it does not say is as by ``default``."""
    ranking, rebinding = settings.ranking, settings.rebinding
    given = {
        "strategy": settings.strategy,
        "parallel": settings.parallel,
        "ranked": ranking.enabled,
        "probe_private": ranking.probe_private,
        "max_addresses": ranking.max_addresses,
        "strip": rebinding.strip,
        "allow_domains": rebinding.allow_domains,
    }
    said = {key: value for key, value in given.items() if value is not None}
    scope = msgspec.structs.replace(default, servers=settings.servers, **said)
    if not settings.fallback or scope == default:  # nobody else could answer
        return scope
    return msgspec.structs.replace(scope, fallback=True)


class Scopes:
    """The scopes of a program, by number; number 0 is the ``default``."""

    def __init__(self, default: Scope) -> None:
        self.default = default
        self._numbers = {default: DEFAULT_SCOPE}
        self.labels = [""]
        """What metrics call the routes that lead to each scope, by number; nothing of the default.
        """

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Scope]:
        return iter(self._numbers)

    def number(self, settings: RouteSettings) -> int:
        """Return the number of the scope that a route leads to, or `NO_SUCH_NAMES`; a new one gets
        the next. Raises `ConfigError` if there are `MAX_SCOPES` already.
        """
        if not settings.servers:
            return NO_SUCH_NAMES
        scope = route_scope(settings, self.default)
        number = self._numbers.setdefault(scope, len(self._numbers))
        if number >= MAX_SCOPES:
            del self._numbers[scope]
            raise ConfigError(
                f"more than {MAX_SCOPES} ways of asking: give routes the same servers and rules"
            )
        if number == len(self.labels):
            self.labels.append(_label(settings))
        return number


def _label(settings: RouteSettings) -> str:
    """Return the first domain of a route, else its first file, else what it is there for."""
    if settings.domains:
        return to_text(settings.domains[0]).removesuffix(".")
    return settings.domain_files[0] if settings.domain_files else "single_label"
