"""The container in etc/: what its file says, and, where it can be built, that it is what it says.

To build it takes packages of Debian and of Python from elsewhere, which no test fetches unasked: it
is done with ``STAGGERDNS_TEST_BASE``, the name of an image to build on, and buildah or podman.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from staggerdns.config import parse_config
from tests.kit.checkout import ROOT

PLACE = ROOT / "etc" / "container"
BASE = os.environ.get("STAGGERDNS_TEST_BASE", "")
BUILDER = shutil.which("buildah") or shutil.which("podman")
BUILD = 1200
"""Seconds that the build may take: it compiles."""
IMAGE = "localhost/staggerdns-test"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile, each with what follows it."""
    text = (PLACE / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.partition(" ") for line in whole.splitlines() if line.strip())
    return [(name, " ".join(rest.split())) for name, _, rest in pairs]


def final_image() -> dict[str, str]:
    """Return the instructions of the image itself; of those that come more than once the last."""
    every = instructions()
    start = max(index for index, (name, _) in enumerate(every) if name == "FROM")
    return dict(every[start:])


def test_what_is_copied_is_there() -> None:
    """Whatever the build needs is in a checkout, and in a source distribution."""
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    names = {name for words in copied for name in words if not words[0].startswith("--from")}
    assert {"setup.cfg", "pyproject.toml", "docs", "etc", "staggerdns", "twisted"} <= names
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_two_parts() -> None:
    """No compiler and no pip are left in what runs."""
    parts = [rest for name, rest in instructions() if name == "FROM"]
    assert parts == ["${BASE} AS build", "${BASE}"]
    assert "gcc" not in final_image()["RUN"]


def test_the_user_is_not_root() -> None:
    """It is a number, which Kubernetes can check, and owns what the program writes."""
    user = final_image()["USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    owner, group = user.split(":")
    assert f"--owner={owner} --group={group} " in final_image()["RUN"]


def test_how_it_is_run_and_watched() -> None:
    """By the command of the package."""
    final = final_image()
    assert json.loads(final["ENTRYPOINT"]) + json.loads(final["CMD"]) == ["staggerdns", "run"]
    assert json.loads(final["HEALTHCHECK"].partition(" CMD ")[2]) == ["staggerdns", "status"]
    assert final["STOPSIGNAL"] == "SIGTERM"


def test_the_configuration_fits() -> None:
    """It listens on the ports that the image exposes, on all addresses of the container, and has
    its state in the volume.
    """
    config = parse_config((PLACE / "staggerdns.yaml").read_text(encoding="utf-8"))
    (listen,), page = config.server.listen, config.metrics.listen
    assert page is not None
    assert (listen.host, page.host) == ("0.0.0.0", "0.0.0.0")
    final = final_image()
    ports = {f"{listen.port}/udp", f"{listen.port}/tcp", f"{page.port}/tcp"}
    assert set(final["EXPOSE"].split()) == ports
    assert config.state.directory == final["VOLUME"]
    assert final["VOLUME"] in final["RUN"]


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.skipif(
    not BASE, reason="STAGGERDNS_TEST_BASE names no image: building fetches packages"
)
@pytest.mark.skipif(not BUILDER, reason="neither buildah nor podman is installed")
def test_the_image() -> None:
    """It is built, is not root, and says how it is watched."""
    assert BUILDER is not None
    file = str(PLACE / "Containerfile")
    options = ["--format", "docker", "--isolation", "chroot", "--network", "host"]
    named = ["--build-arg", f"BASE={BASE}", "--tag", IMAGE, "--file", file]
    subprocess.run([BUILDER, "build", *options, *named, str(ROOT)], check=True, timeout=BUILD)
    shown = (BUILDER, "inspect", "--type", "image", IMAGE)
    made = subprocess.run(shown, capture_output=True, check=True, timeout=60)
    found = json.loads(made.stdout)
    image = found[0] if isinstance(found, list) else found
    config = image["Docker"]["config"] if "Docker" in image else image["Config"]
    assert config["User"] == "5353:5353"
    assert config["Healthcheck"]["Test"] == ["CMD", "staggerdns", "status"]
    assert config["ExposedPorts"].keys() == {"53/udp", "53/tcp", "9153/tcp"}
