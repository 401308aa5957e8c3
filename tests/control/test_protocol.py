"""Octets to requests and results to octets: what is read, what is refused, and how it is said."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from staggerdns.control.protocol import (
    BAD_REQUEST,
    CODES,
    MAX_CLIENT,
    MAX_GROUP,
    MAX_LINE,
    MAX_PAUSE,
    MAX_REPLY,
    REFUSED,
    REQUESTS,
    TOO_LONG,
    UNKNOWN_COMMAND,
    UNSUPPORTED_VERSION,
    VERSION,
    BadReply,
    BlockRequest,
    CacheRequest,
    FlushRequest,
    Refused,
    encode_error,
    encode_request,
    encode_result,
    parse_name,
    parse_reply,
    parse_request,
    parse_type,
)
from staggerdns.wire.names import to_text
from tests.kit.acts import name


def refusal(octets: bytes) -> Refused:
    """Return why a request is refused."""
    with pytest.raises(Refused) as caught:
        parse_request(octets)
    return caught.value


def request(command: str, **arguments: object) -> bytes:
    """Return a request without its line feed."""
    return encode_request(command, arguments).removesuffix(b"\n")


@pytest.mark.parametrize(
    ("command", "arguments", "changes"),
    [
        ("status", {}, False),
        ("upstreams", {}, False),
        ("cache", {"name": "www.example"}, False),
        ("cache", {"name": "www.example", "type": "AAAA"}, False),
        ("why", {"name": "www.example"}, False),
        (
            "why",
            {"name": "www.example", "type": "AAAA", "client": "x" * MAX_CLIENT, "ask": True},
            False,
        ),
        ("flush", {"name": "www.example"}, True),
        ("flush", {"below": "example"}, True),
        ("flush", {"all": True}, True),
        ("reload", {}, True),
        ("drain", {"draining": True}, True),
        ("block", {"blocking": False}, True),
        ("block", {"blocking": False, "group": "g" * MAX_GROUP, "seconds": MAX_PAUSE}, True),
        ("block", {"blocking": True, "group": "kids"}, True),
        ("watch", {}, False),
        ("watch", {"name": "www.example", "below": "example"}, False),
        ("watch", {"clients": ("192.0.2.0/24",), "sources": ("cache", "stale")}, False),
    ],
)
def test_requests(command: str, arguments: dict[str, Any], changes: bool) -> None:
    """Each command, with all that it may be given; the ID is the client's."""
    for request_id in (None, 7, "seven", -(2**53)):
        parsed = parse_request(request(command, **arguments, id=request_id))
        assert parsed.command == command
        assert parsed.id == request_id
        assert parsed.changes == changes
        assert {key: getattr(parsed, key) for key in arguments} == arguments


def test_every_command_is_tested() -> None:
    """Those above are all."""
    marks = test_requests.pytestmark
    assert {case[0] for case in marks[0].args[1]} == {*REQUESTS}


