"""A preview as lines for people: what would become of the rows, and what would change."""

from typing import Any

from backstory.core.condition import Json
from backstory.edge.cli_command import Row, cell, columns, moment, rows_of

_OUTCOMES = {
    "created": "created",
    "updated": "updated",
    "unchanged": "unchanged",
    "stale": "stale (a newer value stays)",
    "duplicate": "duplicate (already there)",
    "skipped": "skipped by --rows",
    "people_created": "people created",
    "warnings": "warnings",
    "errors": "errors",
}
_SHOWN_MAX = 12


def preview_text(seen: dict[str, Json]) -> str:
    """Tables of segments, campaigns and attributes behind the counts; what would not change is left out."""
    blocks = [_counts(seen), _samples(seen), _segments(seen), _campaigns(seen), _attributes(seen)]
    return "\n\n".join(block for block in blocks if block)


def _counts(seen: dict[str, Any]) -> str:
    lines = [f"preview as of {moment(int(seen['now']))}: {seen['rows']:,} rows; nothing was changed"]
    lines += [f"  {name:<42}{seen[key]:>14,}" for key, name in _OUTCOMES.items() if seen[key]]
    held = seen["held_back"]
    for what, key in (("events", "event"), ("segment changes", "segment")):
        if held[key]:
            lines.append(f"  {f'{what} held back from campaigns':<42}{held[key]:>14,}")
    return "\n".join(lines)


def _samples(seen: dict[str, Json]) -> str:
    lines: list[str] = []
    for key, title in (("error_samples", "rows with errors"), ("warning_samples", "rows with warnings")):
        rows = rows_of(seen, key)
        if rows:
            lines.append(f"the first {title}:")
            lines += [f"  line {row['line']}: {cell(row['error'])}" for row in rows]
    return "\n".join(lines)


def _segments(seen: dict[str, Json]) -> str:
    rows = [row for row in rows_of(seen, "segments") if row["enter"] or row["leave"]]
    return _table("segments that change:", rows, ("id", "name", "enter", "leave", "members"))


def _campaigns(seen: dict[str, Json]) -> str:
    rows = rows_of(seen, "campaigns")
    names = ("id", "name", "policy", "journeys", "messages", "messages_later_at_most")
    return _table("running campaigns, under each --triggers policy:", rows, names)


def _attributes(seen: dict[str, Json]) -> str:
    rows: list[Row] = []
    for row in rows_of(seen, "attributes"):
        found = rows_of(row, "changes")
        often = f"{_value(found[0]['from'])} → {_value(found[0]['to'])} ({found[0]['people']:,})" if found else ""
        rows.append({**row, "most_often": often})
    names = ("name", "new_people", "changed", "overwritten", "most_often")
    more = len(rows) - _SHOWN_MAX
    text = _table("attributes:", rows[:_SHOWN_MAX], names)
    return f"{text}\n  and {more} more: --json has them all" if more > 0 else text


def _value(value: Json) -> str:
    return "nothing" if value == "" else cell(value)[:40]


def _table(title: str, rows: list[Row] | list[dict[str, Json]], names: tuple[str, ...]) -> str:
    if not rows:
        return ""
    table = columns(rows, names, empty="")
    return "\n".join([title, *(f"  {line}" for line in table.split("\n"))])
