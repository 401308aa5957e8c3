"""The base of every exception that StaggerDNS raises by itself."""


class StaggerDNSError(Exception):
    """Something went wrong that StaggerDNS knows of; what it was is a class of its own."""
