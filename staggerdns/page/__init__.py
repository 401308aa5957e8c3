"""The page for people at the address of the metrics (docs/page.rst)."""
