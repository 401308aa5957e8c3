"""Runs the service under mixed load for long, and says whether anything grows."""
