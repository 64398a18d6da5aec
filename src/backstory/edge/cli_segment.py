"""``backstory segments``: list, show, create, members, count."""

import sys
from pathlib import Path

import click
import msgspec

from backstory.core.condition import Json
from backstory.edge.cli_command import Run, columns, fields, more, row_of, rows_of, workspace_command

_COLUMNS = ("id", "name", "type", "state", "progress", "updated_at")
AS_OF = click.option(
    "--as-of", metavar="TIME", help="A past moment: unix seconds, or ISO 8601 with a zone such as 1998-01-01T00:00:00Z."
)
KNOWN_AT = click.option("--known-at", metavar="TIME", help="As it was known then: without what was accepted later.")


@click.group()
def segments() -> None:
    """Groups of people, kept up to date by themselves or by hand.

    \b
    Examples:
      backstory segments list --data ./data
      backstory segments count 1 --as-of 1998-01-01T00:00:00Z
    """


@segments.command("list")
@workspace_command
def list_segments(run: Run) -> None:
    """All segments.

    \b
    Examples:
      backstory segments list --data ./data
      backstory segments list --json
    """
    with run.session() as session:
        body = session.ask("GET", "/v1/segments")
    run.show(body, columns(rows_of(body, "segments"), _COLUMNS, empty="no segments yet"))


@segments.command("show")
@click.argument("segment_id", type=int)
@workspace_command
def show_segment(run: Run, segment_id: int) -> None:
    """One segment with its conditions, its size and the campaigns that use it.

    \b
    Example:
      backstory segments show 1
    """
    path = f"/v1/segments/{segment_id}"
    with run.session() as session:
        shown = row_of(session.ask("GET", path), "segment")
        count = session.ask("GET", f"{path}/customer_count")["count"]
        used = row_of(session.ask("GET", f"{path}/used_by"), "used_by")
    shown |= {"members": count, "campaigns": used["campaigns"]}
    names = (
        "id",
        "name",
        "description",
        "type",
        "state",
        "progress",
        "members",
        "campaigns",
        "conditions",
        "created_at",
        "updated_at",
    )
    run.show({"segment": shown}, fields(shown, names))


@segments.command("create")
@click.argument("name")
@click.option("--description", default="", help="What the segment is for.")
@click.option(
    "--conditions", metavar="JSON", help="Who is in it: JSON, @FILE, or - for standard input. Without: manual."
)
@workspace_command
def create_segment(run: Run, name: str, description: str, conditions: str | None) -> None:
    """Make a segment: with conditions it fills itself, without it is filled by hand.

    \b
    Examples:
      backstory segments create Buyers --conditions '{"event": {"name": "purchased"}}'
      backstory segments create Regulars --conditions @regulars.json
      backstory segments create "Beta testers"
    """
    wanted: dict[str, Json] = {"name": name, "description": description}
    if conditions is not None:
        wanted["conditions"] = condition_of(conditions)
    with run.session() as session:
        body = session.ask("POST", "/v1/segments", body={"segment": wanted}, wait=True)
        made = row_of(body, "segment")
        count = session.ask("GET", f"/v1/segments/{made['id']}/customer_count")["count"]
    members = "1 member" if count == 1 else f"{count} members"
    run.show(body, f"segment {made['id']} {made['name']!r} ({made['type']}, {made['state']}): {members}")


@segments.command("members")
@click.argument("segment_id", type=int)
@AS_OF
@KNOWN_AT
@click.option("--limit", type=click.IntRange(1, 30_000), default=1000, show_default=True, help="How many to print.")
@click.option("--start", default="", help="Where to go on, as the page before said.")
@workspace_command
def show_members(
    run: Run, segment_id: int, as_of: str | None, known_at: str | None, limit: int, start: str
) -> None:
    """Who is in a segment, now or at a past moment.

    \b
    Examples:
      backstory segments members 1
      backstory segments members 1 --as-of 1998-01-01T00:00:00Z --json
    """
    with run.session() as session:
        query = {"as_of": as_of, "known_at": known_at, "limit": limit, "start": start or None}
        body = session.ask("GET", f"/v1/segments/{segment_id}/membership", query=query)
    run.show(body, columns(rows_of(body, "identifiers"), ("id", "email", "cio_id"), empty="nobody"))
    more(body)


@segments.command("count")
@click.argument("segment_id", type=int)
@AS_OF
@KNOWN_AT
@workspace_command
def count_members(run: Run, segment_id: int, as_of: str | None, known_at: str | None) -> None:
    """How many are in a segment, now or at a past moment.

    \b
    Examples:
      backstory segments count 1
      backstory segments count 1 --as-of 883612800
    """
    with run.session() as session:
        query = {"as_of": as_of, "known_at": known_at}
        body = session.ask("GET", f"/v1/segments/{segment_id}/customer_count", query=query)
    run.show(body, str(body["count"]))


def condition_of(text: str) -> Json:
    """A condition as JSON, from a file (``@FILE``) or standard input (``-``)."""
    try:
        if text == "-":
            source = sys.stdin.read()
        else:
            source = Path(text[1:]).read_text() if text.startswith("@") else text
        return msgspec.json.decode(source)
    except OSError as error:
        raise click.UsageError(f"--conditions: cannot read {text[1:]}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--conditions is not valid JSON: {error}") from None
