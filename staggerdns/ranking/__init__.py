"""Which address is nearest: probes, the table of round-trip times, the sort queue."""
