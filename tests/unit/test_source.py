"""Files as chunks and as lines, with the place behind each, so that an import can go on where it was."""

import gzip
import io
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstory.core.error import LimitError
from backstory.core.limit import UNPACKED_BYTES
from backstory.engine.file.line_source import lines_of, too_long
from backstory.engine.file.source import Chunk, Place, Source
from backstory.engine.file.unpack import COPY_BYTES, SourceError, open_text, unpack_into

BODY = b"one\ntwo\r\n\nfour"
bodies = st.lists(st.sampled_from((b"a", b"bb", b"\n", b"\r\n", b"", b"ccccc")), max_size=12).map(b"".join)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.jsonl"


def chunks(path: Path, size: int, place: Place | None = None) -> list[Chunk]:
    source = Source(path, place or Place())
    # The source reads the next chunk over this one.
    found = [replace(chunk, body=bytes(chunk.body)) for chunk in source.chunks(size)]
    source.close()
    return found


def lines(path: Path, place: Place | None = None) -> list[tuple[bytes, Place]]:
    source = Source(path, place or Place())
    found = list(lines_of(source))
    source.close()
    return found


def place_behind(text: bytes) -> Place:
    return Place(len(text), text.count(b"\n") + (not text.endswith(b"\n") and bool(text)), zlib.crc32(text))


@given(body=bodies, size=st.integers(6, 40))
def test_chunks_are_whole_lines_and_together_the_file(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, size: int
) -> None:
    """Each ends behind a line feed or where the file ends; the place behind it is told; from there it goes on."""
    path = tmp_path_factory.getbasetemp() / "chunks.jsonl"
    path.write_bytes(body)
    found = chunks(path, size)
    taken = [chunk for chunk in found if not chunk.too_long]
    assert all(chunk.body.endswith(b"\n") for chunk in taken[:-1])
    read = b""
    for chunk in found:
        assert chunk.first_line == read.count(b"\n") + 1
        read = body[: chunk.end.offset]
        assert chunk.end == place_behind(read)
        if not chunk.too_long:
            assert read.endswith(chunk.body)
    assert read == body
    for at, chunk in enumerate(found):
        assert chunks(path, size, chunk.end) == found[at + 1 :]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("long", [10, 70_000, 140_000])
def test_large_chunks_are_whole_lines_too(path: Path, packed: bool, long: int) -> None:
    """Where the end of a chunk's last line is looked up before the chunk is read, and where it cannot be."""
    body = b"".join(b"%d %s\n" % (number, b"x" * (long if number % 500 == 0 else 60)) for number in range(6000))
    path.write_bytes(gzip.compress(body) if packed else body)
    found = chunks(path, 100_000)
    assert b"".join(chunk.body for chunk in found) == body
    assert all(chunk.body.endswith(b"\n") for chunk in found)
    assert found[-1].end == place_behind(body)
    assert chunks(path, 100_000, found[1].end) == found[2:]


@given(body=bodies, block=st.integers(1, 9))
def test_lines_come_with_the_place_behind_each(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, block: int
) -> None:
    """However the file is read in blocks."""
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_bytes(body)
    source = Source(path, Place(), block_bytes=block)
    found = list(lines_of(source))
    source.close()
    assert [text for text, _ in found] == body.splitlines(keepends=True) or b"\r" in body
    assert b"".join(text for text, _ in found) == body
    ends = accumulate(text for text, _ in found)
    assert [place for _, place in found] == [place_behind(text) for text in ends]
    for at, (_, place) in enumerate(found):
        assert lines(path, place) == found[at + 1 :]


def test_gz_is_told_by_what_it_is(tmp_path: Path) -> None:
    """Not by its name; offsets count the text inside; several files packed one behind the other are one."""
    path = tmp_path / "no-ending"
    path.write_bytes(gzip.compress(BODY[:5]) + gzip.compress(BODY[5:]))
    (chunk,) = chunks(path, 100)
    assert (chunk.body, chunk.end) == (BODY, place_behind(BODY))
    assert lines(path, place_behind(b"one\ntwo\r\n")) == lines(path)[2:]


