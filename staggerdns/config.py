"""The configuration: YAML text to a frozen, validated `Config` (SPEC section 7).

Every key is here with its default and its limits, and nowhere else. Whatever is wrong ends in one
`ConfigError` that names the path, as in ``upstream.servers[1]``, and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated

import msgspec
import yaml

from staggerdns.journal import LEVELS
from staggerdns.ranking.probes import check_probe
from staggerdns.server.access import Network
from staggerdns.upstream.address import Endpoint, UpstreamAddress, parse_endpoint, parse_upstream

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s|m|h)")
_LONGEST = 86_400.0
_PATH = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
_TAG = "tag:yaml.org,2002:"
_PLAIN_SCALARS = {
    "str": re.compile(r".*", re.DOTALL),
    "null": re.compile(r".*"),
    "bool": re.compile(r".*"),
    "int": re.compile(r"[-+]?(0|[1-9][0-9]{0,17})"),
    "float": re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}"),
}
STRATEGIES = ("parallel",)
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


class ConfigError(ValueError):
    """A configuration that cannot be used; the text names the place and what was expected."""


class Seconds(float):
    """A duration in seconds, written ``300ms``, ``3s``, ``5m``, ``1h`` or as a number."""


Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
CacheSize = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
Ttl = Annotated[int, msgspec.Meta(ge=0, le=604_800)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Server(_Section, frozen=True, kw_only=True):
    """``server``: where clients come in and who may."""

    listen: tuple[Endpoint, ...] = (Endpoint("127.0.0.1", 5300), Endpoint("::1", 5300))
    allow: tuple[Network, ...] = tuple(Network(text) for text in _ALLOWED_BY_DEFAULT)
    tcp_idle_timeout: Seconds = Seconds(10)
    tcp_max_connections: Positive = 256


class Parallel(_Section, frozen=True, kw_only=True):
    """``upstream.parallel``: the numbers of the two tiers and of the pool."""

    active_tier_size: Positive = 2
    fallback_timeout: Seconds = Seconds(0.3)
    batch_size: Positive = 2
    stagger_delay: Seconds = Seconds(0.05)
    total_collect_timeout: Seconds = Seconds(3)
    negative_grace: Seconds = Seconds(0.03)
    max_pool_size: Positive = 32
    merge_private: bool = False


class Upstream(_Section, frozen=True, kw_only=True):
    """``upstream``: whom to ask and how."""

    servers: tuple[UpstreamAddress, ...]
    strategy: str = "parallel"
    timeout: Seconds = Seconds(3)
    parallel: Parallel = Parallel()


class Cache(_Section, frozen=True, kw_only=True):
    """``cache``: how much is kept and for how long; TTLs in whole seconds, 0 turns one off."""

    max_entries: CacheSize = 50_000
    fast_response_ttl: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 5
    user_return_ttl: Ttl = 600
    min_ttl: Ttl = 0
    max_ttl: Ttl = 86_400
    max_negative_ttl: Ttl = 300
    max_stale: Ttl = 3_600


class Ranking(_Section, frozen=True, kw_only=True):
    """``ranking``: how the nearest address is found."""

    enabled: bool = True
    probes: tuple[str, ...] = ("icmp", "tcp:443", "tcp:80")
    samples: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    timeout: Seconds = Seconds(1)
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 16
    queue: Positive = 200
    rtt_cache_ttl: Annotated[int, msgspec.Meta(ge=1, le=604_800)] = 300
    max_probes_per_second: Positive = 200
    probe_private: bool = False


class Metrics(_Section, frozen=True, kw_only=True):
    """``metrics``: where Prometheus comes; null for nowhere."""

    listen: Endpoint | None = Endpoint("127.0.0.1", 9153)


class Log(_Section, frozen=True, kw_only=True):
    """``log``: how much is told."""

    level: str = "info"


class Config(_Section, frozen=True, kw_only=True):
    """The whole configuration."""

    upstream: Upstream
    server: Server = Server()
    cache: Cache = Cache()
    ranking: Ranking = Ranking()
    metrics: Metrics = Metrics()
    log: Log = Log()


def load_config(path: str) -> Config:
    """Read the configuration file at ``path``. Raises `ConfigError`, which names the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected UTF-8 text") from None
    try:
        return parse_config(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_config(text: str) -> Config:
    """Return the configuration that YAML ``text`` means. Raises `ConfigError`."""
    document = _read_yaml(text)
    if not isinstance(document, dict):
        raise ConfigError("expected keys and values, at least upstream.servers")
    if document.get("upstream") is None:
        document["upstream"] = {}
    try:
        config = msgspec.convert(document, Config, dec_hook=_convert)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error))) from None
    _check(config)
    return config


