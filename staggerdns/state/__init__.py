"""What is kept over restarts (docs/specification.rst, Saved state)."""
