"""Link-local addresses with their interface, in a network namespace that has some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.namespaces import run_apart

if TYPE_CHECKING:
    from pathlib import Path

SIDE = """
import socket, subprocess, sys, threading, time
from pathlib import Path
from tests.kit.clients import question
from tests.kit.program import command, environment

path, scheme, zone = sys.argv[1:]
QUERY = question("www.example.").to_wire()
ADDRESS = bytes((192, 0, 2, 20))

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def add_link(name, *hosts):
    ip("link", "add", name, "type", "veth", "peer", "name", name + "x")
    for host in hosts:
        ip("addr", "add", host + "/64", "dev", name, "nodad")
    ip("link", "set", name + "x", "up")
    ip("link", "set", name, "up")
    return socket.if_nametoindex(name)

def answer(query):
    end = query.index(0, 12) + 5
    record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4" + ADDRESS
    return query[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + query[12:end] + record

def serve_udp(opened):
    while True:
        query, peer = opened.recvfrom(4096)
        opened.sendto(answer(query), peer)

def serve_tcp(opened):
    while True:
        connection, _ = opened.accept()
        while query := connection.recv(4096):
            reply = answer(query[2:])
            connection.sendall(len(reply).to_bytes(2, "big") + reply)

def serve(number):
    for kind, run in ((socket.SOCK_DGRAM, serve_udp), (socket.SOCK_STREAM, serve_tcp)):
        opened = socket.socket(socket.AF_INET6, kind)
        opened.bind(("fe80::1", 53, 0, number))
        if kind == socket.SOCK_STREAM:
            opened.listen()
        threading.Thread(target=run, args=(opened,), daemon=True).start()

def ask():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        until = time.monotonic() + 20
        while time.monotonic() < until and program.poll() is None:
            try:
                client.sendto(QUERY, ("fe80::2", 53, 0, front))
                return client.recv(4096)
            except OSError:
                time.sleep(0.1)
    raise AssertionError("no reply")

ip("link", "set", "lo", "up")
front = add_link("front", "fe80::2")
if zone == "early":
    serve(add_link(zone, "fe80::1"))
Path(path).write_text(f'''
server: {{listen: ['[fe80::2%front]:53']}}
metrics: {{listen: '[fe80::2%front]:9153'}}
ranking: {{enabled: false}}
local: {{hosts: null}}
upstream: {{servers: ['{scheme}fe80::1%{zone}']}}
''')
program = subprocess.Popen(command(Path(path)), env=environment())
try:
    if zone != "early":
        assert ask()[3] & 15 == 2
        serve(add_link(zone, "fe80::1"))
    until = time.monotonic() + 20
    while ask()[-4:] != ADDRESS:  # a failure is kept for a second or two
        assert time.monotonic() < until, "no answer"
        time.sleep(0.1)
    with socket.socket(socket.AF_INET6) as client:
        client.settimeout(5)
        client.connect(("fe80::2", 53, 0, front))
        client.sendall(len(QUERY).to_bytes(2, "big") + QUERY)
        assert client.recv(4096)[-4:] == ADDRESS
    with socket.socket(socket.AF_INET6) as client:
        client.settimeout(5)
        client.connect(("fe80::2", 9153, 0, front))
        client.sendall(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
        assert client.recv(4096).split(b"\\r\\n")[0].endswith(b"200 OK")
finally:
    program.terminate()
    program.wait(10)
"""


@pytest.mark.parametrize(("scheme", "zone"), [("", "early"), ("tcp://", "early"), ("", "late")])
def test_upstream_and_listeners(tmp_path: Path, scheme: str, zone: str) -> None:
    """An upstream is asked, and clients are served, over UDP and TCP, and the metrics too; an
    interface that comes later is used when it is there.
    """
    run_apart(SIDE, str(tmp_path / "conf.yaml"), scheme, zone)