def zstd(body: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(body)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_packed_file_cut_short_is_an_error(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """It never passes for a shorter file, wherever it was cut."""
    whole = pack(b"".join(b"%d,%d\n" % (n, n * n) for n in range(50_000)))
    path = tmp_path / "cut.packed"
    for size in (len(whole) // 2, len(whole) - 1, 12):
        path.write_bytes(whole[:size])
        with pytest.raises(SourceError, match=r"cut\.packed cannot be read"):
            chunks(path, 1 << 20)
        with pytest.raises(SourceError, match=r"cut\.packed cannot be read"):
            lines(path)


def test_zst_is_told_by_what_it_is(tmp_path: Path) -> None:
    """Several files packed one behind the other are one; a place in it is gone on from."""
    path = tmp_path / "no-ending"
    path.write_bytes(zstd(BODY[:5]) + zstd(BODY[5:]))
    (chunk,) = chunks(path, 100)
    assert (chunk.body, chunk.end) == (BODY, place_behind(BODY))
    assert lines(path, place_behind(b"one\ntwo\r\n")) == lines(path)[2:]


def test_text_that_is_not_in_its_encoding_is_an_error(path: Path) -> None:
    """It says which encoding, and how to name another."""
    path.write_bytes("a\nä\n".encode("utf-16")[:-1])
    source = Source(path, Place())
    with pytest.raises(SourceError, match="is not utf-16 text"):
        list(source.chunks(100))
    source.close()


def test_a_line_of_any_length_is_passed_over_in_little_memory(path: Path) -> None:
    """One of 200 MB here, between two good ones, in a packed file."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"first\n")
        for _ in range(200):
            file.write(b"x" * (1 << 20))
        file.write(b"\nlast\n")
    tracemalloc.start()
    source = Source(path, Place(), block_bytes=1 << 20)
    found = [replace(chunk, body=bytes(chunk.body)) for chunk in source.chunks(1 << 20, 2 << 20)]
    source.close()
    source = Source(path, Place(), block_bytes=1 << 20)
    read = [(text[:9], too_long(text)) for text, _ in lines_of(source)]
    source.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [chunk.body for chunk in found if chunk.body] == [b"first\n", b"last\n"]
    assert [chunk.too_long for chunk in found if chunk.too_long] == [(2,)]
    assert read == [(b"first\n", False), (b"x" * 9, True), (b"last\n", False)]
    assert peak < 60 << 20


@pytest.mark.parametrize("at", [12, -6])
def test_a_damaged_gz_file_is_an_error(tmp_path: Path, at: int) -> None:
    """In the middle, or by its checksum."""
    body = bytearray(gzip.compress(BODY * 100))
    body[at] ^= 0xFF
    path = tmp_path / "damaged.gz"
    path.write_bytes(body)
    with pytest.raises(SourceError, match="cannot be read"):
        chunks(path, 1 << 20)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """With the name and the reason."""
    with pytest.raises(SourceError, match=r"nowhere\.csv: No such file or directory"):
        open_text(tmp_path / "nowhere.csv")
    with pytest.raises(SourceError, match="Is a directory"):
        open_text(tmp_path)


@pytest.mark.parametrize(
    ("beginning", "problem"),
    [
        (b"PK\x03\x04", "is a zip file"),
        (b"BZh", "is packed with bzip2"),
        (b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_beginning(path: Path, beginning: bytes, problem: str) -> None:
    """Rather than as thousands of wrong rows."""
    path.write_bytes(beginning + b"x" * 100)
    with pytest.raises(SourceError, match=problem):
        open_text(path)


def test_an_import_goes_on_only_in_the_same_file(path: Path) -> None:
    """A file whose beginning has changed, or that is shorter now, is refused; what comes later may differ."""
    path.write_bytes(BODY)
    behind = place_behind(b"one\ntwo\r\n")
    path.write_bytes(b"one\ntwo\r\nmore\nand more")
    assert [text for text, _ in lines(path, behind)] == [b"more\n", b"and more"]
    for other in (b"one\ntwO\r\n\nfour", b"one\n", b""):
        path.write_bytes(other)
        with pytest.raises(SourceError, match="has changed since the import began: cancel it with"):
            Source(path, behind)


@pytest.mark.parametrize("block_bytes", [1, 2, 7, 100])
def test_a_line_past_the_limit_is_passed_over_without_being_held(path: Path, block_bytes: int) -> None:
    """Lines come cut just past the limit, so that it shows; chunks name it."""
    path.write_bytes(b"first\n" + b"x" * 10 + b"\r\n" + b"y" * 55 + b"\nlast\n")
    source = Source(path, Place(), block_bytes=block_bytes)
    found = list(lines_of(source, 10))
    source.close()
    assert [text for text, _ in found] == [b"first\n", b"x" * 10 + b"\r\n", b"y" * 12, b"last\n"]
    assert [too_long(text, 10) for text, _ in found] == [False, False, True, False]
    assert found[-1][1].offset == path.stat().st_size
    source = Source(path, Place(), block_bytes=block_bytes)
    pieces = [replace(chunk, body=bytes(chunk.body)) for chunk in source.chunks(8, 10)]
    source.close()
    assert [chunk.too_long for chunk in pieces] == [(), (), (3,), ()]
    assert pieces[-1].end == found[-1][1]


def test_an_empty_file_has_no_lines(path: Path) -> None:
    """Nor chunks."""
    path.write_bytes(b"")
    assert lines(path) == []
    assert chunks(path, 10) == []


def test_what_is_packed_is_unpacked_to_disk_up_to_a_limit() -> None:
    """UNPACKED_BYTES, tried with one of its kind: at the limit it is there, one byte past it is refused."""
    assert UNPACKED_BYTES.value > 1 << 30
    limit = replace(UNPACKED_BYTES, value=3 * COPY_BYTES)
    whole = io.BytesIO()
    unpack_into(io.BytesIO(b"x" * limit.value), whole, limit)
    assert whole.tell() == limit.value
    with pytest.raises(LimitError, match="more than"):
        unpack_into(io.BytesIO(b"x" * (limit.value + 1)), io.BytesIO(), limit)


some_lines = st.lists(st.sampled_from((b"", b"a", b"\r", b"one more")), min_size=1, max_size=9)


@given(some_lines, st.booleans(), st.integers(1, 7))
def test_a_chunk_tells_what_stands_in_a_line(lines: list[bytes], ended: bool, first: int) -> None:
    """Of every line, the last one with or without its end."""
    body = b"\n".join(lines) + (b"\n" if ended else b"")
    chunk = Chunk(body, first, Place(len(body), first + len(lines) - 1, 0))
    assert [chunk.text(first + at) for at in range(len(lines))] == lines
