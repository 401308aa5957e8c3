"""Answers of a program that runs, as they happen (docs/command.rst)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from staggerdns.command.client import Unanswered, follow
from staggerdns.command.control import give_up, socket_of
from staggerdns.command.tables import milliseconds
from staggerdns.server.sources import SOURCES
from staggerdns.settings.document import one_line

HIDDEN = "*"
"""Stands for a client of whom nothing is told."""
_CLIENT_WIDTH = 18  # that of an IPv4 network
_SOURCE_WIDTH = max(map(len, SOURCES))


@click.command()
@click.argument("name", required=False)
@click.option("--below", metavar="DOMAIN", help="A domain and all names below it.")
@click.option(
    "--client",
    "clients",
    metavar="NETWORK",
    multiple=True,
    help="Answers to an address, or to those of a network; several may be given.",
)
@click.option(
    "--source",
    "sources",
    type=click.Choice(SOURCES),
    multiple=True,
    help="Answers that come from there; several may be given.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many answers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_context
def watch(
    context: click.Context,
    name: str | None,
    below: str | None,
    clients: tuple[str, ...],
    sources: tuple[str, ...],
    count: int | None,
    as_json: bool,
) -> None:
    """Show answers as they happen, all or those to NAME, until Ctrl-C."""
    given = {"name": name, "below": below, "clients": clients, "sources": sources}
    arguments = {key: value for key, value in given.items() if value}
    try:
        events = follow(socket_of(context), "watch", arguments)
        for line in show_answers(events, count, as_json=as_json):
            click.echo(line)
    except Unanswered as error:
        give_up(error)
    except KeyboardInterrupt:
        sys.exit(0)


def show_answers(
    events: Iterator[dict[str, Any]], count: int | None = None, *, as_json: bool = False
) -> Iterator[str]:
    """Yield what is printed of the events, until there were so many answers."""
    answers = 0
    for event in events:
        answer, lost = event.get("answer"), event.get("lost")
        if isinstance(answer, dict):
            yield json.dumps(answer) if as_json else show_answer(answer)
            answers += 1
            if answers == count:
                return
        elif isinstance(lost, int) and lost:
            yield json.dumps({"lost": lost}) if as_json else f"({lost:,} answers are missing here)"


def show_answer(answer: dict[str, Any]) -> str:
    """Return an answer as a person reads it, in one line that has nothing in it which a terminal
    would obey.
    """
    time = datetime.fromisoformat(answer["time"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    source = answer["source"] + (f" ({answer['list']})" if answer["list"] else "")
    parts = [
        time,
        (answer["client"] or HIDDEN).ljust(_CLIENT_WIDTH),
        source.ljust(_SOURCE_WIDTH),
        milliseconds(answer["ms"] / 1000).rjust(10),
        f"{answer['name'] or '-'} {answer['type']}",
        answer["rcode"],
        " ".join(answer["addresses"]),
    ]
    return one_line("  ".join(parts).rstrip())
