"""Records of the operator's own: what is answered for the names under ``local.records``.

A name with addresses has these and no other data. One with a CNAME leads to another name; whoever
asks looks that up as if it had been asked for. The addresses of a name have its name as their
reverse name, the first that has them; those of a ``*.`` have none, since it stands for many names.
"""

from __future__ import annotations

from staggerdns.settings.records import Record, Records
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.alias import Alias
from staggerdns.wire.answer import Answer, LocalNegativeAnswer, RecordAnswer
from staggerdns.wire.constants import CLASS_IN, Rcode, Type
from staggerdns.wire.names import reverse_name

RECORDS_TTL = 60
"""Seconds that clients may keep what the configuration says."""
_WIDTHS: dict[int, int] = {Type.A: 4, Type.AAAA: 16}


class LocalRecords:
    """Answers from ``records``; all names are in wire form and lower case."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._pointers: dict[bytes, bytes] = {}
        for name, record in records.exact.items():
            for address in record.addresses:
                self._pointers.setdefault(reverse_name(address), name)
        # Names above those that are here; a name below `*.` is below the one it is written with.
        self._above: set[bytes] = set(records.below)
        exact = (name for name, record in records.exact.items() if record.cname != name)
        for name in (*exact, *records.below, *self._pointers):
            self._add_above(name)

    def find(self, name: bytes, qtype: int, *, only_local: bool) -> Answer | Alias | None:
        """Return the answer for a name, or where it leads; `None` if others have to be asked.

        ``only_local``: nobody else is asked, so what is not here does not exist.
        """
        record = self._records.exact.get(name)
        pointer = self._pointers.get(name) if record is None else None
        if pointer is None:
            record = self._records.find(name)
            return None if record is None else _answer(record, name, qtype)
        if qtype == Type.PTR:
            return RecordAnswer(Type.PTR, CLASS_IN, pointer, RECORDS_TTL)
        return _nodata(name) if only_local else None

    def has_descendants(self, name: bytes) -> bool:
        """Return whether there is a name below this one, which therefore exists (RFC 8020)."""
        return name in self._above

    def exists(self, name: bytes) -> bool:
        """Return whether upstreams that are asked about a name cannot say that there is none."""
        return name in self._above or name in self._pointers

    def _add_above(self, name: bytes) -> None:
        while name[0]:
            name = name[name[0] + 1 :]
            if name in self._above:
                break
            self._above.add(name)


def _answer(record: Record, name: bytes, qtype: int) -> Answer | Alias:
    if record.cname:
        if qtype == Type.CNAME:
            return RecordAnswer(Type.CNAME, CLASS_IN, record.cname, RECORDS_TTL)
        return Alias((record.cname,), RECORDS_TTL)
    width = _WIDTHS.get(qtype)
    addresses = tuple([address for address in record.addresses if len(address) == width])
    return AddressPool((), addresses, RECORDS_TTL, ad=False) if addresses else _nodata(name)


def _nodata(name: bytes) -> Answer:
    return LocalNegativeAnswer(Rcode.NOERROR, len(name), RECORDS_TTL)
