"""What the lines of the log say (docs/operating.rst, The log): which question, how many answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.kit.acts import AAAA, MX, NOERROR, SILENT, Act, fails, negative, own, says, says_own
from tests.kit.simulated import SimulatedResolver

if TYPE_CHECKING:
    from collections.abc import Sequence

HTTPS = 65


def lines(acts: Sequence[Act], qtype: int = 1, level: str = "debug") -> list[str]:
    """What one question leaves in the log."""
    resolver = SimulatedResolver(*acts, level=level)
    with capturedLogs() as events:
        resolver.ask(resolver.question("www.example.com", qtype))
        resolver.run()
    return [formatEvent(event) for event in events]


@pytest.mark.parametrize(
    ("qtype", "shown"),
    [(1, "A"), (AAAA, "AAAA"), (HTTPS, "HTTPS"), (MX, "MX"), (65280, "TYPE65280"), (255, "ANY")],
)
def test_every_line_names_the_question(qtype: int, shown: str) -> None:
    """All lines of a collection begin with name and type: A and AAAA can be told apart."""
    found = lines([negative(5), fails(5), negative(10), SILENT], qtype)
    assert len(found) >= 5
    assert [text for text in found if not text.startswith(f"www.example.com. {shown}: ")] == []


ONE, TWO = "192.0.2.1:53", "192.0.2.2:53"


@pytest.mark.parametrize(
    ("acts", "said"),
    [
        ([negative(5)] * 4, "4 answers from 4 upstreams, 0 addresses in the pool"),
        (
            [negative(5, NOERROR), fails(5), SILENT],
            "1 answers from 3 upstreams, 0 addresses in the pool",
        ),
        ([fails(5)] * 3, "0 answers from 3 upstreams, 0 addresses in the pool"),
        (
            [says_own(0, 5), says(6, own(0), own(1)), negative(5), fails(5)],
            f"3 answers from 4 upstreams, 2 addresses in the pool, 1 by {ONE}, 2 by {TWO}",
        ),
        (
            [negative(5), negative(5), says_own(2, 5)],
            "3 answers from 3 upstreams, 0 addresses in the pool",
        ),
    ],
)
def test_answers_are_counted(acts: Sequence[Act], said: str) -> None:
    """The last line counts whoever answered well, with data or without, among those asked, and
    the addresses that each of them brought.
    """
    (last,) = [text for text in lines(acts) if "complete" in text]
    assert last == f"www.example.com. A: collection complete, {said}"


def test_no_lines_per_question_by_default() -> None:
    """At level info a question leaves no line."""
    assert lines([says_own(0, 5), fails(5), negative(5)], level="info") == []
