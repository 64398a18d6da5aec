"""How a file is to be read, by its name, its beginning and what its import was told. Loads next to nothing."""

from pathlib import Path
from zoneinfo import ZoneInfo

from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.report import is_report
from backstory.engine.file.row_shape import RowShape
from backstory.engine.file.unpack import Reading, is_parquet, open_text

PACKED = (".gz", ".zst", ".zstd")


def is_csv(path: Path) -> bool:
    """By the name, else by the first character: JSON lines begin with an object. Parquet files become JSON lines."""
    name = path.name.lower()
    for ending in PACKED:
        name = name.removesuffix(ending)
    if name.endswith((".csv", ".tsv")):
        return True
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return False
    if is_parquet(path):
        return False
    file = open_text(path)
    try:
        return not file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    finally:
        file.close()


def reading_of(options: BackfillOptions, path: Path) -> Reading:
    """How the text of a file that is no CSV is read."""
    return Reading(
        encoding="utf-8" if is_report(path) else options.encoding, keep_nulls=options.on_empty == "clear"
    )


def row_shape(options: BackfillOptions, path: Path) -> RowShape:
    """How the rows of a file are to be read."""
    own = "timestamp" if options.kind == "events" else "_timestamp"
    time_column = options.time or next((name for name, field in options.map.items() if field == own), own)
    told = options.types.get(time_column)
    return RowShape(
        identifier=options.identifier,
        columns=options.map,
        time_column=options.time,
        is_report=is_report(path),
        items=options.shape,
        zone=None if options.zone is None else ZoneInfo(options.zone),
        dates=options.dates,
        comma=options.decimal == "comma",
        unit=told if told == "seconds" or told == "milliseconds" or told == "microseconds" else None,
        # Cells have become what they were told to be before they are rows.
        types={} if is_csv(path) else {name: kind for name, kind in options.types.items() if name != time_column},
    )
