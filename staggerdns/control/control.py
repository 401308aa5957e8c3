"""The control socket of a program: opened, moved, closed. It is never needed to answer queries, so
that nothing ends where it cannot be had: the log has a line.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from staggerdns.control.connection import ControlFactory
from staggerdns.control.operations import Operations, Program
from staggerdns.control.port import ControlPort, NoSocket
from staggerdns.settings.section import default_of
from staggerdns.settings.sections import ControlSettings


class Control:
    """The control socket of ``program``; `close` it in the end. ``operations``: what it does."""

    def __init__(self, program: Program, reactor: Any) -> None:
        self._program = program
        self._reactor = reactor
        self.operations = Operations(program)
        self._settings: ControlSettings | None = None  # those that are in force
        self._port: ControlPort | None = None
        self._prepared: ControlPort | None = None
        self._factories: list[ControlFactory] = []  # of all that are connected
        self._closed = False

    def open(self, settings: ControlSettings) -> None:
        """Be reached as ``settings`` say, from now on or, if that was elsewhere, from the next turn
        on. The program must have the user by then that it is going to run as.
        """
        there = self._port is not None or settings.socket is None
        if self._closed or (self._settings == settings and there):
            return
        self._settings = settings
        port, self._port = self._port, None
        if port is not None:
            port.factory.drain()
        self._stop(port).addCallback(lambda _: self._open(settings))

    def prepare(self, settings: ControlSettings) -> None:
        """Make the socket of other settings where it is at another path; nobody is answered there
        before `open`. `abandon` gives it up. Raises `NoSocket`.
        """
        path = settings.socket
        if path is None or self._settings is None or path == self._settings.socket:
            return
        port = self._make(path, settings.group)
        try:
            port.startListening()
        except NoSocket as error:
            raise NoSocket(f"control.socket: {path}: {error}") from None
        port.stopReading()
        self._prepared = port

    def abandon(self) -> None:
        """Give up what has been prepared."""
        prepared, self._prepared = self._prepared, None
        self._stop(prepared)

    def close(self) -> Deferred[object]:
        """Be reached no more; the Deferred fires when the socket is removed."""
        self._closed = True
        self.abandon()
        self.operations.close()
        self._program.pauses.cancel()
        for factory in self._factories:
            factory.close()
        port, self._port = self._port, None
        return self._stop(port)

    def _open(self, settings: ControlSettings) -> None:
        path, program = settings.socket, self._program
        if path is None or self._closed or settings != self._settings:
            return
        port, self._prepared = self._prepared or self._make(path, settings.group), None
        try:
            if port.connected:
                port.startReading()
            else:
                port.startListening()
        except NoSocket as error:
            # Where the default one has no directory nobody has asked for it.
            default = path == default_of(ControlSettings, "socket")
            tell = program.journal.info if error.missing and default else program.journal.warn
            remedy = ": have that made first (RuntimeDirectory= of systemd)" * error.missing
            tell(
                "no control socket at {path}: {why}{remedy}",
                path=path,
                why=str(error),
                remedy=remedy,
            )
            return
        self._port = port
        self.operations.start()
        self._factories = [one for one in self._factories if one.busy] + [port.factory]
        if port.problem:
            program.journal.warn(
                "control.group: {problem}: members may not use the control socket",
                problem=port.problem,
            )

    def _make(self, path: str, group: str | None) -> ControlPort:
        program = self._program
        factory = ControlFactory(self.operations.perform, program.clock, program.journal)
        return ControlPort(path, group, factory, self._reactor)

    def _stop(self, port: ControlPort | None) -> Deferred[object]:
        return maybeDeferred(lambda: None if port is None else port.stopListening())
