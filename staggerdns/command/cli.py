"""The command line of ``staggerdns`` (docs/command.rst)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from staggerdns import __version__
from staggerdns.command.control import COMMANDS
from staggerdns.command.watch import watch
from staggerdns.settings import DEFAULT_CONFIG

if TYPE_CHECKING:
    from staggerdns.command.check import Remark

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration file.",
)
@click.option(
    "--socket",
    metavar="PATH",
    help="The control socket of the program, by default that of the configuration file.",
)
@click.pass_context
def main(context: click.Context, config: str, socket: str | None) -> None:  # noqa: ARG001 (a parameter of the context)
    """A DNS forwarding server that asks its upstreams in two paced tiers."""
    context.obj = config


@main.command()
@click.pass_obj
def run(config: str) -> None:
    """Start the server in the foreground, as `twistd -n staggerdns` does."""
    from twisted.scripts.twistd import run as run_twistd  # noqa: PLC0415 (takes long)

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "staggerdns", "--config", config]
    run_twistd()


@main.command()
@click.argument("file", required=False)
@_JSON
@click.pass_obj
def check(config: str, file: str | None, as_json: bool) -> None:
    """Find everything that is wrong with a configuration FILE, by default that of --config.

    Warnings are about what is allowed and surely not meant. The exit status is 1 if there are
    errors.
    """
    from staggerdns.command.check import check_file  # noqa: PLC0415 (takes long)

    path = config if file is None else file
    found = check_file(path)
    if as_json:
        _print_json(
            file=path,
            errors=[*map(_values, found.errors)],
            warnings=[*map(_values, found.warnings)],
        )
    else:
        _print_remarks(path, "", found.errors)
        _print_remarks(path, "warning: ", found.warnings)
        if not found.errors:
            click.echo(f"{path}: this can be used")
    if found.errors:
        raise SystemExit(1)


@main.command()
@_JSON
def version(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        _print_json(version=__version__)
    else:
        click.echo(f"staggerdns {__version__}")


for _command in (*COMMANDS, watch):
    main.add_command(_command)


def _print_remarks(file: str, kind: str, remarks: Sequence[Remark]) -> None:
    for number, path, what in remarks:
        place = f"{file}:{number}" if number else file
        click.echo(f"{place}: {kind}{path}: {what}" if path else f"{place}: {kind}{what}")


def _values(remark: Remark) -> dict[str, object]:
    return {"line": remark.line_number, "path": remark.path, "what": remark.what}


def _print_json(**values: object) -> None:
    click.echo(json.dumps(values))
