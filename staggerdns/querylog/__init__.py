"""What was answered, written into files and to collectors (docs/operating.rst, The query log)."""
