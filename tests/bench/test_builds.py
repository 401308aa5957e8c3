"""Which builds of the program are measured, and with what."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import servers
from bench.report import Target
from bench.servers import COMPILED, PURE, Build, builds, targets

ONE, OTHER = Target(1, at_least=False), Target(2, at_least=False)


@pytest.mark.parametrize("there", [True, False])
def test_the_compiled_one_is_measured_when_it_is_there(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkout always is. A build that has not ended well has no mark."""
    made = Build(COMPILED.name, tmp_path)
    if there:
        (tmp_path / ".ready").touch()
    monkeypatch.setattr(servers, "COMPILED", made)
    assert builds() == ([PURE, made] if there else [PURE])


def test_a_compiled_build_comes_before_the_checkout() -> None:
    """The modules of the first directory on the path are taken."""
    assert PURE.environment == {}
    assert COMPILED.environment == {"PYTHONPATH": str(COMPILED.path)}


def test_the_compiled_one_has_the_target_of_the_other() -> None:
    """Unless it has one of its own."""
    assert targets(ONE) == {PURE.name: ONE, COMPILED.name: ONE}
    assert targets(ONE, OTHER) == {PURE.name: ONE, COMPILED.name: OTHER}
