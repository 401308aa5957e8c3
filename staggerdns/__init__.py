"""StaggerDNS: a DNS forwarding server that asks its upstreams in two paced tiers.

For programs that want answers and no server: `Chain` is the resolver chain of a configuration,
which `load_config` reads from a file and `parse_config` from text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Chain", "ConfigError", "StaggerDNSError", "__version__", "load_config", "parse_config"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from staggerdns.chain import Chain
    from staggerdns.config import load_config, parse_config
    from staggerdns.errors import StaggerDNSError
    from staggerdns.settings.document import ConfigError
else:
    # What takes long to import is imported when it is asked for (PEP 562): twistd loads every
    # plugin, to list them.
    from importlib import import_module

    _HOMES = {
        "Chain": "staggerdns.chain",
        "ConfigError": "staggerdns.settings.document",
        "StaggerDNSError": "staggerdns.errors",
        "load_config": "staggerdns.config",
        "parse_config": "staggerdns.config",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
