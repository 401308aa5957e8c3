"""Coverage-guided fuzzing of what reads octets from outside: `make fuzz`.

A target is a module here with a function `check`: it takes octets, and what must hold for any
octets whatever is asserted in it. `python -m fuzz` has libFuzzer (through atheris) look for
octets for which it does not; corpus/ holds a few that take different ways through the code.
"""
