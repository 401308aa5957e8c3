"""Clients in, replies out: listeners, access control, and the factory that they share."""
