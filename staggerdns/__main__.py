"""``python -m staggerdns``: the command ``staggerdns``."""

from staggerdns.command.cli import main

if __name__ == "__main__":
    main(prog_name="staggerdns")
