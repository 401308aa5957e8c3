"""The settings: addresses, values, sections with every default, and the YAML that holds them."""
