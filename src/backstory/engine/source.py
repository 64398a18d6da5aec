"""Files as chunks of whole lines, plain or gz, that can be gone on with where an import stopped.

An offset counts bytes of the uncompressed text. The running checksum over what was read lets a resumed import refuse
a file that has changed. A line longer than the limit is an error of its own, and is passed over without being held.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from backstory.core.error import BackstoryError

CHUNK_BYTES = 160 << 20
LINE_BYTES = 8 << 20
READ_BYTES = 8 << 20


class SourceError(BackstoryError):
    """The source cannot be read: missing, cut short, changed since."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file was read: bytes, lines, and the checksum of those bytes."""

    offset: int = 0
    line: int = 0
    checksum: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines. ``first_line`` counts from 1; ``end`` is the place behind them; ``too_long`` are line numbers."""

    body: bytes
    first_line: int
    end: Place
    too_long: tuple[int, ...] = ()


def open_source(path: Path) -> BinaryIO:
    """Open a file, unpacking gz by what it is, not by its name."""
    try:
        file = open(path, "rb")  # noqa: SIM115
        magic = file.read(2)
        file.seek(0)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    return cast("BinaryIO", gzip.GzipFile(fileobj=file)) if magic == b"\x1f\x8b" else file


class Source:
    """One file, read chunk by chunk from a place on."""

    def __init__(self, path: Path, place: Place) -> None:
        self.path = path
        self.place = place
        self._file = open_source(path)
        self._rest = b""
        self._skip_to(place)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes of text; b"" at the end. Raises ``SourceError`` for a damaged or vanished file."""
        try:
            return self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{self.path} cannot be read to its end: {error}") from error

    def _skip_to(self, place: Place) -> None:
        left, checksum = place.offset, 0
        while left:
            block = self.read(min(left, READ_BYTES))
            if not block:
                break
            checksum = zlib.crc32(block, checksum)
            left -= len(block)
        if left or checksum != place.checksum:
            raise SourceError(
                f"{self.path} has changed since the import began: cancel it with `backstory imports cancel`, "
                "or put the file back as it was"
            )

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[Chunk]:
        """The rest of the file; each chunk ends at the end of a line, the last one where the file ends."""
        while True:
            body = self._rest + b"".join(self._blocks(size - len(self._rest)))
            self._rest = b""
            if not body:
                return
            cut = body.rfind(b"\n") + 1
            if cut == 0 and len(body) < size:
                cut = len(body)
            elif cut == 0:
                yield self._pass_over(body)
                continue
            elif len(body) >= size:
                self._rest, body = body[cut:], body[:cut]
            yield self._chunk(body)

    def _blocks(self, size: int) -> Iterator[bytes]:
        while size > 0:
            block = self.read(min(size, READ_BYTES))
            if not block:
                return
            size -= len(block)
            yield block

    def _chunk(self, body: bytes) -> Chunk:
        lines = body.count(b"\n") + (0 if body.endswith(b"\n") else 1)
        place = self.place
        end = Place(place.offset + len(body), place.line + lines, zlib.crc32(body, place.checksum))
        self.place = end
        return Chunk(body, place.line + 1, end)

    def _pass_over(self, body: bytes) -> Chunk:
        """A line that fills a whole chunk: drop it up to its end."""
        place = self.place
        offset, checksum = place.offset + len(body), zlib.crc32(body, place.checksum)
        while block := self.read(READ_BYTES):
            cut = block.find(b"\n") + 1
            used = block[:cut] if cut else block
            offset, checksum = offset + len(used), zlib.crc32(used, checksum)
            if cut:
                self._rest = block[cut:]
                break
        self.place = Place(offset, place.line + 1, checksum)
        return Chunk(b"", place.line + 1, self.place, too_long=(place.line + 1,))

    def close(self) -> None:
        self._file.close()


def size_of(paths: list[Path]) -> int:
    """The bytes of all files as they lie on disk."""
    return sum(path.stat().st_size for path in paths)
