"""One upstream: how to reach it, how it does, how long it takes."""
