"""Records of the operator's own, against the running program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import dig

if TYPE_CHECKING:
    from .conftest import BuildTestbed

SETTINGS = {
    "local": {
        "records": {
            "nas.home.example": "192.168.1.10",
            "*.dev.example": ["192.168.1.20", "fd00::20"],
            "old.example": {"cname": "new.example"},
            "alias.example": {"cname": "a.dev.example"},
        }
    }
}
ANSWER = ("+noall", "+answer", "+nottlid")


def test_records(build: BuildTestbed) -> None:
    """Names, wildcards and CNAMEs, over UDP and TCP; upstreams hear of the target alone."""
    testbed = build([b.answers("203.0.113.1")], SETTINGS)
    endpoint = testbed.program.endpoint
    for transport in ("+notcp", "+tcp"):

        def answer(*arguments: str, transport: str = transport) -> list[list[str]]:
            text = dig(endpoint, *ANSWER, transport, *arguments)
            return [line.split() for line in text.splitlines() if line]

        assert answer("nas.home.example") == [["nas.home.example.", "IN", "A", "192.168.1.10"]]
        assert answer("x.y.dev.example", "AAAA") == [["x.y.dev.example.", "IN", "AAAA", "fd00::20"]]
        assert answer("-x", "192.168.1.10") == [
            ["10.1.168.192.in-addr.arpa.", "IN", "PTR", "nas.home.example."]
        ]
        for _ in range(3):
            assert answer("old.example") == [
                ["old.example.", "IN", "CNAME", "new.example."],
                ["new.example.", "IN", "A", "203.0.113.1"],
            ]
        assert answer("alias.example") == [
            ["alias.example.", "IN", "CNAME", "a.dev.example."],
            ["a.dev.example.", "IN", "A", "192.168.1.20"],
        ]
        text = dig(endpoint, transport, "nas.home.example", "MX")
        assert "status: NOERROR" in text
        assert "ANSWER: 0, AUTHORITY: 1" in text
    for name in ("nas.home.example.", "old.example.", "alias.example.", "x.y.dev.example."):
        assert testbed.counts(name) == [0]
    assert testbed.counts("new.example.") == [1]