def test_what_is_not_given() -> None:
    """It is nothing, or no."""
    flush, block = (
        parse_request(request("flush", all=True)),
        parse_request(request("block", blocking=True)),
    )
    assert isinstance(flush, FlushRequest)
    assert (flush.name, flush.below) == (None, None)
    assert isinstance(block, BlockRequest)
    assert (block.group, block.seconds) == (None, None)
    cache = parse_request(request("cache", name="."))
    assert isinstance(cache, CacheRequest)
    assert cache.type is None


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"", BAD_REQUEST),
        (b"status", BAD_REQUEST),
        (b"\xff\xfe", BAD_REQUEST),
        (b"[]", BAD_REQUEST),
        (b"{}", BAD_REQUEST),
        (b'{"version":1}', BAD_REQUEST),
        (b'{"version":"1","command":"status"}', BAD_REQUEST),
        (b'{"version":1,"command":"status"} {}', BAD_REQUEST),
        (b'{"version":1,"command":"status","id":[]}', BAD_REQUEST),
        (b'{"version":1,"command":"status","id":9007199254740993}', BAD_REQUEST),
        (b'{"version":1,"command":"status","more":1}', BAD_REQUEST),
        (b'{"version":1,"command":"stop"}', UNKNOWN_COMMAND),
        (b'{"version":2,"command":"stop","what":{}}', UNSUPPORTED_VERSION),
        (b'{"version":0,"command":"status"}', UNSUPPORTED_VERSION),
        (request("cache"), BAD_REQUEST),
        (request("why"), BAD_REQUEST),
        (request("why", name="www.example", client="x" * (MAX_CLIENT + 1)), BAD_REQUEST),
        (request("flush"), BAD_REQUEST),
        (request("flush", all=False), BAD_REQUEST),
        (request("flush", name="a", all=True), BAD_REQUEST),
        (request("flush", name="a", below="a"), BAD_REQUEST),
        (request("drain"), BAD_REQUEST),
        (request("block"), BAD_REQUEST),
        (request("block", blocking=True, seconds=1), BAD_REQUEST),
        (request("block", blocking=False, seconds=0), BAD_REQUEST),
        (request("block", blocking=False, seconds=MAX_PAUSE + 1), BAD_REQUEST),
        (request("block", blocking=False, group="g" * (MAX_GROUP + 1)), BAD_REQUEST),
        (b"[" * MAX_LINE, BAD_REQUEST),
        (b'{"version":1,"command":"status","x":' + b"[" * 4_000, BAD_REQUEST),
        (b" " * (MAX_LINE + 1), TOO_LONG),
    ],
)
def test_what_is_refused(octets: bytes, code: str) -> None:
    """Whatever is no request of this version; what is said fits one line."""
    refused = refusal(octets)
    assert refused.code == code
    assert refused.message.isprintable()
    assert encode_error(refused).count(b"\n") == 1


def test_the_longest_request() -> None:
    """A request may have `MAX_LINE` octets, and not one more."""
    octets = request("status").ljust(MAX_LINE)
    assert len(octets) == 4_096
    assert parse_request(octets).command == "status"
    assert refusal(octets + b" ").code == TOO_LONG


def test_whose_request_is_refused() -> None:
    """The ID is in the refusal as soon as it is known."""
    assert refusal(request("stop", id="mine")).request_id == "mine"
    assert refusal(request("flush", id=3)).request_id == 3
    assert refusal(b'{"version":7,"command":"x","id":4}').request_id == 4


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        (".", b"\0"),
        ("www.Example", name("www.example")),
        ("www.example.", name("www.example")),
        (r"a\.b.example", b"\3a.b\7example\0"),
        (r"a\032b.example.", b"\3a b\7example\0"),
        (r"\065", b"\1a\0"),
        ("*.example", b"\1*\7example\0"),
        ("_443._tcp.example", name("_443._tcp.example")),
        ("a" * 63, b"\x3f" + b"a" * 63 + b"\0"),
        (
            ".".join(["a" * 63] * 3 + ["a" * 61]),
            (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0",
        ),
    ],
)
def test_names(text: str, wire: bytes) -> None:
    """In presentation form, with escapes, with or without a final dot, in any case."""
    assert parse_name(text) == wire


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        ".a",
        "a..b",
        "a..",
        "\\",
        r"\256",
        "a" * 64,
        "a." * 127 + "ab",
        "x" * 1_100,
        "Ä.example",
    ],
)
def test_no_names(text: str) -> None:
    """What is none is refused, with how it may be meant; nobody gets it back as a whole."""
    with pytest.raises(Refused) as caught:
        parse_name(text)
    assert caught.value.code == BAD_REQUEST
    assert len(caught.value.message) < 300


def test_a_name_in_other_letters() -> None:
    """How it is written in the DNS is said."""
    with pytest.raises(Refused, match=r"write xn--4ca\.example"):
        parse_name("ä.example")


@given(st.binary(min_size=1, max_size=40))
def test_names_come_back(label: bytes) -> None:
    """What replies show can be asked for."""
    wire = bytes((len(label),)) + label.lower() + b"\3com\0"
    assert parse_name(to_text(wire)) == wire


