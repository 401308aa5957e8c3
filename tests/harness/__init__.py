"""Parts for the end-to-end tests: scripted upstreams, real daemons, the program and its clients.

Nothing in here imports ``staggerdns``: the tests see the program as its users do, from outside.
"""
