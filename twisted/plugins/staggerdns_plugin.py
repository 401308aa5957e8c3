"""Tells twistd that ``staggerdns`` exists; everything else is imported when it is asked for."""

from twisted.application.service import ServiceMaker

staggerdns = ServiceMaker(
    "StaggerDNS",
    "staggerdns.tap",
    "A DNS forwarder that asks its upstreams in two paced tiers.",
    "staggerdns",
)
