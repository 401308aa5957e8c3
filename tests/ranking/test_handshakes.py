"""Families compared by handshakes: who is connected to, and when that tells enough
(docs/specification.rst, Families).
"""

from __future__ import annotations

import pytest

from staggerdns.ranking.handshakes import COMPARED, MAX_UNDER_WAY, NONE_CONNECTS
from staggerdns.ranking.rtt import SILENT_LIFETIME
from staggerdns.ranking.sample import REPETITIONS
from tests.kit.families import SimulatedHandshakes
from tests.kit.probing import Script, address, silent, unreachable, written
from tests.kit.ranked import SimulatedRankedCache

LATER = 30.0
"""Seconds after which every sample is over."""


def handshakes(*scripts: Script, **changes: object) -> SimulatedHandshakes:
    """Handshakes that follow scripts, one for each port or one for both."""
    return SimulatedHandshakes(SimulatedRankedCache(), *scripts, **changes)


def later(simulated: SimulatedHandshakes, addresses: list[bytes]) -> tuple[float, float] | None:
    """What is known of the nearest when all that was begun is over."""
    found = None
    for _ in range(20):
        found = simulated.handshakes.nearest(addresses, simulated.clock.seconds())
        if found is not None:
            break
        simulated.clock.pump([0.05] * int(LATER / 20 / 0.05))
    return found


def test_the_nearest_three() -> None:
    """They are connected to and nobody behind them; it is known when each has its samples."""
    simulated = handshakes(samples=3)
    addresses = [address(number) for number in (30, 20, 40, 10)]
    now = simulated.clock.seconds()
    assert simulated.handshakes.nearest(addresses, now) is None
    assert later(simulated, addresses) == (0.020, 0.0)
    assert set(simulated.connected_to) == set(addresses[:COMPARED])
    assert len(simulated.probes[0].samples) == 3 * COMPARED
    assert simulated.probes[1].samples == []
    assert len(simulated.measurer) == 0


def test_while_they_are_under_way() -> None:
    """Whoever asks again meanwhile begins nothing more."""
    simulated = handshakes()
    for _ in range(3):
        assert simulated.handshakes.nearest([address(10)], simulated.clock.seconds()) is None
    assert len(simulated.probes[0].samples) == 1


def test_silent_ones_are_passed_over() -> None:
    """When none of the nearest connects the next ones have their turn."""
    simulated = handshakes(lambda one, _: None if one[-1] < 40 else one[-1] / 1000)
    addresses = [address(number) for number in (10, 20, 30, 60, 50)]
    found = later(simulated, addresses)
    assert found is not None
    assert found[0] == pytest.approx(0.050)
    assert len(simulated.connected_to) == 5


def test_none_connects() -> None:
    """Each handshake is repeated at both ports before it counts."""
    simulated = handshakes(silent)
    assert later(simulated, [address(10), address(20)]) == (NONE_CONNECTS, 0.0)
    for probe in simulated.probes:
        assert len(probe.samples) == 2 * (1 + REPETITIONS)


def test_no_way_at_all() -> None:
    """Without one nothing is ever known."""
    simulated = handshakes()
    simulated.measurer._ways.clear()
    for _ in range(3):
        assert simulated.handshakes.nearest([address(10)], 1000.0) is None


def test_no_way_there() -> None:
    """The system says so at once."""
    simulated = handshakes(unreachable)
    found = [simulated.handshakes.nearest([address(10)], 1000.0) for _ in range(2)]
    assert found == [None, (NONE_CONNECTS, 0.0)]


def test_the_other_port() -> None:
    """One that answers will do."""
    simulated = handshakes(silent, written)
    assert later(simulated, [address(10)]) == (0.010, 0.0)


def test_one_lost_handshake_is_none() -> None:
    """What comes back when it is repeated counts."""
    simulated = handshakes(lambda one, nth: one[-1] / 1000 if nth else None, silent)
    found = later(simulated, [address(10)])
    assert found is not None
    assert found[0] < 1


@pytest.mark.parametrize(("script", "lifetime"), [(written, 300), (silent, SILENT_LIFETIME)])
def test_as_fresh_as_round_trips(script: Script, lifetime: float) -> None:
    """They are measured anew after that, and not before."""
    simulated = handshakes(script)
    assert later(simulated, [address(10)]) is not None
    ended = simulated.clock.seconds()
    table = simulated.table
    rtt = table.look_up(address(10))
    assert rtt is not None
    assert simulated.handshakes.nearest([address(10)], rtt.measured + lifetime - 0.01) is not None
    assert simulated.handshakes.nearest([address(10)], rtt.measured + lifetime) is None
    assert ended == simulated.clock.seconds()


def test_not_too_many_at_once() -> None:
    """Beyond the limit addresses are not measured, and not known, for a while."""
    simulated = handshakes(silent, concurrency=1000)
    now = simulated.clock.seconds()
    for number in range(MAX_UNDER_WAY + 1):
        assert simulated.handshakes.nearest([address(number)], now) is None
    assert len(simulated.measurer) == MAX_UNDER_WAY
    assert later(simulated, [address(MAX_UNDER_WAY)]) is not None
