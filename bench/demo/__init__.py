"""The program at work without any network: ``make demo``.

It stands here and not in the package because it is for whoever looks at a checkout: five upstreams
that make up their answers have no business where the program is installed. It needs nothing but
what ``make run`` needs.
"""