def _convert(kind: type, value: object) -> object:
    """Turn a YAML value into one of our own types; `ValueError` says what was expected."""
    if kind is Seconds:
        return _seconds(value)
    if kind is Endpoint:
        return parse_endpoint(value)
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {_show(value)}")  # noqa: TRY004 (msgspec adds the path)
    if kind is UpstreamAddress:
        return parse_upstream(value)
    try:
        return Network(value)
    except ValueError:
        raise ValueError(f"expected a network like 192.168.0.0/16, got {value!r}") from None


def _seconds(value: object) -> Seconds:
    expected = f"expected a duration like 300ms, 3s or 5m, got {_show(value)}"
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(expected)
        seconds = float(match[1]) * _UNITS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(expected)  # noqa: TRY004 (as above)
    if not 0.001 <= seconds <= _LONGEST:
        raise ValueError(f"expected a duration from 1ms to 24h, got {_show(value)}")
    return Seconds(seconds)


def _show(value: object) -> str:
    if isinstance(value, bool):
        return f"{str(value).lower()} (YAML reads on, off, yes and no so: put quotes around text)"
    return "nothing" if value is None else repr(value)


def _check(config: Config) -> None:
    """Check what no single value shows."""
    _check_list("upstream.servers", config.upstream.servers)
    _check_list("server.listen", config.server.listen)
    cache = config.cache
    if cache.max_ttl and cache.min_ttl > cache.max_ttl:
        raise ConfigError("cache.min_ttl: expected at most cache.max_ttl")
    _check_list("ranking.probes", config.ranking.probes)
    for index, name in enumerate(config.ranking.probes):
        try:
            check_probe(name)
        except ValueError as error:
            raise ConfigError(f"ranking.probes[{index}]: {error}") from None
    _check_choice("upstream.strategy", config.upstream.strategy, STRATEGIES)
    _check_choice("log.level", config.log.level, LEVELS)


def _check_choice(path: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{path}: expected {' or '.join(choices)}, got {value!r}")


def _check_list(path: str, items: tuple[Hashable, ...]) -> None:
    if not items:
        raise ConfigError(f"{path}: expected at least one item")
    for index, item in enumerate(items):
        if item in items[:index]:
            raise ConfigError(f"{path}[{index}]: {item} is there already")


def _explain(message: str) -> str:
    """Turn a conversion error into ``path: what was expected``."""
    match = _PATH.fullmatch(message)
    assert match is not None
    path = (match["path"] or "").lstrip(".")
    what = match["what"]
    field = _FIELD.fullmatch(what)
    if field is not None:
        path = f"{path}.{field[2]}".lstrip(".")
        what = "unknown key" if field[1] == "contains unknown" else "this key is needed"
    else:
        what = what[:1].lower() + what[1:]
        if what.endswith("got `bool`"):
            what += " (YAML reads on, off, yes and no so: put quotes around text)"
    what = what.replace("`", "")
    return _one_line(f"{path}: {what}" if path else what)


def _read_yaml(text: str) -> object:
    """Return the values in YAML ``text``, all of them of the plain kinds that JSON has, too."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_node(node, "")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}: " if mark is not None else ""
        raise ConfigError(f"{place}not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError("nested too deeply, or within itself") from None


def _check_node(node: yaml.Node, path: str) -> None:
    """Refuse what YAML would silently bend: duplicate keys, 1:30 as 90, 010 as 8, dates."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.tag != _TAG + "str":
                raise ConfigError(f"{path or 'top level'}: expected text as a key")
            inner = f"{path}.{_one_line(key.value)}".lstrip(".")
            if key.value in seen:
                raise ConfigError(f"{inner}: this key is there twice")
            seen.add(key.value)
            _check_node(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _check_node(value, f"{path}[{index}]")
    else:
        plain = _PLAIN_SCALARS.get(node.tag.removeprefix(_TAG))
        if plain is None or not plain.fullmatch(node.value):
            shown = _one_line(node.value)
            raise ConfigError(
                f"{path}: YAML reads {shown} as something else than it looks: put quotes around it"
            )


def _one_line(text: str) -> str:
    """Escape what would break an error into two lines, or not show."""
    return "".join(
        octet if octet.isprintable() else octet.encode("unicode_escape").decode() for octet in text
    )
