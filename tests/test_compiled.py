"""Which modules are compiled is one list, and the program knows whether they were."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

import staggerdns
from staggerdns.compiled import COMPILED_MODULES, is_compiled
from tests.kit.checkout import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_list() -> None:
    """Modules of ours, each once, in order."""
    assert list(COMPILED_MODULES) == sorted(set(COMPILED_MODULES))
    for module in COMPILED_MODULES:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_nobody_else_extends_what_is_compiled() -> None:
    """Python refuses objects of a class in pure Python whose base is compiled."""
    for module in pkgutil.walk_packages(staggerdns.__path__, "staggerdns."):
        importlib.import_module(module.name)
    outside = [
        one
        for name, module in sys.modules.items()
        if name.startswith("staggerdns.") and name not in COMPILED_MODULES
        for one in vars(module).values()
        if isinstance(one, type) and one.__module__ == name
    ]
    assert len(outside) > 50
    assert [
        f"{one.__module__}.{one.__qualname__}"
        for one in outside
        if any(base.__module__ in COMPILED_MODULES for base in one.__mro__)
    ] == []


def test_a_checkout_is_pure() -> None:
    """Nothing beside the sources."""
    assert not is_compiled()


def test_an_extension_module_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is preferred to the source beside it, as Python does."""
    first = COMPILED_MODULES[0]
    name = first.rpartition(".")[2]
    monkeypatch.delitem(sys.modules, first, raising=False)
    monkeypatch.setattr(sys.modules[first.rpartition(".")[0]], "__path__", [str(tmp_path)])
    (tmp_path / f"{name}.py").touch()
    assert not is_compiled()
    (tmp_path / f"{name}{EXTENSION_SUFFIXES[0]}").touch()
    assert is_compiled()
