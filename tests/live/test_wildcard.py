"""A program on all addresses of a machine whose addresses come and go: a network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.namespaces import run_apart

if TYPE_CHECKING:
    from pathlib import Path

SIDE = """
import socket, subprocess, sys, time
from pathlib import Path
from tests.kit.clients import question
from tests.kit.program import command, environment

path = sys.argv[1]
QUERY = question("localhost.").to_wire()
PATIENCE = {socket.SOCK_DGRAM: 0.5, socket.SOCK_STREAM: 5}

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def change(word, host):
    more = ["nodad"] if ":" in host and word == "add" else []
    ip("address", word, host + ("/128" if ":" in host else "/32"), "dev", "lo", *more)

def once(host, kind):
    # From another address than the one that is asked: a connected socket takes no other's replies.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as client:
        client.settimeout(PATIENCE[kind])
        client.bind(("fd00::99" if ":" in host else "192.0.2.99", 0))
        client.connect((host, 5300))
        if kind == socket.SOCK_DGRAM:
            client.send(QUERY)
            return client.recv(4096)[:2] == QUERY[:2]
        client.sendall(len(QUERY).to_bytes(2, "big") + QUERY)
        return client.makefile("rb").read(4)[2:] == QUERY[:2]

def ask(host, kind=socket.SOCK_DGRAM, within=15):
    # The kernel takes a moment to route to an address of IPv6 that it has just got, and a program
    # on a busy machine takes long to start: only a reply that never comes is one that is missing.
    until = time.monotonic() + within
    while True:
        try:
            assert once(host, kind), f"{host} gives an answer to something else"
            return
        except OSError as error:
            assert program.poll() is None, "the program has ended"
            assert time.monotonic() < until, f"no answer from {host} by {kind.name}: {error}"
            time.sleep(0.05)

ip("link", "set", "lo", "up")
for host in ("192.0.2.99", "fd00::99", "192.0.2.1", "fd00::1"):
    change("add", host)
Path(path).write_text('''
server: {listen: ['0.0.0.0:5300', '[::]:5300'], allow: ['192.0.2.0/24', 'fd00::/16']}
metrics: {listen: null}
ranking: {enabled: false}
upstream: {servers: ['192.0.2.99:9']}
''')
program = subprocess.Popen(command(Path(path)), env=environment())
try:
    ask("192.0.2.1", within=45)
    hosts = [form.format(number) for number in range(2, 5) for form in ("192.0.2.{}", "fd00::{}")]
    for _ in range(2):
        for host in hosts:
            change("add", host)
            for one in (host, "192.0.2.1", "fd00::1"):
                ask(one)
            ask(host, socket.SOCK_STREAM)
        for host in hosts:
            change("del", host)
finally:
    program.kill()
    program.wait()
"""


def test_addresses_that_come_and_go(tmp_path: Path) -> None:
    """Each reply leaves from the address that was asked, also of one that the machine did not have
    when the program started.
    """
    run_apart(SIDE, str(tmp_path / "conf.yaml"))
