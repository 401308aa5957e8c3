"""The control socket: what operators ask of a program that runs, and have it do."""
