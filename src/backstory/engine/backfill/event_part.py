"""The part that a chunk of events becomes: its columns, and what the manifest says of it."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.engine.backfill.event_chunk import Sorted
from backstory.store.folder import Folder
from backstory.store.manifest import ImportRow, Part
from backstory.store.part import WrittenPart, write_part

_MAY_MISS = frozenset({"event_id", "key"})


def write_rows(
    folder: Folder, name: str, rows: Sorted, first_seq: int, row: ImportRow, *, places: NDArray[np.int64] | None = None
) -> WrittenPart:
    """Write rows in the order of a part, numbered from ``first_seq``. Raises ``StorageError``.

    ``places``: these are repeats, numbered in the order in which they came. Where no history is kept, what is returned
    stands for a file that there is not: ``History.files`` tells it by its length.
    """
    if not folder.history.kept:
        return WrittenPart(path=f"{name}.parquet", rows=len(rows), checksum="", bytes=0)
    count = len(rows)
    duplicate = places is not None
    seqs = first_seq + (np.arange(count, dtype=np.int64) if places is None else places)
    columns = {
        "seq": pa.array(seqs),
        "person": pa.array(rows.people),
        "name": rows.names,
        "kind": rows.kinds,
        "time_us": pa.array(rows.times_us),
        "accept_us": pa.array(np.full(count, row.accept_us, dtype=np.int64)),
        "data": rows.data,
        "event_id": rows.event_ids,
        "key": pa.array(rows.keys, mask=None if rows.keyed.all() else ~rows.keyed),
        "import_id": pa.array(np.full(count, row.import_id, dtype=np.int32)),
        "duplicate": pa.array(np.full(count, duplicate)),
    }
    # Where nothing is missing, whether something is has not to be written row by row.
    fields = [pa.field(name, column.type, nullable=name in _MAY_MISS) for name, column in columns.items()]
    table = pa.table(columns, schema=pa.schema(fields))
    # There are many of them soon, which are merged when the import is over.
    return write_part(folder.parts_path, name, table, lasting=folder.state.lasting, packed=duplicate)


def named_part(part: WrittenPart, rows: Sorted, part_id: int, import_id: int, seq: int) -> Part:
    """How the manifest names the part of these rows, committed at ``seq``."""
    return Part(
        part_id=part_id,
        kind="event",
        path=part.path,
        rows=part.rows,
        checksum=part.checksum,
        bytes=part.bytes,
        low_us=int(rows.times_us.min()),
        high_us=int(rows.times_us.max()),
        import_id=import_id,
        seq=seq,
    )
