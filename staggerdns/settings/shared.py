"""``cache.shared``: the second level of the cache, which several servers share."""

from __future__ import annotations

from staggerdns.settings.section import Section
from staggerdns.settings.stores import StoreAddress
from staggerdns.settings.values import Seconds


class SharedSettings(Section, frozen=True, kw_only=True):
    """``cache.shared``: the store that several servers share; :ref:`second-level` is about it."""

    url: StoreAddress | None = None
    """The store, Valkey or Redis, as ``redis://HOST:PORT/DATABASE``, or ``rediss://`` for TLS; null
    is none. It needs ``pip install 'staggerdns[shared]'``. Give the store ``maxmemory`` and
    ``maxmemory-policy allkeys-lru``, and a network to which only your own servers belong.
    """
    password: str | None = None
    """A file with the password of the store in its first line, or ``credential:NAME`` for what
    systemd has under that name (:ref:`credentials`), in the place of one in ``url``.
    """
    tls_ca: str | None = None
    """PEM file with the certification authorities that count for ``rediss``; null is those of the
    system.
    """
    site: str = "default"
    """Where this server is: servers of one site share the round-trip times that they measure, which
    are true in one place only. Pools are shared by all.
    """
    timeout: Seconds = Seconds(0.005)
    """How long a question waits for the store before upstreams are asked. Three times without a
    reply, and it is not asked until it replies within this time again.
    """
