"""What all sections of the configuration have in common."""

from __future__ import annotations

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the configuration: keys with their defaults and limits."""


def default_of(section: type[msgspec.Struct], key: str) -> object:
    """Return what stands for ``key`` of a section if it is not given."""
    return next(field.default for field in msgspec.structs.fields(section) if field.name == key)
