"""What to do when no row of an import could be taken: columns name nobody, times no zone, or the form is another."""

import re
from pathlib import Path

from backstory.core.time import is_local
from backstory.engine.backfill.import_check import COLUMNS_SHOWN
from backstory.engine.backfill.import_outline import FileOutline, outline_of
from backstory.engine.file.notation import DATE_ORDERS
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.source import PEEK_BYTES
from backstory.engine.file.unpack import beginning

_LIKE_EMAIL = re.compile(r"e.?mail", re.IGNORECASE)
_LIKE_ID = re.compile(r"(^|[^a-z])(id|key|no|number)($|[^a-z])|[a-z]I[dD]$|user|customer|person", re.IGNORECASE)


def hint(options: BackfillOptions) -> str:
    """In words what the files lack, for an import of whose rows none was taken; "" where it is not that.

    Raises ``SourceError`` for a file that cannot be read any more.
    """
    for name in options.paths:
        said = _said(outline_of(Path(name), options, found={}), options)
        if said:
            return said
    return ""


def _said(file: FileOutline, options: BackfillOptions) -> str:
    if not file.columns and file.form == "JSON lines" and (said := _other_json(Path(file.path))):
        return said
    if not file.columns:
        return f"no line of it can be read as {file.form}: name what it is by its ending, .csv or .jsonl"
    names = [column.name for column in file.columns]
    wanted = {"person": "" if options.kind == "objects" else file.person, "object": file.object}
    missing = [what for what in _named_by(options.kind) if not wanted[what]]
    if not missing:
        return _twice(file) or _dated(file, options) or ("" if options.zone is not None else _zoneless(file))
    what = missing[0]
    column, field = ("COLUMN", "object_id") if what == "object" else _likely(names, options)
    shown = ", ".join(names[:COLUMNS_SHOWN]) + (", …" if len(names) > COLUMNS_SHOWN else "")
    return f"no column names {_WORDS[what]}; there are {shown}: say which one does, such as --map {column}={field}"


def _other_json(path: Path) -> str:
    """JSON it is, but not line by line: what a file that begins so is, and how it becomes lines."""
    start = beginning(path, PEEK_BYTES).lstrip()
    if start.startswith(b"["):
        return "it is one list: each of its objects has to stand on a line of its own, as jq -c '.[]' writes them"
    if start.startswith(b"{") and not start.partition(b"\n")[0].rstrip().endswith(b"}"):
        return "its objects go over several lines: each has to stand on a line of its own, as jq -c . writes them"
    return ""


def _twice(file: FileOutline) -> str:
    """Of two columns that are read as one field no row can be taken that has both."""
    first: dict[str, str] = {}
    for column in file.columns:
        other = first.setdefault(column.field, column.name)
        if other != column.name:
            return f"{other} and {column.name} are both read as {column.field}: --map one of them to something else"
    return ""


def _dated(file: FileOutline, options: BackfillOptions) -> str:
    """The times are dates in an order that was not told, or in another than was."""
    column = next((column for column in file.columns if column.name == file.time), None)
    orders = [] if column is None else [one for one in column.notations if one in DATE_ORDERS]
    if column is None or not orders or options.dates in orders:
        return ""
    zone = "" if options.zone is not None else " and the zone they are in, such as --zone Europe/Berlin"
    return (
        f"the times in {file.time} are dates such as {column.examples[0]}: run it again and say whether the day or the "
        f"month stands first, with --dates {' or '.join(orders)}{zone}"
    )


def _zoneless(file: FileOutline) -> str:
    """Calls of Pipelines are in UTC where they name no zone."""
    times = [text for column in file.columns if column.name == file.time for text in column.examples]
    if file.shape == "pipelines" or not times or not all(is_local(text) for text in times):
        return ""
    return (
        f"the times in {file.time} say no zone, such as {times[0]}: run it again and say which they are in, such as "
        "--zone UTC or --zone Europe/Berlin"
    )


_WORDS = {"person": "a person", "object": "an object"}


def _named_by(kind: str) -> tuple[str, ...]:
    if kind == "objects":
        return ("object",)
    return ("person", "object") if kind == "relationships" else ("person",)


def _likely(names: list[str], options: BackfillOptions) -> tuple[str, str]:
    """A column that may name people, and the field it would be."""
    email = next((name for name in names if _LIKE_EMAIL.search(name)), None)
    if options.identifier == "email" or (email is not None and options.identifier is None):
        return email or "COLUMN", "email"
    return next((name for name in names if _LIKE_ID.search(name)), "COLUMN"), "id"
