"""What users install is the wheel, so the wheel is what is looked at here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import staggerdns
from tests.kit.checkout import ROOT

PLUGIN = "twisted/plugins/staggerdns_plugin.py"
TOP_PAGES = ("CHANGELOG.rst", "CONTRIBUTING.rst", "SECURITY.rst")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what is built: leftovers in the checkout do not get in, none are made."""
    source = tmp_path_factory.mktemp("source")
    build = ("pyproject.toml", "setup.cfg", "setup.py", "MANIFEST.in")
    for name in (*build, "README.rst", "LICENSE", *TOP_PAGES):
        shutil.copy(ROOT / name, source)
    for name in ("staggerdns", "twisted", "etc", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    output = tmp_path_factory.mktemp("wheel")
    # Without isolation: no network is needed, setuptools comes with the test extra.
    _run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index"),
        *("--no-deps", "--no-build-isolation", "--wheel-dir", str(output), str(source)),
    )
    (built,) = output.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """Return the names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _run(*command: str, cwd: Path | None = None, compiled: str = "0") -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "STAGGERDNS_COMPILE": compiled},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_is_pure(wheel: Path) -> None:
    """Unless somebody asks for more, what is built runs with any Python."""
    assert wheel.name == f"staggerdns-{staggerdns.__version__}-py3-none-any.whl"


@pytest.mark.slow
def test_what_it_takes_to_build(source: Path) -> None:
    """Pure Python takes nothing, compiled code one version of the compiler and what we import."""
    hook = "from setuptools.build_meta import get_requires_for_build_wheel as get"
    asked = (sys.executable, "-c", f"import json; {hook}; print(json.dumps(get()))")
    assert json.loads(_run(*asked, cwd=source).splitlines()[-1]) == []
    needed = json.loads(_run(*asked, cwd=source, compiled="1").splitlines()[-1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    compiler = project["optional-dependencies"]["compile"]
    assert {one.partition("==")[0] for one in compiler if "==" in one} == {"mypy", "mypy-zope"}
    assert needed == [*compiler, *project["dependencies"]]


@pytest.mark.slow
def test_another_compiler_is_refused(source: Path, tmp_path: Path) -> None:
    """Whoever builds without isolation is told what is missing, and gets nothing that is pure."""
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    settings = (copy / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(re.sub(r'"mypy==[\d.]+"', '"mypy==0.1"', settings))
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    with pytest.raises(AssertionError, match=r"STAGGERDNS_COMPILE=1 needs mypy==0.1; here is \d"):
        _run(sys.executable, "-c", build, cwd=copy, compiled="1")


@pytest.mark.slow
def test_every_module_is_in_the_wheel(names: set[str]) -> None:
    """No room of the package is forgotten in setup.cfg, nor what browsers load."""
    loaded = {str(path.relative_to(ROOT)) for path in (ROOT / "staggerdns/page/static").iterdir()}
    assert "staggerdns/page/static/index.html" in loaded
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "staggerdns").rglob("*.py")}
    assert "staggerdns/tap.py" in modules
    assert {name for name in names if name.startswith("staggerdns/")} == {
        *modules,
        *loaded,
        "staggerdns/py.typed",
    }


@pytest.mark.slow
def test_the_plugin_joins_twisted_without_an_init(names: set[str]) -> None:
    """Under twisted/ there is the plugin and nothing else: an __init__.py would break Twisted."""
    assert {name for name in names if name.startswith("twisted/")} == {PLUGIN}


def test_the_checkout_does_not_hide_twisted() -> None:
    """An __init__.py here would replace the real twisted for everything run from the checkout."""
    files = {path.relative_to(ROOT) for path in (ROOT / "twisted").rglob("*.py")}
    assert {str(path) for path in files} == {PLUGIN}


@pytest.mark.slow
def test_nothing_else_is_installed(names: set[str]) -> None:
    """Tests, benchmarks and documents stay out of site-packages."""
    tops = {name.split("/")[0] for name in names}
    (metadata,) = (top for top in tops if top.endswith(".dist-info"))
    (data,) = (top for top in tops if top.endswith(".data"))
    assert tops == {"staggerdns", "twisted", metadata, data}


def _shared() -> set[str]:
    """Return where everything in etc/ belongs, and what can be read in docs/ and at the top."""
    etc = {path.relative_to(ROOT / "etc") for path in (ROOT / "etc").rglob("*") if path.is_file()}
    docs = {
        path.name for path in (ROOT / "docs").iterdir() if path.suffix in (".rst", ".png", ".svg")
    }
    return {
        *(f"share/staggerdns/{path}" for path in etc),
        *(f"share/doc/staggerdns/{name}" for name in docs | {*TOP_PAGES}),
        "share/man/man1/staggerdns.1",
        "share/man/man5/staggerdns.yaml.5",
    }


@pytest.mark.slow
def test_the_wheel_has_the_files_for_operators(names: set[str]) -> None:
    """Everything in etc/ is installed below share/, the units included, the documentation, and the
    man pages where ``man`` looks for them.
    """
    data = {name.partition(".data/data/")[2] for name in names if ".data/" in name}
    assert data == _shared()


@pytest.mark.slow
def test_the_source_distribution_has_the_files_for_operators(source: Path, tmp_path: Path) -> None:
    """What a wheel is built from carries etc/ and docs/ as they are in a checkout."""
    build = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    _run(sys.executable, "-c", build, str(tmp_path), cwd=source)
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for directory in ("etc", "docs"):
        files = {
            path
            for path in (ROOT / directory).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        assert {str(path.relative_to(ROOT)) for path in files} <= inside
    assert set(TOP_PAGES) <= inside


@pytest.mark.slow
def test_the_wheel_states_its_version_and_license(wheel: Path) -> None:
    """The metadata carries the version of the package, the license and the oldest Python."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    assert f"Version: {staggerdns.__version__}" in lines
    assert "License-Expression: MIT" in lines
    assert "Requires-Python: >=3.11" in lines


@pytest.mark.slow
def test_twistd_of_an_installed_wheel_lists_staggerdns(wheel: Path, tmp_path: Path) -> None:
    """`twistd --help` of a fresh environment with the wheel names it and loads its options."""
    venv = tmp_path / "venv"
    _run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    (site,) = venv.glob("lib/python*/site-packages")
    # The dependencies are those of this environment. The .pth files in there are not followed,
    # so the checkout stays out of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(venv / "bin" / "python")
    _run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python),
        *("install", "--no-index", "--no-deps", "--ignore-installed", str(wheel)),
    )
    start = "from twisted.scripts.twistd import run; run()"
    listing = _run(python, "-c", start, "--help", cwd=tmp_path)
    lines = [line.split(maxsplit=1) for line in listing.splitlines()]
    assert [line[1] for line in lines if line[:1] == ["staggerdns"]] == [
        "A DNS forwarder that asks its upstreams in two paced tiers."
    ]
    assert "--config" in _run(python, "-c", start, "staggerdns", "--help", cwd=tmp_path)
    command = str(venv / "bin" / "staggerdns")
    assert _run(command, "version", cwd=tmp_path) == f"staggerdns {staggerdns.__version__}\n"
    found = _run(python, "-c", "import staggerdns; print(staggerdns.__file__)", cwd=tmp_path)
    assert found.strip() == str(site / "staggerdns" / "__init__.py")
