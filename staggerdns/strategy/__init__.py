"""How upstreams are asked: in which order, how many at once, and when."""
