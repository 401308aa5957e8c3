"""Extended DNS Errors (RFC 8914): what went wrong, for those who send an OPT record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.edns
import pytest

from tests.kit import behaviours as b
from tests.kit.clients import Reply, dig, eventually
from tests.kit.octets import message, opt, sent
from tests.kit.testbed import Testbed, own_answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.kit.scripted import Behaviour

STALE_ANSWER, PROHIBITED, STALE_NXDOMAIN, NOT_SUPPORTED = 3, 18, 19, 21
OTHER, NO_REACHABLE_AUTHORITY, NETWORK_ERROR = 0, 22, 23


def errors(reply: Reply) -> list[tuple[int, str]]:
    """Return code and text of every Extended DNS Error of a reply."""
    return [
        (int(option.code), option.text or "")
        for option in reply.message.options
        if isinstance(option, dns.edns.EDEOption)
    ]


SILENT, CLOSED, REFUSED = b.silent, None, b.rcode("REFUSED")
SOMETHING = b.records((None, 300, "A", "203.0.113.1"), (None, 300, "MX", "10 mx.example."))
"""An answer to each question that they are asked."""

FAILURES: dict[str, tuple[Sequence[Behaviour | None], int, str]] = {
    "timeout": ([SILENT] * 2, NO_REACHABLE_AUTHORITY, "timeout"),
    "refused": ([REFUSED] * 2, NO_REACHABLE_AUTHORITY, "refused"),
    "network": ([CLOSED] * 2, NETWORK_ERROR, "connection refused"),
    "timeout and network": (
        [SILENT, CLOSED],
        NO_REACHABLE_AUTHORITY,
        "connection refused, timeout",
    ),
    "refused and network": (
        [CLOSED, REFUSED],
        NO_REACHABLE_AUTHORITY,
        "connection refused, refused",
    ),
    "servfail": ([b.rcode("SERVFAIL")] * 2, OTHER, "servfail"),
    "servfail and timeout": ([b.rcode("SERVFAIL"), SILENT], OTHER, "servfail, timeout"),
    "garbage that answers no question": ([b.garbage()], NO_REACHABLE_AUTHORITY, "timeout"),
    "cut": ([b.cut_short(SOMETHING, 35)], OTHER, "malformed"),
}


@pytest.mark.parametrize(("behaviours", "code", "text"), FAILURES.values(), ids=FAILURES)
def test_servfail(
    tmp_path: Path, behaviours: Sequence[Behaviour | None], code: int, text: str
) -> None:
    """SERVFAIL says why: whether upstreams were not heard, the network failed, or they failed."""
    settings = {"upstream": {"parallel": {"total_collect_timeout": "400ms"}}}
    with Testbed(tmp_path / "testbed", behaviours, settings) as testbed:
        for tcp in (False, True):
            for rdtype in ("A", "MX"):
                for _ in range(2):  # from the collection, and from what is kept of it
                    reply = testbed.ask("www.example.", rdtype, payload=1232, tcp=tcp)
                    assert reply.rcode == "SERVFAIL"
                    assert errors(reply) == [(code, text)]
        plain = testbed.ask("www.example.")
        assert (plain.rcode, plain.message.edns) == ("SERVFAIL", -1)
        assert f"EDE: {code} " in dig(testbed.program.endpoint, "www.example.")


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_refusal(tmp_path: Path, tcp: bool) -> None:
    """A client that may not ask is told so (18), whatever it asks, and no secret else."""
    with Testbed(
        tmp_path / "testbed", [own_answer(0)], {"server": {"allow": ["127.0.0.2/32"]}}
    ) as testbed:
        for rdtype in ("A", "AXFR", "ANY"):
            reply = testbed.ask("www.example.", rdtype, payload=1232, tcp=tcp)
            assert reply.rcode == "REFUSED"
            assert errors(reply) == [(PROHIBITED, "")]
        assert testbed.ask("www.example.", tcp=tcp).rcode == "REFUSED"
        good = testbed.ask("www.example.", payload=1232, tcp=tcp, source="127.0.0.2")
        assert (good.rcode, errors(good)) == ("NOERROR", [])


UNSUPPORTED = {
    "AXFR": (message(opt(), tail=b"\0\xfc\0\1", counts=(1, 0, 0, 1)), "REFUSED"),
    "class CH": (message(opt(), tail=b"\0\1\0\3", counts=(1, 0, 0, 1)), "REFUSED"),
    "NOTIFY": (message(opt(), flags=4 << 11, counts=(1, 0, 0, 1)), "NOTIMP"),
    "STATUS": (message(opt(), flags=2 << 11, counts=(1, 0, 0, 1)), "NOTIMP"),
}


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(("wire", "rcode"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_we_do_not_do(testbed: Testbed, wire: bytes, rcode: str, tcp: bool) -> None:
    """What no client may ask is not supported (21); a malformed query needs no more words."""
    reply = sent(testbed, wire, tcp=tcp)
    assert reply is not None
    assert reply.rcode == rcode
    assert errors(reply) == [(NOT_SUPPORTED, "")]
    malformed = sent(testbed, message(opt(), opt(), counts=(1, 0, 0, 2)), tcp=tcp)
    assert malformed is not None
    assert errors(malformed) == []


def test_stale_answers(tmp_path: Path) -> None:
    """When the upstreams have gone an expired answer is given, and called stale (3 and 19)."""
    with Testbed(tmp_path / "testbed", [b.silent] * 2) as testbed:
        testbed.get_known()
        gone = testbed.route("gone", b.in_turn(b.answers("203.0.113.1", ttl=1), b.silent))
        never = testbed.route("never", b.in_turn(b.nxdomain(b.soa(1, 1)), b.silent))
        for name, rcode, code in ((gone, "NOERROR", 3), (never, "NXDOMAIN", 19)):
            fresh = testbed.ask(name, payload=1232)
            assert (fresh.rcode, errors(fresh)) == (rcode, [])
            testbed.complete(name)
            stale = eventually(
                lambda: testbed.ask(name, payload=1232),  # noqa: B023
                lambda reply: errors(reply) != [],
            )
            assert (stale.rcode, errors(stale)) == (rcode, [(code, "")])
            assert stale.message.answer == [] or stale.ttl == 5
            over_tcp = testbed.ask(name, payload=1232, tcp=True)
            assert errors(over_tcp) == [(code, "")]
            assert testbed.ask(name).message.edns == -1


def test_local_answers_are_no_errors(testbed: Testbed) -> None:
    """Special names are answered without any excuse."""
    for name in ("localhost.", "www.invalid.", "nas.home.arpa."):
        assert errors(testbed.ask(name, payload=1232)) == []
