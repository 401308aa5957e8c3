"""What comes over the control socket: each line gets one reply of the protocol, however its octets
come, and nothing is changed for somebody who may only read.
"""

from __future__ import annotations

import json
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from staggerdns.control.connection import ControlFactory
from staggerdns.control.peers import Peer
from staggerdns.control.protocol import (
    CODES,
    MAX_LINE,
    REQUESTS,
    Refused,
    Request,
    Result,
    encode_request,
    parse_name,
    parse_reply,
    parse_request,
    parse_type,
)
from staggerdns.control.turns import INTERVAL
from staggerdns.journal import Journal
from staggerdns.wire.names import to_text

_READER = Peer(1, 1000, may_change=False)
_ROOT = Peer(1, 0, may_change=True)


class _Transport:
    """A client that reads all."""

    def __init__(self, peer: Peer) -> None:
        self.socket = peer
        self.written = b""
        self.open = True

    def write(self, data: bytes) -> None:
        assert self.open
        self.written += data

    def loseConnection(self) -> None:
        self.open = False

    abortConnection = loseConnection

    def registerProducer(self, *_: object) -> None: ...

    def unregisterProducer(self) -> None: ...

    def startReading(self) -> None: ...

    def stopReading(self) -> None: ...


def _perform(request: Request, peer: Peer) -> Deferred[Result]:
    assert peer.may_change or not request.changes
    try:
        return succeed(_result(request))
    except Refused as refused:
        return fail(refused)


def _result(request: Request) -> Result:
    """Do with the arguments what commands do with them."""
    assert type(request) is REQUESTS[request.command]
    result: dict[str, Any] = {"command": request.command}
    for key in ("name", "below"):
        text = getattr(request, key, None)
        if text is not None:
            name = parse_name(text)
            assert len(name) <= 255
            assert parse_name(to_text(name)) == name
            result[key] = to_text(name)
    if getattr(request, "type", None) is not None:
        assert 0 <= parse_type(cast("Any", request).type) <= 65_535
    return result


def _replies(data: bytes, peer: Peer, piece: int) -> bytes:
    """Return what a client gets for all of ``data``, sent in pieces."""
    clock = Clock()
    factory = ControlFactory(
        _perform, clock, Journal("error"), lambda connected: cast("Peer", connected)
    )
    connection, transport = factory.buildProtocol(None), _Transport(peer)
    connection.makeConnection(cast("Any", transport))
    for start in range(0, len(data), piece):
        if not transport.open:
            break
        connection.dataReceived(data[start : start + piece])
    if transport.open:
        connection.readConnectionLost()
    while transport.open:  # requests beyond the rate take their turns
        clock.advance(INTERVAL)
    factory.close()
    clock.advance(1_000)
    assert not clock.getDelayedCalls()
    return transport.written


def check(data: bytes) -> None:
    """Check one client's octets; raises `AssertionError`, or anything else, for a defect."""
    written = _replies(data, _ROOT, len(data) + 1)
    assert written == _replies(data, _ROOT, 7)
    lines, replies = data.split(b"\n"), written.split(b"\n")
    assert replies.pop() == b""
    too_long = next((place for place, line in enumerate(lines) if len(line) > MAX_LINE), None)
    assert len(replies) == (len(lines) - 1 if too_long is None else too_long + 1)
    for reply in replies:
        document = json.loads(reply)
        assert document["version"] == 1
        if not document["ok"]:
            assert document["error"]["code"] in CODES
            assert document["error"]["message"].isprintable()
    for line, reply in zip(lines, replies, strict=False):
        try:
            request = parse_request(line)
        except Refused:
            continue
        assert json.loads(reply)["id"] == request.id
        try:
            assert parse_reply(reply)["command"] == request.command
        except Refused:
            continue
        arguments = {key: getattr(request, key) for key in request.__struct_fields__}
        del arguments["version"], arguments["command"]
        given = {key: value for key, value in arguments.items() if value is not None}
        assert parse_request(encode_request(request.command, given).rstrip(b"\n")) == request
    _replies(data, _READER, 4_096)
