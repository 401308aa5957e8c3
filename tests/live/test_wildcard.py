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

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def change(word, host):
    more = ["nodad"] if ":" in host and word == "add" else []
    ip("address", word, host + ("/128" if ":" in host else "/32"), "dev", "lo", *more)

def ask(host, kind=socket.SOCK_DGRAM):
    # From another address than the one that is asked: a connected socket takes no other's replies.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as client:
        client.settimeout(0.5 if kind == socket.SOCK_DGRAM else 10)
        client.bind(("fd00::99" if ":" in host else "192.0.2.99", 0))
        client.connect((host, 5300))
        if kind == socket.SOCK_DGRAM:
            # The kernel takes a moment to route to an address of IPv6 that it has just got.
            for _ in range(20):
                client.send(QUERY)
                try:
                    return client.recv(4096)[:2] == QUERY[:2]
                except TimeoutError:
                    continue
            return False
        client.sendall(len(QUERY).to_bytes(2, "big") + QUERY)
        return client.recv(4096)[2:4] == QUERY[:2]

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
    until = time.monotonic() + 20
    while True:
        try:
            assert ask("192.0.2.1")
            break
        except ConnectionRefusedError:
            assert time.monotonic() < until and program.poll() is None
            time.sleep(0.1)
    hosts = [form.format(number) for number in range(2, 5) for form in ("192.0.2.{}", "fd00::{}")]
    for _ in range(2):
        for host in hosts:
            change("add", host)
            assert ask(host) and ask(host, socket.SOCK_STREAM)
            assert ask("192.0.2.1") and ask("fd00::1")
        for host in hosts:
            change("del", host)
finally:
    program.terminate()
    program.wait(10)
"""


def test_addresses_that_come_and_go(tmp_path: Path) -> None:
    """Each reply leaves from the address that was asked, also of one that the machine did not have
    when the program started.
    """
    run_apart(SIDE, str(tmp_path / "conf.yaml"))
