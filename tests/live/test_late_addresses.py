"""A program whose listeners have addresses that the machine gets later: a network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.effort import amount
from tests.kit.namespaces import run_apart

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = amount(2, 100)
"""How often each address comes and goes under load."""
SIDE = """
import contextlib, socket, subprocess, sys, time
from pathlib import Path
from tests.kit.asking import QUERY, Asking
from tests.kit.ports import Endpoint
from tests.kit.program import command, environment

path, rounds = sys.argv[1], int(sys.argv[2])
LATE = ("192.0.2.7", "fd00::7")

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def change(word, host, device="lo"):
    more = ["nodad"] if ":" in host and word == "add" else []
    ip("address", word, host + ("/64" if ":" in host else "/32"), "dev", device, *more)

def ask(place, kind):
    with socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, kind) as client:
        if kind == socket.SOCK_DGRAM:
            # The kernel takes a moment to route to an address of IPv6 that it has just got.
            until = time.monotonic() + 20
            while time.monotonic() < until:
                try:
                    client.settimeout(0.2)
                    client.connect(place)
                    client.send(QUERY)
                    assert client.recv(4096)[:2] == QUERY[:2]
                    return
                except OSError:
                    continue
            raise AssertionError(f"no reply from {place}")
        else:
            client.settimeout(20)
            client.connect(place)
            client.sendall(len(QUERY).to_bytes(2, "big") + QUERY)
            assert client.recv(4096)[2:4] == QUERY[:2]

def ask_both(*place):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        ask(place, kind)

ip("link", "set", "lo", "up")
ip("link", "add", "front", "type", "veth", "peer", "name", "back")
Path("/proc/sys/net/ipv6/conf/front/addr_gen_mode").write_text("1")
ip("link", "set", "back", "up")
ip("link", "set", "front", "up")
change("add", "192.0.2.1")
Path(path).write_text('''
server:
  listen: ['192.0.2.1:5300', '192.0.2.7:5300', '[fd00::7]:5300', '[fe80::7%front]:5300']
  allow: ['192.0.2.0/24', 'fd00::/16', 'fe80::/10']
metrics: {listen: '192.0.2.7:9153'}
ranking: {enabled: false}
local: {hosts: null}
upstream: {servers: ['192.0.2.1:9']}
''')
log = Path(path).with_name("log")
program = subprocess.Popen(command(Path(path)), env=environment(), stdout=log.open("wb"))
try:
    until = time.monotonic() + 60
    while True:
        try:
            ask_both("192.0.2.1", 5300)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < until and program.poll() is None
            time.sleep(0.1)
    text = log.read_text()
    assert text.count("does not have the address of") == 4, text
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Asking(Endpoint("192.0.2.1", 5300), how))
                   for how in ("udp", "tcp", "kept")]
        for _ in range(rounds):
            for host in LATE:
                change("add", host)
                ask_both(host, 5300)
            with socket.create_connection(("192.0.2.7", 9153), 20) as page:
                page.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
                assert b" 200 " in page.recv(4096)
            change("add", "fe80::7", "front")
            ask_both("fe80::7", 5300, 0, socket.if_nametoindex("front"))
            for host in LATE:
                change("del", host)
            change("del", "fe80::7", "front")
    for client in clients:
        while not client.ended:
            time.sleep(0.01)
        assert not client.lost and client.answered > 10, (client.lost, client.answered)
finally:
    program.terminate()
    program.wait(20)
"""


def test_addresses_that_come_later(tmp_path: Path) -> None:
    """They are answered as soon as they are there, over IPv4 and IPv6, link-local ones as well,
    again and again; those that are always there lose nothing meanwhile.
    """
    run_apart(SIDE, str(tmp_path / "conf.yaml"), str(ROUNDS))
