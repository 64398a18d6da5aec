"""``backstory campaigns``: list, show, start, stop, journeys."""

import json

import click

from backstory.core.condition import Json
from backstory.edge.cli_command import Run, columns, fields, more, row_of, rows_of, workspace_command

_COLUMNS = ("id", "name", "type", "state", "first_started", "updated")


@click.group()
def campaigns() -> None:
    """Workflows that react to events and to segments.

    \b
    Examples:
      backstory campaigns list --data ./data
      backstory campaigns start 1
    """


@campaigns.command("list")
@workspace_command
def list_campaigns(run: Run) -> None:
    """All campaigns.

    \b
    Example:
      backstory campaigns list --json
    """
    with run.session() as session:
        body = session.ask("GET", "/v1/campaigns")
    run.show(body, columns(rows_of(body, "campaigns"), _COLUMNS, empty="no campaigns yet"))


@campaigns.command("show")
@click.argument("campaign_id", type=int)
@workspace_command
def show_campaign(run: Run, campaign_id: int) -> None:
    """One campaign with its trigger and its steps.

    \b
    Example:
      backstory campaigns show 1
    """
    with run.session() as session:
        body = session.ask("GET", f"/v1/campaigns/{campaign_id}")
    shown = row_of(body, "campaign")
    names = (*_COLUMNS, "trigger", "filter", "frequency", "include_current")
    run.show(body, f"{fields(shown, names)}\nsteps\n{json.dumps(shown['steps'], indent=2, ensure_ascii=False)}")


@campaigns.command("start")
@click.argument("campaign_id", type=int)
@workspace_command
def start_campaign(run: Run, campaign_id: int) -> None:
    """Start a campaign: what is accepted from now on triggers it.

    Its messages are sent by a server; without one they wait for the next to start.

    \b
    Example:
      backstory campaigns start 1
    """
    _set_state(run, campaign_id, "start")


@campaigns.command("stop")
@click.argument("campaign_id", type=int)
@workspace_command
def stop_campaign(run: Run, campaign_id: int) -> None:
    """Stop a campaign: nobody enters, and what it has not sent is dropped.

    \b
    Example:
      backstory campaigns stop 1
    """
    _set_state(run, campaign_id, "stop")


@campaigns.command("journeys")
@click.argument("campaign_id", type=int)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many to print.")
@click.option("--start", default="", help="Where to go on, as the page before said.")
@workspace_command
def show_journeys(run: Run, campaign_id: int, limit: int, start: str) -> None:
    """Who went which way through a campaign, and the last decision with its reason, or why a message of it failed.

    \b
    Examples:
      backstory campaigns journeys 1
      backstory campaigns journeys 1 --json
    """
    with run.session() as session:
        query = {"limit": limit, "start": start or None}
        body = session.ask("GET", f"/v1/campaigns/{campaign_id}/journeys", query=query)
    rows = [_journey_row(journey) for journey in rows_of(body, "journeys")]
    names = ("id", "customer", "state", "started_at", "effective_at", "last", "reason")
    run.show(body, columns(rows, names, empty="nobody has entered yet"))
    more(body)


def _set_state(run: Run, campaign_id: int, verb: str) -> None:
    with run.session() as session:
        body = session.ask("POST", f"/v1/campaigns/{campaign_id}/{verb}")
    shown = row_of(body, "campaign")
    run.show(body, f"campaign {shown['id']} {shown['name']!r} is {shown['state']}")


def _journey_row(journey: dict[str, Json]) -> dict[str, Json]:
    person = row_of(journey, "customer_identifiers")
    steps = rows_of(journey, "steps")
    last = steps[-1] if steps else {}
    decided = f"{last['type']}: {last['decision']}" if last else ""
    customer = person.get("id") or person.get("email") or person.get("cio_id")
    # A journey goes on behind a message that failed, and ends well: what went wrong must not be hidden by that.
    reason = f"failed: {journey['failure']}" if journey["failure"] else last.get("reason")
    return {**journey, "customer": customer, "last": decided, "reason": reason}
