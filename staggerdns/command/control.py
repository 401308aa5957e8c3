"""The commands that go to a program that runs, over its control socket (docs/control.rst)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from staggerdns.command.client import LONG_PATIENCE, PATIENCE, Unanswered, ask
from staggerdns.command.place import NoPlace, find_socket
from staggerdns.command.tables import (
    duration,
    show_blocking,
    show_cache,
    show_status,
    show_upstreams,
)
from staggerdns.command.waterfall import show_why
from staggerdns.settings.values import read_value

Show = Callable[[dict[str, Any]], str]
COMPLETION_PATIENCE = 1.0
"""Seconds that the completion of a word may wait for the program."""
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command()
@JSON
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show how the program is: version, phase, rates, cache, pauses."""
    _do(context, as_json, show_status, "status")


def _complete_upstream(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    found = _peek(context, "upstreams").get("upstreams", [])
    return [CompletionItem(one["name"]) for one in found if one["name"].startswith(incomplete)]


@click.command()
@click.argument("names", nargs=-1, metavar="[UPSTREAM]...", shell_complete=_complete_upstream)
@JSON
@click.pass_context
def upstreams(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Show how upstreams are, all or those that are named as in the configuration."""

    def choose(result: dict[str, Any]) -> dict[str, Any]:
        known = [one["name"] for one in result["upstreams"]]
        for name in names:
            if name not in known:
                give_up(Unanswered(f"no upstream {name}: expected one of {', '.join(known)}", 1))
        chosen = [one for one in result["upstreams"] if not names or one["name"] in names]
        return {**result, "upstreams": chosen}

    _do(context, as_json, show_upstreams, "upstreams", choose=choose)


@click.command()
@click.argument("name")
@click.argument("qtype", metavar="[TYPE]", required=False)
@JSON
@click.pass_context
def cache(context: click.Context, name: str, qtype: str | None, as_json: bool) -> None:
    """Show what is kept of NAME, of all types or of one; nothing is asked for that."""
    _do(context, as_json, show_cache, "cache", name=name, type=qtype)


@click.command()
@click.argument("name")
@click.argument("qtype", metavar="[TYPE]", default="A")
@click.option("--client", metavar="ADDRESS", help="As it is for the client at that address.")
@click.option("--ask", is_flag=True, help="Have it asked before, if nothing is kept of it.")
@JSON
@click.pass_context
def why(
    context: click.Context, name: str, qtype: str, client: str | None, ask: bool, as_json: bool
) -> None:
    """Show why NAME is answered as it is: who was asked when, what each brought, how far the
    addresses are, and the answer as it stands.
    """
    _do(
        context,
        as_json,
        show_why,
        "why",
        patience=LONG_PATIENCE if ask else PATIENCE,
        name=name,
        type=qtype,
        client=client,
        ask=ask,
    )


@click.command()
@click.argument("name", required=False)
@click.option("--below", metavar="DOMAIN", help="A domain and all names below it.")
@click.option("--all", "everything", is_flag=True, help="All that is kept.")
@JSON
@click.pass_context
def flush(
    context: click.Context, name: str | None, below: str | None, everything: bool, as_json: bool
) -> None:
    """Forget what is kept of NAME, of all types and for all clients."""
    if [name is not None, below is not None, everything].count(True) != 1:
        raise click.UsageError("expected one of NAME, --below DOMAIN and --all")
    _do(
        context,
        as_json,
        lambda result: f"{result['flushed']:,} answers are forgotten",
        "flush",
        patience=LONG_PATIENCE,
        name=name,
        below=below,
        all=everything,
    )


@click.command()
@JSON
@click.pass_context
def reload(context: click.Context, as_json: bool) -> None:
    """Read the configuration again, and wait until it counts. If anything is wrong with it,
    nothing changes, and the exit status is 1.
    """
    _do(
        context,
        as_json,
        lambda result: f"the configuration counts, after {duration(result['seconds'])}",
        "reload",
        patience=LONG_PATIENCE,
    )


@click.command()
@click.option("--off", is_flag=True, help="Be ready again.")
@JSON
@click.pass_context
def drain(context: click.Context, off: bool, as_json: bool) -> None:
    """Have balancers send queries elsewhere: the program reports that it is not ready, and goes on
    to answer.
    """
    _do(
        context,
        as_json,
        lambda result: result["phase"] + ("" if result["ready"] else " (not ready)"),
        "drain",
        draining=not off,
    )


@click.group()
def block() -> None:
    """Have lists block nothing for a while, and then again."""


def _complete_group(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    found = _peek(context, "status").get("blocking", [])
    return [CompletionItem(one["group"]) for one in found if one["group"].startswith(incomplete)]


_GROUP = click.option(
    "--group",
    metavar="GROUP",
    shell_complete=_complete_group,
    help="For the clients of this group alone.",
)


def _seconds(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    from staggerdns.settings.values import Seconds  # noqa: PLC0415 (a class at run time)

    if text is None:
        return None
    try:
        return float(read_value(Seconds, text))  # type: ignore[arg-type]  # it is a float
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@block.command("off")
@_GROUP
@click.option(
    "--for",
    "seconds",
    metavar="DURATION",
    callback=_seconds,
    help="How long, as in 5m; until `block on` if it is not given.",
)
@JSON
@click.pass_context
def block_off(
    context: click.Context, group: str | None, seconds: float | None, as_json: bool
) -> None:
    """Block nothing from now on."""
    _do(context, as_json, show_blocking, "block", blocking=False, group=group, seconds=seconds)


@block.command("on")
@_GROUP
@JSON
@click.pass_context
def block_on(context: click.Context, group: str | None, as_json: bool) -> None:
    """Block again."""
    _do(context, as_json, show_blocking, "block", blocking=True, group=group)


COMMANDS = (status, upstreams, cache, why, flush, reload, drain, block)
"""All of them."""


def _do(
    context: click.Context,
    as_json: bool,
    show: Show,
    command: str,
    *,
    patience: float = PATIENCE,
    choose: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    **arguments: object,
) -> None:
    """Have a command done and print its result; end with a status that says why not."""
    try:
        given = {key: value for key, value in arguments.items() if value is not None}
        result = choose(ask(socket_of(context), command, given, patience))
    except Unanswered as error:
        give_up(error)
    click.echo(json.dumps(result) if as_json else show(result))


def socket_of(context: click.Context) -> str:
    """Return where the program is reached. Raises `Unanswered`."""
    root = context.find_root()
    options = root.params
    if options.get("socket"):
        return str(options["socket"])
    source = root.get_parameter_source("config")
    given = source is not None and source is not click.core.ParameterSource.DEFAULT
    try:
        return find_socket(str(options["config"]), must_be_there=given)
    except NoPlace as error:
        raise Unanswered(str(error), 1) from None


def _peek(context: click.Context, command: str) -> dict[str, Any]:
    """Return a result to complete words by, nothing where nobody answers."""
    try:
        return ask(socket_of(context), command, {}, COMPLETION_PATIENCE)
    except Unanswered:
        return {}


def give_up(error: Unanswered) -> NoReturn:
    """End the command with a status and a line that say why it is not done."""
    click.echo(f"staggerdns: {error}", err=True)
    for problem in error.problems:
        click.echo(problem, err=True)
    raise SystemExit(error.status)
