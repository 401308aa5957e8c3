"""Why exchanges fail and queries are sent once more: what metrics, people and clients are told."""

from __future__ import annotations

import ast
import errno
from pathlib import Path

import pytest

import staggerdns
from staggerdns.upstream.reason import Reason, RetryReason, of_errno, of_rcode

PACKAGE = Path(staggerdns.__file__).parent
FAILURES = {
    "local error",
    "no connection",
    "no edns",
    "connection refused",
    "unreachable",
    "no address",
    "closed",
    "certificate",
    "tls",
    "timeout",
    "mismatch",
    "http",
    "dnssec",
    "blocked",
    "ignored addresses",
    "client subnet",
    "malformed",
    "truncated",
    "referral",
    "formerr",
    "servfail",
    "notimp",
    "refused",
    "yxdomain",
    "yxrrset",
    "nxrrset",
    "notauth",
    "notzone",
    "dsotypeni",
    "badvers",
    "badkey",
    "badtime",
    "badmode",
    "badname",
    "badalg",
    "badtrunc",
    "badcookie",
    "other rcode",
}
RETRIES = {
    "truncated",
    "case",
    "cookie",
    "question",
    "subnet",
    "badcookie",
    "edns",
    "lowercase",
    "silence",
    "flood",
    "closed",
    "probe",
}
OTHER_MEANINGS = {"tls"}
"""A transport is called so, too."""


def literals(path: Path) -> set[str]:
    """The strings that stand in a module, but for docstrings and the names of slots."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    slots = {
        constant
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__"
        for constant in ast.walk(node)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in slots
    }


def test_labels() -> None:
    """The labels of metrics, which dashboards know."""
    assert {reason.label for reason in Reason} == FAILURES
    assert {reason.label for reason in RetryReason} == RETRIES


@pytest.mark.parametrize("room", ["upstream", "strategy", "resolver"])
def test_reasons_stand_in_one_place(room: str) -> None:
    """No other module writes them out."""
    for path in sorted((PACKAGE / room).glob("*.py")):
        if path.name != "reason.py":
            found = literals(path) & ((FAILURES | RETRIES) - OTHER_MEANINGS)
            assert not found, path.name


def test_what_counts_and_what_is_the_network() -> None:
    """Errors of our own machine, and faults of the zone, are no marks."""
    unmarked = {reason for reason in Reason if not reason.counts_against_upstream}
    assert unmarked == {
        Reason.LOCAL,
        Reason.NO_CONNECTION,
        Reason.NO_EDNS,
        Reason.DNSSEC,
        Reason.BLOCKED,
        Reason.IGNORED,
        Reason.MALFORMED,
        Reason.TRUNCATED,
    }
    assert {reason for reason in Reason if reason.is_network} == {
        Reason.LOCAL,
        Reason.NO_CONNECTION,
        Reason.CONNECTION_REFUSED,
        Reason.UNREACHABLE,
        Reason.NO_ADDRESS,
        Reason.CLOSED,
        Reason.CERTIFICATE,
        Reason.TLS,
    }


def test_doubts() -> None:
    """What a forged reply may lack, or have wrong."""
    doubts = {reason for reason in RetryReason if reason.is_doubt}
    assert doubts == {
        RetryReason.CASE,
        RetryReason.COOKIE,
        RetryReason.QUESTION,
        RetryReason.SUBNET,
    }


def test_codes_with_and_without_a_name() -> None:
    """People are told the number of a code without a name; metrics have one label for all."""
    assert of_rcode(2) is Reason.SERVFAIL
    assert of_rcode(0) is Reason.REFERRAL
    other = of_rcode(3841)
    assert (other.label, other.text, str(other)) == ("other rcode", "rcode 3841", "rcode 3841")
    assert other is of_rcode(3841)
    assert other not in set(Reason)
    assert of_rcode(12) != other
    assert other.counts_against_upstream
    assert not other.is_network


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ECONNREFUSED, Reason.CONNECTION_REFUSED),
        (errno.EMFILE, Reason.LOCAL),
        (errno.EHOSTUNREACH, Reason.UNREACHABLE),
        (None, Reason.UNREACHABLE),
    ],
)
def test_errors_of_sockets(number: int | None, reason: Reason) -> None:
    """What our own system lacks is told apart from what the network does."""
    assert of_errno(number) is reason
