"""The container in etc/: what its file says, and, where it can be built, that it is what it says.

To build it takes packages of Debian and of Python from elsewhere, and minutes: that is done where
there is buildah or podman, and either ``STAGGERDNS_TEST_BASE``, the name of an image to build on,
or debootstrap, for root. ``STAGGERDNS_TEST_BUILD`` has more options for the build, as for a mirror.
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
from tests.kit.namespaces import run_apart

PLACE = ROOT / "etc" / "container"
BASE = os.environ.get("STAGGERDNS_TEST_BASE", "")
BUILDER = shutil.which("buildah") or shutil.which("podman")
BUILD = 1200
"""Seconds that the build may take: it compiles."""
IMAGE = "localhost/staggerdns-test"
OPTIONS = os.environ.get("STAGGERDNS_TEST_BUILD", "").split()


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


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image to build on: one that is named, or else Debian's packages of a minimal system."""
    if not BUILDER:
        pytest.skip("neither buildah nor podman is installed")
    if BASE:
        return BASE
    debootstrap = shutil.which("debootstrap")
    if BUILDER.endswith("podman") or debootstrap is None or os.geteuid() != 0:
        pytest.skip("STAGGERDNS_TEST_BASE names no image, and none can be made here")
    root = tmp_path_factory.mktemp("base") / "root"
    done = subprocess.run(
        [debootstrap, "--variant=minbase", "bookworm", str(root)],
        check=False,
        capture_output=True,
        text=True,
        timeout=BUILD,
    )
    if done.returncode:
        pytest.skip(f"Debian's packages cannot be had: {done.stdout[-500:]}")
    container = build("from", "scratch").strip()
    build("add", "--quiet", container, str(root), "/")
    build("commit", "--quiet", "--rm", container, f"{IMAGE}-base")
    return f"{IMAGE}-base"


def build(*words: str) -> str:
    """Have the builder do something; return what it prints."""
    assert BUILDER is not None
    done = subprocess.run(
        [BUILDER, *words], check=False, capture_output=True, text=True, timeout=BUILD
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def image(base: str) -> str:
    """The image, as its file says; pure Python, since to compile takes minutes."""
    file = str(PLACE / "Containerfile")
    options = ["--format", "docker", "--isolation", "chroot", "--network", "host", *OPTIONS]
    arguments = ["--build-arg", f"BASE={base}", "--build-arg", "COMPILE=0"]
    words = ["build", *options, *arguments, "--tag", IMAGE, "--file", file, str(ROOT)]
    if not BASE and not reaches_packages(base):
        pytest.skip("Python's packages cannot be had: STAGGERDNS_TEST_BUILD may name a mirror")
    build(*words)
    return IMAGE


def reaches_packages(base: str) -> bool:
    """Whether pip finds anything from within a container."""
    text = (
        f"FROM {base}\n"
        "RUN apt-get update && apt-get install --yes --no-install-recommends "
        "ca-certificates python3-pip && pip download --no-deps --dest /tmp attrs\n"
    )
    assert BUILDER is not None
    options = ["--format", "docker", "--isolation", "chroot", "--network", "host", *OPTIONS]
    done = subprocess.run(
        [BUILDER, "build", *options, "--file", "-"],
        check=False,
        capture_output=True,
        input=text,
        text=True,
        timeout=BUILD,
    )
    return done.returncode == 0


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.long
def test_the_image(image: str) -> None:
    """It is not root, and says how it is watched."""
    made = json.loads(build("inspect", "--type", "image", image))
    found = made[0] if isinstance(made, list) else made
    config = found["Docker"]["config"] if "Docker" in found else found["Config"]
    assert config["User"] == "5353:5353"
    assert config["Healthcheck"]["Test"] == ["CMD", "staggerdns", "status"]
    assert config["ExposedPorts"].keys() == {"53/udp", "53/tcp", "9153/tcp"}


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.long
def test_a_container(image: str) -> None:
    """It answers at port 53 without being root, pings, and its health check says so."""
    if BUILDER is None or not BUILDER.endswith("buildah"):
        pytest.skip("buildah alone runs without an engine")
    run_apart(SIDE, BUILDER, image)


SIDE = """
import json, os, signal, subprocess, sys, time
builder, image = sys.argv[1:]

def run(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=60)

for name, value in (("ip_unprivileged_port_start", "53"), ("ping_group_range", "0 65535")):
    with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
        file.write(value)
assert run("ip", "link", "set", "lo", "up").returncode == 0
container = run(builder, "from", image).stdout.strip()
inside = [builder, "run", "--isolation", "chroot", "--network", "host", container, "--"]
with subprocess.Popen([*inside, "staggerdns", "run"], stdout=subprocess.PIPE, text=True) as server:
    try:
        end = time.monotonic() + 60
        answer = ""
        while answer != "127.0.0.1" and time.monotonic() < end:
            time.sleep(0.2)
            dig = run("dig", "+short", "+time=1", "+tries=1", "@127.0.0.1", "localhost")
            answer = dig.stdout.strip()
        assert answer == "127.0.0.1", dig
        assert run(*inside, "id", "-u").stdout.strip() == "5353"
        status = json.loads(run(*inside, "staggerdns", "status", "--json").stdout)
        assert status["ready"], status
        with open(f"/proc/{status['pid']}/net/icmp") as file:
            assert len(file.readlines()) > 1, "no socket to ping with"
        os.kill(status["pid"], signal.SIGTERM)
        log = server.communicate(timeout=30)[0]
        assert "Traceback" not in log, log
        assert "at the end" in log, log
    finally:
        server.kill()
        run(builder, "rm", container)
"""
