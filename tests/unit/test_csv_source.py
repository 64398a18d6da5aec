"""CSV files as rows of cells: what is a row, where it stands, and what its cells are taken for."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstory.engine.file.csv_dialect import Dialect
from backstory.engine.file.csv_source import CsvRow, CsvSource
from backstory.engine.file.csv_type import cell_value, column_types
from backstory.engine.file.source import Place
from backstory.engine.file.unpack import SourceError

HEADER = b"id,name,n\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.csv"


def rows(path: Path, place: Place | None = None, *, line_bytes: int = 1000) -> list[CsvRow]:
    source = CsvSource(path, place, line_bytes=line_bytes)
    found = list(source.rows())
    source.close()
    return found


def header(path: Path, body: bytes) -> list[str]:
    path.write_bytes(body)
    source = CsvSource(path)
    source.close()
    return source.header


def cells(path: Path, body: bytes) -> list[list[str]]:
    path.write_bytes(body)
    found = rows(path)
    assert not any(row.error for row in found), found
    return [row.cells for row in found]


def errors(path: Path, body: bytes) -> list[tuple[int, str]]:
    path.write_bytes(body)
    return [(row.line, row.error) for row in rows(path) if row.error]


# -- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"id,name,n\n", b"\xef\xbb\xbfid,name,n\n", b'\xef\xbb\xbf"id","name","n"\r\n', b"id;name;n", b" id\tname \tn\n"],
)
def test_the_first_line_names_the_columns(path: Path, body: bytes) -> None:
    """With or without a byte order mark and quotes, by commas, semicolons or tabs, without the blanks around."""
    assert header(path, body) == ["id", "name", "n"]


@pytest.mark.parametrize("first", [b"sep=;\r\n", b"SEP=;\n", b'"sep=;"\r\n', b"\xef\xbb\xbfsep=;\r\n"])
def test_a_line_that_names_the_delimiter_may_come_first(path: Path, first: bytes) -> None:
    """As Excel writes and reads it: the header is below, and lines keep their numbers."""
    path.write_bytes(first + b"id;a,b\r\nann;1,5\r\nbob\r\n")
    source = CsvSource(path)
    assert source.header == ["id", "a,b"]
    assert [(row.line, row.cells, bool(row.error)) for row in source.rows()] == [
        (3, ["ann", "1,5"], False), (4, ["bob"], True),
    ]  # fmt: skip
    source.close()
    told = CsvSource(path, dialect=Dialect(delimiter=","))
    told.close()
    assert told.header == ["id;a", "b"]


def test_names_keep_their_case(path: Path) -> None:
    """As everywhere."""
    assert header(path, b"id,Id,ID\n") == ["id", "Id", "ID"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "is empty: the first line must name the columns"),
        (b"\n", "is empty"),
        (b"\nid,name\n1,ann\n", "begins with a blank line: the first line must name the columns"),
        (b"id,name\r1,ann\r", "the header cannot be read: a carriage return stands in it"),
        (b"id,name,id\n", "has two columns named 'id': rename one of them"),
        (b'"id,name\n1,2\n', "the header cannot be read"),
        (b"id,\xffname\n", "the header cannot be read: it is not UTF-8 text"),
        (b",".join(b"c%d" % n for n in range(5001)), "has 5001 columns; at most 5000 are read"),
    ],
)
def test_a_file_without_a_usable_header_is_refused(path: Path, body: bytes, problem: str) -> None:
    """Before anything of it is taken in."""
    path.write_bytes(body)
    with pytest.raises(SourceError, match=problem):
        CsvSource(path)


def test_a_column_without_a_name_may_hold_nothing(path: Path) -> None:
    """Commas at the end of each line are common; a value there has nowhere to go."""
    path.write_bytes(b"id,name,,\nann,Ann,,\nbob,Bob,,lost\n")
    first, second = rows(path)
    assert first.error == ""
    assert second.error == "column 4 has no name, but a value (found 'lost')"


# -- rows -------------------------------------------------------------------------------------------------------------


def test_cells_may_hold_delimiters_quotes_and_line_ends(path: Path) -> None:
    """In quotes; a row's line is the one on which it begins."""
    path.write_bytes(HEADER + b'1,"a,b","say ""x"""\r\n2,"two\nlines\r\n",y\n3,,\n')
    found = rows(path)
    assert [row.cells for row in found] == [["1", "a,b", 'say "x"'], ["2", "two\nlines\r\n", "y"], ["3", "", ""]]
    assert [row.line for row in found] == [2, 3, 6]


