"""Settings of Sphinx for the documentation: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from staggerdns import __version__

project = "StaggerDNS"
author = "The StaggerDNS contributors"
version = release = __version__
extensions = ["docs._ext.performance", "docs._ext.reference"]
exclude_patterns = ["_ext"]
html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_show_copyright = False
toc_object_entries = False
man_pages = [
    ("command", "staggerdns", "DNS forwarding server", author, 1),
    ("configuration", "staggerdns.yaml", "configuration of staggerdns", author, 5),
]
