"""Blocks of a CSV file: whatever is in it, they hold the rows that reading it row by row finds."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backstory.engine.file.csv_block import CsvBlocks
from backstory.engine.file.csv_source import CsvRow, CsvSource
from backstory.engine.file.source import Place

Found = list[tuple[int, list[str], str]]
pieces = st.sampled_from(
    [b"a", b"1", b",", b",", b"\n", b"\n", b'"', b'""', b"\r\n", b"\r", b" ", b"\0", b"\xc3\xa9", b"\xff", b"x" * 50]
)
whole = st.sampled_from([b"1,a,x\n", b'2,"b,b",y\n', b'3,"c\nc",z\n', b"4,d\n", b"\n", b"5,,\r\n"])
lines = st.lists(whole, max_size=12)
bodies = st.one_of(
    lines.map(b"".join),
    st.lists(pieces, max_size=30).map(b"".join),
    st.tuples(lines, st.lists(pieces, max_size=6), lines).map(lambda parts: b"".join(b"".join(part) for part in parts)),
)
headers = st.sampled_from([b"id,name,n\n", b"id,name,\n", b"\xef\xbb\xbfid;name;n\r\n", b"id\n"])


def row_by_row(path: Path, place: Place, line_bytes: int) -> tuple[Found, Place]:
    source = CsvSource(path, place, line_bytes=line_bytes)
    rows: list[CsvRow] = list(source.rows())
    source.close()
    return [(row.line, row.cells, row.error) for row in rows], rows[-1].end if rows else place


def in_blocks(
    path: Path, place: Place, line_bytes: int, rows_max: int, blocks_max: int = 1 << 30
) -> tuple[Found, Place]:
    blocks = CsvBlocks(path, place, rows_max=rows_max, line_bytes=line_bytes)
    found: Found = []
    for number, block in enumerate(blocks, start=1):
        assert len({len(column) for column in block.columns}) == 1
        found += [(int(line), block.cells(at), "") for at, line in enumerate(block.lines)]
        found += [(row.line, row.cells, row.error) for row in block.bad]
        if number == blocks_max:
            break
    blocks.close()
    return sorted(found, key=lambda row: row[0]), blocks.place


@given(header=headers, body=bodies, rows_max=st.integers(1, 5), line_bytes=st.sampled_from((40, 1000)))
@example(b"id\n", b"\xef\xbb\xbfann\n", 1, 1000)
@example(b"id,name,n\n", b'1,"open\n2,b,c\n3,d,e\n', 1, 1000)
@example(b"id,name,n\n", b'1,"o' + b"x" * 50 + b'\n2,b,c\n3,"d\n",e\n', 1, 40)
def test_blocks_hold_the_rows_that_are_read_one_by_one(
    header: bytes, body: bytes, rows_max: int, line_bytes: int
) -> None:
    """The same cells from the same lines, the same said of bad ones; gone on with at any block, too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_bytes(header + body)
        expected, _ = row_by_row(path, Place(), line_bytes)
        found, _ = in_blocks(path, Place(), line_bytes, rows_max)
        assert found == expected
        first, place = in_blocks(path, Place(), line_bytes, rows_max, blocks_max=1)
        rest, end = in_blocks(path, place, line_bytes, 3)
        assert first + rest == expected
        assert row_by_row(path, end, line_bytes)[0] == []


@pytest.mark.parametrize("rows_max", [1, 2, 5])
def test_a_block_has_no_more_lines_than_asked_for(tmp_path: Path, rows_max: int) -> None:
    """So that one commit stays short."""
    path = tmp_path / "file.csv"
    path.write_bytes(b"id,n\n" + b"1,2\n" * 9)
    blocks = CsvBlocks(path, rows_max=rows_max)
    sizes = [len(block.lines) for block in blocks]
    blocks.close()
    assert max(sizes) <= rows_max
    assert sum(sizes) == 9


def test_a_block_of_wide_rows_is_no_longer_than_a_line_may_be(tmp_path: Path) -> None:
    """However many lines are asked for, so that rows of any width take no more memory, and are read as columns."""
    path = tmp_path / "file.csv"
    path.write_bytes(b"id,n\n" + b"1," + b"2" * 97 + b"\n" + (b"1," + b"2" * 37 + b"\n") * 30)
    blocks = CsvBlocks(path, rows_max=1000, line_bytes=100)
    sizes = [sum(len(cell) for row in range(len(block.lines)) for cell in block.cells(row)) for block in blocks]
    blocks.close()
    assert sizes == [98, *[76] * 15]
