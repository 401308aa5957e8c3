"""The protocol of the control socket (docs/control.rst): octets to requests, results to octets.

Each request and each reply is one JSON object on a line of its own, with the version of the
protocol. Nothing here waits or opens anything: the server has the peers, the command line has its
socket, and both read and write by this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from staggerdns.errors import StaggerDNSError
from staggerdns.settings.document import one_line
from staggerdns.settings.networks import client_address
from staggerdns.settings.values import a_label_hint
from staggerdns.wire.constants import MAX_NAME, Type, WireError
from staggerdns.wire.names import from_labels

VERSION = 1
"""The version that this program speaks. What a later program adds to a reply does not change it."""
MAX_LINE = 4_096
"""Octets of a request, without the line feed."""
MAX_REPLY = 1_048_576
"""Octets of a reply, with the line feed; a longer one is replaced by an error."""
MAX_PAUSE = 86_400.0
"""Seconds that a pause may last which ends by itself."""
MAX_CLIENT = 64
"""Characters of a client's address."""
MAX_GROUP = 64
"""Characters of the name of a group."""

MAX_CHOICES = 16
"""Clients, or sources, that one may watch."""

BAD_REQUEST = "bad_request"
UNSUPPORTED_VERSION = "unsupported_version"
UNKNOWN_COMMAND = "unknown_command"
TOO_LONG = "too_long"
NOT_ALLOWED = "not_allowed"
BUSY = "busy"
REFUSED = "refused"
FAILED = "failed"
CODES = (
    BAD_REQUEST,
    UNSUPPORTED_VERSION,
    UNKNOWN_COMMAND,
    TOO_LONG,
    NOT_ALLOWED,
    BUSY,
    REFUSED,
    FAILED,
)
"""Values of ``error.code``."""

RequestId = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)] | str | None
"""What a client tells its replies apart by."""
Result = Mapping[str, Any]
"""What a command has found, or done."""

_LONGEST_ESCAPED = 4 * MAX_NAME  # each octet may be written with three digits
_OCTET = re.compile(r"\\([0-9]{3})|\\(.)|([^.\\])", re.DOTALL)
_OTHER_TYPE = re.compile(r"TYPE([0-9]{1,5})")


class Refused(StaggerDNSError):
    """A request that is not done: ``code``, one of `CODES`, and ``message`` for a person, with all
    ``problems`` where there may be several. ``request_id``: whose it is, as far as that is known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        problems: Sequence[str] = (),
        request_id: RequestId = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.problems = tuple(problems)
        self.request_id = request_id


class BadReply(StaggerDNSError, ValueError):
    """Octets that are no reply of this version of the protocol."""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request; ``changes``: whether it does more than to read; ``streams``: whether there is more
    than one reply.
    """

    changes: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    version: int
    command: str
    id: RequestId = None


class StatusRequest(Request, frozen=True, kw_only=True):
    """How the program is."""


class UpstreamsRequest(Request, frozen=True, kw_only=True):
    """How the upstreams are."""


class CacheRequest(Request, frozen=True, kw_only=True):
    """What is kept of a name, of all types or of one."""

    name: str
    type: str | None = None


class WhyRequest(Request, frozen=True, kw_only=True):
    """Why a name is answered as it is, for the ``client`` at an address, else for those of the
    default group. ``ask``: ask for it before, as that client might, if it is not kept.
    """

    name: str
    type: str = "A"
    client: Annotated[str, msgspec.Meta(max_length=MAX_CLIENT)] | None = None
    ask: bool = False


class FlushRequest(Request, frozen=True, kw_only=True):
    """Forget a name, all names at and below a domain, or all there are: exactly one of these."""

    changes: ClassVar[bool] = True
    name: str | None = None
    below: str | None = None
    all: bool = False


class ReloadRequest(Request, frozen=True, kw_only=True):
    """Read the configuration again; the reply comes when it counts, or does not."""

    changes: ClassVar[bool] = True


class DrainRequest(Request, frozen=True, kw_only=True):
    """Report to balancers that the program is not ready, or is again."""

    changes: ClassVar[bool] = True
    draining: bool


class BlockRequest(Request, frozen=True, kw_only=True):
    """Have lists block or not, for a group or for all; ``seconds``: until they do again."""

    changes: ClassVar[bool] = True
    blocking: bool
    group: Annotated[str, msgspec.Meta(max_length=MAX_GROUP)] | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_PAUSE)] | None = None


class WatchRequest(Request, frozen=True, kw_only=True):
    """Answers as they happen: to these clients, of a name, of a domain and all names below it, from
    these sources; of any where nothing is said.
    """

    streams: ClassVar[bool] = True
    clients: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_CHOICES)] = ()
    name: str | None = None
    below: str | None = None
    sources: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_CHOICES)] = ()


REQUESTS: Mapping[str, type[Request]] = {
    "status": StatusRequest,
    "upstreams": UpstreamsRequest,
    "cache": CacheRequest,
    "why": WhyRequest,
    "flush": FlushRequest,
    "reload": ReloadRequest,
    "drain": DrainRequest,
    "block": BlockRequest,
    "watch": WatchRequest,
}
"""Requests by their commands."""


class _Envelope(msgspec.Struct, frozen=True):
    version: int
    command: str
    id: RequestId = None


