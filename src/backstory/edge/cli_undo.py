"""What taking an import back did or would do, as lines for people."""

from typing import Any

from backstory.core.condition import Json
from backstory.edge.cli_command import cell, columns, moment, rows_of

_COUNTS = {
    "people_gone": "people who go: nobody else named them",
    "people_returned": "people who come back",
    "people_changed": "people with other values",
    "identifiers_changed": "identifiers taken or given back",
    "events": "events",
    "writes": "rows of attributes",
    "records": "writes to objects and relationships",
    "members": "entries into manual segments",
    "events_of_others": "equal events of others that count now",
    "journeys_ended": "journeys that end",
    "messages_dropped": "messages that are not sent",
    "messages_sent": "messages that were sent: they stay sent",
}
LISTED_MAX = 12


def undone_text(done: dict[str, Any]) -> str:
    """The counts; what did not occur is left out."""
    lines = [f"import {done['import_id']} is {done['state']}"]
    lines += [f"  {text:<42}{done[key]:>14,}" for key, text in _COUNTS.items() if done[key]]
    return "\n".join(lines)


def preview_text(seen: dict[str, Any]) -> str:
    """The counts, then what changes where: segments, attributes, who goes, what was sent, what stands."""
    would: dict[str, Any] = seen["would"]
    counts = undone_text(would).replace(" is ", " would be ", 1)
    tables = [_segments(seen), _attributes(seen), _gone(seen), _sent(seen), _stands(seen)]
    blocks = [f"{counts}\nnothing was changed", *tables]
    return "\n\n".join(block for block in blocks if block)


def _segments(seen: dict[str, Json]) -> str:
    rows = [row for row in rows_of(seen, "segments") if row["enter"] or row["leave"]]
    return _table("segments that change:", rows, ("id", "name", "enter", "leave", "members"))


def _attributes(seen: dict[str, Json]) -> str:
    rows: list[dict[str, Json]] = []
    for row in rows_of(seen, "attributes")[:LISTED_MAX]:
        change = rows_of(row, "changes")[0]
        often = f"{_value(change['from'])} → {_value(change['to'])} ({change['people']:,})"
        rows.append({**row, "most_often": often})
    return _table("attributes of people who stay:", rows, ("name", "people", "most_often"))


def _gone(seen: dict[str, Json]) -> str:
    return _table("some who go:", rows_of(seen, "gone")[:LISTED_MAX], ("id", "email", "cio_id"))


def _sent(seen: dict[str, Json]) -> str:
    return _table("messages already sent:", rows_of(seen, "sent"), ("delivery_id", "campaign_id", "person", "at"))


def _stands(seen: dict[str, Any]) -> str:
    lines = ["decisions that stand:"] if seen["decisions"] else []
    for one in seen["decisions"]:
        lines.append(f"  {moment(one['at'])}  {one['what']} of cio_id {one['person']}: {cell(one['said'])}")
        lines.append(f"    to have it decided anew: {one['command']}")
    return "\n".join(lines)


def _value(value: Json) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value == "" else cell(value)[:40]


def _table(title: str, rows: list[dict[str, Json]], names: tuple[str, ...]) -> str:
    if not rows:
        return ""
    table = columns(rows, names, empty="")
    return "\n".join([title, *(f"  {line}" for line in table.split("\n"))])
