"""A text file line by line, with the place behind each line: for readers that commit every few rows."""

from collections.abc import Iterator
from typing import Protocol

from backstory.core.checksum import crc32
from backstory.engine.file.source import LINE_BYTES, Place

# A line feed and what may stand before it.
_END_BYTES = 2


class Readable(Protocol):
    """What lines come out of: a ``Source``, or a part of one."""

    block_bytes: int

    @property
    def place(self) -> Place: ...

    def read(self, size: int) -> bytes: ...


def lines_of(source: Readable, line_bytes: int = LINE_BYTES) -> Iterator[tuple[bytes, Place]]:
    """Each line with its end, and the place behind it.

    A line longer than ``line_bytes`` (see ``too_long``) comes cut: no more of it than that is held.
    """
    most = line_bytes + _END_BYTES
    offset, number, checksum = source.place.offset, source.place.line, source.place.checksum
    line = b""
    for piece in _pieces(source):
        offset += len(piece)
        checksum = crc32(piece, checksum)
        line = line + piece[: most - len(line)] if line else piece[:most]
        if piece.endswith(b"\n"):
            number += 1
            yield line, Place(offset, number, checksum)
            line = b""
    if line:
        yield line, Place(offset, number + 1, checksum)


def _pieces(source: Readable) -> Iterator[bytes]:
    """The file cut behind every line feed, and anywhere else."""
    while block := source.read(source.block_bytes):
        *lines, rest = block.split(b"\n")
        for line in lines:
            yield line + b"\n"
        if rest:
            yield rest


def too_long(line: bytes, line_bytes: int = LINE_BYTES) -> bool:
    """Is a line, as ``lines_of`` gives it, longer than the limit?"""
    return len(line) > line_bytes and len(line.rstrip(b"\r\n")) > line_bytes
