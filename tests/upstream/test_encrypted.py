"""Debian's unbound and dnsdist as upstreams, over every transport that they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from staggerdns.upstream.reason import Reason
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.question import make_question
from staggerdns.wire.verdict import Verdict
from tests.kit.acts import A, name
from tests.kit.certificates import Certificate, CertificateAuthority
from tests.kit.daemons import dnsdist, encrypted_unbound
from tests.kit.loopback import loopback_upstream, no_connections, pause, reactor
from tests.kit.ports import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from staggerdns.upstream.exchange import Outcome
    from tests.kit.ports import Endpoint

BURST = 1000

pytestmark = pytest.mark.live


class Daemon(NamedTuple):
    """A running server and where it listens."""

    certificate: Certificate
    ca: Path
    address: bytes
    places: dict[str, Endpoint]

    def where(self, form: str) -> str:
        """An upstream in the notation of the configuration."""
        filled = form.format(**self.places)
        return filled.replace(" pin", self.certificate.pin)


@pytest.fixture(scope="module", params=["unbound", "dnsdist"])
def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """Both servers, one after the other."""
    directory = tmp_path_factory.mktemp(request.param)
    authority = CertificateAuthority(directory / "authority")
    certificate = authority.issue("dns.example", "127.0.0.1")
    places = {key: free_endpoint() for key in ("plain", "tls", "https")}
    run, last = (encrypted_unbound, 53) if request.param == "unbound" else (dnsdist, 54)
    with run(directory, places["plain"], certificate, places["tls"], places["https"]):
        yield Daemon(certificate, authority.ca, bytes([203, 0, 113, last]), places)


FORMS = [
    "tcp://{plain}",
    "tls://{tls}#dns.example",
    "tls://{tls}",
    "tls://{tls} pin",
    "https://{https}/dns-query#dns.example",
    "https://{https}/dns-query",
    "https://{https}/dns-query{{?dns}}",
    "https://{https}/dns-query pin",
]


def good(daemon: Daemon, outcome: Outcome) -> bool:
    """Whether this is what the server should say."""
    answer = outcome.answer
    return isinstance(answer, AddressPool) and answer.addresses == (daemon.address,)


@pytest.mark.parametrize("form", FORMS)
@pytest_twisted.ensureDeferred
async def test_answers(daemon: Daemon, form: str) -> None:
    """Every form of an upstream gets its answers, all over one connection."""
    with loopback_upstream(daemon.where(form), ca=daemon.ca) as asked:
        for number in range(5):
            question = make_question(name(f"n{number}.example"), A)
            assert good(daemon, await asked.ask(question))
        assert sum(asked.connects().values()) == 1
        assert asked.rejected() == {}
    await no_connections()


@pytest.mark.parametrize("form", [FORMS[0], FORMS[1], FORMS[4], FORMS[6]])
@pytest_twisted.ensureDeferred
async def test_burst(daemon: Daemon, form: str) -> None:
    """A thousand queries at once over one connection are all answered."""
    with loopback_upstream(daemon.where(form), ca=daemon.ca) as asked:
        questions = [make_question(name(f"b{number}.example"), A) for number in range(BURST)]
        outcomes = await gatherResults([asked.start(question).deferred() for question in questions])
        assert all(good(daemon, outcome) for outcome in outcomes)
        assert sum(asked.connects().values()) == 1
        assert asked.repeated == 0
    await no_connections()


@pytest.mark.parametrize(
    "form", ["tls://{tls}#other.example", "https://{https}/dns-query#o.example"]
)
@pytest_twisted.ensureDeferred
async def test_another_name(daemon: Daemon, form: str) -> None:
    """The right server under a wrong name is refused."""
    with loopback_upstream(daemon.where(form), ca=daemon.ca) as asked:
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.CERTIFICATE)
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_another_path(daemon: Daemon) -> None:
    """A URL that the server does not know is a failure, not a network error."""
    with loopback_upstream(daemon.where("https://{https}/nothing"), ca=daemon.ca) as asked:
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.FAILURE, Reason.HTTP)
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_idle_time_is_the_servers(daemon: Daemon) -> None:
    """Unbound says for how long it keeps an idle connection; dnsdist does not."""
    with loopback_upstream(daemon.where("tls://{tls}"), ca=daemon.ca) as asked:
        await asked.ask()
        await pause(0.01)  # it is set when the reply has been read
        left = [call.getTime() - reactor.seconds() for call in reactor.getDelayedCalls()]
        assert round(max(left)) == (20.0 if daemon.address[-1] == 53 else 30.0)
    await no_connections()
