"""The page at the address of the metrics: who is answered, and what each response says of itself.

A request passes four gates, in this order: the pace of the site, the names by which it may have
been found (`staggerdns.server.hostheader`), the method, and, for JSON, whether the browser says
that the site itself asks. Nothing here changes anything, so that is all there is to decide.

The site takes nothing from ``/metrics`` and its like: it has a pace of its own, and who asks for
too much is told so at once, where they wait. So no connection is held but by searches, and by
viewers of live rows, both of which are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

import msgspec
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from staggerdns.control.operations import Program
from staggerdns.control.peers import Perform
from staggerdns.control.protocol import (
    BAD_REQUEST,
    BUSY,
    FAILED,
    NOT_ALLOWED,
    UNKNOWN_COMMAND,
    Refused,
    Result,
)
from staggerdns.deferreds import ignore_cancellation
from staggerdns.page.api import Api, Arguments
from staggerdns.page.files import read_files
from staggerdns.page.history import History
from staggerdns.page.live import MEDIA_TYPE, Viewers
from staggerdns.page.shows import Shows, what_to_show
from staggerdns.server.answered import AnswerHub
from staggerdns.server.hostheader import canonical_host, is_known_host
from staggerdns.server.http1 import Http1Request
from staggerdns.server.status import (
    MAX_VIEWERS,
    NOT_FOUND,
    Page,
    StatusConnection,
    Throttle,
    header,
    refuse,
    send_page,
)
from staggerdns.settings.addresses import Endpoint
from staggerdns.settings.sections import Config, PageSettings

FILE_COST = 1 / 128
"""Seconds of the site's time that a file takes, so many a second in the long run."""
API_COST = 1 / 32
"""The same of what is found out for a request."""
SEARCH_COST = 1 / 8
"""The same of a search through the names."""
COSTS = {b"/api/names": SEARCH_COST}
API = b"/api/"
LIVE = b"/api/live"
_JSON = b"application/json"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The Content-Security-Policy: nothing from elsewhere, nothing inline, no text that becomes markup.
"""
SECURITY = (
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"x-robots-tag", b"noindex"),
)
"""Fields of every response of the site."""
_FRESH = (b"cache-control", b"no-store")
_OWN_REQUESTS = (b"same-origin", b"none")
"""What ``Sec-Fetch-Site`` says of requests by the page itself, and of those that somebody types."""
_NOTHING_HERE: Page = (
    HTTPStatus.NOT_FOUND,
    NOT_FOUND[1],
    b"expected /, /metrics, /healthz or /readyz\n",
)
_STATUSES = {
    BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    UNKNOWN_COMMAND: HTTPStatus.NOT_FOUND,
}


class Site:
    """The page about ``program``, served as the configuration says: `use`; ``perform`` does what
    the control socket can be asked for, ``hub`` tells of answers. `stop` it in the end.
    """

    def __init__(self, program: Program, perform: Perform, hub: AnswerHub) -> None:
        metrics = program.metrics
        self.viewers = Viewers(
            hub,
            program.clock,
            refused=metrics.metrics_refused.cell(),
            dropped=metrics.unread_dropped.cell(),
        )
        self._throttle = Throttle(program.clock)
        self._history = History(program.clock, program.metrics)
        self._api = Api(program, perform, self._history)
        self._files: Mapping[bytes, Page] = {}
        self._running = False
        self.use(program.config())

    def use(self, config: Config) -> None:
        """Go by this configuration from now on. Where it says something else of the page, those who
        watch have to come again.
        """
        if self._running and (config.page, config.metrics.listen) != (self._settings, self._listen):
            self.viewers.close()
        self._settings: PageSettings = config.page
        self._listen: Endpoint | None = config.metrics.listen
        self._hosts = frozenset(map(canonical_host, config.page.hosts))
        if self._is_served and not self._files:
            self._files = read_files()
        if self._is_served and self._running:
            self._history.start()
        else:
            self._history.stop()

    @property
    def _is_served(self) -> bool:
        return self._settings.enabled and self._listen is not None

    def start(self) -> None:
        """Look at the counters from now on, if there is a page to show them."""
        self._running = True
        if self._is_served:
            self._history.start()

    def stop(self) -> None:
        """Look no more, and drop those who watch."""
        self._running = False
        self._history.stop()
        self.viewers.abort()

    def answer(self, request: Http1Request, visitor: StatusConnection) -> None:
        """Answer a request that came by ``visitor``, now or later."""
        path = request.uri.partition(b"?")[0]
        if not self._is_served:
            if not refuse(request):
                send_page(request, NOT_FOUND)
            return
        for name, value in SECURITY:
            request.setHeader(name, value)
        own_address = visitor.transport.getHost().host
        wait = self._throttle.spend(self._cost(path))
        if wait:
            request.setHeader(b"retry-after", b"%d" % ceil(wait))
            self._refuse(request, Refused(BUSY, "too much is asked for at the moment"))
        elif not self._is_known(request, own_address):
            message = "the page is not known by this name: page.hosts has those that may be used"
            self._refuse(request, Refused(NOT_ALLOWED, message))
        elif refuse(request):
            pass
        elif path.startswith(API):
            shows = what_to_show(self._settings, self._listen, own_address)
            self._answer_api(request, path, shows, visitor)
        elif path in self._files:
            request.setHeader(b"cache-control", b"no-cache")
            send_page(request, self._files[path])
        else:
            send_page(request, _NOTHING_HERE)

    def _cost(self, path: bytes) -> float:
        return COSTS.get(path, API_COST) if path.startswith(API) else FILE_COST

    def _is_known(self, request: Http1Request, own_address: str) -> bool:
        fields = request.requestHeaders.getRawHeaders(b"host", [])
        return is_known_host(fields, self._hosts, own_address)

    def _answer_api(
        self, request: Http1Request, path: bytes, shows: Shows, visitor: StatusConnection
    ) -> None:
        site = request.getHeader(b"sec-fetch-site")
        answer = self._api.answers.get(path)
        if site is not None and site not in _OWN_REQUESTS:
            self._refuse(request, Refused(NOT_ALLOWED, "this is for the page itself"))
        elif path == LIVE:
            self._watch(request, shows, visitor)
        elif answer is None:
            known = b", ".join(sorted([*self._api.answers, LIVE])).decode()
            self._refuse(request, Refused(UNKNOWN_COMMAND, f"expected one of {known}"))
        else:
            found: Deferred[Result] = maybeDeferred(answer, _arguments(request), shows)
            request.notifyFinish().addErrback(lambda _: found.cancel())  # the client has gone
            found.addCallbacks(
                self._show, self._fail, callbackArgs=(request,), errbackArgs=(request,)
            )
            found.addErrback(ignore_cancellation)

    def _watch(self, request: Http1Request, shows: Shows, visitor: StatusConnection) -> None:
        request.setHeader(*_FRESH)
        page = HTTPStatus.OK, MEDIA_TYPE, b""
        if request.method == b"HEAD":
            send_page(request, page)
        elif not self.viewers.admit(request, visitor, shows, header(page)):
            self._refuse(request, Refused(BUSY, f"{MAX_VIEWERS} watch already"))

    def _show(self, result: Result, request: Http1Request) -> None:
        request.setHeader(*_FRESH)
        send_page(request, (HTTPStatus.OK, _JSON, msgspec.json.encode(result)))

    def _fail(self, failure: Failure, request: Http1Request) -> Failure | None:
        if isinstance(failure.value, Refused):
            self._refuse(request, failure.value)
            return None
        if not failure.check(CancelledError):
            self._refuse(request, Refused(FAILED, "that went wrong: the log has more"))
        return failure

    def _refuse(self, request: Http1Request, refused: Refused) -> None:
        request.setHeader(*_FRESH)
        status = _STATUSES.get(refused.code, HTTPStatus.INTERNAL_SERVER_ERROR)
        error = {"code": refused.code, "message": refused.message}
        send_page(request, (status, _JSON, msgspec.json.encode({"error": error})))


def _arguments(request: Http1Request) -> Arguments:
    """Return what is behind the question mark of a URL; what is no UTF-8 is replaced."""
    return {
        name.decode(errors="replace"): values[0].decode(errors="replace")
        for name, values in request.args.items()
    }
