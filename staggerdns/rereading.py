"""Files beside the configuration, read again when an operator wants it."""

from __future__ import annotations

from staggerdns.assembly import Assembly
from staggerdns.chain import Chain
from staggerdns.journal import Journal
from staggerdns.policy.lists.lists import Lists


def reread(assembly: Assembly, chain: Chain, lists: Lists | None, journal: Journal) -> None:
    """Read the files again, and log how it went: hosts, the certificate, and the authorities that
    certify upstreams. Files of domains and of lists take longer, and have lines of their own.
    """
    files = {"the hosts file": assembly.hosts, "the certificate": assembly.certificate}
    said = [
        name if file.reread() else f"{name} (cannot be used)"
        for name, file in files.items()
        if file is not None
    ]
    if lists is not None:
        lists.reread()
        said.append("the files of lists")
    if assembly.config.upstream.tls_ca is not None:
        problem = chain.authorities.reread()
        if problem:
            problem = f" (the old ones stay: upstream.tls_ca: {problem})"
        said.append(f"the upstreams' authorities{problem}")
    later = ""
    if chain.routes.reads_files:
        chain.routes.reread()
        later = "; the domains of routes follow when their files are complete"
    journal.announce("read again: {files}{later}", files=", ".join(said) or "nothing", later=later)