def test_line_ends_of_all_kinds(path: Path) -> None:
    """Carriage returns before line feeds are no part of a cell; the last line needs no end."""
    assert cells(path, b"id,n\r\n1,2\r\n3,4") == [["1", "2"], ["3", "4"]]


def test_blank_lines_are_passed_over(path: Path) -> None:
    """Those that hold nothing but blanks as well, where a row has more than one cell."""
    assert cells(path, b"id,n\n\n1,2\n   \n\r\n3,4\n\n") == [["1", "2"], ["3", "4"]]


def test_text_stays_as_it_is(path: Path) -> None:
    """Blanks, letters of any language, leading zeros, a NUL for those who judge it."""
    assert cells(path, 'id,n\n 00001 ,é\u2028\n\0,"日"\n'.encode()) == [[" 00001 ", "é\u2028"], ["\0", "日"]]


def test_rows_with_too_few_or_too_many_cells_are_errors(path: Path) -> None:
    """What is too many is told, for the report has no column for it."""
    assert errors(path, HEADER + b"1,2\n1,2,3\n1,2,3,4,five\n") == [
        (2, "has 2 cells where the header names 3 columns"),
        (4, "has 5 cells where the header names 3 columns (too many: '4', 'five')"),
    ]


def test_a_stray_quote_costs_one_row(path: Path) -> None:
    """Only the line on which the broken row began is given up; the ones it would have swallowed are read."""
    path.write_bytes(HEADER + b'1,"open,x\n2,"b",y\n3,c,z\n4,"d"e,z\n5,f,"never closed\n6,g,z\n')
    found = rows(path)
    assert [(row.line, row.cells) for row in found if not row.error] == [
        (3, ["2", "b", "y"]),
        (4, ["3", "c", "z"]),
        (7, ["6", "g", "z"]),
    ]
    wrong = [row for row in found if row.error]
    assert [(row.line, row.cells) for row in wrong] == [
        (2, ['1,"open,x']),
        (5, ['4,"d"e,z']),
        (6, ['5,f,"never closed']),
    ]
    assert all(row.error.startswith("cannot be read as CSV: ") for row in wrong)


def test_a_line_that_is_no_text_is_an_error(path: Path) -> None:
    """The lines around it are read, also when it stands inside a row."""
    path.write_bytes(HEADER + b'1,a,x\n2,\xff,y\n3,"c\n\xff",z\n4,d,z\n')
    found = rows(path)
    assert [row.cells[0] for row in found if not row.error] == ["1", "4"]
    assert [(row.line, row.cells) for row in found if row.error] == [
        (3, ["2,\ufffd,y"]),
        (4, ['3,"c']),
        (5, ['\ufffd",z']),
    ]


def test_a_line_past_the_limit_is_an_error(path: Path) -> None:
    """And so is a cell that never ends, at once and not only at the end of the file."""
    path.write_bytes(HEADER + b"1,a,x\n2," + b"y" * 100 + b",z\n3,c,z\n")
    assert [(row.line, bool(row.error)) for row in rows(path, line_bytes=100)] == [(2, False), (3, True), (4, False)]
    path.write_bytes(HEADER + b'1,"a,x\n' + b"2,b,y\n" * 20)
    found = rows(path, line_bytes=100)
    assert [row.line for row in found if row.error] == [2]
    assert len(found) == 21
    with pytest.raises(SourceError, match="the header cannot be read: the line is too long"):
        CsvSource(path, line_bytes=5)


