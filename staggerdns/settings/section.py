"""What all sections of the configuration have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import msgspec

NAME = "NAME"
"""Stands in a path for the name that an item of a map has."""
Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the configuration: keys with their defaults and limits."""


def default_of(section: type[msgspec.Struct], key: str) -> object:
    """Return what stands for ``key`` of a section if it is not given."""
    return next(field.default for field in msgspec.structs.fields(section) if field.name == key)


def sections_in(kind: Any) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Yield the sections that the type of a field holds, in a list, in a map, or `None` in its
    place; each behind what leads to it in a path: ``[]``, ``.NAME``, or nothing.
    """
    origin = get_origin(kind)
    mark = {tuple: "[]", dict: f".{NAME}"}.get(origin, "") if origin is not None else ""
    for item in get_args(kind):
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            yield mark, item
        else:
            yield from ((mark + inner, section) for inner, section in sections_in(item))
