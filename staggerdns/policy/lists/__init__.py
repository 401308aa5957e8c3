"""Lists of names that are blocked, or kept from being blocked."""
