"""Files as chunks of whole lines of UTF-8 text, that can be gone on with where an import stopped.

What a file is (packed, in another encoding, Parquet) is undone by ``unpack``: an offset counts bytes of the text. The
running checksum over what was read lets a resumed import refuse a file that has changed. A line longer than the limit
is an error of its own, and is passed over without being held.
"""

import io
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from backstory.core.checksum import crc32
from backstory.engine.file.unpack import READ_ERRORS, Reading, SourceError, Text, open_text

CHUNK_BYTES = 64 << 20
# From so many bytes on a file of events is read sooner by compiled code, which takes a moment to load.
FAST_BYTES_MIN = 8 << 20
LINE_BYTES = 8 << 20
READ_BYTES = 8 << 20
PEEK_BYTES = 64 << 10
_COUNT_BYTES = 256 << 10
_LINE_FEED = 10


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file was read: bytes, lines, and the checksum of those bytes."""

    offset: int = 0
    line: int = 0
    checksum: int = 0


@dataclass(frozen=True)
class Chunk:
    """Whole lines. ``first_line`` counts from 1; ``end`` is the place behind them; ``too_long`` are line numbers.

    A source reads all its chunks into the same memory: ``body`` is right until the next chunk is asked for.
    """

    body: bytes | memoryview
    first_line: int
    end: Place
    too_long: tuple[int, ...] = ()

    def text(self, line: int) -> bytes:
        """What stands in a line of the chunk."""
        ends, at = self._ends, line - self.first_line
        low = int(ends[at - 1]) + 1 if at else 0
        return bytes(self.body[low : int(ends[at]) if at < len(ends) else len(self.body)])

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where lines end, found once: there may be many to be told of."""
        return np.flatnonzero(np.frombuffer(self.body, np.uint8) == _LINE_FEED)

    def beginning(self, size: int) -> "Chunk":
        """The first whole lines of the chunk, no more than so many bytes of them; none where the first is longer."""
        cut = len(self.body) if len(self.body) <= size else bytes(self.body[:size]).rfind(b"\n") + 1
        lines = bytes(self.body[:cut]).count(b"\n")
        return Chunk(self.body[:cut], self.first_line, replace(self.end, line=self.first_line + lines))


class Source:
    """One file, read chunk by chunk from a place on, ``block_bytes`` at a time."""

    def __init__(
        self, path: Path, place: Place, *, block_bytes: int = READ_BYTES, reading: Reading | None = None
    ) -> None:
        self.path = path
        self.block_bytes = block_bytes
        self.place = place
        self._file: Text = open_text(path, reading)
        # Where it is no more than the file itself, it can be looked at further on.
        self._plain = cast("BinaryIO", self._file) if _is_plain(self._file) else None
        self._rest = b""
        # Read into again and again: memory never touched before costs more than what is done with the lines.
        self._memory = mmap.mmap(-1, PEEK_BYTES)
        try:
            self._skip_to(place)
        except SourceError:
            self.close()
            raise

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes of text; b"" at the end. Raises ``SourceError`` for a damaged or vanished file."""
        try:
            return self._file.read(size)
        except READ_ERRORS as error:
            raise SourceError(f"{self.path} cannot be read to its end: {error}") from error

    def _skip_to(self, place: Place) -> None:
        left, checksum = place.offset, 0
        while left:
            block = self.read(min(left, self.block_bytes))
            if not block:
                break
            checksum = crc32(block, checksum)
            left -= len(block)
        if left or checksum != place.checksum:
            raise SourceError(
                f"{self.path} has changed since the import began: cancel it with `backstory imports cancel`, "
                "or put the file back as it was"
            )

    def chunks(self, size: int = CHUNK_BYTES, line_bytes: int = LINE_BYTES) -> Iterator[Chunk]:
        """The rest of the file; each chunk ends at the end of a line, the last one where the file ends.

        A chunk is longer than ``size`` only for a line that is; one longer than ``line_bytes`` too is passed over.
        """
        while have := self._fill(want := self._fitting(size)):
            while have >= want and self._memory.find(b"\n", 0, have) < 0 and have <= line_bytes:
                want, self._rest = 2 * want, self._memory[:have]
                have = self._fill(want)
            cut = have if have < want else self._memory.rfind(b"\n", 0, have) + 1
            body = memoryview(self._memory)
            if cut == 0:
                yield self._pass_over(body[:have])
                continue
            self._rest = bytes(body[cut:have])
            yield self._chunk(body[:cut])

    def _fitting(self, size: int) -> int:
        """As many bytes as end with a line, where a plain file lets that be seen beforehand; else ``size``.

        What is read then is handed on as it is, and not copied to be cut.
        """
        plain = self._plain
        if self._rest or size <= PEEK_BYTES or plain is None:
            return size
        try:
            here = plain.tell()
            plain.seek(here + size - PEEK_BYTES)
            window = self.read(PEEK_BYTES)
            plain.seek(here)
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error}") from error
        end = window.rfind(b"\n") + 1
        return size - PEEK_BYTES + end if end and len(window) == PEEK_BYTES else size

    def _fill(self, size: int) -> int:
        """Have what was left over and more in memory, ``size`` bytes, fewer only at the end of the file; how many."""
        rest, self._rest = self._rest, b""
        if len(self._memory) < size:
            self._memory = mmap.mmap(-1, size)
        self._memory[: len(rest)] = rest
        have = len(rest)
        room = memoryview(self._memory)
        while have < size and (more := self._read_into(room[have:size])):
            have += more
        return have

    def _read_into(self, room: memoryview) -> int:
        """Up to as many bytes of text as there is room for; 0 at the end. Raises as ``read`` does."""
        try:
            return self._file.readinto(room)
        except READ_ERRORS as error:
            raise SourceError(f"{self.path} cannot be read to its end: {error}") from error

    def _chunk(self, body: memoryview) -> Chunk:
        lines = _line_ends(body) + (0 if body[-1] == _LINE_FEED else 1)
        place = self.place
        end = Place(place.offset + len(body), place.line + lines, crc32(body, place.checksum))
        self.place = end
        return Chunk(body, place.line + 1, end)

    def _pass_over(self, body: memoryview) -> Chunk:
        """A line that fills a whole chunk: drop it up to its end."""
        place = self.place
        offset, checksum = place.offset + len(body), crc32(body, place.checksum)
        while block := self.read(self.block_bytes):
            cut = block.find(b"\n") + 1
            used = block[:cut] if cut else block
            offset, checksum = offset + len(used), crc32(used, checksum)
            if cut:
                self._rest = block[cut:]
                break
        self.place = Place(offset, place.line + 1, checksum)
        return Chunk(b"", place.line + 1, self.place, too_long=(place.line + 1,))

    def close(self) -> None:
        self._file.close()


def _line_ends(body: memoryview) -> int:
    """How many line feeds there are; in pieces that fit into the processor's cache."""
    items = np.frombuffer(body, np.uint8)
    return sum(
        int(np.count_nonzero(items[at : at + _COUNT_BYTES] == _LINE_FEED)) for at in range(0, len(items), _COUNT_BYTES)
    )


def _is_plain(file: object) -> bool:
    return isinstance(file, io.BufferedReader)


def size_of(paths: list[Path]) -> int:
    """The bytes of all files as they lie on disk."""
    return sum(path.stat().st_size for path in paths)
