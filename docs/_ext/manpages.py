"""Writes the man pages that wheels carry into ``docs/man``: ``make man``.

They are built from the same sources as the site, and kept, so that nobody who installs the program
needs Sphinx for it. ``make lint`` and ``tests/test_docs.py`` fail when they say something else than
the sources.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sphinx.cmd.build import main

DOCS = Path(__file__).parents[1]
KEPT = DOCS / "man"

_SPACE = re.compile(r"^(\.S[HS] .*\n)\.sp\n", re.MULTILINE)
_COMMENT = re.compile(r"""^[.']\\".*\n""", re.MULTILINE)
_DATE = re.compile(r'^(\.TH "[^"]*" "[^"]*") "[^"]*"', re.MULTILINE)
_MACRO = re.compile(r"^[.'] *\w+", re.MULTILINE)
_ESCAPE = re.compile(r"\\(?:f(?:\[\w*\]|\w)|[&%]|(?=[-.]))")


def tidy(page: str) -> str:
    """Return a page without the space that the writer puts below headings, where there is some."""
    return _SPACE.sub(r"\1", page)


def words(page: str) -> list[str]:
    """Return what a page says: its words, without its date, and without whatever another version of
    the writer does in another way.
    """
    body = page[page.index("\n.TH ") + 1 :]
    for pattern, kept in ((_COMMENT, ""), (_DATE, r"\1"), (_MACRO, ""), (_ESCAPE, "")):
        body = pattern.sub(kept, body)
    return body.replace('"', "").split()


def changed(built: Path, kept: Path) -> dict[str, str]:
    """Return those of the pages in ``built`` that say something else than the ones in ``kept``."""
    pages = {}
    for path in sorted(built.glob("*.[0-9]")):
        page, old = tidy(path.read_text(encoding="utf-8")), kept / path.name
        if not old.exists() or words(old.read_text(encoding="utf-8")) != words(page):
            pages[path.name] = page
    return pages


if __name__ == "__main__":
    with TemporaryDirectory() as directory:
        arguments = ["-q", "-W", "-n", "-b", "man", "-d", f"{directory}/doctrees", str(DOCS)]
        if status := main([*arguments, f"{directory}/man"]):
            sys.exit(status)
        pages = changed(Path(directory, "man"), KEPT)
    if sys.argv[1:] == ["--check"]:
        if pages:
            sys.exit(f"{', '.join(pages)}: the sources say something else now: make man")
    else:
        for name, page in pages.items():
            (KEPT / name).write_text(page, encoding="utf-8")
            print(f"docs/man/{name}")  # noqa: T201 (what to commit)
