"""``backstory segments``: explain, preview, history, of, log."""

from collections.abc import Iterator
from urllib.parse import quote

import click

from backstory.core.condition import Json
from backstory.edge.cli_command import Row, Run, cell, columns, moment, more, row_of, rows_of, workspace_command
from backstory.edge.cli_segment import AS_OF, KNOWN_AT, condition_of

_ID_TYPE = click.option(
    "--id-type",
    type=click.Choice(["id", "email", "cio_id"]),
    default="id",
    show_default=True,
    help="Which identifier PERSON is.",
)


@click.command("explain")
@click.argument("segment_id", type=int)
@click.argument("person")
@_ID_TYPE
@AS_OF
@KNOWN_AT
@workspace_command
def explain(run: Run, segment_id: int, person: str, id_type: str, as_of: str | None, known_at: str | None) -> None:
    """Why a person is in a segment, or is not: each part of its condition, what decided it, when it turns next.

    \b
    Examples:
      backstory segments explain 1 ann
      backstory segments explain 1 ann@example.com --id-type email --as-of 1998-01-01T00:00:00Z
    """
    with run.session() as session:
        body = session.ask(
            "GET",
            f"/v1/customers/{_quoted(person)}/segments/{segment_id}/explain",
            query={"id_type": id_type, "as_of": as_of, "known_at": known_at},
        )
    state = "is in" if body["member"] else "is not in" if body["exists"] else "did not exist yet, so is not in"
    head = f"{person} {state} segment {segment_id} as of {_when(body['as_of'])}{_next(body)}"
    run.show(body, "\n".join([head, *_lines(row_of(body, "tree"), 1)]))


@click.command("preview")
@click.option("--conditions", metavar="JSON", required=True, help="JSON, @FILE, or - for standard input.")
@click.option("--limit", type=click.IntRange(0, 1000), default=10, show_default=True, help="How many to show.")
@AS_OF
@KNOWN_AT
@workspace_command
def preview(run: Run, conditions: str, limit: int, as_of: str | None, known_at: str | None) -> None:
    """How many a segment would hold, and some of them; nothing is kept.

    \b
    Examples:
      backstory segments preview --conditions '{"event": {"name": "purchased", "count": {"at_least": 5}}}'
      backstory segments preview --conditions @regulars.json --as-of 1998-01-01T00:00:00Z --limit 0
    """
    wanted: dict[str, Json] = {"conditions": condition_of(conditions), "limit": limit}
    wanted |= {name: value for name, value in (("as_of", as_of), ("known_at", known_at)) if value is not None}
    with run.session() as session:
        body = session.ask("POST", "/v1/segments/preview", body=wanted)
    sample = rows_of(body, "sample")
    shown = f"\n{columns(sample, ('id', 'email', 'cio_id'), empty='')}" if sample else ""
    run.show(body, f"{body['count']} {'person' if body['count'] == 1 else 'people'}{shown}")


@click.command("history")
@click.argument("segment_id", type=int)
@click.option("--start", metavar="TIME", help="The first point.  [default: 30 days before the last]")
@click.option("--end", metavar="TIME", help="Up to when.  [default: now]")
@click.option("--step", type=click.IntRange(min=1), default=86_400, show_default=True, help="Seconds between points.")
@KNOWN_AT
@workspace_command
def history(
    run: Run, segment_id: int, start: str | None, end: str | None, step: int, known_at: str | None
) -> None:
    """How many were in a segment over time, by what is known now, in one read of history.

    \b
    Examples:
      backstory segments history 1
      backstory segments history 1 --start 1997-01-01T00:00:00Z --end 1998-06-30T00:00:00Z --step 604800
    """
    with run.session() as session:
        query = {"start": start, "end": end, "step": str(step), "known_at": known_at}
        body = session.ask("GET", f"/v1/segments/{segment_id}/history", query=query)
    rows = [{**point, "at": _when(point["at"])} for point in rows_of(body, "points")]
    run.show(body, columns(rows, ("at", "count"), empty="no points"))


