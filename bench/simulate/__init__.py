"""Replays reply times through the real strategies on a clock that jumps."""
