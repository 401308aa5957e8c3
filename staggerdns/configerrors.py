"""What is wrong with a configuration, in the words of those who write it.

msgspec speaks of arrays, objects and str; people write lists, maps and text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from staggerdns.settings.document import one_line
from staggerdns.settings.section import NAME, sections_in
from staggerdns.settings.sections import Config
from staggerdns.settings.values import LIST, MAP, YAML_BOOLEAN

MISSING: Any = object()
"""Stands for a value that cannot be used."""
_ANY_SERVERS = ["192.0.2.1"]
_STAND_INS: dict[str, object] = {"servers": _ANY_SERVERS, "upstream": {"servers": _ANY_SERVERS}}
"""What the keys that are needed have where what is given cannot be used."""
_WHERE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)
_IN_ITEM = re.compile(rf"\[\]|\.{NAME}\b")
_KIND = re.compile(r"`(array|object|str|int|float|bool|null)(?: \| (null))?`")
_WORDS = {
    "array": LIST,
    "object": MAP,
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}
Read = Callable[[type, Any], object]
"""Returns what a plain value means where one of a kind of our own belongs."""
_SIGNS = {" >= ": " of at least ", " <= ": " of at most ", " > 0.0": " above 0"}


def sift(kind: Any, value: Any, read: Read, problems: list[str], path: str = "") -> Any:
    """Return what of a plain ``value`` can stand where a ``kind`` belongs, `MISSING` if nothing
    can, and add to ``problems`` what is wrong: ``path: what was expected``, in one line each.

    A list has all its items or is missing, so that later complaints have the right numbers; what
    sections need has a value that stands in. ``read`` reads values of kinds of our own, as for
    `msgspec.convert`.
    """
    try:
        msgspec.convert(value, kind, dec_hook=read)
    except msgspec.ValidationError as error:
        before = len(problems)
        kept = MISSING
        for one in _choices(kind):
            if _is_section(one):
                kept = _sift_section(one, value, read, problems, path)
            elif get_origin(one) is dict and isinstance(value, dict):
                kind_of_item = get_args(one)[1]
                kept = {
                    name: sift(kind_of_item, item, read, problems, _join(path, str(name)))
                    for name, item in value.items()
                }
            elif get_origin(one) is tuple and isinstance(value, list):
                kind_of_item = get_args(one)[0]
                items = [
                    sift(kind_of_item, item, read, problems, f"{path}[{index}]")
                    for index, item in enumerate(value)
                ]
                kept = MISSING if MISSING in items else items
        if len(problems) == before:
            problems.append(_explain(str(error), path))
        return kept
    return value


def _sift_section(
    kind: type[msgspec.Struct], value: Any, read: Read, problems: list[str], path: str
) -> dict[str, Any]:
    """Return what of a section can be used, with what it needs; nothing else if it is none."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    kept = {}
    for name, item in value.items() if isinstance(value, dict) else ():
        place = _join(path, name)
        if name not in fields:
            problems.append(f"{place}: unknown key{_suggest(kind, name)}")
            continue
        sound = sift(fields[name].type, item, read, problems, place)
        if sound is not MISSING:
            kept[name] = sound
    for name, field in fields.items():
        if not field.required:
            continue
        if isinstance(value, dict) and name not in value:
            problems.append(f"{_join(path, name)}: this key is needed")
        kept.setdefault(name, _STAND_INS[name])
    return kept


def _join(path: str, key: str) -> str:
    return one_line(f"{path}.{key}" if path else key)


def _choices(kind: Any) -> tuple[Any, ...]:
    """Return the kinds that a value may have of which several are possible."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _explain(message: str, path: str) -> str:
    """Turn msgspec's message about the value at ``path`` into one of ours."""
    match = _WHERE.fullmatch(message)
    assert match is not None
    path = (path + (match["path"] or "")).lstrip(".")
    what = match["what"]
    hint = what.endswith("got `bool`")
    what = _KIND.sub(_in_words, what[:1].lower() + what[1:]).replace("`", "")
    for sign, words in _SIGNS.items():
        what = what.replace(sign, words)
    if hint:
        what = f"{what} {YAML_BOOLEAN}"
    return one_line(f"{path}: {what}" if path else what)


def _in_words(kind: re.Match[str]) -> str:
    return _WORDS[kind[1]] + (" or null" if kind[2] else "")


def _suggest(section: type[msgspec.Struct], key: str) -> str:
    """Return the end of an error: the known key that an unknown one in a section looks like, and
    the places where there is a key of just this name.
    """
    names = [field.name for field in msgspec.structs.fields(section)]
    found = get_close_matches(key, names, n=1)
    found += [
        place
        for place, is_section in _known_keys()
        if not _IN_ITEM.search(place) and place.endswith(f".{key}") > is_section
    ]
    return f": did you mean {' or '.join(found)}?" if found else ""


@cache
def _known_keys() -> tuple[tuple[str, bool], ...]:
    """Return what `_keys` yields for all of it, which takes long to look up."""
    return tuple(_keys(Config))


def _keys(kind: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the paths of all keys, and whether they are sections."""
    for field in msgspec.structs.fields(kind):
        inner = f"{path}.{field.name}".lstrip(".")
        is_section = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        yield inner, is_section
        if is_section:
            yield from _keys(field.type, inner)
        for mark, section in sections_in(field.type):
            yield from _keys(section, inner + mark)
