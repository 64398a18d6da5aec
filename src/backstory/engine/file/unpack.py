"""What a file is, found by what it begins with, and undone: packing, encoding, Parquet. What comes out is UTF-8 text.

A Parquet file becomes JSON lines, a row each. All of it is done while reading; nothing is held but a block.
"""

import codecs
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

from zlib_ng import gzip_ng, zlib_ng

from backstory.core.error import BackstoryError, LimitError
from backstory.core.limit import UNPACKED_BYTES, Limit

COPY_BYTES = 1 << 20
ENCODINGS = ("utf-8", "utf-16", "latin-1", "cp1252")
Packing = Literal["", "gz", "zst"]
# What reading a damaged, cut or vanished file raises; Arrow's errors are among them.
READ_ERRORS = (OSError, EOFError, cast("type[Exception]", zlib_ng.error), ValueError)
_GZ, _ZST, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# What other files begin with, by what can be done about them.
_FOREIGN = {
    b"PK\x03\x04": "is a zip file (or a spreadsheet): unpack it, or save it as CSV",
    b"BZh": "is packed with bzip2: unpack it, or pack it with gzip or zstd",
    b"\xfd7zXZ": "is packed with xz: unpack it, or pack it with gzip or zstd",
}


class SourceError(BackstoryError):
    """The source cannot be read: missing, cut short, changed since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a file is to be read. ``encoding`` None: UTF-8, or what its first bytes say.

    ``keep_nulls``: cells of Parquet files that are null are told as such; else they are left out, as empty cells are.
    """

    encoding: str | None = None
    keep_nulls: bool = False


class Text(Protocol):
    """UTF-8 text as bytes; ``read`` answers b"" at the end."""

    def read(self, size: int, /) -> bytes: ...

    def readinto(self, room: memoryview, /) -> int: ...

    def close(self) -> None: ...


def packing_of(path: Path) -> Packing:
    """How a file is packed. Raises ``SourceError`` when it cannot be opened."""
    magic = _beginning(path)
    return "gz" if magic.startswith(_GZ) else "zst" if magic.startswith(_ZST) else ""


def is_parquet(path: Path) -> bool:
    """Is this, unpacked, a Parquet file?"""
    return beginning(path, len(_PARQUET)) == _PARQUET


def marked_encoding(magic: bytes) -> str | None:
    """The encoding that a byte order mark tells."""
    return next((name for mark, name in _BOMS.items() if magic.startswith(mark)), None)


def beginning(path: Path, size: int) -> bytes:
    """The first bytes of what was packed, as they are. Raises ``SourceError``."""
    file = _unpacked(path)
    try:
        found = file.read(size)
        while len(found) < size and (more := file.read(size - len(found))):
            found += more
        return found
    except READ_ERRORS as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    finally:
        file.close()


def open_text(path: Path, reading: Reading | None = None) -> Text:
    """Open a file by what it is, not by its name.

    Raises ``SourceError``; reading raises one of ``READ_ERRORS``.
    """
    reading = reading or Reading()
    magic = beginning(path, 8)
    for start, problem in _FOREIGN.items():
        if magic.startswith(start):
            raise SourceError(f"{path} {problem}")
    if magic.startswith(_PARQUET):
        return _parquet(path, keep_nulls=reading.keep_nulls)
    encoding = reading.encoding or marked_encoding(magic) or "utf-8"
    file = _unpacked(path)
    return file if encoding == "utf-8" else Decoded(file, encoding)


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(8)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _unpacked(path: Path) -> Text:
    match packing_of(path):
        case "gz":
            return cast("Text", gzip_ng.GzipNGFile(path, "rb"))
        case "zst":
            import pyarrow as pa

            return pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")
        case "":
            return cast("Text", open(path, "rb"))


def _parquet(path: Path, *, keep_nulls: bool) -> Text:
    from backstory.engine.file.parquet_source import ParquetText

    if not packing_of(path):
        return ParquetText(open(path, "rb"), path, keep_nulls=keep_nulls)
    # Parquet is read from its end: what is packed has to be unpacked first, to a file without a name.
    whole = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115
    packed = _unpacked(path)
    try:
        unpack_into(packed, whole, UNPACKED_BYTES)
        whole.seek(0)
    except LimitError as error:
        whole.close()
        raise SourceError(f"{path} is not unpacked: {error}; unpack it yourself and name what comes out") from None
    except READ_ERRORS as error:
        whole.close()
        raise SourceError(f"{path} cannot be unpacked: {error}") from error
    finally:
        packed.close()
    return ParquetText(whole, path, keep_nulls=keep_nulls)


def unpack_into(packed: Text, whole: BinaryIO, limit: Limit) -> None:
    """Copy what a packed file holds. Raises ``LimitError`` past the limit, and one of ``READ_ERRORS``."""
    size = 0
    while block := packed.read(COPY_BYTES):
        size += len(block)
        limit.check(size)
        whole.write(block)


class Made:
    """Text that is made while it is read."""

    def read(self, size: int, /) -> bytes:
        raise NotImplementedError

    def readinto(self, room: memoryview, /) -> int:
        text = self.read(len(room))
        room[: len(text)] = text
        return len(text)


class Decoded(Made):
    """Text of another encoding as UTF-8."""

    def __init__(self, file: Text, encoding: str) -> None:
        self._file = file
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while len(self._rest) < size:
            block = self._file.read(max(size, 1))
            try:
                self._rest += self._decoder.decode(block, final=not block).encode()
            except UnicodeError as error:
                raise ValueError(f"it is not {self._encoding} text ({error}); name its --encoding") from None
            if not block:
                break
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def close(self) -> None:
        self._file.close()
