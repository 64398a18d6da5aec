"""What an import of a large file of events will want, made ready while its workspace is opened.

These are the kernels that read such files, which take half a second to load, and everybody by the identifier by which
the file names people, whom SQLite reads without the interpreter. Nobody needs it: whoever reads such a file loads and
reads what is not there.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from backstory.core.error import StorageError
from backstory.engine.backfill.import_check import is_csv
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.source import FAST_BYTES_MIN
from backstory.engine.file.unpack import READ_ERRORS, SourceError, open_text

if TYPE_CHECKING:
    from backstory.store.everybody import Kind, Known
    from backstory.store.folder import Folder

# So many pieces of everybody are held until somebody takes them: two million people, about 60 MB.
PIECES_MAX = 20
_LINE_BYTES_MAX = 60_000


class Preload:
    """Begun before there is a workspace; told of its folder; asked by the import, or ended without."""

    def __init__(self, options: BackfillOptions) -> None:
        self._large = _large(options)
        self._options = options
        self._ended = threading.Event()
        self._reading: Future[tuple[Kind, list[tuple[Known, str]]] | None] | None = None
        # As of which renaming of people everybody was read.
        self._renamed = -1
        if self._large:
            threading.Thread(target=_load_kernels, name="preload", daemon=True).start()

    def opened(self, folder: Folder) -> None:
        """The stores are open, and nothing is written to them yet: begin to read everybody."""
        self._renamed = folder.people.renamed
        if self._large:
            reading = ThreadPoolExecutor(1, thread_name_prefix="everybody")
            self._reading = reading.submit(self._read, folder)
            reading.shutdown(wait=False)

    def everybody(self, kind: Kind, renamed: int) -> tuple[list[Known], str]:
        """Everybody read so far, and the last of them; nobody for another kind, or when names changed hands since.

        What is returned is not kept here.
        """
        reading, self._reading = self._reading, None
        found = None if reading is None else reading.result()
        if found is None or found[0] != kind or renamed != self._renamed:
            return [], ""
        return [known for known, _ in found[1]], found[1][-1][1] if found[1] else ""

    def end(self) -> None:
        """Nobody will ask: wait until nothing is read any more."""
        self._ended.set()
        self.everybody("id", -1)

    def _read(self, folder: Folder) -> tuple[Kind, list[tuple[Known, str]]] | None:
        from backstory.store.everybody import everybody

        kind = _kind(self._options)
        if kind is None:
            return None
        pieces: list[tuple[Known, str]] = []
        try:
            for piece in everybody(folder.state.rows, kind):
                pieces.append(piece)
                if len(pieces) == PIECES_MAX or self._ended.is_set():
                    break
        except StorageError:
            # Whoever needs the rest reads it, and tells of what is wrong.
            pass
        return kind, pieces


def _load_kernels() -> None:
    from backstory.engine.backfill.event_fast import read_fast
    from backstory.engine.file.source import Chunk, Place

    line = b'{"id":"a","name":"b","timestamp":1}\n'
    read_fast(Chunk(line, 1, Place(len(line), 1, 0)), None).rows(0, all_timed=False)


def _kind(options: BackfillOptions) -> Kind | None:
    """By what the first row of the first file names its person: most files do so in one way."""
    from backstory.engine.backfill.backfill import row_shape
    from backstory.engine.file.csv_cell import reading_of
    from backstory.engine.file.event_row import read_event
    from backstory.engine.file.row_value import RowError, decode_line

    path = Path(options.paths[0])
    try:
        with closing(open_text(path, reading_of(options, path))) as text:
            line = text.read(_LINE_BYTES_MAX).partition(b"\n")[0]
        kind = read_event(decode_line(line), 1, row_shape(options, path)).person_kind
    except (RowError, SourceError, *READ_ERRORS):
        # What is the matter with it says whoever reads it.
        return None
    return kind if kind == "id" or kind == "email" else None


def _large(options: BackfillOptions) -> bool:
    paths = [Path(name) for name in options.paths]
    return options.kind == "events" and any(_bytes(path) >= FAST_BYTES_MIN and not is_csv(path) for path in paths)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
