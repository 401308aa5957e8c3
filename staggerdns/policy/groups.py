"""Which rules count for a client: those of its group (docs/specification.rst, Groups).

The longest network that has the client's address decides, else the listener that it came in by;
whoever is in no group so is in the default one. Networks are looked up by their lengths, the
longest first, so that their number does not matter. `Groups` remembers nothing: who asks does,
since only clients that may ask at all are worth it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.policy.domainfiles import DomainFiles
from staggerdns.policy.domains import Steps
from staggerdns.policy.routes import Routes
from staggerdns.policy.rules import Rules
from staggerdns.policy.scope import Scopes
from staggerdns.settings.addresses import Listener
from staggerdns.settings.networks import client_address
from staggerdns.settings.policy import DEFAULT_GROUP, GroupSettings
from staggerdns.settings.sections import Config

_Networks = list[tuple[int, dict[int, Rules]]]
"""Of one version of IP, by length, the longest first: by how much an address is shifted to be
compared, and the rules by what is left of it then.
"""


class Groups:
    """The groups of ``settings``, with the ``rules`` of each, those of the default one included."""

    def __init__(self, settings: Mapping[str, GroupSettings], rules: Mapping[str, Rules]) -> None:
        self.default = rules[DEFAULT_GROUP]
        """Those of whoever is in no other group."""
        self._by_listener: dict[Listener, Rules] = {}
        by_shift: dict[int, dict[int, dict[int, Rules]]] = {4: {}, 6: {}}
        for name, group in settings.items():
            self._by_listener.update(dict.fromkeys(group.listeners, rules[name]))
            for network in group.clients:
                addresses = network.addresses
                shift = addresses.max_prefixlen - addresses.prefixlen
                at = by_shift[addresses.version].setdefault(shift, {})
                at[int(addresses.network_address) >> shift] = rules[name]
        self._networks: dict[int, _Networks] = {
            version: sorted(found.items()) for version, found in by_shift.items()
        }

    def find(self, host: str, listener: Listener | None) -> Rules:
        """Return the rules for the client at ``host`` (text, with or without a zone) that came in
        by ``listener``, `None` if by none of the configuration.
        """
        address = client_address(host)
        number = int(address)
        for shift, networks in self._networks[address.version]:
            rules = networks.get(number >> shift)
            if rules is not None:
                return rules
        return self.default if listener is None else self._by_listener.get(listener, self.default)


class GroupRoutes:
    """The routes of all groups: their own ones before the common ones, those of the default group
    where a group has none.

    The scopes that they lead to come from ``scopes``, their domains from files as well, which
    are read again from `watch` until `close`. `load` them before use. Raises `ConfigError`.
    """

    def __init__(
        self, config: Config, scopes: Scopes, clock: IReactorTime, journal: Journal
    ) -> None:
        self._files = files = DomainFiles(clock, journal)
        common = Routes(config.routes, scopes, files)
        self._all = [common]

        def own(name: str, otherwise: Routes) -> Routes:
            group = config.groups.get(name)
            if group is None or group.routes is None:
                return otherwise
            if not group.routes:
                return common
            where = f"groups.{name}.routes"
            found = Routes(group.routes, scopes, files, where, common)
            self._all.append(found)
            return found

        self.default = own(DEFAULT_GROUP, common)
        """Those of the default group."""
        self._by_group = {DEFAULT_GROUP: self.default}
        for name in config.groups:
            if name != DEFAULT_GROUP:
                self._by_group[name] = own(name, self.default)

    def load(self) -> Steps[None]:
        """Read all files, and make all tables. Raises `ConfigError`."""
        for routes in self._all:
            yield from routes.load()

    def of(self, group: str) -> Routes:
        """Return the routes of a group of the configuration, or of the default one."""
        return self._by_group[group]

    def numbers(self, name: bytes, qtype: int) -> set[int | None]:
        """Return where a name (wire form, lower case) leads to, for the clients of all groups."""
        return {routes.number(name, qtype) for routes in self._by_group.values()}

    def claim(self, name: bytes, qtype: int) -> bool:
        """Return whether a name (wire form, lower case) is one of a route, of whatever group."""
        return self.numbers(name, qtype) != {None}

    @property
    def reads_files(self) -> bool:
        """Whether some of the domains are in files."""
        return len(self._files) > 0

    def on_change(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` whenever names may lead elsewhere than before."""
        self._files.on_change(callback)

    def watch(self) -> None:
        """Look at the files of domains from now on."""
        self._files.watch()

    def reread(self) -> None:
        """Have all files read within about two seconds, changed or not; the log tells of the end of
        that.
        """
        self._files.reread()

    def close(self) -> None:
        """Look at the files of domains no more."""
        self._files.close()
