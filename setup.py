"""Compiles staggerdns/compiled.py's modules when ``STAGGERDNS_COMPILE=1``, and nothing otherwise.

All else that there is to say of the distribution stands in pyproject.toml and setup.cfg.
"""

from __future__ import annotations

import os
import runpy
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

COMPILE = os.environ.get("STAGGERDNS_COMPILE", "0") not in ("", "0")
NAME = "staggerdns"
JOBS = 2
PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
COMPILER = PROJECT["optional-dependencies"]["compile"]


class BuildCompiled(build_ext):
    """Has mypyc write C, and compiles that; called by setuptools."""

    def run(self) -> None:
        """Build everything into one library, with a small extension module for each module."""
        # What an earlier list has left would get into the wheel.
        for stale in Path(self.build_lib).rglob("*.so"):
            stale.unlink()
        # Only here: setup.py also runs to say what it needs, when mypyc is not there yet.
        self.distribution.ext_modules = _extensions(self.build_temp)
        self.swig_opts = None  # as it was before the options were finalized for the first time
        self.finalize_options()
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Compile the C sources of one extension, `JOBS` at a time, and link it."""
        compiler: Any = self.compiler

        def compiled(source: str) -> list[str]:
            made: list[str] = compiler.object_filenames([source], output_dir=self.build_temp)
            if newer_group([source, *ext.depends], made[0]):  # mypyc leaves what is the same alone
                compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    include_dirs=ext.include_dirs,
                    extra_postargs=ext.extra_compile_args,
                    depends=ext.depends,
                )
            return made

        with ThreadPoolExecutor(JOBS) as pool:
            for made in pool.map(compiled, ext.sources):
                ext.extra_objects += made
        ext.sources = []
        super().build_extension(ext)


def _extensions(directory: str) -> list[Extension]:
    """Return what is to be built; mypyc writes its C into ``directory``."""
    for requirement in COMPILER:
        name, exactly, version = requirement.partition("==")
        try:
            found = exactly and metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found != version:  # another one makes other code
            raise SystemExit(f"STAGGERDNS_COMPILE=1 needs {requirement}; here is {found}.")
    from mypyc.build import mypycify  # noqa: PLC0415 (not there unless we compile)

    modules = runpy.run_path("staggerdns/compiled.py")["COMPILED_MODULES"]
    paths = [f"{module.replace('.', '/')}.py" for module in modules]
    # What is imported has been checked already, by `make lint`, where stubs are complete.
    options = ["--follow-imports=silent", "--no-warn-unused-ignores", "--no-error-summary"]
    found_extensions: list[Extension] = mypycify(
        [*options, *paths],
        opt_level="1",
        debug_level="0",
        multi_file=True,
        target_dir=directory,
        group_name=NAME,
    )
    return found_extensions


if COMPILE:
    setup(
        # Whoever builds in an environment of its own installs these there. What we import has to
        # be there as well: mypyc makes better code of types that it knows.
        setup_requires=[*COMPILER, *PROJECT["dependencies"]],
        # There is something to compile, so that the wheel is one for this platform.
        ext_modules=[Extension(f"{NAME}__mypyc", [])],
        cmdclass={"build_ext": BuildCompiled},
    )
else:
    setup()
