"""The settings: addresses, values, sections with every default, and the YAML that holds them."""

DEFAULT_CONFIG = "/etc/staggerdns/staggerdns.yaml"
"""Where the configuration is if nothing else is said."""
