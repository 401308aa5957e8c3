"""What the program declares of itself: its settings with their docstrings, and its metrics.

Nothing here knows Sphinx: `docs._ext.reference` turns it into pages, and tests look at it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, get_origin

import msgspec
from prometheus_client.core import Metric

from staggerdns.metrics import Metrics
from staggerdns.processmetrics import ProcessMetrics
from staggerdns.settings import policy, sections, upstreams, values
from staggerdns.settings.addresses import Endpoint, Listener, UpstreamAddress
from staggerdns.settings.networks import Network
from staggerdns.settings.records import Records
from staggerdns.settings.section import sections_in
from staggerdns.settings.stores import StoreAddress
from staggerdns.shared.metrics import SharedMetrics
from staggerdns.state.metrics import StateMetrics

KINDS: dict[object, str] = {
    values.SecondsOrAuto: "duration, or ``auto``",
    values.Seconds: "duration",
    values.Interval: "duration",
    values.Octets: "size",
    values.Domain: "domain",
    values.DomainPattern: "domain, or ``*.`` and a domain",
    values.Secret: "secret",
    Listener: "listener address",
    Endpoint: "address and port",
    UpstreamAddress: "upstream address",
    Network: "network",
    StoreAddress: "store address",
    Records: "map of: name, and address, list of addresses or ``{cname: NAME}``",
    bool: "``true`` or ``false``",
    int: "whole number",
    float: "number",
    str: "text",
}
"""What is written where a field has this type."""
SECTION_KINDS: dict[object, str] = {
    policy.GroupSettings: "map of the keys of ``groups``",
    policy.ListSettings: "map of the keys of ``lists``",
    policy.RouteSettings: "map of the keys of ``routes``",
    upstreams.ParallelSettings: "map of the keys of ``upstream.parallel``",
}
"""The same for sections that stand in a list or a map, or may be left out."""
BELOW = "map of the keys below"
"""The same where the keys follow."""
_UNITS = (("h", 3600), ("m", 60), ("s", 1))
_SIZES = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


class Key:
    """One key of the configuration: ``path``, ``kind``, ``default`` and ``text``, all as shown."""

    def __init__(self, path: str, kind: str, default: str, text: str) -> None:
        self.path = path
        self.kind = kind
        self.default = default
        self.text = text


class Section:
    """A section: ``path`` as in ``server.client``, empty for the whole; ``text``; its keys."""

    def __init__(self, path: str, text: str, keys: list[Key]) -> None:
        self.path = path
        self.text = text
        self.keys = keys


def read_sections(kind: type[msgspec.Struct] = sections.Config, path: str = "") -> list[Section]:
    """Return all sections of the configuration, each before those in it.

    Raises `LookupError` for a key without a docstring.
    """
    texts = attribute_docs(kind)
    own = Section(path, inspect.cleandoc(kind.__doc__ or ""), [])
    inner: list[Section] = []
    for field in msgspec.structs.fields(kind):
        place = f"{path}.{field.name}".lstrip(".")
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            inner += read_sections(field.type, place)
            continue
        text = texts.get(field.name)
        if text is None:
            raise LookupError(f"{kind.__module__}.{kind.__name__}.{field.name} has no docstring")
        key = Key(place, describe_type(field.type), show_default(field), text)
        item = item_of(field.type)
        if item is None:
            own.keys.append(key)
            continue
        mark, held = item
        key.kind = key.kind.replace(SECTION_KINDS[held], BELOW)
        own_of_item, *others = read_sections(held, f"{place}{mark}")
        inner += [Section(place, own_of_item.text, [key, *own_of_item.keys]), *others]
    return [own, *inner]


def item_of(kind: object) -> tuple[str, type[msgspec.Struct]] | None:
    """Return the section that a list or a map holds, behind what stands for an item in a path;
    `None` for what is neither.
    """
    if get_origin(kind) not in (tuple, dict):
        return None
    return next(sections_in(kind), None)


def attribute_docs(kind: type) -> dict[str, str]:
    """Return the docstring under each attribute in the source of a class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for before, node in zip(body.body, body.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(node, ast.Expr):
            target, text = before.target, node.value
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                found[target.id] = inspect.cleandoc(str(text.value)).strip()
    return found


def describe_type(kind: Any) -> str:
    """Return what may be written for a field of this type, its limits included."""
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.UnionType):
        choices = [one for one in info.types if not isinstance(one, msgspec.inspect.NoneType)]
        (one,) = choices
        shown = _describe(one)
        return shown if "``auto``" in shown else f"{shown}, or ``null``"
    return _describe(info)


