"""What has been flushed, for entries that are read later."""

from __future__ import annotations

from staggerdns.resolver.pastflushes import MAX_PAST_FLUSHES, PastFlushes


def test_names_and_times() -> None:
    """A flush counts for what was stored until then, of the names that it is about."""
    flushes = PastFlushes()
    assert not flushes.covers(b"a", 0.0)
    flushes.add(b"a".__eq__, 10.0)
    flushes.add(b"b".__eq__, 20.0)
    assert flushes.covers(b"a", 10.0)
    assert not flushes.covers(b"a", 10.1)
    assert flushes.covers(b"b", 20.0)
    assert not flushes.covers(b"c", 5.0)


def test_how_many_are_remembered() -> None:
    """One more, and all names count as flushed until the last of them."""
    flushes = PastFlushes()
    for number in range(MAX_PAST_FLUSHES):
        flushes.add(b"a".__eq__, 10.0 + number)
    assert not flushes.covers(b"c", 5.0)
    flushes.add(b"a".__eq__, 1.0)
    last = 10.0 + MAX_PAST_FLUSHES - 1
    assert flushes.covers(b"c", last)
    assert not flushes.covers(b"a", last + 0.1)
    flushes.add(b"b".__eq__, last + 10)
    assert flushes.covers(b"b", last + 10)
    assert not flushes.covers(b"c", last + 10)
