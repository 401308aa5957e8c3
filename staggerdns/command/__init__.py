"""The command ``staggerdns``: what operators do with a file or with a program that runs."""