def _describe(info: Any) -> str:
    if isinstance(info, msgspec.inspect.VarTupleType):
        return f"list of: {_describe(info.item_type)}"
    if isinstance(info, msgspec.inspect.DictType):
        return f"map of: name, and {_describe(info.value_type)}"
    if isinstance(info, msgspec.inspect.CustomType):
        return KINDS[info.cls]
    if isinstance(info, msgspec.inspect.StructType):
        return SECTION_KINDS[info.cls]
    plain: dict[type, type] = {
        msgspec.inspect.BoolType: bool,
        msgspec.inspect.IntType: int,
        msgspec.inspect.FloatType: float,
        msgspec.inspect.StrType: str,
    }
    return KINDS[plain[type(info)]] + _limits(info)


def _limits(info: Any) -> str:
    low = getattr(info, "ge", None)
    above = getattr(info, "gt", None)
    high = getattr(info, "le", None)
    parts = []
    if above is not None:
        parts.append(f"above {above}")
    if low is not None:
        parts.append(f"from {low}")
    if high is not None:
        parts.append(f"to {high}")
    return f", {' '.join(parts)}" if parts else ""


def show_default(field: msgspec.structs.FieldInfo) -> str:
    """Return the default of a field as it would be written in the file."""
    if field.required:
        return "(required)"
    default = field.default
    if field.default_factory is dict:
        return "(none)"
    if isinstance(default, tuple):
        return ", ".join(f"``{show(item)}``" for item in default) or "(none)"
    if default is None and is_inherited(field):
        return "(as globally)"
    if default is None and field in msgspec.structs.fields(policy.GroupSettings):
        return "(as ``default`` has it)"
    if default is None:
        is_auto = describe_type(field.type) == KINDS[values.SecondsOrAuto]
        return f"``{values.AUTO}``" if is_auto else "``null``"
    return f"``{show(default)}``"


def is_inherited(field: msgspec.structs.FieldInfo) -> bool:
    """Return whether a key of a route is as it is for the whole program if it is not given."""
    return any(
        field in msgspec.structs.fields(kind)
        for kind in (
            policy.RouteSettings,
            policy.RouteRankingSettings,
            policy.RouteRebindingSettings,
        )
    )


def show(value: Any) -> str:
    """Return one value as it would be written in the file."""
    if isinstance(value, values.Seconds):
        return show_seconds(float(value))
    if isinstance(value, values.Octets):
        unit, size = next(pair for pair in _SIZES if value % pair[1] == 0)
        return f"{value // size}{unit}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def show_seconds(seconds: float) -> str:
    """Return a duration in its largest unit that gives a whole number."""
    for unit, size in _UNITS:
        if seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:g}ms"


def families() -> dict[str, Metric]:
    """Return every family of the program by its name as a scrape has it."""
    every = [
        *Metrics().collect(),
        *StateMetrics().collect(),
        *SharedMetrics().collect(),
        *ProcessMetrics(lambda: 0.0).collect(),
    ]
    return {family.name + "_total" * (family.type == "counter"): family for family in every}


def labels(family: Metric) -> tuple[str, ...]:
    """Return the names of the labels of a family."""
    return tuple(vars(family)["_labelnames"])


def profiles() -> dict[str, dict[str, str]]:
    """Return the five numbers that each profile sets, as shown, in the order of their speed."""
    fields = {field.name: field for field in msgspec.structs.fields(upstreams.ParallelSettings)}
    keys = upstreams.PROFILES["latency"]
    default = {key: show_default(fields[key]).strip("`") for key in keys}
    return {
        name: {key: str(upstreams.PROFILES[name].get(key, default[key])) for key in keys}
        for name in ("latency", "balanced", "completeness")
    }
