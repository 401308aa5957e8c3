"""What Prometheus sees of the process, as opposed to its traffic."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator

import twisted
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from staggerdns import __version__
from staggerdns.compiled import is_compiled
from staggerdns.instruments import Gauge

_BUILD = {
    "version": __version__,
    "compiled": str(is_compiled()).lower(),
    "python": platform.python_version(),
    "twisted": twisted.__version__,
}


class ProcessMetrics(Collector):
    """What does not come of traffic: which program this is, and how long its certificate lasts.

    ``certificate_expiry``: returns seconds since 1970, `None` without a certificate.
    """

    def __init__(self, certificate_expiry: Callable[[], float | None]) -> None:
        build = Gauge("staggerdns_build_info", "1, for these versions", *_BUILD)
        build.read_from(lambda: 1, *_BUILD.values())
        self._build = build
        self._certificate_expiry = certificate_expiry

    def collect(self) -> Iterator[Metric]:
        """Yield every family with the values of now."""
        yield self._build.collect()
        seconds = self._certificate_expiry()
        if seconds is not None:
            expiry = GaugeMetricFamily(
                "staggerdns_certificate_expiry_timestamp_seconds",
                "When the certificate of the encrypted listeners expires, in seconds since 1970",
            )
            expiry.add_metric((), seconds)
            yield expiry