@pytest.mark.parametrize(
    ("text", "number"),
    [("a", 1), ("HTTPS", 65), ("type65", 65), ("TYPE0", 0), ("TYPE65535", 65_535)],
)
def test_types(text: str, number: int) -> None:
    """By name or by number."""
    assert parse_type(text) == number


@pytest.mark.parametrize("text", ["", "TYPE65536", "TYPE", "TYPE-1", "NOTHING", "A ", "TYPE1٣"])
def test_no_types(text: str) -> None:
    """What is none is refused."""
    with pytest.raises(Refused, match="expected a type like AAAA"):
        parse_type(text)


def test_replies() -> None:
    """A result comes back as it was; what was refused, as that."""
    result = {"flushed": 3, "names": ["a", None, 0.5, True]}
    octets = encode_result(7, result)
    assert json.loads(octets) == {"version": VERSION, "id": 7, "ok": True, "result": result}
    assert parse_reply(octets) == result
    refused = Refused(REFUSED, "no", ["one", "two"], "x")
    octets = encode_error(refused)
    assert json.loads(octets) == {
        "version": VERSION,
        "id": "x",
        "ok": False,
        "error": {"code": "refused", "message": "no", "problems": ["one", "two"]},
    }
    with pytest.raises(Refused) as caught:
        parse_reply(octets)
    assert (caught.value.code, caught.value.problems) == (REFUSED, ("one", "two"))
    assert "problems" not in json.loads(encode_error(Refused(CODES[0], "no")))["error"]


def test_the_longest_reply() -> None:
    """It may have `MAX_REPLY` octets; one more, and an error takes its place."""
    spare = MAX_REPLY - len(encode_result(None, {"text": ""}))
    longest = encode_result(None, {"text": "x" * spare})
    assert len(longest) == MAX_REPLY == 1_048_576
    assert parse_reply(longest)
    with pytest.raises(Refused) as caught:
        parse_reply(encode_result(None, {"text": "x" * (spare + 1)}))
    assert caught.value.code == TOO_LONG


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"x",
        b"\xff",
        b"[]",
        b"1",
        b"{}",
        b'{"version":1}',
        b'{"version":1,"ok":true}',
        b'{"version":1,"ok":true,"result":1}',
        b'{"version":1,"ok":false,"error":1}',
        b'{"version":1,"ok":false,"error":{"code":"x"}}',
        b'{"version":2,"ok":true,"result":{}}',
        b"[" * 100_000,
    ],
)
def test_no_replies(octets: bytes) -> None:
    """Whatever else answers there is told apart."""
    with pytest.raises(BadReply):
        parse_reply(octets)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
ARGUMENTS = ("id", "name", "type", "below", "all", "draining", "blocking", "group", "seconds", "x")


@given(
    st.fixed_dictionaries(
        {"version": st.just(1) | JSON, "command": st.sampled_from([*REQUESTS, "x"]) | JSON},
        optional=dict.fromkeys(ARGUMENTS, JSON),
    )
)
def test_any_arguments(document: dict[str, Any]) -> None:
    """A request is understood as it stands or refused; nothing else ever happens."""
    refusals = []
    try:
        parsed = parse_request(json.dumps(document).encode())
    except Refused as error:
        refusals.append(error)
    else:
        assert parsed.version == VERSION
        assert {key: getattr(parsed, key) for key in document} == document
    for refused in refusals:
        assert refused.code in CODES
        assert json.loads(encode_error(refused))["ok"] is False


@given(st.binary(max_size=200))
@example(b'{"version":1,"command":"watch"}')
@example(b'{"version":1,"id":null,"ok":true,"result":{}}')
def test_any_octets(octets: bytes) -> None:
    """No octets do any harm, on either side: they are a request, or a reply, or refused."""
    with contextlib.suppress(Refused):
        assert parse_request(octets).version == VERSION
    with contextlib.suppress(BadReply, Refused):
        assert parse_reply(octets) == json.loads(octets)["result"]
