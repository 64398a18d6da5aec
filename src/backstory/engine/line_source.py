"""A text file line by line, with the place behind each line: for readers that commit every few rows."""

import zlib
from collections.abc import Iterator
from pathlib import Path

from backstory.engine.source import LINE_BYTES, READ_BYTES, Place, Source


def lines_of(path: Path, place: Place) -> Iterator[tuple[bytes, Place]]:
    """Each line without its end, and the place behind it. A line longer than the limit comes cut to the limit."""
    source = Source(path, place)
    try:
        rest = b""
        while block := source.read(READ_BYTES):
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            for line in lines:
                place = _after(place, line, b"\n")
                yield line[: LINE_BYTES + 1], place
        if rest:
            yield rest[: LINE_BYTES + 1], _after(place, rest, b"")
    finally:
        source.close()


def _after(place: Place, line: bytes, end: bytes) -> Place:
    checksum = zlib.crc32(end, zlib.crc32(line, place.checksum))
    return Place(place.offset + len(line) + len(end), place.line + 1, checksum)
