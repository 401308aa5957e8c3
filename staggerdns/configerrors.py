"""What is wrong with a configuration, in the words of those who write it.

msgspec speaks of arrays, objects and str; people write lists, maps and text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache

import msgspec

from staggerdns.settings.document import one_line
from staggerdns.settings.section import NAME, sections_in
from staggerdns.settings.sections import Config
from staggerdns.settings.values import LIST, MAP, YAML_BOOLEAN

_PATH = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_IN_MAP = "[...]"
"""What msgspec has in a path for an item of a map, whatever its name."""
_INDEX = re.compile(r"\[[0-9]+\]")
_IN_ITEM = re.compile(rf"\[\]|\.{NAME}\b")
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
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
_SIGNS = {" >= ": " of at least ", " <= ": " of at most ", " > 0.0": " above 0"}


def explain(message: str, find_name: Callable[[str], str]) -> str:
    """Turn msgspec's message about a `Config` into ``path: what was expected``, in one line.

    ``find_name`` returns which item of a map it is about, for the map's path.
    """
    match = _PATH.fullmatch(message)
    assert match is not None
    path = (match["path"] or "").lstrip(".")
    section = path.replace(_IN_MAP, f".{NAME}")
    if _IN_MAP in path:
        place, _, rest = path.partition(_IN_MAP)
        path = f"{place}.{find_name(place)}{rest}"
    what = match["what"]
    field = _FIELD.fullmatch(what)
    if field is not None:
        what = "this key is needed"
        if field[1] == "contains unknown":
            what = f"unknown key{_suggest(section, field[2])}"
        path = f"{path}.{field[2]}".lstrip(".")
    else:
        hint = what.endswith("got `bool`")
        what = _KIND.sub(_in_words, what[:1].lower() + what[1:]).replace("`", "")
        for sign, words in _SIGNS.items():
            what = what.replace(sign, words)
        if hint:
            what = f"{what} {YAML_BOOLEAN}"
    return one_line(f"{path}: {what}" if path else what)


def _in_words(kind: re.Match[str]) -> str:
    return _WORDS[kind[1]] + (" or null" if kind[2] else "")


def _suggest(section: str, key: str) -> str:
    """Return the end of an error: the known key that an unknown one in a section looks like, and
    the places where there is a key of just this name.
    """
    section = _INDEX.sub("[]", section)
    places = [path.rpartition(".")[::2] for path, _ in _known_keys()]
    found = get_close_matches(key, [name for place, name in places if place == section], n=1)
    found += [
        path
        for path, is_section in _known_keys()
        if not _IN_ITEM.search(path) and path.endswith(f".{key}") > is_section
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
