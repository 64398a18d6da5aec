"""A preview as lines for people: what would become of the rows, and what would change."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from backstory.core.condition import Json
from backstory.core.error import BackstoryError
from backstory.core.time import is_local, is_written_out
from backstory.edge.cli_command import Row, Run, cell, columns, moment, rows_of
from backstory.engine.file.notation import DATE_ORDERS, comma_number
from backstory.engine.file.options import BackfillOptions

_OUTCOMES = {
    "created": "created",
    "updated": "updated",
    "unchanged": "unchanged",
    "stale": "stale (a newer value stays)",
    "duplicate": "duplicate (already there)",
    "skipped": "skipped",
    "people_created": "people created",
    "warnings": "warnings",
    "errors": "errors",
}
_SHOWN_MAX = 12
_FILES_MAX = 5
_EXAMPLES_MAX = 2
_TEXT_MAX = 80
_TIME_TYPES = ("time", "seconds", "milliseconds", "microseconds")


@contextmanager
def empty_folder(run: Run) -> Generator[Run]:
    """The same run over an empty data folder of its own, which goes at the end; on the disk where its own would be."""
    place = next(folder for folder in run.settings.data.absolute().parents if folder.is_dir())
    try:
        made = tempfile.TemporaryDirectory(prefix=".backstory-preview-", dir=place)
    except OSError as error:
        raise BackstoryError(f"cannot make a folder in {place} for the preview: {error.strerror or error}") from None
    with made as name:
        data = Path(name)
        spills = run.settings.temp_folder
        inside = data / "tmp" if spills == run.settings.data / "tmp" else spills
        yield replace(run, settings=replace(run.settings, data=data, temp_folder=inside))


def skipped_name(kind: str) -> str:
    """Why rows of an import of a kind, also as the API calls it, are passed over; "" where it is not known."""
    match kind:
        case "people" | "events" | "event" | "objects" | "object" | "relationships" | "relationship":
            return "skipped (by --rows, or of another kind)"
        case "members":
            return "skipped (nobody has the name, or --rows)"
        case _:
            return "skipped"


def preview_text(seen: dict[str, Json], kind: str = "") -> str:
    """Tables of segments, campaigns and attributes behind the counts; what would not change is left out."""
    blocks = [_counts(seen, kind), _examples(seen), hint_text(seen["hint"]), _samples(seen)]
    blocks += [_segments(seen), _campaigns(seen), _attributes(seen)]
    return "\n\n".join(block for block in blocks if block)


def counted(rows: int) -> str:
    """So many rows, in words."""
    return "1 row" if rows == 1 else f"{rows:,} rows"


def hint_text(hint: Json) -> str:
    """What to do when no row can be taken; "" where there is nothing to say."""
    return f"hint: {cell(hint)}" if hint else ""


def outline_text(files: list[dict[str, Any]], told: BackfillOptions, title: str = "") -> str:
    """How each file is read and what its columns are taken for; of many files the first ones.

    ``title`` is what to call the only one, where that is not its path.
    """
    blocks = [_file(one, told, title or _near(one["path"])) for one in files[:_FILES_MAX]]
    if len(files) > _FILES_MAX:
        blocks.append(f"… and {len(files) - _FILES_MAX} more files")
    return "\n".join(blocks)


def _file(one: dict[str, Any], told: BackfillOptions, title: str) -> str:
    kind = told.kind
    shape = f", {one['shape']} items" if one["shape"] not in ("", "flat") else ""
    parts = {
        "person": "" if kind == "objects" else one["person"] or "no column, see --map",
        "object": "" if kind not in ("objects", "relationships") else one["object"] or "no column, see --map",
        "time": one["time"] or "no column, see --time and --as-of; otherwise now",
    }
    said = "; ".join(f"{name}: {column}" for name, column in parts.items() if column)
    head = f"reading {title}: {one['form']}, {one['written']}{shape}; {said}"
    rows: list[Row] = [
        {
            "column": column["name"],
            "read as": column["field"],
            "type": column["type"],
            "examples": " | ".join(column["examples"]),
        }
        for column in one["columns"][:_SHOWN_MAX]
    ]
    more = len(one["columns"]) - len(rows)
    lines = columns(rows, ("column", "read as", "type", "examples"), empty="").splitlines()
    lines += [f"… and {more} more"] if more else []
    seen, unreadable = one["rows_seen"], one["rows_unreadable"]
    if unreadable:
        lines.append(f"of the first {seen:,} rows {unreadable:,} cannot be read: they will be errors")
    elif not seen:
        lines.append("no rows")
    lines += [*_times_as_text(one, told), *_dates_not_read(one, told), *_commas_not_read(one, told)]
    return "\n".join([head, *("  " + line for line in lines)])


def _times_as_text(one: dict[str, Any], told: BackfillOptions) -> list[str]:
    """A line on columns that hold times as text; calls of other shapes have their own rules for them."""
    if one["shape"] not in ("", "flat"):
        return []
    columns_there = [column for column in one["columns"] if column["type"] == "text" and column["name"] != one["time"]]
    found = [
        column
        for column in columns_there
        if _orders(column) or (column["examples"] and all(map(is_written_out, column["examples"])))
    ]
    if not found:
        return []
    first = found[0]
    orders = "" if told.dates in _orders(first) else _dates_flag(first)
    zone = " --zone Europe/Berlin" if _orders(first) or any(map(is_local, first["examples"])) else ""
    makes = f"--type {first['name']}=time{orders}{zone} makes them unix seconds"
    return [f"{_named(found)}: times as text, which no condition on times sees; {makes}"]


def _dates_not_read(one: dict[str, Any], told: BackfillOptions) -> list[str]:
    """A line on dates in columns of times that cannot be read as they are: every such row is to be an error."""
    times = {one["time"], *(column for column, kind in told.types.items() if kind in _TIME_TYPES)}
    found = [
        column
        for column in one["columns"]
        if column["name"] in times and _orders(column) and told.dates not in _orders(column)
    ]
    if not found:
        return []
    first = found[0]
    zone = "" if told.zone else " --zone Europe/Berlin"
    said = "as they are" if told.dates is None else f"with --dates {told.dates}"
    reads = f"{_dates_flag(first).strip()}{zone} reads them"
    return [f"{_named(found)}: dates such as {first['examples'][0]} cannot be read {said}; {reads}"]


def _commas_not_read(one: dict[str, Any], told: BackfillOptions) -> list[str]:
    """A line on numbers with a decimal comma: what they would be is shown, as it may stand between thousands."""
    found = [column for column in one["columns"] if column["notations"] == ["comma"]]
    if told.decimal is not None or not found or not one["form"].startswith("CSV"):
        return []
    example = next((text for text in found[0]["examples"] if "," in text), "1,5")
    are = "not read as numbers" if any(column["type"] == "number, told" for column in found) else "taken for text"
    reads = f"--decimal comma reads {example} as {comma_number(example)}"
    return [f"{_named(found)}: {are}; if a comma stands before the decimals, {reads}"]


def _orders(column: dict[str, Any]) -> list[str]:
    return [notation for notation in column["notations"] if notation in DATE_ORDERS]


def _dates_flag(column: dict[str, Any]) -> str:
    """How to tell the order of dates; of which both could be, whoever knows it has to say it."""
    orders = _orders(column)
    return f" --dates {' or '.join(orders)}" if orders else ""


def _named(found: list[dict[str, Any]]) -> str:
    return ", ".join(column["name"] for column in found[:_FILES_MAX]) + (", …" if len(found) > _FILES_MAX else "")


def _near(path: str) -> str:
    """A path as one would write it here."""
    near = os.path.relpath(path)
    return path if near.startswith(os.pardir) else near


def _counts(seen: dict[str, Any], kind: str) -> str:
    names = {**_OUTCOMES, "skipped": skipped_name(kind)}
    lines = [f"preview as of {moment(int(seen['now']))}: {counted(seen['rows'])}; nothing was changed"]
    lines += [f"  {name:<42}{seen[key]:>14,}" for key, name in names.items() if seen[key]]
    held = seen["held_back"]
    for what, key in (("events", "event"), ("segment changes", "segment")):
        if held[key]:
            lines.append(f"  {f'{what} held back from campaigns':<42}{held[key]:>14,}")
    return "\n".join(lines)


def _examples(seen: dict[str, Any]) -> str:
    """The first rows of each outcome; those with errors are told by themselves."""
    lines: list[str] = []
    for outcome, rows in seen["samples"].items():
        lines += [f"  {outcome:<10} {_place(row)}: {cell(row['text'])[:_TEXT_MAX]}" for row in rows[:_EXAMPLES_MAX]]
    return "\n".join(["the first rows of each outcome:", *lines]) if lines else ""


def _samples(seen: dict[str, Json]) -> str:
    lines: list[str] = []
    for key, title in (("error_samples", "rows with errors"), ("warning_samples", "rows with warnings")):
        rows = rows_of(seen, key)
        if rows:
            lines.append(f"the first {title}:")
            lines += [f"  {_place(row)}: {cell(row['error'])}" for row in rows]
    return "\n".join(lines)


def _place(row: Row) -> str:
    return f"{cell(row['file'])} line {row['line']}" if row.get("file") else f"line {row['line']}"


def _segments(seen: dict[str, Json]) -> str:
    rows = [row for row in rows_of(seen, "segments") if row["enter"] or row["leave"]]
    return _table("segments that change:", rows, ("id", "name", "enter", "leave", "members"))


def _campaigns(seen: dict[str, Json]) -> str:
    rows = rows_of(seen, "campaigns")
    later = ("journeys_later_at_most",) if any(row["journeys_later_at_most"] for row in rows) else ()
    failed = ("messages_failed",) if any(row["messages_failed"] for row in rows) else ()
    names = ("id", "name", "policy", "journeys", *later, "messages", *failed, "messages_later_at_most")
    lines = [_table("running campaigns, under each --triggers policy:", rows, names)]
    # Under each policy it is the same reason.
    told = {cell(row["name"]): cell(row["failure"]) for row in rows if row["failure"]}
    lines += [f"  {name}: a message would fail: {failure}" for name, failure in told.items()]
    return "\n".join(line for line in lines if line)


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
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value == "" else cell(value)[:40]


def _table(title: str, rows: list[Row] | list[dict[str, Json]], names: tuple[str, ...]) -> str:
    if not rows:
        return ""
    table = columns(rows, names, empty="")
    return "\n".join([title, *(f"  {line}" for line in table.split("\n"))])
