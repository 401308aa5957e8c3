"""The key under which an answer is kept: two queries share an answer exactly when theirs are equal.

It is bytes, since it is made for every query: the name in lower case, type and class, all in wire
form, and one octet of marks. `make_key` puts it together, and the indices below take it apart: no
other module knows what stands where. Of the marks, DO and CD have the two lowest bits. The other
six are for the scope of an answer, of which there is one today.
"""

from __future__ import annotations

from typing import Final

NAME_END: Final = -5
"""Where the name ends, and type and class begin."""
SECTION_END: Final = -1
"""Where these end; all up to here is a question section in wire form."""
MARKS: Final = -1
DO_MARK: Final = 1
CD_MARK: Final = 2
_MARKS = (b"\0", b"\1", b"\2", b"\3")


def make_key(name: bytes, type_and_class: bytes, do: bool, cd: bool) -> bytes:
    """Return the key of a question; ``name`` in wire form with any case."""
    marks = (DO_MARK if do else 0) | (CD_MARK if cd else 0)
    return name.lower() + type_and_class + _MARKS[marks]