def test_another_file_can_be_gone_on_with_behind_any_row(path: Path) -> None:
    """Behind rows of several lines and behind wrong ones too; packed or not."""
    body = b'\xef\xbb\xbfid,"na""me",n\n1,"a\nb",x\n2,"open,y\n3,c,z\n\n4,d\n5,e,z'
    for content in (body, gzip.compress(body)):
        path.write_bytes(content)
        found = rows(path)
        assert len(found) == 5
        for at, row in enumerate(found):
            assert rows(path, row.end) == found[at + 1 :]
    path.write_bytes(body.replace(b"a\nb", b"a\nB"))
    with pytest.raises(SourceError, match="has changed since the import began"):
        CsvSource(path, found[2].end)


@given(
    table=st.lists(
        st.lists(st.text(st.sampled_from('a ",;\n\r\té0'), max_size=6), min_size=3, max_size=3), max_size=8
    ),
    style=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_a_csv_writer_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], style: int
) -> None:
    """Cell by cell."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=style, lineterminator="\r\n")  # type: ignore[arg-type]
    writer.writerows([["id", "b", "c"], *table])
    path = tmp_path_factory.getbasetemp() / "table.csv"
    path.write_bytes(text.getvalue().encode())
    found = rows(path)
    assert [row.cells for row in found] == table
    assert not any(row.error for row in found)


# -- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (("1", "2", "-30", "0"), "number"),
        (("1.5", "2", "0.25", "-0.5"), "number"),
        (("1", "", "2"), "number"),
        (("00001", "2"), "text"),
        (("1", "2", "00001"), "text"),
        (("1.10", "2"), "text"),
        (("1.0",), "text"),
        (("1e5",), "text"),
        (("+1",), "text"),
        (("-0",), "text"),
        ((" 1",), "text"),
        (("1,5",), "text"),
        ((".5",), "text"),
        (("0.00001",), "text"),
        (("NaN",), "text"),
        (("999999999999999",), "number"),
        (("1234567890123456",), "text"),
        (("12345678.12345678",), "text"),
        (("true", "false"), "boolean"),
        (("true", ""), "boolean"),
        (("true", "1"), "text"),
        (("TRUE",), "text"),
        (("", ""), "text"),
        ((), "text"),
    ],
)
def test_a_column_is_numbers_only_where_every_cell_round_trips(
    path: Path, column: tuple[str, ...], kind: str
) -> None:
    """One cell that would not come back as it was makes the whole column text."""
    path.write_text("".join(f'"{cell}",x\n' for cell in ("n", *column)))
    assert column_types(path)[0] == kind
    if kind == "number":
        assert all(str(cell_value(cell, "number")) == cell for cell in column if cell)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (("1,50", "2", "-30,25", "0"), "decimal"),
        (("1", "2"), "decimal"),
        (("0,0000001", ""), "decimal"),
        (("52,520006599",), "decimal"),
        (("1,5", "1.5"), "text"),
        (("1.5",), "text"),
        (("1.234,5",), "text"),
        (("1,234,5",), "text"),
        (("00001,5",), "text"),
        (("-0",), "text"),
        (("1,",), "text"),
        ((",5",), "text"),
        (("1,5 EUR",), "text"),
        (("1234567,1234567",), "text"),
        (("true",), "boolean"),
    ],
)
def test_numbers_have_a_decimal_comma_where_that_was_told(path: Path, column: tuple[str, ...], kind: str) -> None:
    """A point makes text of the whole column: it may stand between thousands."""
    path.write_text("".join(f'"{cell}",x\n' for cell in ("n", *column)))
    assert column_types(path, comma=True)[0] == kind
    assert column_types(path)[0] != "decimal"


def test_unusable_rows_have_no_say_about_types(path: Path) -> None:
    """A row with too many cells may have them in the wrong places."""
    path.write_bytes(b"id,n\n1,2\nx,y,z\n3,4\n")
    assert column_types(path) == ["number", "number"]


def test_cells_become_what_their_column_is() -> None:
    """A cell that does not fit stays text."""
    assert [cell_value(cell, "number") for cell in ("7", "1.5", "007", "")] == [7, 1.5, "007", ""]
    assert [cell_value(cell, "boolean") for cell in ("true", "false", "no")] == [True, False, "no"]
    assert cell_value("7", "text") == "7"
    assert [cell_value(cell, "decimal") for cell in ("7", "1,50", "2,00", "1.5")] == [7, 1.5, 2, "1.5"]
