"""Commands of the control socket, done by a program on a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from staggerdns.control.peers import Peer
from staggerdns.control.protocol import Refused, encode_request, parse_request

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from tests.kit.routed import RoutedProgram

ROOT = Peer(1, 0, may_change=True)
"""Who may do everything."""


def begin(program: RoutedProgram, command: str, **arguments: object) -> Deferred[Any]:
    """Have a command begin."""
    request = parse_request(encode_request(command, arguments).rstrip())
    return program.service.control.operations.perform(request, ROOT)


def do(program: RoutedProgram, command: str, **arguments: object) -> dict[str, Any]:
    """Have a command done."""
    results: list[Any] = []
    begin(program, command, **arguments).addBoth(results.append)
    for _ in range(5_000):
        if results:
            break
        program.clock.advance(0)
    (result,) = results
    if not isinstance(result, dict):
        result.raiseException()
    found: dict[str, Any] = result
    return found


def refused(program: RoutedProgram, command: str, **arguments: object) -> Refused:
    """Return why a command is not done."""
    with pytest.raises(Refused) as caught:
        do(program, command, **arguments)
    return caught.value


def until(running: RoutedProgram, milliseconds: float) -> None:
    """Let time pass until so long after the start."""
    running.wait(milliseconds - running.now)
