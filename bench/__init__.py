"""Speed and memory of StaggerDNS beside unbound and dnsmasq: ``python -m bench``."""
