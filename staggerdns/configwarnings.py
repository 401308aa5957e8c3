"""Warnings about a configuration: what it may say and hardly means, told in the log at the start.

None of it is an error, since each might be meant in some network.
"""

from __future__ import annotations

import grp
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from staggerdns.configroutes import all_routes, make_routes
from staggerdns.policy.scope import NO_SUCH_NAMES
from staggerdns.settings.addresses import NO_INTERFACE, Listener, UpstreamAddress
from staggerdns.settings.networks import Network
from staggerdns.settings.section import default_of
from staggerdns.settings.sections import Config
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.wire.addresskinds import is_private
from staggerdns.wire.constants import Type
from staggerdns.wire.key import DEFAULT_SCOPE
from staggerdns.wire.names import from_text


def is_own_address(host: str) -> bool:
    """Return whether ``host`` is an address of this machine; nothing is sent to find out."""
    if ip_address(host).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # the kernel would send to its own addresses from themselves
            return ip_address(probe.getsockname()[0]) == ip_address(host)
    except OSError:
        return False


def config_warnings(config: Config, is_own: Callable[[str], bool] = is_own_address) -> list[str]:
    """Return a line for everything in ``config`` that is surely not meant."""
    found = []
    upstream = config.upstream
    for key, addresses in (("servers", upstream.servers), ("bootstrap", upstream.bootstrap)):
        for index, address in enumerate(addresses):
            warning = _warn_of_address(address, config.server.listen, is_own)
            found.append(warning and f"upstream.{key}[{index}]: {address} {warning}")
    for path, route in all_routes(config):
        for index, address in enumerate(route.servers):
            if address not in upstream.servers:
                warning = _warn_of_address(address, config.server.listen, is_own)
                found.append(warning and f"{path}.servers[{index}]: {address} {warning}")
    found += _warn_of_seen_names(config)
    found += _warn_of_strangers(config)
    found += _warn_of_proxies(config)
    found += _warn_of_idle_lists(config)
    found += _warn_of_unknown_group(config)
    if upstream.strategy in ("parallel", "auto"):
        found.append(_warn_of_active_tier(config))
        found.append(_warn_of_batches(config))
    return list(filter(None, found))


def _warn_of_address(
    address: UpstreamAddress, listeners: tuple[Listener, ...], is_own: Callable[[str], bool]
) -> str:
    """Return why nothing good can come from an upstream, empty if nothing is known."""
    if address.named:
        return _warn_of_subnet(address)
    endpoint = address.endpoint
    host = ip_address(endpoint.host)
    if host.is_unspecified:
        return "is no address of a server: it stands for all addresses of this machine"
    if host.is_multicast or str(host) == "255.255.255.255":
        return "is an address of many: nobody answers from there"
    if endpoint.lacks_interface:
        return f"cannot be asked: {NO_INTERFACE}"
    if endpoint.missing_interface:
        return (
            f"needs an interface that is not there, {endpoint.missing_interface}: "
            "it is asked when that has come"
        )
    encrypted = address.transport if address.transport in ("tls", "https") else ""
    for listener in listeners:
        if (listener.scheme, listener.port) != (encrypted, endpoint.port):
            continue
        place = ip_address(listener.host)
        everywhere = place.is_unspecified and place.version == host.version
        if place == host or (everywhere and is_own(endpoint.host)):
            return f"is our own listener {listener}: queries would go round in circles"
    return "" if is_private(host.packed) else _warn_of_subnet(address)


def _warn_of_subnet(address: UpstreamAddress) -> str:
    """Return that a resolver outside is told a network that only means something inside, if so."""
    subnet = address.subnet
    if subnet is None or not subnet.prefixlen or not is_private(subnet.network_address.packed):
        return ""
    return f"is told of {subnet}, which is private: nobody outside knows where that is"


def _warn_of_seen_names(config: Config) -> Iterator[str]:
    """Yield a warning for each host with a name of a route that others are asked for."""
    hosts = [*_named_hosts(config)]
    if not hosts:
        return
    routes, scopes = make_routes(config)
    resolvers = {address.endpoint.host for address in config.upstream.bootstrap}
    known = [{server.endpoint.host for server in scope.servers} for scope in scopes]
    for path, host, remedy in hosts:
        try:
            numbers = routes.numbers(from_text(host), Type.A)
        except ValueError:
            continue
        if any(
            number == NO_SUCH_NAMES or not resolvers <= known[number]
            for number in numbers
            if number is not None and number != DEFAULT_SCOPE
        ):
            yield (
                f"{path}: {host} is a name of a route, but it is looked up at upstream.bootstrap, "
                f"which sees it: {remedy}"
            )


