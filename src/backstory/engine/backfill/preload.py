"""What an import of a large file of events will want, made ready while its workspace is opened.

These are the kernels that read such files, which take half a second to load, the first chunk of the file, read by them,
and everybody by the identifier by which the file names people, whom SQLite reads without the interpreter. Nobody needs
it: whoever reads such a file loads and reads what is not there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backstory.core.error import StorageError
from backstory.engine.file.event_row import read_event
from backstory.engine.file.file_shape import is_csv, reading_of, row_shape
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.row_value import RowError, decode_line
from backstory.engine.file.source import FAST_BYTES_MIN, Chunk, Place, Source
from backstory.engine.file.unpack import READ_ERRORS, SourceError, open_text
from backstory.store.database import connect, reading
from backstory.store.everybody import everybody

if TYPE_CHECKING:
    from backstory.engine.backfill.event_fast import Found
    from backstory.engine.backfill.identifier_table import IdentifierTable
    from backstory.engine.file.buffer import Buffers
    from backstory.store.everybody import Kind
    from backstory.store.folder import Folder

T = TypeVar("T")
_LINE_BYTES_MAX = 60_000


@dataclass(frozen=True, slots=True)
class First:
    """The first chunk of a file, already read into ``buffers``; the source goes on behind it."""

    source: Source
    chunks: Iterator[Chunk]
    chunk: Chunk
    found: Found
    buffers: Buffers


class Preload:
    """Begun before there is a workspace; told of its folder; asked by the import, or ended without."""

    def __init__(self, options: BackfillOptions) -> None:
        self._large = _large(options)
        self._options = options
        self._ended = threading.Event()
        self._first: Future[First | None] | None = None
        self._people: Future[tuple[Kind, IdentifierTable] | None] | None = None
        # As of which renaming of people everybody was read.
        self._renamed = -1
        if self._large:
            self._first = _beside("preload", self._read_first)

    def locked(self, folder: Path) -> None:
        """No other process writes to this workspace's stores now: begin to read everybody, before they are open."""
        if self._large and (folder / "state.db").exists():
            self._people = _beside("everybody", lambda: self._read_people(folder))

    def opened(self, folder: Folder) -> None:
        """The stores are open, and nothing is written to them yet."""
        self._renamed = folder.people.renamed
        if self._large and self._people is None:
            self._people = _beside("everybody", lambda: self._read_people(folder.path))

    # Each is there once: what is returned is not kept here.

    def first(self, path: Path, options: BackfillOptions) -> First | None:
        """The beginning of a file, if it is that of the first one of this import."""
        if self._first is None or options != self._options or path != Path(options.paths[0]):
            return None
        first, self._first = self._first, None
        return first.result()

    def everybody(self, kind: Kind, renamed: int) -> IdentifierTable | None:
        """Everybody by a kind of identifier; None for another one, or when names changed hands since."""
        reading, self._people = self._people, None
        found = None if reading is None else reading.result()
        return None if found is None or found[0] != kind or renamed != self._renamed else found[1]

    def end(self) -> None:
        """Nobody will ask: wait until nothing is read any more. Raises nothing: what was wrong the import has told."""
        self._ended.set()
        first, people = self._first, self._people
        self._first = self._people = None
        if people is not None:
            wait([people])
        if first is not None and first.exception() is None and (read := first.result()) is not None:
            read.source.close()

    def _read_first(self) -> First | None:
        # Numba comes with it.
        from backstory.engine.backfill.event_fast import load, read_fast
        from backstory.engine.file.buffer import Buffers

        load()
        path = Path(self._options.paths[0])
        shape = row_shape(self._options, path)
        if self._ended.is_set() or is_csv(path) or not shape.plain:
            return None
        with ExitStack() as stack:
            try:
                source = stack.enter_context(closing(Source(path, Place(), reading=reading_of(self._options, path))))
                chunks = source.chunks()
                chunk = next(chunks, None)
            except (SourceError, *READ_ERRORS):
                # What is the matter with it says whoever reads it.
                return None
            if chunk is None or len(chunk.body) < FAST_BYTES_MIN:
                return None
            buffers = Buffers()
            found = read_fast(chunk, shape.identifier, buffers)
            stack.pop_all()
        return First(source, chunks, chunk, found, buffers)

    def _read_people(self, folder: Path) -> tuple[Kind, IdentifierTable] | None:
        kind = _kind(self._options)
        if kind is None:
            return None
        try:
            with closing(connect(folder / "state.db", synchronous="NORMAL", read_only=True)) as db:
                # While Numba is loaded, too.
                pieces = list(takewhile(lambda _: not self._ended.is_set(), everybody(reading(db), kind)))
        except StorageError:
            # Whoever needs them reads them, and tells of what is wrong.
            return None
        if self._ended.is_set():
            return None
        from backstory.engine.backfill.event_fast import table_of

        return kind, table_of(kind, pieces)


def _beside(name: str, work: Callable[[], T]) -> Future[T]:
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # whoever asks hears of it
            done.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done


def _kind(options: BackfillOptions) -> Kind | None:
    """By what the first row of the first file names its person: most files do so in one way."""
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
