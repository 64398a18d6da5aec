"""An import as the edge shows it."""

from typing import cast

import msgspec

from backstory.core.condition import Json
from backstory.engine.answer.view import ImportView
from backstory.engine.file.options import BackfillOptions
from backstory.store.manifest import ImportRow

_UNFINISHED = ("importing", "paused", "canceled", "failed")


def import_view(row: ImportRow, *, running: bool, purged: bool) -> ImportView:
    """Row counts come from the progress committed last; the row does not know who is at work, nor what was purged."""
    options = msgspec.json.decode(row.options, type=BackfillOptions)
    progress: dict[str, Json] = msgspec.json.decode(row.progress)
    summary = progress.get("summary")
    # The state is that of the import now, not that of its last chunk.
    counts: dict[str, Json] = {**summary, "state": row.state} if isinstance(summary, dict) and summary else {}
    rows = counts.get("rows")
    errors = counts.get("errors")
    done = rows if isinstance(rows, int) else 0
    wrong = errors if isinstance(errors, int) else 0
    return ImportView(
        import_id=row.import_id,
        name=options.name or (options.paths[0].rpartition("/")[2] if options.paths else ""),
        description=options.description,
        type=options.kind,
        state="preprocessing" if row.state == "importing" and not progress.get("sizes") else row.state,
        identifier=options.identifier or "id",
        rows_to_import=done,
        rows_imported=done - wrong,
        error=row.error,
        created_us=row.accept_us,
        updated_us=row.updated_us,
        data_to_process=options.rows,
        summary=counts,
        options=_asked(options, progress),
        object_type_id=options.object_type_id if options.kind in ("objects", "relationships") else None,
        segment_id=options.segment_id,
        percent=_percent(progress) if row.state in _UNFINISHED else 100,
        running=running,
        purged=purged,
    )


def _asked(options: BackfillOptions, progress: dict[str, Json]) -> dict[str, Json]:
    """All options, also those nobody named, under the names that ``POST /v1/imports`` takes."""
    shown = cast("dict[str, Json]", msgspec.to_builtins(options))
    paths: Json = shown.pop("paths")
    # The paths of an import that is retried are those of the mended rows.
    shown["sources"] = shown.pop("sources") or progress.get("sources") or paths
    for told in ("kind", "name", "description", "object_type_id", "segment_id"):
        # An import tells these itself.
        del shown[told]
    return shown


def _percent(progress: dict[str, Json]) -> int:
    """How far it is, by the files read; of a packed file nobody knows how long it is, so that it stays below."""
    sizes, file, offset = progress.get("sizes"), progress.get("file"), progress.get("offset")
    if not isinstance(sizes, list) or not isinstance(file, int) or not isinstance(offset, int):
        return 0
    known = [size for size in sizes if isinstance(size, int)]
    done = sum(known[:file]) + min(offset, *known[file : file + 1], offset)
    return min(100 * done // max(sum(known), 1), 99)
