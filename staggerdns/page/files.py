"""What a browser loads: files of the package, which are served as they are."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files

from staggerdns.server.status import Page

FOLDER = "static"
"""Where the files are, beside this module, and what is in front of their names in a path."""
START = "index.html"
"""What is at ``/``."""
TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}


def read_files() -> Mapping[bytes, Page]:
    """Return the responses by path, with all that a page needs besides JSON."""
    pages = {}
    for file in files(__package__).joinpath(FOLDER).iterdir():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = b"/" if file.name == START else f"/{FOLDER}/{file.name}".encode()
            pages[path] = HTTPStatus.OK, kind, file.read_bytes()
    return pages
