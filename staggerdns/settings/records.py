"""Records of the operator's own, in the forms in which ``local.records`` has them.

    nas.home.example: 192.168.1.10                        an address
    nas.home.example: [192.168.1.10, 'fd00::10']          or several
    '*.dev.example': 192.168.1.20                         for all names below it, not for itself
    old.example: {cname: new.example}                     another name for it
    www.dev.example: {cname: www.dev.example}             an exception: what upstreams say

Of the records that concern a name the one of the name itself counts, else the ``*.`` of the longest
domain. A ``*.`` does not concern the name that its own CNAME leads to, so that all names of a
domain may lead to one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from staggerdns.settings.values import Domain, a_label_hint, read_value, show_value
from staggerdns.wire.names import to_text

MAX_CNAMES = 16
"""CNAMEs from one name of ours to the next in one answer. With those of upstreams behind them, 32
at most, all are within reach of compression pointers (RFC 1035 section 4.1.4).
"""
_BELOW = "*."
_NAME = "a name like nas.home.example or '*.dev.example'"
_RECORD = "an address, a list of addresses or {cname: NAME}"


class Record:
    """What is known of a name: ``addresses`` of 4 or 16 bytes, or the ``cname`` that it leads to
    (wire form, lower case), empty if it leads nowhere.
    """

    __slots__ = ("addresses", "cname")

    def __init__(self, addresses: tuple[bytes, ...] = (), cname: bytes = b"") -> None:
        self.addresses = addresses
        self.cname = cname


class Records:
    """The records by name (wire form, lower case): ``exact`` those of the names themselves,
    ``below`` those of all names below one.
    """

    __slots__ = ("exact", "below")

    def __init__(self) -> None:
        self.exact: dict[bytes, Record] = {}
        self.below: dict[bytes, Record] = {}

    def __bool__(self) -> bool:
        return bool(self.exact or self.below)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Records) and list(self._content()) == list(other._content())

    def __hash__(self) -> int:
        return hash(tuple(self._content()))

    def __str__(self) -> str:
        return f"{{{', '.join(name for name, _, _ in self._content())}}}"

    def _content(self) -> Iterator[tuple[str, tuple[bytes, ...], bytes]]:
        for prefix, records in (("", self.exact), (_BELOW, self.below)):
            for name, record in records.items():
                yield prefix + _shown(name), record.addresses, record.cname

    def find(self, name: bytes) -> Record | None:
        """Return the record that counts for a name in lower case, `None` if there is none."""
        found = self.exact.get(name)
        if found is not None:
            return None if found.cname == name else found
        if self.below:
            position = 0
            while length := name[position]:
                position += length + 1
                found = self.below.get(name[position:])
                if found is not None and found.cname != name:
                    return found
        return None


def read_records(value: object) -> Records:
    """Return the records in a plain ``value`` of YAML.

    Raises `ValueError` that says what was expected, and names the record.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected a map of names and records, got {show_value(value)}")  # noqa: TRY004 (msgspec adds the path)
    records = Records()
    for text, given in value.items():
        table = records.below if text.startswith(_BELOW) else records.exact
        name = _read_name(text.removeprefix(_BELOW), f"{text!r}: expected {_NAME}")
        if name in table:
            raise ValueError(f"{text}: this name is there twice")
        table[name] = _read_record(text, given)
    for name, record in records.exact.items():
        if record.cname != name:
            _check_chain(records, _shown(name), record)
    for name, record in records.below.items():
        _check_chain(records, _BELOW + _shown(name), record)
    return records


def _read_record(text: str, value: object) -> Record:
    if isinstance(value, dict):
        if list(value) != ["cname"]:
            raise ValueError(f"{text}: expected {_RECORD}")
        target = value["cname"]
        wrong = f"{text}: expected {{cname: NAME}} with a name like new.example"
        wrong += f", got {show_value(target)}"
        if isinstance(target, str) and _read_address(target.removesuffix(".")) is not None:
            raise ValueError(f"{wrong}: an address is written alone, as in {text}: {target}")
        return Record(cname=_read_name(target, wrong))
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError(f"{text}: expected at least one address")
    addresses: dict[bytes, None] = {}
    for item in items:
        packed = _read_address(item)
        if packed is None:
            raise ValueError(f"{text}: expected {_RECORD}, got {show_value(item)}")
        if packed in addresses:
            raise ValueError(f"{text}: {item} is there already")
        addresses[packed] = None
    return Record(tuple(addresses))


def _read_name(text: object, wrong: str) -> bytes:
    try:
        name = read_value(Domain, text)
    except ValueError:
        hint = a_label_hint(text) if isinstance(text, str) else ""
        raise ValueError(wrong + hint) from None
    assert isinstance(name, bytes)
    return bytes(name)


def _read_address(item: object) -> bytes | None:
    """Return an address as bytes, `None` for anything else; one of an interface is no record."""
    if not isinstance(item, str) or "%" in item:
        return None
    try:
        return ip_address(item).packed
    except ValueError:
        return None


def _check_chain(records: Records, text: str, record: Record) -> None:
    """Check that the CNAMEs that begin with ``record`` end. Raises `ValueError`."""
    cname_chain: list[bytes] = []
    found: Record | None = record
    while found is not None and found.cname:
        target = found.cname
        if target in cname_chain or len(cname_chain) == MAX_CNAMES:
            shown = " to ".join(map(_shown, [*cname_chain[:3], target]))
            raise ValueError(
                f"{text}: its CNAMEs lead in a circle, or are more than {MAX_CNAMES}: {shown}"
            )
        cname_chain.append(target)
        found = records.find(target)


def _shown(name: bytes) -> str:
    return to_text(name).removesuffix(".")
