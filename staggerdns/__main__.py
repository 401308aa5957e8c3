"""``python -m staggerdns``: the command ``staggerdns``."""

from staggerdns.command.cli import main

main(prog_name="staggerdns")
