"""StaggerDNS: a DNS forwarding server that asks its upstreams in two paced tiers."""

__version__ = "0.1.0"
