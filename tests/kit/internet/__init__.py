"""A small internet of our own, in which the distance of a place is written in its address.

It lives in a network namespace that ends with the tests; nothing in it reaches the outside.
"""