@click.command("of")
@click.argument("person")
@_ID_TYPE
@workspace_command
def of(run: Run, person: str, id_type: str) -> None:
    """When a person was in which segment.

    \b
    Examples:
      backstory segments of ann
      backstory segments of ann@example.com --id-type email --json
    """
    with run.session() as session:
        body = session.ask("GET", f"/v1/customers/{_quoted(person)}/segments/history", query={"id_type": id_type})
    rows: list[Row] = [
        {"id": one["id"], "name": one["name"], "from": _when(row["from"]), "to": _when(row["to"]) or "now"}
        for one in rows_of(body, "segments")
        for row in rows_of(one, "intervals")
    ]
    run.show(body, columns(rows, ("id", "name", "from", "to"), empty="in no segment, ever"))


@click.command("log")
@click.argument("segment_id", type=int)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many to print.")
@click.option("--start", default="", help="Where to go on, as the page before said.")
@workspace_command
def log(run: Run, segment_id: int, limit: int, start: str) -> None:
    """Who entered and left a segment, newest first: since when that is true, when it was noticed, and by what.

    "by" is "change" for what a fact or the clock did, and "build" where the segment was made or edited.

    \b
    Examples:
      backstory segments log 1
      backstory segments log 1 --limit 1000 --json
    """
    with run.session() as session:
        query = {"limit": limit, "start": start or None}
        body = session.ask("GET", f"/v1/segments/{segment_id}/transitions", query=query)
    rows = [
        {**row_of(one, "customer"), **one, **{name: _when(one[name]) for name in ("effective_at", "processed_at")}}
        for one in rows_of(body, "transitions")
    ]
    names = ("id", "email", "cio_id", "transition", "effective_at", "processed_at", "by", "import_id")
    run.show(body, columns(rows, names, empty="nobody entered or left it"))
    more(body)


def _lines(node: Row, depth: int) -> Iterator[str]:
    """A node and all below it, each deeper by two blanks."""
    sign = "yes" if node["value"] else "no "
    groups = {"and": "all of", "or": "any of", "not": "not"}
    condition = row_of(node, "condition")
    (key,) = condition
    text = groups.get(key) or cell(condition)
    # Devices and objects are asked for as they are at the moment, not in a window.
    where = "that pass" if key in ("device", "relationship") else "in the window"
    count = "" if node.get("count") is None else f", {node['count']} {where}"
    yield f"{'  ' * depth}{sign}  {text}{count}{_next(node)}"
    for one in rows_of(node, "because"):
        yield f"{'  ' * depth}       {_reason(one)}"
    for child in rows_of(node, "children"):
        yield from _lines(child, depth + 1)


def _reason(reason: Row) -> str:
    origin = f", import {reason['import_id']}" if reason.get("import_id") else ""
    if "event" in reason:
        name = f" ({reason['event_id']})" if reason["event_id"] else ""
        return f"{cell(reason['event'])}{name} at {_when(reason['at'])}{origin}"
    if "attribute" in reason:
        values = reason["values"]
        assert isinstance(values, list)
        since = f" since {_when(reason['at'])}" if reason["at"] is not None else ""
        return f"{cell(reason['attribute'])} is {', '.join(map(cell, values)) or 'missing'}{since}{origin}"
    if "by_hand" in reason:
        return f"{cell(reason['by_hand'])} by hand at {_when(reason['at'])}"
    enough = "long enough" if reason["long_enough"] else "not long enough"
    return f"known since {_when(reason['known_since'])}: {enough}"


def _next(body: Row) -> str:
    return f"; changes at {_when(body['next_change_at'])}" if body["next_change_at"] is not None else ""


def _when(at: Json) -> str:
    if not isinstance(at, int | float):
        return ""
    whole = moment(int(at // 1))
    part = f"{at % 1:.6f}"[1:].rstrip("0").rstrip(".")
    return whole[:-1] + part + whole[-1:]


def _quoted(text: str) -> str:
    return quote(text, safe="")


COMMANDS: tuple[click.Command, ...] = (explain, preview, history, of, log)
