"""The wheel that `make compiled` builds, as one that is published: no compiler is needed for it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

import pytest
import yaml

from staggerdns.compiled import COMPILED_MODULES, is_compiled
from tests.kit.checkout import ROOT
from tests.kit.clients import eventually
from tests.kit.ports import free_endpoint

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_compiled(), reason="there is none: make test-compiled"),
]


@pytest.fixture
def wheel() -> Path:
    """The one that was built last."""
    (built,) = (ROOT / "build" / "wheel").glob("*.whl")
    return built


def test_what_is_in_it(wheel: Path) -> None:
    """The sources, an extension module beside each that is listed, and their library."""
    assert wheel.stem.endswith(sysconfig.get_platform().replace("-", "_").replace(".", "_"))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "staggerdns").rglob("*.py")}
    assert sources <= names
    compiled = {f"{module.replace('.', '/')}{EXTENSION_SUFFIXES[0]}" for module in COMPILED_MODULES}
    library = f"staggerdns__mypyc{EXTENSION_SUFFIXES[0]}"
    assert {name for name in names if name.endswith(".so")} == {*compiled, library}
    assert not {name for name in names if name.endswith((".c", ".h", ".o"))}


def test_it_runs(wheel: Path, tmp_path: Path) -> None:
    """Installed where no program is to be found, it is compiled, and twistd starts it."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    (site,) = venv.glob("lib/python*/site-packages")
    # The dependencies are those of this environment. The .pth files in there are not followed,
    # so the checkout stays out of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(venv / "bin" / "python")
    environment = {"PATH": str(tmp_path)}
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python),
            *("install", "-q", "--no-index", "--no-deps", "--ignore-installed", str(wheel)),
        ],
        env=environment,
        check=True,
        timeout=100,
    )
    listen = free_endpoint()
    configuration = tmp_path / "staggerdns.yaml"
    configuration.write_text(
        yaml.safe_dump(
            {
                "server": {"listen": [str(listen)]},
                "upstream": {"servers": ["127.0.0.1:9"]},
                "metrics": {"listen": None},
                "ranking": {"enabled": False},
            }
        )
    )
    start = "from twisted.scripts.twistd import run; run()"
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            [python, "-c", start, "-n", "--pidfile=", "staggerdns", "--config", str(configuration)],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            said = eventually(
                (tmp_path / "log").read_text, lambda text: "listening on" in text, timeout=60
            )
        finally:
            process.terminate()
            process.wait(20)
    assert f"listening on {listen}, asking 127.0.0.1:9: StaggerDNS " in said
    assert ", compiled\n" in said