def _named_hosts(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield the path of each host that is given by name, the name, and what else is possible."""
    places = {f"upstream.servers[{i}]": one for i, one in enumerate(config.upstream.servers)}
    for path, route in all_routes(config):
        for index, address in enumerate(route.servers):
            if address not in config.upstream.servers:
                places[f"{path}.servers[{index}]"] = address
    for path, address in places.items():
        if address.named:
            host = address.endpoint.host
            yield path, host, f"give its address, as in {address.transport}://10.0.0.53#{host}"
    for name, settings in config.lists.items():
        for index, url in enumerate(settings.urls):
            host = (urlsplit(url).hostname or "").lower()
            if ":" not in host:
                remedy = "have upstream.bootstrap be servers of that route, or use a file"
                yield f"lists.{name}.urls[{index}]", host, remedy


def _warn_of_strangers(config: Config) -> Iterator[str]:
    """Yield a warning for each network of a group that may not ask."""
    for name, group in config.groups.items():
        for index, network in enumerate(group.clients):
            if not any(_overlap(network, allowed) for allowed in config.server.allow):
                yield (
                    f"groups.{name}.clients[{index}]: {network} may not ask: "
                    "it is not within server.allow"
                )


def _warn_of_proxies(config: Config) -> Iterator[str]:
    """Yield a warning for each network of proxies that is more than one address."""
    for index, network in enumerate(config.server.proxy_protocol):
        if network.addresses.num_addresses > 1:
            yield (
                f"server.proxy_protocol[{index}]: {network} is a network: whoever has an address "
                "in it, or forges one, can ask in anybody's name: name the proxies alone"
            )


def _warn_of_idle_lists(config: Config) -> Iterator[str]:
    """Yield a warning for each list that no group names."""
    named: set[str] = set()
    for group in config.groups.values():
        named.update(group.block or (), group.allow or ())
    for name in config.lists:
        if name not in named:
            yield f"lists.{name}: no group has it in block or allow: it has no effect"


def _warn_of_unknown_group(config: Config) -> Iterator[str]:
    """Yield a warning if nobody can be in the group that may use the control socket."""
    group = config.control.group
    if group is not None:
        try:
            grp.getgrnam(group)
        except KeyError:
            yield f"control.group: this machine has no group {group}"


def _overlap(one: Network, other: Network) -> bool:
    """Return whether two networks have addresses in common."""
    (first, last), (other_first, other_last) = one.bounds, other.bounds
    return first <= other_last and other_first <= last


def _warn_of_active_tier(config: Config) -> str:
    """Return a warning if all of many upstreams are asked at once, empty otherwise."""
    count = len(config.upstream.servers)
    size = config.upstream.parallel.active_tier_size
    default = default_of(ParallelSettings, "active_tier_size")
    if size < count or size == default:
        return ""
    return (
        f"upstream.parallel.active_tier_size: {size} of {count} upstreams are in the active tier: "
        f"all are asked at once; leave some to later batches, as with {default}"
    )


def _warn_of_batches(config: Config) -> str:
    """Return a warning if upstreams are asked too late or never, empty otherwise."""
    upstream, numbers = config.upstream, config.upstream.parallel
    others = len(upstream.servers) - numbers.active_tier_size
    if others <= 0:
        return ""
    batches = -(-others // numbers.batch_size)
    total = numbers.total_collect_timeout
    key = "upstream.parallel.total_collect_timeout"
    if batches * numbers.stagger_delay >= total:
        last = batches * numbers.stagger_delay
        return (
            f"{key}: after {total:g} s not all of {len(upstream.servers)} upstreams have been "
            f"asked, which takes {last:g} s: raise it or batch_size, or lower stagger_delay"
        )
    fallback, key_of_it = numbers.fallback_timeout, "fallback_timeout"
    if fallback is None:
        fallback, key_of_it = numbers.max_fallback_timeout, "max_fallback_timeout"
    if fallback >= total:
        return (
            f"{key}: after {total:g} s nobody has been asked beyond the active tier, if that is "
            f"silent: lower {key_of_it}, which is {fallback:g} s"
        )
    return ""
