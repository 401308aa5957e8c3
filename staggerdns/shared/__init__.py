"""The second level of the cache: a store that several servers share (docs/site.rst)."""
