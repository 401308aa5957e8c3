"""What programs import from the package itself: its names, its exceptions, its version."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tomllib

import pytest

import staggerdns
from staggerdns import StaggerDNSError
from staggerdns.chain import Chain
from staggerdns.config import load_config, parse_config
from staggerdns.settings.document import ConfigError
from tests.kit.checkout import ROOT

FACE = {
    "Chain": Chain,
    "ConfigError": ConfigError,
    "StaggerDNSError": StaggerDNSError,
    "load_config": load_config,
    "parse_config": parse_config,
}


def test_names() -> None:
    """The package has these names, says so, and has no others."""
    assert {*staggerdns.__all__} == {*FACE, "__version__"}
    assert {*FACE} <= {*dir(staggerdns)}
    for name, thing in FACE.items():
        assert getattr(staggerdns, name) is thing
    with pytest.raises(AttributeError, match="'staggerdns' has no attribute 'chian'"):
        _ = staggerdns.chian  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="Chian"):
        exec("from staggerdns import Chian")  # noqa: S102 (mypy would not let it stand)


@pytest.mark.live
def test_names_are_imported_when_they_are_asked_for() -> None:
    """The package alone is quick to import: none of its modules comes with it, and nothing of
    what they are built on.
    """
    program = (
        "import sys, staggerdns\n"
        "loaded = [name for name in sys.modules if name.startswith('staggerdns.')\n"
        "          or name.partition('.')[0] in ('twisted', 'msgspec', 'yaml')]\n"
        "from staggerdns import Chain, ConfigError, StaggerDNSError, load_config, parse_config\n"
        "print(loaded, Chain.__module__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] staggerdns.chain\n", "")


def test_exceptions_have_one_base() -> None:
    """Whatever we raise of our own is a `StaggerDNSError`."""
    ours = set()
    for found in pkgutil.walk_packages(staggerdns.__path__, "staggerdns."):
        for thing in vars(importlib.import_module(found.name)).values():
            if isinstance(thing, type) and issubclass(thing, BaseException):
                ours.add(thing)
    ours = {kind for kind in ours if kind.__module__.startswith("staggerdns.")}
    assert ConfigError in ours
    assert [kind for kind in ours if not issubclass(kind, StaggerDNSError)] == []


def test_a_library_catches_them() -> None:
    """A configuration that cannot be used is one of them, and a `ValueError` as before."""
    for kind in (StaggerDNSError, ValueError):
        with pytest.raises(kind, match=r"upstream\.servers"):
            parse_config("upstream: {servers: []}")


def test_the_version_stands_in_one_place() -> None:
    """`staggerdns.__version__` is what the build takes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "staggerdns.__version__"
    changes = (ROOT / "CHANGELOG.rst").read_text("utf-8")
    assert f"\nStaggerDNS {staggerdns.__version__} (" in changes


def test_no_address_is_invented() -> None:
    """The project has no page that a reader could look for in vain."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "urls" not in project["project"]
    assert "http" not in project["tool"]["towncrier"]["issue_format"]