def parse_request(octets: bytes) -> Request:
    """Return the request that a line, without its line feed, holds. Raises `Refused`."""
    if len(octets) > MAX_LINE:
        raise Refused(TOO_LONG, f"a request has at most {MAX_LINE} octets")
    envelope = _decode(octets, _Envelope, None)
    if envelope.version != VERSION:
        raise Refused(
            UNSUPPORTED_VERSION,
            f"this program speaks version {VERSION} of the protocol",
            request_id=envelope.id,
        )
    kind = REQUESTS.get(envelope.command)
    if kind is None:
        raise Refused(
            UNKNOWN_COMMAND,
            f"expected one of {', '.join(REQUESTS)}",
            request_id=envelope.id,
        )
    request: Request = _decode(octets, kind, envelope.id)
    if isinstance(request, FlushRequest):
        given = [request.name is not None, request.below is not None, request.all]
        if given.count(True) != 1:
            raise _bad("expected one of name, below and all", envelope.id)
    if isinstance(request, BlockRequest) and request.blocking and request.seconds is not None:
        raise _bad("expected seconds only where blocking is false", envelope.id)
    return request


def parse_name(text: str) -> bytes:
    """Return the wire form in lower case of a name in presentation form, with or without a final
    dot, as replies have it, too (RFC 1035 section 5.1). Raises `Refused`.
    """
    expected = f"expected a domain name like www.example.com, got {one_line(text)[:80]!r}"
    if not text.isascii():
        raise Refused(BAD_REQUEST, f"{expected}{a_label_hint(text)}")
    if not text or len(text) > _LONGEST_ESCAPED:
        raise Refused(BAD_REQUEST, expected)
    try:
        return from_labels(_labels(text)).lower()
    except (WireError, ValueError):
        raise Refused(BAD_REQUEST, expected) from None


def parse_type(text: str) -> int:
    """Return the number of a type, by its name or as TYPE65 (RFC 3597 section 5). Raises
    `Refused`.
    """
    upper = text.upper()
    if upper in Type.__members__:
        return Type[upper]
    other = _OTHER_TYPE.fullmatch(upper)
    if other is None or int(other[1]) > 0xFFFF:
        raise Refused(
            BAD_REQUEST, f"expected a type like AAAA or TYPE65, got {one_line(text)[:40]!r}"
        )
    return int(other[1])


def parse_client(text: str) -> str:
    """Return the address of a client. Raises `Refused`."""
    try:
        return str(client_address(text))
    except ValueError:
        expected = "expected an address like 192.0.2.1 or 2001:db8::1"
        raise Refused(BAD_REQUEST, f"{expected}, got {one_line(text)!r}") from None


def encode_request(command: str, arguments: Mapping[str, Any]) -> bytes:
    """Return the line of a request, with its line feed."""
    return msgspec.json.encode({"version": VERSION, "command": command, **arguments}) + b"\n"


def encode_result(request_id: RequestId, result: Result) -> bytes:
    """Return the line of a reply with a result, with its line feed."""
    octets = msgspec.json.encode(
        {"version": VERSION, "id": request_id, "ok": True, "result": result}
    )
    if len(octets) >= MAX_REPLY:
        return encode_error(Refused(TOO_LONG, f"the reply has more than {MAX_REPLY} octets"))
    return octets + b"\n"


def encode_event(request_id: RequestId, kind: str, event: object) -> bytes:
    """Return a line that follows a reply, with its line feed: what has happened, by its kind."""
    return msgspec.json.encode({"version": VERSION, "id": request_id, kind: event}) + b"\n"


def parse_event(octets: bytes) -> dict[str, Any]:
    """Return what a line that follows a reply holds. Raises `BadReply` if it is none."""
    try:
        event: dict[str, Any] = dict(msgspec.json.decode(octets))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, ValueError):
        raise BadReply("expected a line of the control socket") from None
    return event


def encode_error(refused: Refused) -> bytes:
    """Return the line of a reply that says why not, with its line feed."""
    error: dict[str, Any] = {"code": refused.code, "message": refused.message}
    if refused.problems:
        error["problems"] = refused.problems
    reply = {"version": VERSION, "id": refused.request_id, "ok": False, "error": error}
    return msgspec.json.encode(reply) + b"\n"


def parse_reply(octets: bytes) -> dict[str, Any]:
    """Return the result in the line of a reply. Raises `Refused` if it has an error, `BadReply` if
    it is none.
    """
    try:
        reply = msgspec.json.decode(octets)
        version = reply["version"]
        if version != VERSION:
            raise BadReply(f"expected version {VERSION} of the protocol, got {version!r:.40}")
        if reply["ok"]:
            result: dict[str, Any] = dict(reply["result"])
            return result
        error = reply["error"]
        refused = Refused(error["code"], error["message"], error.get("problems", ()))
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
        LookupError,
        TypeError,
        AttributeError,
    ):
        raise BadReply("expected a reply of the control socket") from None
    raise refused


def _decode(octets: bytes, kind: type[Any], request_id: RequestId) -> Any:
    try:
        return msgspec.json.decode(octets, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = one_line(str(error)) or "nested too deeply"
        raise _bad(f"expected one JSON object: {what}", request_id) from None


def _bad(message: str, request_id: RequestId) -> Refused:
    return Refused(BAD_REQUEST, message, request_id=request_id)


def _labels(text: str) -> list[bytes]:
    """Return the labels of a name in presentation form. Raises `ValueError`."""
    if text == ".":
        return []
    labels = [bytearray()]
    place = 0
    while place < len(text):
        if text[place] == ".":
            labels.append(bytearray())
            place += 1
            continue
        found = _OCTET.match(text, place)
        if found is None:
            raise ValueError("a backslash at the end")
        number, escaped, plain = found.groups()
        labels[-1].append(int(number) if number else ord(escaped or plain))
        place = found.end()
    if not labels[-1]:  # behind the final dot
        labels.pop()
    return [bytes(label) for label in labels]
