"""DNS bytes to meaning and back: no reactor, no clock, nothing of the other rooms."""
