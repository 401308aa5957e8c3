"""The program with sockets that were open before it: what comes while it restarts is not lost."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import question, raw_udp
from tests.kit.effort import amount
from tests.kit.ports import Endpoint, free_endpoint, free_port
from tests.kit.program import environment
from tests.kit.supervisor import PATIENCE, Supervisor, listening

if TYPE_CHECKING:
    from pathlib import Path

RESTARTS = amount(3, 20)
"""Restarts under load."""
LOAD = 2
"""Seconds for which dnsperf asks, before it is started again if there are restarts left."""
RATE = 200
"""Queries a second meanwhile: what comes within a start of some seconds has to fit into the buffer
that the kernel grants without privileges.
"""
QUERY = question("localhost.").to_wire()
FRAMED = len(QUERY).to_bytes(2, "big") + QUERY


def write(directory: Path, listen: list[str], **server: Any) -> Path:
    """Write a configuration."""
    path = directory / "staggerdns.yaml"
    settings = {
        "server": {"listen": listen, **server},
        "upstream": {"servers": ["127.0.0.1:9"]},
        "metrics": {"listen": None},
        "ranking": {"enabled": False},
        "local": {"hosts": None},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def test_restarts_lose_nothing(tmp_path: Path) -> None:
    """Dnsperf asks all the time, and each query is answered, by one process or the next."""
    endpoint = free_endpoint()
    sockets = [("dns", listening(endpoint, kind)) for kind in (SOCK_DGRAM, SOCK_STREAM)]
    names = tmp_path / "names"
    names.write_text("localhost A\n")
    command = ["dnsperf", "-s", endpoint.host, "-p", str(endpoint.port), "-d", str(names)]
    command += ["-Q", str(RATE), "-l", str(LOAD), "-t", str(PATIENCE), "-q", "60000"]
    path = write(tmp_path, [str(endpoint)])
    restarts = 0
    with Supervisor(tmp_path, path, sockets) as supervisor:
        supervisor.start()
        while restarts < RESTARTS:
            # It ends by itself, when the last reply has come or is overdue.
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
                while load.poll() is None:
                    time.sleep(0.3)
                    supervisor.stop()
                    supervisor.start()
                    restarts += 1
                printed, _ = load.communicate()
            found = re.findall(r"Queries (\w+): +(\d+)", printed)
            numbers = {what: int(number) for what, number in found}
            assert numbers["sent"] == numbers["completed"] > RATE * LOAD / 2, printed
        supervisor.stop()
    assert "Traceback" not in supervisor.log.read_text()


def test_every_kind_waits_for_a_process(tmp_path: Path) -> None:
    """What comes by UDP, TCP, TLS and HTTPS while no process is there is answered by the first."""
    authority = CertificateAuthority(tmp_path)
    files = authority.issue("dns.example", "127.0.0.1")
    plain, tls, https = free_endpoint(), free_endpoint(), free_endpoint()
    sockets = [
        ("dns", listening(plain, SOCK_DGRAM)),
        ("dns", listening(plain, SOCK_STREAM)),
        ("tls", listening(tls, SOCK_STREAM)),
        ("https", listening(https, SOCK_STREAM)),
    ]
    path = write(
        tmp_path,
        [str(plain), f"tls://{tls}", f"https://{https}"],
        tls_certificate=str(files.chain),
        tls_key=str(files.key),
    )
    trust = ssl.create_default_context(cafile=str(authority.ca))
    with Supervisor(tmp_path, path, sockets) as supervisor:
        clients = [socket.socket(socket.AF_INET, SOCK_DGRAM)]
        clients += [socket.socket(socket.AF_INET, SOCK_STREAM) for _ in range(3)]
        for client, place in zip(clients, (plain, plain, tls, https), strict=True):
            client.settimeout(PATIENCE)
            client.connect(place)
        clients[0].send(QUERY)
        clients[1].sendall(FRAMED)
        supervisor.start()
        assert clients[0].recv(4096)[:2] == QUERY[:2]
        assert clients[1].recv(4096)[2:4] == QUERY[:2]
        with trust.wrap_socket(clients[2], server_hostname="dns.example") as encrypted:
            encrypted.sendall(FRAMED)
            assert encrypted.recv(4096)[2:4] == QUERY[:2]
        with trust.wrap_socket(clients[3], server_hostname="dns.example") as encrypted:
            encrypted.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 404 " in encrypted.recv(4096)
        supervisor.stop()
        for client in clients:
            client.close()


def test_on_all_addresses(tmp_path: Path) -> None:
    """A socket for IPv6 that takes IPv4 as well, as systemd opens it where a unit names only a
    port: the reply leaves from the address that was asked.
    """
    port = free_port("127.0.0.1", "0.0.0.0", "::")
    sockets = [("staggerdns.socket", listening(Endpoint("::", port), SOCK_DGRAM))]
    sockets += [("staggerdns.socket", listening(Endpoint("::", port), SOCK_STREAM))]
    path = write(tmp_path, [f"[::]:{port}"])
    with Supervisor(tmp_path, path, sockets, ["twist"]) as supervisor:
        supervisor.start()
        for host in ("127.0.0.1", "127.3.2.1", "::1"):
            reply = raw_udp(Endpoint(host, port), QUERY)
            assert reply is not None
            assert reply[:2] == QUERY[:2]
            with socket.create_connection((host, port), 5) as client:
                client.sendall(FRAMED)
                assert client.recv(4096)[2:4] == QUERY[:2]
        supervisor.stop()


def test_a_daemon(tmp_path: Path) -> None:
    """Twistd reads them as well when it leaves its terminal."""
    endpoint = free_endpoint()
    sockets = [("dns", listening(endpoint, kind)) for kind in (SOCK_DGRAM, SOCK_STREAM)]
    pid = tmp_path / "pid"
    runner = ("twistd", f"--pidfile={pid}", f"--logfile={tmp_path / 'daemon.log'}")
    with Supervisor(tmp_path, write(tmp_path, [str(endpoint)]), sockets, runner) as supervisor:
        assert supervisor.begin().wait(PATIENCE) == 0, supervisor.log.read_text()
        try:
            assert raw_udp(endpoint, QUERY, PATIENCE) is not None
        finally:
            os.kill(int(pid.read_text()), signal.SIGTERM)
            until = time.monotonic() + PATIENCE
            while pid.exists() and time.monotonic() < until:
                time.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("tls", os.EX_CONFIG, "descriptor 3 was passed in as 'tls', and is for datagrams"),
        ("dns", os.EX_UNAVAILABLE, "server.listen[0]: cannot listen on 127.0.0.1:"),
    ],
    ids=["wrong kind", "taken"],
)
def test_statuses(tmp_path: Path, name: str, status: int, said: str) -> None:
    """What nothing can be made of is a matter of configuration; who has a port may give it back."""
    endpoint = free_endpoint()
    path = write(tmp_path, [str(endpoint)])
    with listening(endpoint, SOCK_STREAM):
        sockets = [(name, listening(endpoint, SOCK_DGRAM))]
        with Supervisor(tmp_path, path, sockets) as supervisor:
            assert supervisor.begin().wait(PATIENCE) == status
    assert supervisor.log.read_text().startswith(f"staggerdns: {said}")


def test_the_environment_of_what_we_start(tmp_path: Path) -> None:
    """Nothing of it is left, for the process itself and for those that it starts."""
    code = (
        "import os, sys\n"
        "from staggerdns.server.passedsockets import take_passed_sockets\n"
        "take_passed_sockets(os.environ, os.getpid())\n"
        "import subprocess\n"
        "subprocess.run([sys.executable, '-c', 'import os; print(sorted(os.environ), "
        'os.listdir("/proc/self/fd"))\'], close_fds=False)\n'
    )
    endpoint = free_endpoint()
    with listening(endpoint, SOCK_DGRAM) as own:
        number = own.fileno()
        shim = (
            f"import os, sys; os.dup2({number}, 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
        )
        done = subprocess.run(
            [sys.executable, "-c", shim, code],
            env={**environment(), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "dns"},
            pass_fds=[number],
            capture_output=True,
            text=True,
            check=True,
        )
    assert "LISTEN" not in done.stdout
    assert "'2'" in done.stdout
