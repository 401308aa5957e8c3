"""What dnsperf and h2load print, and what becomes of it."""

from __future__ import annotations

import pytest

from bench import h2load, load
from bench.load import LoadError

DNSPERF = """\
DNS Performance Testing Tool
Version 2.10.0

[Status] Testing complete (end of file)

Statistics:

  Queries sent:         600
  Queries completed:    598 (99.67%)
  Queries lost:         2 (0.33%)

  Response codes:       NOERROR 590 (98.66%), SERVFAIL 8 (1.34%)
  Average packet size:  request 33, response 49
  Run time (s):         0.250000
  Queries per second:   2392.000000
"""
H2LOAD = """\
starting benchmark...
spawning thread #0: 10 total client(s). 5000 total requests
TLS Protocol: TLSv1.3
Application protocol: h2
progress: 100% done

finished in {time}, 4000.00 req/s, 512.77KB/s
requests: 5000 total, 5000 started, 5000 done, 4990 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 4990 2xx, 0 3xx, 10 4xx, 0 5xx
traffic: 640.97KB (656352) total, 165.56KB (169532) headers (space savings 72.53%)
"""


def test_dnsperf() -> None:
    """What got an error is no answer, and what was lost is none."""
    done = load.read(DNSPERF, cpu=0.059)
    assert (done.answered, done.failed, done.seconds) == (590, 10, 0.25)
    assert done.per_second == pytest.approx(2360)
    assert done.cpu_each == pytest.approx(100)


def test_work_that_is_put_off_is_not_free() -> None:
    """A run is no shorter than the time that the server computed for it."""
    assert load.read(DNSPERF, cpu=0.5).per_second == pytest.approx(1180)


def test_dnsperf_without_a_good_answer() -> None:
    """Then nobody prints how many were good."""
    text = DNSPERF.replace("NOERROR 590 (98.66%), SERVFAIL 8 (1.34%)", "SERVFAIL 598 (100.00%)")
    assert load.read(text, cpu=0.1).answered == 0


@pytest.mark.parametrize("gone", ["Queries sent:", "Run time (s):"])
def test_dnsperf_that_prints_something_else(gone: str) -> None:
    """Another version, perhaps: a figure that is not there is not zero."""
    with pytest.raises(LoadError, match="dnsperf printed nothing like"):
        load.read(DNSPERF.replace(gone, "?"), cpu=0.1)


@pytest.mark.parametrize(
    ("time", "seconds"), [("1.25s", 1.25), ("250.00ms", 0.25), ("730us", 0.00073)]
)
def test_h2load(time: str, seconds: float) -> None:
    """Its times have different units; responses of HTTP that are no success are no answers."""
    done = h2load.read(H2LOAD.format(time=time), cpu=0.499)
    assert (done.answered, done.failed) == (4990, 10)
    assert done.seconds == pytest.approx(seconds)
    assert done.cpu_each == pytest.approx(100)


@pytest.mark.parametrize("gone", ["finished in", "requests:", "status codes:"])
def test_h2load_that_prints_something_else(gone: str) -> None:
    """As with dnsperf."""
    with pytest.raises(LoadError, match="something else"):
        h2load.read(H2LOAD.format(time="1s").replace(gone, "?"), cpu=0.1)
