"""The files in etc/ are what operators start from: they parse, and agree with each other."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import yaml

from staggerdns.config import parse_config
from staggerdns.settings.document import ConfigError
from staggerdns.settings.networks import Network
from staggerdns.settings.sections import ControlSettings, ServerSettings
from tests.kit.checkout import ROOT
from tests.kit.daemons import find_program

if TYPE_CHECKING:
    from pathlib import Path

    from staggerdns.settings.sections import Config

ETC = ROOT / "etc"


def _yaml(name: str) -> Any:
    return yaml.safe_load((ETC / name).read_text())


def _service() -> dict[str, list[str]]:
    """Return the [Service] settings of the unit."""
    return _unit("staggerdns.service", "[Service]")


def _unit(name: str, wanted: str) -> dict[str, list[str]]:
    """Return the settings of a section of a unit; systemd lets a setting be repeated."""
    settings: dict[str, list[str]] = {}
    section = ""
    for line in (ETC / "systemd" / name).read_text().splitlines():
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            if section == wanted:
                settings.setdefault(key, []).append(value)
    return settings


def _program() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";",))
    parser.read_string((ETC / "supervisord.conf").read_text())
    return parser["program:staggerdns"]


def test_the_configuration_names_at_least_one_upstream_of_each_transport() -> None:
    """The default configuration is YAML and gives the one key that must be, for each transport."""
    servers = _yaml("staggerdns.yaml")["upstream"]["servers"]
    assert len(servers) == len(set(servers)) == 6
    assert {server.partition("://")[0] for server in servers if "://" in server} == {
        "tcp",
        "tls",
        "https",
    }


def test_prometheus_scrapes_where_the_configuration_listens() -> None:
    """The target of the scrape job is `metrics.listen` of the default configuration."""
    (job,) = _yaml("prometheus/scrape.yaml")["scrape_configs"]
    assert job.keys() == {"job_name", "scrape_interval", "static_configs"}
    (static,) = job["static_configs"]
    assert static["targets"] == [_yaml("staggerdns.yaml")["metrics"]["listen"]]


def test_both_supervisors_keep_twistd_in_the_foreground() -> None:
    """Both start the same program, without a fork and without a pid file."""
    (systemd,) = _service()["ExecStart"]
    for command in (systemd, _program()["command"]):
        words = shlex.split(command)
        assert words[:3] == ["/opt/staggerdns/bin/twistd", "-n", "--pidfile="]
        assert words[-3:] == ["staggerdns", "--config", "/etc/staggerdns/staggerdns.yaml"]


def test_both_supervisors_restart_what_died() -> None:
    """A crash is followed by a start, a clean stop is not."""
    assert _service()["Restart"] == ["on-failure"]
    assert (_program()["autorestart"], _program()["exitcodes"]) == ("unexpected", "0")


def test_the_unit_has_one_capability() -> None:
    """The service may bind to port 53, unprivileged otherwise."""
    service = _service()
    assert service["DynamicUser"] == ["yes"]
    assert service["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE CAP_NET_RAW"]
    assert service["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE CAP_NET_RAW"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("LockPersonality", "yes"),
        ("NoNewPrivileges", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateTmp", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectControlGroups", "yes"),
        ("ProtectHome", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectProc", "invisible"),
        ("ProtectSystem", "strict"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestrictNamespaces", "yes"),
        ("RestrictRealtime", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("SystemCallArchitectures", "native"),
    ],
)
def test_the_unit_is_sandboxed(setting: str, value: str) -> None:
    """Each line of the sandbox is there, once."""
    assert _service()[setting] == [value]


def test_the_unit_filters_system_calls() -> None:
    """An allow list comes first, less is left of it after the deny list, and what is taken back is
    how the process that compiles lists leaves its turn to others, and the control socket gets its
    group.
    """
    assert _service()["SystemCallFilter"] == [
        "@system-service",
        "~@privileged @resources",
        "nice setpriority @chown",
    ]


def test_the_sockets_are_the_listeners() -> None:
    """Both kinds for each listener of the default configuration, by the name that they go by."""
    found = _unit("staggerdns.socket", "[Socket]")
    assert found["FileDescriptorName"] == ["dns"]
    assert found["ListenDatagram"] == _yaml("staggerdns.yaml")["server"]["listen"]
    assert found["ListenStream"] == found["ListenDatagram"]
    assert found["BindIPv6Only"] == ["ipv6-only"]


def test_the_unit_is_reloaded_by_the_command() -> None:
    """Whatever the file says by then; the control socket has its directory, and a wrong
    configuration alone keeps systemd from trying again.
    """
    service = _service()
    (again,), socket = service["ExecReload"], ControlSettings().socket
    assert shlex.split(again) == ["/opt/staggerdns/bin/staggerdns", "--socket", socket, "reload"]
    assert service["RuntimeDirectory"] == ["staggerdns"]
    assert service["StateDirectory"] == ["staggerdns"]
    assert socket == "/run/staggerdns/control.sock"
    assert service["RestartPreventExitStatus"] == [str(os.EX_CONFIG)]


INSTANCES = "/etc/staggerdns/instances.yaml"


def _instance(number: int) -> dict[str, list[str]]:
    """Return the [Service] settings of the unit of one of several instances."""
    names = {"%": "%", "i": str(number)}
    return {
        key: [re.sub("%(.)", lambda found: names[found[1]], value) for value in values]
        for key, values in _unit("staggerdns@.service", "[Service]").items()
    }


def _configured(number: int, command: str, directory: Path) -> Config:
    """Return the configuration that the unit of an instance makes with this command."""
    template = directory / "instances.yaml"
    text = (ETC / "dnsdist" / "instances.yaml").read_text()
    template.write_text(text.replace("REPLACE THIS", 32 * "a"))
    made = directory / "staggerdns.yaml"
    (started,) = _instance(number)["ExecStart"]
    path = f"/run/staggerdns-{number}/staggerdns.yaml"
    assert shlex.split(started)[-3:] == ["staggerdns", "--config", path]
    assert path in command
    assert INSTANCES in command
    command = command.replace(path, str(made)).replace(INSTANCES, str(template))
    subprocess.run(shlex.split(command), check=True)
    return parse_config(made.read_text())


def test_each_instance_has_its_own_of_everything(tmp_path: Path) -> None:
    """One configuration serves them all, when they start and when they are reloaded; dnsdist has
    their addresses, and they trust the one that it asks from.
    """
    text = (ETC / "dnsdist" / "dnsdist.conf").read_text()
    nodes = re.findall(r'{address = "(.+?)", id = "(.+?)"}', text)
    (source,) = re.findall(r'^local source = "(.+)"', text, re.MULTILINE)
    assert len(nodes) == len({UUID(identifier) for _, identifier in nodes}) == 4
    pages = set()
    for number, (address, _) in enumerate(nodes, 1):
        service = _instance(number)
        (before,), (again, told) = service["ExecStartPre"], service["ExecReload"]
        assert again == before
        config = _configured(number, before, tmp_path)
        assert [str(listener) for listener in config.server.listen] == [address]
        assert config.server.proxy_protocol == (Network(source),)
        assert config.control.socket == f"/run/{service['RuntimeDirectory'][0]}/control.sock"
        assert shlex.split(told)[1:] == ["--socket", config.control.socket, "reload"]
        assert service["StateDirectory"] == service["RuntimeDirectory"]
        pages.add(str(config.metrics.listen))
    assert len(pages) == len(nodes)


def test_the_secret_of_instances_must_be_chosen() -> None:
    """As it is shipped the configuration is none: a secret that everybody has is no secret."""
    text = (ETC / "dnsdist" / "instances.yaml").read_text().replace("%i", "1")
    with pytest.raises(ConfigError, match=r"server\.cookies\.secret"):
        parse_config(text)


def test_an_instance_is_as_confined_as_the_only_one() -> None:
    """Its unit differs in what is its own, and in the ports below 1024, which are dnsdist's."""
    alone, one = _service(), _unit("staggerdns@.service", "[Service]")
    assert {key for key in {*alone, *one} if alone.get(key) != one.get(key)} == {
        "ExecStartPre",
        "ExecStart",
        "ExecReload",
        "StateDirectory",
        "RuntimeDirectory",
        "AmbientCapabilities",
        "CapabilityBoundingSet",
    }
    assert one["CapabilityBoundingSet"] == one["AmbientCapabilities"] == ["CAP_NET_RAW"]


@pytest.mark.live
def test_dnsdist_understands_its_configuration() -> None:
    """Debian's has nothing against it as it is."""
    path = str(ETC / "dnsdist" / "dnsdist.conf")
    command = [find_program("dnsdist"), "--check-config", "--config", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Configuration '{path}' OK!" in done.stdout + done.stderr


def test_dnsdist_lets_in_who_may_ask() -> None:
    """Its list is that of the instances, which have the default."""
    text = (ETC / "dnsdist" / "dnsdist.conf").read_text()
    (networks,) = re.findall(r"^setACL\(\{(.*?)\}\)", text, re.MULTILINE | re.DOTALL)
    found = {Network(network) for network in re.findall(r'"(.+?)"', networks)}
    assert found == {*ServerSettings().allow}


UNITS = sorted(path.name for path in (ETC / "systemd").iterdir())


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """systemd-analyze has nothing to say about them."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for name in UNITS:
        text = (ETC / "systemd" / name).read_text()
        # The program is there on the machine of an operator.
        changed = re.sub(r"/opt/staggerdns/bin/\w+", "/bin/true", text)
        (tmp_path / name).write_text(changed)
    done = subprocess.run(
        [analyze, "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "staggerdns" in line]
    assert said == []
    assert done.returncode == 0
