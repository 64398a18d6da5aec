"""Reports of an import: the rows it could not use, in the input's own form, with line and error."""

import csv
from pathlib import Path

import msgspec
import pytest

from backstory.engine.file.report import Report, is_report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "import-1-errors.csv"


def told(report: Report) -> bytes:
    """Everything added so far, written."""
    report.tell(report.take())
    report.flush()
    return report.path.read_bytes()


def json_lines(report: Report) -> list[object]:
    return [msgspec.json.decode(line) for line in told(report).splitlines()]


def test_a_csv_report_has_the_columns_of_the_file_and_two_more(path: Path) -> None:
    """Cells come back as they were, whatever they hold."""
    report = Report(path, header=["id", "na,me"], length=0)
    report.add_csv(3, ["1", 'a "b",\nc'], "name: is blank")
    report.add_csv(5, ["2"], "has 1 cells")
    report.add_csv(6, [], "cannot be read")
    told(report)
    with open(path, newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "na,me", "line", "error"],
            ["1", 'a "b",\nc', "3", "name: is blank"],
            ["2", "", "5", "has 1 cells"],
            ["", "", "6", "cannot be read"],
        ]


def test_a_csv_report_is_written_with_the_delimiter_of_the_file(path: Path) -> None:
    """The input's own form."""
    report = Report(path, header=["id", "n"], length=0, delimiter=";")
    report.add_csv(3, ["a;b", "1,5"], "wrong")
    assert told(report) == b'id;n;line;error\n"a;b";1,5;3;wrong\n'


def test_a_json_report_has_the_objects_of_the_file_and_two_keys_more(path: Path) -> None:
    """What is no object is told as text."""
    report = Report(path, header=None, length=0)
    report.add_json(2, b'{"name": "x", "data": {"n": 1.50}, "big": 12345678901234567890123}\r\n', "wrong")
    report.add_json(3, b'{"name": "x"\xff,\n', "is not valid JSON")
    report.add_json(4, b"[1]", "is not a JSON object")
    report.add_json(5, b"", "the line is too long to be read")
    assert json_lines(report) == [
        {"name": "x", "data": {"n": 1.5}, "big": 12345678901234567890123, "line": 2, "error": "wrong"},
        {"text": '{"name": "x"�,', "line": 3, "error": "is not valid JSON"},
        {"text": "[1]", "line": 4, "error": "is not a JSON object"},
        {"text": "", "line": 5, "error": "the line is too long to be read"},
    ]


def test_columns_of_the_same_names_are_not_overwritten(path: Path) -> None:
    """Ours get a stroke."""
    report = Report(path, header=["id", "line"], length=0)
    report.add_csv(3, ["1", "5"], "wrong")
    assert told(report) == b"id,line,line_,error\n1,5,3,wrong\n"
    report = Report(path.with_suffix(".jsonl"), header=None, length=0)
    report.add_json(3, b'{"error":"none","line":5}', "wrong")
    assert json_lines(report) == [{"error": "none", "line": 5, "line_": 3, "error_": "wrong"}]


def test_an_import_that_goes_on_tells_no_row_twice(path: Path) -> None:
    """The report is cut back to what the last commit knew, and goes on from there, without a second header."""
    report = Report(path, header=["id"], length=0)
    report.add_csv(2, ["1"], "wrong")
    told(report)
    length = path.stat().st_size
    report.add_csv(3, ["2"], "wrong")
    told(report)
    report = Report(path, header=["id"], length=length)
    report.add_csv(3, ["2"], "wrong")
    report.add_csv(4, ["3"], "wrong")
    assert told(report) == b"id,line,error\n1,2,wrong\n2,3,wrong\n3,4,wrong\n"
    report = Report(path, header=["id"], length=0)
    report.add_csv(2, ["1"], "wrong")
    assert told(report) == b"id,line,error\n1,2,wrong\n"


def test_rows_are_told_only_with_their_chunk(path: Path) -> None:
    """A row of a chunk that is read while another is committed waits for its own commit."""
    report = Report(path, header=["id"], length=0)
    report.add_csv(2, ["1"], "wrong")
    first = report.take()
    report.add_csv(3, ["2"], "wrong")
    report.tell(first)
    assert report.flush() == len(path.read_bytes())
    assert path.read_bytes() == b"id,line,error\n1,2,wrong\n"


def test_no_report_no_file(path: Path) -> None:
    """An import without wrong rows leaves none behind."""
    report = Report(path, header=["id"], length=0)
    assert report.flush() == 0
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("import-3-errors.csv", True),
        ("import-3-warnings.jsonl", True),
        ("import-3-errors/2-purchases.csv", True),
        ("errors.csv", False),
        ("my-import-3-errors.csv", False),
    ],
)
def test_a_report_is_known_by_its_name(name: str, found: bool) -> None:
    """Corrected and read in again, its two columns are ours and no data."""
    assert is_report(Path("/somewhere") / name) is found
