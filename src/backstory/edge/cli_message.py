"""``backstory messages``: list, show, retry."""

from urllib.parse import quote

import click

from backstory.core.condition import Json
from backstory.core.message import STATES
from backstory.edge.cli_command import Run, cell, columns, fields, more, row_of, rows_of, workspace_command

_COLUMNS = ("id", "created", "type", "recipient", "subject", "state", "failure_message")


@click.group()
def messages() -> None:
    """What was sent, to whom, and what became of it.

    \b
    Examples:
      backstory messages list --state in_doubt
      backstory messages retry 2-10-1-6613200940387
    """


@messages.command("list")
@click.option("--campaign", "campaign_id", type=int, help="Those of one campaign.")
@click.option("--state", type=click.Choice(STATES), help="Those in one state; in_doubt: a crash hid the outcome.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many to print.")
@click.option("--start", default="", help="Where to go on, as the page before said.")
@workspace_command
def list_messages(run: Run, campaign_id: int | None, state: str | None, limit: int, start: str) -> None:
    """Messages, newest first.

    \b
    Examples:
      backstory messages list
      backstory messages list --campaign 1 --state failed --json
    """
    query = {"campaign_id": campaign_id, "state": state, "limit": limit, "start": start or None}
    with run.session() as session:
        body = session.ask("GET", "/v1/messages", query=query)
    rows = rows_of(body, "messages")
    run.show(body, columns(rows, _COLUMNS, empty="no messages"))
    doubtful = [row for row in rows if row["state"] == "in_doubt"]
    if doubtful:
        click.echo(f"to attempt one in doubt again: backstory messages retry {doubtful[0]['id']}", err=True)
    more(body)


@messages.command("show")
@click.argument("message_id")
@workspace_command
def show_message(run: Run, message_id: str) -> None:
    """One message with its text as it was sent.

    \b
    Example:
      backstory messages show 2-10-1-6613200940387
    """
    path = f"/v1/messages/{quote(message_id, safe='')}"
    with run.session() as session:
        shown = row_of(session.ask("GET", path), "message")
        archived = row_of(session.ask("GET", f"{path}/archived_message"), "archived_message")
    shown |= {"from": archived["from"], "body": archived["body"]}
    names = ("id", "type", "state", "created", "campaign_id", "journey_id", "from", "recipient", "subject", "metrics")
    metrics = ", ".join(f"{name} {cell(at, 'at')}" for name, at in row_of(shown, "metrics").items())
    text = fields({**shown, "metrics": metrics}, (*names, "failure_message"))
    run.show({"message": shown}, f"{text}\n\n{shown['body']}")


@messages.command("retry")
@click.argument("message_ids", nargs=-1, required=True, metavar="MESSAGE_ID…")
@workspace_command
def retry_messages(run: Run, message_ids: tuple[str, ...]) -> None:
    """Attempt messages again that failed or are in doubt. One in doubt may then arrive twice.

    Only a server sends: without one they wait for the next to start.

    \b
    Example:
      backstory messages retry 2-10-1-6613200940387
    """
    retried: list[Json] = []
    with run.session() as session:
        for message_id in message_ids:
            body = session.ask("POST", f"/v1/messages/{quote(message_id, safe='')}/retry")
            retried.append(body["message"])
    run.show({"messages": retried}, f"{len(retried)} to be attempted again")
    if session.in_process:
        click.echo("no server is running: they are sent when one starts", err=True)
